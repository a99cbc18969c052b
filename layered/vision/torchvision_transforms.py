"""Transforms of torchvision, and what is said about those of other libraries, where transforms of loaders are given."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from layered.data import foreign_transforms
from layered.foundation import (
    BadArgument,
    BadValue,
    NotExportable,
    TensorImageBase,
    TensorMask,
    Transform,
    describe,
    lazy,
    retype,
    transforms,
)
from layered.vision.alignment import with_aligned_masks
from layered.vision.reading import image2tensor, load_image
from layered.vision.types import PILBase, PILMask

v1, v2, tv_tensors = map(lazy, ("torchvision.transforms", "torchvision.transforms.v2", "torchvision.tv_tensors"))

# random, and needed for validation too
_SETS_THE_SIZE = {"RandomCrop", "RandomResizedCrop", "RandomResize", "RandomShortestSize", "ScaleJitter"}
_DRAWS_WITHOUT_PARAMETERS = {"AugMix", "GaussianNoise", "RandAugment", "TrivialAugmentWide", "AutoAugment"}


@transforms.register()
class TorchvisionTransform(Transform):
    """A transform of torchvision, applied to all images and masks of a sample (or batch) by one draw.

    Loaders wrap what they are given; nobody needs to make one. Labels are left alone. Random transforms apply in training
    only, unless they set the size; of `v2.Compose`, the others apply to validation too. In `item_tfms` they stand among
    `Resize` and the like in the order given; in `batch_tfms` they come after `aug_transforms` and before `Normalize`, and
    draw once for the batch. Results get the type and the range of what was given.

    Args:
        tfm: A transform of `torchvision.transforms.v2`; one of `torchvision.transforms`, for samples with one image and no
            mask; None changes nothing.
        order: Where it stands in a `Pipeline`: smaller first.
    """

    def __init__(self, tfm: Any = None, order: float = 1) -> None:
        super().__init__(order=order)
        self.tfm, self.valid_tfm = tfm, for_validation(tfm)

    @property
    def is_foreign(self) -> bool:
        """It draws from torch's generator, which is seeded by the ticket."""
        return True

    @property
    def init_args(self) -> dict[str, Any]:
        """Of an export, which is for prediction: what applies in training only is left out."""
        if self.valid_tfm is not None:
            raise NotExportable(
                f"an export cannot store torchvision's {type(self.valid_tfm).__name__}, which applies to predictions too",
                fix="use the library's own in its place: Resize(224), RandomCrop(224), …",
            )
        return {"tfm": None, "order": self.order}

    def __call__(self, x: object, split_idx: int | None = None) -> Any:
        tfm = self.valid_tfm if split_idx == 1 else self.tfm
        if tfm is None or not isinstance(x, (tuple, Tensor, Image.Image)):
            return x
        sample = with_aligned_masks(x if isinstance(x, tuple) else (x,))
        images = {i: o for i, o in enumerate(sample) if isinstance(o, (Image.Image, TensorImageBase))}
        if not images:
            raise BadValue(
                f"torchvision's {type(tfm).__name__} found no image",
                got=describe(x),
                expected="images of PIL, TensorImage or TensorMask among the elements",
                fix="say what a tensor is: TransformBlock(type_tfms=TensorImage)",
            )
        made = list(sample)
        for (i, old), new in zip(images.items(), _applied(tfm, list(images.values())), strict=True):
            made[i] = _like(old, new)
        if not isinstance(x, tuple):
            return made[0]
        return tuple(made) if type(x) is tuple else type(x)(made)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.tfm!r})"


def _applied(tfm: Any, images: list[Any]) -> list[Any]:
    if is_v2(tfm):
        given = [_as_torchvision(o) for o in images]
        made = tfm(*given)
        return [made] if len(given) == 1 else list(made)
    if len(images) > 1 or isinstance(images[0], (PILMask, TensorMask)):
        raise BadValue(
            f"torchvision.transforms.{type(tfm).__name__} changes one image at a time, by draws of its own",
            got=f"a sample with {' and '.join(type(o).__name__ for o in images)}, which belong together",
            fix=f"from torchvision.transforms import v2; v2.{type(tfm).__name__}(...), which changes them by one draw",
        )
    return [tfm(images[0])]


def _as_torchvision(o: Any) -> Any:
    if isinstance(o, Tensor):
        return (tv_tensors.Mask if isinstance(o, TensorMask) else tv_tensors.Image)(o.as_subclass(Tensor))
    if isinstance(o, PILMask):
        return tv_tensors.Mask(image2tensor(o)[0])
    return tv_tensors.Image(o.pixels if isinstance(o, PILBase) and o.pixels is not None else image2tensor(o))


