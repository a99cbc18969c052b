"""Layers that torch does not have, and the blocks that heads and courses are built of."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from layered.foundation.errors import BadValue
from layered.foundation.recorded import Recorded
from layered.foundation.registry import modules
from layered.nn.init import InitFunc, init_linear, trunc_normal

Identity = nn.Identity


class NormType(Enum):
    """How a layer is normalised; those in `Zero` start with a scale of 0."""

    Batch, BatchZero, Weight, Spectral, Instance, InstanceZero = range(1, 7)


class Module(Recorded, nn.Module):
    """`nn.Module` that needs no `super().__init__()`, and that remembers its constructor arguments.

    Registered (`@modules.register()`), such a class may stand in exported models.

    >>> class Double(Module):
    ...     def __init__(self): self.inner = nn.Linear(1, 1)
    ...     def forward(self, x): return 2 * self.inner(x)
    >>> len(list(Double().parameters()))
    2
    """

    __jit_unused_properties__: ClassVar[list[str]] = ["init_args"]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls, *args, **kwargs)
        nn.Module.__init__(self)
        return self

    def __init__(self) -> None: ...


class RecordedSequential(Recorded, nn.Sequential):
    """A block that is a sequence of layers made from its constructor arguments; a slice of it is an `nn.Sequential`."""

    __jit_unused_properties__: ClassVar[list[str]] = ["init_args"]

    def __getitem__(self, idx: Any) -> Any:
        return nn.Sequential(*list(self)[idx]) if isinstance(idx, slice) else super().__getitem__(idx)


@modules.register()
class Lambda(Module):
    """A function as a layer."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    def forward(self, x: Any) -> Any:
        return self.func(x)

    def extra_repr(self) -> str:
        return getattr(self.func, "__name__", repr(self.func))


@modules.register()
class Flatten(Module):
    """[batch, ...] → [batch, numbers]; with `full`, all of it → [numbers]."""

    def __init__(self, full: bool = False) -> None:
        self.full = full

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1) if self.full else x.flatten(1)

    def extra_repr(self) -> str:
        return f"full={self.full}"


@modules.register()
class View(Module):
    """Any tensor → one of this size, as `torch.Tensor.view`."""

    def __init__(self, *size: int) -> None:
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x.view(self.size)

    def extra_repr(self) -> str:
        return str(self.size)


@modules.register()
class ResizeBatch(Module):
    """[batch, ...] → [batch, *size]."""

    def __init__(self, *size: int) -> None:
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x.view((x.shape[0], *self.size))

    def extra_repr(self) -> str:
        return str(self.size)


def sequential(*layers: Any) -> nn.Sequential:
    """`nn.Sequential` that takes plain functions too."""
    return nn.Sequential(*(layer if isinstance(layer, nn.Module) else Lambda(layer) for layer in layers))


def sigmoid_range(x: Tensor, low: float, high: float) -> Tensor:
    """A sigmoid that goes from `low` to `high`.

    >>> sigmoid_range(torch.zeros(1), 0, 5.5)
    tensor([2.7500])
    """
    return torch.sigmoid(x) * (high - low) + low


