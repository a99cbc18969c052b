"""The values of DICOM data sets: in their unit, in windows, as pictures and as tables."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from layered.foundation import BadImage, OutOfRange, lazy, require
from layered.vision.dicom_files import dcmread, naming_file

if TYPE_CHECKING:
    from pandas import DataFrame

pd = lazy("pandas")

Window = tuple[float, float]
"""Width and level (the middle) of the values to look at, in Hounsfield units for computed tomography."""

dicom_windows = SimpleNamespace(
    brain=(80, 40),
    subdural=(254, 100),
    stroke=(8, 32),
    brain_bone=(2800, 600),
    brain_soft=(375, 40),
    lungs=(1500, -600),
    mediastinum=(350, 50),
    abdomen_soft=(400, 50),
    liver=(150, 30),
    spine_soft=(250, 50),
    spine_bone=(1800, 400),
)
"""Usual windows of computed tomography, each (width, level) in Hounsfield units."""


def pixels(dcm: Any) -> Tensor:
    """The values as they are stored: float [height, width], or with axes for frames and colours.

    Args:
        dcm: A data set of pydicom.
    """
    return torch.from_numpy(stored_values(dcm).astype(np.float32))


def scaled_px(dcm: Any) -> Tensor:
    """The values in their unit, such as Hounsfield units: float [height, width], or with axes for frames.

    Args:
        dcm: A data set of pydicom.
    """
    pydicom_pixels, stored = require("pydicom.pixels", extra="medical", why="a DICOM file"), stored_values(dcm)
    with naming_file(dcm, "has values whose unit cannot be read", "pixels(dcm) are the values as they are stored"):
        return torch.from_numpy(pydicom_pixels.apply_modality_lut(stored, dcm).astype(np.float32))


def stored_values(dcm: Any) -> np.ndarray[Any, Any]:
    """The stored pixels; colours as RGB."""
    reader = require("pydicom.pixels", extra="medical", why="a DICOM file")
    fix = "if it says that a decoder is missing: pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg python-gdcm"
    with naming_file(dcm, "has no pixels that can be decoded", fix):
        array: np.ndarray[Any, Any] = reader.pixel_array(dcm)
        return array


def windowed(px: Tensor, w: float, l: float) -> Tensor:  # the names that users type
    """Values in a window as 0 to 1, those outside as 0 or 1: (px - (l - w / 2)) / w.

    Args:
        px: The values, as from `scaled_px`.
        w: The width of the window.
        l: Its level, the middle.

    Examples:
        >>> windowed(torch.tensor([-1000.0, 0.0, 20.0, 500.0]), *dicom_windows.brain)
        tensor([0.0000, 0.0000, 0.2500, 1.0000])
    """
    if w <= 0:
        raise OutOfRange("the width of a window must be positive", got=w, expected="(width, level)")
    return ((px - (l - w / 2)) / w).clamp(0, 1)


def pct_in_window(dcm: Any, w: float, l: float) -> float:  # the names that users type
    """The share of pixels inside a window.

    Args:
        dcm: A data set of pydicom.
        w: The width of the window.
        l: Its level, the middle.
    """
    px = scaled_px(dcm)
    return float(((px > l - w / 2) & (px < l + w / 2)).float().mean())


def freqhist_bins(px: Tensor, n_bins: int = 100) -> Tensor:
    """Values between which about equally many pixels lie, for `hist_scaled`; fewer where many pixels are equal.

    Args:
        px: The values.
        n_bins: How many there are, besides one near each end.
    """
    shares = torch.cat([torch.tensor([0.001]), (torch.arange(n_bins) + 0.5) / n_bins, torch.tensor([0.999])])
    ordered = px.flatten().sort().values
    values: Tensor = ordered[(len(ordered) * shares).long()].unique()  # type: ignore[no-untyped-call]
    return values


def hist_scaled(px: Tensor, brks: Tensor | None = None) -> Tensor:
    """Values as 0 to 1, by how many pixels are smaller: each shade is about equally frequent.

    Args:
        px: The values, as from `scaled_px`.
        brks: Values between which about equally many pixels lie; by default those of this image. With those of many images
            (`freqhist_bins` of their values together) a value has the same shade in each.
    """
    brks = freqhist_bins(px) if brks is None else brks
    scaled = np.interp(px.numpy(), brks.numpy(), np.linspace(0.0, 1.0, len(brks)))
    return torch.from_numpy(scaled.astype(np.float32))


def to_nchan(dcm: Any, wins: Iterable[Window], bins: Tensor | bool | None = None) -> Tensor:
    """An image with a channel for each window, and a last one of `hist_scaled`: float [channel, height, width].

    Args:
        dcm: A data set of pydicom, or its values in their unit.
        wins: The windows.
        bins: As `brks` of `hist_scaled`; False for no such channel.
    """
    px = dcm if isinstance(dcm, Tensor) else scaled_px(dcm)
    channels = [windowed(px, *window) for window in wins]
    if bins is not False:
        channels.append(hist_scaled(px, bins if isinstance(bins, Tensor) else None))
    return torch.stack(channels)


def to_3chan(dcm: Any, win1: Window, win2: Window, bins: Tensor | None = None) -> Tensor:
    """Two windows and `hist_scaled`, as an image of three channels: float [3, height, width].

    Args:
        dcm: A data set of pydicom, or its values in their unit.
        win1: The first window.
        win2: The second window.
        bins: As `brks` of `hist_scaled`.
    """
    return to_nchan(dcm, [win1, win2], bins)


def as_displayed(dcm: Any) -> Image.Image:
    """The image of 8 bits that a viewer shows: with its colours, or in its first window; without one, from its smallest value
    to its largest. A file in which large values are dark is shown so.

    Args:
        dcm: A data set of pydicom, of one frame.
    """
    array = one_frame(stored_values(dcm))
    photometric = dcm.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        with naming_file(dcm, "has no palette that can be read"):
            array = require("pydicom.pixels", extra="medical", why="a DICOM file").apply_color_lut(array, dcm)
    if array.ndim == 3:
        bits = 8 * array.dtype.itemsize
        return Image.fromarray((array >> (bits - 8)).astype(np.uint8))
    px = scaled_px(dcm)
    with naming_file(dcm, "has a window that cannot be read", "windowed(scaled_px(dcm), width, level)"):
        width, center = (_first(dcm.get(name)) for name in ("WindowWidth", "WindowCenter"))
    if width is None or center is None or width <= 1:
        low, high = float(px.min()), float(px.max())
        shown = (px - low) / ((high - low) or 1.0)
    else:
        shown = windowed(px, width - 1, center - 0.5)  # as the standard defines it, PS3.3 C.11.2.1.2.1
    shown = 1 - shown if photometric == "MONOCHROME1" else shown
    return Image.fromarray((shown * 255).round().byte().numpy())


def _first(value: Any) -> float | None:
    values = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    return next((float(v) for v in values if v is not None), None)


def one_frame(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 3):
        return array
    raise BadImage(
        "the DICOM file has several frames",
        got=f"pixels of shape {array.shape}",
        expected="one image",
        fix="the frames as items: [frame for file in files for frame in scaled_px(dcmread(file)).numpy()]",
    )


def dicom_frame(
    fns: Iterable[str | os.PathLike[str]], window: Window = dicom_windows.brain, px_summ: bool = True
) -> DataFrame:
    """A table of the attributes of files, a row each, such as `PatientID`, to split by patients.

    An attribute of several values has a column for each, `ImagePositionPatient`, `ImagePositionPatient1`, ….

    Args:
        fns: The files.
        window: The window of `img_pct_window`.
        px_summ: Add columns with the smallest, largest and mean value of the pixels, their deviation, and the share in the
            window: img_min, img_max, img_mean, img_std, img_pct_window.
    """
    rows = []
    for file in fns:
        dcm = dcmread(file)
        row: dict[str, Any] = {"fname": str(file)}
        with naming_file(dcm, "has an attribute that cannot be read", "leave it out"):
            for element in dcm:
                if element.keyword and element.VR != "SQ" and element.keyword != "PixelData":
                    values = element.value if element.VM > 1 else [element.value]
                    row |= {f"{element.keyword}{i or ''}": value for i, value in enumerate(values)}
        if px_summ:
            px = scaled_px(dcm)
            row |= {"img_min": px.min().item(), "img_max": px.max().item(), "img_mean": px.mean().item()}
            row |= {"img_std": px.std().item(), "img_pct_window": pct_in_window(dcm, *window)}
        rows.append(row)
    frame: DataFrame = pd.DataFrame(rows)
    return frame
