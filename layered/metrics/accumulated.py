"""Metrics that need all predictions at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from layered.foundation.errors import BadValue
from layered.foundation.tensors import plain
from layered.metrics.metric import Metric, flatten_check, function_name


class ActivationType:
    """What `AccumMetric` does to predictions first; `BinarySoftmax` keeps the probability of the last class."""

    No, Sigmoid, Softmax, BinarySoftmax = "no", "sigmoid", "softmax", "binary_softmax"


class AccumMetric(Metric):
    """A function of the predictions and targets of the whole pass, kept on their device until the value is read.

    func           function of (predictions, targets), of (targets, predictions) with `invert_arg`
    dim_argmax     take the index of the largest along this axis
    activation     an `ActivationType`, applied along `dim_argmax` or the last axis
    thresh         True where a prediction is at least this
    to_np          hand NumPy arrays to the function
    flatten        hand vectors to the function
    name           its name in tables; the function's by default
    kwargs         passed to the function

    >>> AccumMetric(lambda p, t: (p - t).abs().max(), name="worst")(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 1.0]))
    3.0
    """

    state = ("preds", "targs")
    preds: tuple[Tensor, ...] = ()
    targs: tuple[Tensor, ...] = ()

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
        **kwargs: Any,
    ) -> None:
        if activation not in _ACTIVATIONS:
            raise BadValue(f"there is no activation {activation!r}", expected="one of " + ", ".join(_ACTIVATIONS))
        self.func, self.dim_argmax, self.activation, self.thresh = func, dim_argmax, activation, thresh
        self.to_np, self.invert_arg, self.flatten, self.kwargs = to_np, invert_arg, flatten, kwargs
        self.name = name or function_name(func)

    def update(self, pred: Tensor, targ: Tensor) -> None:
        pred, targ = plain(pred).detach(), plain(targ).detach()
        pred = _ACTIVATIONS[self.activation](pred, -1 if self.dim_argmax is None else self.dim_argmax)
        if self.dim_argmax is not None and self.activation != ActivationType.BinarySoftmax:
            pred = pred.argmax(dim=self.dim_argmax)
        if self.thresh is not None:
            pred = pred >= self.thresh
        if self.flatten:
            pred, targ = flatten_check(pred, targ)
        self.preds += (pred,)
        self.targs += (targ,)

    def compute(self) -> Any:
        pair: list[Any] = [torch.cat(self.preds), torch.cat(self.targs)]
        if self.to_np:
            pair = [x.cpu().numpy() for x in pair]
        if self.invert_arg:
            pair.reverse()
        return self.func(*pair, **self.kwargs)


_ACTIVATIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    ActivationType.No: lambda x, axis: x,
    ActivationType.Sigmoid: lambda x, axis: x.sigmoid(),
    ActivationType.Softmax: lambda x, axis: x.softmax(axis),
    ActivationType.BinarySoftmax: lambda x, axis: x.softmax(axis).select(axis, -1),
}
