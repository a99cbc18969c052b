"""XResNets: ResNets with a stem of three convolutions and pooled shortcuts; also with squeeze and excitation, paths or depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from layered.foundation import BadArgument, L, builders, modules
from layered.nn import (
    AdaptiveAvgPool,
    ConvLayer,
    Flatten,
    MaxPool,
    RecordedSequential,
    ResBlock,
    SEBlock,
    SEResNeXtBlock,
    init_default,
)
from layered.optim import params
from layered.vision.item_transforms import imagenet_stats
from layered.vision.models.backbones import model_meta


def init_cnn(m: nn.Module) -> None:
    """Initialise a convolutional network: He's normal weights for convolutions and linear layers, biases 0.

    Args:
        m: The model.

    Source: He et al. 2015, arXiv:1502.01852

    Examples:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        >>> init_cnn(net); net[0].bias.abs().sum().item()
        0.0
    """
    for layer in m.modules():
        is_weighted = isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear))
        init_default(layer, nn.init.kaiming_normal_ if is_weighted else None)


@modules.register()
class XResNet(RecordedSequential):
    """A stem of three convolutions, pooling, groups of blocks, and a linear classifier.

    Its children are three `ConvLayer`s, the pooling, a sequence of blocks for each element of `layers`, and pooling,
    flattening, dropout and linear layer.

    Args:
        block: Makes a block, as `ResBlock` does: called with `expansion`, input and output channels, and by keyword with
            `stride`, `sa`, `act_cls`, `ndim`, `ks` and `block_args`.
        expansion: 1 for blocks of two convolutions; 4 for bottlenecks.
        layers: The number of blocks in each group; from the fifth on, groups have 256 channels.
        p: Dropout before the classifier.
        c_in: Channels of the images.
        n_out: Number of outputs.
        stem_szs: Channels of the three convolutions of the stem.
        widen: Factor of the channels of all blocks.
        sa: Self-attention in the last block of the first group.
        act_cls: Makes the activations.
        ndim: Number of spatial dimensions.
        ks: Kernel size.
        stride: Stride of the first convolution, and of each group but the first.
        block_args: For each block: `groups`, `reduction`, ….

    Source: He et al. 2019, arXiv:1812.01187

    Examples:
        >>> import torch
        >>> XResNet(ResBlock, 1, [1, 1], n_out=5)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        block: Callable[..., nn.Module],
        expansion: int,
        layers: Sequence[int],
        p: float = 0.0,
        c_in: int = 3,
        n_out: int = 1000,
        stem_szs: Sequence[int] = (32, 32, 64),
        widen: float = 1.0,
        sa: bool = False,
        act_cls: Callable[[], nn.Module] = nn.ReLU,
        ndim: int = 2,
        ks: int = 3,
        stride: int = 2,
        **block_args: Any,
    ) -> None:
        common: dict[str, Any] = {"act_cls": act_cls, "ndim": ndim, "ks": ks}
        stem = [
            ConvLayer(ni, nf, stride=stride if i == 0 else 1, **common)
            for i, (ni, nf) in enumerate(zip([c_in, *stem_szs], stem_szs, strict=False))
        ]
        widths = [int(width * widen) for width in (64, 128, 256, 512, *[256] * (len(layers) - 4))][: len(layers)]
        groups, ni = [], stem_szs[-1] // expansion
        for i, (count, nf) in enumerate(zip(layers, widths, strict=True)):
            blocks = [
                block(
                    expansion,
                    ni if j == 0 else nf,
                    nf,
                    stride=stride if i > 0 and j == 0 else 1,
                    sa=sa and i == 0 and j == count - 1,
                    **common,
                    **block_args,
                )
                for j in range(count)
            ]
            groups.append(nn.Sequential(*blocks))
            ni = nf
        super().__init__(
            *stem,
            MaxPool(ks=ks, stride=stride, padding=ks // 2, ndim=ndim),
            *groups,
            AdaptiveAvgPool(sz=1, ndim=ndim),
            Flatten(),
            nn.Dropout(p),
            nn.Linear(ni * expansion, n_out),
        )
        init_cnn(self)


class XResNetBuilder:
    """Builds an `XResNet` of a certain size: `xresnet50(n_out=10)`.

    Args:
        name: Its name, which exports mention.
        block: Makes a block: see `XResNet`.
        expansion: 1 for blocks of two convolutions; 4 for bottlenecks.
        layers: The number of blocks in each group.
        model_args: Further arguments of `XResNet`, which a call can change.

    Examples:
        >>> xresnet18(n_out=10)[-1]
        Linear(in_features=512, out_features=10, bias=True)
    """

    def __init__(
        self, name: str, block: Callable[..., nn.Module], expansion: int, layers: Sequence[int], **model_args: Any
    ) -> None:
        self.__name__, self.block, self.expansion, self.layers = name, block, expansion, layers
        self.model_args = model_args
        builders.add(f"vision.{name}", self)

    def __call__(self, pretrained: bool = False, **kwargs: Any) -> XResNet:
        """The model; `kwargs` are those of `XResNet`. There are no trained weights."""
        if pretrained:
            raise BadArgument(
                f"there are no trained weights of {self.__name__}",
                got="pretrained=True",
                fix="pretrained=False, or weights='a/local/file.pth' for a learner",
            )
        return XResNet(self.block, self.expansion, list(self.layers), **{**self.model_args, **kwargs})

    def __repr__(self) -> str:
        return self.__name__


_18, _34, _101, _152 = [2, 2, 2, 2], [3, 4, 6, 3], [3, 4, 23, 3], [3, 8, 36, 3]
_DEEP, _DEEPER = [1, 1], [1, 1, 1, 1]  # further groups, each at half the size of the one before
_SE: dict[str, Any] = {"groups": 1, "reduction": 16}
_SE_PATHS: dict[str, Any] = {"groups": 32, "reduction": 16}
_PATHS: dict[str, Any] = {"groups": 32, "reduction": 0}

xresnet18 = XResNetBuilder("xresnet18", ResBlock, 1, _18)
xresnet34 = XResNetBuilder("xresnet34", ResBlock, 1, _34)
xresnet50 = XResNetBuilder("xresnet50", ResBlock, 4, _34)
xresnet101 = XResNetBuilder("xresnet101", ResBlock, 4, _101)
xresnet152 = XResNetBuilder("xresnet152", ResBlock, 4, _152)
xresnet18_deep = XResNetBuilder("xresnet18_deep", ResBlock, 1, [*_18, *_DEEP])
xresnet34_deep = XResNetBuilder("xresnet34_deep", ResBlock, 1, [*_34, *_DEEP])
xresnet50_deep = XResNetBuilder("xresnet50_deep", ResBlock, 4, [*_34, *_DEEP])
xresnet18_deeper = XResNetBuilder("xresnet18_deeper", ResBlock, 1, [2, 2, 1, 1, *_DEEPER])
xresnet34_deeper = XResNetBuilder("xresnet34_deeper", ResBlock, 1, [*_34, *_DEEPER])
xresnet50_deeper = XResNetBuilder("xresnet50_deeper", ResBlock, 4, [*_34, *_DEEPER])
xse_resnet18 = XResNetBuilder("xse_resnet18", SEBlock, 1, _18, **_SE)
xse_resnet34 = XResNetBuilder("xse_resnet34", SEBlock, 1, _34, **_SE)
xse_resnet50 = XResNetBuilder("xse_resnet50", SEBlock, 4, _34, **_SE)
xse_resnet101 = XResNetBuilder("xse_resnet101", SEBlock, 4, _101, **_SE)
xse_resnet152 = XResNetBuilder("xse_resnet152", SEBlock, 4, _152, **_SE)
xse_resnext18 = XResNetBuilder("xse_resnext18", SEResNeXtBlock, 1, _18, **_SE_PATHS)
xse_resnext34 = XResNetBuilder("xse_resnext34", SEResNeXtBlock, 1, _34, **_SE_PATHS)
xse_resnext50 = XResNetBuilder("xse_resnext50", SEResNeXtBlock, 4, _34, **_SE_PATHS)
xse_resnext101 = XResNetBuilder("xse_resnext101", SEResNeXtBlock, 4, _101, **_SE_PATHS)
xresnext18 = XResNetBuilder("xresnext18", SEResNeXtBlock, 1, _18, **_PATHS)
xresnext34 = XResNetBuilder("xresnext34", SEResNeXtBlock, 1, _34, **_PATHS)
xresnext50 = XResNetBuilder("xresnext50", SEResNeXtBlock, 4, _34, **_PATHS)
xresnext101 = XResNetBuilder("xresnext101", SEResNeXtBlock, 4, _101, **_PATHS)
xse_resnext18_deep = XResNetBuilder("xse_resnext18_deep", SEResNeXtBlock, 1, [*_18, *_DEEP], **_SE_PATHS)
xse_resnext34_deep = XResNetBuilder("xse_resnext34_deep", SEResNeXtBlock, 1, [*_34, *_DEEP], **_SE_PATHS)
xse_resnext50_deep = XResNetBuilder("xse_resnext50_deep", SEResNeXtBlock, 4, [*_34, *_DEEP], **_SE_PATHS)
xse_resnext18_deeper = XResNetBuilder("xse_resnext18_deeper", SEResNeXtBlock, 1, [2, 2, 1, 1, *_DEEPER], **_SE_PATHS)
xse_resnext34_deeper = XResNetBuilder("xse_resnext34_deeper", SEResNeXtBlock, 1, [3, 4, 4, 2, 2, 1, 1, 1], **_SE_PATHS)
xse_resnext50_deeper = XResNetBuilder("xse_resnext50_deeper", SEResNeXtBlock, 4, [3, 4, 4, 2, 2, 1, 1, 1], **_SE_PATHS)
xsenet154 = XResNetBuilder("xsenet154", SEBlock, 4, _152, groups=64, reduction=16, p=0.2)


def _xresnet_split(m: Any) -> L:
    return L([params(m[0][:3]), params(m[0][3:]), params(m[1:])], use_list=True)


for _arch in (xresnet18, xresnet34, xresnet50, xresnet101, xresnet152):
    model_meta[_arch] = {"cut": -4, "split": _xresnet_split, "stats": imagenet_stats}
