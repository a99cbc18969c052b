"""Methods of images, masks, points and boxes: what the transforms of batches do, for one tensor."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from layered.foundation import BadValue, TensorImage, TensorMask, image_methods, retype
from layered.vision.affine import (
    Dihedral,
    Flip,
    Motion,
    Rotate,
    Size,
    Warp,
    Zoom,
    affine_coord,
    between_edges,
)
from layered.vision.item_transforms import check_size
from layered.vision.lighting import Brightness, Change, ColourTfm, Contrast, Hue, Saturation, hsv, lighting
from layered.vision.points import TensorBBox, TensorPoint, from_pixels, in_pixels
from layered.vision.targets import moved_boxes, moved_points

TensorTypes = (TensorImage, TensorMask, TensorPoint, TensorBBox)
"""The classes of tensors that move together."""


def _motion(tfm: type[Motion], p: float = 1.0) -> Callable[..., Any]:
    def method(x: Any, *args: Any, p: float = p, img_size: tuple[int, int] | None = None, **kwargs: Any) -> Any:
        motion = tfm(*args, p=p, **kwargs)  # type: ignore[call-arg]  # its own arguments
        if not isinstance(x, TensorPoint):
            return motion(x, split_idx=0)
        size = img_size or x.img_size
        if size is None and isinstance(motion, (Rotate, Dihedral)):
            raise BadValue(
                f"{type(motion).__name__} needs the size of the image that a {type(x).__name__} lies in",
                fix=f"give img_size=(width, height), or move both: {motion!r}((image, points))",
            )
        width, height = size or (1, 1)
        mat = motion.train_mat(torch.empty(()).expand(len(x) if x.ndim > 2 else 1, 1, height, width))
        return _moved(x, mat, size, motion.size, motion.align_corners)

    method.__doc__ = f"""The tensor after `{tfm.__name__}`, whose arguments it takes; `p` is {p} if not given.

    Points and boxes also take `img_size`, the (width, height) of their image.
    """
    return method


def _moved(
    x: TensorPoint, mat: Tensor | None, size: tuple[int, int] | None, new: tuple[int, int] | None, align_corners: bool
) -> TensorPoint:
    """Points or boxes, in an image of `size` (width, height), by the map of an image, whose result has `new` (height, width).

    Those in pixels stay in pixels. Where the size of the image is not known, -1 and 1 are taken for its edges.
    """
    if size is not None:
        result = size if new is None else new[::-1]
        mat = between_edges(mat, size, result, align_corners)
    if mat is None:
        return x
    mat = mat if x.ndim > 2 else mat[0]
    move = moved_boxes if isinstance(x, TensorBBox) else moved_points
    if x.img_size is None:
        return retype(move(x.as_plain(), mat), x)  # type: ignore[no-any-return]  # points again
    scaled = from_pixels(x.as_plain().reshape(-1, 2), x.img_size).reshape(x.shape)
    return type(x)(in_pixels(move(scaled, mat), result).reshape(x.shape), img_size=result)


def _light(tfm: type[ColourTfm]) -> Callable[..., Any]:
    def method(x: Any, *args: Any, p: float = 1.0, **kwargs: Any) -> Any:
        return tfm(*args, p=p, **kwargs)(x, split_idx=0)  # type: ignore[misc]  # its own arguments

    method.__doc__ = f"The image after `{tfm.__name__}`, whose arguments it takes; `p` is 1 if not given."
    return method


def _affine_coord(
    x: Any,
    mat: Tensor | None = None,
    sz: Size = None,
    *args: Any,
    img_size: tuple[int, int] | None = None,
    **kwargs: Any,
) -> Any:
    """The tensor after `affine_coord`, whose arguments it takes; masks are interpolated by nearest pixels.

    Points and boxes also take `img_size`, the (width, height) of their image.
    """
    if isinstance(x, TensorPoint):
        given = inspect.signature(affine_coord).bind(x, mat, sz, *args, **kwargs)
        new = None if sz is None else check_size(sz)
        return _moved(x, mat, img_size or x.img_size, new, given.arguments.get("align_corners", True))
    if isinstance(x, TensorMask):
        moved = affine_coord(x.as_plain().unsqueeze(-3), mat, sz, *args, **{"mode": "nearest", **kwargs}).squeeze(-3)
    else:
        moved = affine_coord(x.as_plain(), mat, sz, *args, **kwargs)
    return retype(moved, x)


def _in_space(space: Callable[[Tensor, Change], Tensor]) -> Callable[..., Any]:
    def method(x: TensorImage, change: Change) -> Any:
        return retype(space(x.as_plain(), change), x)

    method.__doc__ = f"The image after `{space.__name__}`, whose function it takes."
    return method


def _flip_lr(x: Any) -> Any:
    """The tensor mirrored left and right."""
    return image_methods.get("flip_batch")(x, p=1.0) if isinstance(x, TensorPoint) else x.flip(-1)


def _dihedral(x: Any, k: int, **kwargs: Any) -> Any:
    """The tensor after one of the eight symmetries of a square: see `Dihedral`."""
    return image_methods.get("dihedral_batch")(x, p=1.0, draw=k, **kwargs)


_METHODS: dict[str, Callable[..., Any]] = {
    "affine_coord": _affine_coord, "flip_lr": _flip_lr, "dihedral": _dihedral,
    "flip_batch": _motion(Flip, p=0.5), "dihedral_batch": _motion(Dihedral, p=0.5),
    "rotate": _motion(Rotate), "zoom": _motion(Zoom), "warp": _motion(Warp),
    "lighting": _in_space(lighting), "hsv": _in_space(hsv),
    "brightness": _light(Brightness), "contrast": _light(Contrast), "saturation": _light(Saturation), "hue": _light(Hue),
}  # fmt: skip
for _name, _method in _METHODS.items():
    image_methods.add(_name, _method)
