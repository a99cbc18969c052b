"""The loss of one process among several, weighted so that the mean of their gradients is that of the whole batch."""

from __future__ import annotations

import torch
from torch import distributed

from layered.foundation import find_bs, rank_and_world
from layered.loop.callback import Callback
from layered.nn import counted, reduction_of


class SharedLoss(Callback):
    """Weights the loss of each process by its share of the rows, or of what its mean divides by; `fit` adds it.

    So the averaged gradient is that of the whole batch even if it is ragged or weighted, and the mean of the reported losses is
    its loss. It acts after the callbacks that change the loss, such as MixUp, and before accumulation. In a single process it
    changes nothing.
    """

    order = 5
    observes = True
    state_kinds = ()

    def before_fit(self) -> None:
        self.learn.shares_loss |= rank_and_world()[1] > 1

    def after_loss(self) -> None:
        learn, world = self.learn, rank_and_world()[1]
        loss, shares = learn.loss_grad, list(learn.loss_shares)
        if world == 1 or not learn.training or loss is None:
            return
        if learn.step is None and reduction_of(learn.loss_func) == "sum":
            learn.loss_grad, learn.loss = loss * world, learn.loss * world
            return
        whole = sum(part for part, _ in shares)
        rest = [] if len(shares) == 1 and loss is shares[0][0] else [(loss - whole, None)]  # what callbacks have added
        if shares and rest:
            rest = [(torch.where(torch.isnan(whole), 0.0, rest[0][0]), None)]  # the mean of nothing is nan
        parts = counted([*shares, *rest], find_bs(learn.yb or learn.xb))
        own = torch.stack([torch.as_tensor(count, device=loss.device) for _, count in parts]).double()
        total = own.clone()
        distributed.all_reduce(total)
        weights = torch.where(own > 0, own * world / total, 0.0).to(loss.dtype)
        weighted = [torch.where(w > 0, part * w, 0.0) for (part, _), w in zip(parts, weights, strict=True)]
        learn.loss_grad = torch.stack(weighted).sum()
        if len(shares) > 1:
            learn.loss = learn.loss + (sum(weighted[: len(shares)]) - whole).detach()
        else:
            learn.loss = torch.where(weights[0] > 0, learn.loss * weights[0], 0.0)
        counts = total[: len(shares)].to(loss.dtype)
        learn.loss_shares = [(part, count) for (part, _), count in zip(shares, counts, strict=True)]
