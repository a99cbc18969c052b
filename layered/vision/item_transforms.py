"""Transforms of single images, before they become tensors: resize, crop, pad and flip.

Masks follow, by nearest pixels, and so do points and boxes. Points that leave the image stay points, beyond -1 or 1; boxes are
cut off at its border, and those that left it are gone, with their labels.

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
from torch import Tensor

from layered.foundation import BadValue, RandTransform, nearest, transforms, whole_number
from layered.vision.alignment import with_aligned_masks
from layered.vision.channels import MultiChannelImage
from layered.vision.points import TensorBBox, TensorPoint
from layered.vision.targets import (
    Box,
    check_beside_image,
    image_size,
    moved_boxes,
    moved_points,
    window_map,
    without_empty_boxes,
)
from layered.vision.types import BILINEAR, NEAREST, PILBase, PILImage, PILMask

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


NUMPY_PAD = {PadMode.Zeros: "constant", PadMode.Border: "edge", PadMode.Reflection: "reflect"}


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


def check_gap(gap: float | None) -> float | None:
    """Validate `reducing_gap` and return it.

    Args:
        gap: A number from 1, or None.

    Examples:
        >>> check_gap(3.0)
        3.0
    """
    if gap is not None and not gap >= 1:
        raise BadValue(
            "invalid reducing_gap", got=repr(gap), expected="a number from 1, or None to decode the whole image"
        )
    return gap


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


def crop_pad(image: Image.Image, box: Box, pad_mode: PadMode) -> Image.Image:
    """Cut a window out of an image; where it reaches outside, `pad_mode` fills it.

    Args:
        image: The image.
        box: The window, (left, top, right, bottom) in pixels.
        pad_mode: What lies outside the image.
    """
    left, top, right, bottom = box
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height)
    inside = image if (x0, y0, x1, y1) == (0, 0, *image.size) else image.crop((x0, y0, x1, y1))
    margins = [(y0 - top, bottom - y1), (x0 - left, right - x1)]
    if not any(n for pair in margins for n in pair):
        return inside
    pixels = inside.array if isinstance(inside, MultiChannelImage) else np.asarray(inside)
    padded = np.pad(pixels, margins + [(0, 0)] * (pixels.ndim - 2), mode=NUMPY_PAD[pad_mode])  # type: ignore[call-overload]  # the mode is one of three
    return inside.of_array(padded) if isinstance(inside, MultiChannelImage) else Image.fromarray(padded)


_TORCH_MODES = {Image.Resampling.BILINEAR: "bilinear", Image.Resampling.BICUBIC: "bicubic"}


REDUCING_GAP = 2.0  # as PIL's `thumbnail`


def resize(
    image: Image.Image,
    shape: tuple[int, int],
    resample: Image.Resampling = BILINEAR,
    box: Box | None = None,
    reducing_gap: float | None = None,
) -> Image.Image:
    """Resize an image, or a part of it.

    Colours are interpolated by torch, in a third of PIL's time; pixels agree with PIL's to one part in 255.

    Args:
        image: The image.
        shape: (height, width) of the result.
        resample: PIL's interpolation.
        box: The part, (left, top, right, bottom) in pixels; by default the whole image.
        reducing_gap: How many times larger than the result an image may be decoded at the least, if it is a JPEG that has
            not been decoded; None decodes all of it.
    """
    height, width = shape
    box = box or (0, 0, *image.size)
    if box == (0, 0, *image.size) and image.size == (width, height):
        return image
    if isinstance(image, MultiChannelImage):
        return image.resized(shape, resample, box)
    if isinstance(image, PILBase) and image.jpeg is not None and reducing_gap is not None:
        scaled = (
            image.jpeg.resized(shape, resample, box, reducing_gap, image.mode) if resample in _TORCH_MODES else None
        )
        if scaled is not None:
            return scaled
    if image.mode != "RGB" or resample not in _TORCH_MODES:
        return image.resize((width, height), resample, box)
    pixels = image.pixels if isinstance(image, PILBase) else None
    if pixels is not None:
        left, top, right, bottom = box
        part = pixels[:, top:bottom, left:right]
    else:
        part = torch.from_numpy(np.array(image.crop(box))).permute(2, 0, 1)
    resized = F.interpolate(part[None], shape, mode=_TORCH_MODES[resample], antialias=True)
    return PILImage.of_pixels(resized[0])


class ImageTransform(RandTransform):
    """Base of transforms that move pixels. Masks are brought to the size of their image first: see `with_aligned_masks`.

    A subclass says how it moves pixels, by `encode_image`, and once more where they came from, by `source_map`: points and
    boxes move by that.

    Attributes:
        size: (width, height) of the image of the sample; None if it has none of PIL, and nothing moves.
    """

    size: tuple[int, int] | None = None

    def __call__(self, x: object, split_idx: int | None = None) -> Any:
        return without_empty_boxes(super().__call__(with_aligned_masks(x), split_idx))

    def before_call(self, x: object, split_idx: int | None) -> None:
        super().before_call(x, split_idx)
        sample = x if isinstance(x, tuple) else (x,)
        self.size = image_size(o for o in sample if isinstance(o, Image.Image))
        if self.size is None:
            check_beside_image(sample, image_size(sample), type(self).__name__)

    def source_map(self, size: tuple[int, int]) -> Tensor | None:
        """Where the positions of the result lie in the image that was given, see `targets`: [3, 3]; None if nothing moves.

        Args:
            size: (width, height) of that image.
        """
        raise NotImplementedError(f"{type(self).__name__}.source_map says how points and boxes move with the image")

    def encode_points(self, x: TensorPoint) -> Tensor:
        mat = self.source_map(self.size) if self.size is not None else None
        return x if mat is None else moved_points(x, mat)

    def encode_boxes(self, x: TensorBBox) -> Tensor:
        mat = self.source_map(self.size) if self.size is not None else None
        return x if mat is None else moved_boxes(x, mat)


@transforms.register()
class AlignMasks(ImageTransform):
    """Bring masks to the size of their image and the same side up, before anything else is done to them."""

    order = -1
    split_idx = None

    def is_random(self, split_idx: int | None) -> bool:
        """False."""
        return False

    def source_map(self, size: tuple[int, int]) -> Tensor | None:
        return None


class SizeTransform(ImageTransform):
    """Base of transforms that change the size of images.

    Overloads return `Any`: the class of the input is then given back to the plain image that PIL returns.

    Attributes:
        shape: (height, width) of the result.
        resamples: Interpolation of images, and of masks.
        reducing_gap: A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where this is at least so many times larger than the
            result, which then differs by rounding; None decodes all of it.
    """

    order = 1
    split_idx = None
    shape: tuple[int, int]
    resamples: Resamples = (BILINEAR, NEAREST)
    reducing_gap: float | None = REDUCING_GAP

    def window(self, size: tuple[int, int]) -> tuple[tuple[int, int], Box]:
        """What the result shows: the size that the image is seen in, and the window of it, which may reach outside.

        Args:
            size: (width, height) of the image.
        """
        return size, (0, 0, *size)

    def is_random(self, split_idx: int | None) -> bool:
        """Whether it cuts at a random position: not for validation.

        Args:
            split_idx: The split.
        """
        return split_idx != 1

    def source_map(self, size: tuple[int, int]) -> Tensor | None:
        return window_map(*self.window(size))

    def resize(self, x: Image.Image, box: Box | None = None, shape: tuple[int, int] | None = None) -> Image.Image:
        """Resize an image or a mask, each with its own interpolation.

        Args:
            x: The image.
            box: The part, (left, top, right, bottom) in pixels; by default the whole image.
            shape: (height, width) of the result; by default `self.shape`.
        """
        return resize(x, shape or self.shape, self.resamples[isinstance(x, PILMask)], box, self.reducing_gap)


@transforms.register()
class Resize(SizeTransform):
    """Resize images to one size.

    Args:
        size: One number (square) or (height, width).
        method: "crop": the largest window of that aspect ratio, at a random position in training and centred otherwise; "pad":
            the whole image, with `pad_mode` around it; "squish": the whole image, stretched.
        pad_mode: "reflection", "zeros" or "border".
        resamples: Interpolation of images, and of masks.
        reducing_gap: In a loader, a JPEG that is at least twice as large as needed is decoded at 1/2, 1/4 or 1/8 of its size, so
            that what is decoded is still this many times larger than the result: in half the time, and within rounding of
            the whole. Larger numbers come closer; None always decodes the whole.

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
        reducing_gap: float | None = REDUCING_GAP,
    ) -> None:
        super().__init__()
        self.shape, self.resamples, self.reducing_gap = check_size(size), resamples, check_gap(reducing_gap)
        self.method, self.pad_mode = check_choice(ResizeMethod, method), check_choice(PadMode, pad_mode)

    def is_random(self, split_idx: int | None) -> bool:
        """Whether it cuts or pads at a random position.

        Args:
            split_idx: The split.
        """
        return self.method is not ResizeMethod.Squish and super().is_random(split_idx)

    def before_call(self, x: object, split_idx: int | None) -> None:
        super().before_call(x, split_idx)
        self.at = (self.draw(), self.draw()) if self.is_random(split_idx) else (0.5, 0.5)

    def window(self, size: tuple[int, int]) -> tuple[tuple[int, int], Box]:
        (height, width), (across, down) = self.shape, size
        if self.method is ResizeMethod.Squish:
            return super().window(size)
        if self.method is ResizeMethod.Pad:
            scale = min(width / across, height / down)
            whole = max(1, round(across * scale)), max(1, round(down * scale))
            return whole, _window(whole, width, height, self.at)
        scale = min(across / width, down / height)
        return size, _window(size, round(scale * width), round(scale * height), self.at)

    def encode_image(self, x: Image.Image) -> Any:
        (across, down), box = self.window(x.size)
        if self.method is ResizeMethod.Pad:
            return crop_pad(self.resize(x, shape=(down, across)), box, self.pad_mode)
        return self.resize(x, box)