@modules.register()
class SigmoidRange(Module):
    """`sigmoid_range` as a layer: keeps the outputs of a regression within (low, high)."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return sigmoid_range(x, self.low, self.high)

    def extra_repr(self) -> str:
        return f"low={self.low}, high={self.high}"


class PoolType:
    """What `adaptive_pool` pools by: the mean, the maximum, or both side by side."""

    Avg, Max, Cat = "Avg", "Max", "Cat"


class _AdaptiveConcatPool(Module):
    """The maximum and the mean of each channel: twice the channels, the maxima first.

    size       the size of the result in each spatial dimension; 1 if None
    """

    pools: ClassVar[tuple[type[nn.Module], type[nn.Module]]]

    def __init__(self, size: int | tuple[int, ...] | None = None) -> None:
        most, mean = self.pools
        self.size = size or 1
        self.ap, self.mp = mean(self.size), most(self.size)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.mp(x), self.ap(x)], 1)


@modules.register()
class AdaptiveConcatPool1d(_AdaptiveConcatPool):
    """[batch, channel, length] → [batch, 2 * channel, size]: maxima first, then means."""

    pools = nn.AdaptiveMaxPool1d, nn.AdaptiveAvgPool1d


@modules.register()
class AdaptiveConcatPool2d(_AdaptiveConcatPool):
    """[batch, channel, height, width] → [batch, 2 * channel, size, size]: maxima first, then means.

    >>> AdaptiveConcatPool2d()(torch.tensor([[[[1.0, 3.0]]]])).flatten()
    tensor([3., 2.])
    """

    pools = nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d


def adaptive_pool(pool_type: str) -> type[nn.Module]:
    """The class of layer for a `PoolType`."""
    pools = {
        PoolType.Avg: nn.AdaptiveAvgPool2d,
        PoolType.Max: nn.AdaptiveMaxPool2d,
        PoolType.Cat: AdaptiveConcatPool2d,
    }
    if pool_type not in pools:
        raise BadValue(f"there is no pooling {pool_type!r}", expected="one of " + ", ".join(pools))
    return pools[pool_type]


@modules.register()
class PoolFlatten(RecordedSequential):
    """[batch, channel, height, width] → [batch, channel], or twice the channels for `PoolType.Cat`."""

    def __init__(self, pool_type: str = PoolType.Avg) -> None:
        super().__init__(adaptive_pool(pool_type)(1), Flatten())


def BatchNorm(
    nf: int, ndim: int = 2, norm_type: NormType = NormType.Batch, *, eps: float = 1e-5, momentum: float = 0.1
) -> nn.Module:
    """Batch norm over `nf` channels of data with `ndim` spatial dimensions (1 for vectors too).

    The bias starts at 1e-3, the scale at 1, or at 0 for `NormType.BatchZero` (a residual branch that starts silent).
    """
    layer = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[ndim - 1](nf, eps=eps, momentum=momentum)
    return _start_norm(layer, zero=norm_type is NormType.BatchZero)


def InstanceNorm(
    nf: int, ndim: int = 2, norm_type: NormType = NormType.Instance, *, affine: bool = True, eps: float = 1e-5
) -> nn.Module:
    """Instance norm over `nf` channels; starts as `BatchNorm` does, at 0 for `NormType.InstanceZero`."""
    layer = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[ndim - 1](nf, affine=affine, eps=eps)
    return _start_norm(layer, zero=norm_type is NormType.InstanceZero)


def _start_norm(layer: Any, *, zero: bool) -> nn.Module:
    if layer.affine:
        nn.init.constant_(layer.bias, 1e-3)
        nn.init.constant_(layer.weight, 0.0 if zero else 1.0)
    return layer  # type: ignore[no-any-return]


@modules.register()
class LinBnDrop(RecordedSequential):
    """Batch norm, dropout and a linear layer; the linear layer (and the activation) first with `lin_first`.

    bn         with batch norm; the linear layer then has no bias
    p          share of numbers dropped; 0 leaves the dropout out
    act        activation after the linear layer
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        bn: bool = True,
        p: float = 0.0,
        act: nn.Module | None = None,
        lin_first: bool = False,
    ) -> None:
        before: list[nn.Module] = [BatchNorm(n_out if lin_first else n_in, ndim=1)] if bn else []
        if p:
            before.append(nn.Dropout(p))
        linear: list[nn.Module] = [nn.Linear(n_in, n_out, bias=not bn)]
        if act is not None:
            linear.append(act)
        super().__init__(*(linear + before if lin_first else before + linear))


_BATCH = (NormType.Batch, NormType.BatchZero)
_INSTANCE = (NormType.Instance, NormType.InstanceZero)


@modules.register()
class ConvLayer(RecordedSequential):
    """A convolution, its normalisation and its activation, initialised to fit each other.

    ni, nf     input and output channels
    padding    (ks - 1) // 2 by default, which keeps the size at stride 1; 0 where transposed
    bias       by default only without batch or instance norm
    bn_1st     normalise before the activation
    act_cls    makes the activation; None for none
    init       function for the weights; "auto" picks by the activation
    xtra       a module to put at the end

    >>> ConvLayer(3, 8, stride=2)(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 8, 16, 16])
    """

    def __init__(
        self,
        ni: int,
        nf: int,
        ks: int = 3,
        stride: int = 1,
        padding: int | None = None,
        bias: bool | None = None,
        ndim: int = 2,
        norm_type: NormType | None = NormType.Batch,
        bn_1st: bool = True,
        act_cls: Callable[[], nn.Module] | None = nn.ReLU,
        transpose: bool = False,
        init: InitFunc | str | None = "auto",
        xtra: nn.Module | None = None,
        bias_std: float = 0.01,
        *,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        if padding is None:
            padding = 0 if transpose else (ks - 1) // 2
        if bias is None:
            bias = norm_type not in _BATCH + _INSTANCE
        conv = _conv_class(ndim, transpose)(
            ni, nf, ks, stride=stride, padding=padding, bias=bias, dilation=dilation, groups=groups
        )
        act = act_cls() if act_cls is not None else None
        init_linear(conv, act, init, bias_std)
        after: list[nn.Module] = [act] if act is not None else []
        if norm_type in _BATCH:
            after.insert(0 if bn_1st else len(after), BatchNorm(nf, ndim, norm_type))
        elif norm_type in _INSTANCE:
            after.insert(0 if bn_1st else len(after), InstanceNorm(nf, ndim, norm_type))
        super().__init__(_normed_weight(conv, norm_type), *after, *([xtra] if xtra is not None else []))


def _conv_class(ndim: int, transpose: bool) -> Callable[..., nn.Module]:
    plain = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    return (transposed if transpose else plain)[ndim - 1]


def _normed_weight(conv: nn.Module, norm_type: NormType | None) -> nn.Module:
    if norm_type is NormType.Weight:
        weight_norm(conv)
    elif norm_type is NormType.Spectral:
        spectral_norm(conv)
    return conv


@modules.register()
class Embedding(Recorded, nn.Embedding):
    """`nn.Embedding` of `ni` rows of `nf` numbers that start truncated-normal with standard deviation `std`."""

    __jit_unused_properties__: ClassVar[list[str]] = ["init_args"]

    def __init__(self, ni: int, nf: int, std: float = 0.01) -> None:
        super().__init__(ni, nf)
        trunc_normal(self.weight.data, std=std)
