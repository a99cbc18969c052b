"""What happens to gradients between the backward pass and the step: accumulation over batches, and clipping."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from layered.foundation import BadArgument, OutOfRange
from layered.loop import STEP, Callback, CancelBatchException, CancelStepException, Optimizers, mean_rows


@runtime_checkable
class Synchronised(Protocol):
    """A model that averages its gradients over processes, such as torch's `DistributedDataParallel`."""

    def no_sync(self) -> AbstractContextManager[None]:
        """A context in which it does not."""


class GradientAccumulation(Callback):
    """Steps once for every `n_acc` samples (not batches): the effect of a large batch on a small device.

    The gradient of a step is that of the mean loss over all samples accumulated for it, even if batches differ in size or an
    epoch ends early: the last step of an epoch takes the samples that are left. Assumes a loss that is a mean over samples.
    Under `DistributedDataParallel` gradients are synchronised once for each step.

    Args:
        n_acc: Number of samples.

    Raises:
        BadArgument: `n_acc` is not a whole number.
        OutOfRange: `n_acc` is below 1.
    """

    order = 6
    run_valid = False
    transient = ("rows", "learned", "full", "stepped", "_unsynced")

    def __init__(self, n_acc: int = 32) -> None:
        if not isinstance(n_acc, int) or isinstance(n_acc, bool):
            raise BadArgument("n_acc must be a number of samples", got=repr(n_acc), expected="a whole number from 1")
        if n_acc < 1:
            raise OutOfRange("n_acc must be a number of samples", got=n_acc, expected="at least 1")
        self.n_acc, self.count = n_acc, 0.0  # samples accumulated before this batch
        self.rows = self.learned = 0.0  # samples of this batch, and those of them that had a backward pass
        self.full = self.stepped = False
        self._unsynced = ExitStack()

    def before_fit(self) -> None:
        self.count = 0

    def before_batch(self) -> None:
        learn = self.learn
        self.rows, self.learned, self.stepped = mean_rows(learn), 0, False
        self.full = self.count + self.rows >= self.n_acc or learn.iter + 1 == learn.n_iter
        if not self.full and isinstance(learn.model, Synchronised):
            self._unsynced.enter_context(learn.model.no_sync())

    def after_loss(self) -> None:
        learn = self.learn
        learn.loss_grad = learn.loss_grad * (self.rows / self.n_acc)

    def before_backward(self) -> None:
        self.learned = self.rows

    def after_cancel_backward(self) -> None:
        self.learned = 0

    def before_step(self) -> None:
        if not self.full:
            raise CancelBatchException
        count = self.count + self.learned
        if count == 0:
            raise CancelStepException
        if count != self.n_acc:
            torch._foreach_mul_([p.grad for p in with_gradient(self.learn.opt)], self.n_acc / count)
        self.stepped = True

    def after_batch(self) -> None:
        self._unsynced.close()
        self.count = 0 if self.stepped else self.count + self.learned
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
            self.count = 0

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

    def __init__(self, max_norm: float = 1.0, norm_type: float = 2.0) -> None:
        if not max_norm > 0:
            raise OutOfRange("max_norm must be positive", got=max_norm, expected="more than 0")
        self.max_norm, self.norm_type = max_norm, norm_type

    def before_step(self) -> None:
        parameters = with_gradient(self.learn.opt)
        norm = nn.utils.get_total_norm([p.grad for p in parameters], self.norm_type)
        nn.utils.clip_grads_with_norm_(parameters, self.max_norm, torch.where(norm.isfinite(), norm, 0.0))
