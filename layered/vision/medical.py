"""DICOM files: their values in physical units, windows, and images for models.

    from layered.vision.medical import *

    DataBlock((ImageBlock(PILDicom), CategoryBlock), get_items=get_dicom_files, item_tfms=Resize(224),
              batch_tfms=DicomWindow(dicom_windows.lungs, dicom_windows.mediastinum))

The extra `medical` installs pydicom, which reads the files. Nothing of it is changed: what users know as methods are functions
here, `scaled_px(dcmread(file))`.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from layered.data import IntToFloatTensor, get_files
from layered.foundation import (
    BadImage,
    BadValue,
    L,
    LayeredError,
    OutOfRange,
    TensorImage,
    TensorImageBW,
    Transform,
    functions,
    lazy,
    require,
    transforms,
)
from layered.vision.decoding import check_regular
from layered.vision.reading import ImageSource, contents, naming
from layered.vision.segmentation import SegmentationDataLoaders
from layered.vision.types import PILBase

if TYPE_CHECKING:
    from pandas import DataFrame

pd = lazy("pandas")

__all__ = [
    "DicomSegmentationDataLoaders", "DicomWindow", "PILDicom", "TensorDicom", "as_displayed", "dcmread", "dicom_frame",
    "dicom_windows", "freqhist_bins", "gauss_blur2d", "get_dicom_files", "hist_scaled", "mask2bbox", "mask_from_blur",
    "pct_in_window", "pixels", "scaled_px", "to_nchan", "uniform_blur2d", "windowed",
]  # fmt: skip

_UNPACKED, _RATIO = 256 << 20, 100  # bytes that a deflated file may always unfold to, and how many times its own

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


# -- files


def get_dicom_files(path: str | os.PathLike[str], recurse: bool = True, folders: Iterable[str] | None = None) -> L[Any]:
    """The DICOM files under a folder, sorted by path.

    Args:
        path: The folder.
        recurse: Include subfolders at any depth.
        folders: Only these direct subfolders.
    """
    return get_files(path, (".dcm", ".dicom"), recurse, folders)


def dcmread(source: str | os.PathLike[str] | bytes, force: bool = False) -> Any:
    """Read a DICOM file as pydicom's `Dataset`.

    Args:
        source: A path, or the bytes of a file.
        force: Read files without the header that says that they are DICOM.

    Raises:
        MissingDependency: pydicom is not installed.
        BadImage: The file cannot be read.
    """
    pydicom = require("pydicom", extra="medical", why="a DICOM file")
    with naming(source):
        if isinstance(source, (bytes, bytearray)):
            _refuse_bomb(pydicom, io.BytesIO(source), force)
            return pydicom.dcmread(pydicom.filebase.DicomBytesIO(source), force=force)
        check_regular(source, f"'{source}'")
        with open(source, "rb") as file:
            _refuse_bomb(pydicom, file, force)
        return pydicom.dcmread(source, force=force)


def _refuse_bomb(pydicom: Any, file: BinaryIO, force: bool) -> None:
    """Raise BadImage if what follows the header is deflated to a small part of its size: pydicom inflates without a bound."""
    reader = pydicom.filereader
    reader.read_preamble(file, force)
    header = reader.read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    if header.get("TransferSyntaxUID") != pydicom.uid.DeflatedExplicitVRLittleEndian:
        return
    data = file.read()
    most = max(_UNPACKED, _RATIO * len(data))
    unpacking, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while data and size <= most:
        size += len(unpacking.decompress(data, 1 << 20))
        data = unpacking.unconsumed_tail
    if size > most:
        raise BadImage("the DICOM file unfolds to very much", got=f"more than {most} bytes", fix="leave it out")


@contextmanager
def _naming_file(dcm: Any, problem: str, fix: str | None = None) -> Iterator[None]:
    """Context manager: whatever pydicom and its decoders raise becomes an error that names the file of a data set."""
    try:
        yield
    except LayeredError:
        raise
    except Exception as error:
        name = f"'{dcm.filename}'" if isinstance(getattr(dcm, "filename", None), str) else "the DICOM file"
        got = f"{type(error).__name__}: {error}".strip().replace("\n", " ")[:300]
        raise BadImage(f"{name} {problem}", got=got, fix=fix) from error


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
        with _naming_file(dcm, "has an attribute that cannot be read", "leave it out"):
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


# -- values


def pixels(dcm: Any) -> Tensor:
    """The values as they are stored: float [height, width], or with axes for frames and colours.

    Args:
        dcm: A data set of pydicom.
    """
    return torch.from_numpy(_array(dcm).astype(np.float32))


def scaled_px(dcm: Any) -> Tensor:
    """The values in their unit, such as Hounsfield units: float [height, width], or with axes for frames.

    Args:
        dcm: A data set of pydicom.
    """
    pydicom_pixels, stored = require("pydicom.pixels", extra="medical", why="a DICOM file"), _array(dcm)
    with _naming_file(dcm, "has values whose unit cannot be read", "pixels(dcm) are the values as they are stored"):
        return torch.from_numpy(pydicom_pixels.apply_modality_lut(stored, dcm).astype(np.float32))


def _array(dcm: Any) -> np.ndarray[Any, Any]:
    """The stored pixels; colours as RGB."""
    reader = require("pydicom.pixels", extra="medical", why="a DICOM file")
    fix = "if it says that a decoder is missing: pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg python-gdcm"
    with _naming_file(dcm, "has no pixels that can be decoded", fix):
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
        dcm: A data set of pydicom.
        wins: The windows.
        bins: As `brks` of `hist_scaled`; False for no such channel.
    """
    px = scaled_px(dcm)
    channels = [windowed(px, *window) for window in wins]
    if bins is not False:
        channels.append(hist_scaled(px, bins if isinstance(bins, Tensor) else None))
    return torch.stack(channels)


