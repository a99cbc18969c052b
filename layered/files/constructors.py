"""How an object was built: its constructor arguments, so that a file can name its class instead of holding code."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from layered.foundation import BadValue, NotExportable, Recorded, constructor_signature, seeded

_BY_SIZE = {torch.empty, torch.empty_strided, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros}

# Layers whose constructors take `*args, **kwargs`, so that their signatures do not say what they accept.
_RECURRENT = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
_HIDDEN_SIGNATURES: dict[type, tuple[str, ...]] = {
    nn.LSTM: (*_RECURRENT, "proj_size"),
    nn.GRU: _RECURRENT,
    nn.RNN: (*_RECURRENT, "nonlinearity"),
}


class weightless(TorchFunctionMode):
    """Context in which tensors created by size take no memory: they are on the device "meta", as all weights are.

    Tensors created from values are real: constructors look at them, and files do not hold what is computed from them.

    Args:
        most: Raise BadValue once more tensors than this have been created by size.

    Examples:
        >>> with weightless(): layer = torch.nn.Linear(10**6, 10**6)
        >>> layer.weight.device
        device(type='meta')
    """

    def __init__(self, most: float = math.inf) -> None:
        super().__init__()
        self.most, self.made = most, 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in _BY_SIZE:
            self.made += 1
            if self.made > self.most:
                raise BadValue("the model has too many parts", expected=f"at most {self.most} tensors")
            given["device"] = given.get("device") or "meta"
        return func(*args, **given)


def constructor_args(o: Recorded | nn.Module, where: str) -> dict[str, Any]:
    """The arguments that build an object like this one.

    Args:
        o: An object that records its arguments, or a module that keeps each of them in an attribute of the same name.
        where: Its place in the model, for the error.

    Returns:
        Parameter name → value.

    Raises:
        NotExportable: A module that neither records its arguments nor keeps them.
    """
    if isinstance(o, Recorded):
        return o.export_args()
    is_from_torch = type(o).__init__.__module__.startswith("torch.")
    return _torch_args(o, where) if is_from_torch else _kept_args(o, where)


def cannot_describe(where: str, what: object, why: str) -> NotExportable:
    """The error for a part of a model that a file cannot name."""
    name = type(what).__name__ if isinstance(what, nn.Module) else repr(what)
    return NotExportable(
        f"the model cannot be written as data: {name} at '{where or 'its root'}' {why}",
        fix="register its class (a Module of layered.basics, with @exportable('my.name') above it), "
        "or export the weights alone and load them with load_learner(file, model=build())",
    )


def _kept_args(module: nn.Module, where: str) -> dict[str, Any]:
    """The arguments of a user's plain `nn.Module`, if its attributes of the same names hold them."""
    names = constructor_signature(type(module)).parameters
    lost = [name for name in names if not hasattr(module, name)]
    if lost:
        raise cannot_describe(where, module, f"does not keep its argument '{lost[0]}'")
    args = {name: getattr(module, name) for name in names}
    # An attribute may hold something else than the argument it is named after, so build a second one and compare.
    with seeded(0), weightless():
        rebuilt = type(module)(**args)
    if _plain_attributes(rebuilt) != _plain_attributes(module):
        raise cannot_describe(where, module, "has attributes that differ from those its constructor sets")
    return args


def _plain_attributes(module: nn.Module) -> dict[str, object]:
    return {
        name: x for name, x in vars(module).items() if isinstance(x, (bool, int, float, str)) and name != "training"
    }


def _torch_args(module: nn.Module, where: str) -> dict[str, Any]:
    """The arguments of one of torch's own layers, read from the attributes that keep them.

    Defaults are left out, so that a file does not name arguments that an older torch lacks.
    """
    if type(module) in _HIDDEN_SIGNATURES:
        return {name: getattr(module, name) for name in _HIDDEN_SIGNATURES[type(module)]}
    args = {}
    for name, parameter in constructor_signature(type(module)).parameters.items():
        if name in ("device", "dtype", "args", "kwargs") or name.startswith("_"):
            continue
        if hasattr(module, name):
            value = getattr(module, name)
            # The argument `bias` is a flag, the attribute is the parameter itself or None.
            value = value is not None if name == "bias" and not isinstance(value, bool) else value
            if value != parameter.default:
                args[name] = value
        elif parameter.default is inspect.Parameter.empty:
            raise cannot_describe(where, module, f"does not keep its argument '{name}'")
    return args
