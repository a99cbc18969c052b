"""Geometric augmentation of batches: flip, rotate, zoom, warp and crop, composed into one map and one interpolation.

A motion is a 3x3 matrix per image: see `maps`. It maps positions in the result to positions in the source, since each pixel
of the result has to know where it comes from.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any, TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from layered.foundation import (
    BadValue,
    RandTransform,
    TensorImageBase,
    TensorMask,
    delegates,
    describe,
    tensors_of,
    transforms,
)
from layered.vision.draws import DeterministicDraw, Draw, num_images
from layered.vision.item_transforms import PadMode, check_choice, check_size
from layered.vision.maps import affine_mat, crop_mat, dihedral_mat, flip_mat, rotate_mat, warp_mat, zoom_mat
from layered.vision.points import TensorBBox, TensorPoint
from layered.vision.targets import check_beside_image, moved_boxes, moved_points, without_empty_boxes

Size = int | tuple[int, int] | None


def _axis(n: int, align_corners: bool, device: torch.device) -> Tensor:
    edge = 1.0 if align_corners else 1.0 - 1.0 / n
    return torch.linspace(-edge, edge, n, device=device) if n > 1 else torch.zeros(1, device=device)


def affine_grid(
    mat: Tensor, size: tuple[int, int], align_corners: bool = True, is_projective: bool | None = None
) -> Tensor:
    """Where each pixel of the result lies in the source: [batch, height, width, 2], as (x, y).

    Args:
        mat: [batch, 3, 3], or [batch, 2, 3] for an affine map.
        size: (height, width) of the result.
        align_corners: Whether -1 and 1 are the centres of the outermost pixels, not their outer edges.
        is_projective: Whether to divide by the third coordinate; by default if `mat` has a third row.

    Examples:
        >>> affine_grid(torch.eye(3)[None], (2, 2))[0, :, :, 0]
        tensor([[-1.,  1.],
                [-1.,  1.]])
    """
    height, width = size
    entries = mat[..., None, None]  # rows and columns of the map, then height and width
    along_x = entries[:, :, 0] * _axis(width, align_corners, mat.device)
    along_y = entries[:, :, 1] * _axis(height, align_corners, mat.device)[:, None] + entries[:, :, 2]
    grid = torch.empty(len(mat), height, width, 2, device=mat.device)
    for i in (0, 1):
        torch.add(along_x[:, i], along_y[:, i], out=grid[..., i])
    if is_projective or (is_projective is None and mat.shape[1] == 3):
        grid /= (along_x[:, 2] + along_y[:, 2])[..., None]
    return grid


def affine_coord(
    x: Tensor,
    mat: Tensor | None = None,
    sz: Size = None,
    mode: str = "bilinear",
    pad_mode: PadMode | str = PadMode.Reflection,
    align_corners: bool = True,
    is_projective: bool | None = None,
) -> Tensor:
    """Move the pixels of `x`; the result keeps its dtype: [..., channel, height, width].

    Args:
        x: Images, [..., channel, height, width].
        mat: Where the result's pixels lie in the source, [batch, 3, 3]; None only resizes.
        sz: Size of the result, a number or (height, width); by default that of `x`.
        mode: Interpolation: "bilinear", "nearest" or "bicubic".
        pad_mode: What lies outside the image: "reflection", "border" or "zeros".
        align_corners: Whether -1 and 1 are the centres of the outermost pixels, not their outer edges.
        is_projective: Whether `mat` is more than an affine map; by default if it has a third row.
    """
    size = (x.shape[-2], x.shape[-1]) if sz is None else check_size(sz)
    return sampled(x, _grid(x, mat, size, align_corners, is_projective), mode, pad_mode, align_corners)


def _grid(
    x: Tensor, mat: Tensor | None, size: tuple[int, int], align_corners: bool, is_projective: bool | None
) -> Tensor:
    mat = torch.eye(3).expand(x.shape[:-3].numel(), 3, 3) if mat is None else mat
    return affine_grid(mat.to(x.device, non_blocking=True), size, align_corners, is_projective)


def sampled(x: Tensor, grid: Tensor, mode: str, pad_mode: PadMode | str, align_corners: bool) -> Tensor:
    """The pixels of `x` at the positions of an `affine_grid`, in its dtype.

    Args:
        x: Images, [..., channel, height, width].
        grid: [batch, height, width, 2].
        mode: Interpolation: "bilinear", "nearest" or "bicubic".
        pad_mode: What lies outside the image: "reflection", "border" or "zeros".
        align_corners: Whether -1 and 1 are the centres of the outermost pixels, not their outer edges.
    """
    (height, width), size = x.shape[-2:], grid.shape[1:3]
    padding = check_choice(PadMode, pad_mode).value
    # interpolation reads 2x2 pixels only: below half the size it would skip some, and thin lines would vanish
    reduction = min(height / size[0], width / size[1]) / 2
    smaller = (round(height / reduction), round(width / reduction)) if mode == "bilinear" and reduction > 1 else None

    def sample(pixels: Tensor, grid: Tensor) -> Tensor:
        pixels = pixels if smaller is None else F.adaptive_avg_pool2d(pixels, smaller)
        return F.grid_sample(pixels, grid, mode=mode, padding_mode=padding, align_corners=align_corners)

    pixels = x.reshape(-1, *x.shape[-3:])
    if x.dtype is torch.float32:
        moved = sample(pixels, grid)
    else:
        moved = pixels.new_empty((*pixels.shape[:2], *size))
        few = max(1, torch.get_num_threads() if x.is_cpu else len(grid))  # floats of a few images stay in a CPU's cache
        for result, some, where in zip(*(torch.split(t, few) for t in (moved, pixels, grid)), strict=True):
            floats = sample(some.to(torch.float32), where)
            # straight from floats to bytes takes ten times as long
            result.copy_(floats if x.is_floating_point() else floats.round_().int())
    return moved.reshape(*x.shape[:-2], *size)


def between_edges(mat: Tensor | None, source: tuple[int, int], result: tuple[int, int], align_corners: bool) -> Tensor:
    """The map of points and boxes, whose -1 and 1 are the outer edges of the image: [batch, 3, 3].

    Args:
        mat: Where the result's pixels lie in the source, [batch, 3, 3]; None for resizing.
        source: (width, height) of the source.
        result: (width, height) of the result.
        align_corners: Whether -1 and 1 of `mat` are the centres of the outermost pixels.
    """
    mat = torch.eye(3)[None] if mat is None else mat
    if not align_corners:
        return mat
    # from edges to centres, 1 becomes n / (n - 1)
    inner, outer = (torch.tensor([*(n / max(n - 1, 1) for n in size), 1.0]) for size in (source, result))
    return mat * outer / inner[:, None]


def check_dense(o: Tensor, image: TensorImageBase) -> None:
    """Refuse a target that has a value for each pixel and would not move with its image.

    Args:
        o: A tensor of the batch.
        image: The images of the batch.

    Raises:
        BadValue: It is a mask of another size, or a plain tensor of the images' size.
    """
    if isinstance(o, TensorMask) and o.shape[-2:] != image.shape[-2:]:
        raise BadValue(
            "the masks do not fit their images",
            got=f"images {describe(image)}, masks {describe(o)}",
            expected="the same height and width",
            fix="Resize((height, width)) in item_tfms, which brings both to one size",
        )
    if type(o) is Tensor and o.ndim >= 3 and o.shape[-2:] == image.shape[-2:]:
        raise BadValue(
            "a tensor with a value for each pixel would not move with its image",
            got=f"images {describe(image)}, beside them {describe(o)}",
            expected="the class that says what it is: TensorMask for classes, TensorImage for pixels",
            fix="MaskBlock in place of the block that makes it, or TransformBlock(type_tfms=TensorMask)",
        )


@transforms.register()
class AffineCoordTfm(RandTransform):
    """Several motions in one: their maps are multiplied, and each image is interpolated once. Masks, points and boxes follow.

    Args:
        tfms: The motions, in order; none only resizes.
        size: Size of the result: a number or (height, width). Validation batches are only resized.
        mode: Interpolation of images: "bilinear", "nearest" or "bicubic".
        pad_mode: What lies outside the image: "reflection", "border" or "zeros".
        mode_mask: Interpolation of masks.
        align_corners: Whether -1 and 1 are the centres of the outermost pixels, not their outer edges.
    """

    order = 30
    split_idx = None
    is_projective: bool = False

    def __init__(
        self,
        tfms: Sequence[AffineCoordTfm] = (),
        size: Size = None,
        mode: str = "bilinear",
        pad_mode: PadMode | str = PadMode.Reflection,
        mode_mask: str = "nearest",
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        self.tfms = list(tfms)
        self.is_projective = self.is_projective or any(t.is_projective for t in self.tfms)
        self.size = None if size is None else check_size(size)
        self.mode, self.mode_mask, self.align_corners = mode, mode_mask, align_corners
        self.pad_mode = check_choice(PadMode, pad_mode)
        self.mat: Tensor | None = None
        self.grids: dict[tuple[int, int], Tensor] = {}  # by (height, width): the images and masks of a call share one
        self.source: tuple[int, int] | None = None  # (width, height)

    def __call__(self, x: object, split_idx: int | None = None) -> Any:
        return without_empty_boxes(super().__call__(x, split_idx))

    def train_mat(self, x: Tensor) -> Tensor | None:
        """The maps of training images: [batch, 3, 3] on the CPU; None if nothing moves.

        Args:
            x: The batch, [batch, channel, height, width].
        """
        return _product(t.train_mat(x) for t in self.tfms)

    def valid_mat(self, x: Tensor) -> Tensor | None:
        """The maps of validation images: [batch, 3, 3] on the CPU; None if nothing moves.

        Args:
            x: The batch, [batch, channel, height, width].
        """
        return _product(t.valid_mat(x) for t in self.tfms)

    def before_call(self, x: object, split_idx: int | None) -> None:
        self.grids = {}
        image = next((o for o in tensors_of(x) if isinstance(o, TensorImageBase)), None)
        if image is not None:
            self.mat = self.valid_mat(image) if split_idx == 1 else self.train_mat(image)
            self.source = image.shape[-1], image.shape[-2]
        check_beside_image(tensors_of(x), image, type(self).__name__)
        self.do = self.mat is not None or self.size is not None
        if self.do and image is not None:
            for o in tensors_of(x):
                check_dense(o, image)

    def encode_image(self, x: TensorImageBase) -> Tensor:
        return self._move(x, self.mode)

    def encode_mask(self, x: TensorMask) -> Tensor:
        return self._move(x.unsqueeze(-3), self.mode_mask).squeeze(-3)

    def encode_points(self, x: TensorPoint) -> Tensor:
        return moved_points(x, self._map_of_points())

    def encode_boxes(self, x: TensorBBox) -> Tensor:
        return moved_boxes(x, self._map_of_points())

    def _map_of_points(self) -> Tensor:
        assert self.source is not None  # `before_call` refuses points without an image
        result = self.source if self.size is None else self.size[::-1]
        return between_edges(self.mat, self.source, result, self.align_corners)

    def _move(self, x: Tensor, mode: str) -> Tensor:
        size = self.size or (x.shape[-2], x.shape[-1])
        if size not in self.grids:
            self.grids[size] = _grid(x, self.mat, size, self.align_corners, self.is_projective)
        return sampled(x, self.grids[size], mode, self.pad_mode, self.align_corners)

    @classmethod
    def compose(cls, tfms: Sequence[AffineCoordTfm]) -> AffineCoordTfm:
        """One transform that does what `tfms` do in sequence; interpolation is that of the first with a size.

        Args:
            tfms: At least one motion.

        Raises:
            BadValue: If two of them have different sizes.
        """
        sizes = {t.size for t in tfms if t.size is not None}
        if len(sizes) > 1:
            raise BadValue(
                "motions with different sizes cannot be composed",
                got=sorted(sizes),
                fix="give all of them the same size",
            )
        first = next((t for t in tfms if t.size is not None), tfms[0])
        parts = [part for t in tfms for part in (t.tfms if type(t) is AffineCoordTfm else [t])]
        return cls(parts, first.size, first.mode, first.pad_mode, first.mode_mask, first.align_corners)


def _product(mats: Iterable[Tensor | None]) -> Tensor | None:
    found = [m for m in mats if m is not None]
    return functools.reduce(torch.matmul, found) if found else None


class MotionArgs(TypedDict, total=False):
    """The keywords that all single motions share: see `Motion`."""

    size: Size
    mode: str
    pad_mode: PadMode | str
    align_corners: bool
    batch: bool


class Motion(AffineCoordTfm):
    """Base of random motions. A constructor takes its own arguments and `**how: Unpack[MotionArgs]` for this one.

    Args:
        size: Size of the result: a number or (height, width).
        mode: Interpolation of images: "bilinear", "nearest" or "bicubic".
        pad_mode: What lies outside the image: "reflection", "border" or "zeros".
        align_corners: Whether -1 and 1 are the centres of the outermost pixels, not their outer edges.
        batch: Draw one motion for the whole batch, not one for each image.
    """

    def __init__(
        self,
        size: Size = None,
        mode: str = "bilinear",
        pad_mode: PadMode | str = PadMode.Reflection,
        align_corners: bool = True,
        batch: bool = False,
    ) -> None:
        super().__init__((), size, mode, pad_mode, align_corners=align_corners)
        self.batch = batch


@transforms.register()
class Flip(Motion):
    """Mirror images left and right.

    Args:
        p: Share of the images that are mirrored.
        draw: -1 for a mirrored image, 1 for one left as it is; drawn if not given.
        how: See `Motion`.
    """

    @delegates(Motion.__init__)
    def __init__(self, p: float = 0.5, draw: Draw = None, **how: Unpack[MotionArgs]) -> None:
        super().__init__(**how)
        self.p, self.given = p, draw

    def train_mat(self, x: Tensor) -> Tensor:
        return flip_mat(x, self.p, self.given, self.batch)


@transforms.register()
class Dihedral(Flip):
    """Rotate by a multiple of 90 degrees and maybe mirror: one of the eight symmetries of a square.

    Args:
        p: Share of the images that are changed.
        draw: The number of the symmetry, 0 to 7: 0 changes nothing, 1 mirrors left and right; drawn if not given.
        how: See `Motion`.
    """

    def train_mat(self, x: Tensor) -> Tensor:
        return dihedral_mat(x, self.p, self.given, self.batch)


@transforms.register()
class DeterministicFlip(Flip):
    """Mirror every second batch left and right: see `DeterministicDraw`.

    Args:
        how: See `Motion`.

    Examples:
        >>> from layered.foundation import TensorImage
        >>> flip, image = DeterministicFlip(), TensorImage(torch.arange(2.0).reshape(1, 1, 1, 2))
        >>> flip(image).flatten().tolist(), flip(image).flatten().tolist()
        ([0.0, 1.0], [1.0, 0.0])
    """

    @delegates(Motion.__init__)
    def __init__(self, **how: Unpack[MotionArgs]) -> None:
        super().__init__(p=1.0, draw=DeterministicDraw([1, -1]), **how)


@transforms.register()
class DeterministicDihedral(Dihedral):
    """Apply the eight symmetries of a square, one batch after the other: see `DeterministicDraw`.

    Args:
        how: See `Motion`.

    Examples:
        >>> from layered.foundation import TensorImage
        >>> turn, image = DeterministicDihedral(), TensorImage(torch.rand(1, 3, 8, 8))
        >>> turned = [turn(image) for _ in range(8)]
    """

    @delegates(Motion.__init__)
    def __init__(self, **how: Unpack[MotionArgs]) -> None:
        super().__init__(p=1.0, draw=DeterministicDraw(range(8)), **how)


@transforms.register()
class Rotate(Motion):
    """Rotate images.

    Args:
        max_deg: Largest angle in degrees, either way.
        p: Share of the images that are rotated.
        draw: Degrees, clockwise; drawn if not given.
        how: See `Motion`.
    """

    @delegates(Motion.__init__)
    def __init__(self, max_deg: float = 10.0, p: float = 0.5, draw: Draw = None, **how: Unpack[MotionArgs]) -> None:
        super().__init__(**how)
        self.max_deg, self.p, self.given = max_deg, p, draw

    def train_mat(self, x: Tensor) -> Tensor:
        return rotate_mat(x, self.max_deg, self.p, self.given, self.batch)


@transforms.register()
class Zoom(Motion):
    """Enlarge images about a random point.

    Args:
        min_zoom: Smallest factor.
        max_zoom: Largest factor.
        p: Share of the images that are enlarged.
        draw: The factor; drawn if not given.
        draw_x: Which part stays in view, from 0 (left) to 1 (right); drawn if not given.
        draw_y: The same from 0 (top) to 1 (bottom).
        how: See `Motion`.
    """

    @delegates(Motion.__init__)
    def __init__(
        self,
        min_zoom: float = 1.0,
        max_zoom: float = 1.1,
        p: float = 0.5,
        draw: Draw = None,
        draw_x: Draw = None,
        draw_y: Draw = None,
        **how: Unpack[MotionArgs],
    ) -> None:
        super().__init__(**how)
        self.min_zoom, self.max_zoom, self.p = min_zoom, max_zoom, p
        self.given = draw, draw_x, draw_y

    def train_mat(self, x: Tensor) -> Tensor:
        return zoom_mat(x, self.min_zoom, self.max_zoom, self.p, *self.given, batch=self.batch)


@transforms.register()
class Warp(Motion):
    """Tilt images in perspective.

    Args:
        magnitude: Largest tilt, either way: see `warp_mat`.
        p: Share of the images that are tilted.
        draw_x: The tilt to the side; drawn if not given.
        draw_y: The tilt up or down; drawn if not given.
        how: See `Motion`.
    """

    is_projective = True

    @delegates(Motion.__init__)
    def __init__(
        self,
        magnitude: float = 0.2,
        p: float = 0.5,
        draw_x: Draw = None,
        draw_y: Draw = None,
        **how: Unpack[MotionArgs],
    ) -> None:
        super().__init__(**how)
        self.magnitude, self.p = magnitude, p
        self.given = draw_x, draw_y

    def train_mat(self, x: Tensor) -> Tensor:
        return warp_mat(x, self.magnitude, self.p, *self.given, batch=self.batch)


@transforms.register()
class RandomResizedCropGPU(AffineCoordTfm):
    """Crop a window of random area and shape, and resize it; a centred window for validation.

    Args:
        size: Size of the result: a number or (height, width); None keeps the image's.
        min_scale: Smallest area of the window, as a share of the image's.
        ratio: Smallest and largest width over height of the window.
        mode: Interpolation of images: "bilinear", "nearest" or "bicubic".
        valid_scale: For validation: the window's share of the image's height and width.
        max_scale: Largest area of the window, as a share of the image's.
        mode_mask: Interpolation of masks.
        batch: Draw one window for the whole batch.
    """

    def __init__(
        self,
        size: Size,
        min_scale: float = 0.08,
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        mode: str = "bilinear",
        valid_scale: float = 1.0,
        max_scale: float = 1.0,
        mode_mask: str = "nearest",
        batch: bool = False,
    ) -> None:
        super().__init__((), size, mode, mode_mask=mode_mask)
        self.min_scale, self.max_scale, self.ratio = min_scale, max_scale, ratio
        self.valid_scale, self.batch = valid_scale, batch

    def train_mat(self, x: Tensor) -> Tensor:
        return crop_mat(x, self.min_scale, self.max_scale, self.ratio, self.batch)

    def valid_mat(self, x: Tensor) -> Tensor | None:
        scale = torch.full((num_images(x),), self.valid_scale)
        return None if self.valid_scale == 1.0 else affine_mat(scale, 0.0, 0.0, 0.0, scale, 0.0)
