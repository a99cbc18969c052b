"""The counts behind scores of classes: how often each class was predicted, was the target, and was both (hits).

These small tables do not grow with the data, are right however it was cut into batches, and are shared: several scores of one
learner with the same settings keep one table, updated once for each batch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor

from layered.foundation import BadValue, ignored_target, is_single, plain
from layered.metrics.inputs import best_and_target, describe_batch, floats, mismatch, wide
from layered.metrics.metric import OfClasses, OfLabels, Predicted, class_scores


def tally(index: Tensor, length: int) -> Tensor:
    """How often each of 0 … length - 1 occurs in each row: int64 [..., length].

    Unlike `bincount` it never waits for the device.

    Args:
        index: Indices, int64.
        length: Number of counts; all indices must be below it.

    Examples:
        >>> tally(torch.tensor([[0, 2, 2], [1, 1, 1]]), 3)
        tensor([[1, 0, 2],
                [0, 3, 0]])
    """
    counts = torch.zeros(*index.shape[:-1], length, dtype=torch.int64, device=index.device)
    return counts.scatter_add_(-1, index, torch.ones_like(index))


class _Counts(OfClasses):
    """Base of counts of classes: in a learner, targets that its loss leaves out do not count, unless others were given.

    Attributes:
        ignore_index: Targets of this value do not count.
    """

    ignore_index: int | None

    def accumulate(self, learn: Predicted) -> None:
        self.prediction(learn)
        ignored = ignored_target(learn.loss_func) if self.ignore_index is None else self.ignore_index
        (targ,) = learn.yb
        self.update(class_scores(learn, self.axis), targ, ignored)

    @abstractmethod
    def update(self, pred: Tensor, targ: Tensor, ignore_index: int | None = None) -> None:
        """Count a batch."""


class ClassCounts(_Counts):
    """Hits, predictions and targets of each class, where one of several classes is predicted: int64 [3, class].

    Args:
        axis: The class axis of the predictions.
        ignore_index: Targets of this value do not count; by default those that the loss of the learner leaves out.
        two: Refuse predictions of more than two classes.

    Raises:
        BadValue: Predictions have no scores of classes; when the value is read, targets are out of range.
    """

    state = ("counts",)
    counts: Any  # int64 [3, classes + 2]; the last columns count invalid and ignored targets

    def __init__(self, axis: int = -1, ignore_index: int | None = None, two: bool = False) -> None:
        self.axis, self.ignore_index, self.two = axis, ignore_index, two

    def identity(self) -> Hashable:
        return type(self), self.axis, self.ignore_index, self.two

    def update(self, pred: Tensor, targ: Tensor, ignore_index: int | None = None) -> None:
        ignore_index = self.ignore_index if ignore_index is None else ignore_index
        classes = scored_classes(pred, self.axis, self.two)
        best, targ = best_and_target(pred, targ, self.axis)
        known, ignored = known_targets(targ, classes, ignore_index), classes + 1
        hit = torch.where(best == known, best, ignored)
        if ignore_index is not None:
            best = torch.where(known == ignored, ignored, best)
        self.counts = self.counts + tally(torch.stack([hit, best, known]).flatten(1), classes + 2)

    def compute(self) -> Any:
        refuse_invalid_targets(self.counts[2, -2], classes=self.counts.shape[1] - 2)
        return self.counts[:, :-2]


class LabelCounts(OfLabels):
    """Hits, predictions and targets of each label, where any number of labels is predicted: int64 [3, label].

    Args:
        thresh: A label is predicted where its probability is at least this.
        sigmoid: Predictions are logits.
        ignore_index: Targets of this value do not count, label by label.

    Attributes:
        cells: How many decisions were counted.
    """

    state = ("counts", "cells")
    counts: Any  # int64 [3, label]
    cells: Any

    def __init__(self, thresh: float = 0.5, sigmoid: bool = True, ignore_index: int | None = None) -> None:
        self.thresh, self.sigmoid, self.ignore_index = thresh, sigmoid, ignore_index

    def identity(self) -> Hashable:
        return type(self), self.thresh, self.sigmoid, self.ignore_index

    def update(self, pred: Tensor, targ: Tensor) -> None:
        pred, targ = label_columns(pred, targ)
        is_target = targ > 0
        is_predicted = (pred.sigmoid() if self.sigmoid else pred) >= self.thresh
        cells: Tensor | int = pred.numel()
        if self.ignore_index is not None:
            counts = targ != self.ignore_index
            is_target, is_predicted, cells = is_target & counts, is_predicted & counts, counts.sum()
        hits = is_target & is_predicted
        self.counts = self.counts + torch.stack([hits.sum(0), is_predicted.sum(0), is_target.sum(0)])
        self.cells = self.cells + cells

    def compute(self) -> Any:
        return self.counts


class ConfusionCounts(_Counts):
    """How often samples of each class (row) were predicted as each class (column): float64 [class, class].

    Args:
        axis: The class axis of the predictions.
        ignore_index: Targets of this value do not count; by default those that the loss of the learner leaves out.

    Examples:
        >>> ConfusionCounts()(torch.eye(2)[[0, 1, 1]], torch.tensor([0, 0, 1])).tolist()
        [[1.0, 1.0], [0.0, 1.0]]
    """

    state = ("matrix",)
    matrix: Any  # int64 [classes + 2, classes]; the last rows count invalid and ignored targets

    def __init__(self, axis: int = -1, ignore_index: int | None = None) -> None:
        self.axis, self.ignore_index = axis, ignore_index

    def identity(self) -> Hashable:
        return type(self), self.axis, self.ignore_index

    def update(self, pred: Tensor, targ: Tensor, ignore_index: int | None = None) -> None:
        classes = scored_classes(pred, self.axis)
        best, targ = best_and_target(pred, targ, self.axis)
        known = known_targets(targ, classes, self.ignore_index if ignore_index is None else ignore_index)
        self.matrix = self.matrix + tally((known * classes + best).flatten(), (classes + 2) * classes).view(-1, classes)

    def compute(self) -> Any:
        refuse_invalid_targets(self.matrix[-2].sum(), classes=self.matrix.shape[1])
        return wide(self.matrix[:-2])


def known_targets(targ: Tensor, classes: int, ignore_index: int | None) -> Tensor:
    """Class indices, with `classes` in place of invalid ones and `classes + 1` in place of ignored ones.

    Args:
        targ: Class indices.
        classes: Number of classes.
        ignore_index: The targets to ignore.
    """
    targ = targ.long()
    known = torch.where((targ >= 0) & (targ < classes), targ, classes)
    return known if ignore_index is None else torch.where(targ == ignore_index, classes + 1, known)


def refuse_invalid_targets(count: Tensor, classes: int) -> None:
    """Raise an error if any targets were invalid.

    Args:
        count: How many were.
        classes: Number of classes.

    Raises:
        BadValue: `count` is not 0.
    """
    if count:
        raise BadValue(
            f"{int(count)} targets are not valid classes",
            expected=f"0 … {classes - 1}",
            fix="ignore_index=255 (or whatever marks 'no class' in your targets)",
        )


def scored_classes(pred: Tensor, axis: int, two: bool = False) -> int:
    """The number of classes on `axis`; two if there is a single score.

    Args:
        pred: The predictions.
        axis: The class axis.
        two: Refuse more than two classes.

    Raises:
        BadValue: There are no scores, or too many for `two`.
    """
    if pred.is_floating_point() and is_single(pred, axis):
        return 2
    if not pred.is_floating_point() or pred.ndim <= max(axis, -1 - axis, 1):
        raise BadValue(
            "predictions need a score for each class",
            got=f"predictions {describe_batch(pred)}",
            expected=f"floats with the classes on axis {axis}",
            fix="pass the model's raw outputs",
        )
    classes = pred.shape[axis]
    if two and classes > 2:
        raise BadValue(
            "average='binary' is for two classes",
            got=f"{classes} classes, in predictions {describe_batch(pred)}",
            fix="average='macro', 'micro', 'weighted' or None",
        )
    return classes


def label_columns(pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and targets of several labels as [sample, label].

    Args:
        pred: Scores, with the labels on axis 1; the axis of a single label may be missing.
        targ: Targets of the same shape.
    """
    pred, targ = floats(plain(pred)), plain(targ)
    if pred.numel() != targ.numel() or (pred.shape != targ.shape and max(pred.ndim, targ.ndim) > 2):
        raise mismatch(pred, targ)
    if pred.ndim < 2:
        pred = pred.reshape(-1, 1)
    targ = targ.reshape(pred.shape)
    return (pred, targ) if pred.ndim == 2 else (_columns(pred), _columns(targ))


def _columns(x: Tensor) -> Tensor:
    return x.movedim(1, -1).reshape(-1, x.shape[1])
