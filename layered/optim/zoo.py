"""Optimizers by name: each a recipe of statistics and steps."""

from __future__ import annotations

from typing import Any

from layered.optim.optimizer import Optimizer
from layered.optim.stats import AverageGrad, AverageSquare, Stat
from layered.optim.steppers import (
    adam_step,
    l2_reg,
    momentum_step,
    rms_prop_momentum_step,
    rms_prop_step,
    sgd_step,
    weight_decay,
)


def SGD(params: Any, lr: Any, mom: float = 0.0, wd: float = 0.0, decouple_wd: bool = True) -> Optimizer:
    """Gradient descent, with momentum if `mom` is not 0.

    lr            rate per step: a number, a slice or one per group (see `groups.discriminative`)
    mom           grad_avg <- mom * grad_avg + grad
    wd            weight decay; `decouple_wd`: applied to the parameters, else added to the gradient as in torch's SGD

    >>> import torch; w = torch.ones(1, requires_grad=True); w.sum().backward()
    >>> SGD([w], lr=0.25).step(); w.item()
    0.75
    """
    stats, step = ([AverageGrad(dampening=False)], momentum_step) if mom else ([], sgd_step)
    return Optimizer(params, [_decay(decouple_wd)], stats=stats, steps=[step], lr=lr, mom=mom, wd=wd)


def RMSProp(
    params: Any,
    lr: Any,
    mom: float = 0.0,
    sqr_mom: float = 0.99,
    eps: float = 1e-8,
    wd: float = 0.0,
    decouple_wd: bool = True,
) -> Optimizer:
    """Gradients over the root of their mean square (Tieleman & Hinton 2012), with momentum if `mom` is not 0."""
    stats, step = ([AverageGrad(dampening=False)], rms_prop_momentum_step) if mom else ([], rms_prop_step)
    hypers = {"lr": lr, "mom": mom, "sqr_mom": sqr_mom, "eps": eps, "wd": wd}
    return Optimizer(params, [_decay(decouple_wd)], stats=[*stats, AverageSquare()], steps=[step], **hypers)


def Adam(
    params: Any,
    lr: Any,
    mom: float = 0.9,
    sqr_mom: float = 0.99,
    eps: float = 1e-5,
    wd: float = 0.01,
    decouple_wd: bool = True,
) -> Optimizer:
    """Adam with decoupled weight decay, the default everywhere.

    mom, sqr_mom   the papers' beta1 and beta2
    wd             weight decay; `decouple_wd=False`: added to the gradient, as in Adam's paper
    source         Kingma & Ba 2014, arXiv:1412.6980; Loshchilov & Hutter 2017, arXiv:1711.05101
    """
    stats: list[Stat] = [AverageGrad(), AverageSquare()]
    hypers = {"lr": lr, "mom": mom, "sqr_mom": sqr_mom, "eps": eps, "wd": wd}
    return Optimizer(params, [_decay(decouple_wd)], stats=stats, steps=[adam_step], **hypers)


AdamW = Adam


def _decay(decoupled: bool) -> Any:
    return weight_decay if decoupled else l2_reg
