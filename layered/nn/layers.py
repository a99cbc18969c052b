"""`Module`, the base of the library's modules; small layers that wrap functions and shapes; activations."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layered.foundation import Recorded, function_name, modules
from layered.nn.init import trunc_normal_

T = TypeVar("T")

Identity = nn.Identity


class Module(Recorded, nn.Module):
    """`nn.Module` that needs no `super().__init__()` and remembers its constructor arguments.

    Registered under a name (`@exportable("my.layer")`), such a class may be part of exported models.

    Examples:
        >>> class Double(Module):
        ...     def __init__(self): self.inner = nn.Linear(1, 1)
        ...     def forward(self, x): return 2 * self.inner(x)
        >>> len(list(Double().parameters()))
        2
    """

    __jit_unused_properties__: ClassVar[list[str]] = ["init_args"]

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        self = super().__new__(cls, *args, **kwargs)
        nn.Module.__init__(self)  # before the class's own `__init__`, which may assign layers at once
        return self

    def __init__(self) -> None: ...


class RecordedSequential(Recorded, nn.Sequential):
    """Base of blocks that build a sequence of layers from their arguments; a slice of one is a plain `nn.Sequential`."""

    __jit_unused_properties__: ClassVar[list[str]] = ["init_args"]

    def __getitem__(self, idx: int | slice) -> Any:
        return nn.Sequential(*list(self)[idx]) if isinstance(idx, slice) else super().__getitem__(idx)


def module(*fields: str, **defaults: object) -> Callable[[Callable[..., Any]], type[Module]]:
    """Decorator: make a module class of its forward function.

    Args:
        fields: Names of required constructor arguments, which become attributes.
        defaults: The same with default values.

    Examples:
        >>> @module("factor", shift=0.0)
        ... def Scale(self, x): return x * self.factor + self.shift
        >>> Scale(2.0)(torch.ones(1)), Scale(2.0, shift=1.0)
        (tensor([2.]), Scale(factor=2.0, shift=1.0))
    """
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("self", *fields)]
    parameters += [inspect.Parameter(name, kind, default=default) for name, default in defaults.items()]
    signature = inspect.Signature(parameters)

    def __init__(self: Module, *args: object, **kwargs: object) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        for name, value in list(bound.arguments.items())[1:]:
            setattr(self, name, value)

    def extra_repr(self: Module) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in (*fields, *defaults))

    __init__.__signature__ = signature  # type: ignore[attr-defined]

    def make(forward: Callable[..., Any]) -> type[Module]:
        body = {
            "__init__": __init__, "forward": forward, "extra_repr": extra_repr, "__doc__": forward.__doc__,
            "__module__": forward.__module__, "__qualname__": forward.__qualname__,
        }  # fmt: skip
        return type(forward.__name__, (Module,), body)

    return make


@modules.register()
class Lambda(Module):
    """A function as a layer.

    Args:
        func: Called with the input.
    """

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    def forward(self, x: object) -> Any:
        return self.func(x)

    def extra_repr(self) -> str:
        return function_name(self.func)


@modules.register()
class PartialLambda(Module):
    """A function with some keyword arguments as a layer.

    Args:
        func: Called with the input and `kwargs`.
        kwargs: Keyword arguments of the function.
    """

    def __init__(self, func: Callable[..., Any], **kwargs: object) -> None:
        self.func, self.kwargs = func, kwargs

    def forward(self, x: object) -> Any:
        return self.func(x, **self.kwargs)

    def extra_repr(self) -> str:
        return ", ".join([function_name(self.func), *(f"{k}={v}" for k, v in self.kwargs.items())])


class Debugger(Module):
    """Opens Python's debugger on each call, and returns its input."""

    def forward(self, x: T) -> T:
        breakpoint()
        return x


@modules.register()
class Flatten(Module):
    """Flatten [batch, ...] to [batch, features].

    Args:
        full: Flatten the batch axis too: [numbers].
    """

    def __init__(self, full: bool = False) -> None:
        self.full = full

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1) if self.full else x.flatten(1)

    def extra_repr(self) -> str:
        return f"full={self.full}"


@modules.register()
class View(Module):
    """View a tensor in another shape, as `torch.Tensor.view` does.

    Args:
        size: The shape.
    """

    def __init__(self, *size: int) -> None:
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x.view(self.size)

    def extra_repr(self) -> str:
        return str(self.size)


