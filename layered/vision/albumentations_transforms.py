"""Transforms of albumentations, where transforms of loaders are given."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layered.data import foreign_transforms
from layered.foundation import BadValue, Transform, draw_generator, lazy, transforms
from layered.vision.foreign_data import Describable, NotPlain
from layered.vision.foreign_transforms import ForeignTransform, Part, check_slot, refused_normalize, rescaled

A = lazy("albumentations")

_SETS_THE_SIZE = {
    "AtLeastOneBBoxRandomCrop", "CenterCrop", "Crop", "CropNonEmptyMaskIfExists", "LongestMaxSize", "Pad", "PadIfNeeded",
    "RandomCrop", "RandomResizedCrop", "RandomSizedBBoxSafeCrop", "RandomSizedCrop", "Resize", "SmallestMaxSize",
}  # fmt: skip
_IN_FILES = (
    "BboxParams", "CenterCrop", "Crop", "FromFloat", "InvertImg", "LongestMaxSize", "NoOp", "Pad", "PadIfNeeded", "Resize",
    "SmallestMaxSize", "ToFloat", "ToGray", "ToRGB", "ToSepia",
)  # fmt: skip
_FLIPS = {"HorizontalFlip", "VerticalFlip", "Transpose"}  # for training, whatever p is


@transforms.register()
class AlbumentationsTransform(ForeignTransform):
    """A transform of albumentations, which draws once for a sample: see `ForeignTransform`.

    What draws parameters, flips, or has p below 1 applies in training only, unless it sets the size.

    Args:
        tfm: A transform of albumentations, such as `A.Compose`; None changes nothing.
        order: Where it stands in a `Pipeline`: smaller first.
    """

    whose = "albumentations'"

    def __init__(self, tfm: Any = None, order: float = 1) -> None:
        super().__init__(tfm, order)
        self._composed: dict[tuple[bool, tuple[str, ...]], Any] = {}

    def for_validation(self, tfm: Any) -> Any:
        """What is left where nothing is drawn at random: of `Compose`, the steps that are not random.

        Args:
            tfm: The transform.
        """
        if tfm.p < 1:
            return None
        if isinstance(tfm, A.BaseCompose):
            steps = [self.for_validation(step) for step in tfm.transforms]
            if isinstance(tfm, A.OneOf):
                return None if None in steps else tfm
            kept = [step for step in steps if step is not None]
            return A.Sequential(kept, p=1) if kept and isinstance(tfm, (A.Compose, A.Sequential)) else None
        kind = type(tfm)
        if kind.__name__ in _SETS_THE_SIZE:
            return tfm
        draws = any(
            getattr(kind, name) is not getattr(A.BasicTransform, name)
            for name in ("get_params", "get_params_dependent_on_data")
        )
        return None if draws or kind.__name__ in _FLIPS else tfm

    @classmethod
    @functools.cache
    def describable(cls) -> Describable:
        """The transforms that draw nothing, with arguments by which they do not, and `BboxParams`."""
        return Describable({name: getattr(A, name) for name in _IN_FILES if hasattr(A, name)}, kept=_kept)

    def steps(self) -> list[Any]:
        """What applies to predictions: those in compositions, and what the user's says of boxes."""
        boxes = self.tfm.processors.get("bboxes")
        return [*_steps(self.valid_tfm, (A.Compose, A.Sequential)), *([] if boxes is None else [boxes.params])]

    @classmethod
    def composed(cls, steps: list[Any]) -> Any:
        """`A.Compose` of transforms and of `BboxParams`.

        Args:
            steps: As from `steps`.
        """
        boxes = next((step for step in steps if isinstance(step, A.BboxParams)), None)
        return A.Compose([step for step in steps if step is not boxes], bbox_params=boxes)

    def apply(self, tfm: Any, parts: Sequence[Part]) -> Sequence[Any]:
        """One call for all parts, as arrays by name.

        Args:
            tfm: The transform.
            parts: The parts of the sample.
        """
        kinds = [part.kind for part in parts]
        if "image" not in kinds:
            raise BadValue(f"albumentations' {type(tfm).__name__} moves masks with an image", got="a mask alone")
        names = tuple(f"{_KEYS[kind]}{kinds[:i].count(kind) or ''}" for i, kind in enumerate(kinds))
        key = tfm is self.valid_tfm, names
        if key not in self._composed:
            self._composed[key] = self._compose(
                tfm, {name: _KEYS[kind] for name, kind in zip(names, kinds, strict=True)}
            )
        composed = self._composed[key]
        # not set_random_seed, which gives all steps the same numbers
        seed = draw_generator().initial_seed()
        composed.set_random_state(np.random.default_rng(seed), random.Random(seed))
        made = composed(**dict(zip(names, map(_as_array, parts), strict=True)))
        return [_as_tensor(made[name], part) for name, part in zip(names, parts, strict=True)]

    def _compose(self, tfm: Any, targets: dict[str, str]) -> Any:
        """A composition for these parts, with what the user's says of boxes, but for their format, which we know."""
        params: dict[str, Any] = {}
        given = {name: processor.params for name, processor in self.tfm.processors.items()}
        if "bboxes" in targets:
            boxes = copy.copy(given.get("bboxes") or A.BboxParams("pascal_voc"))
            boxes.format, boxes.label_fields, boxes.clip = "pascal_voc", None, True
            params["bbox_params"] = boxes
        if "keypoints" in targets:  # which keep their number
            params["keypoint_params"] = A.KeypointParams("xy", remove_invisible=False)
        return A.Compose([copy.deepcopy(tfm)], additional_targets=targets, **params)


