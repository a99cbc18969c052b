"""Optimizers by name: each is a recipe of statistics and steps, in the order in which they run.

All take `params` (tensors, or groups of them: see `groups.as_groups`), `lr` (a number, a slice or one for each group: see
`groups.discriminative`) and `wd`, which shrinks the parameters themselves (`decouple_wd=True`) or adds wd * param to the
gradients, as torch's SGD and Adam do.
"""

from __future__ import annotations

from functools import partial

from layered.foundation import BadArgument, OutOfRange, checked
from layered.optim.groups import HyperValue, Params
from layered.optim.optimizer import Optimizer
from layered.optim.schedule_free import ScheduleFree
from layered.optim.stats import average_grad, average_sqr_grad, larc_layer_lr, mean_grad, sum_sqr_grad
from layered.optim.steppers import (
    adagrad_step,
    adam_step,
    decay,
    lamb_step,
    larc_step,
    lion_step,
    lookahead_step,
    momentum_step,
    qhadam_step,
    radam_step,
    rms_prop_step,
    sgd_step,
)


@checked
def SGD(
    params: Params, lr: HyperValue, mom: float = 0.0, wd: float = 0.0, decouple_wd: bool = True, fused: bool = True
) -> Optimizer:
    """Gradient descent, with momentum (grad_avg <- mom * grad_avg + grad) unless `mom` is 0.

    Args:
        params: Tensors, or groups of them (see the module).
        lr: Learning rate: a number, a slice or one for each group.
        mom: Momentum.
        wd: Weight decay.
        decouple_wd: Shrink the parameters themselves; otherwise add wd * param to the gradients.
        fused: Run a step by one kernel of torch; False runs the formulas.

    Examples:
        >>> import torch; w = torch.ones(1, requires_grad=True); w.sum().backward()
        >>> SGD([w], lr=0.25).step(); w.item()
        0.75
    """
    updates = [average_grad, momentum_step] if mom else [sgd_step]
    return Optimizer(params, [decay(decouple_wd), *updates], fused=fused, lr=lr, mom=mom, wd=wd)


@checked
def RMSProp(
    params: Params,
    lr: HyperValue,
    mom: float = 0.0,
    sqr_mom: float = 0.99,
    eps: float = 1e-8,
    wd: float = 0.0,
    decouple_wd: bool = True,
) -> Optimizer:
    """Gradients divided by the root of their mean square, with momentum unless `mom` is 0.

    Args:
        params: Tensors, or groups of them (see the module).
        lr: Learning rate: a number, a slice or one for each group.
        mom: Momentum.
        sqr_mom: Weight of the old mean square at each step.
        eps: Added to the denominator.
        wd: Weight decay.
        decouple_wd: Shrink the parameters themselves; otherwise add wd * param to the gradients.

    Source: Tieleman & Hinton 2012, Coursera lecture 6.5
    """
    stats = [average_grad, average_sqr_grad] if mom else [average_sqr_grad]
    updates = [decay(decouple_wd), *stats, rms_prop_step]
    return Optimizer(params, updates, lr=lr, mom=mom, sqr_mom=sqr_mom, eps=eps, wd=wd)


@checked
def Adagrad(
    params: Params, lr: HyperValue, eps: float = 1e-10, wd: float = 0.0, decouple_wd: bool = True, fused: bool = True
) -> Optimizer:
    """Gradients divided by the root of the sum of all their squares so far: rates only fall, fastest where gradients are large.

    Args:
        params: Tensors, or groups of them (see the module).
        lr: Learning rate: a number, a slice or one for each group; 0.01 to 0.1 is usual.
        eps: Added to the denominator.
        wd: Weight decay.
        decouple_wd: Shrink the parameters themselves; otherwise add wd * param to the gradients.
        fused: Run a step by one kernel of torch; False runs the formulas.

    Source: Duchi et al. 2011, JMLR 12
    """
    return Optimizer(params, [decay(decouple_wd), sum_sqr_grad, adagrad_step], fused=fused, lr=lr, eps=eps, wd=wd)