@modules.register()
class ResizeBatch(Module):
    """View [batch, ...] as [batch, *size].

    Args:
        size: The shape of one sample.
    """

    def __init__(self, *size: int) -> None:
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x.view((x.shape[0], *self.size))

    def extra_repr(self) -> str:
        return str(self.size)


class ParameterModule(Module):
    """A single parameter as a module, so that code that walks over modules finds it.

    Args:
        p: The parameter.
    """

    def __init__(self, p: nn.Parameter) -> None:
        self.val = p

    def forward(self, x: T) -> T:
        return x


@modules.register()
class TimeDistributed(Module):
    """Apply a module to each step of a sequence: [batch, time, ...] to [batch, time, ...].

    Args:
        module: The module.
        low_mem: Run one step at a time; otherwise all steps run at once, as one large batch.
        tdim: The time axis of inputs and outputs.

    Examples:
        >>> TimeDistributed(nn.Conv2d(3, 8, 3))(torch.zeros(2, 5, 3, 10, 10)).shape
        torch.Size([2, 5, 8, 8, 8])
    """

    def __init__(self, module: nn.Module, low_mem: bool = False, tdim: int = 1) -> None:
        self.module, self.low_mem, self.tdim = module, low_mem, tdim

    def forward(self, *xs: Tensor, **kwargs: object) -> Tensor:
        if self.low_mem:
            steps = zip(*(x.unbind(self.tdim) for x in xs), strict=True)
            return torch.stack([self.module(*step, **kwargs) for step in steps], self.tdim)
        xs = tuple(x.movedim(self.tdim, 1) for x in xs)
        out: Tensor = self.module(*(x.flatten(0, 1) for x in xs), **kwargs)
        return out.view(*xs[0].shape[:2], *out.shape[1:]).movedim(1, self.tdim)


def sequential(*layers: nn.Module | Callable[..., Any]) -> nn.Sequential:
    """`nn.Sequential` that also accepts plain functions.

    Args:
        layers: Modules or functions.
    """
    return nn.Sequential(*(layer if isinstance(layer, nn.Module) else Lambda(layer) for layer in layers))


@modules.register()
class Embedding(Recorded, nn.Embedding):
    """`nn.Embedding` with truncated-normal weights.

    Args:
        ni: Number of rows.
        nf: Numbers in a row.
        std: Standard deviation of the weights.
    """

    __jit_unused_properties__: ClassVar[list[str]] = ["init_args"]

    def __init__(self, ni: int, nf: int, std: float = 0.01) -> None:
        super().__init__(ni, nf)
        trunc_normal_(self.weight.data, std=std)


swish, mish = F.silu, F.mish
Swish = SwishJit = nn.SiLU
Mish = MishJit = nn.Mish


def sigmoid(input: Tensor, eps: float = 1e-7) -> Tensor:
    """A sigmoid clamped to [eps, 1 - eps], so that its logarithm is finite.

    Args:
        input: Any tensor.
        eps: Distance from 0 and 1.
    """
    return input.sigmoid().clamp(eps, 1 - eps)


def sigmoid_(input: Tensor, eps: float = 1e-7) -> Tensor:
    """`sigmoid`, in place.

    Args:
        input: Any tensor; changed.
        eps: Distance from 0 and 1.
    """
    return input.sigmoid_().clamp_(eps, 1 - eps)


def vleaky_relu(input: Tensor, inplace: bool = True) -> Tensor:
    """A leaky ReLU with slope 0.3.

    Args:
        input: Any tensor.
        inplace: Write over the input.
    """
    return F.leaky_relu(input, 0.3, inplace=inplace)


def inplace_relu() -> nn.ReLU:
    """A ReLU that writes over its input; for `act_cls=`."""
    return nn.ReLU(inplace=True)


def sigmoid_range(x: Tensor, low: float, high: float) -> Tensor:
    """A sigmoid from `low` to `high`.

    Args:
        x: Any tensor.
        low: Lower limit.
        high: Upper limit.

    Examples:
        >>> sigmoid_range(torch.zeros(1), 0, 5.5)
        tensor([2.7500])
    """
    return torch.sigmoid(x) * (high - low) + low


@modules.register()
class SigmoidRange(Module):
    """`sigmoid_range` as a layer: keeps the outputs of a regression within (low, high).

    Args:
        low: Lower limit.
        high: Upper limit.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return sigmoid_range(x, self.low, self.high)

    def extra_repr(self) -> str:
        return f"low={self.low}, high={self.high}"
