"""Steps: how gradients and statistics change the parameters. Each is its formula, for a whole slab at once."""

from __future__ import annotations

import torch

from layered.optim.slab import Slab, elementwise


@elementwise
def weight_decay(slab: Slab) -> None:
    """param <- param * (1 - lr * wd): decay apart from the gradient (Loshchilov & Hutter 2017, arXiv:1711.05101)."""
    if slab.do_wd and slab.hyper["wd"] != 0:
        torch._foreach_mul_(slab.params, 1 - slab.hyper["lr"] * slab.hyper["wd"])


@elementwise
def l2_reg(slab: Slab) -> None:
    """grad <- grad + wd * param: as if the loss held wd / 2 * |param|^2. Comes before statistics; changes the grads."""
    if slab.do_wd and slab.hyper["wd"] != 0:
        torch._foreach_add_(slab.grads, slab.params, alpha=slab.hyper["wd"])


@elementwise
def sgd_step(slab: Slab) -> None:
    """param <- param - lr * grad"""
    torch._foreach_add_(slab.params, slab.grads, alpha=-slab.hyper["lr"])


@elementwise
def momentum_step(slab: Slab) -> None:
    """param <- param - lr * grad_avg"""
    torch._foreach_add_(slab.params, slab["grad_avg"], alpha=-slab.hyper["lr"])


@elementwise
def rms_prop_step(slab: Slab) -> None:
    """param <- param - lr * grad / (sqrt(sqr_avg) + eps)"""
    scale = torch._foreach_sqrt(slab["sqr_avg"])
    torch._foreach_add_(scale, slab.hyper["eps"])
    torch._foreach_addcdiv_(slab.params, slab.grads, scale, -slab.hyper["lr"])


@elementwise
def rms_prop_momentum_step(slab: Slab) -> None:
    """param <- param - lr * grad_avg / (sqrt(sqr_avg) + eps)"""
    scale = torch._foreach_sqrt(slab["sqr_avg"])
    torch._foreach_add_(scale, slab.hyper["eps"])
    torch._foreach_addcdiv_(slab.params, slab["grad_avg"], scale, -slab.hyper["lr"])


@elementwise
def adam_step(slab: Slab) -> None:
    """param <- param - lr * (grad_avg / bias) / (sqrt(sqr_avg / sqr_bias) + eps)

    with bias = 1 - mom^t, sqr_bias = 1 - sqr_mom^t, t = slab.count; both sides of the fraction times sqrt(sqr_bias),
    which saves a pass (Kingma & Ba 2014, arXiv:1412.6980, section 2).
    """
    h, t = slab.hyper, slab.count
    bias, root = 1 - h["mom"] ** t, (1 - h["sqr_mom"] ** t) ** 0.5
    scale = torch._foreach_sqrt(slab["sqr_avg"])
    torch._foreach_add_(scale, h["eps"] * root)
    torch._foreach_addcdiv_(slab.params, slab["grad_avg"], scale, -h["lr"] * root / bias)
