"""Scores where one of several classes is predicted, computed from counts: precision, recall and related scores.

Names, values and arguments are scikit-learn's; what is undefined (nothing predicted, no targets) counts as 0.
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
    """Base of scores that are computed from a table of counts; a subclass defines `of_counts`.

    Args:
        counts: The table, such as `ClassCounts`.
        name: The name in tables.
    """

    higher_is_better = True

    def __init__(self, counts: Metric, name: str | None = None) -> None:
        super().__init__(operator.pos, (counts,), name or self._name)

    def compute(self) -> Any:
        return self.of_counts(*wide(self.operands[0].compute()))

    def of_counts(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Any:
        """The value.

        Args:
            hits: How often each class was predicted rightly: float64 [class].
            predicted: How often it was predicted.
            actual: How often it was the target.
        """
        raise NotImplementedError(f"{type(self).__name__} needs of_counts(self, hits, predicted, actual)")


class AveragedScore(CountScore):
    """Base of scores that each class has for itself; a subclass defines `score`.

    `metric[1]` is the value of class 1, whatever the average.

    Args:
        counts: The table, such as `ClassCounts`.
        labels: The classes to average over; by default those that occur in targets or predictions.
        pos_label: The positive class, with `average="binary"`.
        average: "binary"; "macro", the mean over classes; "weighted", the mean weighted by how often each class is the target;
            "micro", over all decisions; "auto", binary for two classes and macro for more; None, a value for each of `labels`
            (by default for every class of the predictions).

    Raises:
        BadValue: `average` is unknown; when the value is read, a class is out of range.

    Examples:
        >>> class Bias(AveragedScore):
        ...     "How much more often a class is predicted than it is the target."
        ...     def score(self, hits, predicted, actual):
        ...         return predicted / actual
        >>> Bias(ClassCounts(), average=None)(torch.eye(2)[[0, 0, 1]], torch.tensor([0, 1, 1]))
        tensor([2.0000, 0.5000], dtype=torch.float64)
    """

    over_all: ClassVar[bool] = False  # average also over classes that never occur

    def __init__(
        self,
        counts: Metric,
        labels: Sequence[int] | None = None,
        pos_label: int = 1,
        average: str | None = "macro",
    ) -> None:
        if average not in AVERAGES:
            expected = "binary, macro, micro, weighted, auto or None"
            fix = "use skm_to_fastai, with flatten=False and the average" if average == "samples" else None
            raise BadValue("unknown average", got=repr(average), expected=expected, fix=fix)
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
            raise BadValue(f"class {missing[0]} is out of range", expected=f"0 … {classes - 1}")

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        """The value of each class.

        Args:
            hits: How often each class was predicted rightly: float64 [class].
            predicted: How often it was predicted.
            actual: How often it was the target.
        """
        raise NotImplementedError(f"{type(self).__name__} needs score(self, hits, predicted, actual)")

    def __getitem__(self, index: object) -> Expression:
        each = copy.copy(self)
        each.average = None
        name = f"{self.name}[{index}]"
        return Expression(operator.getitem, (each, index), name, higher_is_better=self.higher_is_better)


def ratio(top: Tensor, bottom: Tensor, undefined: float = 0.0) -> Tensor:
    """`top / bottom`, and `undefined` where that is 0 / 0.

    Args:
        top: Numerators.
        bottom: Denominators.
        undefined: The value of 0 / 0.

    Examples:
        >>> ratio(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.0]))
        tensor([0.5000, 0.0000])
    """
    return torch.where(bottom > 0, top / bottom, undefined)


class ClassScore(AveragedScore):
    """Base of averaged scores of one of several classes: `AveragedScore` over `ClassCounts`.

    Args:
        axis: The class axis of the predictions.
        labels: The classes to average over; by default those that occur in targets or predictions.
        pos_label: The positive class, with `average="binary"`.
        average: See `AveragedScore`.
        ignore_index: Targets of this value do not count; by default those that the loss of the learner leaves out.

    Raises:
        BadValue: `average="binary"` with more than two classes; when the value is read, targets are out of range.
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
    """Of the samples predicted as a class, the share that is of it.

    Args:
        axis: The class axis of the predictions.
        labels: The classes to average over; by default those that occur in targets or predictions.
        pos_label: The positive class, with `average="binary"`.
        average: See `AveragedScore`.
        ignore_index: Targets of this value do not count; by default those that the loss of the learner leaves out.

    Examples:
        >>> Precision()(torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 0, 1]))
        0.5
    """

    _name = "precision_score"

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return ratio(hits, predicted)


class Recall(ClassScore):
    """Of the samples of a class, the share that was predicted as it.

    Args:
        axis: The class axis of the predictions.
        labels: The classes to average over; by default those that occur in targets or predictions.
        pos_label: The positive class, with `average="binary"`.
        average: See `AveragedScore`.
        ignore_index: Targets of this value do not count; by default those that the loss of the learner leaves out.
    """

    _name = "recall_score"

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return ratio(hits, actual)


