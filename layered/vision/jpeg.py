"""JPEG files that wait to be decoded: at 1/2, 1/4 or 1/8 of their size they cost a fraction."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Self

from PIL import Image
from torch import Tensor

from layered.vision.reading import (
    TURNS,
    ImageSource,
    as_seen,
    decoded_jpeg,
    jpeg_bytes,
    naming,
    orientation,
)

Box = tuple[float, float, float, float]
Size = tuple[int, int]
Turn = Image.Transpose

_SOURCE_BOX: dict[Turn, Callable[[Box, Size], Box]] = {
    Turn.FLIP_LEFT_RIGHT: lambda box, size: (size[0] - box[2], box[1], size[0] - box[0], box[3]),
    Turn.FLIP_TOP_BOTTOM: lambda box, size: (box[0], size[1] - box[3], box[2], size[1] - box[1]),
    Turn.ROTATE_180: lambda box, size: (size[0] - box[2], size[1] - box[3], size[0] - box[0], size[1] - box[1]),
    Turn.TRANSPOSE: lambda box, size: (box[1], box[0], box[3], box[2]),
    Turn.ROTATE_90: lambda box, size: (size[0] - box[3], box[0], size[0] - box[1], box[2]),
    Turn.ROTATE_270: lambda box, size: (box[1], size[1] - box[2], box[3], size[1] - box[0]),
    Turn.TRANSVERSE: lambda box, size: (size[0] - box[3], size[1] - box[2], size[0] - box[1], size[1] - box[0]),
}  # where a window of a turned image lies before the turn, in an image of (width, height)

_SWAP = {Turn.TRANSPOSE, Turn.ROTATE_90, Turn.ROTATE_270, Turn.TRANSVERSE}  # width and height


class Jpeg:
    """A grey or colour JPEG file that has not been decoded, as it is seen: upright, then turned as has been asked for.

    Args:
        source: As for `load_image`.
        data: The bytes of the file.
        stored: (width, height) of the image as it is stored.
        mode: Its mode of PIL: "L" or "RGB".
        orientation: How the camera was held, in EXIF's numbering.
        turns: What has been asked for since.
    """

    def __init__(
        self,
        source: ImageSource,
        data: bytes | bytearray,
        stored: Size,
        mode: str,
        orientation: int,
        turns: tuple[Turn, ...] = (),
    ) -> None:
        self.source, self.data, self.stored, self.mode = source, data, stored, mode
        self.orientation, self.turns = orientation, turns

    @classmethod
    def opened(cls, source: ImageSource) -> Self | None:
        """The file, or None if it is anything else.

        Args:
            source: As for `load_image`.
        """
        data = jpeg_bytes(source)
        if data is None:
            return None
        with naming(source):
            image = Image.open(io.BytesIO(data), formats=("JPEG",))
            if image.mode not in ("L", "RGB"):
                return None
            return cls(source, data, image.size, image.mode, orientation(image))

    def turned(self, turn: Turn) -> Jpeg:
        """The same file, turned or mirrored once more.

        Args:
            turn: How.
        """
        return Jpeg(self.source, self.data, self.stored, self.mode, self.orientation, (*self.turns, turn))

    @property
    def _all_turns(self) -> tuple[Turn, ...]:
        upright = [TURNS[self.orientation]] if self.orientation in TURNS else []  # other numbers mean nothing
        return (*upright, *self.turns)

    @property
    def size(self) -> Size:
        """(width, height) of the image as it is seen."""
        swapped = sum(turn in _SWAP for turn in self._all_turns) % 2
        return self.stored[::-1] if swapped else self.stored

    def pixels(self) -> Tensor | None:
        """All pixels of a colour image that is stored upright, before it was turned: uint8 [3, height, width]; else None."""
        return decoded_jpeg(self.data) if self.mode == "RGB" and self.orientation == 1 else None

    def resized(self, shape: Size, resample: Image.Resampling, box: Box, gap: float, mode: str) -> Image.Image | None:
        """A window of the image at another size, from a decoding in part; None where the whole has to be decoded.

        Args:
            shape: (height, width) of the result.
            resample: PIL's interpolation.
            box: The window, (left, top, right, bottom) in pixels of the image as it is seen.
            gap: How many times larger than the result the window has to be in what is decoded.
            mode: The mode of PIL of the result.

        Raises:
            BadImage: The file is broken.
        """
        size, (height, width) = self.size, shape
        for turn in reversed(self._all_turns):
            if turn in _SWAP:
                size, height, width = size[::-1], width, height
            box = _SOURCE_BOX[turn](box, size)
        left, top, right, bottom = box
        spare = min((right - left) / width, (bottom - top) / height) / gap
        by = next((n for n in (8, 4, 2) if n <= spare), 1)
        if by == 1:
            return None
        with naming(self.source):
            image = Image.open(io.BytesIO(self.data), formats=("JPEG",))
            image.draft(None, (size[0] // by, size[1] // by))
            if image.size != (math.ceil(size[0] / by), math.ceil(size[1] / by)):
                return None
            # as where the whole is decoded, nothing from outside the window is seen, but for parts of a pixel
            outer = left // by, top // by, math.ceil(right / by), math.ceil(bottom / by)
            across, down = outer[:2]
            inner = left / by - across, top / by - down, right / by - across, bottom / by - down
            made = image.crop(outer).resize((width, height), resample, inner)
        for turn in self._all_turns:
            made = made.transpose(turn)
        return as_seen(made, mode)
