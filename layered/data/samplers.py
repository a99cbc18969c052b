"""Which items make which batch, and with which keys: the plan of an epoch, a function of seed, purpose and epoch alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from layered.foundation.seeds import key_of, sample_keys


class TicketBatch(NamedTuple):
    """One batch to be made.

    indices    which items: an int64 array, or a list of whatever the order holds
    positions  where each of them stands in the epoch's global order
    epoch_key  what the whole epoch draws with
    number     of the batch in the epoch
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


class EpochKey(NamedTuple):
    """What all randomness of one pass over the data depends on."""

    seed: int
    purpose: str
    epoch: int

    @property
    def key(self) -> int:
        return key_of(*self)


def plan_batches(
    order: Iterable[Any], key: int, bs: int, drop_last: bool, start: int = 0, rank: int = 0, world: int = 1
) -> Iterator[TicketBatch]:
    """The batches of an epoch from batch `start` on.

    order      the items, in the epoch's global order; may be endless
    bs         rows a process; a global batch has bs * world rows, of which this process takes every world-th from `rank`
    """
    rows = bs * world
    rest: Iterator[Any] = itertools.islice(() if isinstance(order, np.ndarray) else order, start * rows, None)
    for number in itertools.count(start):
        first = number * rows
        chunk = order[first : first + rows] if isinstance(order, np.ndarray) else list(itertools.islice(rest, rows))
        if not len(chunk) or (drop_last and len(chunk) < rows):
            return
        mine = chunk[rank::world]
        if len(mine):
            yield TicketBatch(mine, range(first, first + len(chunk))[rank::world], key, number)
