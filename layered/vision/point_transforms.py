"""Points and boxes on their way from an annotation to a batch and back: scaled to their image, labelled, padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from layered.data import MultiCategorize, as_dataset
from layered.foundation import (
    BadValue,
    ItemTransform,
    TensorMultiCategory,
    Transform,
    functions,
    transforms,
    with_elements,
)
from layered.vision.points import BoxLabels, LabeledBBox, TensorBBox, TensorPoint, from_pixels, in_pixels
from layered.vision.reading import STORED_TURNED
from layered.vision.targets import boxes_in, has_area, image_size, labels_of_boxes, without_empty_boxes


@transforms.register()
class TensorPointCreate(ItemTransform):
    """Numbers to a `TensorPoint`: as many points for each item as in the first training item.

    Args:
        c: Numbers per item, two for each point: the outputs of a model; by default counted in the first item.

    Examples:
        >>> TensorPointCreate()([[1, 2], [3, 4]])
        TensorPoint([[1., 2.],
                     [3., 4.]])
    """

    target_kind: ClassVar[str | None] = "regression"
    makes: ClassVar[type | None] = TensorPoint
    fits = ("c",)

    def __init__(self, c: int | None = None) -> None:
        super().__init__()
        self.c = c

    def setup_items(self, items: Any) -> None:
        if self.c is None and items is not None:
            self.c = TensorPoint.create(items[0]).numel()

    def encode_numbers(self, o: object) -> TensorPoint:
        points = o if isinstance(o, TensorPoint) else TensorPoint.create(o)
        if self.c is not None and points.numel() != self.c:
            raise BadValue(
                "the items differ in their number of points",
                got=f"{len(points)} points; {self.c // 2} in the first training item",
                expected="the same points in each item, in the same order",
                fix="leave out items where some are missing, or BBoxBlock for boxes, of which there may be any number",
            )
        return points


@transforms.register()
class TensorBBoxCreate(ItemTransform):
    """Numbers to a `TensorBBox`, of any number of boxes.

    Examples:
        >>> TensorBBoxCreate()([[1, 2, 3, 4]])
        TensorBBox([[1., 2., 3., 4.]])
    """

    makes: ClassVar[type | None] = TensorBBox

    def encode_numbers(self, o: object) -> TensorBBox:
        return o if isinstance(o, TensorBBox) else TensorBBox.create(o)


@transforms.register()
class PointScaler(Transform):
    """Points and boxes from pixels of their image to -1 … 1, before anything moves them, and back.

    Boxes are cut off at the border of their image. Decoded ones are in the pixels of the image that they are decoded with,
    which has the size that the model saw.

    Args:
        do_scale: False for annotations that are from -1 to 1 already.
        y_first: For annotations that are (y, x), or (top, left, bottom, right).
        keep_outside: Accept points and boxes that lie outside their image by more than a pixel: points stay where they are,
            beyond -1 or 1, and of boxes only what lies inside is kept. By default they are refused, since they usually
            belong to another image or size, or are (y, x).

    Examples:
        >>> image = Image.new("RGB", (100, 50))
        >>> PointScaler()((image, TensorPoint.create([(0, 0), (100, 50), (25, 25)])))[1]
        TensorPoint([[-1.0000, -1.0000],
                     [ 1.0000,  1.0000],
                     [-0.5000,  0.0000]])
    """

    order = -1
    needs_inputs: ClassVar[bool] = True

    def __init__(self, do_scale: bool = True, y_first: bool = False, keep_outside: bool = False) -> None:
        super().__init__()
        self.do_scale, self.y_first, self.keep_outside = do_scale, y_first, keep_outside

    def __call__(self, x: object, split_idx: int | None = None) -> Any:
        sample = x if isinstance(x, tuple) else (x,)
        if not any(isinstance(o, TensorPoint) for o in sample):
            return x
        image = next((o for o in sample if isinstance(o, Image.Image)), None)
        turned: int = 1 if image is None else image.info.get(STORED_TURNED, 1)
        size = image_size(sample)
        scaled = tuple(self._scaled(o, size, turned) if isinstance(o, TensorPoint) else o for o in sample)
        if not isinstance(x, tuple):
            return scaled[0]
        return without_empty_boxes(with_elements(x, scaled))

    def decode(self, x: object, split_idx: int | None = None) -> Any:
        """Points and boxes of a decoded sample, in pixels.

        Args:
            x: The sample, with its image.
            split_idx: Ignored: this is undone for all splits.
        """
        if not isinstance(x, tuple):
            return x
        size = image_size(x)
        if size is None:
            return x
        undone = [
            type(o)(in_pixels(o, size).reshape(-1, o.numbers), img_size=size) if isinstance(o, TensorPoint) else o
            for o in x
        ]
        return with_elements(x, undone)

    def _scaled(self, o: TensorPoint, size: tuple[int, int] | None, turned: int) -> TensorPoint:
        points = o.as_plain().reshape(-1, 2)
        points = points.flip(-1) if self.y_first else points
        if self.do_scale:
            measured = o.img_size or size
            if measured is None:
                raise BadValue(
                    f"a {type(o).__name__} is scaled to its image, and the sample has none",
                    fix="ImageBlock for the input, or TensorPoint.create(points, img_size=(width, height))",
                )
            self._check_inside(o, points, measured, turned)
            points = from_pixels(points, measured)
        scaled = points.reshape(-1, o.numbers)
        if isinstance(o, TensorBBox):
            _check_boxes(o, scaled)
            scaled = scaled.clamp(-1, 1)
        return type(o)(scaled)

    def _check_inside(self, o: TensorPoint, points: Tensor, size: tuple[int, int], turned: int) -> None:
        if self.keep_outside or not points.numel() or _are_inside(points, size):
            return
        if turned >= 5 and _are_inside(points, size[::-1]):
            raise BadValue(
                "the image is turned upright by its EXIF tag, and its annotation lies on the image as it is stored",
                got=f"EXIF orientation {turned}, an image of {_size(size)} upright, {_range(points)}",
                fix="PIL.Image.open(file).save(file), which drops the tag (import PIL.Image)",
            )
        raise BadValue(
            f"{'boxes lie' if isinstance(o, TensorBBox) else 'points lie'} outside their image",
            got=f"{_range(points)}, in an image of {_size(size)}",
            expected=f"x from 0 to {size[0]}, y from 0 to {size[1]}"
            + (f", or for (y, x) {type(self).__name__}(y_first=True)" if _are_inside(points.flip(-1), size) else ""),
            fix="correct the annotation; if it is right, item_tfms=[..., PointScaler(keep_outside=True)]",
        )


def _are_inside(points: Tensor, size: tuple[int, int]) -> bool:
    return bool(((points >= -1) & (points <= points.new_tensor(size) + 1)).all())


def _range(points: Tensor) -> str:
    (left, top), (right, bottom) = points.amin(0).tolist(), points.amax(0).tolist()
    return f"x from {left:g} to {right:g}, y from {top:g} to {bottom:g}"


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _check_boxes(given: TensorBBox, boxes: Tensor) -> None:
    wrong = ~((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    if wrong.any():
        numbers = given.as_plain()[wrong][0].tolist()
        raise BadValue(
            "a box is empty or inverted",
            got=", ".join(f"{n:g}" for n in numbers),
            expected="(left, top, right, bottom), with left < right and top < bottom",
            fix="for (left, top, width, height), return [(x, y, x + w, y + h) for x, y, w, h in boxes] from get_y; "
            "leave out boxes without an area",
        )


@transforms.register()
class BBoxCategorize(MultiCategorize):
    """The labels of the boxes of an item to their positions in the vocabulary, and back to `BoxLabels`.

    Args:
        vocab: The vocabulary, in order; by default fitted on the training items, and sorted.
        add_na: Reserve position 0, '#na#', for padding and for unknown labels.
        unseen: How a `DataBlock` treats labels that only validation items have: see `Categorize`.
    """

    makes: ClassVar[type | None] = TensorMultiCategory

    def decode_index(self, o: Any) -> BoxLabels:  # type: ignore[override]  # shown by the boxes, not as a title
        return BoxLabels([self.fitted_vocab[int(i)] for i in o], use_list=True)


@transforms.register()
class BBoxLabeler(Transform):
    """Check that each box has a label; decoding joins the two as `LabeledBBox` and leaves out padding.

    Args:
        vocab: The vocabulary; by default that of the `BBoxLblBlock`.
    """

    order = -2
    fits = ("vocab",)

    def __init__(self, vocab: Sequence[Any] | None = None) -> None:
        super().__init__()
        self.vocab = vocab

    def setup_loader(self, dl: Any) -> None:
        if self.vocab is None:
            steps = [step for column in as_dataset(dl.dataset).columns for step in column.tfms]
            self.vocab = next((step.vocab for step in steps if isinstance(step, BBoxCategorize)), None)

    def __call__(self, x: object, split_idx: int | None = None) -> Any:
        for i in boxes_in(x):
            assert isinstance(x, tuple)  # where there are boxes
            j = labels_of_boxes(x, i)
            if j is not None and len(x[i]) != len(x[j]):
                raise BadValue(
                    "boxes and labels differ in number",
                    got=f"{len(x[i])} boxes and {len(x[j])} labels",
                    expected="a label for each box",
                    fix="get_y=[boxes_of, labels_of], each a function that returns a list for an item",
                )
        return x

    def decode(self, x: object, split_idx: int | None = None) -> Any:
        """A sample with its boxes and labels joined, without padding.

        Args:
            x: The sample.
            split_idx: Ignored: this is undone for all splits.
        """
        if not isinstance(x, tuple):
            return x
        sample = list(x)
        for i in boxes_in(x):
            boxes, j = x[i], labels_of_boxes(x, i)
            kept = has_area(boxes)
            if j is not None and self.vocab is not None:
                sample[j] = x[j][kept]
                sample[i] = LabeledBBox(boxes[kept], [self.vocab[int(k)] for k in sample[j]])
            else:
                sample[i] = boxes[kept]
        return with_elements(x, sample)


def bb_pad(samples: Sequence[Any], pad_idx: int = 0) -> list[Any]:
    """Pad the boxes of each sample to the largest number in the batch, with zeros, and their labels with `pad_idx`.

    Boxes without an area are left out first.

    Args:
        samples: Samples as tuples; labels stand right after their boxes.
        pad_idx: The label of padding.

    Examples:
        >>> few, many = TensorBBox.create([[-1, -1, 1, 1]]) , TensorBBox.create([[-1, -1, 0, 0], [0, 0, 1, 1]])
        >>> [boxes.shape for boxes, in bb_pad([(few,), (many,)])]
        [torch.Size([2, 4]), torch.Size([2, 4])]
    """
    samples = [without_empty_boxes(sample) for sample in samples]
    longest = max((len(sample[i]) for sample in samples for i in boxes_in(sample)), default=0)
    return [_padded(sample, longest, pad_idx) for sample in samples]


def _padded(sample: Any, longest: int, pad_idx: int) -> Any:
    places = boxes_in(sample)
    if not places:
        return sample
    made = list(sample)
    for i in places:
        j, missing = labels_of_boxes(sample, i), longest - len(sample[i])
        made[i] = F.pad(sample[i], (0, 0, 0, missing))
        if j is not None:
            made[j] = F.pad(sample[j], (0, missing), value=pad_idx)
            made[j].pad_idx = pad_idx
    return with_elements(sample, made)


functions.add("vision.TensorBBox.create", TensorBBox.create)
functions.add("vision.bb_pad", bb_pad)
