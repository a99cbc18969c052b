"""Moving the pixels of a batch: flips, rotations, zooms, warps and crops, composed into one map and one interpolation.

A motion is a 3x3 matrix for each image, from places in the result to places in the source, in homogeneous coordinates
(x, y, 1): x to the right and y down, each from -1 to 1. Motions that follow each other multiply: first @ second @ ...
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from layered.foundation import BadValue, RandTransform, TensorImageBase, TensorMask, draw_batch, tensors_of, transforms
from layered.vision.draws import Draw, given_or_drawn, mask_tensor, num_images
from layered.vision.transforms import PadMode, check_choice, check_size

Size = int | tuple[int, int] | None


def affine_mat(*ms: Tensor | float) -> Tensor:
    """[batch, 3, 3] of the six numbers of an affine map, row by row, each a number or [batch]; last row (0, 0, 1)."""
    count = max((len(m) for m in ms if isinstance(m, Tensor) and m.ndim), default=1)
    numbers = [torch.as_tensor(m, dtype=torch.float32).expand(count) for m in (*ms, 0.0, 0.0, 1.0)]
    return torch.stack(numbers, dim=-1).reshape(-1, 3, 3)


def flip_mat(x: Tensor, p: float = 0.5, draw: Draw = None, batch: bool = False) -> Tensor:
    """Mirror left and right: [batch, 3, 3]. `draw` is -1 for a mirrored image, 1 for one left as it is."""
    side = mask_tensor(given_or_drawn(x, -1.0 if draw is None else draw, -1, 1), p, 1.0, batch)
    return affine_mat(side, 0.0, 0.0, 0.0, 1.0, 0.0)


_TURNS = torch.tensor([
    [1.0, 0, 0, 0, 1, 0, 0, 0, 1], [-1, 0, 0, 0, 1, 0, 0, 0, 1], [1, 0, 0, 0, -1, 0, 0, 0, 1], [-1, 0, 0, 0, -1, 0, 0, 0, 1],
    [0, 1, 0, 1, 0, 0, 0, 0, 1], [0, -1, 0, 1, 0, 0, 0, 0, 1], [0, 1, 0, -1, 0, 0, 0, 0, 1], [0, -1, 0, -1, 0, 0, 0, 0, 1],
]).reshape(8, 3, 3)  # fmt: skip


def dihedral_mat(x: Tensor, p: float = 0.5, draw: Draw = None, batch: bool = False) -> Tensor:
    """One of the eight ways to turn and mirror a square: [batch, 3, 3]. `draw` is its number, 0 for none, 1 for a mirror."""
    number = mask_tensor(given_or_drawn(x, draw, 0, 8, batch), p, 0.0, batch)
    height, width = x.shape[-2:]
    square = torch.tensor([[1.0, height / width, 1.0], [width / height, 1.0, 1.0], [1.0, 1.0, 1.0]])
    return _TURNS[number.long().clamp(0, 7)] * square


def rotate_mat(x: Tensor, max_deg: float = 10.0, p: float = 0.5, draw: Draw = None, batch: bool = False) -> Tensor:
    """Rotate by up to `max_deg` degrees either way: [batch, 3, 3]. `draw` is degrees, clockwise."""
    angle = mask_tensor(given_or_drawn(x, draw, -max_deg, max_deg, batch), p, 0.0, batch).deg2rad()
    height, width = x.shape[-2:]
    return affine_mat(
        angle.cos(), angle.sin() * (height / width), 0.0, -angle.sin() * (width / height), angle.cos(), 0.0
    )


def zoom_mat(
    x: Tensor,
    min_zoom: float = 1.0,
    max_zoom: float = 1.1,
    p: float = 0.5,
    draw: Draw = None,
    draw_x: Draw = None,
    draw_y: Draw = None,
    batch: bool = False,
) -> Tensor:
    """Enlarge: [batch, 3, 3]. `draw` is by how much, `draw_x` and `draw_y` in [0, 1] where: 0.5 keeps the middle."""
    scale = 1.0 / mask_tensor(given_or_drawn(x, draw, min_zoom, max_zoom, batch), p, 1.0, batch)
    col, row = (given_or_drawn(x, where, 0.0, 1.0, batch) for where in (draw_x, draw_y))
    return affine_mat(scale, 0.0, (1 - scale) * (2 * col - 1), 0.0, scale, (1 - scale) * (2 * row - 1))


def warp_mat(
    x: Tensor,
    magnitude: float = 0.2,
    p: float = 0.5,
    draw_x: Draw = None,
    draw_y: Draw = None,
    batch: bool = False,
) -> Tensor:
    """Tilt, as if seen from the side (`draw_x`) or from above (`draw_y`): [batch, 3, 3], a projective map.

    The corners of the result show the places (±(1 ± b), ±(1 ± a)) of the source, where a and b are the two draws: the left
    side then grows as the right shrinks, by a, and the upper as the lower, by b. This fixes the map; solved, it reads as below.
    """
    a, b = (given_or_drawn(x, tilt, -magnitude, magnitude, batch) for tilt in (draw_x, draw_y))
    chosen = mask_tensor(torch.ones_like(a), p, 0.0, batch)
    a, b = a * chosen, b * chosen
    rows = (1 - b * b, -a * b, a, -a * b, 1 - a * a, b, a, b, torch.ones_like(a))
    return torch.stack(rows, dim=-1).reshape(-1, 3, 3)


def crop_mat(
    x: Tensor, min_scale: float, max_scale: float, ratio: tuple[float, float], batch: bool = False, tries: int = 10
) -> Tensor:
    """A window of random area, shape and place: [batch, 3, 3]; the largest in the middle, where no try fits the image."""
    count, (height, width) = num_images(x), x.shape[-2:]
    area = draw_batch(count, min_scale, max_scale, size=(tries,), same=batch)
    shape = draw_batch(count, *map(math.log, ratio), size=(tries,), same=batch).exp()
    col, row = draw_batch(count, -1.0, 1.0, size=(2,), same=batch).unbind(-1)
    across = (area * shape * (height / width)).sqrt()  # the window's share of the image's width, and of its height
    down = (area / shape * (width / height)).sqrt()
    fits = (across <= 1) & (down <= 1)
    first = fits.float().argmax(-1, keepdim=True)
    narrow, wide = ratio
    middle = min(1.0, wide * height / width), min(1.0, width / narrow / height)
    found = fits.any(-1)
    across, down = (
        torch.where(found, share.gather(-1, first)[:, 0], torch.tensor(whole))
        for share, whole in zip((across, down), middle, strict=True)
    )
    col, row = col * found, row * found
    return affine_mat(across, 0.0, (1 - across) * col, 0.0, down, (1 - down) * row)


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
    """The pixels of `x` after a motion, in its own number type: [..., channel, height, width].

    Where the result has less than half the pixels of the source in a row, these are averaged first, or thin lines would vanish.

    Args:
        mat: Where the result's pixels lie in the source, [batch, 3, 3]; None only resizes.
        sz: What the result measures; by default what `x` does.
    """
    height, width = x.shape[-2:]
    size = (height, width) if sz is None else check_size(sz)
    pixels = x.to(torch.float32).reshape(-1, *x.shape[-3:])
    mat = torch.eye(3).expand(len(pixels), 3, 3) if mat is None else mat
    grid = affine_grid(mat.to(x.device, non_blocking=True), size, align_corners, is_projective)
    reduction = min(height / size[0], width / size[1]) / 2
    if mode == "bilinear" and reduction > 1:
        pixels = F.adaptive_avg_pool2d(pixels, (round(height / reduction), round(width / reduction)))
    padding = check_choice(PadMode, pad_mode).value
    moved = F.grid_sample(pixels, grid, mode=mode, padding_mode=padding, align_corners=align_corners)
    moved = moved.reshape(*x.shape[:-2], *size)
    return moved.to(x.dtype) if x.is_floating_point() else moved.round_().to(x.dtype)


@transforms.register()
class AffineCoordTfm(RandTransform):
    """Several motions in one: their maps are multiplied, and each image is interpolated once.

    Args:
        tfms: The motions, in order; none only resizes.
        size: What the result measures: a number or (height, width); validation batches are resized too, and not
            moved.
        mode: How pixels between pixels are found: "bilinear", "nearest" or "bicubic".
        pad_mode: What stands outside: "reflection", "border" or "zeros".
        mode_mask: As `mode`, for masks.
        align_corners: Whether -1 and 1 are the middles of the outermost pixels, not their edges.
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

    def train_mat(self, x: Tensor) -> Tensor | None:
        """The map of each training image: [batch, 3, 3] in main memory; None where nothing moves."""
        return _product(t.train_mat(x) for t in self.tfms)

    def valid_mat(self, x: Tensor) -> Tensor | None:
        """The same for validation images."""
        return _product(t.valid_mat(x) for t in self.tfms)

    def before_call(self, x: Any, split_idx: int | None) -> None:
        image = next((o for o in tensors_of(x) if isinstance(o, TensorImageBase)), None)
        if image is not None:
            self.mat = self.valid_mat(image) if split_idx == 1 else self.train_mat(image)
        self.do = self.mat is not None or self.size is not None

    def encode_image(self, x: TensorImageBase) -> Tensor:
        return self._move(x, self.mode)

    def encode_mask(self, x: TensorMask) -> Tensor:
        return self._move(x.unsqueeze(-3), self.mode_mask).squeeze(-3)

    def _move(self, x: Tensor, mode: str) -> Tensor:
        return affine_coord(x, self.mat, self.size, mode, self.pad_mode, self.align_corners, self.is_projective)

    @classmethod
    def compose(cls, tfms: Sequence[AffineCoordTfm]) -> AffineCoordTfm:
        """One transform of several: their motions in order, their size and their way of interpolating.

        Raises:
            BadValue: If two of them name different sizes.
        """
        sizes = {t.size for t in tfms if t.size is not None}
        if len(sizes) > 1:
            raise BadValue(
                "motions that become one cannot have different sizes", got=sorted(sizes), fix="name one size"
            )
        first = next((t for t in tfms if t.size is not None), tfms[0])
        parts = [part for t in tfms for part in (t.tfms if type(t) is AffineCoordTfm else [t])]
        return cls(parts, first.size, first.mode, first.pad_mode, first.mode_mask, first.align_corners)