class Jaccard(ClassScore):
    """Of the samples that are of a class or were predicted as it, the share that is both.

    Args:
        axis: The class axis of the predictions.
        labels: The classes to average over; by default those that occur in targets or predictions.
        pos_label: The positive class, with `average="binary"`.
        average: See `AveragedScore`.
        ignore_index: Targets of this value do not count; by default those that the loss of the learner leaves out.
    """

    _name = "jaccard_score"

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return ratio(hits, predicted + actual - hits)


class FBeta(ClassScore):
    """The weighted harmonic mean of precision and recall.

    Args:
        beta: Weight of recall relative to precision.
        axis: The class axis of the predictions.
        labels: The classes to average over; by default those that occur in targets or predictions.
        pos_label: The positive class, with `average="binary"`.
        average: See `AveragedScore`.
        ignore_index: Targets of this value do not count; by default those that the loss of the learner leaves out.

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

    Args:
        axis: The class axis of the predictions.
        labels: The classes to average over; by default those that occur in targets or predictions.
        pos_label: The positive class, with `average="binary"`.
        average: See `AveragedScore`.
        ignore_index: Targets of this value do not count; by default those that the loss of the learner leaves out.

    Examples:
        >>> F1Score()(torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 0, 1]))
        0.5
    """

    _name = "f1_score"

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return f_beta(1.0, hits, predicted, actual)


def f_beta(beta: float, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
    """The F-score of each class.

    Args:
        beta: Weight of recall relative to precision.
        hits: How often each class was predicted rightly.
        predicted: How often it was predicted.
        actual: How often it was the target.
    """
    return ratio((1 + beta**2) * hits, beta**2 * actual + predicted)


class BalancedAccuracy(CountScore):
    """The mean recall over the classes that occur in the targets.

    Args:
        axis: The class axis of the predictions.
        adjusted: Rescale so that guessing gives 0 and perfect predictions 1.
        ignore_index: Targets of this value do not count; by default those that the loss of the learner leaves out.
    """

    _name = "balanced_accuracy_score"

    @checked
    def __init__(self, axis: int = -1, adjusted: bool = False, *, ignore_index: int | None = None) -> None:
        super().__init__(ClassCounts(axis, ignore_index))
        self.adjusted = adjusted

    def of_counts(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Any:
        occurs = actual > 0
        recall = (hits[occurs] / actual[occurs]).mean()
        chance = 1 / occurs.sum()
        return (recall - chance) / (1 - chance) if self.adjusted else recall


class HammingLoss(CountScore):
    """The share of wrong classes.

    Args:
        axis: The class axis of the predictions.
        ignore_index: Targets of this value do not count; by default those that the loss of the learner leaves out.
    """

    _name = "hamming_loss"
    higher_is_better = False

    @checked
    def __init__(self, axis: int = -1, *, ignore_index: int | None = None) -> None:
        super().__init__(ClassCounts(axis, ignore_index))

    def of_counts(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Any:
        return 1 - hits.sum() / actual.sum()


class MatthewsCorrCoef(CountScore):
    """The correlation of predicted and true classes, in [-1, 1]; 0 where either is always the same class.

    Args:
        axis: The class axis of the predictions.
        ignore_index: Targets of this value do not count; by default those that the loss of the learner leaves out.

    Source: Gorodkin 2004, for more than two classes
    """

    _name = "matthews_corrcoef"

    @checked
    def __init__(self, axis: int = -1, *, ignore_index: int | None = None) -> None:
        super().__init__(ClassCounts(axis, ignore_index))

    def of_counts(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Any:
        return matthews(hits, predicted, actual, actual.sum())


def matthews(hits: Tensor, predicted: Tensor, actual: Tensor, total: Tensor) -> Tensor:
    """Matthews' correlation coefficient.

    Args:
        hits: How often each class was predicted rightly.
        predicted: How often it was predicted.
        actual: How often it was the target.
        total: Number of samples.
    """
    together = hits.sum() * total - predicted @ actual
    apart = (total**2 - predicted @ predicted) * (total**2 - actual @ actual)
    return ratio(together, apart.sqrt())


class CohenKappa(CountScore):
    """How much more often predictions and targets agree than by chance: 1 is always, 0 as often as by chance.

    Args:
        axis: The class axis of the predictions.
        labels: The classes that count; by default all.
        weights: None; "linear" or "quadratic" for ordered classes, where near misses count less.
        ignore_index: Targets of this value do not count; by default those that the loss of the learner leaves out.

    Raises:
        BadValue: `weights` is unknown.

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
            raise BadValue("unknown weights", got=repr(weights), expected="linear, quadratic or None")
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