@checked
def Adam(
    params: Params,
    lr: HyperValue,
    mom: float = 0.9,
    sqr_mom: float = 0.99,
    eps: float = 1e-5,
    wd: float = 0.01,
    decouple_wd: bool = True,
    fused: bool = True,
) -> Optimizer:
    """Adam with decoupled weight decay: the default optimizer of every learner.

    Args:
        params: Tensors, or groups of them (see the module).
        lr: Learning rate: a number, a slice or one for each group.
        mom: The paper's beta1.
        sqr_mom: The paper's beta2.
        eps: Added to the denominator.
        wd: Weight decay.
        decouple_wd: Shrink the parameters themselves; otherwise add wd * param to the gradients.
        fused: Run a step by one kernel of torch; False runs the formulas.

    Source: Kingma & Ba 2014, arXiv:1412.6980; Loshchilov & Hutter 2017, arXiv:1711.05101
    """
    updates = [decay(decouple_wd), mean_grad, average_sqr_grad, adam_step]
    return Optimizer(params, updates, fused=fused, lr=lr, mom=mom, sqr_mom=sqr_mom, eps=eps, wd=wd)


AdamW = Adam


@checked
def RAdam(
    params: Params,
    lr: HyperValue,
    mom: float = 0.9,
    sqr_mom: float = 0.99,
    eps: float = 1e-5,
    wd: float = 0.0,
    beta: float = 0.0,
    decouple_wd: bool = True,
) -> Optimizer:
    """Adam that starts as SGD, until its mean square has seen enough gradients to be reliable.

    Args:
        params: Tensors, or groups of them (see the module).
        lr: Learning rate: a number, a slice or one for each group.
        mom: The paper's beta1.
        sqr_mom: The paper's beta2.
        eps: Added to the denominator.
        wd: Weight decay.
        beta: Unless 0, the denominator goes through softplus with this beta (Tong et al. 2019, arXiv:1908.00700).
        decouple_wd: Shrink the parameters themselves; otherwise add wd * param to the gradients.

    Source: Liu et al. 2019, arXiv:1908.03265
    """
    updates = [decay(decouple_wd), mean_grad, average_sqr_grad, radam_step]
    return Optimizer(params, updates, lr=lr, mom=mom, sqr_mom=sqr_mom, eps=eps, wd=wd, beta=beta)


@checked
def QHAdam(
    params: Params,
    lr: HyperValue,
    mom: float = 0.999,
    sqr_mom: float = 0.999,
    nu_1: float = 0.7,
    nu_2: float = 1.0,
    eps: float = 1e-8,
    wd: float = 0.0,
    decouple_wd: bool = True,
) -> Optimizer:
    """Adam with the current gradient mixed into both means.

    Args:
        params: Tensors, or groups of them (see the module).
        lr: Learning rate: a number, a slice or one for each group.
        mom: The paper's beta1.
        sqr_mom: The paper's beta2.
        nu_1: Share of the mean of the gradients in the mix; 1 is Adam.
        nu_2: Share of the mean of their squares in the mix; 1 is Adam.
        eps: Added to the denominator.
        wd: Weight decay.
        decouple_wd: Shrink the parameters themselves; otherwise add wd * param to the gradients.

    Source: Ma & Yarats 2018, arXiv:1810.06801
    """
    updates = [decay(decouple_wd), mean_grad, average_sqr_grad, qhadam_step]
    return Optimizer(params, updates, lr=lr, mom=mom, sqr_mom=sqr_mom, nu_1=nu_1, nu_2=nu_2, eps=eps, wd=wd)


@checked
def Larc(
    params: Params,
    lr: HyperValue,
    mom: float = 0.9,
    clip: bool = True,
    trust_coeff: float = 0.02,
    eps: float = 1e-8,
    wd: float = 0.0,
    decouple_wd: bool = True,
) -> Optimizer:
    """SGD with a learning rate for each tensor, and with momentum unless `mom` is 0.

    Args:
        params: Tensors, or groups of them (see the module).
        lr: Learning rate: a number, a slice or one for each group.
        mom: Momentum.
        clip: True: no rate exceeds `lr` (LARC); False: `lr` only scales the rates (LARS).
        trust_coeff: Norm of a step relative to that of its tensor, at lr = 1 and without momentum.
        eps: Added to the denominator of the rate.
        wd: Weight decay.
        decouple_wd: Shrink the parameters themselves; otherwise add wd * param to the gradients.

    Source: You et al. 2017, arXiv:1708.03888
    """
    stats = [average_grad] if mom else []
    updates = [decay(decouple_wd), *stats, partial(larc_layer_lr, clip=clip), larc_step]
    return Optimizer(params, updates, lr=lr, mom=mom, trust_coeff=trust_coeff, eps=eps, wd=wd)


