"""Transforms of single images, before they are tensors: sizes, crops and flips. Masks go along, by nearest pixels.

Sizes are a number (square) or (height, width). Without `split_idx`, called by hand, random ones behave as in training.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from layered.foundation import BadValue, RandTransform, nearest, transforms
from layered.vision.types import BILINEAR, NEAREST, PILBase, PILImage, PILMask

Box = tuple[int, int, int, int]
Resamples = tuple[Image.Resampling, Image.Resampling]
E = TypeVar("E", bound=StrEnum)


class ResizeMethod(StrEnum):
    """How an image is brought to a size of another shape; plain strings do as well."""

    Squish = "squish"
    Crop = "crop"
    Pad = "pad"


class PadMode(StrEnum):
    """What stands outside the image; plain strings do as well."""

    Zeros = "zeros"
    Border = "border"
    Reflection = "reflection"


_NUMPY_PAD = {PadMode.Zeros: "constant", PadMode.Border: "edge", PadMode.Reflection: "reflect"}


def check_size(size: Any) -> tuple[int, int]:
    """(height, width) of a size given as a number or a pair.

    Examples:
        >>> check_size(224), check_size((171, 128))
        ((224, 224), (171, 128))
    """
    pair = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, (tuple, list)) else ()
    if len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise BadValue("this is no size of an image", got=repr(size), expected="a number of pixels, or (height, width)")
    return pair


def check_choice(kind: type[E], value: str) -> E:
    """`value` as a member of the enumeration `kind`."""
    try:
        return kind(value)
    except ValueError:
        names = [member.value for member in kind]
        near = nearest(str(value), names, 1)
        raise BadValue(
            f"there is no {kind.__name__} '{value}'",
            expected=", ".join(names),
            fix=f"did you mean '{near[0]}'?" if near else None,
        ) from None


def crop_pad(image: Image.Image, left: int, top: int, width: int, height: int, pad_mode: PadMode) -> Image.Image:
    """The window `width` x `height` of `image` whose corner lies at (left, top); what it shows outside follows `pad_mode`."""
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + width, image.width), min(top + height, image.height)
    inside = image if (x0, y0, x1, y1) == (0, 0, *image.size) else image.crop((x0, y0, x1, y1))
    margins = [(y0 - top, top + height - y1), (x0 - left, left + width - x1)]
    if not any(n for pair in margins for n in pair):
        return inside
    pixels = np.asarray(inside)
    return Image.fromarray(np.pad(pixels, margins + [(0, 0)] * (pixels.ndim - 2), mode=_NUMPY_PAD[pad_mode]))  # type: ignore[call-overload]  # the mode is one of three


_TORCH_MODES = {Image.Resampling.BILINEAR: "bilinear", Image.Resampling.BICUBIC: "bicubic"}


def resize(
    image: Image.Image, shape: tuple[int, int], resample: Image.Resampling = BILINEAR, box: Box | None = None
) -> Image.Image:
    """The part `box` of `image`, (left, top, right, bottom) in pixels, brought to `shape`, (height, width).

    Colours are interpolated by torch, which takes a third of the time: the same pixels as PIL's, to one part in 255.
    """
    height, width = shape
    box = box or (0, 0, *image.size)
    if box == (0, 0, *image.size) and image.size == (width, height):
        return image
    if image.mode != "RGB" or resample not in _TORCH_MODES:
        return image.resize((width, height), resample, box)
    if isinstance(image, PILBase) and image.pixels is not None:
        left, top, right, bottom = box
        part = image.pixels[:, top:bottom, left:right]
    else:
        part = torch.from_numpy(np.array(image.crop(box))).permute(2, 0, 1)
    resized = F.interpolate(part[None], shape, mode=_TORCH_MODES[resample], antialias=True)
    return PILImage.of_pixels(resized[0])


class SizeTransform(RandTransform):
    """Base of transforms that give images a size: images by `resamples[0]`, masks by `resamples[1]`."""

    order = 1
    split_idx = None
    shape: tuple[int, int]
    resamples: Resamples = (BILINEAR, NEAREST)

    def resize(self, x: Image.Image, box: Box | None = None, shape: tuple[int, int] | None = None) -> Image.Image:
        """The part `box` of `x`, (left, top, right, bottom), brought to `shape`, (height, width)."""
        return resize(x, shape or self.shape, self.resamples[isinstance(x, PILMask)], box)


@transforms.register()
class Resize(SizeTransform):
    """Bring images to one size.

    Args:
        size: A number (square) or (height, width).
        method: "crop": the largest window of that shape, at a random place in training, else in the middle; "pad":
            the whole image, and `pad_mode` around it; "squish": the whole image, stretched.
        pad_mode: "reflection", "zeros" or "border".
        resamples: How images and masks are interpolated.

    Examples:
        >>> Resize(4, method="squish")(PILMask.create(np.zeros((8, 6), np.uint8)))
        PILMask mode=L size=4x4
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        method: ResizeMethod | str = ResizeMethod.Crop,
        pad_mode: PadMode | str = PadMode.Reflection,
        resamples: Resamples = (BILINEAR, NEAREST),
    ) -> None:
        super().__init__()
        self.shape, self.resamples = check_size(size), resamples
        self.method, self.pad_mode = check_choice(ResizeMethod, method), check_choice(PadMode, pad_mode)

    def before_call(self, x: Any, split_idx: int | None) -> None:
        self.at = (0.5, 0.5) if split_idx == 1 else (self.draw(), self.draw())

    def encode_image(self, x: Image.Image) -> Any:
        height, width = self.shape
        if self.method is ResizeMethod.Squish:
            return self.resize(x)
        if self.method is ResizeMethod.Pad:
            scale = min(width / x.width, height / x.height)
            whole = self.resize(x, shape=(max(1, round(x.height * scale)), max(1, round(x.width * scale))))
            left, top = _corner(whole, width, height, self.at)
            return crop_pad(whole, left, top, width, height, self.pad_mode)
        scale = min(x.width / width, x.height / height)
        return self.resize(x, _window(x, round(scale * width), round(scale * height), self.at))


