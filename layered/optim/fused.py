"""Recipes that torch has a single kernel for: the same numbers up to rounding, each read from memory once a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from layered.optim.stats import average_grad, average_sqr_grad, sum_sqr_grad
from layered.optim.steppers import adagrad_step, adam_step, l2_reg, momentum_step, sgd_step, weight_decay
from layered.optim.update import Slab, Update

_ORDERS = (torch.contiguous_format, torch.channels_last)
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class Kernel(NamedTuple):
    """A whole step as a single call.

    Args:
        run: The step, on a slab that fits.
        stats: The statistics that it reads and updates.
        devices: Kinds of devices that torch has the kernel for.
    """

    run: Callable[[Slab], None]
    stats: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("cpu", "cuda")

    def step(self, slab: Slab) -> None:
        """Update a slab, and tell autograd, which does not learn it from the kernels, that its tensors have changed.

        Args:
            slab: The parameters to update.
        """
        self.run(slab)
        for tensors in (slab.params, *map(slab.__getitem__, self.stats)):
            increment_version(tensors)

    def fits(self, slab: Slab) -> bool:
        """Whether it computes what the recipe says for this slab.

        The kernels go through memory in order, without a look at strides: a transposed gradient would be added to the wrong
        elements. With a momentum of 0 they leave the running mean as it is.

        Args:
            slab: The parameters to update.
        """
        first = slab.params[0]
        if first.device.type not in self.devices or first.dtype not in _DTYPES or isinstance(slab.hyper["lr"], Tensor):
            return False
        if "grad_avg" in self.stats and slab.hyper["mom"] == 0:
            return False
        columns = [slab.params, slab.grads, *map(slab.__getitem__, self.stats)]
        if {grad.dtype for grad in slab.grads} != {first.dtype}:
            return False
        return all(all(map(Tensor.is_contiguous, tensors)) for tensors in columns) or all(
            any(all(t.is_contiguous(memory_format=order) for t in row) for order in _ORDERS)
            for row in zip(*columns, strict=True)
        )


def _adam(step: Callable[..., None], slab: Slab) -> None:
    h = slab.hyper
    step(
        slab.params,
        slab.grads,
        slab["grad_avg"],
        slab["sqr_avg"],
        [],
        _counts(slab),
        lr=h["lr"],
        beta1=h["mom"],
        beta2=h["sqr_mom"],
        weight_decay=h["wd"] if slab.do_wd else 0.0,
        eps=h["eps"],
        amsgrad=False,
        maximize=False,
    )


def _sgd(slab: Slab, has_momentum: bool, decoupled: bool) -> None:
    h = slab.hyper
    if decoupled:
        weight_decay(slab)
    torch._fused_sgd_(
        slab.params,
        slab.grads,
        slab["grad_avg"] if has_momentum else [],
        weight_decay=h["wd"] if slab.do_wd and not decoupled else 0.0,
        momentum=h["mom"] if has_momentum else 0.0,
        lr=h["lr"],
        dampening=0.0,
        nesterov=False,
        maximize=False,
        is_first_step=False,
    )


def _adagrad(slab: Slab, decoupled: bool) -> None:
    h = slab.hyper
    if decoupled:
        weight_decay(slab)
    torch._fused_adagrad_(
        slab.params,
        slab.grads,
        slab["sqr_sum"],
        _counts(slab),
        lr=h["lr"],
        lr_decay=0.0,
        weight_decay=h["wd"] if slab.do_wd and not decoupled else 0.0,
        eps=h["eps"],
        maximize=False,
    )


def _counts(slab: Slab) -> list[Tensor]:
    return [torch.full((), slab.count, dtype=torch.float32, device=slab.params[0].device)] * len(slab.params)


_ADAM = ((average_grad, ("dampening",)), average_sqr_grad, adam_step)
_KERNELS: dict[tuple[object, ...], Kernel] = {
    (weight_decay, *_ADAM): Kernel(partial(_adam, torch._fused_adamw_), ("grad_avg", "sqr_avg")),
    (l2_reg, *_ADAM): Kernel(partial(_adam, torch._fused_adam_), ("grad_avg", "sqr_avg")),
    (weight_decay, sgd_step): Kernel(partial(_sgd, has_momentum=False, decoupled=True)),
    (l2_reg, sgd_step): Kernel(partial(_sgd, has_momentum=False, decoupled=False)),
    (weight_decay, average_grad, momentum_step): Kernel(partial(_sgd, has_momentum=True, decoupled=True), ("grad_avg",)),
    (l2_reg, average_grad, momentum_step): Kernel(partial(_sgd, has_momentum=True, decoupled=False), ("grad_avg",)),
    (weight_decay, sum_sqr_grad, adagrad_step): Kernel(partial(_adagrad, decoupled=True), ("sqr_sum",), ("cpu",)),
    (l2_reg, sum_sqr_grad, adagrad_step): Kernel(partial(_adagrad, decoupled=False), ("sqr_sum",), ("cpu",)),
}  # fmt: skip


def kernel_for(updates: Sequence[Update]) -> Kernel | None:
    """The kernel that does what a recipe's updates do; None if there is none.

    Args:
        updates: In the order in which they run.

    Examples:
        >>> kernel_for([weight_decay, sgd_step]) is None, kernel_for([sgd_step, weight_decay]) is None
        (False, True)
    """
    return _KERNELS.get(tuple(map(_known_as, updates)))


def _known_as(update: Update) -> object:
    """An update, or for a partial its function and what is switched on."""
    if not isinstance(update, partial):
        return update
    is_switched_on = not update.args and all(value is True for value in update.keywords.values())
    return (update.func, tuple(update.keywords)) if is_switched_on else update
