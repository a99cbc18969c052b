"""Transforms of kornia, where transforms of loaders are given."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from layered.data import foreign_transforms
from layered.foundation import BadArgument, BadValue, Transform, lazy, leaves, transforms
from layered.vision.foreign_data import Describable
from layered.vision.foreign_transforms import ForeignTransform, Part, check_slot, is_part, refused_normalize, rescaled
from layered.vision.targets import boxes_in, labels_of_boxes

K, enhance, constants = map(lazy, ("kornia.augmentation", "kornia.enhance", "kornia.constants"))

_SETS_THE_SIZE = {
    "CenterCrop", "LongestMaxSize", "PadTo", "RandomCrop", "RandomResizedCrop", "Resize", "SmallestMaxSize",
}  # fmt: skip
_IN_FILES = ("CenterCrop", "PadTo", "Resize")


@transforms.register()
class KorniaTransform(ForeignTransform):
    """A transform of kornia, which draws for each image of a batch: see `ForeignTransform`.

    What belongs to images moves with them as in `kornia.augmentation.AugmentationSequential`. Augmentations apply in training
    only, unless they set the size; other modules of kornia (filters, colours) apply to validation too.

    Args:
        tfm: A module of kornia; None changes nothing.
        order: Where it stands in a `Pipeline`: smaller first.
    """

    whose = "kornia's"

    def __call__(self, x: object, split_idx: int | None = None) -> Any:
        if split_idx != 1 and any(isinstance(step, K.RandomMosaic) for step in _steps(self.tfm)):
            of_boxes = [x[j] for i in boxes_in(x) if (j := labels_of_boxes(x, i)) is not None]  # type: ignore[index,arg-type]  # a tuple
            labels = [o for o in leaves(x) if not is_part(o) and all(o is not known for known in of_boxes)]
            if labels:
                raise BadValue(
                    "kornia's RandomMosaic makes one image of several, whose labels may differ",
                    got=" and ".join(type(o).__name__ for o in labels),
                    fix="the callback that mixes labels too: Learner(..., cbs=CutMix())",
                )
        return super().__call__(x, split_idx)

    def for_validation(self, tfm: Any) -> Any:
        """What is left where nothing is drawn at random: of a sequence, the steps that set the size or draw nothing.

        Args:
            tfm: The module.
        """
        if type(tfm) in (K.AugmentationSequential, K.ImageSequential) and not tfm.random_apply:
            steps = [step for step in map(self.for_validation, tfm.children()) if step is not None]
            return _sequential(*steps, like=tfm) if steps else None
        augments = isinstance(tfm, (K.container.ImageSequentialBase, K.base._BasicAugmentationBase))
        return None if augments and type(tfm).__name__ not in _SETS_THE_SIZE else tfm

    @classmethod
    @functools.cache
    def describable(cls) -> Describable:
        """The augmentations that set the size and draw nothing."""
        return Describable({name: getattr(K, name) for name in _IN_FILES}, [constants.Resample], _kept)

    def steps(self) -> list[Any]:
        """What applies to predictions: those in sequences, not the sequences."""
        tfm: Any = self.valid_tfm
        usual = _sequential().extra_args
        if any(o.extra_args != usual for o in tfm.modules() if isinstance(o, K.AugmentationSequential)):
            return [tfm]  # which cannot be described
        return list(_steps(tfm))

    @classmethod
    def composed(cls, steps: list[Any]) -> Any:
        """`AugmentationSequential` of several.

        Args:
            steps: As from `steps`.
        """
        return _sequential(*steps)

    def apply(self, tfm: Any, parts: Sequence[Part]) -> Sequence[Any]:
        """One call for all parts, as batches of floats.

        Args:
            tfm: The module.
            parts: The parts of the sample.
        """
        image = next((part.tensor for part in parts if part.kind == "image"), None)
        if image is None:
            raise BadValue(f"kornia's {type(tfm).__name__} moves masks with an image", got="a mask alone")
        pixels = [part.tensor for part in parts if part.kind in ("image", "mask")]
        if any(o.shape[-2:] != image.shape[-2:] for o in pixels):
            raise BadValue(
                f"kornia's {type(tfm).__name__} changes images of one size by one draw",
                got=" and ".join(f"{o.shape[-1]}×{o.shape[-2]}" for o in pixels),
                fix="item_tfms=Resize(224) before it, or torchvision.transforms.v2",
            )
        given = [_as_batch(part, image.ndim == 3) for part in parts]
        if len(given) == 1 and not isinstance(tfm, K.AugmentationSequential):
            made = [tfm(given[0])]
        else:
            _check_moves_together(tfm, parts)
            sequential = tfm if isinstance(tfm, K.AugmentationSequential) else _sequential(tfm)
            made = sequential(*given, data_keys=[_KEYS[part.kind] for part in parts])
            made = [made] if len(given) == 1 else made
        for step in tfm.modules():  # the batch, for a matrix that nobody reads; checkpoints could not hold it
            vars(step).pop("_lazy_matrix_args", None)
        return [_from_batch(new, part, image.ndim == 3) for new, part in zip(made, parts, strict=True)]

    def labels_of_moved(self, tfm: Any, labels: Tensor) -> Tensor:
        """The labels of the boxes of a mosaic: those of the images that it is made of.

        Args:
            tfm: The module that was applied.
            labels: Those of the boxes of each image: [batch, box].
        """
        for step in _steps(tfm):
            if isinstance(step, K.RandomMosaic) and (step._params["batch_prob"] > 0.5).any():
                chosen, sources = step._params["batch_prob"] > 0.5, step._params["permutation"].clone()
                sources[~chosen] = torch.arange(len(labels))[~chosen, None]  # their own, then padding
                labels = labels[sources.to(labels.device)].flatten(1)
        return labels


_KEYS = {"image": "input", "mask": "mask", "boxes": "bbox_xyxy", "points": "keypoints"}


def _sequential(*steps: Any, like: Any = None) -> Any:
    extra_args = like.extra_args if isinstance(like, K.AugmentationSequential) else None
    return K.AugmentationSequential(*steps, data_keys=["input"], extra_args=extra_args)


def _as_batch(part: Part, single: bool) -> Tensor:
    """Floats [batch, channel, height, width], the classes of masks, boxes [batch, box, 4], or points [batch, point, 2]."""
    if part.kind == "mask":
        return part.tensor.unsqueeze(-3) if not single else part.tensor.unsqueeze(0).unsqueeze(0)
    if part.kind != "image":
        numbers = part.tensor - 0.5 if part.kind == "boxes" else part.tensor  # kornia counts boxes as it counts points
        return numbers[None] if single else numbers
    pixels = part.tensor if part.tensor.is_floating_point() else rescaled(part.tensor, torch.float32)
    return pixels[None] if single else pixels


def _from_batch(made: Tensor, part: Part, single: bool) -> Tensor:
    made = made[0] if single else made
    if part.kind == "mask":
        return made.squeeze(-3)
    if part.kind != "image":
        return made + 0.5 if part.kind == "boxes" else made
    # noise leaves the range of bytes, which end there
    return made if part.tensor.is_floating_point() else made.clamp(0, 1)


def _check_moves_together(tfm: Any, parts: Sequence[Part]) -> None:
    kinds = {part.kind for part in parts}
    alone = [
        type(step)
        for step in _steps(tfm)
        if (kinds != {"image"} and type(step).__module__.startswith("kornia.geometry"))
        or (kinds & {"boxes", "points"} and isinstance(step, K.AugmentationBase2D) and not _moves_rigidly(step))
    ]
    if alone:
        raise BadValue(
            f"kornia's {alone[0].__name__} moves images and leaves what belongs to them where it was",
            got=f"a sample with {' and '.join(type(part.given).__name__ for part in parts)}",
            fix="one of kornia.augmentation that moves them too: K.RandomHorizontalFlip(p=1.0), K.RandomAffine(10.0), …",
        )


def _moves_rigidly(step: object) -> bool:
    """Whether points follow, or nothing moves; of other warps kornia returns them as they were."""
    return isinstance(step, (K.RigidAffineAugmentationBase2D, K.IntensityAugmentationBase2D))


def _kept(step: Any, name: str) -> Any:
    return step.flags[name] if name in step.flags else getattr(step, name)


def _steps(tfm: Any) -> Iterator[Any]:
    """The modules that change something: those in sequences, not the sequences."""
    if isinstance(tfm, nn.Sequential):
        for step in tfm.children():
            yield from _steps(step)
    else:
        yield tfm


def adapt_kornia(tfm: Any, slot: str) -> Transform:
    """The transform of this library that applies one of kornia.

    Args:
        tfm: The module.
        slot: Where it is given: "after_item", "before_batch" or "after_batch".
    """
    check_slot("kornia's", tfm, slot, ("after_item", "after_batch"))
    for step in _steps(tfm):
        if isinstance(step, (K.Normalize, K.Denormalize)):
            raise refused_normalize("kornia's", step.flags["mean"], step.flags["std"])
        if isinstance(step, (enhance.Normalize, enhance.Denormalize)):
            raise refused_normalize("kornia's", step.mean, step.std)
        if isinstance(step, (K.RandomMixUpV2, K.RandomCutMixV2, K.PatchMix)):
            callback = "MixUp" if isinstance(step, K.RandomMixUpV2) else "CutMix"
            raise BadArgument(
                f"kornia's {type(step).__name__} mixes labels too, which transforms leave alone",
                fix=f"the callback: Learner(..., cbs={callback}())",
            )
        if isinstance(step, K.AugmentationBase3D):
            raise BadArgument(f"kornia's {type(step).__name__} is for volumes", expected="a transform of images")
        if isinstance(step, (K.RandomMosaic, K.RandomTransplantation)):  # of several images, one
            check_slot("kornia's", step, slot, ("after_batch",))
    if isinstance(tfm, nn.Sequential) and not isinstance(tfm, K.container.ImageSequentialBase):
        tfm = _sequential(*_steps(tfm))
    return KorniaTransform(tfm, order=50 if slot == "after_batch" else 1)


foreign_transforms.add("kornia", adapt_kornia)
