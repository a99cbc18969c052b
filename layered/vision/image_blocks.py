"""The blocks of image data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from layered.data import IntToFloatTensor, TransformBlock
from layered.foundation import TensorMask, Transform, transforms
from layered.vision.item_transforms import AlignMasks
from layered.vision.types import PILBase, PILImage, PILMask


def ImageBlock(cls: type[PILBase] = PILImage) -> TransformBlock:
    """An image for each item: anything `cls.create` reads. Batches are floats in [0, 1], [batch, channel, height, width].

    Args:
        cls: `PILImage` (colour), `PILImageBW` (grey), or your own subclass.
    """
    return TransformBlock(type_tfms=cls.create, batch_tfms=IntToFloatTensor)


def MaskBlock(codes: Sequence[str] | None = None) -> TransformBlock:
    """A class for each pixel. Batches are int64 [batch, height, width].

    A mask of another size than its image is resized where the aspect ratio is the same, and refused otherwise.

    Args:
        codes: Names of the classes, in order.
    """
    return TransformBlock([PILMask.create, AddMaskCodes(codes)], AlignMasks(), IntToFloatTensor)


@transforms.register()
class AddMaskCodes(Transform):
    """Give masks the names of their classes, and the data set its `vocab` and `c`.

    Args:
        codes: Names of the classes, in order.
    """

    target_kind: ClassVar[str | None] = "mask"

    def __init__(self, codes: Sequence[str] | None = None) -> None:
        super().__init__()
        self.codes = None if codes is None else [str(code) for code in codes]
        if self.codes is not None:
            self.vocab, self.c = self.codes, len(self.codes)

    def decode_mask(self, x: TensorMask) -> TensorMask:
        return TensorMask(x, codes=self.codes)
