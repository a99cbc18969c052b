"""Optimizers by name: each a recipe of statistics and steps, in the order in which they run.

All take `params` (tensors, or groups of them: see `groups.as_groups`), `lr` (a number, a slice or one per group: see
`groups.discriminative`) and `wd`, which shrinks the parameters themselves (`decouple_wd=True`) or is added to the
gradients times the parameters, as torch's SGD and Adam do it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from layered.foundation import BadArgument, OutOfRange, checked
from layered.optim.optimizer import Optimizer
from layered.optim.stats import average_grad, average_sqr_grad, larc_layer_lr
from layered.optim.steppers import (
    adam_step,
    l2_reg,
    lamb_step,
    larc_step,
    lion_step,
    lookahead_step,
    momentum_step,
    qhadam_step,
    radam_step,
    rms_prop_step,
    sgd_step,
    weight_decay,
)
from layered.optim.update import Update

mean_grad = partial(average_grad, dampening=True)


def decay(decoupled: bool) -> Update:
    """The step that decays: of the parameters themselves, or through the gradients."""
    return weight_decay if decoupled else l2_reg


@checked
def SGD(params: Any, lr: Any, mom: float = 0.0, wd: float = 0.0, decouple_wd: bool = True) -> Optimizer:
    """Gradient descent, with momentum (grad_avg <- mom * grad_avg + grad) if `mom` is not 0.

    Examples:
        >>> import torch; w = torch.ones(1, requires_grad=True); w.sum().backward()
        >>> SGD([w], lr=0.25).step(); w.item()
        0.75
    """
    updates = [average_grad, momentum_step] if mom else [sgd_step]
    return Optimizer(params, [decay(decouple_wd), *updates], lr=lr, mom=mom, wd=wd)


@checked
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
    stats = [average_grad, average_sqr_grad] if mom else [average_sqr_grad]
    updates = [decay(decouple_wd), *stats, rms_prop_step]
    return Optimizer(params, updates, lr=lr, mom=mom, sqr_mom=sqr_mom, eps=eps, wd=wd)


@checked
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

    Args:
        mom: The papers' beta1 and beta2.
        sqr_mom: The papers' beta1 and beta2.

    Source: Kingma & Ba 2014, arXiv:1412.6980; Loshchilov & Hutter 2017, arXiv:1711.05101
    """
    updates = [decay(decouple_wd), mean_grad, average_sqr_grad, adam_step]
    return Optimizer(params, updates, lr=lr, mom=mom, sqr_mom=sqr_mom, eps=eps, wd=wd)


AdamW = Adam


@checked
def RAdam(
    params: Any,
    lr: Any,
    mom: float = 0.9,
    sqr_mom: float = 0.99,
    eps: float = 1e-5,
    wd: float = 0.0,
    beta: float = 0.0,
    decouple_wd: bool = True,
) -> Optimizer:
    """Adam that starts as SGD, until its mean square has seen enough to be trusted (Liu et al. 2019, arXiv:1908.03265).

    Args:
        mom: The paper's beta1 and beta2.
        sqr_mom: The paper's beta1 and beta2.
        beta: Not 0: the denominator goes through softplus with this beta (Tong et al. 2019, arXiv:1908.00700).
    """
    updates = [decay(decouple_wd), mean_grad, average_sqr_grad, radam_step]
    return Optimizer(params, updates, lr=lr, mom=mom, sqr_mom=sqr_mom, eps=eps, wd=wd, beta=beta)


@checked
def QHAdam(
    params: Any,
    lr: Any,
    mom: float = 0.999,
    sqr_mom: float = 0.999,
    nu_1: float = 0.7,
    nu_2: float = 1.0,
    eps: float = 1e-8,
    wd: float = 0.0,
    decouple_wd: bool = True,
) -> Optimizer:
    """Adam with the gradient of the moment mixed into both means (Ma & Yarats 2018, arXiv:1810.06801).

    Args:
        mom: The paper's beta1 and beta2.
        sqr_mom: The paper's beta1 and beta2.
        nu_1: How much of each mean there is in the mix; both 1: Adam.
        nu_2: How much of each mean there is in the mix; both 1: Adam.
    """
    updates = [decay(decouple_wd), mean_grad, average_sqr_grad, qhadam_step]
    return Optimizer(params, updates, lr=lr, mom=mom, sqr_mom=sqr_mom, nu_1=nu_1, nu_2=nu_2, eps=eps, wd=wd)


