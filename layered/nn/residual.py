"""Residual blocks: a path of convolutions beside a shortcut, from plain ResNets to squeeze-and-excitation ResNeXts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from layered.foundation import Recorded, functions, modules
from layered.nn.attention import SimpleSelfAttention
from layered.nn.convolution import ConvLayer, NormType
from layered.nn.layers import Module, RecordedSequential
from layered.nn.pooling import AvgPool

ActClass = Callable[[], nn.Module]


@modules.register()
class SequentialEx(Module):
    """Layers in sequence, each of which finds the input of the whole as `x.orig` on its own input.

    Args:
        layers: The layers.

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
        """Add a layer at the end.

        Args:
            layer: The layer.
        """
        self.layers.append(layer)

    def extend(self, layers: Iterable[nn.Module]) -> None:
        """Add layers at the end.

        Args:
            layers: The layers.
        """
        self.layers.extend(layers)

    def insert(self, i: int, layer: nn.Module) -> None:
        """Insert a layer.

        Args:
            i: Its position.
            layer: The layer.
        """
        self.layers.insert(i, layer)


@modules.register()
class MergeLayer(Module):
    """In a `SequentialEx`: add the input of the whole.

    Args:
        dense: Concatenate it as further channels instead.
    """

    def __init__(self, dense: bool = False) -> None:
        self.dense = dense

    def forward(self, x: Any) -> Any:
        return torch.cat([x, x.orig], dim=1) if self.dense else x + x.orig


@modules.register()
class Cat(Recorded, nn.ModuleList):
    """The outputs of several layers on the same input, concatenated.

    Args:
        layers: The layers.
        dim: The axis along which to concatenate.
    """

    def __init__(self, layers: Iterable[nn.Module], dim: int = 1) -> None:
        super().__init__(layers)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([layer(x) for layer in self], dim=self.dim)


@modules.register()
class ProdLayer(Module):
    """In a `SequentialEx`: multiply by the input of the whole."""

    def forward(self, x: Any) -> Any:
        return x * x.orig


@modules.register()
class SEModule(RecordedSequential):
    """Squeeze and excitation: scale each channel of [batch, ch, h, w] by a factor computed from the means of all channels.

    Args:
        ch: Number of channels.
        reduction: Divides the channels of the hidden layer, whose number is rounded up to a multiple of 8.
        act_cls: Makes the activation of the hidden layer.

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
    """A residual block: activation(convolutions(x) + shortcut(x)).

    The scale of the last normalisation in the path starts at zero, so the block starts as its shortcut.

    Args:
        expansion: 1: two convolutions of size `ks`. Above: a bottleneck of sizes 1, ks and 1.
        ni: Input channels, before they are multiplied by `expansion`.
        nf: Output channels, before they are multiplied by `expansion`.
        stride: Stride of one convolution of the path, and of the shortcut.
        groups: Groups of the first convolution of size `ks`.
        reduction: With squeeze and excitation, whose hidden layer has this many times fewer channels.
        nh1: Channels before the middle convolution of a bottleneck; `nh2` by default.
        nh2: Channels after the first convolution of size `ks`; `nf` by default.
        dw: Depthwise: a group for each channel, in place of `groups`.
        g2: Groups of the last convolution.
        sa: With simple self-attention.
        sym: Keep the matrix of self-attention symmetric.
        norm_type: How to normalise; None not at all.
        act_cls: Makes the activations.
        ndim: Number of spatial dimensions.
        ks: Kernel size.
        pool: Makes the pooling by which the shortcut follows the stride.
        pool_first: Pool before the convolution of the shortcut, not after it.
        conv_args: For each `ConvLayer`.

    Source: He et al. 2016, arXiv:1512.03385; He et al. 2019, arXiv:1812.01187 (the shortcut of their ResNet-D)

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


@functions.register()
def SEBlock(
    expansion: int, ni: int, nf: int, groups: int = 1, reduction: int = 16, stride: int = 1, **kwargs: Any
) -> ResBlock:
    """A `ResBlock` with squeeze and excitation, as wide inside as that of SENet-154.

    Args:
        expansion: As for `ResBlock`.
        ni: Input channels, before they are multiplied by `expansion`.
        nf: Output channels, before they are multiplied by `expansion`.
        groups: Groups of the middle convolution.
        reduction: Divides the channels of the squeezed layer.
        stride: Stride of the block.
        kwargs: For `ResBlock`.

    Source: Hu et al. 2018, arXiv:1709.01507
    """
    widths = {"nh1": nf * 2, "nh2": nf * expansion}
    return ResBlock(expansion, ni, nf, stride=stride, groups=groups, reduction=reduction, **{**widths, **kwargs})


@functions.register()
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
    """A `ResBlock` with squeeze and excitation and parallel paths.

    Args:
        expansion: As for `ResBlock`.
        ni: Input channels, before they are multiplied by `expansion`.
        nf: Output channels, before they are multiplied by `expansion`.
        groups: Number of paths.
        reduction: Divides the channels of the squeezed layer.
        stride: Stride of the block.
        base_width: Channels of a path at `nf` = 64; wider blocks have wider paths.
        kwargs: For `ResBlock`.

    Source: Xie et al. 2017, arXiv:1611.05431
    """
    width = math.floor(nf * (base_width / 64)) * groups
    return ResBlock(expansion, ni, nf, stride=stride, groups=groups, reduction=reduction, **{"nh2": width, **kwargs})


@functions.register()
def SeparableBlock(expansion: int, ni: int, nf: int, reduction: int = 16, stride: int = 1, **kwargs: Any) -> ResBlock:
    """A `ResBlock` with squeeze and excitation whose middle convolution is depthwise.

    Args:
        expansion: As for `ResBlock`.
        ni: Input channels, before they are multiplied by `expansion`.
        nf: Output channels, before they are multiplied by `expansion`.
        reduction: Divides the channels of the squeezed layer.
        stride: Stride of the block.
        kwargs: For `ResBlock`.
    """
    return ResBlock(expansion, ni, nf, stride=stride, reduction=reduction, **{"nh2": nf * 2, "dw": True, **kwargs})
