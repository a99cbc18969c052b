"""Which items make which batch, and with which keys: the plan of an epoch, a function of seed, purpose and epoch alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from layered.foundation.seeds import key_of, sample_keys


class TicketBatch(NamedTuple):
    """One batch to be made: which items, and what each of them and the batch draw with."""

    indices: list[Any]
    keys: Tensor  # int64 [batch]
    batch_key: int


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
    is_array = isinstance(order, np.ndarray)
    rest = iter(order) if not is_array else None
    if rest is not None:
        for _ in itertools.islice(rest, start * rows):
            pass
    for number in itertools.count(start):
        if isinstance(order, np.ndarray):
            chunk = order[number * rows : (number + 1) * rows].tolist()
        else:
            assert rest is not None
            chunk = list(itertools.islice(rest, rows))
        if not chunk or (drop_last and len(chunk) < rows):
            return
        positions = torch.arange(number * rows, number * rows + len(chunk))[rank::world]
        mine = chunk[rank::world]
        if mine:
            yield TicketBatch(mine, sample_keys(key, positions), key_of(key, "batch", number))