def _product(mats: Iterable[Tensor | None]) -> Tensor | None:
    found = [m for m in mats if m is not None]
    return functools.reduce(torch.matmul, found) if found else None


@transforms.register()
class Flip(AffineCoordTfm):
    """Mirror a share `p` of the images left and right. `draw` is -1 for a mirrored image, 1 for one left as it is."""

    def __init__(
        self,
        p: float = 0.5,
        draw: Draw = None,
        size: Size = None,
        mode: str = "bilinear",
        pad_mode: PadMode | str = PadMode.Reflection,
        align_corners: bool = True,
        batch: bool = False,
    ) -> None:
        super().__init__((), size, mode, pad_mode, align_corners=align_corners)
        self.p, self.given, self.batch = p, draw, batch

    def train_mat(self, x: Tensor) -> Tensor:
        return flip_mat(x, self.p, self.given, self.batch)


@transforms.register()
class Dihedral(Flip):
    """One of the eight ways to turn and mirror a square, for a share `p` of the images. `draw` is its number, 0 to 7."""

    def train_mat(self, x: Tensor) -> Tensor:
        return dihedral_mat(x, self.p, self.given, self.batch)


@transforms.register()
class Rotate(AffineCoordTfm):
    """Rotate a share `p` of the images by up to `max_deg` degrees either way. `draw` is degrees, clockwise."""

    def __init__(
        self,
        max_deg: float = 10.0,
        p: float = 0.5,
        draw: Draw = None,
        size: Size = None,
        mode: str = "bilinear",
        pad_mode: PadMode | str = PadMode.Reflection,
        align_corners: bool = True,
        batch: bool = False,
    ) -> None:
        super().__init__((), size, mode, pad_mode, align_corners=align_corners)
        self.max_deg, self.p, self.given, self.batch = max_deg, p, draw, batch

    def train_mat(self, x: Tensor) -> Tensor:
        return rotate_mat(x, self.max_deg, self.p, self.given, self.batch)


