"""Statistics: what an optimizer remembers about the gradients of each parameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from layered.optim.slab import Slab, elementwise

Keeps = dict[str, Callable[[Tensor], Tensor]]
"""Names of what a statistic keeps for each parameter, and how each begins."""


class Stat(Protocol):
    """What `Optimizer(stats=...)` takes: names with their first values, and how they move on at each step."""

    @property
    def keeps(self) -> Keeps: ...

    def update(self, slab: Slab) -> None: ...


@dataclass(frozen=True)
class AverageGrad:
    """The running mean of the gradients, `grad_avg`.

    grad_avg <- mom * grad_avg + (1 - mom) * grad        if dampening
    grad_avg <- mom * grad_avg + grad                    if not, as SGD's momentum is usually written
    """

    dampening: bool = True
    keeps: ClassVar[Keeps] = {"grad_avg": torch.zeros_like}

    @elementwise
    def update(self, slab: Slab) -> None:
        avg, mom = slab["grad_avg"], slab.hyper["mom"]
        if self.dampening:
            torch._foreach_lerp_(avg, slab.grads, 1 - mom)
        else:
            torch._foreach_mul_(avg, mom)
            torch._foreach_add_(avg, slab.grads)


@dataclass(frozen=True)
class AverageSquare:
    """The running mean of the squared gradients: sqr_avg <- sqr_mom * sqr_avg + (1 - sqr_mom) * grad^2."""

    keeps: ClassVar[Keeps] = {"sqr_avg": torch.zeros_like}

    @elementwise
    def update(self, slab: Slab) -> None:
        sqr, sqr_mom = slab["sqr_avg"], slab.hyper["sqr_mom"]
        torch._foreach_mul_(sqr, sqr_mom)
        torch._foreach_addcmul_(sqr, slab.grads, slab.grads, 1 - sqr_mom)
