"""Residual layers: a path of convolutions beside a short cut, from plain ResNets to squeeze-and-excitation ResNeXts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from layered.foundation import Recorded, modules
from layered.nn.attention import SimpleSelfAttention
from layered.nn.convolution import ConvLayer, NormType
from layered.nn.init import InitFunc
from layered.nn.layers import Module, RecordedSequential
from layered.nn.pooling import AvgPool

ActClass = Callable[[], nn.Module]


@modules.register()
class SequentialEx(Module):
    """Layers one after the other, each of which finds the input of the whole as `x.orig` of its own input.

    Examples:
        >>> SequentialEx(nn.Linear(2, 2), nn.ReLU(), MergeLayer())(torch.zeros(1, 2)).shape
        torch.Size([1, 2])
    """

    def __init__(self, *layers: nn.Module) -> None:
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Any = x
        for layer in self.layers:
            out.orig = x
            into, out = out, layer(out)
            into.orig = None
        return out  # type: ignore[no-any-return]

    def __getitem__(self, i: int) -> nn.Module:
        return self.layers[i]

    def append(self, layer: nn.Module) -> None:
        """Put one more layer at the end."""
        self.layers.append(layer)

    def extend(self, layers: Iterable[nn.Module]) -> None:
        """Put more layers at the end."""
        self.layers.extend(layers)

    def insert(self, i: int, layer: nn.Module) -> None:
        """Put a layer before the `i`-th."""
        self.layers.insert(i, layer)


@modules.register()
class MergeLayer(Module):
    """In a `SequentialEx`: add its input, or with `dense` put it beside, as further channels."""

    def __init__(self, dense: bool = False) -> None:
        self.dense = dense

    def forward(self, x: Any) -> Any:
        return torch.cat([x, x.orig], dim=1) if self.dense else x + x.orig


@modules.register()
class Cat(Recorded, nn.ModuleList):
    """The outputs of several layers on the same input, side by side along `dim`."""

    def __init__(self, layers: Iterable[nn.Module], dim: int = 1) -> None:
        super().__init__(layers)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([layer(x) for layer in self], dim=self.dim)


@modules.register()
class ProdLayer(Module):
    """In a `SequentialEx`: multiply by its input."""

    def forward(self, x: Any) -> Any:
        return x * x.orig


@modules.register()
class SEModule(RecordedSequential):
    """Squeeze and excitation: each channel of [batch, ch, h, w] is scaled by what the means of all of them say.

    Args:
        reduction: How many times fewer channels there are in between (rounded up to a multiple of 8).

    Source: Hu et al. 2018, arXiv:1709.01507
    """

    def __init__(self, ch: int, reduction: int, act_cls: ActClass = nn.ReLU) -> None:
        nf = math.ceil(ch // reduction / 8) * 8
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            ConvLayer(ch, nf, 1, norm_type=None, act_cls=act_cls),
            ConvLayer(nf, ch, 1, norm_type=None, act_cls=nn.Sigmoid),
        )

    def forward(self, x: Tensor) -> Tensor:
        pool, squeeze, excite = self
        return x * excite(squeeze(pool(x)))  # type: ignore[no-any-return]


@modules.register()
class ResBlock(Module):
    """A residual layer: activation(convolutions(x) + short cut(x)).

    The normalisation that ends the path starts at zero, so the layer starts as its short cut.

    Args:
        expansion: 1: two convolutions of `ks`; more: a bottleneck 1, ks, 1 with `expansion` times the channels around
            it.
        ni: Input and output channels, both times `expansion`.
        nf: Input and output channels, both times `expansion`.
        nh1: Channels in between; `nf` (before expansion) by default.
        nh2: Channels in between; `nf` (before expansion) by default.
        reduction: With squeeze and excitation, that many times fewer channels within.
        dw: Depthwise: one group for each channel, in place of `groups`; `g2` are the groups of the last convolution.
        sa: With simple self-attention, symmetric.
        sym: With simple self-attention, symmetric.
        pool: How the short cut follows the stride, before its convolution with `pool_first`.
        conv_args: Passed to each `ConvLayer`.

    Source: He et al. 2016, arXiv:1512.03385; He et al. 2019, arXiv:1812.01187 (the short cut of their ResNet-D)

    Examples:
        >>> ResBlock(4, 16, 32, stride=2)(torch.zeros(1, 64, 8, 8)).shape
        torch.Size([1, 128, 4, 4])
    """

    def __init__(
        self,
        expansion: int,
        ni: int,
        nf: int,
        stride: int = 1,
        groups: int = 1,
        reduction: int | None = None,
        nh1: int | None = None,
        nh2: int | None = None,
        dw: bool = False,
        g2: int = 1,
        sa: bool = False,
        sym: bool = False,
        norm_type: NormType | None = NormType.Batch,
        act_cls: ActClass = nn.ReLU,
        ndim: int = 2,
        ks: int = 3,
        pool: Callable[..., nn.Module] = AvgPool,
        pool_first: bool = True,
        **conv_args: Any,
    ) -> None:
        nh2 = nh2 or nf
        nh1 = nh1 or nh2
        ni, nf = ni * expansion, nf * expansion
        common = {"ndim": ndim, **conv_args}
        inner = {"norm_type": norm_type, "act_cls": act_cls, **common}
        last = {"norm_type": _ZERO.get(norm_type, norm_type), "act_cls": None, "groups": g2, **common}
        if expansion == 1:
            path = [
                ConvLayer(ni, nh2, ks, stride=stride, groups=ni if dw else groups, **inner),
                ConvLayer(nh2, nf, ks, **last),
            ]
        else:
            path = [
                ConvLayer(ni, nh1, 1, **inner),
                ConvLayer(nh1, nh2, ks, stride=stride, groups=nh1 if dw else groups, **inner),
                ConvLayer(nh2, nf, 1, **last),
            ]
        extra: list[nn.Module] = []
        if reduction:
            extra.append(SEModule(nf, reduction, act_cls))
        if sa:
            extra.append(SimpleSelfAttention(nf, ks=1, sym=sym))
        self.convpath = nn.Sequential(*path, *extra)
        short_cut: list[nn.Module] = []
        if ni != nf:
            short_cut.append(ConvLayer(ni, nf, 1, norm_type=norm_type, act_cls=None, **common))
        if stride != 1:
            short_cut.insert(0 if pool_first else len(short_cut), pool(stride, ndim=ndim, ceil_mode=True))
        self.idpath = nn.Sequential(*short_cut)
        self.act = act_cls()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.convpath(x) + self.idpath(x))  # type: ignore[no-any-return]


_ZERO: dict[NormType | None, NormType] = {
    NormType.Batch: NormType.BatchZero,
    NormType.Instance: NormType.InstanceZero,
}


def SEBlock(
    expansion: int, ni: int, nf: int, groups: int = 1, reduction: int = 16, stride: int = 1, **kwargs: Any
) -> ResBlock:
    """A `ResBlock` with squeeze and excitation, as wide within as SENet-154.

    Source: Hu et al. 2018, arXiv:1709.01507
    """
    widths = {"nh1": nf * 2, "nh2": nf * expansion}
    return ResBlock(expansion, ni, nf, stride=stride, groups=groups, reduction=reduction, **{**widths, **kwargs})


def SEResNeXtBlock(
    expansion: int,
    ni: int,
    nf: int,
    groups: int = 32,
    reduction: int = 16,
    stride: int = 1,
    base_width: int = 4,
    **kwargs: Any,
) -> ResBlock:
    """A `ResBlock` with squeeze and excitation and `groups` parallel paths, each `base_width` channels wide at nf = 64.

    Source: Xie et al. 2017, arXiv:1611.05431
    """
    width = math.floor(nf * (base_width / 64)) * groups
    return ResBlock(expansion, ni, nf, stride=stride, groups=groups, reduction=reduction, **{"nh2": width, **kwargs})


def SeparableBlock(expansion: int, ni: int, nf: int, reduction: int = 16, stride: int = 1, **kwargs: Any) -> ResBlock:
    """A `ResBlock` with squeeze and excitation whose middle convolution is depthwise."""
    return ResBlock(expansion, ni, nf, stride=stride, reduction=reduction, **{"nh2": nf * 2, "dw": True, **kwargs})


def icnr_init(x: Tensor, scale: int = 2, init: InitFunc = nn.init.kaiming_normal_) -> Tensor:
    """Weights like `x` ([out, in, h, w]) that make a pixel shuffle by `scale` start as nearest-neighbour enlargement.

    Source: Aitken et al. 2017, arXiv:1707.02937
    """
    small = torch.empty(x.shape[0] // scale**2, *x.shape[1:], dtype=x.dtype, device=x.device)
    init(small)
    return small.repeat_interleave(scale**2, 0)


@modules.register()
class PixelShuffle_ICNR(RecordedSequential):
    """[batch, ni, h, w] → [batch, nf, scale * h, scale * w]: a convolution, then its channels become pixels.

    Args:
        nf: Output channels; `ni` by default.
        blur: Smooth the result with a 2x2 mean.

    Source: Shi et al. 2016, arXiv:1609.05158; Sugawara et al. 2018, arXiv:1806.02658 (blur)

    Examples:
        >>> PixelShuffle_ICNR(8, 4)(torch.zeros(1, 8, 5, 5)).shape
        torch.Size([1, 4, 10, 10])
    """

    def __init__(
        self,
        ni: int,
        nf: int | None = None,
        scale: int = 2,
        blur: bool = False,
        norm_type: NormType | None = NormType.Weight,
        act_cls: Callable[[], nn.Module] | None = nn.ReLU,
    ) -> None:
        conv = ConvLayer(ni, (nf or ni) * scale**2, ks=1, norm_type=norm_type, act_cls=act_cls, bias_std=0)
        with torch.no_grad():
            weight = icnr_init(conv[0].weight, scale)
        if norm_type in (NormType.Weight, NormType.Spectral):
            conv[0].weight = weight
        else:
            conv[0].weight.data.copy_(weight)
        smooth = [nn.ReplicationPad2d((1, 0, 1, 0)), nn.AvgPool2d(2, stride=1)] if blur else []
        super().__init__(conv, nn.PixelShuffle(scale), *smooth)
