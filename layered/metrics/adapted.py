"""Foreign metric objects: torchmetrics', a user's, and scikit-learn's scorers."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Hashable
from typing import Any, Self, TypeGuard

import numpy as np
import torch
from torch import Tensor

from layered.foundation import BadArgument, in_two_columns, is_single, lazy, snake_case, takes_probabilities
from layered.metrics.accumulated import Kept
from layered.metrics.functions import default_name
from layered.metrics.inputs import floats, mismatch
from layered.metrics.metric import Metric, Predicted, label_logits

sk_base = lazy("sklearn.base")


class Adapted(Metric):
    """A metric object with `reset()`, `update(pred, targ)` or `accumulate(learn)`, and `compute()` or `value`.

    A learner gets a copy of the object. Those of torchmetrics merge what several processes have seen by themselves.

    Args:
        metric: The object.
    """

    def __init__(self, metric: Any) -> None:
        self.metric, self._seen = metric, False
        self.higher_is_better = getattr(metric, "higher_is_better", None)  # torchmetrics declare it
        self._name = getattr(metric, "name", None) or snake_case(
            type(metric).__name__.removesuffix("Metric") or "metric"
        )

    @staticmethod
    def fits(metric: object) -> bool:
        """Whether an object has these methods.

        Args:
            metric: Any object.
        """
        names = set(dir(metric))
        return "reset" in names and bool(names & {"update", "accumulate"}) and bool(names & {"compute", "value"})

    def reset(self) -> None:
        self._seen = False
        self.metric.reset()

    def update(self, pred: Any, *targ: Any) -> None:
        if not self._seen and isinstance(pred, Tensor) and hasattr(self.metric, "to"):
            self.metric.to(pred.device)
        self._seen = True
        if not hasattr(self.metric, "update"):
            raise BadArgument(f"{self.name} only takes batches by accumulate(learn)", fix="pass it to a learner")
        self.metric.update(pred, *targ)

    def accumulate(self, learn: Predicted) -> None:
        if hasattr(self.metric, "accumulate"):
            self._seen = True
            self.metric.accumulate(learn)
        else:
            super().accumulate(learn)

    @property
    def has_data(self) -> bool:
        return self._seen

    def compute(self) -> Any:
        if hasattr(self.metric, "compute"):
            return self.metric.compute()
        value = self.metric.value
        return value() if callable(value) else value

    def _fresh(self, memo: dict[Hashable, Metric]) -> Self:
        new = copy.copy(self)
        new.metric = copy.deepcopy(self.metric)
        new.reset()
        return new


class ScorerMetric(Kept):
    """A scorer in scikit-learn's form: `scorer(estimator, X, targets)`, as returned by `make_scorer` and `get_scorer`.

    Logits of several classes become classes and probabilities (softmax), those of several labels become decisions (at 0.5) and
    probabilities (sigmoid); anything else is a regression. Scorers of losses are negative, as in scikit-learn, so
    that larger is always better.

    Args:
        scorer: The scorer.
        name: The name in tables; by default that of the function behind it.

    Examples:
        >>> from sklearn.metrics import get_scorer
        >>> ScorerMetric(get_scorer("neg_mean_absolute_error"), "nmae")(torch.zeros(2), torch.tensor([1.0, 3.0]))
        -2.0
    """

    higher_is_better = True

    def __init__(self, scorer: Callable[..., Any], name: str | None = None) -> None:
        self.scorer, self._name = scorer, name or default_name(getattr(scorer, "_score_func", scorer))

    @staticmethod
    def fits(scorer: object) -> TypeGuard[Callable[..., Any]]:
        """Whether the first arguments of an object are named `estimator` and `X`.

        Args:
            scorer: Any object.
        """
        try:
            return callable(scorer) and list(inspect.signature(scorer).parameters)[:2] == ["estimator", "X"]
        except (TypeError, ValueError):  # its signature cannot be inspected
            return False

    def accumulate(self, learn: Predicted) -> None:
        pred = self.prediction(learn)
        if isinstance(pred, Tensor) and takes_probabilities(learn.loss_func):
            pred = in_two_columns(pred, learn.loss_func) if is_single(pred) else label_logits(learn)
        self.update(pred, *learn.yb)

    def prepare(self, pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
        if len(pred) != len(targ):
            raise mismatch(pred, targ)
        pred = floats(pred)
        if targ.numel() == len(targ):
            targ = targ.flatten()
        return (pred.flatten() if pred.numel() == targ.numel() == len(targ) else pred), targ

    def whole(self, pred: Tensor, targ: Tensor) -> Any:
        pred = pred.double()  # scikit-learn checks that probabilities sum to 1 more closely than float32 allows
        yes_or_no, is_class = bool(((targ == 0) | (targ == 1)).all()), True
        if pred.ndim == 2 and targ.ndim == 1:
            probs, classes = pred.softmax(1), np.arange(pred.shape[1])
            estimator = _estimator(sk_base.ClassifierMixin, probs.argmax(1), probs, classes)
        elif yes_or_no and pred.ndim == 1:
            probs = torch.stack([-pred, pred], dim=1).sigmoid()
            estimator = _estimator(sk_base.ClassifierMixin, (pred >= 0).int(), probs, np.arange(2))
        elif yes_or_no:
            classes_of_labels = [np.arange(2)] * pred.shape[1]
            estimator = _estimator(sk_base.ClassifierMixin, (pred >= 0).int(), pred.sigmoid(), classes_of_labels)
        else:
            estimator, is_class = _estimator(sk_base.RegressorMixin, pred), False
        return float(self.scorer(estimator, pred.numpy(), (targ.int() if is_class else targ).numpy()))


def _estimator(mixin: Any, decided: Tensor, probs: Tensor | None = None, classes: object = None) -> Any:
    """A fitted estimator in scikit-learn's form that returns predictions made already."""

    class Predicted(mixin, sk_base.BaseEstimator):  # type: ignore[misc, name-defined]  # loaded on first use
        classes_ = classes

        def predict(self, X: object) -> Any:
            return decided.numpy()

        def predict_proba(self, X: object) -> Any:
            return None if probs is None else probs.numpy()

    return Predicted()
