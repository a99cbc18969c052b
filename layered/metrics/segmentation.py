"""How well two masks overlap: scores of the class of each pixel, with the classes on axis 1.

If both masks are empty, the value is nan.
"""

from __future__ import annotations

from torch import Tensor

from layered.foundation import checked
from layered.metrics.class_scores import AveragedScore, ratio
from layered.metrics.counts import ClassCounts


class _Overlap(AveragedScore):
    @checked
    def __init__(self, axis: int = 1, *, ignore_index: int | None = None) -> None:
        super().__init__(ClassCounts(axis, ignore_index, two=True), average="binary")


class _OverlapMulti(AveragedScore):
    @checked
    def __init__(self, axis: int = 1, average: str | None = "macro", *, ignore_index: int | None = None) -> None:
        super().__init__(ClassCounts(axis, ignore_index), average=average)


def _dice(hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
    return ratio(2 * hits, predicted + actual, float("nan"))


def _jaccard(hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
    return ratio(hits, predicted + actual - hits, float("nan"))


class Dice(_Overlap):
    """Twice the overlap of both masks, divided by the sum of their sizes, for the second of two classes.

    Args:
        axis: The class axis of the predictions [batch, class, height, width].
        ignore_index: Pixels with this target do not count; by default those that the loss of the learner leaves out.

    Raises:
        BadValue: Predictions are of more than two classes.

    Source: Dice 1945

    Examples:
        >>> import torch
        >>> Dice()(torch.tensor([[[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]]), torch.tensor([[1, 0, 0]]))
        0.6666666666666666
    """

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return _dice(hits, predicted, actual)


class DiceMulti(_OverlapMulti):
    """`Dice` of each class that occurs in targets or predictions, averaged; `DiceMulti()[1]` is that of class 1.

    Args:
        axis: The class axis of the predictions [batch, class, height, width].
        average: "macro", the mean over classes; "micro"; "weighted"; None, a value for each class.
        ignore_index: Pixels with this target do not count; by default those that the loss of the learner leaves out.
    """

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return _dice(hits, predicted, actual)


class JaccardCoeff(_Overlap):
    """The overlap of both masks, divided by their union, for the second of two classes.

    Args:
        axis: The class axis of the predictions [batch, class, height, width].
        ignore_index: Pixels with this target do not count; by default those that the loss of the learner leaves out.

    Source: Jaccard 1901
    """

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return _jaccard(hits, predicted, actual)


class JaccardCoeffMulti(_OverlapMulti):
    """`JaccardCoeff` of each class that occurs in targets or predictions, averaged: mean intersection over union.

    `JaccardCoeffMulti()[1]` is the value of class 1.

    Args:
        axis: The class axis of the predictions [batch, class, height, width].
        average: "macro", the mean over classes; "micro"; "weighted"; None, a value for each class.
        ignore_index: Pixels with this target do not count; by default those that the loss of the learner leaves out.
    """

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return _jaccard(hits, predicted, actual)
