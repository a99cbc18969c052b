"""Scores where each of several labels is predicted or not, computed from counts.

Predictions and targets are [sample, label]. Names and values are scikit-learn's; what is undefined counts as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from layered.foundation import checked
from layered.metrics.class_scores import AveragedScore, CountScore, f_beta, matthews, ratio
from layered.metrics.counts import LabelCounts
from layered.metrics.inputs import wide


class LabelScore(AveragedScore):
    """Base of averaged scores of several labels: `AveragedScore` over `LabelCounts`.

    Args:
        thresh: A label is predicted where its probability is at least this.
        sigmoid: Predictions are logits.
        labels: The labels to average over; by default all.
        average: "macro", the mean over labels; "weighted", by how often each is the target; "micro", over all decisions; None, a
            value for each.
        ignore_index: Targets of this value do not count, label by label.
    """

    over_all = True

    @checked
    def __init__(
        self,
        thresh: float = 0.5,
        sigmoid: bool = True,
        labels: Sequence[int] | None = None,
        average: str | None = "macro",
        *,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(LabelCounts(thresh, sigmoid, ignore_index), labels, average=average)


class PrecisionMulti(LabelScore):
    """Of the samples that a label was predicted for, the share that has it.

    Args:
        thresh: A label is predicted where its probability is at least this.
        sigmoid: Predictions are logits.
        labels: The labels to average over; by default all.
        average: "macro", the mean over labels; "weighted", by how often each is the target; "micro", over all decisions; None, a
            value for each.
        ignore_index: Targets of this value do not count, label by label.

    Examples:
        >>> PrecisionMulti()(torch.tensor([[1.0, -1.0], [1.0, 1.0]]), torch.tensor([[1, 0], [0, 1]]))
        0.75
    """

    _name = "precision_score"

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return ratio(hits, predicted)


class RecallMulti(LabelScore):
    """Of the samples that have a label, the share that it was predicted for.

    Args:
        thresh: A label is predicted where its probability is at least this.
        sigmoid: Predictions are logits.
        labels: The labels to average over; by default all.
        average: "macro", the mean over labels; "weighted", by how often each is the target; "micro", over all decisions; None, a
            value for each.
        ignore_index: Targets of this value do not count, label by label.
    """

    _name = "recall_score"

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return ratio(hits, actual)


class JaccardMulti(LabelScore):
    """Of the samples that have a label or were predicted to, the share where both holds.

    Args:
        thresh: A label is predicted where its probability is at least this.
        sigmoid: Predictions are logits.
        labels: The labels to average over; by default all.
        average: "macro", the mean over labels; "weighted", by how often each is the target; "micro", over all decisions; None, a
            value for each.
        ignore_index: Targets of this value do not count, label by label.
    """

    _name = "jaccard_score"

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return ratio(hits, predicted + actual - hits)


class FBetaMulti(LabelScore):
    """The weighted harmonic mean of precision and recall.

    Args:
        beta: Weight of recall relative to precision.
        thresh: A label is predicted where its probability is at least this.
        sigmoid: Predictions are logits.
        labels: The labels to average over; by default all.
        average: "macro", the mean over labels; "weighted", by how often each is the target; "micro", over all decisions; None, a
            value for each.
        ignore_index: Targets of this value do not count, label by label.
    """

    _name = "fbeta_score"

    @checked
    def __init__(
        self,
        beta: float,
        thresh: float = 0.5,
        sigmoid: bool = True,
        labels: Sequence[int] | None = None,
        average: str | None = "macro",
        *,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(thresh, sigmoid, labels, average, ignore_index=ignore_index)
        self.beta = beta

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return f_beta(self.beta, hits, predicted, actual)


class F1ScoreMulti(LabelScore):
    """The harmonic mean of precision and recall.

    Args:
        thresh: A label is predicted where its probability is at least this.
        sigmoid: Predictions are logits.
        labels: The labels to average over; by default all.
        average: "macro", the mean over labels; "weighted", by how often each is the target; "micro", over all decisions; None, a
            value for each.
        ignore_index: Targets of this value do not count, label by label.
    """

    _name = "f1_score"

    def score(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return f_beta(1.0, hits, predicted, actual)


class _AllDecisions(CountScore):
    """Base of scores over all decisions.

    Args:
        thresh: A label is predicted where its probability is at least this.
        sigmoid: Predictions are logits.
        ignore_index: Targets of this value do not count, label by label.
    """

    @checked
    def __init__(self, thresh: float = 0.5, sigmoid: bool = True, *, ignore_index: int | None = None) -> None:
        super().__init__(LabelCounts(thresh, sigmoid, ignore_index))


class HammingLossMulti(_AllDecisions):
    """The share of wrong decisions, over all samples and labels.

    Args:
        thresh: A label is predicted where its probability is at least this.
        sigmoid: Predictions are logits.
        ignore_index: Targets of this value do not count, label by label.
    """

    _name = "hamming_loss"
    higher_is_better = False

    def of_counts(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Any:
        return (predicted + actual - 2 * hits).sum() / wide(self.operands[0].cells)


class MatthewsCorrCoefMulti(_AllDecisions):
    """The correlation of predicted and true decisions, over all samples and labels; 0 where either is always the same.

    Args:
        thresh: A label is predicted where its probability is at least this.
        sigmoid: Predictions are logits.
        ignore_index: Targets of this value do not count, label by label.
    """

    _name = "matthews_corrcoef"

    def of_counts(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Any:
        total = torch.as_tensor(wide(self.operands[0].cells), dtype=hits.dtype)
        yes = torch.stack([hits.sum(), predicted.sum(), actual.sum()])
        no = torch.stack([total - yes[1] - yes[2] + yes[0], total - yes[1], total - yes[2]])
        hits, predicted, actual = torch.stack([no, yes], dim=1)
        return matthews(hits, predicted, actual, total)
