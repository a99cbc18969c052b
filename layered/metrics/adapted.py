"""Metric objects that are not ours: torchmetrics', a user's own, and scikit-learn's scorers."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Hashable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from layered.foundation import BadArgument, lazy, snake_case
from layered.metrics.accumulated import Kept
from layered.metrics.inputs import floats, mismatch
from layered.metrics.metric import Metric, function_name

sk_base = lazy("sklearn.base")


class Adapted(Metric):
    """An object with `reset()`, `update(pred, targ)` or `accumulate(learn)`, and `compute()` or `value`.

    That of a learner is a copy. torchmetrics' merge what several processes have seen by themselves.
    """

    def __init__(self, metric: Any) -> None:
        self.metric, self._seen = metric, False
        self._name = getattr(metric, "name", None) or snake_case(
            type(metric).__name__.removesuffix("Metric") or "metric"
        )

    @staticmethod
    def fits(metric: Any) -> bool:
        """Whether `metric` has the methods of one."""
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
            raise BadArgument(f"{self.name} takes in batches with accumulate(learn) alone", fix="give it to a learner")
        self.metric.update(pred, *targ)

    def accumulate(self, learn: Any) -> None:
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
    """A scorer of scikit-learn's form: `scorer(estimator, X, targets)`, as `make_scorer` and `get_scorer` give.

    Logits of several classes become classes and probabilities (softmax), those of several labels yes or no (sigmoid, 0.5)
    and probabilities; anything else is a regression. Loss-like scorers are negative, as scikit-learn has it.

    Args:
        name: Its name in tables; by default that of the function behind it.

    Examples:
        >>> from sklearn.metrics import get_scorer
        >>> ScorerMetric(get_scorer("neg_mean_absolute_error"), "nmae")(torch.zeros(2), torch.tensor([1.0, 3.0]))
        -2.0
    """

    def __init__(self, scorer: Callable[..., Any], name: str | None = None) -> None:
        self.scorer, self._name = scorer, name or function_name(getattr(scorer, "_score_func", scorer))

    @staticmethod
    def fits(scorer: Any) -> bool:
        """Whether the first arguments of `scorer` are an estimator and X."""
        try:
            return list(inspect.signature(scorer).parameters)[:2] == ["estimator", "X"]
        except (TypeError, ValueError):  # no callable, or one that does not tell
            return False

    def prepare(self, pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
        if len(pred) != len(targ):
            raise mismatch(pred, targ)
        pred = floats(pred)
        if targ.numel() == len(targ):
            targ = targ.flatten()
        return (pred.flatten() if pred.numel() == targ.numel() == len(targ) else pred), targ

    def whole(self, pred: Tensor, targ: Tensor) -> Any:
        pred = pred.double()  # probabilities that sum to 1 as closely as scikit-learn checks
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


def _estimator(mixin: Any, decided: Tensor, probs: Tensor | None = None, classes: Any = None) -> Any:
    """An estimator of scikit-learn's form that has predicted already."""

    class Predicted(mixin, sk_base.BaseEstimator):  # type: ignore[misc, name-defined]  # loaded on first use
        classes_ = classes

        def predict(self, X: Any) -> Any:
            return decided.numpy()

        def predict_proba(self, X: Any) -> Any:
            return None if probs is None else probs.numpy()

    return Predicted()
