"""How far predicted numbers are from the true ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from layered.metrics.metric import Metric, flatten_check, function_name, wide


def mse(inp: Tensor, targ: Tensor) -> Tensor:
    """Mean squared error, in squared units of the target; [batch, 1] and [batch] fit each other."""
    return F.mse_loss(*flatten_check(inp, targ))


def mae(inp: Tensor, targ: Tensor) -> Tensor:
    """Mean absolute error, in units of the target."""
    return F.l1_loss(*flatten_check(inp, targ))


def msle(inp: Tensor, targ: Tensor) -> Tensor:
    """Mean squared error of log(1 + x); both must be above -1."""
    inp, targ = flatten_check(inp, targ)
    return F.mse_loss(inp.log1p(), targ.log1p())


class RootMeanSquare(Metric):
    """The root of the mean square, over the whole pass, of a function of predictions and targets.

    error      function of two vectors → a vector
    """

    state = ("squares", "count")
    squares: Any
    count: int

    def __init__(self, error: Callable[[Tensor, Tensor], Tensor], name: str | None = None) -> None:
        self.error, self._name = error, name or function_name(error)

    def update(self, pred: Tensor, targ: Tensor) -> None:
        pred, targ = flatten_check(pred, targ)
        self.squares = self.squares + wide(self.error(pred, targ)).square().sum()
        self.count += len(targ)

    def compute(self) -> Tensor:
        return (self.squares / self.count).sqrt()  # type: ignore[no-any-return]


def _difference(pred: Tensor, targ: Tensor) -> Tensor:
    return pred - targ


def _relative_difference_of_exp(pred: Tensor, targ: Tensor) -> Tensor:
    return 1 - (pred - targ).exp()


rmse = RootMeanSquare(_difference, "rmse")
exp_rmspe = RootMeanSquare(_relative_difference_of_exp, "exp_rmspe")


class R2Score(Metric):
    """The share of the targets' variance that the predictions explain: 1 is perfect, 0 is as good as the mean.

    Sums are kept around the running mean, so large offsets do not cost precision.
    source     Chan, Golub & LeVeque 1983, for joining the means and squares of two parts

    >>> R2Score()(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 6.0]))
    0.3571428571428571
    """

    state = ("count", "mean", "spread", "residual")
    count: int
    mean: Any
    spread: Any  # sum of squared distances from the mean
    residual: Any  # sum of squared errors
    _name = "r2_score"

    def update(self, pred: Tensor, targ: Tensor) -> None:
        pred, targ = map(wide, flatten_check(pred, targ))
        mean = targ.mean()
        self._join(len(targ), mean, (targ - mean).square().sum(), (targ - pred).square().sum())

    def merge(self, other: Metric) -> None:
        if isinstance(other, R2Score) and other.count:
            self._join(other.count, *(wide(x) for x in (other.mean, other.spread, other.residual)))

    def _join(self, count: int, mean: Tensor, spread: Tensor, residual: Tensor) -> None:
        total, shift = self.count + count, mean - self.mean
        self.spread = self.spread + spread + shift.square() * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.residual = self.residual + residual
        self.count = total

    def compute(self) -> Any:
        constant = (self.residual == 0).to(self.spread.dtype)  # targets without variance: 1 if all are hit, else 0
        return torch.where(self.spread > 0, 1 - self.residual / self.spread, constant)