def _like(old: Any, new: Any) -> Any:
    """The result in the type, dtype and range of what it was made from."""
    pixels = image2tensor(new) if isinstance(new, Image.Image) else new.as_subclass(Tensor)
    dtype = old.dtype if isinstance(old, Tensor) else torch.uint8
    if isinstance(old, (PILMask, TensorMask)):
        pixels = pixels.to(dtype)
    elif pixels.dtype != dtype:
        if pixels.is_floating_point() and not -1e-3 <= float(pixels.min()) <= float(pixels.max()) <= 1.001:
            raise _normalizes()
        pixels = v2.functional.to_dtype(pixels.clamp(0, 1) if pixels.is_floating_point() else pixels, dtype, scale=True)
    if isinstance(old, Tensor):
        return retype(pixels, old)
    if not isinstance(old, PILBase):
        return load_image(TensorImageBase(pixels))
    if old.read_mode == "RGB" and len(pixels) == 3:
        return type(old).of_pixels(pixels.contiguous())
    return type(old).create(TensorMask(pixels) if isinstance(old, PILMask) else TensorImageBase(pixels))


def is_v2(tfm: object) -> bool:
    """Whether a transform is one of `torchvision.transforms.v2`, which take whole samples.

    Args:
        tfm: The transform.
    """
    return isinstance(tfm, v2.Transform)


def for_validation(tfm: Any) -> Any:
    """What is left of a transform where nothing is drawn at random; None if nothing.

    Args:
        tfm: A transform of torchvision; of `Compose`, the steps that are not random are left.
    """
    kind = type(tfm)
    if kind.__name__ == "Compose":
        steps = [step for step in map(for_validation, tfm.transforms) if step is not None]
        return kind(steps) if steps else None
    if kind.__name__ in _SETS_THE_SIZE:
        return tfm
    draws = kind.__name__.startswith("Random") or kind.__name__ in _DRAWS_WITHOUT_PARAMETERS
    # a class of v2 that draws its parameters overrides this method; those of the first version have the same names
    twin = kind if isinstance(tfm, v2.Transform) else getattr(v2, kind.__name__, v2.Identity)
    return None if draws or twin.make_params is not v2.Transform.make_params else tfm


def adapt_torchvision(tfm: Any, slot: str) -> Transform:
    """The transform of this library that applies one of torchvision.

    Args:
        tfm: The transform.
        slot: Where it is given: "after_item", "before_batch" or "after_batch".
    """
    if slot == "before_batch":
        raise BadArgument(
            f"torchvision's {type(tfm).__name__} cannot be used in before_batch", fix="item_tfms, or batch_tfms"
        )
    if isinstance(tfm, nn.Sequential):
        tfm = (v2 if all(map(is_v2, tfm)) else v1).Compose(list(tfm))
    steps = list(tfm.modules()) if isinstance(tfm, nn.Module) else getattr(tfm, "transforms", [tfm])
    for step in steps:
        if isinstance(step, (v1.Normalize, v2.Normalize)):
            raise _normalizes(step)
        if isinstance(step, (v2.MixUp, v2.CutMix)):
            raise BadArgument(
                f"torchvision's {type(step).__name__} mixes labels too, which transforms leave alone",
                fix=f"the callback: Learner(..., cbs={type(step).__name__}())",
            )
    return TorchvisionTransform(tfm, order=50 if slot == "after_batch" else 1)


def _normalizes(step: Any = None) -> BadArgument:
    stats = f"{list(step.mean)}, {list(step.std)}" if step is not None else "mean, std"
    return BadArgument(
        "torchvision's Normalize hides from the loaders how to undo it: to show images, and not to normalise them twice",
        fix=f"batch_tfms=Normalize.from_stats({stats}), the library's own, in its place",
    )


def refuse_kornia(tfm: Any, slot: str) -> Transform:
    """Refuse a transform of kornia: it would be applied to labels and masks as to images.

    Args:
        tfm: The transform.
        slot: Where it is given.
    """
    raise BadArgument(
        f"kornia's {type(tfm).__name__} cannot tell images from labels and masks in {_SLOT_NAMES[slot]}",
        fix="def augment(x: TensorImage): return tfm(x); batch_tfms=Transform(augment, split_idx=0, order=50), for images "
        "without masks; torchvision.transforms.v2 also moves masks",
    )


def refuse_albumentations(tfm: Any, slot: str) -> Transform:
    """Refuse a transform of albumentations: it takes arrays by keyword.

    Args:
        tfm: The transform.
        slot: Where it is given.
    """
    raise BadArgument(
        f"albumentations' {type(tfm).__name__} takes arrays by keyword and cannot be used in {_SLOT_NAMES[slot]} as it is",
        fix="def augment(x: PILImage): return PILImage.create(tfm(image=np.array(x))['image']); "
        "item_tfms=[Resize(224), Transform(augment, split_idx=0, order=2)], for images without masks; "
        "torchvision.transforms.v2 also moves masks",
    )


_SLOT_NAMES = {"after_item": "item_tfms", "before_batch": "before_batch", "after_batch": "batch_tfms"}

foreign_transforms.add("torchvision", adapt_torchvision)
foreign_transforms.add("kornia", refuse_kornia)
foreign_transforms.add("albumentations", refuse_albumentations)
