"""Points and boxes in images: `TensorPoint`, `TensorBBox`, `LabeledBBox`, how they are made and drawn.

In pixels, coordinates start at the upper left corner of the image: the centre of the first pixel is (0.5, 0.5), and the lower
right corner of an image is (width, height). Models see them from -1 to 1: see `PointScaler`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from torch import Tensor

from layered.foundation import BadValue, ImageMethod, L, TensorBase, describe, get_grid, lazy, plot_label, tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

plt, patches, patheffects = map(lazy, ("matplotlib.pyplot", "matplotlib.patches", "matplotlib.patheffects"))


def in_pixels(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Points from -1 to 1 in pixels: [point, 2].

    Args:
        points: (x, y), of any shape; boxes are two points each.
        size: (width, height) of their image.
    """
    pairs = points.as_subclass(Tensor).reshape(-1, 2)
    return (pairs + 1) / 2 * pairs.new_tensor(size)


def from_pixels(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Points in pixels from -1 to 1, between the borders of their image: [point, 2].

    Args:
        pixels: (x, y), [point, 2].
        size: (width, height) of their image.
    """
    return 2 * pixels / pixels.new_tensor(size) - 1


class TensorPoint(TensorBase):
    """Points (x, y) in an image: float32 [..., point, 2].

    Attributes:
        img_size: (width, height) of the image that they are measured in, in pixels; None while they are from -1 to 1.
    """

    img_size: tuple[int, int] | None = None
    numbers: ClassVar[int] = 2
    meaning: ClassVar[str] = "points, two numbers (x, y) for each"

    affine_coord = ImageMethod()
    flip_lr = ImageMethod()
    flip_batch = ImageMethod()
    dihedral = ImageMethod()
    dihedral_batch = ImageMethod()
    rotate = ImageMethod()
    zoom = ImageMethod()
    warp = ImageMethod()

    @classmethod
    def create(cls, source: object, img_size: tuple[int, int] | None = None) -> Self:
        """Make points, or boxes, of numbers.

        Args:
            source: Numbers in any form: a pair, a list of pairs, a flat list, an array or a tensor. In pixels, from the
                upper left corner of the image as it is seen: upright, where the camera was held otherwise.
            img_size: (width, height) of the image that they were measured in, if it is another than that of the sample.

        Raises:
            BadValue: They are not numbers, not finite, or not as many as make up points or boxes.

        Examples:
            >>> TensorPoint.create((10, 20))
            TensorPoint([[10., 20.]])
        """
        try:
            numbers = tensor(source if isinstance(source, Tensor) else np.asarray(source, np.float32)).float()
        except (TypeError, ValueError) as error:
            raise cls._refused(source, str(error)) from error
        if numbers.numel() % cls.numbers or (numbers.ndim > 1 and numbers.shape[-1] != cls.numbers):
            raise cls._refused(source, describe(numbers))
        if not numbers.isfinite().all():
            raise cls._refused(source, "numbers that are missing or infinite")
        made = cls(numbers.as_subclass(Tensor).reshape(-1, cls.numbers))
        if img_size is not None:
            made.img_size = img_size
        return made

    @classmethod
    def _refused(cls, source: object, got: str) -> BadValue:
        return BadValue(
            f"{cls.__name__} cannot be made of this",
            got=f"{describe(source)}: {got}",
            expected=cls.meaning,
            fix="return a list of them from get_y; leave out items where they are missing",
        )

    def show(self, ctx: Axes | None = None, **kwargs: Any) -> Axes:
        """Draw the points on axes `ctx` (new ones by default) and return them. The colours follow their order.

        Args:
            ctx: The axes, with the image.
            kwargs: For matplotlib's `scatter`; `figsize` of new axes.
        """
        ax = _axes(ctx, self.img_size, kwargs)
        across, down = (self.as_plain().detach().cpu().reshape(-1, 2) - 0.5).unbind(-1)
        size = float(np.clip(400 / max(len(across), 1), 14, 60))
        look = {
            "c": range(len(across)),
            "cmap": "rainbow",
            "s": size,
            "edgecolors": "white",
            "linewidths": size**0.5 / 6,
        }
        outline = [patheffects.withStroke(linewidth=size**0.5 / 2, foreground="black")]
        with _same_limits(ax):
            ax.scatter(across, down, zorder=3, path_effects=outline, **{**look, **kwargs})
        return ax


class TensorBBox(TensorPoint):
    """Boxes as (left, top, right, bottom): float32 [..., box, 4], in the coordinates of `TensorPoint`.

    In a batch, boxes of area 0 are padding.
    """

    numbers: ClassVar[int] = 4
    meaning: ClassVar[str] = "boxes, four numbers (left, top, right, bottom) for each"

    def show(self, ctx: Axes | None = None, **kwargs: Any) -> Axes:
        """Draw the boxes on axes `ctx` (new ones by default) and return them.

        Args:
            ctx: The axes, with the image.
            kwargs: As for `LabeledBBox.show`.
        """
        return LabeledBBox(self, [""] * len(self)).show(ctx, **kwargs)


class LabeledBBox(L):
    """Boxes and their labels: `LabeledBBox(boxes, labels)`.

    Examples:
        >>> LabeledBBox(TensorBBox.create([0, 0, 9, 9]), ["cat"]).lbl
        ['cat']
    """

    @property
    def bbox(self) -> TensorBBox:
        """The boxes: [box, 4]."""
        return self[0]  # type: ignore[no-any-return]  # as it was made

    @property
    def lbl(self) -> Sequence[Any]:
        """A label for each box."""
        return self[1]  # type: ignore[no-any-return]

    def show(self, ctx: Axes | None = None, **kwargs: Any) -> Axes:
        """Draw the boxes with their names on axes `ctx` (new ones by default) and return them.

        Args:
            ctx: The axes, with the image.
            kwargs: `alpha`, from 0 to 1; `figsize` of new axes.
        """
        ax = _axes(ctx, self.bbox.img_size, kwargs)
        alpha = kwargs.get("alpha")
        boxes = (self.bbox.as_plain().detach().cpu() - 0.5).tolist()
        with _same_limits(ax):
            for box, label in zip(boxes, self.lbl, strict=True):
                _draw_box(ax, box, plot_label(label), alpha)
        return ax


class BoxLabels(L):
    """The labels of boxes. They are shown by the boxes, as a `LabeledBBox`, so that they draw nothing of their own."""

    def show(self, ctx: Axes | None = None, **kwargs: object) -> Axes | None:
        """Return axes `ctx` as they are.

        Args:
            ctx: The axes.
            kwargs: Ignored: what the other elements of a sample are shown with.
        """
        return ctx


def _draw_box(ax: Axes, box: Sequence[float], name: str, alpha: float | None) -> None:
    left, top, right, bottom = box
    color = plt.get_cmap("tab10")(zlib.crc32(name.encode()) % 10)
    outline = [patheffects.withStroke(linewidth=4, foreground="white", alpha=alpha)]
    ax.add_patch(
        patches.Rectangle(
            (left, top), right - left, bottom - top,
            fill=False, edgecolor=color, linewidth=2, alpha=alpha, path_effects=outline,
        )
    )  # fmt: skip
    if not name:
        return
    (start, end), (low, high) = ax.get_xlim(), ax.get_ylim()
    is_right, has_room = (left - start) / (end - start) > 0.5, (top - high) / (low - high) > 0.1
    ax.text(
        right if is_right else left, top, name, color="white", fontsize=8, alpha=alpha, clip_on=True,
        ha="right" if is_right else "left", va="bottom" if has_room else "top",
        bbox={"facecolor": color, "edgecolor": "white", "linewidth": 0.5, "pad": 1.5, "alpha": alpha},
    )  # fmt: skip


def _axes(ctx: Axes | None, size: tuple[int, int] | None, drawing: dict[str, Any]) -> Axes:
    """The axes to draw on: those given, or new ones as large as the image. Takes their keywords out of `drawing`."""
    given, figsize = drawing.pop("ax", None), drawing.pop("figsize", None)
    drawing.pop("interpolation", None)  # of images
    if ctx is not None or given is not None:
        return ctx if ctx is not None else given
    ax = get_grid(1, figsize=figsize)[0]
    if size is not None:
        ax.set(xlim=(-0.5, size[0] - 0.5), ylim=(size[1] - 0.5, -0.5), aspect="equal")
    else:
        ax.invert_yaxis()
    return ax


@contextmanager
def _same_limits(ax: Axes) -> Iterator[None]:
    """Context manager: what is drawn outside the picture is cut off there, and does not shrink it."""
    limits = (ax.get_xlim(), ax.get_ylim())
    has_frame = bool(ax.images) or not ax.get_autoscale_on()
    yield
    if has_frame:
        ax.set(xlim=limits[0], ylim=limits[1])