@checked
def Lamb(
    params: Params,
    lr: HyperValue,
    mom: float = 0.9,
    sqr_mom: float = 0.99,
    eps: float = 1e-5,
    wd: float = 0.0,
    decouple_wd: bool = True,
) -> Optimizer:
    """Adam with the step of each tensor scaled to `lr` times the tensor's norm.

    Args:
        params: Tensors, or groups of them (see the module).
        lr: Learning rate: a number, a slice or one for each group.
        mom: The paper's beta1.
        sqr_mom: The paper's beta2.
        eps: Added to the denominator.
        wd: Weight decay.
        decouple_wd: Shrink the parameters themselves; otherwise add wd * param to the gradients.

    Source: You et al. 2019, arXiv:1904.00962
    """
    updates = [decay(decouple_wd), mean_grad, average_sqr_grad, lamb_step]
    return Optimizer(params, updates, lr=lr, mom=mom, sqr_mom=sqr_mom, eps=eps, wd=wd)


@checked
def Lion(
    params: Params,
    lr: HyperValue,
    mom: float = 0.9,
    avg_mom: float = 0.99,
    wd: float = 0.0,
    decouple_wd: bool = True,
) -> Optimizer:
    """Steps of equal size in every component, in the direction of the sign of a running mean.

    Args:
        params: Tensors, or groups of them (see the module).
        lr: Learning rate, 3 to 10 times smaller than Adam's.
        mom: The paper's beta1, for the direction.
        avg_mom: The paper's beta2, for the running mean that is kept.
        wd: Weight decay, 3 to 10 times larger than Adam's.
        decouple_wd: Shrink the parameters themselves; otherwise add wd * param to the gradients.

    Source: Chen et al. 2023, arXiv:2302.06675
    """
    return Optimizer(params, [decay(decouple_wd), lion_step], lr=lr, mom=mom, avg_mom=avg_mom, wd=wd)


class Lookahead(Optimizer):
    """An optimizer whose parameters are pulled back to slow weights every `k` steps (see `lookahead_step`).

    Steps are counted for each parameter, so one that sometimes has no gradient is pulled back later than the others.

    Args:
        opt: The optimizer to wrap. The new one takes over its state and replaces it.
        k: Steps between two pulls; a hyperparameter like any other.
        alpha: How far the slow weights move towards the fast ones, in [0, 1]; a hyperparameter like any other.

    Raises:
        BadArgument: `opt` is not an `Optimizer`.
        OutOfRange: `k` is below 1.

    Examples:
        >>> import torch; w = torch.zeros(1, requires_grad=True)
        >>> opt = Lookahead(SGD([w], lr=1), k=2, alpha=0.5)
        >>> for _ in range(2): opt.zero_grad(); w.sum().backward(); opt.step(); print(w.item())
        -1.0
        -1.0
    """

    @checked
    def __init__(self, opt: Optimizer, k: int = 6, alpha: float = 0.5) -> None:
        if not isinstance(opt, Optimizer) or isinstance(opt, ScheduleFree):  # which averages weights itself
            raise BadArgument(
                "Lookahead wraps an optimizer made of statistics and steps",
                got=type(opt).__name__,
                expected="an Optimizer such as RAdam(params, lr=1e-3)",
            )
        if k < 1:
            raise OutOfRange("Lookahead cannot pull back at this interval", got=f"k={k}", expected="k >= 1")
        hypers = opt.defaults | {"k": k, "alpha": alpha}
        kinds = {kind: [*cbs, lookahead_step] for kind, cbs in opt.kinds.items()}
        super().__init__(opt.param_groups, [*opt.cbs, lookahead_step], kinds=kinds, train_bn=opt.train_bn, **hypers)
        self.frozen_idx = opt.frozen_idx
        for p, state in opt.state.items():
            # after its first step a parameter no longer gets initial values for what the steps keep
            begun = {"slow_weights": p.detach().clone()} if "count" in state else {}
            self.state[p] = state | begun


@checked
def ranger(
    params: Params,
    lr: HyperValue,
    mom: float = 0.95,
    wd: float = 0.01,
    eps: float = 1e-6,
    k: int = 6,
    alpha: float = 0.5,
    sqr_mom: float = 0.99,
    beta: float = 0.0,
    decouple_wd: bool = True,
) -> Lookahead:
    """`Lookahead` around `RAdam`.

    Args:
        params: Tensors, or groups of them (see the module).
        lr: Learning rate: a number, a slice or one for each group.
        mom: The paper's beta1.
        wd: Weight decay.
        eps: Added to the denominator.
        k: Steps between two pulls of `Lookahead`.
        alpha: How far the slow weights move towards the fast ones.
        sqr_mom: The paper's beta2.
        beta: Unless 0, the denominator goes through softplus with this beta.
        decouple_wd: Shrink the parameters themselves; otherwise add wd * param to the gradients.
    """
    return Lookahead(RAdam(params, lr, mom, sqr_mom, eps, wd, beta, decouple_wd), k, alpha)
