"""What happens to gradients between the backward pass and the step: gathered over batches, clipped."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from layered.foundation.errors import OutOfRange
from layered.foundation.tree import find_bs
from layered.loop.callback import Callback
from layered.loop.events import CancelBatchException


class GradientAccumulation(Callback):
    """Steps once for every `n_acc` samples (not batches): a large batch on a small device.

    The gradient of a step is that of the mean loss over all samples gathered for it, also where batches differ in
    size and where an epoch ends before `n_acc` are together (its last batch steps with what there is).
    Assumes a loss that is a mean over samples.
    """

    order = 6
    run_valid = False

    def __init__(self, n_acc: int = 32) -> None:
        if n_acc < 1:
            raise OutOfRange("n_acc is a number of samples", got=n_acc, expected="at least 1")
        self.n_acc, self.count = n_acc, 0

    def before_fit(self) -> None:
        self.count = 0

    def after_loss(self) -> None:
        learn = self.learn
        learn.loss_grad = learn.loss_grad * (self._rows() / self.n_acc)

    def before_step(self) -> None:
        learn = self.learn
        self.count += self._rows()
        if self.count < self.n_acc and learn.iter + 1 != learn.n_iter:
            raise CancelBatchException
        if self.count != self.n_acc:
            grads = [p.grad for p in learn.model.parameters() if p.grad is not None]
            torch._foreach_mul_(grads, self.n_acc / self.count)
        self.count = 0

    def _rows(self) -> int:
        learn = self.learn
        return find_bs(learn.yb or learn.xb)


class GradientClip(Callback):
    """Scales the gradient down so that its norm is at most `max_norm`; after unscaling, before the step.

    norm_type  order of the norm: 2, or `float("inf")` for the largest component
    """

    order = 11

    def __init__(self, max_norm: float = 1.0, norm_type: float = 2.0) -> None:
        self.max_norm, self.norm_type = max_norm, norm_type

    def before_step(self) -> Any:
        nn.utils.clip_grad_norm_(self.learn.model.parameters(), self.max_norm, self.norm_type)
