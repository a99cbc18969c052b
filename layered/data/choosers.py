"""What a shuffled epoch consists of, where it is not simply every item once: items by weight, or a part of them.

A chooser has a `count`, the items of an epoch, and `choose(key)`, their positions: a function of the key alone, so that
workers, processes and a resumed run agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import TensorDataset

from layered.foundation.errors import BadArgument, BadValue
from layered.foundation.seeds import key_of, permutation, seeded

Positions = np.ndarray[Any, Any]
Weights = str | Sequence[float] | Positions | torch.Tensor


class Chooser(Protocol):
    """Decides which items make an epoch."""

    @property
    def count(self) -> int: ...

    def choose(self, key: int) -> Positions: ...


@dataclass(frozen=True)
class Weighted:
    """`count` items, drawn with replacement, each with a chance in proportion to its weight: float64 [item]."""

    weights: Positions
    count: int

    def choose(self, key: int) -> Positions:
        edges = np.cumsum(self.weights)
        drawn = torch.rand(self.count, generator=_generator(key), dtype=torch.float64).numpy()
        places: Positions = np.searchsorted(edges, drawn * edges[-1], side="right")
        return places.clip(max=len(edges) - 1)


@dataclass(frozen=True)
class Repeated:
    """Every item as often as its weight says, in a new order each epoch; of a fraction the whole part, or one more.

    weights    how often: float64 [item], 1 and more keep every item
    source     systematic resampling, Kitagawa 1996
    """

    weights: Positions

    @property
    def count(self) -> int:
        return round(float(self.weights.sum()))

    def choose(self, key: int) -> Positions:
        order = permutation(len(self.weights), key).numpy()
        edges = np.cumsum(self.weights[order])
        start = torch.rand((), generator=_generator(key), dtype=torch.float64).item()
        steps = (np.arange(self.count) + start) * (edges[-1] / self.count)
        taken: Positions = order[np.searchsorted(edges, steps, side="right").clip(max=len(edges) - 1)]
        again = permutation(self.count, key).numpy()
        return np.take(taken, again)


@dataclass(frozen=True)
class Part:
    """`count` of `total` items, without replacement: others each epoch."""

    total: int
    count: int

    def choose(self, key: int) -> Positions:
        return permutation(self.total, key).numpy()[: self.count]


def chooser_of(dataset: Any, weights: Weights, count: int | None = None) -> Chooser:
    """What `weights=` of a loader asks for.

    weights    a number for each item; "balanced": every class as often as the others, in as many items as there are;
               "oversample": the items of rare classes repeated until their class is as large as the largest
    count      items of an epoch, in place of what the rule says
    raises     BadValue, BadArgument
    """
    total = len(dataset)
    if isinstance(weights, str):
        if weights not in ("balanced", "oversample"):
            raise BadValue(
                "weights are numbers, or the name of a rule", got=weights, expected="'balanced' or 'oversample'"
            )
        with seeded(key_of(torch.initial_seed(), "setup")):  # in case code that is not ours makes the labels
            labels = labels_of(dataset)
        _, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
        rarity = counts.max() / counts[numbers]
        if weights == "balanced":
            return Weighted(rarity, count or total)
        return Repeated(rarity if count is None else rarity * (count / rarity.sum()))
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (total,):
        raise BadValue(
            "there is not one weight for each training item",
            got=f"weights of shape {values.shape}",
            expected=f"{total} numbers",
        )
    if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
        raise BadValue("weights are numbers from 0, not all of them 0", got=f"{values.min()} to {values.max()}")
    return Weighted(values, count or total)


def labels_of(dataset: Any) -> Positions:
    """The class of each item, without making inputs: of `Datasets` its first target, of tensors the last, of others what
    their attribute `targets` holds (as torchvision's data sets do).

    raises     BadArgument where the data set does not say, or has no single label an item
    """
    if isinstance(dataset, TensorDataset):
        labels = dataset.tensors[-1].numpy(force=True)
    elif hasattr(dataset, "tls") and len(dataset.tls) > dataset.n_inp:
        labels = np.asarray([np.asarray(label) for label in dataset.tls[dataset.n_inp]])
    elif not hasattr(dataset, "tls") and hasattr(dataset, "targets"):
        labels = np.asarray(dataset.targets)
    else:
        raise BadArgument(
            "the classes of the items are not known, so they cannot be balanced",
            got=f"a data set of type {type(dataset).__name__}",
            fix="pass a weight for each item, or give the data set an attribute `targets`",
        )
    if labels.ndim != 1:
        raise BadArgument("items with several labels cannot be balanced", fix="pass a weight for each item")
    return labels


def _generator(key: int) -> torch.Generator:
    return torch.Generator().manual_seed(key)
