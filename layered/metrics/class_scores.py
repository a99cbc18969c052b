"""Scores of one class out of several, from counts: precision, recall and their kin.

Names, values and arguments are scikit-learn's; what is undefined (nothing predicted, nothing there) counts as 0.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from layered.foundation import BadValue, checked, lazy
from layered.metrics.counts import ClassCounts, ConfusionCounts
from layered.metrics.inputs import wide
from layered.metrics.metric import Expression, Metric

sk_metrics = lazy("sklearn.metrics")
AVERAGES = ("binary", "macro", "micro", "weighted", "auto", None)


class CountScore(Expression):
    """Base of scores that follow from a table of counts; a derived class gives `of_counts`."""

    def __init__(self, counts: Metric, name: str | None = None) -> None:
        super().__init__(operator.pos, (counts,), name or self._name)

    def compute(self) -> Any:
        return self.of_counts(*wide(self.operands[0].compute()))

    def of_counts(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Any:
        """The value, from how often each class was hit, predicted and there: float64 [class]."""
        raise NotImplementedError(f"{type(self).__name__} needs of_counts(self, hits, predicted, actual)")


class AveragedScore(CountScore):
    """Base of scores that each class has for itself; a derived class gives `score`.

    `metric[1]` is the value of class 1, whatever the average.

    Args:
        labels: The classes to average over; by default those that occur in targets or predictions.
        pos_label: The class that counts as positive, where `average="binary"`.
        average: "binary"; "macro", the mean over classes; "weighted", the mean weighted by how often each class is
            the target; "micro", over all decisions; "auto", binary for two classes and macro for more; None, a value
            for each of `labels` (by default for every class of the predictions).

    Examples:
        >>> class Bias(AveragedScore):
        ...     "How much more often a class is predicted than there."
        ...     def score(self, hits, predicted, actual):
        ...         return predicted / actual
        >>> Bias(ClassCounts(), average=None)(torch.eye(2)[[0, 0, 1]], torch.tensor([0, 1, 1]))
        tensor([2.0000, 0.5000], dtype=torch.float64)
    """

    over_all: ClassVar[bool] = False  # average over classes that occur nowhere, too

    def __init__(
        self,
        counts: Metric,
        labels: Sequence[int] | None = None,
        pos_label: int = 1,
        average: str | None = "macro",
    ) -> None:
        if average not in AVERAGES:
            expected = "binary, macro, micro, weighted, auto or None"
            fix = "skm_to_fastai, with flatten=False and the average" if average == "samples" else None
            raise BadValue(f"there is no average {average!r}", expected=expected, fix=fix)
        super().__init__(counts)
        self.labels, self.pos_label, self.average = labels, pos_label, average

    def of_counts(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Any:
        classes = len(hits)
        average = self.average if self.average != "auto" else "binary" if classes == 2 else "macro"
        if average == "binary":
            self._check_labels([self.pos_label], classes)
            return self.score(hits, predicted, actual)[self.pos_label]
        if self.labels is not None:
            self._check_labels(self.labels, classes)
            chosen: Any = list(self.labels)
        else:
            chosen = slice(None) if average is None or self.over_all else predicted + actual > 0
        hits, predicted, actual = hits[chosen], predicted[chosen], actual[chosen]
        if average == "micro":
            return self.score(hits.sum(), predicted.sum(), actual.sum())
        each = self.score(hits, predicted, actual)
        if average == "weighted":
            return ratio((each * actual).sum(), actual.sum())
        return each if average is None else each.mean()

    def _check_labels(self, labels: Sequence[int], classes: int) -> None:
        if missing := [label for label in labels if not 0 <= label < classes]:
            raise BadValue(f"there is no class {missing[0]}", expected=f"0 … {classes - 1}")

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        """The value of each class, from how often it was hit, predicted and there."""
        raise NotImplementedError(f"{type(self).__name__} needs score(self, hits, predicted, actual)")

    def __getitem__(self, index: Any) -> Expression:
        each = copy.copy(self)
        each.average = None
        return Expression(operator.getitem, (each, index), f"{self.name}[{index}]")


def ratio(top: Tensor, bottom: Tensor, otherwise: float = 0.0) -> Tensor:
    """`top / bottom`, and `otherwise` where that is 0 / 0.

    Examples:
        >>> ratio(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.0]))
        tensor([0.5000, 0.0000])
    """
    return torch.where(bottom > 0, top / bottom, otherwise)


class ClassScore(AveragedScore):
    """Base of averaged scores of one class out of several: `AveragedScore` over `ClassCounts`.

    Args:
        axis: The axis of the classes in the predictions.
        ignore_index: Targets with this index do not count.

    Raises:
        BadValue: For `average="binary"` with more than two classes; when read, for targets that are no class.
    """

    @checked
    def __init__(
        self,
        axis: int = -1,
        labels: Sequence[int] | None = None,
        pos_label: int = 1,
        average: str | None = "binary",
        *,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(ClassCounts(axis, ignore_index, two=average == "binary"), labels, pos_label, average)


class Precision(ClassScore):
    """Of what was taken for a class, the share that is of it.

    Examples:
        >>> Precision()(torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 0, 1]))
        0.5
    """

    _name = "precision_score"

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return ratio(hits, predicted)


class Recall(ClassScore):
    """Of what is of a class, the share that was taken for it."""

    _name = "recall_score"

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return ratio(hits, actual)


class Jaccard(ClassScore):
    """Of what is of a class or was taken for it, the share that is both."""

    _name = "jaccard_score"

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return ratio(hits, predicted + actual - hits)


class FBeta(ClassScore):
    """The weighted harmonic mean of precision and recall; recall counts `beta` times as much.

    Source: van Rijsbergen 1979, chapter 7
    """

    _name = "fbeta_score"

    @checked
    def __init__(
        self,
        beta: float,
        axis: int = -1,
        labels: Sequence[int] | None = None,
        pos_label: int = 1,
        average: str | None = "binary",
        *,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(axis, labels, pos_label, average, ignore_index=ignore_index)
        self.beta = beta

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return f_beta(self.beta, hits, predicted, actual)


class F1Score(ClassScore):
    """The harmonic mean of precision and recall.

    Examples:
        >>> F1Score()(torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 0, 1]))
        0.5
    """

    _name = "f1_score"

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return f_beta(1.0, hits, predicted, actual)


def f_beta(beta: float, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
    """The F-score of each class."""
    return ratio((1 + beta**2) * hits, beta**2 * actual + predicted)


class BalancedAccuracy(CountScore):
    """The mean recall over the classes that occur in the targets.

    Args:
        adjusted: 0 for guessing, 1 for all right.
    """

    _name = "balanced_accuracy_score"

    @checked
    def __init__(self, axis: int = -1, adjusted: bool = False, *, ignore_index: int | None = None) -> None:
        super().__init__(ClassCounts(axis, ignore_index))
        self.adjusted = adjusted

    def of_counts(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Any:
        there = actual > 0
        recall = (hits[there] / actual[there]).mean()
        chance = 1 / there.sum()
        return (recall - chance) / (1 - chance) if self.adjusted else recall


class HammingLoss(CountScore):
    """The share of wrong classes."""

    _name = "hamming_loss"

    @checked
    def __init__(self, axis: int = -1, *, ignore_index: int | None = None) -> None:
        super().__init__(ClassCounts(axis, ignore_index))

    def of_counts(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Any:
        return 1 - hits.sum() / actual.sum()


class MatthewsCorrCoef(CountScore):
    """The correlation of predicted and true classes, in [-1, 1]; 0 where either is always the same class.

    Source: Gorodkin 2004, for more than two classes
    """

    _name = "matthews_corrcoef"

    @checked
    def __init__(self, axis: int = -1, *, ignore_index: int | None = None) -> None:
        super().__init__(ClassCounts(axis, ignore_index))

    def of_counts(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Any:
        return matthews(hits, predicted, actual, actual.sum())


def matthews(hits: Tensor, predicted: Tensor, actual: Tensor, total: Tensor) -> Tensor:
    """Matthews' correlation, from how often each class was hit, predicted and there."""
    together = hits.sum() * total - predicted @ actual
    apart = (total**2 - predicted @ predicted) * (total**2 - actual @ actual)
    return ratio(together, apart.sqrt())


class CohenKappa(CountScore):
    """How much more often predictions and targets agree than by chance: 1 is always, 0 as by chance.

    Args:
        labels: The classes that count; by default all.
        weights: None; "linear" or "quadratic" for classes that are grades, where near misses count less.

    Source: Cohen 1960
    """

    _name = "cohen_kappa_score"

    @checked
    def __init__(
        self,
        axis: int = -1,
        labels: Sequence[int] | None = None,
        weights: str | None = None,
        *,
        ignore_index: int | None = None,
    ) -> None:
        if weights not in (None, "linear", "quadratic"):
            raise BadValue(f"there are no weights {weights!r}", expected="linear, quadratic or None")
        super().__init__(ConfusionCounts(axis, ignore_index))
        self.labels, self.weights = labels, weights

    def compute(self) -> Any:
        matrix = self.operands[0].compute().cpu()
        targ, pred = matrix.nonzero(as_tuple=True)
        return float(
            sk_metrics.cohen_kappa_score(
                targ.numpy(), pred.numpy(), labels=self.labels, weights=self.weights,
                sample_weight=matrix[targ, pred].numpy(),
            )
        )  # fmt: skip
