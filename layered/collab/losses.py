"""Losses of choices: the items that a user chose should score higher than the others.

They take scores [row, item] and targets [row, item]: the weight of a choice (> 0), 0 for an item that was not chosen, and
below 0 for one that is not compared. The loss of a row is the sum over its choices, times their weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from layered.collab.choices import scores_and_targets
from layered.foundation import BadValue, Recorded, default_losses, losses


class RankingLoss(Recorded):
    """Base of the losses of choices.

    Args:
        reduction: "mean" over rows, "sum", or "none".

    Raises:
        BadValue: For another reduction; and when called, if scores and targets are not [row, item].
    """

    def __init__(self, reduction: str = "mean") -> None:
        if reduction not in ("mean", "sum", "none"):
            raise BadValue("unknown reduction", got=repr(reduction), expected="'mean', 'sum' or 'none'")
        self.reduction = reduction

    def __call__(self, pred: Tensor, target: Tensor) -> Tensor:
        role = f"{type(self).__name__} compares the scores of several items for each row"
        fix = "CollabDataLoaders.from_df(df, implicit=True) makes such batches"
        pred, target = scores_and_targets(pred, target, role, fix)
        rows = self.of_rows(pred.float(), target)
        return rows if self.reduction == "none" else rows.sum() if self.reduction == "sum" else rows.mean()

    def of_rows(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of each row: float32 [row].

        Args:
            scores: float32 [row, item].
            targets: float32 [row, item].
        """
        raise NotImplementedError

    def activation(self, x: Tensor) -> Tensor:
        """The scores themselves: they order the items of a user, and have no unit."""
        return x

    def decodes(self, x: Tensor) -> Tensor:
        """The scores themselves."""
        return x


@losses.register()
class SoftmaxRankingLoss(RankingLoss):
    """The negative logarithm of the probability of each choice, among all items of its row that are compared.

    With `negatives=`, this is a sampled softmax.

    Examples:
        >>> SoftmaxRankingLoss()(torch.zeros(1, 4), torch.tensor([[1.0, 0.0, 0.0, -1.0]]))
        tensor(1.0986)

    Source: Liang et al. 2018, Variational Autoencoders for Collaborative Filtering, equation 2 (the multinomial likelihood)
    """

    def of_rows(self, scores: Tensor, targets: Tensor) -> Tensor:
        logs = scores.masked_fill(targets < 0, -torch.inf).log_softmax(1)
        return -(targets.clamp(min=0) * logs.masked_fill(targets <= 0, 0)).sum(1)


default_losses.add("ranking", SoftmaxRankingLoss)


class PairwiseLoss(RankingLoss):
    """Base of losses that compare each choice with each item of its row that was not chosen."""

    def of_rows(self, scores: Tensor, targets: Tensor) -> Tensor:
        rows, items = (targets > 0).nonzero(as_tuple=True)
        ahead = scores[rows, items][:, None] - scores[rows]  # [choice, item]
        is_other = targets[rows] == 0
        values = self.of_choices(ahead, is_other) * targets[rows, items]
        return scores.new_zeros(len(scores)).index_add_(0, rows, values)

    def of_choices(self, ahead: Tensor, is_other: Tensor) -> Tensor:
        """The loss of each choice: float32 [choice].

        Args:
            ahead: How much higher it scores than each item: float32 [choice, item].
            is_other: Which of these items were not chosen: bool [choice, item].
        """
        raise NotImplementedError


@losses.register()
class BPRLoss(PairwiseLoss):
    """Bayesian personalised ranking: minus the logarithm of the probability that a choice scores higher than another item.

    Over all items at once this takes memory for each choice and each item; `negatives=` keeps it small.

    Examples:
        >>> BPRLoss()(torch.zeros(1, 4), torch.tensor([[1.0, 0.0, 0.0, -1.0]]))
        tensor(0.6931)

    Source: Rendle et al. 2009, arXiv:1205.2618
    """

    def of_choices(self, ahead: Tensor, is_other: Tensor) -> Tensor:
        return (F.softplus(-ahead) * is_other).sum(1) / is_other.sum(1).clamp(min=1)


@losses.register()
class WARPLoss(PairwiseLoss):
    """Weighted approximate-rank pairwise loss: the margin by which items come too close to a choice, and more for a low rank.

    The rank is counted among the items of the row that were not chosen, so nothing is drawn.

    Examples:
        >>> WARPLoss()(torch.zeros(1, 4), torch.tensor([[1.0, 0.0, 0.0, -1.0]]))
        tensor(1.0986)

    Source: Weston, Bengio, Usunier 2011, WSABIE; the weight is log(1 + rank), for the sum of 1 / i
    """

    def of_choices(self, ahead: Tensor, is_other: Tensor) -> Tensor:
        missing = (1 - ahead).clamp(min=0) * is_other  # of a margin of 1
        rank = (missing > 0).sum(1)
        return rank.log1p() * missing.sum(1) / rank.clamp(min=1)