def _window(size: tuple[int, int], width: int, height: int, at: tuple[float, float]) -> Box:
    """The box of a window; at least one pixel, and negative on the left and above where it is larger than the image.

    Args:
        size: (width, height) of the image.
        width: Width of the window.
        height: Height of the window.
        at: The position, as shares of the free space to the left and above: (0, 0) is the upper left corner.
    """
    width, height = max(width, 1), max(height, 1)
    free = size[0] - width, size[1] - height
    # n + 1 positions for n free pixels, each as likely as the others
    left, top = (int(math.copysign(math.floor(share * (abs(n) + 1)), n)) for share, n in zip(at, free, strict=True))
    return left, top, left + width, top + height


@transforms.register()
class RandomCrop(SizeTransform):
    """Cut a window of a fixed size: at a random position in training, centred otherwise. Smaller images are padded.

    Args:
        size: One number (square) or (height, width).
        pad_mode: "zeros", "reflection" or "border".
    """

    def __init__(self, size: int | tuple[int, int], pad_mode: PadMode | str = PadMode.Zeros) -> None:
        super().__init__()
        self.shape, self.pad_mode = check_size(size), check_choice(PadMode, pad_mode)

    def before_call(self, x: object, split_idx: int | None) -> None:
        super().before_call(x, split_idx)
        self.at = (0.5, 0.5) if split_idx == 1 else (self.draw(), self.draw())

    def window(self, size: tuple[int, int]) -> tuple[tuple[int, int], Box]:
        height, width = self.shape
        return size, _window(size, width, height, self.at)

    def encode_image(self, x: Image.Image) -> Any:
        return crop_pad(x, self.window(x.size)[1], self.pad_mode)