def as_displayed(dcm: Any) -> Image.Image:
    """The image of 8 bits that a viewer shows: with its colours, or in its first window; without one, from its smallest value
    to its largest. A file in which large values are dark is shown so.

    Args:
        dcm: A data set of pydicom, of one frame.
    """
    array = _one_frame(_array(dcm))
    photometric = dcm.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        with _naming_file(dcm, "has no palette that can be read"):
            array = require("pydicom.pixels", extra="medical", why="a DICOM file").apply_color_lut(array, dcm)
    if array.ndim == 3:
        bits = 8 * array.dtype.itemsize
        return Image.fromarray((array >> (bits - 8)).astype(np.uint8))
    px = scaled_px(dcm)
    with _naming_file(dcm, "has a window that cannot be read", "windowed(scaled_px(dcm), width, level)"):
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


def _one_frame(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 3):
        return array
    raise BadImage(
        "the DICOM file has several frames",
        got=f"pixels of shape {array.shape}",
        expected="one image",
        fix="the frames as items: [frame for file in files for frame in scaled_px(dcmread(file)).numpy()]",
    )


# -- types for pipelines


class TensorDicom(TensorImageBW):
    """Values of a grey DICOM image in their unit: float [..., 1, height, width]."""


class PILDicom(PILBase):
    """A grey DICOM image with its values in their unit, such as Hounsfield units, as floats; large ones are bright.

        ImageBlock(PILDicom)

    A file in which large values are dark (MONOCHROME1) has them turned around: largest + smallest - value.
    """

    tensor_type, show_args = TensorDicom, {"cmap": "gray"}

    @classmethod
    def read(cls, source: ImageSource) -> Image.Image:
        """How `create` decodes.

        Args:
            source: A path, the bytes of a file, or [height, width] values.

        Raises:
            MissingDependency: pydicom is not installed.
            BadImage: It is not a grey DICOM image of one frame.
        """
        source = contents(source)
        if isinstance(source, Image.Image):
            return source.convert("F")
        if isinstance(source, (Tensor, np.ndarray)):
            return Image.fromarray(np.asarray(source, np.float32).squeeze())
        dcm = dcmread(source)  # type: ignore[arg-type]  # `contents` has read files
        px = _one_frame(_array(dcm))
        if px.ndim == 3 or dcm.PhotometricInterpretation == "PALETTE COLOR":
            raise BadImage(
                "the DICOM file is an image in colours",
                got=dcm.PhotometricInterpretation,
                expected="a grey image",
                fix="ImageBlock(), with get_x=lambda file: as_displayed(dcmread(file))",
            )
        values = scaled_px(dcm)
        values = values.max() + values.min() - values if dcm.PhotometricInterpretation == "MONOCHROME1" else values
        return Image.fromarray(values.numpy())


functions.add("vision.PILDicom.create", PILDicom.create)


@IntToFloatTensor  # type: ignore[arg-type]  # called with an overload, the class adds it
def encodes(self: IntToFloatTensor, o: TensorDicom) -> Tensor:
    """Values in a unit are not bytes, and stay.

    Args:
        o: The values.
    """
    return o


