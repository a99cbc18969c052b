"""Metrics that need all predictions at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from layered.foundation import BadValue, checked, lazy, plain, warn
from layered.metrics.functions import declared_direction, default_name
from layered.metrics.inputs import flatten_check, floats, scores_of_two
from layered.metrics.metric import Metric, Predicted, class_scores, label_logits

sp_optimize = lazy("scipy.optimize")

SETTLE_EVERY = 256  # batches kept on their device before they move to main memory together


class ActivationType:
    """What `AccumMetric` does to predictions first; `BinarySoftmax` keeps the probability of the last class."""

    No, Sigmoid, Softmax, BinarySoftmax = "no", "sigmoid", "softmax", "binary_softmax"


class Kept(Metric):
    """Base of metrics that keep a pass: `prepare` says what to keep of each batch, `whole` computes the value.

    What is kept moves to main memory every 256 batches, so that `update` hardly ever waits for the device. NaN among the
    predictions makes the value nan, with a warning.

    Attributes:
        ignore_index: Samples whose target is this number are left out; this needs one target for each sample.
    """

    state = ("preds", "targs")
    preds: tuple[Tensor, ...] = ()
    targs: tuple[Tensor, ...] = ()
    ignore_index: int | None = None

    def prepare(self, pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
        """What to keep of one batch.

        Args:
            pred: The predictions.
            targ: The targets.
        """
        return floats(pred), targ

    def whole(self, pred: Tensor, targ: Tensor) -> Any:
        """The value.

        Args:
            pred: All that was kept of the predictions, on the CPU.
            targ: All that was kept of the targets, on the CPU.
        """
        raise NotImplementedError(f"{type(self).__name__} needs whole(self, pred, targ)")

    def update(self, pred: Tensor, targ: Tensor) -> None:
        pred, targ = self.prepare(plain(pred).detach(), plain(targ).detach())
        self.preds, self.targs = _with(self.preds, pred), _with(self.targs, targ)

    def compute(self) -> Any:
        pred, targ = _joined(self.preds), _joined(self.targs)
        if self.ignore_index is not None:
            if targ.ndim > 1:
                raise BadValue("ignore_index needs one target a row", got=f"targets of shape {list(targ.shape)}")
            pred, targ = pred[targ != self.ignore_index], targ[targ != self.ignore_index]
        if pred.is_floating_point() and (invalid := int(pred.isnan().sum())):
            warn(f"metric '{self.name}' is nan: {invalid} of {pred.numel()} predictions are NaN")
            return math.nan
        return self.whole(pred, targ)


def _with(kept: tuple[Tensor, ...], new: Tensor) -> tuple[Tensor, ...]:
    """`kept` and a copy of `new`; every so often all of it as one tensor in main memory."""
    kept = (*kept, new.clone())
    return kept if len(kept) < SETTLE_EVERY else (_joined(kept),)


def _joined(kept: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([x.cpu() for x in kept])


class AccumMetric(Kept):
    """A function of the predictions and targets of the whole pass, both on the CPU.

    Predictions in half precision become float32. NaN among them makes the value nan, with a warning.

    Args:
        func: A function of (predictions, targets).
        dim_argmax: Take the index of the largest value along this axis.
        activation: An `ActivationType`, applied along `dim_argmax` or the last axis.
        thresh: Make predictions True where they are at least this.
        to_np: Pass NumPy arrays to the function.
        invert_arg: Call the function as (targets, predictions).
        flatten: Pass vectors to the function.
        name: The name in tables; the function's by default.
        ignore_index: Samples with this target are left out.
        kwargs: Passed to the function.

    Raises:
        BadValue: `activation` is unknown.

    Examples:
        >>> AccumMetric(lambda p, t: (p - t).abs().max(), name="worst")(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 1.0]))
        3.0
    """

    def __init__(
        self,
        func: Callable[..., Any],
        dim_argmax: int | None = None,
        activation: str = ActivationType.No,
        thresh: float | None = None,
        to_np: bool = False,
        invert_arg: bool = False,
        flatten: bool = True,
        name: str | None = None,
        *,
        ignore_index: int | None = None,
        **kwargs: object,
    ) -> None:
        if activation not in _ACTIVATIONS:
            raise BadValue("unknown activation", got=repr(activation), expected="one of " + ", ".join(_ACTIVATIONS))
        self.func, self.dim_argmax, self.activation, self.thresh = func, dim_argmax, activation, thresh
        self.to_np, self.invert_arg, self.flatten, self.kwargs = to_np, invert_arg, flatten, kwargs
        self.ignore_index, self.higher_is_better = ignore_index, declared_direction(func)
        self.name = name or default_name(func)

    def prepare(self, pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
        pred = floats(pred) if pred.is_floating_point() else pred
        axis = -1 if self.dim_argmax is None else self.dim_argmax
        pred = scores_of_two(pred, axis) if self._is_of_classes else pred
        pred = _ACTIVATIONS[self.activation](pred, axis)
        if self.dim_argmax is not None and self.activation != ActivationType.BinarySoftmax:
            pred = pred.argmax(dim=self.dim_argmax)
        if self.thresh is not None:
            pred = pred >= self.thresh
        return flatten_check(pred, targ) if self.flatten else (pred, targ)

    @property
    def _is_of_classes(self) -> bool:
        return self.dim_argmax is not None or self.activation == ActivationType.BinarySoftmax

    def accumulate(self, learn: Predicted) -> None:
        pred = self.prediction(learn)
        if self._is_of_classes:
            pred = class_scores(learn, -1 if self.dim_argmax is None else self.dim_argmax)
        elif self.activation == ActivationType.Sigmoid:
            pred = label_logits(learn)
        self.update(pred, *learn.yb)

    def whole(self, pred: Tensor, targ: Tensor) -> Any:
        pair: list[Any] = [pred, targ]
        if self.to_np:
            pair = [(x.float() if x.dtype == torch.bfloat16 else x).numpy() for x in pair]
        if self.invert_arg:
            pair.reverse()
        value = self.func(*pair, **self.kwargs)
        if value is None:
            raise BadValue("the function returned None", expected="a number", fix="does it end without `return`?")
        return value


_ACTIVATIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    ActivationType.No: lambda x, axis: x,
    ActivationType.Sigmoid: lambda x, axis: x.sigmoid(),
    ActivationType.Softmax: lambda x, axis: x.softmax(axis),
    ActivationType.BinarySoftmax: lambda x, axis: x.softmax(axis).select(axis, -1),
}


def skm_to_fastai(
    func: Callable[..., Any],
    is_class: bool = True,
    thresh: float | None = None,
    axis: int = -1,
    activation: str | None = None,
    **kwargs: Any,
) -> AccumMetric:
    """A metric made of a function in scikit-learn's form: `func(targets, predictions)`, both NumPy vectors.

    Args:
        func: The function.
        is_class: Predictions are scores of classes, and the function takes classes; False passes the numbers on.
        thresh: The function takes decisions: True where the (sigmoid of the) prediction is at least this.
        axis: The class axis of the predictions.
        activation: An `ActivationType`; by default the sigmoid with `thresh` for classes, otherwise none.
        kwargs: Passed to `AccumMetric` (`flatten=False` for several labels) and on to the function.

    Examples:
        >>> from sklearn.metrics import zero_one_loss
        >>> float(skm_to_fastai(zero_one_loss)(torch.eye(2), torch.tensor([0, 0])))
        0.5
    """
    if activation is None:
        activation = ActivationType.Sigmoid if is_class and thresh is not None else ActivationType.No
    dim_argmax = axis if is_class and thresh is None else None
    return AccumMetric(func, dim_argmax, activation, thresh, to_np=True, invert_arg=True, **kwargs)


class _Best:
    """The best value of a function over one of its arguments."""

    def __init__(
        self, f: Callable[..., Any], argname: str, bounds: tuple[float, float], tol: float, do_neg: bool, get_x: bool
    ) -> None:
        self.f, self.argname, self.bounds, self.tol, self.sign = f, argname, bounds, tol, -1 if do_neg else 1
        self.get_x, self.higher_is_better = get_x, do_neg

    def __call__(self, pred: Tensor, targ: Tensor) -> Any:
        found = sp_optimize.minimize_scalar(
            lambda x: self.sign * float(self.f(pred, targ, **{self.argname: x})),
            bounds=self.bounds,
            method="bounded",
            options={"xatol": self.tol},
        )
        best = float(self.sign * found.fun)
        return (best, float(found.x)) if self.get_x else best


@checked
def optim_metric(
    f: Callable[..., Any],
    argname: str,
    bounds: tuple[float, float],
    tol: float = 0.01,
    do_neg: bool = True,
    get_x: bool = False,
) -> AccumMetric:
    """A metric that is the best value of `f(predictions, targets, argname=x)` for x within `bounds`.

    x is chosen for the whole pass. The search finds a local optimum if there are several.

    Args:
        f: A function of predictions, targets and x.
        argname: The name of the argument x.
        bounds: The smallest and the largest x.
        tol: Tolerance of x.
        do_neg: The best is the largest value; False for the smallest.
        get_x: The metric's value is (value, x).

    Source: Brent 1973, chapter 5

    Examples:
        >>> def closeness(p, t, shift): return -((p + shift - t) ** 2).mean()
        >>> best, shift = optim_metric(closeness, "shift", (0, 1), get_x=True)(torch.zeros(2), torch.full((2,), 0.25))
        >>> round(shift, 2)
        0.25
    """
    return AccumMetric(_Best(f, argname, bounds, tol, do_neg, get_x), flatten=False, name=f"opt_{default_name(f)}")
