"""Opening image files: regular files only, in formats that are decoded in this process, without needless copies."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator

import numpy as np
from PIL import Image, UnidentifiedImageError

from layered.foundation import BadImage

USUAL = ("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM")  # known to PIL without loading all its plug-ins
FORMATS = (
    *USUAL, "AVIF", "CUR", "DCX", "DDS", "FLI", "ICNS", "ICO", "IM", "JPEG2000", "MSP", "PCX", "PSD", "QOI", "SGI", "SUN",
    "TGA", "TIFF", "WEBP", "XBM", "XPM",
)  # fmt: skip
"""What is read of PIL's formats. Of the others, PIL hands EPS to Ghostscript, IPTC may contain EPS, and FITS unpacks gzip
without a bound."""

STRIP = 1 << 20  # pixels that are converted at a time


def check_regular(path: str | os.PathLike[str], name: str) -> os.stat_result:
    """What the system says of a file: its size, time, …. Opening anything else, as a pipe, may wait for ever, or never end.

    Args:
        path: The file.
        name: What messages call it.

    Raises:
        BadImage: It is not a regular file, or the path cannot be one.
        FileNotFoundError: There is no such file; likewise the other errors of the system.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise BadImage(f"{name} cannot be opened", got=error.strerror, expected="an image file") from error
        raise
    except ValueError as error:
        raise BadImage(f"{name} is not a path", got=error, expected="an image file") from error
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder", os.fspath(path))
    if not stat.S_ISREG(found.st_mode):
        raise BadImage(f"{name} is not a file", got="a pipe, a socket or a device", expected="an image file")
    return found


def open_image(source: str | os.PathLike[str] | bytes | bytearray, name: str) -> Image.Image:
    """Open an image, without decoding its pixels yet.

    Formats of plug-ins that the user's code has registered with PIL are read too.

    Args:
        source: A path, or the bytes of a file.
        name: What messages call it.

    Raises:
        BadImage: It is in a format that is not read, or not a regular file.
        UnidentifiedImageError: PIL does not know the format; likewise the other errors of PIL and the system.
    """
    if not isinstance(source, (bytes, bytearray)):
        check_regular(source, name)
    file = io.BytesIO(source) if isinstance(source, (bytes, bytearray)) else os.fspath(source)
    try:
        return _checked(Image.open(file, formats=USUAL), name)
    except UnidentifiedImageError:
        Image.init()
        foreign = [known for known, (opener, _) in Image.OPEN.items() if not opener.__module__.startswith("PIL.")]
        formats = [known for known in (*FORMATS, *foreign) if known in Image.OPEN]
        try:
            return _checked(Image.open(file, formats=formats), name)
        except UnidentifiedImageError:
            with io.BytesIO(source) if isinstance(source, (bytes, bytearray)) else open(source, "rb") as data:
                head = data.read(132)
            if head[128:] == b"DICM":
                raise BadImage(
                    f"{name} is a DICOM file, which has values in place of colours",
                    fix="ImageBlock(PILDicom), from layered.vision.medical import PILDicom; pip install 'layered-learn[medical]'",
                ) from None
            if head[:6] == b"\x93NUMPY":
                raise BadImage(
                    f"{name} is an array of NumPy", fix="ImageBlock(MultiChannelImage), which reads them"
                ) from None
            if head[:4] in (b"II*\0", b"MM\0*"):
                raise BadImage(
                    f"{name} is a TIFF file that PIL does not read: it has channels of another number or type, or is broken",
                    expected="1, 3 or 4 channels of 8 bits, or grey of 16",
                    fix=f"if it is whole, {_ALL_CHANNELS}",
                ) from None
            start = head[:16].ljust(16, b"\0")
            looks = [known for known, (_, accepts) in Image.OPEN.items() if accepts is not None and accepts(start)]
            refused = [known for known in looks if known not in formats]
            if not refused:
                raise
            raise BadImage(
                f"{name} is not read: it is in the format {refused[0]}",
                expected="a format that is decoded in this process: " + ", ".join(formats),
                fix="convert it to PNG, or delete it",
            ) from None


_ALL_CHANNELS = "ImageBlock(MultiChannelImage) and get_x=tifffile.imread (pip install tifffile), which keep all of it"
_SAMPLES = 277  # the tag of a TIFF that counts its channels


def _checked(image: Image.Image, name: str) -> Image.Image:
    """The image, unless PIL would leave out channels of it."""
    channels: int = image.tag_v2.get(_SAMPLES, 1) if image.format == "TIFF" else 0  # type: ignore[attr-defined]  # the class is loaded with its plug-in only
    kept = len(image.getbands())
    if channels > kept:
        raise BadImage(
            f"{name} has {channels} channels, of which PIL would read {kept}",
            expected="1, 3 or 4 channels of 8 bits, or grey of 16",
            fix=_ALL_CHANNELS,
        )
    return image


def has_deep_colours(image: Image.Image) -> bool:
    """Whether a file has colours of 16 bits, of which PIL reads 8.

    Args:
        image: The image, not decoded yet.
    """
    if len(image.getbands()) == 1:
        return False
    for tile in vars(image).get("tile", ()):  # only of a file
        args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        if str(args[0]).endswith((";16B", ";16L", ";16N")) or (tile.codec_name == "ppm" and args[-1] > 255):
            return True
    return False


def strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The image in parts of some rows, from the top, each with the number of its first row.

    Args:
        image: The image.
    """
    rows = max(1, STRIP // max(1, image.width))
    if image.height <= rows:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def in_bits(image: Image.Image, dtype: type[np.uint8 | np.uint16] = np.uint8) -> Image.Image:
    """A grey image of any depth (8, 16 or 32 bits, or floats), scaled to 8 or 16 bits: black stays 0, white the largest number.

    Args:
        image: The image.
        dtype: `np.uint8` or `np.uint16`.
    """
    if image.mode.startswith("I;"):
        white = 65535.0
    elif image.mode == "L":
        white = 255.0
    else:
        # the format does not say what white is, so guess the smallest usual range that holds all values
        largest = max(_values(strip).max(initial=0.0) for _, strip in strips(image))
        usual = (1.0, 255.0) if image.mode == "F" else (255.0, 65535.0, float(2**31 - 1))
        white = next((bound for bound in usual if largest <= bound), usual[-1])
    most = float(np.iinfo(dtype).max)
    grey = np.empty((image.height, image.width), dtype)
    for top, strip in strips(image):
        grey[top : top + strip.height] = (_values(strip) * (most / white)).round().clip(0, most)
    return Image.fromarray(grey)


def _values(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.nan_to_num(np.asarray(image).astype(np.float64))


def on_white(image: Image.Image) -> Image.Image:
    """An image with transparency as an RGB image on a white ground.

    Args:
        image: The image.
    """
    seen = Image.new("RGB", image.size)
    for top, strip in strips(image):
        ground = Image.new("RGBA", strip.size, "white")
        seen.paste(Image.alpha_composite(ground, strip.convert("RGBA")).convert("RGB"), (0, top))
    return seen
