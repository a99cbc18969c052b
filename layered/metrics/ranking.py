"""Scores of probabilities: how well they rank, and how honest they are.

Where one class out of several is predicted, predictions are logits with the classes on `axis`; a single logit a row
stands for the second of two classes. Numbers are scikit-learn's. A class that never occurs as a
target has no ranking: the value is nan then, with scikit-learn's warning.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from layered.foundation import BadValue, checked, lazy, plain
from layered.metrics.accumulated import Kept
from layered.metrics.averages import Mean, Sums
from layered.metrics.counts import label_columns
from layered.metrics.inputs import floats, mismatch

sk_metrics = lazy("sklearn.metrics")


def class_probabilities(pred: Tensor, targ: Tensor, axis: int = -1) -> tuple[Tensor, Tensor]:
    """Probabilities as [row, class] in float32 or more, and targets as [row]; a single logit gives two classes.

    Examples:
        >>> class_probabilities(torch.tensor([[0.0]]), torch.tensor([1]))
        (tensor([[0.5000, 0.5000]]), tensor([1]))
    """
    pred, targ = floats(plain(pred)), plain(targ)
    rows = pred[:, None] if pred.ndim == 1 else pred.movedim(axis, -1).reshape(-1, pred.shape[axis])
    if len(rows) != targ.numel():
        raise mismatch(pred, targ, axis)
    probs = torch.cat([-rows, rows], dim=1).sigmoid() if rows.shape[1] == 1 else rows.softmax(1)
    return probs, targ.flatten()


def only_two(probs: Tensor, what: str) -> Tensor:
    """`probs`, if they are of two classes; else BadValue."""
    if probs.shape[1] != 2:
        raise BadValue(f"{what} is for two classes", got=f"probabilities of {probs.shape[1]}", fix="use RocAuc()")
    return probs


class RocAuc(Kept):
    """The area under the ROC curve: how often a row of a class is ranked above a row of another.

    Args:
        average: "macro", "weighted", "micro" (`multi_class="ovr"` only); None, a value for each class.
        max_fpr: For two classes: the part of the curve up to this rate of false positives, standardised.
        multi_class: "ovr", each class against the rest; "ovo", each pair of classes.

    Source: Hand & Till 2001, for "ovo"

    Examples:
        >>> RocAuc()(torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0, 1]))
        1.0
    """

    _name = "roc_auc_score"

    @checked
    def __init__(
        self,
        axis: int = -1,
        average: str | None = "macro",
        max_fpr: float | None = None,
        multi_class: str = "ovr",
        *,
        ignore_index: int | None = None,
    ) -> None:
        if multi_class not in ("ovr", "ovo", "raise"):
            raise BadValue(f"there is no way {multi_class!r} to compare classes", expected="ovr or ovo")
        self.axis, self.average, self.max_fpr, self.multi_class = axis, average, max_fpr, multi_class
        self.ignore_index = ignore_index

    def prepare(self, pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
        probs, targ = class_probabilities(pred, targ, self.axis)
        if self.multi_class == "raise":
            only_two(probs, type(self).__name__)
        return probs if probs.shape[1] > 2 else probs[:, 1:], targ.to(torch.int32)

    def whole(self, pred: Tensor, targ: Tensor) -> Any:
        classes = pred.shape[1]
        if classes == 1:
            score = sk_metrics.roc_auc_score(targ.numpy(), pred[:, 0].numpy(), max_fpr=self.max_fpr)
        else:
            score = sk_metrics.roc_auc_score(
                targ.numpy(), pred.numpy(), average=self.average, multi_class=self.multi_class, labels=range(classes)
            )
        return torch.as_tensor(score)


class RocAucBinary(RocAuc):
    """The area under the ROC curve for two classes."""

    @checked
    def __init__(
        self,
        axis: int = -1,
        average: str | None = "macro",
        max_fpr: float | None = None,
        multi_class: str = "raise",
        *,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(axis, average, max_fpr, multi_class, ignore_index=ignore_index)


class APScoreBinary(Kept):
    """Average precision for two classes: the precision at each rank of a positive, averaged.

    Args:
        pos_label: The class that counts as positive; its probability is what ranks.

    Examples:
        >>> APScoreBinary()(torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0, 1]))
        1.0
    """

    _name = "average_precision_score"

    @checked
    def __init__(
        self, axis: int = -1, average: str = "macro", pos_label: int = 1, *, ignore_index: int | None = None
    ) -> None:
        self.axis, self.average, self.pos_label, self.ignore_index = axis, average, pos_label, ignore_index

    def prepare(self, pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
        probs, targ = class_probabilities(pred, targ, self.axis)
        return only_two(probs, type(self).__name__)[:, self.pos_label], targ.to(torch.int32)

    def whole(self, pred: Tensor, targ: Tensor) -> Any:
        return float(sk_metrics.average_precision_score(targ.numpy() == self.pos_label, pred.numpy()))


class _LabelRanking(Kept):
    """Keeps the probability of each label, and whether it is there."""

    @checked
    def __init__(self, sigmoid: bool = True, average: str | None = "macro") -> None:
        self.sigmoid, self.average = sigmoid, average

    def prepare(self, pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
        pred, targ = label_columns(pred, targ)
        return pred.sigmoid() if self.sigmoid else pred, targ > 0


class RocAucMulti(_LabelRanking):
    """The area under the ROC curve of each of several labels, averaged ("macro", "micro", "weighted", "samples", None).

    Attributes:
        sigmoid: Predictions are logits.
    """

    _name = "roc_auc_score"

    def whole(self, pred: Tensor, targ: Tensor) -> Any:
        return torch.as_tensor(sk_metrics.roc_auc_score(targ.numpy(), pred.numpy(), average=self.average))


class APScoreMulti(_LabelRanking):
    """Average precision of each of several labels, averaged ("macro", "micro", "weighted", "samples", None).

    Attributes:
        sigmoid: Predictions are logits.
    """

    _name = "average_precision_score"

    def whole(self, pred: Tensor, targ: Tensor) -> Any:
        return torch.as_tensor(sk_metrics.average_precision_score(targ.numpy(), pred.numpy(), average=self.average))


class BrierScore(Mean):
    """The mean squared distance of the probabilities from what came true; 0 is best.

    Two classes: of the probability of one class, in [0, 1]. More: summed over the classes, in [0, 2].

    Source: Brier 1950
    """

    _name = "brier_score_loss"

    @checked
    def __init__(self, axis: int = -1, *, ignore_index: int | None = None) -> None:
        self.axis, self.ignore_index = axis, ignore_index

    def update(self, pred: Tensor, targ: Tensor) -> None:
        probs, targ = class_probabilities(pred, targ, self.axis)
        came_true = targ[:, None] == torch.arange(probs.shape[1], device=targ.device)
        squares = (probs - came_true.to(probs.dtype)).square().sum(1)
        if probs.shape[1] == 2:
            squares = squares / 2
        self.add(*_counted(squares, targ, self.ignore_index))


class BrierScoreMulti(Mean):
    """The mean squared distance of the probability of each label from what came true, over all rows and labels.

    Args:
        thresh: None, the probabilities count; else the decisions that are "yes" at this probability.
        sigmoid: Predictions are logits.
    """

    _name = "brier_score_loss"

    @checked
    def __init__(self, thresh: float | None = None, sigmoid: bool = True, *, ignore_index: int | None = None) -> None:
        self.thresh, self.sigmoid, self.ignore_index = thresh, sigmoid, ignore_index

    def update(self, pred: Tensor, targ: Tensor) -> None:
        pred, targ = label_columns(pred, targ)
        probs = pred.sigmoid() if self.sigmoid else pred
        if self.thresh is not None:
            probs = (probs >= self.thresh).to(probs.dtype)
        squares = (probs - (targ > 0).to(probs.dtype)).square()
        self.add(*_counted(squares, targ, self.ignore_index))


def _counted(squares: Tensor, targ: Tensor, ignore_index: int | None) -> Sums:
    if ignore_index is None:
        return squares.sum(), squares.numel()
    counts = targ != ignore_index
    return squares.where(counts, 0).sum(), counts.count_nonzero()
