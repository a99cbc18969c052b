"""Image classes on top of PIL's, each with its own meaning: `PILImage`, `PILImageBW`, `PILMask`."""

from __future__ import annotations

import io
import os
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from layered.data import Deferral, Keepable, ToTensor, deferral, deferring
from layered.foundation import TensorImage, TensorImageBase, TensorImageBW, TensorMask, Transform, functions, show_image
from layered.vision.decoding import check_regular
from layered.vision.jpeg import Jpeg
from layered.vision.reading import (
    STORED_TURNED,
    ImageSource,
    contents,
    image2tensor,
    in_sixteen_bits,
    load_image,
    load_mask,
    naming,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST


_KNOWN_WHEN_OPEN = ("_mode", "_size", "info")  # attributes of PIL


class UnreadFile:
    """An image file that has not been opened.

    Args:
        path: The file.

    Attributes:
        stamp: Its path, time and size, in a text: another one once it has changed.

    Raises:
        NotFoundPath: It does not exist.
        BadImage: It is not a regular file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        with naming(path):
            found = check_regular(path, f"'{self.path}'")
        self.stamp = f"{os.path.abspath(path)} {found.st_mtime_ns} {found.st_size}"


class PILBase(Keepable, Image.Image):
    """A PIL image that keeps its class. PIL's own methods return plain images; transforms restore the class.

    `size` is PIL's (width, height), `shape` is (height, width).

    Attributes:
        tensor_type: The class of its tensor.
        read_mode: The mode of PIL in which `create` reads files.
        show_args: Keywords for drawing it.
        jpeg: Where its pixels come from, until they are asked for; None once they are there.
        unread: The file that it is, until anything is asked of it; None once it has been opened.
    """

    tensor_type: ClassVar[type[TensorImageBase]] = TensorImageBase
    read_mode: ClassVar[str | None] = None
    show_args: ClassVar[dict[str, Any]] = {}
    jpeg: Jpeg | None = None
    unread: UnreadFile | None = None
    _pixels: Tensor | None = None

    @classmethod
    def create(cls, source: ImageSource) -> Self:
        """Make an image of this class.

        Where a loader makes it, a JPEG is decoded once its pixels are needed: transforms that make it much smaller decode it
        at a part of its size.

        Args:
            source: A path, the bytes of a file, an open file, a PIL image, a tensor or an array of pixels.

        Raises:
            NotFoundPath: If the file does not exist.
            BadImage: If it cannot be decoded.
        """
        if isinstance(source, cls):
            return source if type(source) is cls else cls.recast(source)
        source = contents(source)
        if deferral() is Deferral.FILES and isinstance(source, (str, os.PathLike)) and cls._reader() in _OWN_READERS:
            return cls._of_file(UnreadFile(source))
        return cls._made(source)

    @classmethod
    def _made(cls, source: ImageSource) -> Self:
        if deferral() is not Deferral.NOTHING and cls._reads_colours():
            jpeg = Jpeg.opened(source)
            if jpeg is not None:
                return cls.of_jpeg(jpeg, {} if jpeg.orientation == 1 else {STORED_TURNED: jpeg.orientation})
        image = cls.read(source)
        return image if type(image) is cls else cls.recast(image)

    @classmethod
    def _reads_colours(cls) -> bool:
        """Whether `read` is that of this base, and its result may be interpolated."""
        return cls.read_mode in ("RGB", "L") and cls._reader() is PILBase

    @classmethod
    def _reader(cls) -> type:
        """The class whose `read` this is."""
        return next(kind for kind in cls.__mro__ if "read" in vars(kind))

    @classmethod
    def _of_file(cls, file: UnreadFile) -> Self:
        """An image that is opened once anything is asked of it."""
        new = cls()
        for name in _KNOWN_WHEN_OPEN:
            del new.__dict__[name]
        new.unread = file
        return new

    def _open(self) -> None:
        if self.unread is not None:
            with deferring(Deferral.PIXELS):
                opened = self._made(self.unread.path)  # a `create` of a subclass is running already
            self.__dict__.update(opened.__dict__)
            self.unread = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in _KNOWN_WHEN_OPEN and self.unread is not None:
                self._open()
                return self.__dict__[name]
            raise AttributeError(f"a {type(self).__name__} has no attribute '{name}'", name=name, obj=self)

    def kept_from(self) -> str | None:
        """For a cache: the file, with its size and time, and as what it is read; None if it has been read."""
        return None if self.unread is None else f"{type(self).__qualname__} {self.read_mode} {self.unread.stamp}"

    def as_kept(self) -> tuple[dict[str, int], np.ndarray[Any, Any]] | None:
        """For a cache: how it was stored, and its pixels, of colours [channel, height, width]; None if not worth it."""
        if self.mode not in ("RGB", "L", "I;16") or self.jpeg is not None:  # not a JPEG that still waits
            return None
        pixels = self.pixels
        array = np.asarray(self) if pixels is None else pixels.numpy()
        if pixels is None and self.mode == "RGB":
            array = array.transpose(2, 0, 1)
        return {name: self.info[name] for name in (STORED_TURNED,) if name in self.info}, array

    def from_kept(self, note: dict[str, int], pixels: np.ndarray[Any, Any]) -> Self:
        """For a cache: the image of its class that `as_kept` described.

        Args:
            note: How it was stored.
            pixels: Its pixels.

        Raises:
            ValueError: It did not describe this.
        """
        is_colour = pixels.ndim == 3
        shades = (np.uint8,) if is_colour else (np.uint8, np.uint16)
        is_whole = pixels.ndim in (2, 3) and pixels.dtype in shades and pixels.size > 0
        if not is_whole or (is_colour and len(pixels) != 3) or (note and note.keys() != {STORED_TURNED}):
            raise ValueError("not an image")
        new = self.of_pixels(torch.from_numpy(pixels)) if is_colour else self.recast(Image.fromarray(pixels))
        new.info.update(note)
        return new

    @classmethod
    def read(cls, source: ImageSource) -> Image.Image:
        """How `create` decodes; subclasses may override it.

        Args:
            source: As for `create`.
        """
        jpeg = Jpeg.opened(source) if cls.read_mode == "RGB" else None
        pixels = None if jpeg is None else jpeg.pixels()
        return load_image(source, cls.read_mode) if pixels is None else cls.of_pixels(pixels)

    @classmethod
    def of_pixels(cls, pixels: Tensor) -> Self:
        """An image of these pixels, which are copied into PIL's memory only when a method of PIL needs them.

        Args:
            pixels: uint8 [3, height, width].
        """
        new = cls()
        new.__dict__.update(_pixels=pixels, _mode="RGB", _size=(pixels.shape[2], pixels.shape[1]))
        return new

    @classmethod
    def of_jpeg(cls, jpeg: Jpeg, info: dict[Any, Any]) -> Self:
        """An image that is decoded once its pixels are asked for.

        Args:
            jpeg: The file.
            info: PIL's `info` of it.
        """
        new = cls()
        new.__dict__.update(jpeg=jpeg, _mode=cls.read_mode, _size=jpeg.size, info=info)
        return new

    @property
    def pixels(self) -> Tensor | None:
        """uint8 [channel, height, width] of a colour image whose pixels are not in PIL's own memory; None of any other."""
        self._decode()
        return self._pixels

    def _decode(self) -> None:
        self._open()
        if self.jpeg is None:
            return
        pixels = self.jpeg.pixels() if self.read_mode == "RGB" else None
        image = load_image(self.jpeg.source, self.read_mode) if pixels is None else self.of_pixels(pixels)
        for turn in self.jpeg.turns:
            image = image.transpose(turn)
        if isinstance(image, PILBase) and image._pixels is not None:
            self._pixels = image._pixels
        else:
            self.im = image.im
        self.jpeg = None

    def load(self) -> Any:
        """Fill PIL's own memory. All methods of PIL call this first."""
        self._decode()
        if self._pixels is not None:
            self.im = Image.fromarray(self._pixels.permute(1, 2, 0).numpy()).im
            self._pixels = None
        return super().load()

    def transpose(self, method: Image.Transpose) -> Image.Image:
        """Turn by 90 degrees or mirror, as PIL does; a file that has not been decoded is so afterwards too.

        Args:
            method: How.
        """
        self._open()
        if self.jpeg is None:
            return super().transpose(method)
        return self.of_jpeg(self.jpeg.turned(method), dict(self.info))

    @classmethod
    def recast(cls, image: Image.Image) -> Self:
        """An image as one of this class. The two share their pixels until one is changed.

        Args:
            image: A PIL image.
        """
        if isinstance(image, PILBase) and image.jpeg is not None and cls._reads_colours():
            return cls.of_jpeg(image.jpeg, dict(image.info))
        image.load()
        new = cls()
        new.__dict__.update({name: image.__dict__[name] for name in new.__dict__})
        new.readonly = image.readonly = 1  # PIL then copies before it writes
        return new

    def copy(self) -> Self:
        """A copy that keeps its class."""
        if self.jpeg is not None:
            return self.of_jpeg(self.jpeg, dict(self.info))
        return self.recast(super().copy())

    __copy__ = copy

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @property
    def n_px(self) -> int:
        """The number of pixels."""
        return self.width * self.height

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.width / self.height

    def reshape(self, h: int, w: int, resample: Image.Resampling = NEAREST) -> Self:
        """Resize.

        Args:
            h: Height in pixels.
            w: Width in pixels.
            resample: PIL's interpolation.
        """
        return self.recast(self.resize((w, h), resample))

    def resize_max(
        self,
        resample: Image.Resampling = NEAREST,
        max_px: int | None = None,
        max_h: int | None = None,
        max_w: int | None = None,
    ) -> Self:
        """Shrink in proportion until all limits hold.

        Args:
            resample: PIL's interpolation.
            max_px: Largest number of pixels.
            max_h: Largest height in pixels.
            max_w: Largest width in pixels.
        """
        scale = min(
            1.0,
            ((max_px or self.n_px) / self.n_px) ** 0.5,
            (max_h or self.height) / self.height,
            (max_w or self.width) / self.width,
        )
        return self if scale == 1.0 else self.reshape(round(self.height * scale), round(self.width * scale), resample)

    def to_thumb(self, h: int, w: int | None = None) -> Self:
        """A copy, shrunk in proportion to fit a box.

        Args:
            h: Height of the box in pixels.
            w: Width of the box in pixels; by default `h`.
        """
        thumb = self.copy()
        thumb.thumbnail((w or h, h))
        return thumb

    def to_bytes_format(self, format: str = "png") -> bytes:
        """The image as the bytes of a file.

        Args:
            format: A format of PIL.
        """
        file = io.BytesIO()
        self.save(file, format=format)
        return file.getvalue()

    def show(self, ctx: Axes | None = None, **kwargs: Any) -> Axes:  # type: ignore[override]  # on axes, not in a viewer
        """Draw the image and return its axes.

        Args:
            ctx: The axes to draw on; new ones by default.
            kwargs: For `show_image`: `title`, `figsize`, and what matplotlib's `imshow` takes.
        """
        white = {"L": 255, "I;16": 65535}.get(self.mode)
        grey = {} if white is None else {"cmap": "gray", "vmin": 0, "vmax": white}
        return show_image(self, ctx=ctx, **{**grey, **self.show_args, **kwargs})

    def __repr__(self) -> str:
        if self.unread is not None:
            return f"{type(self).__name__} '{self.unread.path}', not opened yet"
        return f"{type(self).__name__} mode={self.mode} size={self.width}x{self.height}"


class PILImage(PILBase):
    """A colour image.

    Examples:
        >>> PILImage.create(Image.new("L", (6, 4)))
        PILImage mode=RGB size=6x4
    """

    tensor_type, read_mode = TensorImage, "RGB"


class PILImageBW(PILImage):
    """A grey image."""

    tensor_type, read_mode = TensorImageBW, "L"


class PILImageBW16(PILImageBW):
    """A grey image of 16 bits, such as a microscope's or a scan's, which other classes round to 8: `ImageBlock(PILImageBW16)`.

    Files of other depths are scaled to 16 bits, black to black and white to white; batches are floats in [0, 1], as of all
    images. Files in colour become their shade of grey, but for those of 16 bits, which are refused.

    Examples:
        >>> PILImageBW16.create(Image.new("L", (6, 4), "white")).getpixel((0, 0))
        65535
    """

    read_mode = "I;16"

    @classmethod
    def read(cls, source: ImageSource) -> Image.Image:
        """How `create` decodes.

        Args:
            source: As for `create`.
        """
        return load_image(in_sixteen_bits(source), cls.read_mode, whole=True)


class PILMask(PILBase):
    """A class for each pixel, from 0 to 255. A palette image gives its indices."""

    tensor_type, read_mode = TensorMask, "L"

    def show(self, ctx: Axes | None = None, **kwargs: Any) -> Axes:  # type: ignore[override]  # on axes, not in a viewer
        """Draw the classes and return the axes: see `TensorMask.show`.

        Args:
            ctx: The axes to draw on; new ones by default, with a legend.
            kwargs: As for `TensorMask.show`.
        """
        return TensorMask(image2tensor(self)[0]).show(ctx=ctx, **{**self.show_args, **kwargs})

    @classmethod
    def read(cls, source: ImageSource) -> Image.Image:
        """How `create` decodes: see `load_mask`.

        Args:
            source: As for `create`.
        """
        return load_mask(source)


_OWN_READERS = (PILBase, PILImageBW16, PILMask)


OpenMask = Transform(PILMask.create)
"""A step that reads masks, for `Datasets`: `[label_func, OpenMask, AddMaskCodes(codes)]`. A `DataBlock` has `MaskBlock`."""


def image_class(step: Transform) -> type[PILBase] | None:
    """The class whose `create` a transform calls; None for other transforms.

    Args:
        step: A step of a pipeline.
    """
    maker = step.enc.__self__ if isinstance(step.enc, MethodType) else None
    return maker if isinstance(maker, type) and issubclass(maker, PILBase) else None


@ToTensor
def encodes(self: ToTensor, o: PILBase) -> TensorImageBase:
    """Pixels as uint8 (uint16 of 16 bits) [channel, height, width], or [height, width] for a mask.

    Args:
        o: The image.
    """
    decoded = o.pixels
    pixels = image2tensor(o) if decoded is None else decoded if o.is_lent else decoded.clone()
    return pixels[0].as_subclass(o.tensor_type) if isinstance(o, PILMask) else pixels.as_subclass(o.tensor_type)


functions.add("vision.PILImage.create", PILImage.create)
functions.add("vision.PILImageBW.create", PILImageBW.create)
functions.add("vision.PILImageBW16.create", PILImageBW16.create)
functions.add("vision.PILMask.create", PILMask.create)
