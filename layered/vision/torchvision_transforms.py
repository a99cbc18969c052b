"""Transforms of torchvision, where transforms of loaders are given."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from layered.data import foreign_transforms
from layered.foundation import BadArgument, BadValue, Transform, lazy, transforms
from layered.vision.foreign_data import Describable
from layered.vision.foreign_transforms import ForeignTransform, Part, check_slot, refused_normalize
from layered.vision.points import TensorPoint

v1, v2, tv_tensors = map(lazy, ("torchvision.transforms", "torchvision.transforms.v2", "torchvision.tv_tensors"))

# random, and needed for validation too
_SETS_THE_SIZE = {"RandomCrop", "RandomResizedCrop", "RandomResize", "RandomShortestSize", "ScaleJitter"}
_DRAWS_WITHOUT_PARAMETERS = {"AugMix", "GaussianNoise", "RandAugment", "TrivialAugmentWide", "AutoAugment"}
_IN_FILES = {
    "v1": ("CenterCrop", "ConvertImageDtype", "Grayscale", "Pad", "PILToTensor", "Resize", "ToTensor"),
    "v2": (
        "CenterCrop", "ClampBoundingBoxes", "ConvertImageDtype", "Grayscale", "Identity", "Pad", "PILToTensor", "Resize", "RGB",
        "SanitizeBoundingBoxes", "ToDtype", "ToImage", "ToPureTensor",
    ),
}  # fmt: skip


@transforms.register()
class TorchvisionTransform(ForeignTransform):
    """A transform of torchvision, which draws once for a sample, or for a batch: see `ForeignTransform`.

    Args:
        tfm: A transform of `torchvision.transforms.v2`; one of `torchvision.transforms`, for samples with one image and no
            mask; None changes nothing.
        order: Where it stands in a `Pipeline`: smaller first.
    """

    whose = "torchvision's"

    def for_validation(self, tfm: Any) -> Any:
        """What is left where nothing is drawn at random: of `Compose`, the steps that are not random.

        Args:
            tfm: The transform.
        """
        kind = type(tfm)
        if kind.__name__ == "Compose":
            steps = [step for step in map(self.for_validation, tfm.transforms) if step is not None]
            return kind(steps) if steps else None
        if kind.__name__ in _SETS_THE_SIZE:
            return tfm
        draws = kind.__name__.startswith("Random") or kind.__name__ in _DRAWS_WITHOUT_PARAMETERS
        # a class of v2 that draws its parameters overrides this method; those of the first version have the same names
        twin = kind if _is_v2(tfm) else getattr(v2, kind.__name__, v2.Identity)
        return None if draws or twin.make_params is not v2.Transform.make_params else tfm

    @classmethod
    @functools.cache
    def describable(cls) -> Describable:
        """The transforms of both versions that draw nothing: "v2.Resize", …."""
        kinds = {
            f"{name}.{kind}": getattr(module, kind)
            for name, module in (("v2", v2), ("v1", v1))
            for kind in _IN_FILES[name]
            if hasattr(module, kind)
        }
        return Describable(kinds, [v2.InterpolationMode])

    def steps(self) -> list[Any]:
        """What applies to predictions: those in `Compose`, not the `Compose`."""
        return list(_steps(self.valid_tfm))

    @classmethod
    def composed(cls, steps: list[Any]) -> Any:
        """`Compose` of the version that they are of.

        Args:
            steps: As from `steps`.
        """
        return (v2 if all(map(_is_v2, steps)) else v1).Compose(steps)

    def apply(self, tfm: Any, parts: Sequence[Part]) -> Sequence[Any]:
        """One call for all parts.

        Args:
            tfm: The transform.
            parts: The parts of the sample.
        """
        if _is_v2(tfm):
            given = [_as_tv_tensor(part) for part in parts]
            boxes = next((i for i, part in enumerate(parts) if part.kind == "boxes"), None)
            if boxes is None:
                made = tfm(*given)
                return [made] if len(parts) == 1 else list(made)
            # as its detection datasets give them; which are left is seen by the labels
            numbers = torch.arange(len(given[boxes]), device=given[boxes].device)
            image, others = tfm(given[0], {"labels": numbers, "parts": given[1:]})
            made = [image, *others["parts"]]
            if len(made[boxes]) != len(others["labels"]):
                raise BadValue(
                    "a transform changed the number of boxes, and nothing says which are left",
                    got=f"{len(made[boxes])} of {len(numbers)}",
                    fix="SanitizeBoundingBoxes() without labels_getter=None; or leave it out: boxes that left the image are "
                    "taken out with their labels",
                )
            left = torch.zeros_like(parts[boxes].tensor).reshape(-1, 4)
            kept = v2.functional.convert_bounding_box_format(made[boxes], new_format="XYXY")
            left[others["labels"]] = kept.as_subclass(Tensor)
            made[boxes] = left
            return [
                o.reshape(part.tensor.shape) if isinstance(part.given, TensorPoint) else o
                for part, o in zip(parts, made, strict=True)
            ]
        if len(parts) > 1 or parts[0].kind != "image":
            raise BadValue(
                f"torchvision.transforms.{type(tfm).__name__} changes one image at a time, by draws of its own",
                got=f"a sample with {' and '.join(type(part.given).__name__ for part in parts)}, which belong together",
                fix=f"from torchvision.transforms import v2; v2.{type(tfm).__name__}(...), which changes them by one draw",
            )
        given = parts[0].given
        return [tfm(given.as_subclass(Tensor) if isinstance(given, Tensor) else given)]


def _as_tv_tensor(part: Part) -> Any:
    if part.kind in ("image", "mask"):
        return (tv_tensors.Mask if part.kind == "mask" else tv_tensors.Image)(part.tensor)
    width, height = part.size or (0, 0)
    if part.kind == "points":
        return tv_tensors.KeyPoints(part.tensor, canvas_size=(height, width))
    return tv_tensors.BoundingBoxes(part.tensor.reshape(-1, 4), format="XYXY", canvas_size=(height, width))


def _is_v2(tfm: object) -> bool:
    return isinstance(tfm, v2.Transform)


def _steps(tfm: Any) -> Iterator[Any]:
    """The transforms that change something: those in compositions, not the compositions."""
    if type(tfm).__name__ == "Compose":
        for step in tfm.transforms:
            yield from _steps(step)
    else:
        yield tfm


def adapt_torchvision(tfm: Any, slot: str) -> Transform:
    """The transform of this library that applies one of torchvision.

    Args:
        tfm: The transform.
        slot: Where it is given: "after_item", "before_batch" or "after_batch".
    """
    in_any = "after_item", "after_batch"
    check_slot("torchvision's", tfm, slot, in_any)
    if isinstance(tfm, nn.Sequential):
        tfm = TorchvisionTransform.composed(list(tfm))
    steps = list(tfm.modules()) if isinstance(tfm, nn.Module) else getattr(tfm, "transforms", [tfm])
    for step in steps:
        if isinstance(step, (v1.Normalize, v2.Normalize)):
            raise refused_normalize("torchvision's", step.mean, step.std)
        # the bytes of batches are floats by then
        check_slot("torchvision's", step, slot, in_any[:1] if isinstance(step, v2.JPEG) else in_any)
        if isinstance(step, (v2.MixUp, v2.CutMix)):
            raise BadArgument(
                f"torchvision's {type(step).__name__} mixes labels too, which transforms leave alone",
                fix=f"the callback: Learner(..., cbs={type(step).__name__}())",
            )
    return TorchvisionTransform(tfm, order=50 if slot == "after_batch" else 1)


foreign_transforms.add("torchvision", adapt_torchvision)