OldRandomCrop = RandomCrop  # another name of it


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

    def is_random(self, split_idx: int | None) -> bool:
        """False."""
        return False

    def window(self, size: tuple[int, int]) -> tuple[tuple[int, int], Box]:
        height, width = self.shape
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        return size, (left, top, left + width, top + height)

    def encode_image(self, x: Image.Image) -> Any:
        return crop_pad(x, self.window(x.size)[1], self.pad_mode)


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
        reducing_gap: As for `Resize`.

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
        reducing_gap: float | None = REDUCING_GAP,
    ) -> None:
        super().__init__()
        self.reducing_gap = check_gap(reducing_gap)
        self.shape, self.resamples, self.val_xtra = check_size(size), resamples, val_xtra
        self.min_scale, self.max_scale, self.ratio = min_scale, max_scale, ratio

    def before_call(self, x: object, split_idx: int | None) -> None:
        super().before_call(x, split_idx)
        image = next((o for o in (x if isinstance(x, tuple) else (x,)) if isinstance(o, Image.Image)), None)
        self.do = image is not None
        self.box = self._draw_window(image.size) if image is not None and split_idx != 1 else None
        self.box_size = image.size if image is not None else (1, 1)

    def window(self, size: tuple[int, int]) -> tuple[tuple[int, int], Box]:
        if self.box is not None:
            return size, self._scaled(self.box, size)
        height, width = self.shape
        extra = math.ceil(max(self.shape) * self.val_xtra / 8) * 8
        whole = width + extra, height + extra
        return whole, _window(whole, width, height, (0.5, 0.5))

    def encode_image(self, x: Image.Image) -> Any:
        (across, down), box = self.window(x.size)
        return self.resize(x, box) if self.box is not None else self.resize(x, shape=(down, across)).crop(box)

    def _scaled(self, box: Box, size: tuple[int, int]) -> Box:
        """The window in an image that may be larger or smaller than the one it was drawn for."""
        if size == self.box_size:
            return box
        across, down = size[0] / self.box_size[0], size[1] / self.box_size[1]
        left, right = (round(edge * across) for edge in box[::2])
        top, bottom = (round(edge * down) for edge in box[1::2])
        left, top = min(left, size[0] - 1), min(top, size[1] - 1)
        return left, top, max(right, left + 1), max(bottom, top + 1)

    def _draw_window(self, size: tuple[int, int]) -> Box:
        (narrow, wide), (across, down) = self.ratio, size
        for _ in range(10):  # a window may not fit; a fixed number of tries bounds the draws
            area = self.draw(self.min_scale, self.max_scale) * across * down
            ratio = math.exp(self.draw(math.log(narrow), math.log(wide)))
            width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if width <= across and height <= down:
                return _window(size, width, height, (self.draw(), self.draw()))
        return _window(size, min(across, round(down * wide)), min(down, round(across / narrow)), (0.5, 0.5))


