"""Reading images as a person sees them: upright, with transparency on white, in 8 bits unless 16 are asked for."""

from __future__ import annotations

import functools
import importlib
import inspect
import io
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from layered.foundation import (
    BadArgument,
    BadImage,
    BadValue,
    LayeredError,
    NotFoundPath,
    TensorImageBase,
    TensorMask,
    describe,
    warn,
)
from layered.vision.decoding import check_regular, has_deep_colours, in_bits, on_white, open_image
from layered.vision.missing import why_missing


@runtime_checkable
class BinaryFile(Protocol):
    """An open file: `open(path, "rb")`, a `BytesIO`, an upload of a web framework, the response to a request."""

    def read(self) -> bytes: ...


ImageSource = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryFile | Image.Image | Tensor | np.ndarray[Any, Any]
)
"""What images are made from: a path, the bytes of a file, an open file, a PIL image, a tensor or an array of pixels."""


def contents(source: ImageSource) -> ImageSource:
    """The bytes of an open file or a memoryview, read from its start; any other source as it is.

    Args:
        source: What an image is made from.

    Raises:
        BadArgument: If the file was opened as text, or reads asynchronously.
    """
    if isinstance(source, memoryview):
        return bytes(source)
    if isinstance(source, (str, os.PathLike, bytes, bytearray, Image.Image, Tensor, np.ndarray)):
        return source
    if not isinstance(source, BinaryFile):
        raise BadArgument(
            "an image cannot be made from this",
            got=describe(source),
            expected="a path, the bytes of a file, an open file, a PIL image, a tensor or an array of pixels",
        )
    if isinstance(source, io.TextIOBase):
        raise BadArgument("an image cannot be read from a file that was opened as text", fix='open(path, "rb")')
    with naming(source):
        seekable = getattr(source, "seekable", None)  # what else it has depends on where it comes from
        if seekable is not None and seekable():
            source.seek(0)  # type: ignore[attr-defined]  # what is seekable has it
        data: object = source.read()
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    if inspect.iscoroutine(data):
        data.close()
        raise BadArgument(
            "the file can only be read asynchronously", fix="data = await file.read(), and pass the bytes"
        )
    raise BadArgument(f"{_name(source)} does not give bytes", got=f"{type(data).__name__} from its read()")


def load_image(source: ImageSource, mode: str | None = None, whole: bool = False) -> Image.Image:
    """Decode an image as a person sees it.

    Args:
        source: A path, the bytes of a file, an open file, a PIL image, a tensor or an array of pixels.
        mode: "RGB", "L" (grey), "I;16" (grey, 16 bits) or another mode of PIL; None keeps the file's own and only turns
            the image upright.
        whole: Refuse colours of 16 bits, of which PIL reads 8, rather than warn of them.

    Raises:
        NotFoundPath: If the file does not exist.
        BadImage: If it cannot be decoded, or not without leaving out channels; names the file.

    Examples:
        >>> load_image(torch.zeros(3, 4, 6, dtype=torch.uint8)).size
        (6, 4)
    """
    source = contents(source)
    with naming(source), _opened(source) as image:
        if has_deep_colours(image):
            _say_what_is_lost(_name(source), whole)
        upright, turned = _upright(image)
        return _noted(upright if mode is None else as_seen(upright, mode), turned)


def _say_what_is_lost(name: str, whole: bool) -> None:
    fix = "ImageBlock(MultiChannelImage) and get_x=lambda file: torchvision.io.decode_image(str(file)), which keep 16"
    if whole:
        raise BadImage(
            f"{name} has 16 bits for each colour, of which PIL reads 8", fix=f"{fix}; of a TIFF, get_x=tifffile.imread"
        )
    warn(f"images with 16 bits for each colour are read in 8 bits; to keep them, {fix}")


def in_sixteen_bits(source: ImageSource) -> ImageSource:
    """Grey pixels that are floats, in 16 bits, for `load_image` would keep 8; any other source as it is.

    Args:
        source: As for `load_image`.

    Raises:
        BadValue: If they are not in [0, 1].
    """
    if not isinstance(source, (Tensor, np.ndarray)):
        return source
    pixels = _channels_last(source)
    if pixels.ndim > 2 or pixels.dtype.kind != "f":
        return source
    _check_range(pixels, 1.0)
    return (pixels * 65535.0).round().clip(0, 65535).astype(np.uint16)


def to_image(x: ImageSource) -> Image.Image:
    """A PIL image as it is, or one of the pixels of a tensor or an array.

    Args:
        x: As for `load_image`.

    Examples:
        >>> to_image(torch.zeros(3, 4, 6)).size
        (6, 4)
    """
    return x if isinstance(x, Image.Image) else load_image(x)


