"""The plan of an epoch: the items of each batch, and their keys. It depends on seed, purpose and epoch alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from layered.data.adapters import as_dataset, length_of
from layered.data.subset import labels_of, values_by_label
from layered.foundation import BadArgument, BadValue, L, is_frame, key_of, permutation, sample_keys, seeded

Chunks = Iterator[tuple[int, Any]]  # the number of a global batch, and its items


class EpochKey(NamedTuple):
    """Determines all randomness of one pass over the data."""

    seed: int
    purpose: str
    epoch: int

    @property
    def key(self) -> int:
        return key_of(*self)


class TicketBatch(NamedTuple):
    """One batch to be made.

    Attributes:
        indices: The items: an int64 array of positions in the data set, or a list of elements of the order.
        positions: The position of each item in the global order of the epoch.
        epoch_key: The key of the epoch.
        number: The number of the batch in the epoch, from 0.
    """

    indices: Any
    positions: Sequence[int]
    epoch_key: int
    number: int

    @property
    def keys(self) -> Tensor:
        """The key of each row: int64 [batch].

        It depends on the position in the global order, so a sample draws the same whatever the batch size, the number of
        workers or the number of processes.
        """
        return sample_keys(self.epoch_key, torch.tensor(self.positions, dtype=torch.int64))

    @property
    def batch_key(self) -> int:
        """The key of the batch as a whole."""
        return key_of(self.epoch_key, "batch", self.number)

    def listed(self) -> list[Any]:
        """The items as a list."""
        return self.indices.tolist() if isinstance(self.indices, np.ndarray) else list(self.indices)

    def only(self, rows: Sequence[int]) -> TicketBatch:
        """The same batch, reduced to some of its rows."""
        if len(rows) == len(self.positions):
            return self
        items = self.listed()
        return self._replace(indices=[items[row] for row in rows], positions=[self.positions[row] for row in rows])


class Share(NamedTuple):
    """How the batches of an epoch are divided between processes: `bs` rows for each of `world`, this one being `rank`.

    A global batch is bs * world consecutive items of the order; each process takes every world-th of them. All processes
    must get the same number of batches, or collective operations would wait forever: a remainder with fewer items than
    processes extends the batch before it. (Only an epoch with fewer items than processes leaves some without a batch.)
    """

    bs: int
    rank: int = 0
    world: int = 1
    drop_last: bool = False

    @property
    def rows(self) -> int:
        """Items of a global batch."""
        return self.bs * self.world

    def count(self, total: int) -> int:
        """The number of global batches of `total` items."""
        full, rest = divmod(total, self.rows)
        return full if self.drop_last or not rest or (full and rest < self.world) else full + 1

    def count_here(self, total: int) -> int:
        """The number of batches that this process makes of `total` items."""
        return 0 if total <= self.rank else self.count(total)


def plan_batches(chunks: Chunks, key: int, share: Share) -> Iterator[TicketBatch]:
    """The plan of each batch of this process: its rows of the global batches."""
    _, rank, world, _ = share
    for number, chunk in chunks:
        positions = range(number * share.rows, number * share.rows + len(chunk))
        if world > 1:
            chunk, positions = chunk[rank::world], positions[rank::world]
        if len(chunk):
            yield TicketBatch(chunk, positions, key, number)


def cut(order: Sequence[Any] | np.ndarray[Any, Any], share: Share, start: int = 0) -> Chunks:
    """The global batches of an order that is known as a whole.

    Args:
        order: An array or list of items.
        share: How batches are divided between processes.
        start: The number of the first batch.
    """
    count = share.count(len(order))
    for number in range(start, count):
        is_last = number == count - 1 and not share.drop_last
        yield number, order[number * share.rows : None if is_last else (number + 1) * share.rows]


def pull(
    items: Iterable[Any],
    share: Share,
    key: int | None,
    first: int = 0,
    pulled: Callable[[int], None] = lambda number: None,
) -> Chunks:
    """The global batches of an iterable, which may be infinite.

    Args:
        items: The items.
        share: How batches are divided between processes.
        key: Seeds the global generators anew for each batch, for foreign code that makes the items; None does not.
        first: The number of the first batch.
        pulled: Called with the number of a batch when exactly its items (and those before) have been taken.
    """
    items = iter(items)

    def take(number: int) -> list[Any]:
        with nullcontext() if key is None else seeded(key_of(key, "pull", number)):
            return list(itertools.islice(items, share.rows))

    chunk = take(first)
    for number in itertools.count(first):
        pulled(number)
        # With several processes one batch is read ahead: one too small to give each a row extends the present batch.
        following = take(number + 1) if share.world > 1 else None
        if following is not None and len(following) < share.world and not share.drop_last:
            chunk, following = chunk + following, []
            pulled(number)
        if len(chunk) < (share.rows if share.drop_last else 1):
            return
        yield number, chunk
        chunk = take(number + 1) if following is None else following


def is_ordered(order: object) -> bool:
    """Whether an order is known as a whole, so that it can be cut."""
    return isinstance(order, (np.ndarray, list, tuple, range, L))


Positions = np.ndarray[Any, Any]
Weights = str | Sequence[float] | Positions | torch.Tensor


class Chooser(Protocol):
    """Chooses the items of an epoch."""

    @property
    def count(self) -> int: ...

    def choose(self, key: int) -> Positions: ...

    def among(self, positions: Positions) -> Chooser:
        """The same choice among some of the items, which are then numbered from 0."""


@dataclass(frozen=True)
class Weighted:
    """Draws `count` items with replacement, with probabilities in proportion to `weights`: float64 [item]."""

    weights: Positions
    count: int

    def choose(self, key: int) -> Positions:
        edges = np.cumsum(self.weights)
        drawn = torch.rand(self.count, generator=_generator(key), dtype=torch.float64).numpy()
        places: Positions = np.searchsorted(edges, drawn * edges[-1], side="right")
        return places.clip(max=len(edges) - 1)

    def among(self, positions: Positions) -> Weighted:
        count = len(positions) if self.count == len(self.weights) else self.count
        return Weighted(self.weights[positions], count)


@dataclass(frozen=True)
class Repeated:
    """Repeats every item as often as its weight, in a new order each epoch. A fractional weight is rounded up or down at
    random, so that the expected number of repetitions is exact.

    Args:
        weights: Repetitions of each item: float64 [item]; at least 1 keeps every item.

    Source: systematic resampling, Kitagawa 1996
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
        order = permutation(self.count, key).numpy()
        return np.take(taken, order)

    def among(self, positions: Positions) -> Repeated:
        return Repeated(self.weights[positions])


