"""Images of any number of channels, of 8 or 16 bits each, for most of which PIL has no mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from layered.foundation import BadImage, BadValue, TensorImage, functions, show_image
from layered.vision.reading import ImageSource, as_seen, load_image, naming
from layered.vision.types import BILINEAR, NEAREST, PILBase

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MODES = {BILINEAR: "bilinear", Image.Resampling.BICUBIC: "bicubic", NEAREST: "nearest-exact"}


class MultiChannelImage(PILBase):
    """An image that keeps all its channels and 16 bits where it has them: `ImageBlock(MultiChannelImage)`, `n_in=` their number.

    It is made of arrays and tensors of uint8, of uint16, or of floats in [0, 1], which become 16 bits: a tensor
    [channel, height, width], or an array whose first or last axis are its channels, whichever is shorter. Of files it reads
    `.npy`, and those of PIL in which PIL leaves nothing out; for others `get_x=` names what reads them, as `tifffile.imread`.
    Batches are floats in [0, 1].

    Attributes:
        array: uint8 or uint16, [height, width, channel].

    Examples:
        >>> MultiChannelImage.create(np.zeros((40, 60, 13), np.uint16))
        MultiChannelImage mode=13 x uint16 size=60x40
    """

    tensor_type = TensorImage
    array: np.ndarray[Any, Any]

    @classmethod
    def of_array(cls, array: np.ndarray[Any, Any]) -> Self:
        """An image of these pixels, which are not copied.

        Args:
            array: uint8 or uint16, [height, width, channel].
        """
        height, width, channels = array.shape
        new = cls()
        new.__dict__.update(array=array, _size=(width, height), _mode=f"{channels} x {array.dtype.name}")
        return new

    @classmethod
    def read(cls, source: ImageSource) -> Image.Image:
        """How `create` decodes.

        Args:
            source: As for `create`.

        Raises:
            BadImage: The file cannot be decoded, or PIL would leave out channels or bits of it.
            BadValue: The pixels are of another shape or type.
        """
        if isinstance(source, (Tensor, np.ndarray)):
            return cls.of_array(_as_stored(source))
        with naming(source):
            if isinstance(source, bytes) or not str(source).endswith(".npy"):
                image = load_image(source, whole=True)
                if image.mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
                    image = as_seen(image, "I;16" if image.mode[0] in "IF" else "RGB")
                return cls.of_array(np.array(image).reshape(image.height, image.width, -1))
            return cls.of_array(_as_stored(np.load(str(source), allow_pickle=False)))

    @property
    def pixels(self) -> Tensor:
        """uint8 or uint16, [channel, height, width]."""
        return torch.from_numpy(np.ascontiguousarray(self.array.transpose(2, 0, 1)))

    def load(self) -> Any:
        """Raise, for what needs PIL's own memory cannot be had of these pixels."""
        raise BadValue(
            "this needs an image of PIL, which has no form for any number of channels",
            got=repr(self),
            fix="image.array are its pixels, [height, width, channel]",
        )

    def resized(self, shape: tuple[int, int], resample: Image.Resampling, box: tuple[int, int, int, int]) -> Self:
        """A part at another size.

        Args:
            shape: (height, width) of the result.
            resample: PIL's interpolation: bilinear, bicubic or nearest.
            box: The part, (left, top, right, bottom) in pixels.
        """
        if resample not in _MODES:
            raise BadValue(
                f"{type(self).__name__} cannot be resized by {resample!r}", expected=", ".join(map(repr, _MODES))
            )
        part = self.crop(box).pixels.to(torch.float32)[None]
        made = F.interpolate(part, shape, mode=_MODES[resample], antialias=resample != NEAREST)[0]
        largest = np.iinfo(self.array.dtype).max
        return self.of_array(made.permute(1, 2, 0).numpy().round().clip(0, largest).astype(self.array.dtype))

    def crop(self, box: tuple[float, float, float, float] | None = None) -> Self:
        """A part that lies inside the image.

        Args:
            box: (left, top, right, bottom) in pixels; by default the whole image.
        """
        left, top, right, bottom = map(int, box or (0, 0, *self.size))
        return self.of_array(self.array[top:bottom, left:right])

    def transpose(self, method: Image.Transpose) -> Self:
        """Turn by 90 degrees or mirror, as PIL does.

        Args:
            method: How.
        """
        turns = {Image.Transpose.ROTATE_90: 1, Image.Transpose.ROTATE_180: 2, Image.Transpose.ROTATE_270: 3}
        if method in turns:
            return self.of_array(np.rot90(self.array, turns[method]))
        if method == Image.Transpose.FLIP_LEFT_RIGHT:
            return self.of_array(self.array[:, ::-1])
        if method == Image.Transpose.FLIP_TOP_BOTTOM:
            return self.of_array(self.array[::-1])
        transposed = self.array.transpose(1, 0, 2)
        return self.of_array(transposed if method == Image.Transpose.TRANSPOSE else transposed[::-1, ::-1])

    def copy(self) -> Self:
        """A copy."""
        return self.of_array(self.array.copy())

    __copy__ = copy

    def __reduce__(self) -> Any:
        return type(self).of_array, (self.array,)

    def show(self, ctx: Axes | None = None, **kwargs: Any) -> Axes:  # type: ignore[override]  # on axes, not in a viewer
        """Draw the first three channels as colours, or the first as grey, and return the axes.

        Args:
            ctx: The axes to draw on; new ones by default.
            kwargs: For `show_image`.
        """
        seen = self.array[..., : 3 if self.array.shape[2] >= 3 else 1] / np.iinfo(self.array.dtype).max
        return show_image(seen, ctx=ctx, **{"cmap": "gray", "vmin": 0, "vmax": 1, **self.show_args, **kwargs})


def _as_stored(pixels: Tensor | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """uint8 or uint16 [height, width, channel] of pixels."""
    array = pixels.detach().cpu().as_subclass(Tensor).numpy() if isinstance(pixels, Tensor) else pixels
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or (array.shape[0] == array.shape[2] and not isinstance(pixels, Tensor)):
        raise BadValue(
            "which axis of the image are its channels cannot be seen" if array.ndim == 3 else "invalid image shape",
            got=f"shape {tuple(pixels.shape)}",
            expected="an array [channel, height, width] or [height, width, channel]",
            fix="give a tensor [channel, height, width]" if array.ndim == 3 else None,
        )
    if array.shape[0] < array.shape[2] or (isinstance(pixels, Tensor) and pixels.ndim == 3):
        array = array.transpose(1, 2, 0)
    if array.dtype.kind == "f":
        low, high = float(array.min(initial=0)), float(array.max(initial=0))
        if not 0 <= low <= high <= 1:
            raise BadValue(
                "pixel values out of range",
                got=f"{array.dtype} from {low:.4g} to {high:.4g}",
                expected="floats in [0, 1], uint8 or uint16",
                fix="scale all images by the same numbers: (x - low) / (high - low)",
            )
        return (array * 65535.0).round().astype(np.uint16)
    if array.dtype not in (np.uint8, np.uint16):
        raise BadImage(
            "these pixels would not keep their values",
            got=str(array.dtype),
            expected="uint8, uint16, or floats in [0, 1]",
            fix="x.astype(np.uint16), if none is below 0 or above 65535",
        )
    return array


functions.add("vision.MultiChannelImage.create", MultiChannelImage.create)