_KEYS = {"image": "image", "mask": "mask", "boxes": "bboxes", "points": "keypoints"}


def _as_array(part: Part) -> Any:
    """[height, width, channel] or, for a mask, [height, width], in a dtype that OpenCV knows; boxes with their numbers."""
    if part.kind == "boxes":
        return np.column_stack((part.tensor.numpy(), np.arange(len(part.tensor), dtype=np.float32)))
    if part.tensor.dtype in (torch.uint8, torch.float32):
        tensor = part.tensor
    else:
        tensor = part.tensor.float() if part.kind == "mask" else rescaled(part.tensor, torch.float32)
    return (tensor.movedim(0, -1) if tensor.ndim == 3 else tensor).numpy()


def _as_tensor(made: Any, part: Part) -> Tensor:
    if part.kind == "boxes":
        boxes = torch.zeros_like(part.tensor)
        if len(made):  # else it has lost its columns
            boxes[made[:, 4].astype(int)] = torch.from_numpy(made[:, :4].astype(np.float32))
        return boxes
    if part.kind == "points" and len(made) != len(part.tensor):
        raise BadValue(
            "a transform of albumentations removed points, which keep their number",
            got=f"{len(made)} of {len(part.tensor)} points",
        )
    if isinstance(made, Tensor):  # of ToTensorV2
        return made
    tensor = torch.from_numpy(np.ascontiguousarray(made))
    return tensor.movedim(-1, 0) if tensor.ndim == 3 else tensor


def _kept(step: Any, name: str) -> Any:
    value = getattr(step, name)
    if (name in ("position", "pad_position") and value == "random") or (name == "max_size" and isinstance(value, list)):
        raise NotPlain(f"it draws its {name} at random")
    return value


def _steps(tfm: Any, entered: Any) -> Iterator[Any]:
    """The transforms in compositions of these classes, a tuple; not the compositions."""
    if isinstance(tfm, entered):
        for step in tfm.transforms:
            yield from _steps(step, entered)
    else:
        yield tfm


def adapt_albumentations(tfm: Any, slot: str) -> Transform:
    """The transform of this library that applies one of albumentations.

    Args:
        tfm: The transform.
        slot: Where it is given: "after_item", "before_batch" or "after_batch".
    """
    check_slot("albumentations'", tfm, slot, ("after_item",))
    for step in _steps(tfm, (A.BaseCompose,)):
        if isinstance(step, A.Normalize):
            raise refused_normalize("albumentations'", step.mean, step.std)
    return AlbumentationsTransform(tfm)


foreign_transforms.add("albumentations", adapt_albumentations)
