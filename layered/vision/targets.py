"""How points and boxes move with their image. A transform describes itself by a map, as in `affine`.

The map is a 3x3 matrix from positions in the result to positions in the source, from -1 to 1 between the outer edges of each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from layered.foundation import BadValue, TensorImageBase, TensorMask, TensorMultiCategory, with_elements
from layered.vision.points import TensorBBox, TensorPoint
from layered.vision.types import PILMask

Box = tuple[int, int, int, int]
NEGLIGIBLE = 1e-4  # of the image's half width: what rounding leaves of a box outside
_CORNERS = [0, 1, 2, 1, 0, 3, 2, 3]  # (left, top), (right, top), (left, bottom), (right, bottom)


def moved_points(points: Tensor, mat: Tensor) -> Tensor:
    """Where points of the source lie in the result: [..., point, 2].

    Args:
        points: (x, y), [..., point, 2].
        mat: The map from the result to the source: [..., 3, 3].
    """
    forth = torch.from_numpy(np.linalg.inv(mat.cpu().numpy())).to(points.device, non_blocking=True)
    x, y, scale = (points @ forth[..., :2].mT + forth[..., 2:].mT).unbind(-1)
    return torch.stack((x / scale, y / scale), -1)


def moved_boxes(boxes: Tensor, mat: Tensor) -> Tensor:
    """The upright boxes around boxes of the source where they lie in the result, cut off at its border: [..., box, 4].

    Args:
        boxes: (left, top, right, bottom), [..., box, 4].
        mat: The map from the result to the source: [..., 3, 3].
    """
    count = boxes.shape[-2]
    corners = boxes[..., _CORNERS].reshape(*boxes.shape[:-2], 4 * count, 2)
    moved = moved_points(corners, mat).reshape(*boxes.shape[:-1], 4, 2)
    return torch.cat((moved.amin(-2), moved.amax(-2)), -1).clamp(-1, 1)


def window_map(size: tuple[int, int], box: Box) -> Tensor:
    """The map of a result that shows a window of the source: [3, 3].

    Args:
        size: (width, height) of the source in pixels.
        box: The window, (left, top, right, bottom) in pixels; it may reach outside.
    """
    (width, height), (left, top, right, bottom) = size, box
    return torch.tensor([
        [(right - left) / width, 0.0, (left + right) / width - 1],
        [0.0, (bottom - top) / height, (top + bottom) / height - 1],
        [0.0, 0.0, 1.0],
    ])  # fmt: skip


def image_size(sample: Iterable[object]) -> tuple[int, int] | None:
    """(width, height) of the first image of a sample that is not a mask; None if there is none.

    Args:
        sample: The elements of a sample, or of a batch.
    """
    for o in sample:
        if isinstance(o, Image.Image) and not isinstance(o, PILMask):
            return o.size
        if isinstance(o, TensorImageBase) and not isinstance(o, TensorMask):
            return o.shape[-1], o.shape[-2]
    return None


def clip_remove_empty(bbox: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Cut boxes off at the border of the image, and leave out those of which nothing remains, with their labels.

    Args:
        bbox: From -1 to 1, [box, 4].
        label: [box].

    Examples:
        >>> clip_remove_empty(torch.tensor([[0.0, 0.0, 2.0, 1.0], [1.5, 0.0, 2.0, 1.0]]), torch.tensor([3, 4]))
        (tensor([[0., 0., 1., 1.]]), tensor([3]))
    """
    clipped = bbox.clamp(-1, 1)
    kept = has_area(clipped)
    return clipped[kept], label[kept]


def has_area(boxes: Tensor) -> Tensor:
    """Which boxes have an area: bool [..., box]. Those of a batch that have none are padding.

    Args:
        boxes: From -1 to 1, [..., box, 4].
    """
    left, top, right, bottom = boxes.as_subclass(Tensor).unbind(-1)
    return (right - left > NEGLIGIBLE) & (bottom - top > NEGLIGIBLE)


def labels_of_boxes(sample: tuple[Any, ...], i: int) -> int | None:
    """The place of the labels of boxes: the element after them, if those are numbers of classes; None if there is none.

    Args:
        sample: A sample, or a batch.
        i: The place of the boxes.
    """
    after = sample[i + 1] if i + 1 < len(sample) else None
    is_labels = isinstance(after, TensorMultiCategory) and not after.as_plain().is_floating_point()
    return i + 1 if is_labels else None


def without_empty_boxes(sample: Any) -> Any:
    """A sample without the boxes that have left its image, nor their labels; in a batch, these become padding.

    Args:
        sample: A tuple with boxes; anything else is returned as it is.
    """
    places = boxes_in(sample)
    if not places:
        return sample
    made = list(sample)
    for i in places:
        j, boxes = labels_of_boxes(sample, i), sample[i]
        kept = has_area(boxes)
        if kept.ndim > 1:  # the shape of a batch cannot depend on values, for which the host would have to wait
            made[i] = torch.where(kept[..., None], boxes, torch.zeros_like(boxes))
            if j is not None:
                made[j] = torch.where(kept, sample[j], torch.full_like(sample[j], sample[j].__dict__.get("pad_idx", 0)))
        elif not kept.all():
            made[i] = boxes[kept]
            if j is not None:
                made[j] = sample[j][kept]
    return with_elements(sample, made)


def boxes_in(sample: object) -> list[int]:
    """The places of boxes in a sample.

    Args:
        sample: Anything; only tuples have some.
    """
    return [i for i, o in enumerate(sample) if isinstance(o, TensorBBox)] if isinstance(sample, tuple) else []


def check_beside_image(sample: Iterable[object], size: object, what: str) -> None:
    """Refuse points that would stay where they are while nothing is known of their image.

    Args:
        sample: The elements of a sample.
        size: That of its image; None if it has none.
        what: Who needs it, in words.

    Raises:
        BadValue: There are points or boxes, and no image.
    """
    if size is not None:
        return
    alone = next((o for o in sample if isinstance(o, TensorPoint)), None)
    if alone is not None:
        raise BadValue(
            f"{what} needs the image that a {type(alone).__name__} lies in",
            got="a sample without an image",
            fix="apply it to both: tfm((image, points))",
        )