def load_mask(source: ImageSource) -> Image.Image:
    """Decode the classes of a mask, one byte per pixel.

    Values are classes and are never scaled: True is class 1, as is 1.0; a palette image gives its indices, whatever
    their colours; of a second channel (transparency) nothing is read. Other colours become their shade of grey.

    Args:
        source: As for `load_image`.

    Raises:
        NotFoundPath: If the file does not exist.
        BadImage: If it cannot be decoded, or has values that are not class numbers from 0 to 255.
    """
    source = contents(source)
    with naming(source):
        if isinstance(source, (Tensor, np.ndarray)) and (plane := _channels_last(source)).ndim == 2:
            return _as_classes(plane, source)
        with _opened(source) as image:
            upright, turned = _upright(image)
            if upright.mode in ("L", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"):
                return _noted(as_seen(upright, "L"), turned)
            values = np.asarray(upright)
            return _noted(_as_classes(values if values.ndim == 2 else values[..., 0], source), turned)


def _as_classes(values: np.ndarray[Any, Any], source: ImageSource) -> Image.Image:
    """A grey image whose pixels are class numbers."""
    if values.dtype == np.uint8:
        return Image.fromarray(values)
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if not (low >= 0 and high <= 255):
        raise BadImage(
            f"{_name(source)} has too many classes for a mask" if high > 255 else f"{_name(source)} is not a mask",
            got=f"the value {high if high > 255 else low:g}",
            expected="class numbers from 0 to 255",
        )
    classes = values.astype(np.uint8)
    if values.dtype.kind == "f" and not np.array_equal(classes, values):
        raise BadImage(
            f"{_name(source)} has fractions where a mask has class numbers",
            got=f"{values.dtype} from {low:.4g} to {high:.4g}",
            expected="whole numbers from 0 to 255",
            fix="decide first, for example PILMask.create(mask > 0.5)",
        )
    return Image.fromarray(classes)


def as_seen(image: Image.Image, mode: str) -> Image.Image:
    """Convert an image: 16 bits and floats scaled to 8, transparency on white, palettes and inks as their colours.

    Args:
        image: The image.
        mode: A mode of PIL; "I;16" gives 16 bits, to which other depths are scaled.
    """
    if mode == "I;16":
        if image.mode == mode:
            return image
        return in_bits(image if image.mode[0] in "IF" else as_seen(image, "L"), np.uint16)
    if image.mode[0] in "IF":
        image = in_bits(image)
    if image.has_transparency_data and mode not in ("RGBA", "LA", "PA"):
        image = on_white(image)
    return image if image.mode == mode else image.convert(mode)


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""By how the camera was held, in EXIF's numbering: what turns the stored image upright."""


def orientation(image: Image.Image) -> int:
    """How the camera was held, in EXIF's numbering; 1 is upright.

    Args:
        image: The image as it is stored.
    """
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (SyntaxError, ValueError, TypeError, struct.error):  # a damaged tag beside good pixels: viewers ignore it
        return 1


def _upright(image: Image.Image) -> tuple[Image.Image, int]:
    """The image upright, and its orientation before."""
    image.load()
    turned = orientation(image)
    return (image, 1) if turned == 1 else (ImageOps.exif_transpose(image), turned)


STORED_TURNED = "stored turned"
"""In `info` of an image: the orientation, in EXIF's numbering, in which the file has it."""


def _noted(image: Image.Image, turned: int) -> Image.Image:
    if turned != 1:
        image.info[STORED_TURNED] = turned
    return image


_JPEG_START = b"\xff\xd8\xff"
_LARGEST_JPEG = 256 << 20  # bytes read at once; PIL reads a larger file piece by piece
_RGB = 3  # torchvision.io.ImageReadMode.RGB, without importing torchvision.io


@functools.cache
def _jpeg_decoder() -> Callable[[Tensor, int, bool], Tensor] | None:
    """torchvision's JPEG decoder if it was built with one. PIL's gives the same pixels and is slower."""
    importlib.import_module("torchvision.io")
    return getattr(torch.ops.image, "decode_jpeg", None)


def jpeg_bytes(source: ImageSource) -> bytes | bytearray | None:
    """The bytes of a JPEG file; None for anything else.

    Args:
        source: As for `load_image`.
    """
    if not isinstance(source, (str, os.PathLike, bytes, bytearray)):
        return None
    with naming(source):
        if isinstance(source, (bytes, bytearray)):
            return source if source[:3] == _JPEG_START else None
        if check_regular(source, _name(source)).st_size > _LARGEST_JPEG:
            return None
        with open(source, "rb") as file:
            head = file.read(3)
            return bytearray(head + file.read()) if head == _JPEG_START else None


def decoded_jpeg(data: bytes | bytearray) -> Tensor | None:
    """Decode a colour JPEG to uint8 [3, height, width], as it is stored; None for a broken file.

    Pixels are bit for bit those of PIL, but stay a tensor: they are not copied into a PIL image and back.

    Args:
        data: The bytes of the file.
    """
    decode = _jpeg_decoder()
    if decode is None:
        return None
    writable = data if isinstance(data, bytearray) else bytearray(data)  # torch warns of others
    try:
        return decode(torch.frombuffer(writable, dtype=torch.uint8), _RGB, False)
    except RuntimeError:  # `load_image` will say what is wrong with it
        return None


@contextmanager
def _opened(source: ImageSource) -> Iterator[Image.Image]:
    if isinstance(source, Image.Image):
        yield source
    elif isinstance(source, (Tensor, np.ndarray)):
        yield Image.fromarray(_bytes_of_pixels(source))
    else:
        file: Any = source
        with open_image(file, _name(source)) as image:
            yield image


def _channels_last(pixels: Tensor | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[height, width], or [height, width, channel] of 3 or 4 channels, of pixels whose channels come first or last."""
    array = pixels.detach().cpu().numpy() if isinstance(pixels, Tensor) else pixels
    if array.ndim == 3 and isinstance(pixels, TensorMask) and len(array) == 1:
        array = array[0]
    if array.ndim == 3 and (isinstance(pixels, TensorImageBase) or array.shape[-1] > 4):
        array = array.transpose(1, 2, 0)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (1, 3, 4)):
        raise BadValue(
            "invalid image shape",
            got=f"shape {tuple(pixels.shape)}",
            expected="[height, width], with 1, 3 or 4 channels first or last",
            fix="ImageBlock(MultiChannelImage), which takes any number of channels" if array.ndim == 3 else None,
        )
    return array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array


def _bytes_of_pixels(pixels: Tensor | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """uint8 [height, width] or [height, width, channel] of pixels whose channels come first or last."""
    array = _channels_last(pixels)
    if array.dtype == np.uint16:
        if array.ndim == 3:
            raise BadValue(
                "an image of PIL has 8 bits for each colour, not 16",
                got=f"uint16, shape {tuple(pixels.shape)}",
                fix="ImageBlock(MultiChannelImage), which keeps 16",
            )
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    _check_range(array, 1.0 if array.dtype.kind == "f" else 255.0)
    if array.dtype.kind == "f":
        array = (array * 255.0).round().clip(0, 255)
    return np.ascontiguousarray(array.astype(np.uint8))


def _check_range(array: np.ndarray[Any, Any], white: float) -> None:
    low, high = float(array.min(initial=0)), float(array.max(initial=0))
    # interpolation may overshoot by rounding errors
    if not (-1e-3 * white <= low and high <= white * 1.001):
        raise BadValue(
            "pixel values out of range",
            got=f"{array.dtype} from {low:.4g} to {high:.4g}",
            expected="floats in [0, 1] or integers in [0, 255]",
            fix="undo the normalisation first: dls.decode(batch)",
        )


@contextmanager
def naming(source: ImageSource) -> Iterator[None]:
    """Context manager: errors of decoders become errors that name the image.

    Args:
        source: As for `load_image`.
    """
    try:
        yield
    except LayeredError:
        raise
    except FileNotFoundError as error:
        got, fix = why_missing(str(error.filename))
        raise NotFoundPath(
            f"image file {_name(source)} does not exist", got=got, expected="an image file", fix=fix
        ) from error
    except IsADirectoryError as error:
        raise BadImage(f"{_name(source)} is a folder", expected="an image file") from error
    except PermissionError as error:
        raise BadImage(f"no permission to read {_name(source)}", fix="change its permissions") from error
    except Image.DecompressionBombError as error:
        raise BadImage(
            f"{_name(source)} has more pixels than PIL reads unless it is told that the file can be trusted",
            got=repr(error),
            expected=f"at most {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, twice PIL.Image.MAX_IMAGE_PIXELS",
            fix="import PIL.Image; PIL.Image.MAX_IMAGE_PIXELS = None, before the loaders are made",
        ) from error
    except Exception as error:  # decoders raise almost anything on a broken file
        raise BadImage(
            f"{_name(source)} cannot be decoded",
            got="an unknown image format" if isinstance(error, UnidentifiedImageError) else repr(error),
            expected="a complete image file",
            fix="replace or delete it, or leave such files out with on_bad='skip' in dataloaders(...)",
        ) from error


def _name(source: ImageSource) -> str:
    if isinstance(source, (str, os.PathLike)):
        return f"'{os.fspath(source)}'"
    filename: object = source.__dict__.get("filename") if isinstance(source, Image.Image) else None
    return f"'{filename}'" if filename else f"the given {type(source).__name__}"


def image2tensor(image: Image.Image) -> Tensor:
    """The pixels of an image: uint8 [channel, height, width].

    Args:
        image: A PIL image.

    Examples:
        >>> image2tensor(Image.new("RGB", (6, 4))).shape
        torch.Size([3, 4, 6])
    """
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
