"""DICOM files: their values in physical units, windows, and images for models.

    from layered.vision.medical import *

    DataBlock((ImageBlock(PILDicom), CategoryBlock), get_items=get_dicom_files, item_tfms=Resize(224),
              batch_tfms=DicomWindow(dicom_windows.lungs, dicom_windows.mediastinum))

The extra `medical` installs pydicom, which reads the files. Nothing of it, of paths or of pandas is changed: what users know as
methods are functions here, `scaled_px(dcmread(file))`, and `DataFrame.from_dicoms(files)` is `dicom_frame(files)`. The classes
`DcmDataset`, `DcmTag` and `DcmMultiValue` of pydicom are found here by their names.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from layered.data import IntToFloatTensor
from layered.foundation import BadImage, BadValue, TensorImage, TensorImageBW, Transform, functions, require, transforms
from layered.vision.dicom_files import dcmread, get_dicom_files
from layered.vision.dicom_values import (
    Window,
    as_displayed,
    dicom_frame,
    dicom_windows,
    freqhist_bins,
    hist_scaled,
    one_frame,
    pct_in_window,
    pixels,
    scaled_px,
    stored_values,
    to_3chan,
    to_nchan,
    windowed,
)
from layered.vision.dicom_writing import png16read, save_jpg, save_tif16, set_pixels, to_uint16, zoom, zoom_to
from layered.vision.reading import ImageSource, contents
from layered.vision.regions import crop_resize, gauss_blur2d, mask2bbox, mask_from_blur, uniform_blur2d
from layered.vision.segmentation import SegmentationDataLoaders
from layered.vision.types import PILBase, PILImageBW16

_OF_PYDICOM = {"DcmDataset": "Dataset", "DcmTag": "tag.BaseTag", "DcmMultiValue": "multival.MultiValue"}
__all__ = [
    "DicomSegmentationDataLoaders", "DicomWindow", "PILCTScan", "PILDicom", "TensorCTScan", "TensorDicom", "as_displayed",
    "crop_resize", "dcmread", "dicom_frame", "dicom_windows", "freqhist_bins", "gauss_blur2d", "get_dicom_files", "hist_scaled",
    "mask2bbox", "mask_from_blur", "pct_in_window", "pixels", "png16read", "save_jpg", "save_tif16", "scaled_px", "set_pixels",
    "to_3chan", "to_nchan", "to_uint16", "uniform_blur2d", "windowed", "zoom", "zoom_to",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _OF_PYDICOM:
        return attrgetter(_OF_PYDICOM[name])(require("pydicom", extra="medical", why=f"layered.vision.medical.{name}"))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
        px = one_frame(stored_values(dcm))
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


class TensorCTScan(TensorImageBW):
    """A scan that is an image already, shown in the shades of an X-ray: float [..., 1, height, width]."""

    show_args: ClassVar[dict[str, object]] = {"cmap": "bone"}


class PILCTScan(PILImageBW16):
    """A scan that was saved as a grey image of 8 or 16 bits, such as by `save_tif16`: `ImageBlock(PILCTScan)`."""

    tensor_type, show_args = TensorCTScan, {"cmap": "bone"}


functions.add("vision.PILDicom.create", PILDicom.create)
functions.add("vision.PILCTScan.create", PILCTScan.create)


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
