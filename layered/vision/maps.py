"""Maps of positions: 3x3 matrices that say where each position of a result lies in its source, one for each image.

Coordinates are homogeneous, (x, y, 1), with x to the right and y down, each from -1 to 1. Because the maps go backwards,
motions in sequence multiply in their own order: first @ second @ ...
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from layered.foundation import BadValue, draw_batch
from layered.vision.draws import Draw, given_or_drawn, mask_tensor, num_images


def affine_mat(*ms: Tensor | float) -> Tensor:
    """The matrices of an affine map: [batch, 3, 3], with (0, 0, 1) as the last row.

    Args:
        ms: The six other entries, row by row, each a number or [batch].
    """
    count = max((len(m) for m in ms if isinstance(m, Tensor) and m.ndim), default=1)
    numbers = [torch.as_tensor(m, dtype=torch.float32).expand(count) for m in (*ms, 0.0, 0.0, 1.0)]
    return torch.stack(numbers, dim=-1).reshape(-1, 3, 3)


def flip_mat(x: Tensor, p: float = 0.5, draw: Draw = None, batch: bool = False) -> Tensor:
    """The maps that mirror left and right: [batch, 3, 3].

    Args:
        x: The batch, [batch, channel, height, width].
        p: Share of the images that are mirrored.
        draw: -1 for a mirrored image, 1 for one left as it is.
        batch: Draw once for the whole batch.
    """
    given = given_or_drawn(x, -1.0 if draw is None else draw, -1, 1)
    if not (given.abs() == 1).all():
        raise BadValue("draw= of a flip is neither -1 nor 1", got=given.tolist(), expected="-1 to mirror, 1 to leave")
    side = mask_tensor(given, p, 1.0, batch)
    return affine_mat(side, 0.0, 0.0, 0.0, 1.0, 0.0)


_TURNS = torch.tensor([
    [1.0, 0, 0, 0, 1, 0, 0, 0, 1], [-1, 0, 0, 0, 1, 0, 0, 0, 1], [1, 0, 0, 0, -1, 0, 0, 0, 1], [-1, 0, 0, 0, -1, 0, 0, 0, 1],
    [0, 1, 0, 1, 0, 0, 0, 0, 1], [0, -1, 0, 1, 0, 0, 0, 0, 1], [0, 1, 0, -1, 0, 0, 0, 0, 1], [0, -1, 0, -1, 0, 0, 0, 0, 1],
]).reshape(8, 3, 3)  # fmt: skip


def dihedral_mat(x: Tensor, p: float = 0.5, draw: Draw = None, batch: bool = False) -> Tensor:
    """The maps of the eight symmetries of a square: [batch, 3, 3].

    Args:
        x: The batch, [batch, channel, height, width].
        p: Share of the images that are changed.
        draw: The number of the symmetry, 0 to 7: 0 changes nothing, 1 mirrors left and right.
        batch: Draw once for the whole batch.
    """
    given = given_or_drawn(x, draw, 0, 8, batch)
    if not ((given >= 0) & (given < 8)).all():
        raise BadValue("draw= of a dihedral is out of range", got=given.tolist(), expected="whole numbers from 0 to 7")
    number = mask_tensor(given, p, 0.0, batch)
    height, width = x.shape[-2:]
    # turning exchanges the axes, whose units differ unless the image is square
    square = torch.tensor([[1.0, height / width, 1.0], [width / height, 1.0, 1.0], [1.0, 1.0, 1.0]])
    return _TURNS[number.long()] * square


def rotate_mat(x: Tensor, max_deg: float = 10.0, p: float = 0.5, draw: Draw = None, batch: bool = False) -> Tensor:
    """The maps that rotate: [batch, 3, 3].

    Args:
        x: The batch, [batch, channel, height, width].
        max_deg: Largest angle in degrees, either way.
        p: Share of the images that are rotated.
        draw: Degrees, clockwise.
        batch: Draw once for the whole batch.
    """
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
    """The maps that enlarge: [batch, 3, 3].

    Args:
        x: The batch, [batch, channel, height, width].
        min_zoom: Smallest factor.
        max_zoom: Largest factor.
        p: Share of the images that are enlarged.
        draw: The factor.
        draw_x: Which part stays in view, from 0 (left) to 1 (right); 0.5 keeps the middle.
        draw_y: The same from 0 (top) to 1 (bottom).
        batch: Draw once for the whole batch.
    """
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
    """The projective maps that tilt, as if the image were seen from the side or from above: [batch, 3, 3].

    With tilts a and b, the corners of the result show the positions (±(1 ± b), ±(1 ± a)) of the source: by a the left side
    grows as the right shrinks, by b the top grows as the bottom shrinks. Four corners determine a projective map; the rows
    below are its solution.

    Args:
        x: The batch, [batch, channel, height, width].
        magnitude: Largest tilt, either way.
        p: Share of the images that are tilted.
        draw_x: The tilt a, to the side.
        draw_y: The tilt b, up or down.
        batch: Draw once for the whole batch.
    """
    a, b = (given_or_drawn(x, tilt, -magnitude, magnitude, batch) for tilt in (draw_x, draw_y))
    chosen = mask_tensor(torch.ones_like(a), p, 0.0, batch)
    a, b = a * chosen, b * chosen
    rows = (1 - b * b, -a * b, a, -a * b, 1 - a * a, b, a, b, torch.ones_like(a))
    return torch.stack(rows, dim=-1).reshape(-1, 3, 3)


def crop_mat(
    x: Tensor, min_scale: float, max_scale: float, ratio: tuple[float, float], batch: bool = False, tries: int = 10
) -> Tensor:
    """The maps to a window of random area, shape and position: [batch, 3, 3].

    Args:
        x: The batch, [batch, channel, height, width].
        min_scale: Smallest area of the window, as a share of the image's.
        max_scale: Largest area of the window, as a share of the image's.
        ratio: Smallest and largest width over height of the window, in pixels.
        batch: Draw once for the whole batch.
        tries: Windows drawn for each image, of which the first that fits is taken; if none does, the largest centred one.
    """
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


def find_coeffs(p1: Tensor, p2: Tensor) -> Tensor:
    """The projective maps under which four points come to lie on four others: [batch, 8, 1], for `apply_perspective`.

    The eight numbers are those of a 3x3 matrix, row by row, whose ninth is 1.

    Args:
        p1: Where the points shall lie, (x, y): [batch, 4, 2].
        p2: Where they are: [batch, 4, 2].

    Examples:
        >>> square = torch.tensor([[[-1.0, -1], [-1, 1], [1, -1], [1, 1]]])
        >>> apply_perspective(square, find_coeffs(2 * square, square))[0, 3]
        tensor([2., 2.])
    """
    (x, y), (u, v) = p2.unbind(-1), p1.unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    across = torch.stack((x, y, one, zero, zero, zero, -u * x, -u * y), -1)
    down = torch.stack((zero, zero, zero, x, y, one, -v * x, -v * y), -1)
    coeffs: Tensor = torch.linalg.solve(torch.cat((across, down), 1), torch.cat((u, v), 1)[..., None])
    return coeffs


def apply_perspective(coords: Tensor, coeffs: Tensor) -> Tensor:
    """Points after a projective map, in the shape of `coords`.

    Args:
        coords: (x, y), [batch, ..., 2].
        coeffs: The maps, of `find_coeffs`: [batch, 8, 1].
    """
    mat = torch.cat((coeffs.reshape(-1, 8), coeffs.new_ones(len(coeffs), 1)), 1).reshape(-1, 3, 3)
    x, y, scale = (coords.reshape(len(mat), -1, 2) @ mat[..., :2].mT + mat[:, None, :, 2]).unbind(-1)
    return torch.stack((x / scale, y / scale), -1).reshape(coords.shape)