@dataclass(frozen=True)
class Part:
    """Draws `count` of `total` items without replacement, different ones each epoch."""

    total: int
    count: int

    def choose(self, key: int) -> Positions:
        return permutation(self.total, key).numpy()[: self.count]

    def among(self, positions: Positions) -> Part:
        return Part(len(positions), min(self.count, len(positions)))


def chooser_of(dataset: object, weights: Weights, count: int | None = None) -> Chooser:
    """The chooser for the argument `weights` of a loader.

    Args:
        dataset: The data set; the named rules read its labels.
        weights: A weight for each item; "balanced" draws all classes equally often, as many items as there are;
            "oversample" repeats the items of rare classes until their class is as large as the largest.
        count: Items of an epoch; by default determined by the rule.

    Raises:
        BadValue: The rule is unknown, or the weights have the wrong number, are negative, or are all zero.
        BadArgument: The data set has no length, or its classes are unknown.
    """
    total = length_of(dataset)
    if total is None:
        raise BadArgument(
            "weights need a data set with a length",
            got=f"{type(dataset).__name__} without len()",
            fix="define __len__",
        )
    if isinstance(weights, str):
        if weights not in ("balanced", "oversample"):
            raise BadValue(
                "unknown rule for weights", got=weights, expected="'balanced', 'oversample', or a number for each item"
            )
        with seeded(key_of(torch.initial_seed(), "setup")):  # foreign code may make the labels
            labels = classes_of(dataset)
        _, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
        rarity = counts.max() / counts[numbers]
        if weights == "balanced":
            return Weighted(rarity, count or total)
        return Repeated(rarity if count is None else rarity * (count / rarity.sum()))
    if is_frame(weights):
        columns = as_dataset(dataset).columns
        weights = values_by_label(weights, total, labels_of(columns[0].items) if columns else None, "weights")
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (total,):
        raise BadValue(
            "expected one weight for each training item",
            got=f"weights of shape {values.shape}",
            expected=f"{total} numbers",
        )
    if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
        raise BadValue(
            "invalid weights",
            got=f"numbers from {values.min()} to {values.max()}",
            expected="finite numbers from 0, at least one above 0",
        )
    return Weighted(values, count or total)


def classes_of(dataset: object) -> Positions:
    """The class of each item, read without making inputs: the first target of `Datasets`, the last of several tensors, the
    attribute `targets` of other data sets (as torchvision's have).

    Raises:
        BadArgument: The classes are unknown, or items have several labels.
    """
    labels = as_dataset(dataset).class_labels()
    if labels is None:
        raise BadArgument(
            "cannot balance classes: the labels of the items are unknown",
            got=f"a data set of type {type(dataset).__name__}",
            fix="pass a weight for each item, or give the data set an attribute `targets`",
        )
    if labels.ndim != 1:
        raise BadArgument("cannot balance classes: items have several labels", fix="pass a weight for each item")
    return labels


def _generator(key: int) -> torch.Generator:
    return torch.Generator().manual_seed(key)
