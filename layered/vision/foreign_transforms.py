"""Transforms of other libraries: what they change in a sample, and how it gets back its type, dtype and range."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from layered.foundation import (
    BadArgument,
    BadValue,
    NotExportable,
    TensorImageBase,
    TensorMask,
    Transform,
    describe,
    leaves,
    map_tree,
    retype,
)
from layered.vision.alignment import with_aligned_masks
from layered.vision.points import TensorBBox, TensorPoint
from layered.vision.reading import as_seen, image2tensor
from layered.vision.targets import image_size, without_empty_boxes
from layered.vision.types import PILBase, PILMask


class Part:
    """An element of a sample that transforms change.

    Args:
        given: The element.
        size: (width, height) of the image of the sample, which points and boxes lie in.

    Attributes:
        kind: "image", "mask", "points" or "boxes".
    """

    def __init__(self, given: Any, size: tuple[int, int] = (1, 1)) -> None:
        self.given, self.size = given, size
        self.kind = "mask" if isinstance(given, (PILMask, TensorMask)) else "image"
        if isinstance(given, TensorPoint):
            self.kind = "boxes" if isinstance(given, TensorBBox) else "points"

    @functools.cached_property
    def tensor(self) -> Tensor:
        """The pixels: an image [..., channel, height, width], or a mask [..., height, width]; points and boxes as they are."""
        if isinstance(self.given, Tensor):
            return self.given.as_subclass(Tensor)
        if isinstance(self.given, PILBase) and self.given.pixels is not None:
            return self.given.pixels
        image = self.given if self.given.mode in _VALUES else as_seen(self.given, "RGB")
        return image2tensor(image)[0] if self.kind == "mask" else image2tensor(image)

    def restored(self, made: Any) -> Any:
        """The result of a transform in the type, dtype and range of the element.

        Args:
            made: A tensor of the same axes, or an image of PIL.
        """
        if not isinstance(made, (Tensor, Image.Image)):
            raise BadValue(
                "a transform has to make one image of an image, and one mask of a mask",
                got=describe(made),
                expected="a tensor",
            )
        pixels = image2tensor(made) if isinstance(made, Image.Image) else made.as_subclass(Tensor)
        if isinstance(self.given, TensorPoint):
            return self._with_positions(pixels)
        dtype = self.tensor.dtype
        pixels = pixels.to(dtype) if self.kind == "mask" else rescaled(pixels, dtype)
        if isinstance(self.given, Tensor):
            return retype(pixels, self.given)
        if isinstance(self.given, PILBase) and self.given.read_mode == "RGB" and len(pixels) == 3:
            return type(self.given).of_pixels(pixels.contiguous())
        plane = pixels if self.kind == "mask" else pixels.movedim(0, -1)
        image = Image.fromarray(
            plane.squeeze(-1).numpy() if plane.shape[-1] == 1 and plane.ndim == 3 else plane.numpy()
        )
        if isinstance(self.given, PILBase):
            return type(self.given).recast(image if image.mode == self.given.mode else as_seen(image, self.given.mode))
        return image

    def _with_positions(self, points: Tensor) -> Any:
        if points.numel() != self.given.numel():
            raise BadValue(
                f"a transform changed the number of {self.kind}, and nothing says which are left",
                got=f"{points.numel() // self.given.numbers} of {self.given.numel() // self.given.numbers}",
                fix="leave SanitizeBoundingBoxes out: boxes that left the image are taken out with their labels",
            )
        return retype(points.reshape(self.given.shape), self.given)


_VALUES = {"L", "RGB", "RGBA", "I;16", "I", "F"}  # modes whose numbers are the pixels


def rescaled(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """Pixels in another dtype; white is the largest integer of a dtype, or 1.

    Args:
        pixels: The pixels.
        dtype: The dtype of the result.

    Raises:
        BadValue: Floats outside [0, 1] do not say what integers they are.

    Examples:
        >>> rescaled(torch.tensor([0, 51, 255], dtype=torch.uint8), torch.float32)
        tensor([0.0000, 0.2000, 1.0000])
    """
    if pixels.dtype == dtype:
        return pixels
    if not pixels.is_floating_point():
        pixels = pixels.float() / torch.iinfo(pixels.dtype).max
    if dtype.is_floating_point:
        return pixels.to(dtype)
    low, high = float(pixels.min()), float(pixels.max())
    if not -1e-3 <= low <= high <= 1.001:
        raise BadValue(
            "a transform made floats of bytes, and left the range of pixels",
            got=f"values from {low:.4g} to {high:.4g}",
            expected="values in [0, 1]",
            fix="to normalise, batch_tfms=Normalize.from_stats(mean, std), the library's own, in its place",
        )
    return (pixels.clamp(0, 1) * torch.iinfo(dtype).max).round().to(dtype)


class ForeignTransform(Transform):
    """A transform of another library, applied to all images and masks of a sample (or batch) by one draw.

    Points and boxes move along where the library is known to move them, and are refused elsewhere.

    Loaders wrap what they are given; nobody needs to make one. Labels are left alone. Random transforms apply in training
    only, unless they set the size; of those that compose several, the others apply to validation too. In `item_tfms` they
    stand among `Resize` and the like in the order given; in `batch_tfms` they come after `aug_transforms` and before
    `Normalize`. Results get the type, the dtype and the range of what was given.

    Args:
        tfm: The transform; None changes nothing.
        order: Where it stands in a `Pipeline`: smaller first.
    """

    whose: ClassVar[str]
    moves_points: ClassVar[bool] = False

    def __init__(self, tfm: Any = None, order: float = 1) -> None:
        super().__init__(order=order)
        self.tfm, self.valid_tfm = tfm, None if tfm is None else self.for_validation(tfm)

    def for_validation(self, tfm: Any) -> Any:
        """What is left of a transform where nothing is drawn at random; None if nothing.

        Args:
            tfm: The transform.
        """
        raise NotImplementedError

    def apply(self, tfm: Any, parts: Sequence[Part]) -> Sequence[Any]:
        """The results of a transform, one for each part, all by one draw.

        Args:
            tfm: The transform.
            parts: The parts of a sample or batch, at least one of them an image or a mask.
        """
        raise NotImplementedError

    @property
    def is_foreign(self) -> bool:
        """It may draw from global generators, which are then seeded by the ticket."""
        return True

    @property
    def init_args(self) -> dict[str, Any]:
        """Of an export, which is for prediction: what applies in training only is left out."""
        if self.valid_tfm is not None:
            raise NotExportable(
                f"an export cannot store {self.whose} {type(self.valid_tfm).__name__}, which applies to predictions too",
                fix="use the library's own in its place: Resize(224), RandomCrop(224), …",
            )
        return {"tfm": None, "order": self.order}

    def __call__(self, x: object, split_idx: int | None = None) -> Any:
        tfm = self.valid_tfm if split_idx == 1 else self.tfm
        if tfm is None:
            return x
        sample = with_aligned_masks(x)
        found = list(filter(is_part, leaves(sample)))
        size = image_size(found)
        parts = [Part(o, size or (1, 1)) for o in found]
        if all(isinstance(o, TensorPoint) for o in found):
            if not isinstance(x, (tuple, Tensor)):
                return x
            raise BadValue(
                f"{self.whose} {type(tfm).__name__} found no image",
                got=describe(x),
                expected="images of PIL, TensorImage or TensorMask among the elements",
                fix="say what a tensor is: TransformBlock(type_tfms=TensorImage)",
            )
        if not self.moves_points:
            self._check_points(tfm, parts)
        try:
            results = self.apply(tfm, parts)
        except (NotImplementedError, TypeError) as error:
            if all(part.kind == "image" for part in parts):
                raise
            raise BadValue(
                f"{self.whose} {type(tfm).__name__} cannot change all of this sample by one draw",
                got=" and ".join(type(part.given).__name__ for part in parts) + (f": {error}" if str(error) else ""),
                fix="one that moves them too: kornia.augmentation.auto.RandAugment for that of torchvision, …",
            ) from error
        made = iter([part.restored(new) for part, new in zip(parts, results, strict=True)])
        return without_empty_boxes(map_tree(lambda o: next(made) if is_part(o) else o, sample))

    def _check_points(self, tfm: Any, parts: Sequence[Part]) -> None:
        alone = next((part for part in parts if isinstance(part.given, TensorPoint)), None)
        if alone is not None:
            raise BadValue(
                f"{self.whose} {type(tfm).__name__} would leave {alone.kind} where they are",
                got=f"a sample with a {type(alone.given).__name__}",
                fix="one of torchvision.transforms.v2, or of the library: Resize, FlipItem, Rotate, aug_transforms(), …",
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.tfm!r})"


def is_part(o: object) -> bool:
    """Whether transforms change an element of a sample.

    Args:
        o: The element.
    """
    return isinstance(o, (Image.Image, TensorImageBase, TensorPoint))


def check_slot(whose: str, tfm: object, slot: str, allowed: Sequence[str]) -> None:
    """Refuse a transform in a slot that cannot take it.

    Args:
        whose: The library, in the genitive.
        tfm: The transform.
        slot: Where it is given: "after_item", "before_batch" or "after_batch".
        allowed: The slots that take it.

    Raises:
        BadArgument: With the arguments that take it.
    """
    if slot not in allowed:
        raise BadArgument(
            f"{whose} {type(tfm).__name__} cannot be used in {SLOT_NAMES[slot]}",
            fix=" or ".join(f"{SLOT_NAMES[name]}=[..., {type(tfm).__name__}(...)]" for name in allowed),
        )


SLOT_NAMES = {"after_item": "item_tfms", "before_batch": "before_batch", "after_batch": "batch_tfms"}


def refused_normalize(whose: str, mean: object = None, std: object = None) -> BadArgument:
    """What is said about a transform that normalises.

    Args:
        whose: The library, in the genitive.
        mean: Its mean of each channel.
        std: Its standard deviation of each channel.
    """
    stats = f"{_numbers(mean)}, {_numbers(std)}"
    return BadArgument(
        f"{whose} Normalize hides from the loaders how to undo it: to show images, and not to normalise them twice",
        fix=f"batch_tfms=Normalize.from_stats({stats}), the library's own, in its place",
    )


def _numbers(values: Any) -> list[float]:
    return [round(float(o), 6) for o in torch.as_tensor(values).flatten()]
