"""Steps: how gradients and statistics change the parameters. Each docstring is its formula, for a whole slab at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from layered.foundation import local_part
from layered.optim.stats import debias, norms
from layered.optim.update import Slab, Update, elementwise, hyper_defaults, keeps


@elementwise
@hyper_defaults(wd=0.0)
def weight_decay(slab: Slab) -> None:
    """param <- param * (1 - lr * wd): decay decoupled from the gradient.

    Args:
        slab: The parameters to update.

    Source: Loshchilov & Hutter 2017, arXiv:1711.05101
    """
    if slab.do_wd and slab.hyper["wd"] != 0:
        torch._foreach_mul_(slab.params, 1 - slab.hyper["lr"] * slab.hyper["wd"])


@elementwise
@hyper_defaults(wd=0.0)
def l2_reg(slab: Slab) -> None:
    """grad <- grad + wd * param: as if the loss included wd / 2 * |param|^2.

    Must come before the statistics, which are to see the changed gradients.

    Args:
        slab: The parameters to update.
    """
    if slab.do_wd and slab.hyper["wd"] != 0:
        torch._foreach_add_(slab.grads, slab.params, alpha=slab.hyper["wd"])


def decay(decoupled: bool) -> Update:
    """The decay step: of the parameters themselves, or through the gradients.

    Args:
        decoupled: Of the parameters themselves.
    """
    return weight_decay if decoupled else l2_reg


@elementwise
def sgd_step(slab: Slab) -> None:
    """param <- param - lr * grad

    Args:
        slab: The parameters to update.
    """
    torch._foreach_add_(slab.params, slab.grads, alpha=-slab.hyper["lr"])


@elementwise
def momentum_step(slab: Slab) -> None:
    """param <- param - lr * grad_avg

    Args:
        slab: The parameters to update.
    """
    torch._foreach_add_(slab.params, slab["grad_avg"], alpha=-slab.hyper["lr"])


@elementwise
@hyper_defaults(eps=1e-8)
def rms_prop_step(slab: Slab) -> None:
    """param <- param - lr * grad / (sqrt(sqr_avg) + eps), with grad_avg in place of grad where it is kept

    Args:
        slab: The parameters to update.

    Source: Tieleman & Hinton 2012, Coursera lecture 6.5
    """
    scale = torch._foreach_sqrt(slab["sqr_avg"])
    torch._foreach_add_(scale, slab.hyper["eps"])
    torch._foreach_addcdiv_(slab.params, grad_or_avg(slab), scale, -slab.hyper["lr"])


@elementwise
@hyper_defaults(eps=1e-10)
def adagrad_step(slab: Slab) -> None:
    """param <- param - lr * grad / (sqrt(sqr_sum) + eps)

    Args:
        slab: The parameters to update.

    Source: Duchi et al. 2011, JMLR 12, figure 1
    """
    scale = torch._foreach_sqrt(slab["sqr_sum"])
    torch._foreach_add_(scale, slab.hyper["eps"])
    torch._foreach_addcdiv_(slab.params, slab.grads, scale, -slab.hyper["lr"])


@elementwise
@hyper_defaults(eps=1e-5)
def adam_step(slab: Slab) -> None:
    """param <- param - lr * (grad_avg / bias) / (sqrt(sqr_avg / sqr_bias) + eps)

    with bias = 1 - mom^t, sqr_bias = 1 - sqr_mom^t, t = slab.count. The code multiplies both sides of the fraction by
    sqrt(sqr_bias), which saves a pass over the tensors.

    Args:
        slab: The parameters to update.

    Source: Kingma & Ba 2014, arXiv:1412.6980, section 2
    """
    (bias, sqr_bias), h = biases(slab), slab.hyper
    scale = torch._foreach_sqrt(slab["sqr_avg"])
    torch._foreach_add_(scale, h["eps"] * sqr_bias**0.5)
    torch._foreach_addcdiv_(slab.params, slab["grad_avg"], scale, -h["lr"] * sqr_bias**0.5 / bias)


@elementwise
@hyper_defaults(eps=1e-5, beta=0.0)
def radam_step(slab: Slab) -> None:
    """param <- param - lr * rect * (grad_avg / bias) * sqrt(sqr_bias) / (sqrt(sqr_avg) + eps)        if rho > 5
    param <- param - lr * grad_avg / bias                                                          before that

    with bias and sqr_bias as in `adam_step`, t = slab.count, and

        rho_inf = 2 / (1 - sqr_mom) - 1
        rho     = rho_inf - 2 * t * sqr_mom^t / sqr_bias
        rect    = sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))

    A `beta` other than 0 passes the denominator (sqrt(sqr_avg) + eps) / sqrt(sqr_bias) through softplus with this beta.

    Args:
        slab: The parameters to update.

    Source: Liu et al. 2019, arXiv:1908.03265, algorithm 2, with the threshold 5 of its authors' code and of torch instead of
    4; softplus: Tong et al. 2019, arXiv:1908.00700
    """
    (bias, sqr_bias), h, t = biases(slab), slab.hyper, slab.count
    rho_inf = 2 / (1 - h["sqr_mom"]) - 1
    rho = rho_inf - 2 * t * h["sqr_mom"] ** t / sqr_bias
    if rho <= 5:
        torch._foreach_add_(slab.params, slab["grad_avg"], alpha=-h["lr"] / bias)
        return
    rect = ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)) ** 0.5
    scale, root = torch._foreach_sqrt(slab["sqr_avg"]), sqr_bias**0.5
    torch._foreach_add_(scale, h["eps"])
    if h["beta"]:
        scale = tuple(F.softplus(one / root, h["beta"]) * root for one in scale)
    torch._foreach_addcdiv_(slab.params, slab["grad_avg"], scale, -h["lr"] * rect * root / bias)


@elementwise
@hyper_defaults(nu_1=0.7, nu_2=1.0, eps=1e-8)
def qhadam_step(slab: Slab) -> None:
    """param <- param - lr * ((1 - nu_1) * grad   + nu_1 * grad_avg / bias)
                     / (sqrt((1 - nu_2) * grad^2 + nu_2 * sqr_avg / sqr_bias) + eps)

    with bias and sqr_bias as in `adam_step`.

    Args:
        slab: The parameters to update.

    Source: Ma & Yarats 2018, arXiv:1810.06801, section 4
    """
    (bias, sqr_bias), h = biases(slab), slab.hyper
    top = torch._foreach_mul(slab["grad_avg"], h["nu_1"] / bias)
    torch._foreach_add_(top, slab.grads, alpha=1 - h["nu_1"])
    scale = torch._foreach_mul(slab["sqr_avg"], h["nu_2"] / sqr_bias)
    torch._foreach_addcmul_(scale, slab.grads, slab.grads, 1 - h["nu_2"])
    torch._foreach_sqrt_(scale)
    torch._foreach_add_(scale, h["eps"])
    torch._foreach_addcdiv_(slab.params, top, scale, -h["lr"])


@elementwise
@keeps(grad_avg=torch.zeros_like)
@hyper_defaults(mom=0.9, avg_mom=0.99)
def lion_step(slab: Slab) -> None:
    """param <- param - lr * sign(mom * grad_avg + (1 - mom) * grad)
    grad_avg <- avg_mom * grad_avg + (1 - avg_mom) * grad

    Args:
        slab: The parameters to update.

    Source: Chen et al. 2023, arXiv:2302.06675, algorithm 2
    """
    h = slab.hyper
    direction = torch._foreach_lerp(slab["grad_avg"], slab.grads, 1 - h["mom"])
    torch._foreach_sign_(direction)
    torch._foreach_add_(slab.params, direction, alpha=-h["lr"])
    torch._foreach_lerp_(slab["grad_avg"], slab.grads, 1 - h["avg_mom"])


def larc_step(slab: Slab) -> None:
    """param <- param - local_lr * grad, with local_lr from `larc_layer_lr`, and grad_avg in place of grad where it is kept

    Args:
        slab: The parameters to update.
    """
    directions = [local_part(x) for x in grad_or_avg(slab)]
    torch._foreach_sub_([local_part(p) for p in slab.params], torch._foreach_mul(directions, slab["local_lr"]))


@hyper_defaults(eps=1e-6)
def lamb_step(slab: Slab) -> None:
    """param <- param - lr * trust * step

        step  = (grad_avg / bias) / (sqrt(sqr_avg / sqr_bias) + eps)        with bias and sqr_bias as in `adam_step`
        trust = |param| / |step|, at most 10; 1 where either is 0

    Args:
        slab: The parameters to update.

    Source: You et al. 2019, arXiv:1904.00962, algorithm 2, with decoupled decay
    """
    (bias, sqr_bias), h = biases(slab), slab.hyper
    scale = torch._foreach_sqrt(slab["sqr_avg"])
    torch._foreach_add_(scale, h["eps"] * sqr_bias**0.5)
    step = torch._foreach_div(slab["grad_avg"], scale)
    torch._foreach_mul_(step, sqr_bias**0.5 / bias)
    size, step_size = norms(slab.params), norms(step)
    trust = (size / step_size).clamp(max=10).where((size > 0) & (step_size > 0), 1)
    torch._foreach_mul_([local_part(x) for x in step], list(trust.unbind()))
    torch._foreach_add_(slab.params, step, alpha=-h["lr"])


@elementwise
@keeps(slow_weights=torch.clone)
@hyper_defaults(k=6, alpha=0.5)
def lookahead_step(slab: Slab) -> None:
    """At every k-th step: slow <- slow + alpha * (param - slow); param <- slow. Must be the last step.

    `slow` starts as the parameters before the first step.

    Args:
        slab: The parameters to update.

    Source: Zhang et al. 2019, arXiv:1907.08610, algorithm 1
    """
    if slab.count % slab.hyper["k"] == 0:
        torch._foreach_lerp_(slab["slow_weights"], slab.params, slab.hyper["alpha"])
        torch._foreach_copy_(slab.params, slab["slow_weights"])


def biases(slab: Slab) -> tuple[float, float]:
    """1 - mom^t and 1 - sqr_mom^t: the total weight in `grad_avg` and `sqr_avg` after t = slab.count steps (see `debias`).

    Args:
        slab: The parameters to update.
    """
    mom, sqr_mom = slab.hyper["mom"], slab.hyper["sqr_mom"]
    return debias(mom, 1 - mom, slab.count), debias(sqr_mom, 1 - sqr_mom, slab.count)


def grad_or_avg(slab: Slab) -> list[Tensor]:
    """The running means of the gradients where they are kept, otherwise the gradients.

    Args:
        slab: The parameters to update.
    """
    kept = all("grad_avg" in state for state in slab.states)
    return slab["grad_avg"] if kept else slab.grads
