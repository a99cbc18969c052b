"""Images as PIL knows them, each class with its own meaning: `PILImage`, `PILImageBW`, `PILMask`."""

from __future__ import annotations

import io
from typing import Any, ClassVar, Self

from PIL import Image
from torch import Tensor

from layered.data import ToTensor
from layered.foundation import TensorImage, TensorImageBase, TensorImageBW, TensorMask, functions, show_image
from layered.vision.reading import ImageSource, image2tensor, jpeg_pixels, load_image, load_mask

BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST


class PILBase(Image.Image):
    """An image of PIL that knows what it is. PIL's own methods return plain images; transforms give the class back.

    `size` is PIL's (width, height), `shape` is (height, width).

    Attributes:
        tensor_type: What it is as a tensor.
        read_mode: The mode of PIL that `create` reads files in.
        show_args: How it is drawn.
        pixels: Uint8 [channel, height, width] in place of PIL's own memory, until something is asked of PIL.
    """

    tensor_type: ClassVar[type[TensorImageBase]] = TensorImageBase
    read_mode: ClassVar[str | None] = None
    show_args: ClassVar[dict[str, Any]] = {}
    pixels: Tensor | None = None

    @classmethod
    def create(cls, source: ImageSource) -> Self:
        """An image from a path, the bytes of a file, an image of PIL, a tensor or an array: see `load_image`.

        Raises:
            NotFoundPath: A file or folder that is not there.
            BadImage: An image file that cannot be decoded.
        """
        image = source if isinstance(source, cls) else cls.read(source)
        return image if type(image) is cls else cls.recast(image)

    @classmethod
    def read(cls, source: ImageSource) -> Image.Image:
        """How `create` reads what it is given."""
        pixels = jpeg_pixels(source) if cls.read_mode == "RGB" else None
        return load_image(source, cls.read_mode) if pixels is None else cls.of_pixels(pixels)

    @classmethod
    def of_pixels(cls, pixels: Tensor) -> Self:
        """An image of bytes, uint8 [3, height, width], which PIL does not see before it has to."""
        new = cls()
        new.__dict__.update(pixels=pixels, _mode="RGB", _size=(pixels.shape[2], pixels.shape[1]))
        return new

    def load(self) -> Any:
        """PIL's memory of the image. All methods of PIL call it first."""
        if self.pixels is not None:
            self.im = Image.fromarray(self.pixels.permute(1, 2, 0).numpy()).im
            self.pixels = None
        return super().load()

    @classmethod
    def recast(cls, image: Image.Image) -> Self:
        """`image` as an image of this class. They share their pixels until one of them is changed."""
        image.load()
        new = cls()
        new.__dict__.update({name: image.__dict__[name] for name in new.__dict__})
        new.readonly = image.readonly = 1
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
        """Resized to height `h` and width `w`."""
        return self.recast(self.resize((w, h), resample))

    def resize_max(
        self,
        resample: Image.Resampling = NEAREST,
        max_px: int | None = None,
        max_h: int | None = None,
        max_w: int | None = None,
    ) -> Self:
        """Made smaller, in proportion, until it keeps all limits: pixels in all, height, width."""
        scale = min(
            1.0,
            ((max_px or self.n_px) / self.n_px) ** 0.5,
            (max_h or self.height) / self.height,
            (max_w or self.width) / self.width,
        )
        return self if scale == 1.0 else self.reshape(round(self.height * scale), round(self.width * scale), resample)

    def to_thumb(self, h: int, w: int | None = None) -> Self:
        """A copy that fits, in proportion, into height `h` and width `w` (`h` as well, if not given)."""
        thumb = self.copy()
        thumb.thumbnail((w or h, h))
        return thumb

    def to_bytes_format(self, format: str = "png") -> bytes:
        """The bytes of a file of that format."""
        file = io.BytesIO()
        self.save(file, format=format)
        return file.getvalue()

    def show(self, ctx: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]  # on axes, not in a viewer
        """Draw it on axes `ctx` (new ones by default) and return them."""
        return show_image(self, ctx=ctx, **{**self.show_args, **kwargs})

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
    show_args: ClassVar[dict[str, Any]] = {"cmap": "Greys"}


class PILMask(PILBase):
    """A class for each pixel, from 0 to 255; of a palette image its indices."""

    tensor_type, read_mode = TensorMask, "L"
    show_args: ClassVar[dict[str, Any]] = {"alpha": 0.5, "cmap": "tab20"}

    @classmethod
    def read(cls, source: ImageSource) -> Image.Image:
        return load_mask(source)


@ToTensor
def encodes(self: ToTensor, o: PILBase) -> TensorImageBase:
    """Bytes: [channel, height, width]; of a mask [height, width]."""
    pixels = image2tensor(o) if o.pixels is None else o.pixels.clone()
    return pixels[0].as_subclass(o.tensor_type) if isinstance(o, PILMask) else pixels.as_subclass(o.tensor_type)


functions.add("vision.PILImage.create", PILImage.create)
functions.add("vision.PILImageBW.create", PILImageBW.create)
functions.add("vision.PILMask.create", PILMask.create)