@checked
def Larc(
    params: Any,
    lr: Any,
    mom: float = 0.9,
    clip: bool = True,
    trust_coeff: float = 0.02,
    eps: float = 1e-8,
    wd: float = 0.0,
    decouple_wd: bool = True,
) -> Optimizer:
    """SGD with a rate of its own for each tensor (You et al. 2017, arXiv:1708.03888), with momentum if `mom` is not 0.

    Args:
        clip: True: no rate goes beyond `lr` (LARC); False: `lr` only scales them (LARS).
        trust_coeff: A step's length over its tensor's, for lr = 1 and without momentum.
    """
    stats = [average_grad] if mom else []
    updates = [decay(decouple_wd), *stats, partial(larc_layer_lr, clip=clip), larc_step]
    return Optimizer(params, updates, lr=lr, mom=mom, trust_coeff=trust_coeff, eps=eps, wd=wd)


@checked
def Lamb(
    params: Any,
    lr: Any,
    mom: float = 0.9,
    sqr_mom: float = 0.99,
    eps: float = 1e-5,
    wd: float = 0.0,
    decouple_wd: bool = True,
) -> Optimizer:
    """Adam whose step is as long, for each tensor, as `lr` times the tensor (You et al. 2019, arXiv:1904.00962).

    Args:
        mom: The paper's beta1 and beta2.
        sqr_mom: The paper's beta1 and beta2.
    """
    updates = [decay(decouple_wd), mean_grad, average_sqr_grad, lamb_step]
    return Optimizer(params, updates, lr=lr, mom=mom, sqr_mom=sqr_mom, eps=eps, wd=wd)


@checked
def Lion(
    params: Any,
    lr: Any,
    mom: float = 0.9,
    avg_mom: float = 0.99,
    wd: float = 0.0,
    decouple_wd: bool = True,
) -> Optimizer:
    """Steps of the same size for all numbers, in the direction of a mean's sign (Chen et al. 2023, arXiv:2302.06675).

    Args:
        lr: 3 to 10 times smaller than Adam's; `wd` as much larger.
        mom: The paper's beta1, for the direction, and beta2, for the mean that is kept.
        avg_mom: The paper's beta1, for the direction, and beta2, for the mean that is kept.
    """
    return Optimizer(params, [decay(decouple_wd), lion_step], lr=lr, mom=mom, avg_mom=avg_mom, wd=wd)


class Lookahead(Optimizer):
    """An optimizer whose parameters are drawn back, every `k` steps, to slow weights (see `lookahead_step`).

    A parameter's steps are counted on their own, so one without gradients now and then is drawn back later.

    Args:
        opt: An `Optimizer`; the new one goes on from its state and takes its place.
        k: How often, and how far the slow weights go towards the fast: hyper-parameters like the others.
        alpha: How often, and how far the slow weights go towards the fast: hyper-parameters like the others.

    Examples:
        >>> import torch; w = torch.zeros(1, requires_grad=True)
        >>> opt = Lookahead(SGD([w], lr=1), k=2, alpha=0.5)
        >>> for _ in range(2): opt.zero_grad(); w.sum().backward(); opt.step(); print(w.item())
        -1.0
        -1.0
    """

    @checked
    def __init__(self, opt: Optimizer, k: int = 6, alpha: float = 0.5) -> None:
        if not isinstance(opt, Optimizer):
            raise BadArgument(
                "Lookahead is put around an optimizer of statistics and steps",
                got=type(opt).__name__,
                expected="an Optimizer such as RAdam(params, lr=1e-3)",
            )
        if k < 1:
            raise OutOfRange("Lookahead draws back every k steps", got=f"k={k}", expected="k >= 1")
        hypers = opt.defaults | {"k": k, "alpha": alpha}
        super().__init__(opt.param_groups, [*opt.cbs, lookahead_step], train_bn=opt.train_bn, **hypers)
        self.frozen_idx = opt.frozen_idx
        for p, state in opt.state.items():
            begun = {"slow_weights": p.detach().clone()} if "count" in state else {}
            self.state[p] = state | begun


@checked
def ranger(
    params: Any,
    lr: Any,
    mom: float = 0.95,
    wd: float = 0.01,
    eps: float = 1e-6,
    k: int = 6,
    alpha: float = 0.5,
    sqr_mom: float = 0.99,
    beta: float = 0.0,
    decouple_wd: bool = True,
) -> Lookahead:
    """`Lookahead` around `RAdam`."""
    return Lookahead(RAdam(params, lr, mom, sqr_mom, eps, wd, beta, decouple_wd), k, alpha)
