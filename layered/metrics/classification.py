"""How often the class is right, and how it is wrong."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from layered.foundation.errors import BadValue
from layered.foundation.tensors import plain
from layered.metrics.metric import Metric, flatten_check, wide


def accuracy(inp: Tensor, targ: Tensor, axis: int = -1) -> Tensor:
    """The share of rows whose largest score stands at the target.

    inp        scores or probabilities [..., class] with the classes on `axis`
    targ       class indices [...]
    returns    a number in [0, 1]

    >>> accuracy(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
    tensor(0.5000)
    """
    pred, targ = flatten_check(plain(inp).argmax(dim=axis), targ)
    return (pred == targ).mean(dtype=torch.float32)


def error_rate(inp: Tensor, targ: Tensor, axis: int = -1) -> Tensor:
    """The share of rows whose largest score stands elsewhere: `1 - accuracy`.

    >>> error_rate(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
    tensor(0.5000)
    """
    return 1 - accuracy(inp, targ, axis=axis)


def top_k_accuracy(inp: Tensor, targ: Tensor, k: int = 5, axis: int = -1) -> Tensor:
    """The share of rows whose target is among the `k` largest scores.

    >>> top_k_accuracy(torch.tensor([[0.1, 0.5, 0.4], [0.1, 0.5, 0.4]]), torch.tensor([2, 0]), k=2)
    tensor(0.5000)
    """
    best = plain(inp).topk(k, dim=axis).indices
    found: Tensor = (best == plain(targ).unsqueeze(axis)).any(dim=axis)
    return found.mean(dtype=torch.float32)


def accuracy_multi(inp: Tensor, targ: Tensor, thresh: float = 0.5, sigmoid: bool = True) -> Tensor:
    """The share of right yes-or-no answers, over all rows and classes.

    inp        logits, or probabilities with `sigmoid=False`, of the same shape as `targ`
    thresh     yes where the probability is above it

    >>> accuracy_multi(torch.tensor([[2.0, -2.0]]), torch.tensor([[1.0, 1.0]]))
    tensor(0.5000)
    """
    inp, targ = flatten_check(inp, targ)
    return (((inp.sigmoid() if sigmoid else inp) > thresh) == targ.bool()).mean(dtype=torch.float32)


class ConfusionMetric(Metric):
    """Base of metrics that follow from how often each class was taken for each other.

    axis       the axis of the classes in the predictions
    labels     the classes to average over; by default those that occur in targets or predictions
    pos_label  the class that counts as positive, where `average="binary"`
    average    "binary"; "macro", the mean over classes; "weighted", the mean weighted by how often each class is the target;
               "micro", over all decisions; None, a value for each of `labels` (by default for every class of the predictions)
    ignore_index     targets with this index do not count

    Values and names are scikit-learn's; what is undefined (nothing predicted, nothing there) counts as 0.
    raises     BadValue, when the value is read, for `average="binary"` with more than two classes
    """

    state = ("matrix",)
    matrix: Any  # [target, prediction], counts

    def __init__(
        self,
        axis: int = -1,
        labels: list[int] | None = None,
        pos_label: int = 1,
        average: str | None = "binary",
        *,
        ignore_index: int | None = None,
    ) -> None:
        if average not in ("binary", "macro", "micro", "weighted", None):
            raise BadValue(f"there is no average {average!r}", expected="binary, macro, micro, weighted or None")
        self.axis, self.labels, self.pos_label, self.average = axis, labels, pos_label, average
        self.ignore_index = ignore_index

    def update(self, pred: Tensor, targ: Tensor) -> None:
        classes = pred.shape[self.axis]
        best, targ = flatten_check(plain(pred).argmax(dim=self.axis), targ)
        self.matrix = self.matrix + confusion_counts(best, targ, classes, self.ignore_index)

    def compute(self) -> Any:
        matrix: Tensor = wide(self.matrix)
        hits, predicted, actual = matrix.diagonal(), matrix.sum(0), matrix.sum(1)
        if self.average == "binary":
            if len(matrix) > 2:
                raise BadValue(
                    f"{self.name} with average='binary' needs two classes",
                    got=f"{len(matrix)} classes",
                    fix=f"{type(self).__name__}(average='macro'), or 'micro', 'weighted', None",
                )
            return self.score(hits, predicted, actual)[self.pos_label]
        chosen = self._chosen(predicted + actual > 0)
        hits, predicted, actual = hits[chosen], predicted[chosen], actual[chosen]
        if self.average == "micro":
            return self.score(hits.sum(), predicted.sum(), actual.sum())
        each = self.score(hits, predicted, actual)
        if self.average == "weighted":
            return _ratio((each * actual).sum(), actual.sum())
        return each if self.average is None else each.mean()

    def _chosen(self, occurs: Tensor) -> Any:
        if self.labels is not None:
            return self.labels
        return slice(None) if self.average is None else occurs

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        """The value of each class, from how often it was hit, predicted and there."""
        raise NotImplementedError


class Precision(ConfusionMetric):
    """Of what was taken for a class, the share that is of it.

    >>> Precision()(torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 0, 1]))
    0.5
    """

    _name = "precision_score"

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return _ratio(hits, predicted)


class Recall(ConfusionMetric):
    """Of what is of a class, the share that was taken for it."""

    _name = "recall_score"

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return _ratio(hits, actual)


class FBeta(ConfusionMetric):
    """The weighted harmonic mean of precision and recall; recall counts `beta` times as much.

    source     van Rijsbergen 1979, chapter 7
    """

    _name = "fbeta_score"

    def __init__(
        self,
        beta: float,
        axis: int = -1,
        labels: list[int] | None = None,
        pos_label: int = 1,
        average: str | None = "binary",
        *,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(axis, labels, pos_label, average, ignore_index=ignore_index)
        self.beta = beta

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return _ratio((1 + self.beta**2) * hits, self.beta**2 * actual + predicted)


class F1Score(FBeta):
    """The harmonic mean of precision and recall.

    >>> F1Score()(torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 0, 1]))
    0.5
    """

    _name = "f1_score"

    def __init__(
        self,
        axis: int = -1,
        labels: list[int] | None = None,
        pos_label: int = 1,
        average: str | None = "binary",
        *,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(1.0, axis, labels, pos_label, average, ignore_index=ignore_index)


def confusion_counts(pred: Tensor, targ: Tensor, classes: int, ignore_index: int | None = None) -> Tensor:
    """How often class `row` was taken for class `column`: int64 [classes, classes]; never waits for the device.

    pred, targ   vectors of class indices

    >>> confusion_counts(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2)
    tensor([[1, 1],
            [0, 1]])
    """
    targ, counts = targ.long(), torch.ones_like(pred, dtype=torch.int64)
    if ignore_index is not None:
        counts = (targ != ignore_index).long()
        targ = targ * counts
    matrix = torch.zeros(classes * classes, dtype=torch.int64, device=pred.device)
    return matrix.index_add_(0, targ * classes + pred, counts).view(classes, classes)


def _ratio(top: Tensor, bottom: Tensor) -> Tensor:
    return torch.where(bottom > 0, top / bottom, torch.zeros_like(top))
