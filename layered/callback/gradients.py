"""What happens to gradients between the backward pass and the step: accumulation over batches, and clipping."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from layered.foundation import BadArgument, OutOfRange, find_bs, local_part, whole_number
from layered.loop import (
    STEP,
    Amount,
    Callback,
    CancelBatchException,
    CancelStepException,
    Numbers,
    Optimizers,
    sum_of_processes,
)
from layered.nn import reduction_of


@runtime_checkable
class Synchronised(Protocol):
    """A model that averages its gradients over processes, such as torch's `DistributedDataParallel`."""

    def no_sync(self) -> AbstractContextManager[None]:
        """A context in which it does not."""


class GradientAccumulation(Callback):
    """Steps once for every `n_acc` samples (not batches): the effect of a large batch on a small device.

    The gradient of a step is that of the loss over all samples accumulated for it, even if batches differ in size, in the
    weights of their classes or in how many targets are ignored, or an epoch ends early: the last step of an epoch takes the
    samples that are left. A loss that does not say what it averages over is taken as a mean over samples. Several processes
    accumulate `n_acc` samples together, and average gradients once for each step.

    Args:
        n_acc: Number of samples.

    Raises:
        BadArgument: `n_acc` is not a whole number.
        OutOfRange: `n_acc` is below 1.
    """

    order = 6
    run_valid = False
    transient = ("rows", "learned", "weight", "full", "stepped", "_unsynced")
    state_kinds = (("count", Amount), ("total", Numbers))

    def __init__(self, n_acc: int = 32) -> None:
        count = whole_number(n_acc)
        if count is None:
            raise BadArgument("n_acc must be a number of samples", got=repr(n_acc), expected="a whole number from 1")
        if count < 1:
            raise OutOfRange("n_acc must be a number of samples", got=n_acc, expected="at least 1")
        self.n_acc, self.count = count, 0.0  # samples accumulated before this batch
        self.rows = self.learned = 0.0  # samples of this batch, and those of them that had a backward pass
        self.total: Any = 0.0  # what the mean loss of the accumulated samples divides by
        self.weight: Any = 0.0  # and that of this batch
        self.full = self.stepped = False
        self._unsynced = ExitStack()

    def before_fit(self) -> None:
        self.count = self.total = 0
        self.learn.shares_loss = True

    def before_batch(self) -> None:
        learn = self.learn
        rows = sum_of_processes(find_bs(learn.yb or learn.xb))
        self.rows, self.learned, self.stepped = rows, 0, False
        self.full = self.count + self.rows >= self.n_acc or learn.iter + 1 == learn.n_iter
        if not self.full and isinstance(learn.model, Synchronised):
            self._unsynced.enter_context(learn.model.no_sync())

    def after_loss(self) -> None:
        learn, shares = self.learn, self.learn.loss_shares
        if learn.loss_grad is None:
            return
        self.weight = self.rows
        if len(shares) == 1 and shares[0][1] is not None:
            self.weight = shares[0][1]
        if self._is_sum:
            self.weight = 0.0
        elif isinstance(self.weight, Tensor):  # the mean of nothing is nan
            learn.loss_grad = torch.where(self.weight > 0, learn.loss_grad * (self.weight / self.n_acc), 0.0)
        else:
            learn.loss_grad = learn.loss_grad * (self.weight / self.n_acc)

    def before_backward(self) -> None:
        self.learned = self.rows

    def after_cancel_backward(self) -> None:
        self.learned = 0

    def before_step(self) -> None:
        if not self.full:
            raise CancelBatchException
        if self.count + self.learned == 0:
            raise CancelStepException
        total = self.total + (self.weight if self.learned else 0)
        if not self._is_sum and (isinstance(total, Tensor) or total != self.n_acc):
            factor = (
                torch.where(total > 0, self.n_acc / total, 0.0) if isinstance(total, Tensor) else self.n_acc / total
            )
            torch._foreach_mul_([local_part(p.grad) for p in with_gradient(self.learn.opt)], factor)
        self.stepped = True

    def after_batch(self) -> None:
        self._unsynced.close()
        if self.stepped:
            self.count = self.total = 0
        elif self.learned:
            self.count, self.total = self.count + self.learned, self.total + self.weight
        self.learned, self.stepped = 0, False

    def after_train(self) -> None:
        """Step with the samples that are left if the pass ended before its last batch, for example by cancelling."""
        learn = self.learn
        self.after_batch()  # a pass that was cancelled may have skipped it
        if self.count:
            if isinstance(learn.model, Synchronised):  # its last backward passes ran under no_sync
                _average_over_processes(learn.model)
            self.full = True
            learn.within(STEP, learn.opt.step)
            learn.opt.zero_grad()
            self.count = self.total = 0

    @property
    def _is_sum(self) -> bool:
        return self.learn.step is None and reduction_of(self.learn.loss_func) == "sum"

    def on_end(self) -> None:
        self._unsynced.close()


def with_gradient(opt: torch.optim.Optimizer | Optimizers) -> list[Any]:
    """The parameters of an optimizer that have a gradient.

    Args:
        opt: One optimizer, or several in one.
    """
    return [p for group in opt.param_groups for p in group["params"] if p.grad is not None]


def _average_over_processes(model: nn.Module) -> None:
    for p in model.parameters():
        if p.grad is not None:
            torch.distributed.all_reduce(p.grad)
            p.grad /= torch.distributed.get_world_size()


class GradientClip(Callback):
    """Scales the gradient down so that its norm is at most `max_norm`: after unscaling, before the step.

    With several optimizers, the norm is that of the parameters of the one that steps. A gradient that is not finite is left
    alone: scaling would spread its NaN to all parameters.

    Args:
        max_norm: The largest norm.
        norm_type: Order of the norm: 2, or `float("inf")` for the largest component.

    Raises:
        OutOfRange: `max_norm` is not above 0.
    """

    order = 11
    state_kinds = ()

    def __init__(self, max_norm: float = 1.0, norm_type: float = 2.0) -> None:
        if not max_norm > 0:
            raise OutOfRange("max_norm must be positive", got=max_norm, expected="more than 0")
        self.max_norm, self.norm_type = max_norm, norm_type

    def before_step(self) -> None:
        parameters = with_gradient(self.learn.opt)
        norm = nn.utils.get_total_norm([p.grad for p in parameters], self.norm_type)
        nn.utils.clip_grads_with_norm_(parameters, self.max_norm, torch.where(norm.isfinite(), norm, 0.0))