def _corner(x: Image.Image, width: int, height: int, at: tuple[float, float]) -> tuple[int, int]:
    """The upper left corner of a window of that size; `at` is a share of the room there is, (0, 0) upper left.

    Negative where the window is larger than `x`.
    """
    rooms = x.width - width, x.height - height
    left, top = (int(math.copysign(math.floor(share * (abs(n) + 1)), n)) for share, n in zip(at, rooms, strict=True))
    return left, top


def _window(x: Image.Image, width: int, height: int, at: tuple[float, float]) -> Box:
    """The box of the window at `_corner`, at least one pixel."""
    left, top = _corner(x, width := max(width, 1), height := max(height, 1), at)
    return left, top, left + width, top + height


@transforms.register()
class RandomCrop(SizeTransform):
    """A window of a fixed size: at a random place in training, else in the middle; zeros where the image is smaller."""

    def __init__(self, size: int | tuple[int, int]) -> None:
        super().__init__()
        self.shape, self.pad_mode = check_size(size), PadMode.Zeros

    def before_call(self, x: Any, split_idx: int | None) -> None:
        self.at = (0.5, 0.5) if split_idx == 1 else (self.draw(), self.draw())

    def encode_image(self, x: Image.Image) -> Any:
        height, width = self.shape
        left, top = _corner(x, width, height, self.at)
        return crop_pad(x, left, top, width, height, self.pad_mode)


@transforms.register()
class CropPad(SizeTransform):
    """The middle of an image in a fixed size, with `pad_mode` where the image is smaller."""

    order = 0

    def __init__(self, size: int | tuple[int, int], pad_mode: PadMode | str = PadMode.Zeros) -> None:
        super().__init__()
        self.shape, self.pad_mode = check_size(size), check_choice(PadMode, pad_mode)

    def encode_image(self, x: Image.Image) -> Any:
        height, width = self.shape
        return crop_pad(x, (x.width - width) // 2, (x.height - height) // 2, width, height, self.pad_mode)


@transforms.register()
class RandomResizedCrop(SizeTransform):
    """A window of random area and shape, resized; for validation the middle of the whole image, stretched.

    Args:
        size: A number (square) or (height, width).
        min_scale: The area of the window, as a share of the image's.
        max_scale: The area of the window, as a share of the image's.
        ratio: Width over height of the window, drawn evenly on a log scale.
        val_xtra: For validation the image is resized to `size` and this share more, rounded up to 8 pixels, and its
            middle kept.

    Source: Szegedy et al. 2015, arXiv:1409.4842, section 6
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        min_scale: float = 0.08,
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        resamples: Resamples = (BILINEAR, NEAREST),
        val_xtra: float = 0.14,
        max_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.shape, self.resamples, self.val_xtra = check_size(size), resamples, val_xtra
        self.min_scale, self.max_scale, self.ratio = min_scale, max_scale, ratio

    def before_call(self, x: Any, split_idx: int | None) -> None:
        image = next((o for o in (x if isinstance(x, tuple) else (x,)) if isinstance(o, Image.Image)), None)
        self.do = image is not None
        self.box = self._draw_window(image) if image is not None and split_idx != 1 else None

    def encode_image(self, x: Image.Image) -> Any:
        if self.box is not None:
            return self.resize(x, self.box)
        height, width = self.shape
        extra = math.ceil(max(self.shape) * self.val_xtra / 8) * 8
        whole = self.resize(x, shape=(height + extra, width + extra))
        return whole.crop(_window(whole, width, height, (0.5, 0.5)))

    def _draw_window(self, x: Image.Image) -> Box:
        narrow, wide = self.ratio
        for _ in range(10):
            area = self.draw(self.min_scale, self.max_scale) * x.width * x.height
            ratio = math.exp(self.draw(math.log(narrow), math.log(wide)))
            width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if width <= x.width and height <= x.height:
                return _window(x, width, height, (self.draw(), self.draw()))
        return _window(x, min(x.width, round(x.height * wide)), min(x.height, round(x.width / narrow)), (0.5, 0.5))


@transforms.register()
class RatioResize(SizeTransform):
    """Resize so that the longer side has `max_sz` pixels; the shape stays."""

    def __init__(self, max_sz: int, resamples: Resamples = (BILINEAR, NEAREST)) -> None:
        super().__init__()
        self.max_sz, self.resamples = max_sz, resamples

    def encode_image(self, x: Image.Image) -> Any:
        scale = self.max_sz / max(x.size)
        return self.resize(x, shape=(max(1, int(x.height * scale)), max(1, int(x.width * scale))))


@transforms.register()
class FlipItem(RandTransform):
    """Mirror left and right, in training, for a share `p` of the items."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p=p)

    def encode_image(self, x: Image.Image) -> Any:
        return x.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


@transforms.register()
class DihedralItem(RandTransform):
    """One of the eight ways to turn and mirror a square, in training, for a share `p` of the items."""

    def __init__(self, p: float = 1.0) -> None:
        super().__init__(p=p)

    def before_call(self, x: Any, split_idx: int | None) -> None:
        super().before_call(x, split_idx)
        self.turn = int(self.draw(0, 8))

    def encode_image(self, x: Image.Image) -> Any:
        return x if self.turn == 0 else x.transpose(Image.Transpose(self.turn - 1))


imagenet_stats = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
cifar_stats = ([0.491, 0.482, 0.447], [0.247, 0.243, 0.261])
mnist_stats = ([0.131], [0.308])
