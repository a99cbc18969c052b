"""Image classes on top of PIL's, each with its own meaning: `PILImage`, `PILImageBW`, `PILMask`."""

from __future__ import annotations

import io
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from PIL import Image
from torch import Tensor

from layered.data import ToTensor
from layered.foundation import TensorImage, TensorImageBase, TensorImageBW, TensorMask, Transform, functions, show_image
from layered.vision.reading import ImageSource, contents, image2tensor, jpeg_pixels, load_image, load_mask

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST


class PILBase(Image.Image):
    """A PIL image that keeps its class. PIL's own methods return plain images; transforms restore the class.

    `size` is PIL's (width, height), `shape` is (height, width).

    Attributes:
        tensor_type: The class of its tensor.
        read_mode: The mode of PIL in which `create` reads files.
        show_args: Keywords for drawing it.
        pixels: uint8 [channel, height, width], in place of PIL's own memory until a method of PIL needs that.
    """

    tensor_type: ClassVar[type[TensorImageBase]] = TensorImageBase
    read_mode: ClassVar[str | None] = None
    show_args: ClassVar[dict[str, Any]] = {}
    pixels: Tensor | None = None

    @classmethod
    def create(cls, source: ImageSource) -> Self:
        """Make an image of this class.

        Args:
            source: A path, the bytes of a file, an open file, a PIL image, a tensor or an array of pixels.

        Raises:
            NotFoundPath: If the file does not exist.
            BadImage: If it cannot be decoded.
        """
        image = source if isinstance(source, cls) else cls.read(contents(source))
        return image if type(image) is cls else cls.recast(image)

    @classmethod
    def read(cls, source: ImageSource) -> Image.Image:
        """How `create` decodes; subclasses may override it.

        Args:
            source: As for `create`.
        """
        pixels = jpeg_pixels(source) if cls.read_mode == "RGB" else None
        return load_image(source, cls.read_mode) if pixels is None else cls.of_pixels(pixels)

    @classmethod
    def of_pixels(cls, pixels: Tensor) -> Self:
        """An image of these pixels, which are copied into PIL's memory only when a method of PIL needs them.

        Args:
            pixels: uint8 [3, height, width].
        """
        new = cls()
        new.__dict__.update(pixels=pixels, _mode="RGB", _size=(pixels.shape[2], pixels.shape[1]))
        return new

    def load(self) -> Any:
        """Fill PIL's own memory. All methods of PIL call this first."""
        if self.pixels is not None:
            self.im = Image.fromarray(self.pixels.permute(1, 2, 0).numpy()).im
            self.pixels = None
        return super().load()

    @classmethod
    def recast(cls, image: Image.Image) -> Self:
        """An image as one of this class. The two share their pixels until one is changed.

        Args:
            image: A PIL image.
        """
        image.load()
        new = cls()
        new.__dict__.update({name: image.__dict__[name] for name in new.__dict__})
        new.readonly = image.readonly = 1  # PIL then copies before it writes
        return new

    def copy(self) -> Self:
        """A copy that keeps its class."""
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
        grey = {"cmap": "gray", "vmin": 0, "vmax": 255} if self.mode == "L" else {}
        return show_image(self, ctx=ctx, **{**grey, **self.show_args, **kwargs})

    def __repr__(self) -> str:
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
    """Pixels as uint8 [channel, height, width], or [height, width] for a mask.

    Args:
        o: The image.
    """
    pixels = image2tensor(o) if o.pixels is None else o.pixels.clone()
    return pixels[0].as_subclass(o.tensor_type) if isinstance(o, PILMask) else pixels.as_subclass(o.tensor_type)


functions.add("vision.PILImage.create", PILImage.create)
functions.add("vision.PILImageBW.create", PILImageBW.create)
functions.add("vision.PILMask.create", PILMask.create)
