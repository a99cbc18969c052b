"""Transforms of single images, before they become tensors: resize, crop, pad and flip. Masks follow, by nearest pixels.

Sizes are one number (square) or (height, width). Called directly, without `split_idx`, random transforms act as in training.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from layered.foundation import BadValue, RandTransform, nearest, transforms, whole_number
from layered.vision.alignment import with_aligned_masks
from layered.vision.types import BILINEAR, NEAREST, PILBase, PILImage, PILMask

Box = tuple[int, int, int, int]
Resamples = tuple[Image.Resampling, Image.Resampling]
E = TypeVar("E", bound=StrEnum)


class ResizeMethod(StrEnum):
    """How an image is fitted to another aspect ratio; plain strings are accepted too."""

    Squish = "squish"
    Crop = "crop"
    Pad = "pad"


class PadMode(StrEnum):
    """What lies outside an image; plain strings are accepted too."""

    Zeros = "zeros"
    Border = "border"
    Reflection = "reflection"


_NUMPY_PAD = {PadMode.Zeros: "constant", PadMode.Border: "edge", PadMode.Reflection: "reflect"}


def check_size(size: object) -> tuple[int, int]:
    """Validate a size and return (height, width).

    Args:
        size: One number (square) or (height, width).

    Examples:
        >>> check_size(224), check_size((171, 128))
        ((224, 224), (171, 128))
    """
    pair = size if isinstance(size, (tuple, list)) else (size, size)
    found = [number for n in pair if (number := whole_number(n)) is not None and number > 0]
    if not len(found) == len(pair) == 2:
        raise BadValue("invalid image size", got=repr(size), expected="a positive number of pixels, or (height, width)")
    return found[0], found[1]


def check_choice(kind: type[E], value: str) -> E:
    """`value` as a member of an enumeration.

    Args:
        kind: The enumeration.
        value: A member or its text.

    Raises:
        BadValue: With the nearest member.
    """
    try:
        return kind(value)
    except ValueError:
        names = [member.value for member in kind]
        near = nearest(str(value), names, 1)
        raise BadValue(
            f"unknown {kind.__name__} '{value}'",
            expected=", ".join(names),
            fix=f"did you mean '{near[0]}'?" if near else None,
        ) from None


def crop_pad(image: Image.Image, left: int, top: int, width: int, height: int, pad_mode: PadMode) -> Image.Image:
    """Cut a window out of an image; where it reaches outside, `pad_mode` fills it.

    Args:
        image: The image.
        left: Left edge of the window in pixels; negative values lie outside.
        top: Upper edge of the window in pixels.
        width: Width of the window in pixels.
        height: Height of the window in pixels.
        pad_mode: What lies outside the image.
    """
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
    """Resize an image, or a part of it.

    Colours are interpolated by torch, in a third of PIL's time; pixels agree with PIL's to one part in 255.

    Args:
        image: The image.
        shape: (height, width) of the result.
        resample: PIL's interpolation.
        box: The part, (left, top, right, bottom) in pixels; by default the whole image.
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


class ImageTransform(RandTransform):
    """Base of transforms that move pixels. Masks are brought to the size of their image first: see `with_aligned_masks`."""

    def __call__(self, x: object, split_idx: int | None = None) -> Any:
        return super().__call__(with_aligned_masks(x), split_idx)


@transforms.register()
class AlignMasks(ImageTransform):
    """Bring masks to the size of their image and the same side up, before anything else is done to them."""

    order = -1
    split_idx = None


class SizeTransform(ImageTransform):
    """Base of transforms that change the size of images.

    Overloads return `Any`: the class of the input is then given back to the plain image that PIL returns.

    Attributes:
        shape: (height, width) of the result.
        resamples: Interpolation of images, and of masks.
    """

    order = 1
    split_idx = None
    shape: tuple[int, int]
    resamples: Resamples = (BILINEAR, NEAREST)

    def resize(self, x: Image.Image, box: Box | None = None, shape: tuple[int, int] | None = None) -> Image.Image:
        """Resize an image or a mask, each with its own interpolation.

        Args:
            x: The image.
            box: The part, (left, top, right, bottom) in pixels; by default the whole image.
            shape: (height, width) of the result; by default `self.shape`.
        """
        return resize(x, shape or self.shape, self.resamples[isinstance(x, PILMask)], box)


