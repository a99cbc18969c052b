"""Pooling to a fixed size by the mean, the maximum or both, and plain pooling of 1 to 3 dimensions."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from layered.foundation import BadValue, functions, modules
from layered.nn.layers import Flatten, Module, RecordedSequential


def AdaptiveAvgPool(sz: int = 1, ndim: int = 2) -> nn.Module:
    """Mean pooling to a fixed size.

    Args:
        sz: Size of the result in each spatial dimension.
        ndim: Number of spatial dimensions.
    """
    return (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[ndim - 1](sz)


@functions.register()
def MaxPool(
    ks: int = 2, stride: int | None = None, padding: int = 0, ndim: int = 2, ceil_mode: bool = False
) -> nn.Module:
    """Maximum pooling.

    Args:
        ks: Size of the window.
        stride: Step of the window; by default its size.
        padding: Padding on each side.
        ndim: Number of spatial dimensions.
        ceil_mode: Keep incomplete windows at the end.
    """
    pool = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[ndim - 1]
    return pool(ks, stride=stride, padding=padding, ceil_mode=ceil_mode)


@functions.register()
def AvgPool(
    ks: int = 2, stride: int | None = None, padding: int = 0, ndim: int = 2, ceil_mode: bool = False
) -> nn.Module:
    """Mean pooling.

    Args:
        ks: Size of the window.
        stride: Step of the window; by default its size.
        padding: Padding on each side.
        ndim: Number of spatial dimensions.
        ceil_mode: Keep incomplete windows at the end.
    """
    pool = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)[ndim - 1]
    return pool(ks, stride=stride or ks, padding=padding, ceil_mode=ceil_mode)


class PoolType:
    """What `adaptive_pool` pools by: the mean, the maximum, or both side by side."""

    Avg, Max, Cat = "Avg", "Max", "Cat"


class _AdaptiveConcatPool(Module):
    """The maximum and the mean of each channel: twice the channels, the maxima first.

    Args:
        size: The size of the result in each spatial dimension; 1 if None.
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

    Examples:
        >>> AdaptiveConcatPool2d()(torch.tensor([[[[1.0, 3.0]]]])).flatten()
        tensor([3., 2.])
    """

    pools = nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d


def adaptive_pool(pool_type: str) -> type[nn.Module]:
    """The layer class of a `PoolType`.

    Args:
        pool_type: "Avg", "Max" or "Cat".

    Raises:
        BadValue: For any other value.
    """
    pools = {
        PoolType.Avg: nn.AdaptiveAvgPool2d,
        PoolType.Max: nn.AdaptiveMaxPool2d,
        PoolType.Cat: AdaptiveConcatPool2d,
    }
    if pool_type not in pools:
        raise BadValue(f"unknown pooling {pool_type!r}", expected="one of " + ", ".join(pools))
    return pools[pool_type]


@modules.register()
class PoolFlatten(RecordedSequential):
    """Pool and flatten: [batch, channel, height, width] to [batch, channel], or twice the channels for `PoolType.Cat`.

    Args:
        pool_type: "Avg", "Max" or "Cat".
    """

    def __init__(self, pool_type: str = PoolType.Avg) -> None:
        super().__init__(adaptive_pool(pool_type)(1), Flatten())
