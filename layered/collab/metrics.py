"""How well items are ranked: metrics of the first k items of each user, for a fit's table and for `ranking_scores`.

They take scores [user, item] and targets [user, item]: above 0 for the items that a user chose, 0 for others, and below 0 for
those that are left out, such as the items of training. Values are means over the users that have chosen something.
"""

from __future__ import annotations

import torch
from torch import Tensor

from layered.collab.choices import scores_and_targets
from layered.metrics import Metric, register_metric
from layered.tabular import checked_size


class AtK(Metric):
    """Base of the metrics of the first k items. A subclass defines `of_users`.

    Args:
        k: How many items count; where there are fewer, all do.

    Raises:
        BadArgument: If k is not a whole number.
        BadValue: If k < 1; and in `update`, if scores and targets are not [user, item].
    """

    state = "total", "users"
    total: Tensor | int
    users: Tensor | int
    higher_is_better = True
    title = ""

    def __init__(self, k: int = 10) -> None:
        self.k = checked_size("k", k)

    @property
    def name(self) -> str:
        """Such as "ndcg@10"."""
        return self._name or f"{self.title}@{self.k}"

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    def update(self, pred: Tensor, targ: Tensor) -> None:
        fix = "CollabDataLoaders.from_df(df, implicit=True), or ranking_scores(learn) for a learner of ratings"
        pred, targ = scores_and_targets(pred, targ, f"{self.name} ranks the items of each user", fix)
        best = pred.masked_fill(targ < 0, -torch.inf).topk(min(self.k, pred.shape[1]), dim=1).indices
        hits, chosen = (targ.gather(1, best) > 0).double(), (targ > 0).sum(1)
        counts = chosen > 0
        self.total += torch.where(counts, self.of_users(hits, chosen.clamp(min=1)), 0.0).sum()
        self.users += counts.sum()

    def compute(self) -> Tensor | float:
        return self.total / self.users

    def of_users(self, hits: Tensor, chosen: Tensor) -> Tensor:
        """The value for each user: float64 [user].

        Args:
            hits: Which of the first k items were chosen, the best first: float64 [user, k].
            chosen: How many items the user chose: int64 [user].
        """
        raise NotImplementedError


def ranks(hits: Tensor) -> Tensor:
    """1, 2, … k, as float64."""
    return torch.arange(1, hits.shape[1] + 1, device=hits.device).double()


class NDCGAtK(AtK):
    """Normalised discounted cumulative gain: a chosen item at rank r gains 1 / log2(r + 1), relative to the best order.

    Source: Järvelin & Kekäläinen 2002

    Examples:
        >>> NDCGAtK(2)(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[0, 1, 0]]))
        0.6309297535714575
    """

    title = "ndcg"

    def of_users(self, hits: Tensor, chosen: Tensor) -> Tensor:
        gains = 1 / (ranks(hits) + 1).log2()
        best = gains.cumsum(0)[chosen.clamp(max=len(gains)) - 1]
        return (hits * gains).sum(1) / best


class RecallAtK(AtK):
    """The share of what a user chose that is among the first k items.

    Examples:
        >>> RecallAtK(2)(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[0, 1, 1]]))
        0.5
    """

    title = "recall"

    def of_users(self, hits: Tensor, chosen: Tensor) -> Tensor:
        return hits.sum(1) / chosen


class PrecisionAtK(AtK):
    """The share of the first k items that the user chose; k counts even where there are fewer items.

    Examples:
        >>> PrecisionAtK(2)(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[0, 1, 1]]))
        0.5
    """

    title = "precision"

    def of_users(self, hits: Tensor, chosen: Tensor) -> Tensor:
        return hits.sum(1) / self.k


class HitRateAtK(AtK):
    """The share of users who find something that they chose among the first k items.

    Examples:
        >>> HitRateAtK(2)(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[0, 1, 1]]))
        1.0
    """

    title = "hit_rate"

    def of_users(self, hits: Tensor, chosen: Tensor) -> Tensor:
        return hits.amax(1)


class MAPAtK(AtK):
    """Mean average precision: the mean of the precision at the rank of each hit, over min(k, number of chosen items).

    Examples:
        >>> MAPAtK(3)(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[1, 0, 1]]))
        0.8333333333333333
    """

    title = "map"

    def of_users(self, hits: Tensor, chosen: Tensor) -> Tensor:
        precision = hits.cumsum(1) / ranks(hits)
        return (precision * hits).sum(1) / chosen.clamp(max=self.k)


class MRRAtK(AtK):
    """Mean reciprocal rank: 1 / the rank of the first item that the user chose, 0 if it is not among the first k.

    Examples:
        >>> MRRAtK(3)(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[0, 1, 1]]))
        0.5
    """

    title = "mrr"

    def of_users(self, hits: Tensor, chosen: Tensor) -> Tensor:
        return (hits / ranks(hits)).amax(1)


AT_K = (NDCGAtK, RecallAtK, PrecisionAtK, MAPAtK, MRRAtK, HitRateAtK)
for _kind in AT_K:
    for _name in (f"{_kind.title}_at_k", f"{_kind.title}@10"):
        register_metric(_name, _kind)
