"""Transforms of other libraries: what they change in a sample, and how it gets back its type, dtype and range."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from PIL import Image
from torch import Tensor

from layered.files import exactly
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
    with_elements,
)
from layered.vision.alignment import with_aligned_masks
from layered.vision.channels import MultiChannelImage
from layered.vision.foreign_data import Describable, NotPlain
from layered.vision.points import TensorBBox, TensorPoint, from_pixels, in_pixels
from layered.vision.reading import as_seen, image2tensor
from layered.vision.targets import (
    boxes_in,
    check_beside_image,
    image_size,
    labels_of_boxes,
    without_empty_boxes,
)
from layered.vision.types import PILBase, PILMask


class Part:
    """An element of a sample that transforms change.

    Args:
        given: The element.
        size: (width, height) of the image of the sample.

    Attributes:
        kind: "image", "mask", "boxes" or "points".
    """

    def __init__(self, given: Any, size: tuple[int, int] | None) -> None:
        self.given, self.size = given, size
        if isinstance(given, TensorPoint):
            self.kind = "boxes" if isinstance(given, TensorBBox) else "points"
        else:
            self.kind = "mask" if isinstance(given, (PILMask, TensorMask)) else "image"

    @functools.cached_property
    def tensor(self) -> Tensor:
        """What a library is given of it.

        An image [..., channel, height, width]; a mask [..., height, width]; boxes [..., box, 4] in pixels from the corner of
        the image; points [..., point, 2] in the numbers of pixels, whose centres are whole, as the libraries count.
        """
        if isinstance(self.given, TensorPoint):
            assert self.size is not None  # `check_beside_image` refuses them without an image
            pixels = in_pixels(self.given, self.size).reshape(self.given.shape)
            return pixels if self.kind == "boxes" else pixels - 0.5
        if isinstance(self.given, Tensor):
            return self.given.as_subclass(Tensor)
        decoded = self.given.pixels if isinstance(self.given, PILBase) else None
        if decoded is not None:
            return decoded.clone()  # others may write into it
        image = self.given if self.given.mode in _VALUES else as_seen(self.given, "RGB")
        return image2tensor(image)[0] if self.kind == "mask" else image2tensor(image)

    def restored(self, made: Any, size: tuple[int, int]) -> Any:
        """The result of a transform in the type, dtype and range of the element.

        Args:
            made: A tensor of the same axes, or an image of PIL.
            size: (width, height) of the image that the transform made.
        """
        if isinstance(self.given, TensorPoint):
            moved = made.as_subclass(Tensor).to(self.tensor.dtype) + (0.5 if self.kind == "points" else 0)
            scaled = from_pixels(moved.reshape(-1, 2), size).reshape(moved.shape)
            return retype(scaled.clamp(-1, 1) if self.kind == "boxes" else scaled, self.given)
        pixels = image2tensor(made) if isinstance(made, Image.Image) else made.as_subclass(Tensor)
        dtype = self.tensor.dtype
        pixels = pixels.to(dtype) if self.kind == "mask" else rescaled(pixels, dtype)
        if isinstance(self.given, Tensor):
            return retype(pixels, self.given)
        if isinstance(self.given, MultiChannelImage):
            return self.given.of_array(pixels.movedim(0, -1).numpy())
        if isinstance(self.given, PILBase) and self.given.read_mode == "RGB" and len(pixels) == 3:
            return type(self.given).of_pixels(pixels.contiguous())
        plane = pixels if self.kind == "mask" else pixels.movedim(0, -1)
        image = Image.fromarray(
            plane.squeeze(-1).numpy() if plane.shape[-1] == 1 and plane.ndim == 3 else plane.numpy()
        )
        if isinstance(self.given, PILBase):
            return type(self.given).recast(image if image.mode == self.given.mode else as_seen(image, self.given.mode))
        return image


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
    """A transform of another library, applied to the images, masks, boxes and points of a sample (or batch) by one draw.

    Loaders wrap what they are given; nobody needs to make one. Labels are left alone; those of boxes that leave the image go
    with them. Random transforms apply in training only, unless they set the size; of those that compose several, the others
    apply to validation too. In `item_tfms` they stand among `Resize` and the like in the order given; in `batch_tfms` they
    come after `aug_transforms` and before `Normalize`. Results get the type, the dtype and the range of what was given.

    An export holds what applies to predictions, where it draws nothing and `describable` lists it: resizing, crops in the
    middle, padding, greys and dtypes.

    Args:
        tfm: The transform; None changes nothing.
        order: Where it stands in a `Pipeline`: smaller first.
    """

    whose: ClassVar[str]

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
            parts: The parts of a sample or batch, at least one of them an image or a mask. Boxes keep their number and order;
                those that are gone have no area.
        """
        raise NotImplementedError

    def labels_of_moved(self, tfm: Any, labels: Tensor) -> Tensor:
        """The labels of boxes, for each of the boxes that `apply` made.

        Args:
            tfm: The transform that was applied.
            labels: Those of the boxes before.
        """
        return labels

    @property
    def is_foreign(self) -> bool:
        """It may draw from global generators, which are then seeded by the ticket."""
        return True

    @classmethod
    def describable(cls) -> Describable:
        """The transforms of the library that an export can hold."""
        raise NotImplementedError

    def steps(self) -> list[Any]:
        """What applies to predictions, one after the other: all that `composed` needs."""
        raise NotImplementedError

    @classmethod
    def composed(cls, steps: list[Any]) -> Any:
        """One transform of several.

        Args:
            steps: As from `steps`.
        """
        raise NotImplementedError

    def export_args(self) -> dict[str, Any]:
        """Of an export, which is for prediction: what applies in training only is left out."""
        if self.valid_tfm is None:
            return {"tfm": None, "order": self.order}
        known, described = self.describable(), []
        for step in self.steps():
            try:
                described.append(known.as_data(step))
            except NotPlain as error:
                raise NotExportable(
                    f"an export cannot store {self.whose} {type(step).__name__}, which applies to predictions too: {error}",
                    got=repr(step)[:200],
                    expected=", ".join(known.kinds),
                    fix="use the library's own in its place: Resize(224), RandomCrop(224), …",
                ) from None
        return {"tfm": described, "order": self.order}

    @classmethod
    def from_init_args(cls, init_args: Mapping[str, Any]) -> Self:
        """Create an instance from what an export says.

        Args:
            init_args: As from `export_args()`.

        Raises:
            BadFile: It names a transform that no export does.
        """
        described = init_args["tfm"]
        if described is None:
            return super().from_init_args(init_args)
        tfm = cls.composed([cls.describable().of_data(step) for step in exactly(list, described)])
        return super().from_init_args({**init_args, "tfm": tfm})

    def __call__(self, x: object, split_idx: int | None = None) -> Any:
        tfm = self.valid_tfm if split_idx == 1 else self.tfm
        if tfm is None:
            return x
        sample = with_aligned_masks(x)
        size = image_size(leaves(sample))
        check_beside_image(leaves(sample), size, f"{self.whose} {type(tfm).__name__}")
        parts = [Part(o, size) for o in leaves(sample) if is_part(o)]
        if not parts:
            if not isinstance(x, (tuple, Tensor)):
                return x
            raise BadValue(
                f"{self.whose} {type(tfm).__name__} found no image",
                got=describe(x),
                expected="images of PIL, TensorImage or TensorMask among the elements",
                fix="say what a tensor is: TransformBlock(type_tfms=TensorImage)",
            )
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
        new_size = next(_size(o) for part, o in zip(parts, results, strict=True) if part.kind in ("image", "mask"))
        made = iter([part.restored(o, new_size) for part, o in zip(parts, results, strict=True)])
        labels = {j for i in boxes_in(sample) if (j := labels_of_boxes(sample, i)) is not None}
        sample = map_tree(lambda o: next(made) if is_part(o) else o, sample)
        if labels:
            moved = [self.labels_of_moved(tfm, o) if i in labels else o for i, o in enumerate(sample)]
            sample = with_elements(sample, moved)
        return without_empty_boxes(sample)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.tfm!r})"


def is_part(o: object) -> bool:
    """Whether transforms change an element of a sample.

    Args:
        o: The element.
    """
    return isinstance(o, (Image.Image, TensorImageBase, TensorPoint))


def _size(made: object) -> tuple[int, int]:
    if isinstance(made, Image.Image):
        return made.size
    if isinstance(made, Tensor):
        return made.shape[-1], made.shape[-2]
    raise BadValue("a transform has to make one image of an image", got=describe(made), expected="a tensor")


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
