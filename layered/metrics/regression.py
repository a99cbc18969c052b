"""How far predicted numbers are from the true ones. Predictions may be [batch, 1] where targets are [batch]."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from layered.foundation import lazy
from layered.metrics.accumulated import Kept
from layered.metrics.averages import Mean, Sums, mean_of
from layered.metrics.functions import default_name
from layered.metrics.inputs import flatten_check, numbers, wide
from layered.metrics.metric import Metric

sp_stats = lazy("scipy.stats")


@mean_of(higher_is_better=False)
def mse(inp: Tensor, targ: Tensor) -> Sums:
    """Mean squared error, in squared units of the target.

    Args:
        inp: The predictions.
        targ: The targets.

    Examples:
        >>> mse(torch.tensor([[1.0], [2.0]]), torch.tensor([1, 4]))
        tensor(2.)
    """
    inp, targ = numbers(inp, targ)
    return F.mse_loss(inp, targ, reduction="sum"), len(targ)


@mean_of(higher_is_better=False)
def mae(inp: Tensor, targ: Tensor) -> Sums:
    """Mean absolute error, in units of the target.

    Args:
        inp: The predictions.
        targ: The targets.
    """
    inp, targ = numbers(inp, targ)
    return F.l1_loss(inp, targ, reduction="sum"), len(targ)


@mean_of(higher_is_better=False)
def msle(inp: Tensor, targ: Tensor) -> Sums:
    """Mean squared error of log(1 + x).

    Args:
        inp: The predictions, above -1.
        targ: The targets, above -1.
    """
    inp, targ = numbers(inp, targ)
    return F.mse_loss(inp.log1p(), targ.log1p(), reduction="sum"), len(targ)


class RootMeanSquare(Mean):
    """The root of the mean square, over the whole pass, of a function of predictions and targets.

    Args:
        error: A function of two vectors that returns a vector.
        name: The name in tables; the function's by default.
    """

    higher_is_better = False

    def __init__(self, error: Callable[[Tensor, Tensor], Tensor], name: str | None = None) -> None:
        self.error, self._name = error, name or default_name(error)

    def update(self, pred: Tensor, targ: Tensor) -> None:
        pred, targ = numbers(pred, targ)
        self.add(self.error(pred, targ).square().sum(), len(targ))

    def compute(self) -> Any:
        return super().compute() ** 0.5


def _difference(pred: Tensor, targ: Tensor) -> Tensor:
    return pred - targ


def _relative_difference_of_exp(pred: Tensor, targ: Tensor) -> Tensor:
    return 1 - (pred - targ).exp()


rmse = RootMeanSquare(_difference, "rmse")
exp_rmspe = RootMeanSquare(_relative_difference_of_exp, "exp_rmspe")


class Moments(Metric):
    """Base of metrics computed from the means and the covariance of two numbers for each sample.

    Sums are kept around the running mean, so large offsets do not cost precision.

    Attributes:
        count: Number of samples.
        mean: The means, float64 [2].
        spread: The sums of products of deviations from the means, float64 [2, 2].

    Source: Chan, Golub & LeVeque 1983, for merging the means and spreads of two parts
    """

    state = ("count", "mean", "spread")
    count: int
    mean: Any
    spread: Any

    def pair(self, pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
        """The two numbers of each sample.

        Args:
            pred: The predictions, float64.
            targ: The targets, float64.
        """
        return pred, targ

    def update(self, pred: Tensor, targ: Tensor) -> None:
        pred, targ = flatten_check(pred, targ)
        if len(targ):
            both = torch.stack(self.pair(wide(pred), wide(targ)))
            mean = both.mean(1)
            centred = both - mean[:, None]
            self._join(len(targ), mean, centred @ centred.T)

    def merge(self, other: Metric) -> None:
        if isinstance(other, Moments) and other.count:
            device = self.mean.device if self.count else other.mean.device
            self._join(other.count, other.mean.to(device), other.spread.to(device))

    def _join(self, count: int, mean: Tensor, spread: Tensor) -> None:
        total, shift = self.count + count, mean - self.mean
        self.spread = self.spread + spread + torch.outer(shift, shift) * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total


class _Explained(Moments):
    """Compares the squared errors with the variance of the targets."""

    def pair(self, pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
        return targ - pred, targ

    def explained(self, unexplained: Tensor) -> Any:
        if self.count < 2:
            return math.nan
        constant = (unexplained == 0).to(unexplained.dtype)  # constant targets: 1 if predicted exactly, otherwise 0
        return torch.where(self.spread[1, 1] > 0, 1 - unexplained / self.spread[1, 1], constant)


class R2Score(_Explained):
    """The share of the targets' variance that the predictions explain: 1 is perfect, 0 is as good as predicting the mean.

    nan for a single sample. Several numbers for each sample count like as many samples.

    Examples:
        >>> round(R2Score()(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 6.0])), 6)
        0.357143
    """

    _name = "r2_score"
    higher_is_better = True

    def compute(self) -> Any:
        return self.explained(self.spread[0, 0] + self.count * self.mean[0].square())


class ExplainedVariance(_Explained):
    """Like `R2Score`, but a constant error costs nothing."""

    _name = "explained_variance_score"
    higher_is_better = True

    def compute(self) -> Any:
        return self.explained(self.spread[0, 0])


class PearsonCorrCoef(Moments):
    """The linear correlation of predictions and targets, in [-1, 1]; nan where either is constant.

    Examples:
        >>> round(PearsonCorrCoef()(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0])), 6)
        -1.0
    """

    _name = "pearsonr"
    higher_is_better = True

    def compute(self) -> Any:
        if self.count < 2:
            return math.nan
        return self.spread[0, 1] / (self.spread[0, 0].sqrt() * self.spread[1, 1].sqrt())


class SpearmanCorrCoef(Kept):
    """The correlation of the ranks of predictions and targets, in [-1, 1]; nan where either is constant.

    Examples:
        >>> SpearmanCorrCoef()(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([1, 4, 5]))
        1.0
    """

    _name = "spearmanr"
    higher_is_better = True

    def prepare(self, pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
        return numbers(pred, targ)

    def whole(self, pred: Tensor, targ: Tensor) -> Any:
        return float(sp_stats.spearmanr(pred.numpy(), targ.numpy()).statistic) if len(pred) > 1 else math.nan
