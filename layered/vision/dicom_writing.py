"""Writing scans: other pixels into a DICOM data set, and files of usual formats."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from layered.files import commit
from layered.foundation import BadValue, OutOfRange, Path, StrPath, lazy, require
from layered.vision.dicom_files import naming_file
from layered.vision.dicom_values import Window, hist_scaled, scaled_px, stored_values, to_nchan
from layered.vision.types import PILImageBW16

v2_functional = lazy("torchvision.transforms.v2.functional")


def set_pixels(dcm: Any, px: Any) -> None:
    """Put other values in place of those of a data set, uncompressed; `dcm.save_as(file)` then writes it.

    Args:
        dcm: A data set of pydicom, which is changed; it gets a new `SOPInstanceUID`.
        px: The values as they are to be stored: integers of 8 or 16 bits, [height, width], or [height, width, 3] for RGB, in
            either case after an axis for frames, if there are several.

    Raises:
        BadImage: A DICOM file cannot store them.
    """
    writer, array = require("pydicom.pixels", extra="medical", why="a DICOM file"), np.asarray(px)
    with naming_file(dcm, "cannot store these pixels", "set_pixels(dcm, px.to(torch.int16))"):
        kind = "RGB" if dcm.SamplesPerPixel == 3 else dcm.PhotometricInterpretation
        writer.set_pixel_data(dcm, array, kind, 8 * array.dtype.itemsize)


def zoom(dcm: Any, ratio: float | tuple[float, float]) -> None:
    """Resize the image of a data set, and its `PixelSpacing` with it: see `zoom_to`.

    Args:
        dcm: A data set of pydicom, which is changed.
        ratio: What the height and the width are multiplied by, or a number for each of the two.
    """
    ratios = ratio if isinstance(ratio, tuple) else (ratio, ratio)
    zoom_to(dcm, (max(1, round(dcm.Rows * ratios[0])), max(1, round(dcm.Columns * ratios[1]))))


def zoom_to(dcm: Any, sz: int | tuple[int, int]) -> None:
    """Resize the image of a data set, and its `PixelSpacing` with it, by interpolation that averages where it shrinks.

    Args:
        dcm: A data set of pydicom, which is changed; its values are stored uncompressed.
        sz: The size: a number for a square, or (height, width).

    Raises:
        OutOfRange: A side is not positive.
        BadValue: The values are numbers of colours of a palette.
    """
    height, width = (sz, sz) if isinstance(sz, int) else sz
    if min(height, width) < 1:
        raise OutOfRange("invalid size", got=(height, width), expected="(height, width), at least (1, 1)")
    if dcm.PhotometricInterpretation == "PALETTE COLOR":
        raise BadValue(
            "the values are numbers of colours, between which nothing lies",
            got="PALETTE COLOR",
            fix="as_displayed(dcm)",
        )
    stored = stored_values(dcm)
    values = torch.from_numpy(stored.astype(np.float32))
    values = values.movedim(-1, -3) if dcm.SamplesPerPixel == 3 else values
    flat = v2_functional.resize(values.reshape(-1, *values.shape[-2:]), [height, width])
    made = flat.reshape(*values.shape[:-2], height, width)
    made = made.movedim(-3, -1) if dcm.SamplesPerPixel == 3 else made
    rows, columns = dcm.Rows, dcm.Columns
    set_pixels(dcm, made.round().numpy().astype(stored.dtype))
    if dcm.get("PixelSpacing"):
        dcm.PixelSpacing = [dcm.PixelSpacing[0] * rows / height, dcm.PixelSpacing[1] * columns / width]


def to_uint16(dcm: Any, bins: Tensor | None = None) -> np.ndarray[Any, Any]:
    """The shades of `hist_scaled` in 16 bits: uint16 [height, width].

    Args:
        dcm: A data set of pydicom, or its values in their unit.
        bins: As `brks` of `hist_scaled`.
    """
    shades = hist_scaled(dcm if isinstance(dcm, Tensor) else scaled_px(dcm), bins)
    array: np.ndarray[Any, Any] = (shades * 65535).round().numpy().astype(np.uint16)
    return array


def save_tif16(dcm: Any, path: StrPath, bins: Tensor | None = None, compress: bool = True) -> Path:
    """Write the shades of `hist_scaled` as a TIFF file of 16 bits, which `PILCTScan` reads.

    Args:
        dcm: A data set of pydicom, or its values in their unit.
        path: The file; its suffix becomes `.tif`.
        bins: As `brks` of `hist_scaled`: the same for all files, where a shade is to mean the same in each.
        compress: Deflate the pixels, without loss.

    Returns:
        The path of the file.
    """
    return _save(
        Image.fromarray(to_uint16(dcm, bins)), path, ".tif", "TIFF", compression="tiff_deflate" if compress else None
    )


def save_jpg(dcm: Any, path: StrPath, wins: list[Window], bins: Tensor | bool | None = None, quality: int = 90) -> Path:
    """Write windows as the channels of a JPEG file, which any viewer shows: see `to_nchan`.

    Args:
        dcm: A data set of pydicom, or its values in their unit.
        path: The file; its suffix becomes `.jpg`.
        wins: The windows: two, or with `bins=False` one or three.
        bins: As `brks` of `hist_scaled`; False for no such channel.
        quality: That of the JPEG file, at most 95.

    Returns:
        The path of the file.

    Raises:
        BadValue: A JPEG file has no such number of channels.
    """
    channels = (to_nchan(dcm, wins, bins) * 255).round().byte()
    if len(channels) not in (1, 3):
        raise BadValue(
            "a JPEG file has one channel or three",
            got=f"{len(channels)} channels",
            expected="two windows; or with bins=False, one or three",
            fix="save_jpg(dcm, path, [dicom_windows.brain, dicom_windows.subdural])",
        )
    return _save(Image.fromarray(channels.movedim(0, -1).squeeze(-1).numpy()), path, ".jpg", "JPEG", quality=quality)


def _save(image: Image.Image, path: StrPath, suffix: str, kind: str, **kwargs: Any) -> Path:
    target = Path(Path(path).with_suffix(suffix))
    target.parent.mkdir(parents=True, exist_ok=True)
    commit(target, lambda file: image.save(file, format=kind, **kwargs))
    return target


def png16read(path: StrPath) -> np.ndarray[Any, Any]:
    """The pixels of a grey PNG or TIFF file in 16 bits: uint16 [height, width].

    Args:
        path: The file. One of 8 bits is scaled, white to white.
    """
    return np.asarray(PILImageBW16.create(path)).astype(np.uint16)
