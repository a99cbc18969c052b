"""Which items make which batch, and with which keys: the plan of an epoch, a function of seed, purpose and epoch alone."""

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
from layered.foundation import BadArgument, BadValue, L, key_of, permutation, sample_keys, seeded

Chunks = Iterator[tuple[int, Any]]  # the number of a global batch, and its items


class EpochKey(NamedTuple):
    """What all randomness of one pass over the data depends on."""

    seed: int
    purpose: str
    epoch: int

    @property
    def key(self) -> int:
        return key_of(*self)


class TicketBatch(NamedTuple):
    """One batch to be made.

    Attributes:
        indices: Which items: an int64 array, or a list of whatever the order holds.
        positions: Where each of them stands in the epoch's global order.
        epoch_key: What the whole epoch draws with.
        number: Of the batch in the epoch.
    """

    indices: Any
    positions: Sequence[int]
    epoch_key: int
    number: int

    @property
    def keys(self) -> Tensor:
        """What each row draws with: int64 [batch]."""
        return sample_keys(self.epoch_key, torch.tensor(self.positions, dtype=torch.int64))

    @property
    def batch_key(self) -> int:
        """What the batch as a whole draws with."""
        return key_of(self.epoch_key, "batch", self.number)

    def listed(self) -> list[Any]:
        """The items as a list."""
        return self.indices.tolist() if isinstance(self.indices, np.ndarray) else list(self.indices)

    def only(self, rows: Sequence[int]) -> TicketBatch:
        """The same batch with these of its rows."""
        if len(rows) == len(self.positions):
            return self
        items = self.listed()
        return self._replace(indices=[items[row] for row in rows], positions=[self.positions[row] for row in rows])


class Share(NamedTuple):
    """How the batches of an epoch are shared out between processes: `bs` rows for each of `world`, this one being `rank`.

    A global batch is bs * world items of the order, and a process takes every world-th of them. Every process gets the
    same number of batches, so that none waits for another: a rest with fewer items than processes is not a batch of its
    own, but makes the one before it longer. (Only an epoch of fewer items than processes leaves some without any.)
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
        """How many global batches `total` items make."""
        full, rest = divmod(total, self.rows)
        return full if self.drop_last or not rest or (full and rest < self.world) else full + 1

    def count_here(self, total: int) -> int:
        """How many batches this process makes of them."""
        return 0 if total <= self.rank else self.count(total)


def plan_batches(chunks: Chunks, key: int, share: Share) -> Iterator[TicketBatch]:
    """The plan of this process's share of each global batch."""
    _, rank, world, _ = share
    for number, chunk in chunks:
        positions = range(number * share.rows, number * share.rows + len(chunk))
        if world > 1:
            chunk, positions = chunk[rank::world], positions[rank::world]
        if len(chunk):
            yield TicketBatch(chunk, positions, key, number)


def cut(order: Sequence[Any] | np.ndarray[Any, Any], share: Share, start: int = 0) -> Chunks:
    """The global batches of an order that is known as a whole, from batch `start` on.

    Args:
        order: An array or list of items.
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
    """The global batches of items that come one after the other, perhaps without end.

    Args:
        key: What the code that makes the items finds the global generators seeded by, anew for each batch; None: it
            is ours and draws nothing from them.
        first: The number of the batch that comes first.
        pulled: Called with the number of a batch when its items were taken, and no more.
    """
    items = iter(items)

    def take(number: int) -> list[Any]:
        with nullcontext() if key is None else seeded(key_of(key, "pull", number)):
            return list(itertools.islice(items, share.rows))

    chunk = take(first)
    for number in itertools.count(first):
        pulled(number)
        following = take(number + 1) if share.world > 1 else None  # does every process get a row of it?
        if following is not None and len(following) < share.world and not share.drop_last:
            chunk, following = chunk + following, []
            pulled(number)
        if len(chunk) < (share.rows if share.drop_last else 1):
            return
        yield number, chunk
        chunk = take(number + 1) if following is None else following


def is_ordered(order: object) -> bool:
    """Whether an order can be cut: it is known as a whole."""
    return isinstance(order, (np.ndarray, list, tuple, range, L))


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

    Args:
        weights: How often: float64 [item], 1 and more keep every item.

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


@dataclass(frozen=True)
class Part:
    """`count` of `total` items, without replacement: others each epoch."""

    total: int
    count: int

    def choose(self, key: int) -> Positions:
        return permutation(self.total, key).numpy()[: self.count]


def chooser_of(dataset: object, weights: Weights, count: int | None = None) -> Chooser:
    """What `weights=` of a loader asks for.

    Args:
        weights: A number for each item; "balanced": every class as often as the others, in as many items as there
            are; "oversample": the items of rare classes repeated until their class is as large as the largest.
        count: Items of an epoch, in place of what the rule says.

    Raises:
        BadValue: An argument of the right type whose value makes no sense here.
        BadArgument: A call with an argument that does not exist or has the wrong type.
    """
    total = length_of(dataset)
    if total is None:
        raise BadArgument(
            "weights need to know how many items there are",
            got=f"{type(dataset).__name__} without len()",
            fix="give the data set a length",
        )
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
            "expected one weight for each training item",
            got=f"weights of shape {values.shape}",
            expected=f"{total} numbers",
        )
    if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
        raise BadValue("weights are numbers from 0, not all of them 0", got=f"{values.min()} to {values.max()}")
    return Weighted(values, count or total)


def labels_of(dataset: object) -> Positions:
    """The class of each item, without making inputs: of `Datasets` its first target, of tensors the last, of others what
    their attribute `targets` holds (as torchvision's data sets do).

    Raises:
        BadArgument: Where the data set does not say, or has no single label an item.
    """
    labels = as_dataset(dataset).class_labels()
    if labels is None:
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
