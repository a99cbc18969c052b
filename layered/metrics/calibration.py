"""How far confidence is from the share that is right: the expected calibration error."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from layered.foundation import OutOfRange, checked, plain, whole_number
from layered.metrics.counts import label_columns
from layered.metrics.inputs import wide
from layered.metrics.metric import Metric, OfClasses, OfLabels
from layered.metrics.ranking import class_probabilities


class ByConfidence(Metric):
    """Base of what compares confidence with outcome in bins of equal width; states are sums, so that merging is exact.

    Args:
        bins: The number of bins.
        ignore_index: Targets of this value do not count.

    Attributes:
        counts: The decisions in each bin: float64 [bin].
        confidence: The sum of their confidence, likewise.
        right: How many of them came true, likewise.
    """

    state = ("counts", "confidence", "right")
    counts: Any
    confidence: Any
    right: Any
    higher_is_better = False

    def _settle(self, bins: int, ignore_index: int | None) -> None:
        number = whole_number(bins)
        if number is None or number < 1:
            raise OutOfRange("bins is a number of bins", got=repr(bins), expected="a whole number from 1")
        self.bins, self.ignore_index = number, ignore_index

    def add(self, confidence: Tensor, is_right: Tensor, targ: Tensor) -> None:
        """Add decisions.

        Args:
            confidence: The probability of each, in [0, 1].
            is_right: Whether it came true.
            targ: Its target, to leave out those of `ignore_index`.
        """
        if self.ignore_index is not None:
            counts = targ != self.ignore_index
            confidence, is_right = confidence[counts], is_right[counts]
        confidence = wide(confidence)
        places = (confidence * self.bins).ceil().long().sub(1).clamp(0, self.bins - 1)
        for name, values in (
            ("counts", torch.ones_like(confidence)),
            ("confidence", confidence),
            ("right", is_right.to(confidence.dtype)),
        ):
            sums = confidence.new_zeros(self.bins).index_add_(0, places, values)
            setattr(self, name, getattr(self, name) + sums)

    def compute(self) -> Any:
        return (self.confidence - self.right).abs().sum() / self.counts.sum()


class ExpectedCalibrationError(OfClasses, ByConfidence):
    """How far the confidence in the predicted class is from the share that is right: the mean distance over bins; 0 is best.

    In a learner it is of the network's own probabilities, which `learn.calibrate()` does not change.

    Args:
        bins: The number of bins of equal width.
        axis: The class axis of the predictions, which are logits; a single one is that of the second of two classes.
        ignore_index: Targets of this value do not count.

    Source: Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599, equation 3.

    Examples:
        >>> sure = torch.tensor([[20.0, 0.0], [20.0, 0.0]])
        >>> ExpectedCalibrationError()(sure, torch.tensor([0, 1]))  # always sure, half of the time right
        0.5
    """

    @checked
    def __init__(self, bins: int = 15, axis: int = -1, *, ignore_index: int | None = None) -> None:
        self.axis = axis
        self._settle(bins, ignore_index)

    def update(self, pred: Tensor, targ: Tensor) -> None:
        probs, targ = class_probabilities(pred, targ, self.axis)
        confidence, best = plain(probs).max(1)
        self.add(confidence, best == targ, targ)


class ExpectedCalibrationErrorMulti(OfLabels, ByConfidence):
    """How far the probability of labels is from the share that applies: the mean distance over bins of all of them; 0 is best.

    Args:
        bins: The number of bins of equal width.
        sigmoid: Predictions are logits.
        ignore_index: Targets of this value do not count, label by label.
    """

    _name = "expected_calibration_error"

    @checked
    def __init__(self, bins: int = 15, sigmoid: bool = True, *, ignore_index: int | None = None) -> None:
        self.sigmoid = sigmoid
        self._settle(bins, ignore_index)

    def update(self, pred: Tensor, targ: Tensor) -> None:
        pred, targ = label_columns(pred, targ)
        probs = pred.sigmoid() if self.sigmoid else pred
        self.add(probs.flatten(), targ.flatten() > 0, targ.flatten())
