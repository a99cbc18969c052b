"""What scores of classes are computed from: how often each class was hit, predicted and there.

These small tables do not grow with the data, are right however it was cut into batches, and are shared: several scores of
one learner with the same settings keep one table, updated once a batch.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor

from layered.foundation import BadValue, plain
from layered.metrics.inputs import best_and_target, floats, mismatch, shown, wide
from layered.metrics.metric import Metric


def tally(index: Tensor, length: int) -> Tensor:
    """How often each of 0 … length - 1 occurs in each row: int64 [..., length].

    Unlike `bincount` it never waits for the device.

    Examples:
        >>> tally(torch.tensor([[0, 2, 2], [1, 1, 1]]), 3)
        tensor([[1, 0, 2],
                [0, 3, 0]])
    """
    counts = torch.zeros(*index.shape[:-1], length, dtype=torch.int64, device=index.device)
    return counts.scatter_add_(-1, index, torch.ones_like(index))


class ClassCounts(Metric):
    """How often each class was hit, predicted and there, where one class out of several is predicted.

    Args:
        axis: The axis of the classes in the predictions.
        ignore_index: Targets with this index do not count.
        two: Refuse predictions of more than two classes.

    Attributes:
        hits: The tables, float64 [class].
        predicted: The tables, float64 [class].
        actual: The tables, float64 [class].

    Raises:
        BadValue: For predictions without scores for two classes or more; when read, for targets that are no class.
    """

    state = ("counts",)
    counts: Any  # int64 [3, classes + 2]; the last columns: targets that are no class, and what is ignored

    def __init__(self, axis: int = -1, ignore_index: int | None = None, two: bool = False) -> None:
        self.axis, self.ignore_index, self.two = axis, ignore_index, two

    def identity(self) -> Hashable:
        return type(self), self.axis, self.ignore_index, self.two

    def update(self, pred: Tensor, targ: Tensor) -> None:
        classes = scored_classes(pred, self.axis, self.two)
        best, targ = best_and_target(pred, targ, self.axis)
        known, ignored = known_targets(targ, classes, self.ignore_index), classes + 1
        hit = torch.where(best == known, best, ignored)
        if self.ignore_index is not None:
            best = torch.where(known == ignored, ignored, best)
        self.counts = self.counts + tally(torch.stack([hit, best, known]).flatten(1), classes + 2)

    def compute(self) -> Any:
        refuse_strange(self.counts[2, -2], classes=self.counts.shape[1] - 2)
        return self.counts[:, :-2]


class LabelCounts(Metric):
    """How often each label was hit, predicted and there, where any number of labels is predicted.

    Args:
        thresh: A label is predicted where its probability is at least this.
        sigmoid: Predictions are logits.
        ignore_index: Targets that are this number do not count, label by label.

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
        there = targ > 0
        taken = (pred.sigmoid() if self.sigmoid else pred) >= self.thresh
        cells: Tensor | int = pred.numel()
        if self.ignore_index is not None:
            counts = targ != self.ignore_index
            there, taken, cells = there & counts, taken & counts, counts.sum()
        self.counts = self.counts + torch.stack([(there & taken).sum(0), taken.sum(0), there.sum(0)])
        self.cells = self.cells + cells

    def compute(self) -> Any:
        return self.counts


class ConfusionCounts(Metric):
    """How often each class (row) was taken for each other (column): float64 [class, class].

    Args:
        axis: As for `ClassCounts`.
        ignore_index: As for `ClassCounts`.

    Examples:
        >>> ConfusionCounts()(torch.eye(2)[[0, 1, 1]], torch.tensor([0, 0, 1])).tolist()
        [[1.0, 1.0], [0.0, 1.0]]
    """

    state = ("matrix",)
    matrix: Any  # int64 [classes + 2, classes]; the last rows: targets that are no class, and what is ignored

    def __init__(self, axis: int = -1, ignore_index: int | None = None) -> None:
        self.axis, self.ignore_index = axis, ignore_index

    def identity(self) -> Hashable:
        return type(self), self.axis, self.ignore_index

    def update(self, pred: Tensor, targ: Tensor) -> None:
        classes = scored_classes(pred, self.axis)
        best, targ = best_and_target(pred, targ, self.axis)
        known = known_targets(targ, classes, self.ignore_index)
        self.matrix = self.matrix + tally((known * classes + best).flatten(), (classes + 2) * classes).view(-1, classes)

    def compute(self) -> Any:
        refuse_strange(self.matrix[-2].sum(), classes=self.matrix.shape[1])
        return wide(self.matrix[:-2])


def known_targets(targ: Tensor, classes: int, ignore_index: int | None) -> Tensor:
    """Class indices, with `classes` for what is no class, and `classes + 1` for what is ignored."""
    targ = targ.long()
    known = torch.where((targ >= 0) & (targ < classes), targ, classes)
    return known if ignore_index is None else torch.where(targ == ignore_index, classes + 1, known)


def refuse_strange(count: Tensor, classes: int) -> None:
    """Raise BadValue if any targets were no class."""
    if count:
        raise BadValue(
            f"{int(count)} targets are no class",
            expected=f"0 … {classes - 1}",
            fix="ignore_index=255 (or what stands for 'no class' in your targets)",
        )


def scored_classes(pred: Tensor, axis: int, two: bool = False) -> int:
    """The number of classes on `axis`; raises BadValue where there are no scores to choose from, or too many for `two`."""
    if not pred.is_floating_point() or pred.ndim <= max(axis, -1 - axis, 1) or pred.shape[axis] < 2:
        raise BadValue(
            "a score for each class is needed",
            got=f"predictions {shown(pred)}",
            expected=f"floats with two classes or more on axis {axis}",
            fix="give the model's raw outputs; for one yes-or-no output use F1ScoreMulti and its like",
        )
    classes = pred.shape[axis]
    if two and classes > 2:
        raise BadValue(
            "average='binary' is for two classes",
            got=f"{classes} classes, in predictions {shown(pred)}",
            fix="average='macro', or 'micro', 'weighted', None",
        )
    return classes


def label_columns(pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and targets of several labels as [row, label]; labels stand on axis 1, a single one may have no axis."""
    pred, targ = floats(plain(pred)), plain(targ)
    if pred.numel() != targ.numel() or (pred.shape != targ.shape and max(pred.ndim, targ.ndim) > 2):
        raise mismatch(pred, targ)
    if pred.ndim < 2:
        pred = pred.reshape(-1, 1)
    targ = targ.reshape(pred.shape)
    return (pred, targ) if pred.ndim == 2 else (_columns(pred), _columns(targ))


def _columns(x: Tensor) -> Tensor:
    return x.movedim(1, -1).reshape(-1, x.shape[1])