@transforms.register()
class Resize(SizeTransform):
    """Resize images to one size.

    Args:
        size: One number (square) or (height, width).
        method: "crop": the largest window of that aspect ratio, at a random position in training and centred otherwise; "pad":
            the whole image, with `pad_mode` around it; "squish": the whole image, stretched.
        pad_mode: "reflection", "zeros" or "border".
        resamples: Interpolation of images, and of masks.

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

    def before_call(self, x: object, split_idx: int | None) -> None:
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
    """(left, top) of a window of that size; negative where the window is larger than `x`.

    Args:
        at: The position, as shares of the free space to the left and above: (0, 0) is the upper left corner.
    """
    free = x.width - width, x.height - height
    # n + 1 positions for n free pixels, each as likely as the others
    left, top = (int(math.copysign(math.floor(share * (abs(n) + 1)), n)) for share, n in zip(at, free, strict=True))
    return left, top


def _window(x: Image.Image, width: int, height: int, at: tuple[float, float]) -> Box:
    """The box of a window positioned by `_corner`; at least one pixel."""
    left, top = _corner(x, width := max(width, 1), height := max(height, 1), at)
    return left, top, left + width, top + height


@transforms.register()
class RandomCrop(SizeTransform):
    """Cut a window of a fixed size: at a random position in training, centred otherwise. Smaller images are padded with zeros.

    Args:
        size: One number (square) or (height, width).
    """

    def __init__(self, size: int | tuple[int, int]) -> None:
        super().__init__()
        self.shape, self.pad_mode = check_size(size), PadMode.Zeros

    def before_call(self, x: object, split_idx: int | None) -> None:
        self.at = (0.5, 0.5) if split_idx == 1 else (self.draw(), self.draw())

    def encode_image(self, x: Image.Image) -> Any:
        height, width = self.shape
        left, top = _corner(x, width, height, self.at)
        return crop_pad(x, left, top, width, height, self.pad_mode)


@transforms.register()
class CropPad(SizeTransform):
    """Cut the centre of an image to a fixed size, or pad it where it is smaller.

    Args:
        size: One number (square) or (height, width).
        pad_mode: "zeros", "reflection" or "border".
    """

    order = 0

    def __init__(self, size: int | tuple[int, int], pad_mode: PadMode | str = PadMode.Zeros) -> None:
        super().__init__()
        self.shape, self.pad_mode = check_size(size), check_choice(PadMode, pad_mode)

    def encode_image(self, x: Image.Image) -> Any:
        height, width = self.shape
        return crop_pad(x, (x.width - width) // 2, (x.height - height) // 2, width, height, self.pad_mode)


@transforms.register()
class RandomResizedCrop(SizeTransform):
    """Cut a window of random area and aspect ratio and resize it. For validation: resize the whole image, keep its centre.

    Args:
        size: One number (square) or (height, width).
        min_scale: Smallest area of the window, as a share of the image's.
        ratio: Smallest and largest width over height of the window; drawn uniformly on a log scale.
        resamples: Interpolation of images, and of masks.
        val_xtra: For validation the image is resized to `size` plus this share, rounded up to 8 pixels, before the centre is cut.
        max_scale: Largest area of the window, as a share of the image's.

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

    def before_call(self, x: object, split_idx: int | None) -> None:
        image = next((o for o in (x if isinstance(x, tuple) else (x,)) if isinstance(o, Image.Image)), None)
        self.do = image is not None
        self.box = self._draw_window(image) if image is not None and split_idx != 1 else None
        self.box_size = image.size if image is not None else (1, 1)

    def encode_image(self, x: Image.Image) -> Any:
        if self.box is not None:
            return self.resize(x, self._window_of(x))
        height, width = self.shape
        extra = math.ceil(max(self.shape) * self.val_xtra / 8) * 8
        whole = self.resize(x, shape=(height + extra, width + extra))
        return whole.crop(_window(whole, width, height, (0.5, 0.5)))

    def _window_of(self, x: Image.Image) -> Box | None:
        """The window of an image that may be larger or smaller than the one it was drawn for."""
        if self.box is None or x.size == self.box_size:
            return self.box
        across, down = x.width / self.box_size[0], x.height / self.box_size[1]
        left, right = (round(edge * across) for edge in self.box[::2])
        top, bottom = (round(edge * down) for edge in self.box[1::2])
        left, top = min(left, x.width - 1), min(top, x.height - 1)
        return left, top, max(right, left + 1), max(bottom, top + 1)

    def _draw_window(self, x: Image.Image) -> Box:
        narrow, wide = self.ratio
        for _ in range(10):  # a window may not fit; a fixed number of tries bounds the draws
            area = self.draw(self.min_scale, self.max_scale) * x.width * x.height
            ratio = math.exp(self.draw(math.log(narrow), math.log(wide)))
            width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if width <= x.width and height <= x.height:
                return _window(x, width, height, (self.draw(), self.draw()))
        return _window(x, min(x.width, round(x.height * wide)), min(x.height, round(x.width / narrow)), (0.5, 0.5))


@transforms.register()
class RatioResize(SizeTransform):
    """Resize images so that the longer side has `max_sz` pixels; the aspect ratio stays.

    Args:
        max_sz: Length of the longer side in pixels.
        resamples: Interpolation of images, and of masks.
    """

    def __init__(self, max_sz: int, resamples: Resamples = (BILINEAR, NEAREST)) -> None:
        super().__init__()
        self.max_sz, self.resamples = max_sz, resamples

    def encode_image(self, x: Image.Image) -> Any:
        scale = self.max_sz / max(x.size)
        return self.resize(x, shape=(max(1, int(x.height * scale)), max(1, int(x.width * scale))))


@transforms.register()
class FlipItem(ImageTransform):
    """Mirror images left and right, in training.

    Args:
        p: Share of the images that are mirrored.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p=p)

    def encode_image(self, x: Image.Image) -> Any:
        return x.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


@transforms.register()
class DihedralItem(ImageTransform):
    """Apply one of the eight symmetries of a square (rotations by 90 degrees, mirrored or not), in training.

    Args:
        p: Share of the images that are changed.
    """

    def __init__(self, p: float = 1.0) -> None:
        super().__init__(p=p)

    def before_call(self, x: object, split_idx: int | None) -> None:
        super().before_call(x, split_idx)
        self.turn = int(self.draw(0, 8))

    def encode_image(self, x: Image.Image) -> Any:
        return x if self.turn == 0 else x.transpose(Image.Transpose(self.turn - 1))


imagenet_stats = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
cifar_stats = ([0.491, 0.482, 0.447], [0.247, 0.243, 0.261])
mnist_stats = ([0.131], [0.308])