@IntToFloatTensor  # type: ignore[arg-type]  # called with an overload, the class adds it
def decodes(self: IntToFloatTensor, o: TensorDicom) -> Tensor:
    """Likewise.

    Args:
        o: The values.
    """
    return o


@transforms.register()
class DicomWindow(Transform):
    """Values in windows, as images with a channel for each, from 0 to 1: [batch, window, height, width].

    Args:
        windows: Pairs (width, level): `DicomWindow(dicom_windows.brain, dicom_windows.subdural)`.

    Examples:
        >>> DicomWindow((80, 40), (254, 100))(TensorDicom(torch.zeros(4, 1, 8, 8))).shape
        torch.Size([4, 2, 8, 8])
    """

    order = 11  # after `IntToFloatTensor`, before augmentation

    def __init__(self, *windows: Window) -> None:
        super().__init__()
        if not windows:
            raise BadValue("DicomWindow needs a window", fix="DicomWindow(dicom_windows.brain)")
        self.windows = windows

    def encode_dicom(self, x: TensorDicom) -> TensorImage:
        px = x.as_subclass(Tensor)
        return torch.cat([windowed(px, *window) for window in self.windows], dim=-3).as_subclass(TensorImage)


class DicomSegmentationDataLoaders(SegmentationDataLoaders):
    """Loaders of grey DICOM images, each with a mask."""

    @classmethod
    def from_label_func(cls, *args: Any, **kwargs: Any) -> Any:
        """`SegmentationDataLoaders.from_label_func` for DICOM files: `img_cls` is `PILDicom` unless given.

        Args:
            args: As there: path, files, a function that returns the mask of a file, ….
            kwargs: As there: `codes`, `item_tfms`, `batch_tfms=DicomWindow(dicom_windows.brain)`, ….
        """
        return super().from_label_func(*args, **{"img_cls": PILDicom, **kwargs})


# -- regions


def uniform_blur2d(x: Tensor, s: int) -> Tensor:
    """The mean of the s × s values around each: float [..., height, width].

    Args:
        x: The values.
        s: An odd number.
    """
    flat = x.reshape(-1, 1, *x.shape[-2:])
    return F.avg_pool2d(F.pad(flat, [s // 2] * 4, mode="replicate"), s, stride=1).reshape(x.shape)


def gauss_blur2d(x: Tensor, s: float) -> Tensor:
    """Values blurred by a bell curve: float [..., height, width].

    Args:
        x: The values.
        s: Its standard deviation in pixels; it reaches three of them far.
    """
    reach = max(1, min(round(3 * s), min(x.shape[-2:]) - 1))
    bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / s) ** 2)
    bell = (bell / bell.sum()).to(x)
    flat = F.pad(x.reshape(-1, 1, *x.shape[-2:]), [reach] * 4, mode="reflect")
    blurred = F.conv2d(F.conv2d(flat, bell.reshape(1, 1, -1, 1)), bell.reshape(1, 1, 1, -1))
    return blurred.reshape(x.shape)


def mask_from_blur(
    px: Tensor, window: Window, sigma: float = 0.03, thresh: float = 0.05, remove_max: bool = True
) -> Tensor:
    """Where the tissue in a window lies: bool [..., height, width].

    Args:
        px: The values, as from `scaled_px`.
        window: The window of the tissue.
        sigma: Standard deviation of the blur, as a share of the width.
        thresh: How bright a place must be after that.
        remove_max: Leave out what is brighter than the window, such as bone.
    """
    shown = windowed(px, *window)
    if remove_max:
        shown = torch.where(shown == 1, 0.0, shown)
    return gauss_blur2d(shown, sigma * px.shape[-1]) > thresh


def mask2bbox(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest box around what is set: its first row and column, and those after its last.

    Args:
        mask: bool [height, width].

    Raises:
        BadValue: Nothing is set.

    Examples:
        >>> mask = torch.zeros(5, 6, dtype=torch.bool); mask[1:3, 2:6] = True
        >>> mask2bbox(mask)
        (tensor([1, 2]), tensor([3, 6]))
    """
    places = mask.nonzero()
    if not len(places):
        raise BadValue("nothing of the mask is set, so it has no box", got=f"a mask of shape {tuple(mask.shape)}")
    return places.min(0).values, places.max(0).values + 1
