"""Regions of scans: blurs, masks of tissue, the boxes around them and what they hold."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from layered.foundation import BadValue, lazy
from layered.vision.dicom_values import Window, windowed

v2_functional = lazy("torchvision.transforms.v2.functional")


def uniform_blur2d(x: Tensor, s: int) -> Tensor:
    """The mean of the s × s values around each: float [..., height, width].

    Args:
        x: The values.
        s: An odd number.
    """
    flat = x.reshape(-1, 1, *x.shape[-2:])
    return F.avg_pool2d(F.pad(flat, [s // 2] * 4, mode="replicate"), s, stride=1).reshape(x.shape)


def gauss_blur2d(x: Tensor, s: float) -> Tensor:
    """Values blurred by a bell curve: float [..., height, width].

    Args:
        x: The values.
        s: Its standard deviation in pixels; it reaches three of them far.
    """
    reach = max(1, min(round(3 * s), min(x.shape[-2:]) - 1))
    bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / s) ** 2)
    bell = (bell / bell.sum()).to(x)
    flat = F.pad(x.reshape(-1, 1, *x.shape[-2:]), [reach] * 4, mode="reflect")
    blurred = F.conv2d(F.conv2d(flat, bell.reshape(1, 1, -1, 1)), bell.reshape(1, 1, 1, -1))
    return blurred.reshape(x.shape)


def mask_from_blur(
    px: Tensor, window: Window, sigma: float = 0.03, thresh: float = 0.05, remove_max: bool = True
) -> Tensor:
    """Where the tissue in a window lies: bool [..., height, width].

    Args:
        px: The values, as from `scaled_px`.
        window: The window of the tissue.
        sigma: Standard deviation of the blur, as a share of the width.
        thresh: How bright a place must be after that.
        remove_max: Leave out what is brighter than the window, such as bone.
    """
    shown = windowed(px, *window)
    if remove_max:
        shown = torch.where(shown == 1, 0.0, shown)
    return gauss_blur2d(shown, sigma * px.shape[-1]) > thresh


def mask2bbox(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest box around what is set: its first row and column, and those after its last.

    Args:
        mask: bool [height, width].

    Raises:
        BadValue: Nothing is set.

    Examples:
        >>> mask = torch.zeros(5, 6, dtype=torch.bool); mask[1:3, 2:6] = True
        >>> mask2bbox(mask)
        (tensor([1, 2]), tensor([3, 6]))
    """
    places = mask.nonzero()
    if not len(places):
        raise BadValue("nothing of the mask is set, so it has no box", got=f"a mask of shape {tuple(mask.shape)}")
    return places.min(0).values, places.max(0).values + 1


def crop_resize(x: Tensor, crops: Sequence[tuple[Tensor, Tensor]], new_sz: int | tuple[int, int]) -> Tensor:
    """What lies in the square around a box of each image, in one size: float [batch, height, width].

    The square has the centre of the box and its longer side. Where it reaches beyond the image it shows the smallest value.

    Args:
        x: The images: [batch, height, width].
        crops: A box for each, as from `mask2bbox`.
        new_sz: The size: a number for a square, or (height, width).

    Raises:
        BadValue: There are more or fewer boxes than images.

    Examples:
        >>> mask = torch.zeros(5, 6); mask[1:3, 2:4] = 1
        >>> crop_resize(mask[None], [mask2bbox(mask)], 4).unique()
        tensor([1.])
    """
    if x.ndim != 3 or len(crops) != len(x):
        raise BadValue(
            "each image needs a box",
            got=f"images of shape {tuple(x.shape)} and {len(crops)} boxes",
            expected="[batch, height, width], and as many boxes",
            fix="crop_resize(px[None], [mask2bbox(mask)], 256)",
        )
    size = [new_sz, new_sz] if isinstance(new_sz, int) else list(new_sz)
    made = []
    for px, (first, end) in zip(x, crops, strict=True):
        side = int((end - first).max())
        top, left = ((first + end - side) // 2).tolist()
        low = px.min()  # cropping fills with zeros
        made.append(v2_functional.resized_crop((px - low)[None], top, left, side, side, size) + low)
    return torch.cat(made)