@transforms.register()
class RatioResize(SizeTransform):
    """Resize images so that the longer side has `max_sz` pixels; the aspect ratio stays.

    Args:
        max_sz: Length of the longer side in pixels.
        resamples: Interpolation of images, and of masks.
        reducing_gap: As for `Resize`.
    """

    def __init__(
        self,
        max_sz: int,
        resamples: Resamples = (BILINEAR, NEAREST),
        reducing_gap: float | None = REDUCING_GAP,
    ) -> None:
        super().__init__()
        self.max_sz, self.resamples, self.reducing_gap = max_sz, resamples, check_gap(reducing_gap)

    def is_random(self, split_idx: int | None) -> bool:
        """False."""
        return False

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

    def source_map(self, size: tuple[int, int]) -> Tensor | None:
        return _TURNS[Image.Transpose.FLIP_LEFT_RIGHT]


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

    def source_map(self, size: tuple[int, int]) -> Tensor | None:
        return None if self.turn == 0 else _TURNS[Image.Transpose(self.turn - 1)]


_TURNS = {  # where the result's x and y come from
    turn: torch.tensor([[*across, 0.0], [*down, 0.0], [0.0, 0.0, 1.0]])
    for turn, across, down in (
        (Image.Transpose.FLIP_LEFT_RIGHT, (-1, 0), (0, 1)),
        (Image.Transpose.FLIP_TOP_BOTTOM, (1, 0), (0, -1)),
        (Image.Transpose.ROTATE_90, (0, -1), (1, 0)),
        (Image.Transpose.ROTATE_180, (-1, 0), (0, -1)),
        (Image.Transpose.ROTATE_270, (0, 1), (-1, 0)),
        (Image.Transpose.TRANSPOSE, (0, 1), (1, 0)),
        (Image.Transpose.TRANSVERSE, (0, -1), (-1, 0)),
    )
}


imagenet_stats = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
cifar_stats = ([0.491, 0.482, 0.447], [0.247, 0.243, 0.261])
mnist_stats = ([0.131], [0.308])
