"""`VectorPenalty`: keeps the vectors of users and items short."""

from __future__ import annotations

from layered.collab.models import ByName
from layered.foundation import BadValue
from layered.loop import Callback


class VectorPenalty(Callback):
    """Adds a penalty to what is differentiated: for each choice, `l2` times the squares of the vectors of its user and its item.

    So those who chose much, and items that many chose, pay more, as in alternating least squares. What is learnt of features is
    free, so that a vector holds only what its features do not say. The reported loss stays as it was. The model is an
    `EmbeddingDotBias` or `EmbeddingNN`, and batches are of choices.

    Args:
        l2: The factor, from 0.

    Raises:
        BadValue: If `l2` is below 0.

    Source: Zhou et al. 2008, Large-scale Parallel Collaborative Filtering for the Netflix Prize (weighted lambda regularization)
    """

    state_kinds = ()

    def __init__(self, l2: float = 0.06) -> None:
        if not l2 >= 0:
            raise BadValue("l2 must not be negative", got=l2, fix="l2=0.06")
        self.l2 = l2

    def after_loss(self) -> None:
        if self.training and isinstance(self.model, ByName):
            of_users, of_items = (table.weight for table in self.model.embeddings()[:2])
            codes, weights = self.xb[0], self.yb[0].clamp(min=0)
            users = weights.sum(1) @ of_users[codes[:, 0]].square().sum(1)
            if codes.shape[1] == 1:
                items = weights.sum(0) @ of_items.square().sum(1)
            else:
                items = (weights * of_items[codes[:, 1:]].square().sum(2)).sum()
            self.learn.loss_grad = self.loss_grad + self.l2 * (users + items) / len(codes)
