"""How well objects are found: average precision as COCO defines it."""

from __future__ import annotations

import operator
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from layered.foundation import BadArgument, BadValue, checked, describe, plain
from layered.metrics.metric import Expression, Metric, Predicted

Numbers: TypeAlias = NDArray[Any]
Boxes: TypeAlias = Tensor | Sequence[Tensor]  # a batch with padding, or a tensor for each image

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())  # which are not all 0.05 * i to the last bit
RECALLS = np.linspace(0, 1, 101)
AREAS = {None: (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}  # in pixels
PER_CLASS = 100  # how many objects of a class count in an image
AT_ONCE = 2_000_000  # numbers that matching works on at once


class FoundBoxes(Metric):
    """The objects that were found and the actual ones; the value is the precision [threshold, class, size].

    Args:
        thresholds: The overlaps from which a found box counts as an object.
    """

    state = ("batches",)
    batches: tuple[tuple[Tensor, Tensor], ...] = ()

    def __init__(self, thresholds: tuple[float, ...] = THRESHOLDS) -> None:
        self.thresholds = thresholds
        self._computed: tuple[object, Numbers] | None = None

    def identity(self) -> Hashable:
        return type(self), self.thresholds

    def accumulate(self, learn: Predicted) -> None:
        pred, size = self.prediction(learn), learn.xb[0].shape[-2:][::-1]
        _check_found(pred)
        boxes, *others = learn.yb
        self.update({**pred, "boxes": _pixels(pred["boxes"], size)}, _pixels(boxes, size), *others)

    def update(self, pred: Mapping[str, Boxes], *targ: Any) -> None:
        _check_found(pred)
        boxes, labels, crowd = (*targ, None, None)[:3]
        found, actual = _batch(pred["boxes"]), _batch(boxes)
        if len(found) != len(actual):
            raise BadValue(
                "predictions and targets are of another number of images",
                got=f"boxes {describe(found)} and {describe(actual)}",
            )
        kinds = torch.ones(actual.shape[:2], device=actual.device) if labels is None else _batch(labels)
        crowds = torch.zeros_like(kinds) if crowd is None else _batch(crowd)
        self.batches = (
            *self.batches,
            (_rows(found, _batch(pred["labels"]), _batch(pred["scores"])), _rows(actual, kinds, crowds)),
        )

    def compute(self) -> Numbers:
        if self._computed is None or self._computed[0] is not self.batches:
            found, actual = zip(*self.batches, strict=True)
            values = average_precision(_joined(found, True), _joined(actual, False), self.thresholds)
            self._computed = self.batches, values
        return self._computed[1]


class MeanAveragePrecision(Expression):
    """The mean over classes of the average precision of found objects, as COCO computes it.

    A found box is right if it overlaps an object of its class that no better one has found: the area of both in common, over
    that of either, is at least a threshold. The precision is averaged over 101 steps of recall, and over the thresholds 0.50,
    0.55, …, 0.95. Of an image, the best 100 boxes of each class count. Classes that no object has do not count; without any
    object, the value is nan. Objects of the background, class 0, are left out.

    Called by hand it takes predictions {"boxes", "labels", "scores"} and targets (boxes, labels[, crowd]): tensors with padding,
    such as those of `get_preds`, or a list with a tensor for each image. Boxes are (left, top, right, bottom), in pixels if
    `size` is to mean something. Boxes inside a crowd count neither as right nor as wrong.

    Args:
        iou: A single threshold in place of the ten: 0.5, 0.75.
        size: Count "small" objects, of less than 32² pixels of the batch, "medium" ones or "large" ones, of more than 96².
        average: None gives the value of each class, nan for those that no object has; `metric[2]` is that of class 2.

    Raises:
        BadValue: An argument is out of range.

    Source: Lin et al. 2014, arXiv:1405.0312

    Examples:
        >>> box = torch.tensor([[[0.0, 0, 10, 10]]])
        >>> found = {"boxes": box + 1, "labels": torch.tensor([[1]]), "scores": torch.tensor([[0.9]])}
        >>> label = torch.tensor([[1]])
        >>> MeanAveragePrecision(iou=0.5)(found, box, label), MeanAveragePrecision()(found, box, label)
        (1.0, 0.4)
    """

    higher_is_better = True

    @checked
    def __init__(self, iou: float | None = None, size: str | None = None, average: str | None = "macro") -> None:
        if iou is not None and not 0 < iou <= 1:
            raise BadValue("iou is a share of two areas", got=iou, expected="a number from 0 to 1, such as 0.5")
        if size not in AREAS or average not in ("macro", None):
            raise BadValue(
                "unknown size or average",
                got=f"size={size!r}, average={average!r}",
                expected="None, 'small', 'medium' or 'large'; 'macro' or None",
            )
        self.iou, self.size, self.average = iou, size, average
        thresholds = THRESHOLDS if iou is None or np.isclose(THRESHOLDS, iou).any() else (iou,)
        name = "_".join(
            ["map", *([f"{100 * iou:g}"] if iou is not None else []), *([size] if size is not None else [])]
        )
        super().__init__(operator.pos, (FoundBoxes(thresholds),), name)

    def compute(self) -> Any:
        part: FoundBoxes = self.operands[0]
        values = part.compute()[:, :, list(AREAS).index(self.size)]
        each = torch.from_numpy(
            values[slice(None) if self.iou is None else np.isclose(part.thresholds, self.iou)].mean(0)
        )
        return each if self.average is None else each.nanmean()

    def __getitem__(self, index: object) -> Expression:
        each = MeanAveragePrecision(self.iou, self.size, average=None)
        return Expression(operator.getitem, (each, index), f"{self.name}[{index}]", higher_is_better=True)


class Objects(NamedTuple):
    """Objects of all images, found ones or real ones.

    Args:
        image: The number of the image: [object].
        kind: The class.
        box: Left, top, right, bottom: float64 [object, 4].
        value: The score of a found one; whether a real one is a crowd.
    """

    image: Numbers
    kind: Numbers
    box: Numbers
    value: Numbers

    def take(self, places: Numbers) -> Objects:
        """Those at some places, or where a mask is True."""
        return Objects(*(part[places] for part in self))

    @property
    def area(self) -> Numbers:
        """In the units of the boxes: [object]."""
        size: Numbers = self.box[:, 2:] - self.box[:, :2]
        return size[:, 0] * size[:, 1]


def average_precision(found: Objects, actual: Objects, thresholds: Sequence[float]) -> Numbers:
    """The average precision [threshold, class, size]; nan for a class and size that no object has.

    Args:
        found: The objects that were found.
        actual: The actual ones.
        thresholds: The overlaps from which a found one counts.
    """
    classes = 1 + int(max(found.kind.max(initial=0), actual.kind.max(initial=0)))
    order = np.lexsort((-found.value, found.kind, found.image))
    found = found.take(order)
    found = found.take(_rank(found.image * classes + found.kind) < PER_CLASS)
    actual = actual.take(np.lexsort((actual.kind, actual.image)))
    bounds = np.array(list(AREAS.values()))[:, :, None]
    ignored = (actual.value > 0) | (actual.area < bounds[:, 0]) | (actual.area > bounds[:, 1])  # [size, object]
    matched, uncounted = _matches(found, actual, ignored, classes, thresholds)
    outside = (found.area < bounds[:, 0]) | (found.area > bounds[:, 1])
    uncounted |= ~matched & outside[:, None]
    values = np.full((len(thresholds), classes, len(AREAS)), np.nan)
    for kind in range(1, classes):
        of_kind = np.flatnonzero(found.kind == kind)
        best = of_kind[np.argsort(-found.value[of_kind], kind="stable")]
        counts = (~ignored[:, actual.kind == kind]).sum(1)
        counted = ~uncounted[..., best]
        hits = (matched[..., best] & counted).cumsum(-1)
        misses = (~matched[..., best] & counted).cumsum(-1)
        for size in np.flatnonzero(counts):
            values[:, kind, size] = [_area(*run, counts[size]) for run in zip(hits[size], misses[size], strict=True)]
    return values


def _area(hits: Numbers, misses: Numbers, count: int) -> float:
    """The area below the curve of precision over recall, of which the precision of each recall is the best from there on."""
    precision = np.maximum.accumulate((hits / np.maximum(hits + misses, 1))[::-1])[::-1]
    places = np.searchsorted(hits / count, RECALLS)
    return float(np.append(precision, 0.0)[places].mean())


def _matches(
    found: Objects, actual: Objects, ignored: Numbers, classes: int, thresholds: Sequence[float]
) -> tuple[Numbers, Numbers]:
    """Which found objects have a real one, and which of those do not count: bool [size, threshold, object] each.

    In each image and class the best ones choose first, in rounds: each the real object that it overlaps most and that no
    other has taken, those that count before those that do not.
    """
    own, groups = found.image * classes + found.kind, actual.image * classes + actual.kind
    pairs = _near(found, actual, own, groups, min(thresholds))
    limits = np.minimum(np.array(thresholds), 1 - 1e-10)
    matched = np.zeros((len(found.image), len(AREAS), len(thresholds)), bool)
    uncounted = np.zeros_like(matched)
    taken = np.zeros((len(actual.image), len(AREAS), len(thresholds)), bool)
    who, starts, counts = np.unique(pairs.found, return_index=True, return_counts=True)
    rounds = _rank(own[who])
    for turn in range(rounds.max(initial=-1) + 1):
        now = rounds == turn
        place = starts[now, None] + np.arange(counts[now].max())
        exists = place < (starts + counts)[now, None]
        place = np.where(exists, place, 0)
        real, overlap = pairs.real[place], pairs.overlap[place]
        free = exists[..., None, None] & (~taken[real] | (actual.value[real] > 0)[..., None, None])
        free &= overlap[..., None, None] >= limits
        counts_for = ~ignored[:, real].transpose(1, 2, 0)[..., None]
        worth = np.where(free, overlap[..., None, None] + 2 * counts_for, 0)
        best = worth.shape[1] - 1 - worth[:, ::-1].argmax(1)  # the last of equals, [object, size, threshold]
        has_one = np.take_along_axis(worth, best[:, None], 1)[:, 0] > 0
        chosen = np.take_along_axis(real, best.reshape(len(real), -1), 1).reshape(best.shape)
        sizes, limit = np.indices(best.shape)[1:]
        taken[chosen[has_one], sizes[has_one], limit[has_one]] = True
        matched[who[now]] = has_one
        uncounted[who[now]] = has_one & ignored[sizes, chosen]
    return matched.transpose(1, 2, 0), uncounted.transpose(1, 2, 0)


class Pairs(NamedTuple):
    """Found objects and real ones of the same image and class that overlap, by their places and in the order of these."""

    found: Numbers
    real: Numbers
    overlap: Numbers


def _near(found: Objects, actual: Objects, own: Numbers, groups: Numbers, least: float) -> Pairs:
    """The pairs that overlap by `least`.

    Args:
        found: The objects that were found.
        actual: The actual ones.
        own: The image and class of each found one, as a number.
        groups: Those of the real ones, in ascending order.
        least: An overlap.
    """
    first, end = np.searchsorted(groups, own), np.searchsorted(groups, own, "right")
    parts = []
    for some in np.array_split(np.arange(len(own)), 1 + int((end - first).sum()) // AT_ONCE):
        counts = (end - first)[some]
        one = np.repeat(some, counts)
        real = np.arange(len(one)) + np.repeat(first[some] - (counts.cumsum() - counts), counts)
        overlap = _overlap(found.take(one), actual.take(real))
        is_near = overlap >= least - 1e-9
        parts.append(Pairs(one[is_near], real[is_near], overlap[is_near]))
    return Pairs(*map(np.concatenate, zip(*parts, strict=True)))


def _overlap(found: Objects, actual: Objects) -> Numbers:
    """The area in common over that of both, pair by pair; for a crowd over that of the found object."""
    low, high = np.maximum(found.box[:, :2], actual.box[:, :2]), np.minimum(found.box[:, 2:], actual.box[:, 2:])
    common: Numbers = np.prod((high - low).clip(0), axis=1)
    whole = found.area + np.where(actual.value > 0, 0, actual.area - common)
    share: Numbers = np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)
    return share


def _rank(keys: Numbers) -> Numbers:
    """The number of each element among its equals, which stand together: [0, 0, 1, 0] for [4, 7, 7, 9]."""
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return np.arange(len(keys)) - np.repeat(starts, np.diff(starts, append=len(keys)))


def _check_found(pred: object) -> None:
    """Refuse predictions of a model that does not find objects, or of a detector that trains."""
    if not isinstance(pred, Mapping) or not {"boxes", "labels", "scores"} <= pred.keys():
        raise BadArgument(
            "the metric is of objects that were found, and the predictions are of another kind",
            got=describe(pred),
            expected='{"boxes", "labels", "scores"}, which a detector gives when it evaluates, and not when it trains',
            fix="detection_learner, and no train_metrics in its Recorder",
        )


def _batch(rows: Boxes) -> Tensor:
    """Rows of each image as one plain tensor [batch, box, ...], padded with zeros."""
    if isinstance(rows, Tensor):
        return plain(rows).detach()
    return pad_sequence([plain(row).detach() for row in rows], batch_first=True) if len(rows) else torch.zeros(0, 0)


def _pixels(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Boxes from -1 to 1 in pixels of an image of (width, height)."""
    return (plain(boxes) + 1) / 2 * torch.tensor([*size, *size], device=boxes.device)


def _rows(boxes: Tensor, kinds: Tensor, values: Tensor) -> Tensor:
    """A row for each object: box, class and value: [batch, box, 6]."""
    return torch.cat((boxes.float(), kinds.float()[..., None], values.float()[..., None]), -1)


def _joined(batches: Sequence[Tensor], may_be_empty: bool) -> Objects:
    """The objects of all batches, without padding and background, which have no class; nor boxes without an area."""
    images = np.repeat(range(sum(map(len, batches))), [b.shape[1] for b in batches for _ in b])
    rows = np.concatenate([b.cpu().flatten(0, 1).double().numpy() for b in batches])
    objects = Objects(images, rows[:, 4].astype(np.int64), rows[:, :4], rows[:, 5])
    has_area = (rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1])
    return objects.take(np.flatnonzero((has_area | may_be_empty) & (objects.kind > 0)))