@transforms.register()
class Zoom(AffineCoordTfm):
    """Enlarge a share `p` of the images about a random place. `draw`, `draw_x`, `draw_y`: see `zoom_mat`."""

    def __init__(
        self,
        min_zoom: float = 1.0,
        max_zoom: float = 1.1,
        p: float = 0.5,
        draw: Draw = None,
        draw_x: Draw = None,
        draw_y: Draw = None,
        size: Size = None,
        mode: str = "bilinear",
        pad_mode: PadMode | str = PadMode.Reflection,
        batch: bool = False,
        align_corners: bool = True,
    ) -> None:
        super().__init__((), size, mode, pad_mode, align_corners=align_corners)
        self.min_zoom, self.max_zoom, self.p, self.batch = min_zoom, max_zoom, p, batch
        self.given = draw, draw_x, draw_y

    def train_mat(self, x: Tensor) -> Tensor:
        return zoom_mat(x, self.min_zoom, self.max_zoom, self.p, *self.given, batch=self.batch)


@transforms.register()
class Warp(AffineCoordTfm):
    """Tilt a share `p` of the images in perspective, by up to `magnitude`. `draw_x`, `draw_y`: see `warp_mat`."""

    is_projective = True

    def __init__(
        self,
        magnitude: float = 0.2,
        p: float = 0.5,
        draw_x: Draw = None,
        draw_y: Draw = None,
        size: Size = None,
        mode: str = "bilinear",
        pad_mode: PadMode | str = PadMode.Reflection,
        batch: bool = False,
        align_corners: bool = True,
    ) -> None:
        super().__init__((), size, mode, pad_mode, align_corners=align_corners)
        self.magnitude, self.p, self.batch = magnitude, p, batch
        self.given = draw_x, draw_y

    def train_mat(self, x: Tensor) -> Tensor:
        return warp_mat(x, self.magnitude, self.p, *self.given, batch=self.batch)


@transforms.register()
class RandomResizedCropGPU(AffineCoordTfm):
    """A window of random area and shape, resized; for validation the middle `valid_scale` of the image, in each direction.

    Args:
        size: A number or (height, width).
        min_scale: The area of the window, as a share of the image's.
        max_scale: The area of the window, as a share of the image's.
        ratio: Width over height of the window.
        batch: One window for the whole batch.
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
