"""Scores of probabilities: how well they rank, and how well they are calibrated.

Where one of several classes is predicted, predictions are logits with the classes on `axis`; a single logit for each sample
is that of the second of two classes. Values are scikit-learn's. A class that never occurs as a target cannot be ranked: the
value is nan then, with scikit-learn's warning.
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
from layered.metrics.metric import OfClasses, OfLabels

sk_metrics = lazy("sklearn.metrics")


def class_probabilities(pred: Tensor, targ: Tensor, axis: int = -1) -> tuple[Tensor, Tensor]:
    """Probabilities as [sample, class] in float32 or wider, and targets as [sample].

    Args:
        pred: Logits; a single one for each sample gives two classes.
        targ: Class indices.
        axis: The class axis of the predictions.

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
    """`probs`, if they are of two classes.

    Args:
        probs: Probabilities [sample, class].
        what: The metric's name, for the message.

    Raises:
        BadValue: There are more than two classes.
    """
    if probs.shape[1] != 2:
        raise BadValue(
            f"{what} is for two classes", got=f"probabilities of {probs.shape[1]} classes", fix="use RocAuc()"
        )
    return probs


class RocAuc(OfClasses, Kept):
    """The area under the ROC curve: how often a sample of a class is ranked above one of another class.

    Args:
        axis: The class axis of the predictions.
        average: "macro", "weighted", "micro" (only with `multi_class="ovr"`), or None for a value for each class.
        max_fpr: For two classes: the part of the curve up to this false positive rate, standardised.
        multi_class: "ovr", each class against the rest; "ovo", each pair of classes; "raise" refuses more than two.
        ignore_index: Targets of this value do not count.

    Raises:
        BadValue: `multi_class` is unknown.

    Source: Hand & Till 2001, for "ovo"

    Examples:
        >>> RocAuc()(torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0, 1]))
        1.0
    """

    _name = "roc_auc_score"
    higher_is_better = True

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
            raise BadValue("unknown multi_class", got=repr(multi_class), expected="'ovr' or 'ovo'")
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
    """The area under the ROC curve for two classes.

    Args:
        axis: The class axis of the predictions.
        average: See `RocAuc`.
        max_fpr: The part of the curve up to this false positive rate, standardised.
        multi_class: "raise" refuses more than two classes.
        ignore_index: Targets of this value do not count.
    """

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


class APScoreBinary(OfClasses, Kept):
    """Average precision for two classes: the mean of the precision at the rank of each positive sample.

    Args:
        axis: The class axis of the predictions.
        average: Accepted for compatibility.
        pos_label: The positive class, whose probability ranks the samples.
        ignore_index: Targets of this value do not count.

    Examples:
        >>> APScoreBinary()(torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0, 1]))
        1.0
    """

    _name = "average_precision_score"
    higher_is_better = True

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


class _LabelRanking(OfLabels, Kept):
    """Base of metrics that keep the probability of each label, and whether it applies."""

    @checked
    def __init__(self, sigmoid: bool = True, average: str | None = "macro") -> None:
        self.sigmoid, self.average = sigmoid, average

    def prepare(self, pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
        pred, targ = label_columns(pred, targ)
        return pred.sigmoid() if self.sigmoid else pred, targ > 0


class RocAucMulti(_LabelRanking):
    """The area under the ROC curve of each of several labels, averaged.

    Args:
        sigmoid: Predictions are logits.
        average: "macro", "micro", "weighted", "samples", or None for a value for each label.
    """

    _name = "roc_auc_score"
    higher_is_better = True

    def whole(self, pred: Tensor, targ: Tensor) -> Any:
        return torch.as_tensor(sk_metrics.roc_auc_score(targ.numpy(), pred.numpy(), average=self.average))


class APScoreMulti(_LabelRanking):
    """Average precision of each of several labels, averaged.

    Args:
        sigmoid: Predictions are logits.
        average: "macro", "micro", "weighted", "samples", or None for a value for each label.
    """

    _name = "average_precision_score"
    higher_is_better = True

    def whole(self, pred: Tensor, targ: Tensor) -> Any:
        return torch.as_tensor(sk_metrics.average_precision_score(targ.numpy(), pred.numpy(), average=self.average))


class BrierScore(OfClasses, Mean):
    """The mean squared distance of the probabilities from the outcome; 0 is best.

    For two classes, of the probability of one of them: in [0, 1]. For more, summed over the classes: in [0, 2].

    Args:
        axis: The class axis of the predictions.
        ignore_index: Targets of this value do not count.

    Source: Brier 1950
    """

    _name = "brier_score_loss"
    higher_is_better = False

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


class BrierScoreMulti(OfLabels, Mean):
    """The mean squared distance of the probability of each label from the outcome, over all samples and labels.

    Args:
        thresh: None uses the probabilities; a number uses the decisions made at this probability.
        sigmoid: Predictions are logits.
        ignore_index: Targets of this value do not count, label by label.
    """

    _name = "brier_score_loss"
    higher_is_better = False

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
