"""U-Net on any convolutional body: from its feature maps of every size back to the size of the image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layered.foundation import BadValue, modules
from layered.integrations import TimmMaps
from layered.nn import (
    BatchNorm,
    ConvLayer,
    MergeLayer,
    Module,
    NormType,
    PixelShuffle_ICNR,
    ResBlock,
    SelfAttention,
    SequentialEx,
    SigmoidRange,
    apply_init,
    in_channels,
    undisturbed,
)

ActClass = Callable[[], nn.Module]
InitFunc = Callable[..., Any]


class UnetArgs(TypedDict, total=False):
    """What `DynamicUnet` takes by keyword; meanings and defaults are its own."""

    blur: bool
    blur_final: bool
    self_attention: bool
    y_range: tuple[float, float] | None
    last_cross: bool
    bottle: bool
    act_cls: ActClass
    init: InitFunc | None
    norm_type: NormType | None


Level = tuple[int, int, int]
"""A feature map of the body: which of its outputs, how many channels, and how many times smaller than the image."""

PROBE = 256  # pixels a side on which a body is run to find its feature maps; larger images have the same


@modules.register()
class ResizeToOrig(Module):
    """In a `SequentialEx`: resize [batch, channel, height, width] to the height and width of the input of the whole.

    Args:
        mode: Interpolation, as for `torch.nn.functional.interpolate`.

    Examples:
        >>> SequentialEx(nn.MaxPool2d(2), ResizeToOrig())(torch.zeros(1, 3, 5, 7)).shape
        torch.Size([1, 3, 5, 7])
    """

    def __init__(self, mode: str = "nearest") -> None:
        self.mode = mode

    def forward(self, x: Any) -> Tensor:
        size = x.orig.shape[-2:]
        return x if x.shape[-2:] == size else F.interpolate(x, size, mode=self.mode)

    def extra_repr(self) -> str:
        return f"mode={self.mode!r}"


@modules.register()
class UnetBlock(Module):
    """Upsample by two, put the body's map of that size beside it, and convolve twice.

    [batch, up_in_c, h, w] and a map [batch, x_in_c, H, W] give [batch, nf, H, W], where nf is up_in_c / 2 + x_in_c.

    Args:
        up_in_c: Channels from below.
        x_in_c: Channels of the body's map.
        final_div: Keep the number of channels; False halves it, as in the last block of a `DynamicUnet`.
        blur: Smooth the upsampled map.
        act_cls: Makes the activations.
        self_attention: With `SelfAttention` at the end.
        init: Initialises the two convolutions; None keeps what `ConvLayer` does.
        norm_type: How to normalise; None not at all.

    Source: Ronneberger et al. 2015, arXiv:1505.04597

    Examples:
        >>> UnetBlock(16, 4)(torch.zeros(1, 16, 3, 5), torch.zeros(1, 4, 7, 9)).shape
        torch.Size([1, 12, 7, 9])
    """

    def __init__(
        self,
        up_in_c: int,
        x_in_c: int,
        final_div: bool = True,
        blur: bool = False,
        act_cls: ActClass = nn.ReLU,
        self_attention: bool = False,
        init: InitFunc | None = nn.init.kaiming_normal_,
        norm_type: NormType | None = None,
    ) -> None:
        self.shuf = PixelShuffle_ICNR(up_in_c, up_in_c // 2, blur=blur, act_cls=act_cls, norm_type=norm_type)
        self.bn = BatchNorm(x_in_c)
        self.act = act_cls()
        ni = up_in_c // 2 + x_in_c
        self.out_channels = ni if final_div else ni // 2
        attention = SelfAttention(self.out_channels) if self_attention else None
        self.conv1 = ConvLayer(ni, self.out_channels, act_cls=act_cls, norm_type=norm_type)
        self.conv2 = ConvLayer(
            self.out_channels, self.out_channels, act_cls=act_cls, norm_type=norm_type, xtra=attention
        )
        if init is not None:
            apply_init(self.conv1, init)
            apply_init(self.conv2[0], init)

    @property
    def init_args(self) -> dict[str, Any]:
        return {**super().init_args, "init": None}  # a file holds the weights

    def forward(self, below: Tensor, beside: Tensor) -> Tensor:
        up = self.shuf(below)
        if up.shape[-2:] != beside.shape[-2:]:
            up = F.interpolate(up, beside.shape[-2:], mode="nearest")
        joined = self.act(torch.cat([up, self.bn(beside)], 1))
        return self.conv2(self.conv1(joined))  # type: ignore[no-any-return]


@modules.register()
class DynamicUnet(SequentialEx):
    """A U-Net on a convolutional body: [batch, channel, height, width] to [batch, n_out, height, width].

    The first layer is the body; then a norm, two convolutions at the smallest size, a `UnetBlock` for each larger one, up
    to the size of the image, where a residual block sees the image itself. Images of any size fit, also such that do not
    divide by two.

    Args:
        encoder: The body: a sequence of layers (`create_body`), or any module that gives its feature maps as a list, largest
            first.
        n_out: Channels of the output: classes of the pixels, or colours.
        img_size: (height, width) of the images, on which the body is run to find its feature maps.
        blur: Smooth what is upsampled.
        blur_final: Smooth the last upsampling too, where `blur` is set.
        self_attention: With self-attention in the third block from the end, or the first if there are fewer.
        y_range: Squeeze the outputs into this range.
        last_cross: Put the image beside the last map.
        bottle: Half the channels inside the residual block at the end.
        act_cls: Makes the activations.
        init: Initialises the convolutions that are not upsampling; None keeps what `ConvLayer` does.
        norm_type: How to normalise the convolutions; None not at all.
        levels: The body's feature maps, as `find_levels` finds them; None runs the body.

    Raises:
        BadValue: If the body does not run on images of that size, or does not give feature maps of several sizes.

    Examples:
        >>> body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        >>> DynamicUnet(body, 2, (16, 16))(torch.zeros(1, 3, 65, 97)).shape
        torch.Size([1, 2, 65, 97])
    """

    def __init__(
        self,
        encoder: nn.Module,
        n_out: int,
        img_size: tuple[int, int],
        blur: bool = False,
        blur_final: bool = True,
        self_attention: bool = False,
        y_range: tuple[float, float] | None = None,
        last_cross: bool = True,
        bottle: bool = False,
        act_cls: ActClass = nn.ReLU,
        init: InitFunc | None = nn.init.kaiming_normal_,
        norm_type: NormType | None = None,
        *,
        levels: Sequence[Level] | None = None,
    ) -> None:
        self.levels = [(i, nf, by) for i, nf, by in (levels or find_levels(encoder, img_size))]
        common: dict[str, Any] = {"act_cls": act_cls, "norm_type": norm_type}
        *beside, ni = [channels for _, channels, _ in self.levels]
        middle = nn.Sequential(ConvLayer(ni, ni * 2, **common), ConvLayer(ni * 2, ni, **common))
        layers: list[nn.Module] = [encoder, BatchNorm(ni), nn.ReLU(), middle]
        for left, channels in reversed(list(enumerate(beside))):
            is_last = left == 0
            attends = self_attention and left == min(2, len(beside) - 1)
            block = UnetBlock(
                ni,
                channels,
                not is_last,
                blur and (blur_final or not is_last),
                self_attention=attends,
                init=init,
                **common,
            )
            layers.append(block)
            ni = block.out_channels
        for _ in range(round(math.log2(self.levels[0][2]))):
            layers.append(PixelShuffle_ICNR(ni, blur=blur and blur_final, **common))
        layers.append(ResizeToOrig())
        if last_cross:
            layers.append(MergeLayer(dense=True))
            ni += in_channels(encoder)
        final: list[nn.Module] = [
            ResBlock(1, ni, ni, nh2=ni // 2 if bottle else ni, **common),
            ConvLayer(ni, n_out, ks=1, act_cls=None, norm_type=norm_type),
        ]
        if init is not None:
            for part in (middle, *final):
                apply_init(part, init)
        super().__init__(*layers, *final, *([SigmoidRange(*y_range)] if y_range is not None else []))

    @property
    def init_args(self) -> dict[str, Any]:
        return {**super().init_args, "init": None, "levels": self.levels}  # a file holds the weights, and runs nothing

    def forward(self, x: Tensor) -> Tensor:
        encoder, *layers = self.layers
        found = feature_maps(encoder, x)
        wanted = {i for i, _, _ in self.levels}
        *beside, out = [y for i, y in enumerate(found) if i in wanted]
        for layer in layers:
            if isinstance(layer, UnetBlock):
                out = layer(out, beside.pop())
            else:
                out.orig = x  # type: ignore[attr-defined]  # which `SequentialEx` is for
                into, out = out, layer(out)
                into.orig = None  # type: ignore[attr-defined]
        return out


def find_levels(encoder: nn.Module, img_size: tuple[int, int]) -> list[Level]:
    """The last feature map of a body at each size, largest first; a size ends where it falls to two thirds or less.

    Args:
        encoder: The body.
        img_size: (height, width) of the images.

    Raises:
        BadValue: If the body does not run on images of that size, or does not give feature maps of several sizes.

    Examples:
        >>> find_levels(nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)), (16, 16))
        [(1, 8, 1), (2, 8, 2)]
    """
    if isinstance(encoder, TimmMaps):
        _shapes(encoder, img_size)  # some of its models take images of certain sizes only
        levels = encoder.levels
    else:
        size = [min(side, PROBE) for side in img_size]
        shapes = _shapes(encoder, size)
        starts = [0]
        for i, shape in enumerate(shapes):
            if any(3 * new <= 2 * old for new, old in zip(shape[-2:], shapes[starts[-1]][-2:], strict=True)):
                starts.append(i)
        ends = [*(start - 1 for start in starts[1:]), len(shapes) - 1]
        levels = [(i, shapes[i][1], round(max(a / b for a, b in zip(size, shapes[i][-2:], strict=True)))) for i in ends]
    if len(levels) < 2:
        body = encoder.model if isinstance(encoder, TimmMaps) else encoder
        raise BadValue(
            "a U-Net needs a body with feature maps of several sizes",
            got=f"{type(body).__name__}, whose maps are all {levels[0][2]} times smaller than the image",
            fix="use a convolutional architecture, such as resnet34 or 'convnext_tiny'",
        )
    return levels


def _shapes(encoder: nn.Module, size: Sequence[int]) -> list[torch.Size]:
    """The shapes of the outputs of a body for a black image."""
    like = next(encoder.parameters())
    image = torch.zeros(1, in_channels(encoder), *size, dtype=like.dtype, device=like.device)
    try:
        with undisturbed(encoder):
            shapes = [y.shape for y in feature_maps(encoder, image)]
    except Exception as error:  # of somebody's model, which may check its input in any way
        raise _no_maps(size, f"{type(error).__name__}: {error}") from error
    for shape in shapes:
        if len(shape) != 4:
            raise _no_maps(size, f"outputs of shape {tuple(shape)}")
    return shapes


def _no_maps(size: Sequence[int], got: str) -> BadValue:
    return BadValue(
        f"the body of this U-Net does not give feature maps for images of {size[0]}×{size[1]}",
        got=got,
        expected="feature maps [batch, channel, height, width] of every layer",
        fix="resize the images, Resize(224), or use a convolutional architecture, such as resnet34 or 'convnext_tiny'",
    )


def feature_maps(encoder: nn.Module, x: Tensor) -> Iterator[Tensor]:
    """The feature maps of a body: those that it gives as a list, or the output of each layer of a sequence.

    Args:
        encoder: The body.
        x: Images: [batch, channel, height, width].
    """
    if not isinstance(encoder, nn.Sequential):
        yield from encoder(x)
        return
    channels_last = False  # torchvision's Swin keeps its maps so between two layers that permute the axes
    for layer in _layers(encoder):
        x = layer(x)
        if type(layer).__name__ == "Permute":
            channels_last = list(layer.dims) == [0, 2, 3, 1]  # type: ignore[arg-type]
        yield x.permute(0, 3, 1, 2) if channels_last else x


def _layers(m: nn.Module) -> Iterator[nn.Module]:
    """The layers of nested sequences."""
    for child in m.children():
        if type(child) is nn.Sequential:
            yield from _layers(child)
        else:
            yield child
