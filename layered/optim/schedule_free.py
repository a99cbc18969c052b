"""Schedule-free Adam: an average of the weights in place of a schedule of the learning rate."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from layered.foundation import CannotTrain, OutOfRange, checked, local_part
from layered.optim.groups import HyperValue, Params
from layered.optim.optimizer import Optimizer
from layered.optim.stats import average_sqr_grad
from layered.optim.steppers import l2_reg
from layered.optim.update import Slab, elementwise, hyper_defaults, keeps


class ScheduleFree(Optimizer):
    """Adam at a constant rate, whose weights are averaged as they go; no schedule, so no need to know when training ends.

    There are three weights: `fast` ones z, which take the steps; their average x, with which the model predicts; and
    y = (1 - interpolation) * z + interpolation * x, at which gradients are taken. The model has y while it trains and x
    otherwise: a `Learner` calls `train` and `eval` where they are due. Use it with `fit`, not `fit_one_cycle`. Running
    statistics of batch norm are those of y, close to those of x.

    After weights from elsewhere have been put into the model, call `clear_state()`: `fast` are those of the old ones.

    Args:
        params: Tensors, or groups of them (see `zoo`).
        lr: Learning rate, up to ten times that of `Adam` with a schedule.
        sqr_mom: Weight of the old mean square at each step.
        eps: Added to the denominator.
        wd: Weight decay, of y.
        decouple_wd: Shrink the parameters themselves; otherwise add wd * param to the gradients.
        interpolation: Share of the average in y, as momentum in other optimizers; above 0 and below 1.
        warm_up: Steps over which the rate rises from 0.

    Raises:
        OutOfRange: `interpolation` is not between 0 and 1, or `warm_up` is negative.

    Source: Defazio et al. 2024, arXiv:2405.15682, algorithm 1

    Examples:
        >>> w = torch.ones(1, requires_grad=True); opt = ScheduleFree([w], lr=0.1)
        >>> for _ in range(100): opt.zero_grad(); opt.train(); (w**2).sum().backward(); opt.step(); opt.eval()
        >>> abs(w.item()) < 0.2
        True
    """

    @checked
    def __init__(
        self,
        params: Params,
        lr: HyperValue,
        sqr_mom: float = 0.999,
        eps: float = 1e-8,
        wd: float = 0.0,
        decouple_wd: bool = True,
        interpolation: float = 0.9,
        warm_up: int = 0,
    ) -> None:
        if not 0 < interpolation < 1:
            raise OutOfRange(
                "invalid share of the average", got=f"interpolation={interpolation}", expected="0 to 1, both excluded"
            )
        if warm_up < 0:
            raise OutOfRange("invalid length of the warm-up", got=f"warm_up={warm_up}", expected="0 steps or more")
        step = partial(schedule_free_step, interpolation=interpolation, warm_up=warm_up, decouple_wd=decouple_wd)
        updates = [*([] if decouple_wd else [l2_reg]), average_sqr_grad, step]
        super().__init__(params, updates, lr=lr, sqr_mom=sqr_mom, eps=eps, wd=wd, has_average=False)
        self.interpolation = interpolation

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: Called first, with gradients enabled; its value is returned.

        Raises:
            CannotTrain: The model has the weights to predict with.
        """
        if any(hyper["has_average"] for hyper in self.hypers):
            raise CannotTrain(
                "the model has the weights to predict with, not those to train with",
                fix="call opt.train() before a training pass and opt.eval() before predicting, as a Learner does",
            )
        return super().step(closure)

    def train(self) -> None:
        self._switch(has_average=False)

    def eval(self) -> None:
        self._switch(has_average=True)

    @torch.no_grad()
    def _switch(self, has_average: bool) -> None:
        """Put the average x into the model, x = z + (y - z) / interpolation, or y in its place."""
        share = 1 / self.interpolation if has_average else self.interpolation
        for plist, hyper in zip(self.param_lists, self.hypers, strict=True):
            begun = [p for p in plist if "fast" in self.state[p]]
            if begun and hyper["has_average"] != has_average:
                fast = [local_part(self.state[p]["fast"]) for p in begun]
                torch._foreach_lerp_([local_part(p.detach()) for p in begun], fast, 1 - share)
            hyper["has_average"] = has_average

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"interpolation": self.interpolation}


@elementwise
@keeps(fast=torch.clone)
@hyper_defaults(eps=1e-8, wd=0.0)
def schedule_free_step(slab: Slab, interpolation: float = 0.9, warm_up: int = 0, decouple_wd: bool = True) -> None:
    """z <- z - lr * d            with d = grad / (sqrt(sqr_avg / sqr_bias) + eps) + wd * y
    x <- x + share * (z - x)
    y <- (1 - interpolation) * z + interpolation * x

    where y are the parameters, z is `fast`, and x is their average in which each z weighs as the square of its rate. In
    terms of y and the old z, as in the code:

        y <- y + share * (z - y) - lr * (1 - interpolation * (1 - share)) * d

    Args:
        slab: The parameters to update.
        interpolation: Share of the average in y.
        warm_up: Steps over which the rate rises from 0.
        decouple_wd: False leaves out wd * y from d, for gradients that contain it.

    Source: Defazio et al. 2024, arXiv:2405.15682, algorithm 1
    """
    h, t = slab.hyper, slab.count
    lr = h["lr"] * min(1.0, t / warm_up) if warm_up else h["lr"]
    share = _share(t, warm_up)
    scale = torch._foreach_div(slab["sqr_avg"], 1 - h["sqr_mom"] ** t)
    torch._foreach_sqrt_(scale)
    torch._foreach_add_(scale, h["eps"])
    direction = torch._foreach_div(slab.grads, scale)
    if decouple_wd and slab.do_wd and h["wd"] != 0:
        torch._foreach_add_(direction, slab.params, alpha=h["wd"])
    torch._foreach_lerp_(slab.params, slab["fast"], share)
    torch._foreach_add_(slab.params, direction, alpha=-lr * (1 - interpolation * (1 - share)))
    torch._foreach_add_(slab["fast"], direction, alpha=-lr)


def _share(t: int, warm_up: int) -> float:
    """Weight of step `t` in the average over the steps up to it: min(1, t / warm_up)^2 over their sum."""
    risen = min(t, warm_up)
    squares = risen * (risen + 1) * (2 * risen + 1) / 6  # 1 + 4 + 9 + ...
    total = squares / warm_up**2 + (t - risen) if warm_up else t
    return (risen / warm_up) ** 2 / total if t < warm_up else 1 / total
