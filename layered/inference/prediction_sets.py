"""Prediction sets and intervals: answers that hold the truth as often as was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layered.data import TfmdDL, as_loader, as_loaders, class_vocab
from layered.foundation import BadArgument, BadValue, checked, is_frame
from layered.inference.calibrated import calibration_of
from layered.inference.calibrating import OTHER_ITEMS
from layered.inference.predict import get_preds, uncalibrated_meaning
from layered.loop import Loop
from layered.nn import Calibration, class_surprise, probabilities

ClassSet = dict[Any, float]
"""The classes that an item may be of, the most probable one first, with their calibrated probabilities."""


@dataclass(frozen=True)
class Interval:
    """The numbers from `low` to `high`, both included: `low, high = interval`, `3.5 in interval`.

    Args:
        low: The smallest.
        high: The largest.

    Examples:
        >>> 2 in Interval(1.0, 2.5), Interval(1.0, 2.5).width
        (True, 1.5)
    """

    low: float
    high: float

    @property
    def width(self) -> float:
        """The distance from the smallest to the largest."""
        return self.high - self.low

    def __iter__(self) -> Iterator[float]:
        yield from (self.low, self.high)

    def __contains__(self, number: Any) -> bool:
        return bool(self.low <= number <= self.high)


PredictionSet = ClassSet | Interval | dict[Any, Interval] | tuple[Interval, ...]


@checked
def predict_set(loop: Loop, item: object, alpha: float = 0.1) -> PredictionSet:
    """Everything that one item may be, so that the truth is in it with a probability of at least `1 - alpha`: see `predict_sets`.

    Args:
        loop: The learner, after `calibrate`.
        item: What `predict` takes: a path, a text, the row of a table, ….
        alpha: The share of items whose set may miss the truth, in (0, 1).

    Returns:
        Of classes a dict from class to probability, the most probable first; of a number an `Interval`; of several numbers an
        `Interval` for each, in a dict if they have names, else in a tuple.

    Raises:
        BadValue: The learner is not calibrated, or with too few items for `alpha`, or there are several items.
        OutOfRange: `alpha` is not in (0, 1).
        BadArgument: The model predicts several labels.

    Examples:
        >>> from torch import nn
        >>> from layered.data import DataBlock, RegressionBlock, TransformBlock
        >>> from layered.training import Learner
        >>> block = DataBlock((TransformBlock, RegressionBlock), get_x=lambda i: torch.tensor([float(i)]), get_y=lambda i: i % 3)
        >>> learn = Learner(block.dataloaders(range(100), bs=10), nn.Linear(1, 1), nn.MSELoss())
        >>> with torch.no_grad():
        ...     _ = learn.model.weight.zero_(), learn.model.bias.fill_(1.0)
        >>> _ = learn.calibrate()
        >>> learn.predict_set(7)
        Interval(low=0.0, high=2.0)
    """
    is_table = is_frame(item) and np.asarray(item).ndim == 2
    found = predict_sets(loop, item if is_table else [item], alpha)
    if len(found) != 1:
        raise BadValue("predict_set takes one item", got=f"{len(found)} items", fix="learn.predict_sets(items)")
    return found[0]


@checked
def predict_sets(
    loop: Loop, items: object = None, alpha: float = 0.1, *, ds_idx: int = 1, dl: Iterable[Any] | None = None
) -> list[PredictionSet]:
    """For each item everything that it may be, so that the truth is in a share of at least `1 - alpha` of the sets.

    That is so of any model, on average over items like those that `calibrate` saw, if nothing was chosen by them (split conformal
    prediction). It does not hold for each class or kind of item by itself. A class belongs to the set of an item if it is no more
    surprising than the truth was for nearly a share of `1 - alpha` of the calibration items (the smallest sets on average, LAC);
    the most probable class always does. An interval is the prediction plus and minus one distance, the same for all items; of
    several numbers each has its own, and each holds with `1 - alpha`, not all at once.

    Args:
        loop: The learner, after `calibrate`.
        items: Anything the inputs are made from, as for `dls.test_dl`: paths, images, rows, …; by default those of `ds_idx`.
        alpha: The share of items whose set may miss the truth, in (0, 1).
        ds_idx: Which of the learner's loaders, with all its items: 1 validation, 0 training.
        dl: A loader of any library, in place of `items`.

    Returns:
        As for `predict_set`, in the order of the items. Of labels and whatever else cannot be calibrated there are none.

    Raises:
        BadValue: The learner is not calibrated, or with too few items for `alpha`.
        OutOfRange: `alpha` is not in (0, 1).
        BadArgument: The model predicts several labels, or both items and a loader are given.

    Source: Angelopoulos & Bates 2021, arXiv:2107.07511; Sadinle et al. 2019, arXiv:1609.00451 (sets); Lei et al. 2018,
        arXiv:1604.04173 (intervals).
    """
    if items is not None and dl is not None:
        raise BadArgument("both items and a loader of items were given", fix="learn.predict_sets(items), or dl=dl")
    calibration = _needed(loop)
    threshold = calibration.threshold(alpha)
    loader = as_loaders(loop.dls).test_dl(items) if items is not None else dl
    activation = uncalibrated_meaning(loop).activation
    is_classes = calibration.of == "classes"
    with loop.no_bar():
        outputs, _ = get_preds(
            loop, ds_idx, loader, act=lambda o: calibration.logits(activation, o) if is_classes else activation(o)
        )
    if not outputs.isfinite().all():
        bad = int((~outputs.reshape(len(outputs), -1).isfinite().all(1)).nonzero()[0])
        raise BadValue("the model's output is not finite, so no set holds the truth", got=f"item {bad}")
    if is_classes:
        return _class_sets(outputs, threshold, calibration, class_vocab(loop.dls))
    return _intervals(loop, outputs, threshold)


def _needed(loop: Loop) -> Calibration:
    calibration = calibration_of(loop)
    if calibration is None:
        raise BadValue(
            "this learner is not calibrated, so that nothing is known of its errors",
            fix="learn.calibrate(), before learn.export() if it is to be exported"
            if loop.exported is None
            else OTHER_ITEMS,
        )
    if calibration.of == "labels":
        raise BadArgument(
            "there are no prediction sets of several labels",
            expected="a learner of one class, or of numbers, for each item",
            fix="compare the calibrated probabilities of get_preds with a threshold",
        )
    return calibration


def _class_sets(
    logits: Tensor, threshold: Tensor, calibration: Calibration, vocab: Sequence[Any] | None
) -> list[PredictionSet]:
    surprises = class_surprise(logits)
    order = surprises.argsort(dim=1, stable=True)
    sizes = (surprises <= threshold).sum(1).clamp(min=1).tolist()
    shares = probabilities(logits / calibration.temperature, "classes")
    if surprises.shape != shares.shape:
        shares = torch.stack([1 - shares.flatten(), shares.flatten()], 1)
    names = list(range(surprises.shape[1])) if vocab is None else list(vocab)
    rows = zip(order.tolist(), shares.tolist(), sizes, strict=True)
    return [{names[i]: row[i] for i in best[:size]} for best, row, size in rows]


def _intervals(loop: Loop, outputs: Tensor, threshold: Tensor) -> list[PredictionSet]:
    middle = outputs.double().reshape(len(outputs), -1)
    ends = [_decoded(loop, part.reshape(outputs.shape)) for part in (middle - threshold, middle + threshold)]
    low, high = (f(*ends).reshape(middle.shape) for f in (torch.minimum, torch.maximum))
    names = list(getattr(as_loader(loop.dls.train).dataset, "y_names", ()))
    found: list[PredictionSet] = []
    for lows, highs in zip(low.tolist(), high.tolist(), strict=True):
        each = tuple(map(Interval, lows, highs))
        named = dict(zip(names, each, strict=True)) if len(names) == len(each) else each
        found.append(each[0] if len(each) == 1 else named)
    return found


def _decoded(loop: Loop, numbers: Tensor) -> Tensor:
    """Numbers as targets in the units of the items, for loaders whose transforms change them."""
    dl: Any = as_loader(loop.dls.train)
    if not isinstance(dl, TfmdDL):
        return numbers
    return torch.stack([torch.as_tensor(dl.decode_target((row,))[0]).double() for row in numbers])
