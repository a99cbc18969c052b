"""The blocks of image data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from layered.data import IntToFloatTensor, TransformBlock
from layered.foundation import BadArgument, TensorMask, Transform, transforms
from layered.vision.item_transforms import AlignMasks
from layered.vision.point_transforms import (
    BBoxCategorize,
    BBoxLabeler,
    PointScaler,
    TensorBBoxCreate,
    TensorPointCreate,
    bb_pad,
)
from layered.vision.types import PILBase, PILImage, PILMask


def ImageBlock(cls: type[PILBase] = PILImage) -> TransformBlock:
    """An image for each item: anything `cls.create` reads. Batches are floats in [0, 1], [batch, channel, height, width].

    Args:
        cls: `PILImage` (colour), `PILImageBW` (grey), `PILImageBW16` (grey, 16 bits), `MultiChannelImage` (any number of
            channels, of 8 or 16 bits), or your own subclass.
    """
    return TransformBlock(type_tfms=cls.create, batch_tfms=IntToFloatTensor)


def MaskBlock(codes: Sequence[str] | None = None) -> TransformBlock:
    """A class for each pixel. Batches are int64 [batch, height, width].

    A mask of another size than its image is resized where the aspect ratio is the same, and refused otherwise.

    Args:
        codes: Names of the classes, in order.
    """
    return TransformBlock([PILMask.create, AddMaskCodes(codes)], AlignMasks(), IntToFloatTensor)


def PointBlock(n_out: int | None = None) -> TransformBlock:
    """Points in the image, as many in each item: (x, y) in pixels of the image as it is seen, upright.

    Batches are float32 [batch, point, 2], each from -1 to 1 between the borders of the image; points move with it, and one
    that leaves it stays a point beyond them. `item_tfms=[..., PointScaler(y_first=True)]` reads (y, x).

    Args:
        n_out: Numbers per item, two for each point; by default counted in the first training item.

    Examples:
        >>> PointBlock()
        TransformBlock(type_tfms=[TensorPointCreate()], item_tfms=[PointScaler()])
    """
    return TransformBlock(TensorPointCreate(n_out), PointScaler())


def BBoxBlock() -> TransformBlock:
    """Boxes in the image, any number in each item: (left, top, right, bottom) in pixels of the image as it is seen, upright.

    Batches are float32 [batch, box, 4], each from -1 to 1 between the borders of the image, padded with zeros. A box that
    moves with its image becomes the upright box around where it lies, cut off at the border; one that has left it is gone.
    """
    return TransformBlock(TensorBBoxCreate(), PointScaler(), dls_kwargs={"before_batch": bb_pad})


def BBoxLblBlock(vocab: Sequence[str] | None = None, add_na: bool = True) -> TransformBlock:
    """The labels of the boxes of a `BBoxBlock`, which stands before it. Batches are int64 [batch, box], padded with 0.

        DataBlock((ImageBlock, BBoxBlock, BBoxLblBlock), get_y=[boxes_of, labels_of], n_inp=1)

    Args:
        vocab: The labels, in order; by default the sorted labels of the training items.
        add_na: Reserve class 0, '#na#', for padding and for unknown labels.
    """
    return TransformBlock(BBoxCategorize(vocab, add_na), BBoxLabeler(), dls_kwargs={"before_batch": bb_pad})


@transforms.register()
class AddMaskCodes(Transform):
    """Give masks the names of their classes, and the data set its `vocab` and `c`.

    Args:
        codes: Names of the classes, in order.

    Raises:
        BadArgument: `codes` is a single text.
    """

    target_kind: ClassVar[str | None] = "mask"

    def __init__(self, codes: Sequence[str] | None = None) -> None:
        super().__init__()
        if isinstance(codes, str):
            raise BadArgument(
                "codes are the names of the classes, one for each",
                got=repr(codes),
                expected="a list of names",
                fix="codes=['sky', 'road']; from a file, codes=open('codes.txt').read().splitlines()",
            )
        self.codes = None if codes is None else [str(code) for code in codes]
        if self.codes is not None:
            self.vocab, self.c = self.codes, len(self.codes)

    def decode_mask(self, x: TensorMask) -> TensorMask:
        return TensorMask(x, codes=self.codes)
