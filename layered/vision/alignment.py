"""Images that belong together: a mask is brought to the size of its image and the same side up, or refused; so is a picture
that is the target of another, but for its size."""

from __future__ import annotations

from typing import Any, TypeVar

from PIL import Image

from layered.data import sample_rules
from layered.foundation import BadValue, with_elements
from layered.vision.reading import STORED_TURNED, TURNS
from layered.vision.types import NEAREST, PILBase, PILMask

Picture = TypeVar("Picture", bound=PILBase)


def with_aligned_masks(sample: object) -> Any:
    """The sample with its masks on the pixels of its first image.

    A mask of another size and the same aspect ratio is resized to its image. Where the image was turned upright by its
    EXIF tag, a mask that fits the image as it is stored is turned too.

    Args:
        sample: A tuple, or a single element, which is returned as it is.

    Raises:
        BadValue: The mask has another aspect ratio, or the sizes do not tell whether it has to be turned.

    Examples:
        >>> sample = PILMask.create(Image.new("L", (3, 2))), Image.new("RGB", (6, 4))
        >>> with_aligned_masks(sample)[0].size
        (6, 4)
    """
    if not isinstance(sample, tuple) or not any(isinstance(o, PILMask) for o in sample):
        return sample
    image = next((o for o in sample if isinstance(o, Image.Image) and not isinstance(o, PILMask)), None)
    if image is None:
        return sample
    turned: int = image.info.get(STORED_TURNED, 1)
    aligned = [_aligned(o, image, turned) if isinstance(o, PILMask) else _settled(o) for o in sample]
    return with_elements(sample, aligned)


def with_aligned_targets(sample: tuple[Any, ...], n_inp: int) -> tuple[Any, ...]:
    """The sample with its first picture and those among its targets the same side up.

    Where one of two was turned upright by its EXIF tag and the other has none, because it was made from the pixels as they
    are stored, the other is turned too. Sizes may differ, as for enlarging. Masks are left to `with_aligned_masks`.

    Args:
        sample: The inputs and then the targets.
        n_inp: How many are inputs.

    Raises:
        BadValue: The sizes do not tell whether to turn.
    """
    at = next((i for i, o in enumerate(sample[:n_inp]) if isinstance(o, PILBase)), None)
    if at is None:
        return sample
    aligned = list(sample)
    for i, target in enumerate(sample[n_inp:], n_inp):
        if isinstance(target, PILBase) and not isinstance(target, PILMask):
            aligned[i] = _turned_like(aligned[at], target, "target")
            aligned[at] = _turned_like(target, aligned[at], "other image")
    return tuple(aligned)


sample_rules[PILBase] = with_aligned_targets


def _turned_like(image: Image.Image, other: Picture, name: str) -> Picture:
    """`other`, turned upright as `image` was, if it has no tag and lies on `image` as it is stored."""
    turned: int = image.info.get(STORED_TURNED, 1)
    if turned == 1 or STORED_TURNED in other.info:
        return other
    ways = (image.size, image.size[::-1] if turned >= 5 else image.size)  # upright, and as it is stored
    fitting = [size for size in ways if size == other.size] or [size for size in ways if _same_aspect(size, other.size)]
    if len(fitting) == 2:
        raise BadValue(
            f"the image is turned by its EXIF tag and its {name} has none: whether to turn the {name} cannot be seen",
            got=f"EXIF orientation {turned}, an image of {_size(image)} and a {name} of {_size(other)}",
            fix=f"if the {name} lies on the image as you see it, "
            "PIL.ImageOps.exif_transpose(PIL.Image.open(file)).save(file); "
            "if not, PIL.Image.open(file).save(file), which drops the tag (import PIL.Image, PIL.ImageOps)",
        )
    return other.recast(other.transpose(TURNS[turned])) if fitting == [ways[1]] else other


def _aligned(mask: PILMask, image: Image.Image, turned: int) -> PILMask:
    mask = _turned_like(image, mask, "mask")
    if mask.size == image.size:
        return mask
    if not _same_aspect(image.size, mask.size):
        raise BadValue(
            "the mask does not fit its image",
            got=f"an image of {_size(image)} and a mask of {_size(mask)} (width×height)"
            + (f"; the image is stored turned, with EXIF orientation {turned}" if turned != 1 else ""),
            expected="the same size, or the same aspect ratio",
            fix="if the masks were stretched, stretch them back: "
            "get_y=lambda o: Image.open(mask_of(o)).resize(Image.open(o).size, NEAREST)",
        )
    return mask.reshape(image.height, image.width, NEAREST)


def _same_aspect(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one size is the other in proportion, but for rounding to whole pixels."""
    return abs(size[0] * other[1] - size[1] * other[0]) <= max(size)


def _settled(o: Any) -> Any:
    """An image without the note that it was stored turned: its masks are turned by now."""
    if not isinstance(o, PILBase) or STORED_TURNED not in o.info:
        return o
    settled = o.copy()
    del settled.info[STORED_TURNED]
    return settled


def _size(image: Image.Image) -> str:
    return f"{image.width}×{image.height}"
