"""Statistics: what an optimizer remembers about each parameter. Each docstring is its formula, for a whole slab at once."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from layered.foundation import full_tensor, has_sharded
from layered.optim.update import Slab, elementwise, hyper_defaults, keeps


@elementwise
@keeps(grad_avg=torch.zeros_like)
@hyper_defaults(mom=0.9)
def average_grad(slab: Slab, dampening: bool = False) -> None:
    """The running mean of the gradients.

        grad_avg <- mom * grad_avg + grad                    as SGD's momentum is usually written
        grad_avg <- mom * grad_avg + (1 - mom) * grad        with `dampening`

    Args:
        slab: The parameters to update.
        dampening: Weight the gradient by 1 - mom, as Adam does: `partial(average_grad, dampening=True)`.
    """
    avg, mom = slab["grad_avg"], slab.hyper["mom"]
    if dampening:
        torch._foreach_lerp_(avg, slab.grads, 1 - mom)
    else:
        torch._foreach_mul_(avg, mom)
        torch._foreach_add_(avg, slab.grads)


mean_grad = partial(average_grad, dampening=True)
"""Adam's running mean of the gradients."""


@elementwise
@keeps(sqr_avg=torch.zeros_like)
@hyper_defaults(sqr_mom=0.99)
def average_sqr_grad(slab: Slab, dampening: bool = True) -> None:
    """The running mean of the squared gradients.

        sqr_avg <- sqr_mom * sqr_avg + (1 - sqr_mom) * grad^2
        sqr_avg <- sqr_mom * sqr_avg + grad^2                without `dampening`

    Args:
        slab: The parameters to update.
        dampening: Weight the square by 1 - sqr_mom.
    """
    sqr, sqr_mom = slab["sqr_avg"], slab.hyper["sqr_mom"]
    torch._foreach_mul_(sqr, sqr_mom)
    torch._foreach_addcmul_(sqr, slab.grads, slab.grads, 1 - sqr_mom if dampening else 1)


@elementwise
@keeps(sqr_sum=torch.zeros_like)
def sum_sqr_grad(slab: Slab) -> None:
    """sqr_sum <- sqr_sum + grad^2

    Args:
        slab: The parameters to update.
    """
    torch._foreach_addcmul_(slab["sqr_sum"], slab.grads, slab.grads)


def step_stat(slab: Slab) -> None:
    """step <- the number of this step, from 1 (`slab.count`), for per-tensor steps that take an argument `step`.

    Args:
        slab: The parameters to update.
    """
    slab["step"] = [slab.count] * len(slab.params)


@hyper_defaults(trust_coeff=0.02, wd=0.0, eps=1e-8)
def larc_layer_lr(slab: Slab, clip: bool = True) -> None:
    """A learning rate for each tensor: the larger its norm relative to its gradient's, the higher the rate.

        local_lr <- lr * trust_coeff * |param| / (|grad| + wd * |param| + eps)        at most lr, with `clip`

    A tensor of zeros gets lr; by the formula its rate would be 0, and it could never be trained.

    Args:
        slab: The parameters to update.
        clip: Never exceed `lr`.

    Source: You et al. 2017, arXiv:1708.03888, equation 6
    """
    h, wd = slab.hyper, slab.hyper["wd"] if slab.do_wd else 0
    length, grad_length = norms(slab.params), norms(slab.grads)
    local = h["lr"] * h["trust_coeff"] * length / (grad_length + wd * length + h["eps"])
    local = local.where(length > 0, h["lr"])
    if clip:
        local = local.clamp(max=h["lr"])
    slab["local_lr"] = [rate.clone() for rate in local]  # cloned: saving a view would save the memory of all rates


def norms(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """The Euclidean norm of each tensor, in float32 or wider; shape [tensors].

    Args:
        tensors: At least one tensor; all of the same dtype.
    """
    wide = torch.promote_types(tensors[0].dtype, torch.float32)
    if has_sharded(tensors):
        return torch.stack([full_tensor(torch.linalg.vector_norm(x, dtype=wide)) for x in tensors])
    return torch.stack(torch._foreach_norm(tensors, dtype=wide))


def debias(mom: float, damp: float, step: int) -> float:
    """The sum of the weights in a running mean, avg <- mom * avg + damp * value, after `step` steps from zero.

    Dividing the mean by it makes the mean unbiased from the first step on.

    Args:
        mom: Weight of the old mean.
        damp: Weight of the new value.
        step: Number of steps taken.

    Source: Kingma & Ba 2014, arXiv:1412.6980, section 3

    Examples:
        >>> debias(0.9, 0.1, step=1), debias(0.5, 1, step=3)
        (0.1, 1.75)
    """
    return damp * step if mom == 1 else damp * (1 - mom**step) / (1 - mom)
