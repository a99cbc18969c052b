"""Pairs of codes, such as a user and an item, grouped by the first."""

from __future__ import annotations

from copy import copy
from typing import Self

import torch
from torch import Tensor

from layered.foundation import Device


class Grouped:
    """Pairs of a key and a value, sorted, each once.

    Args:
        keys: The keys: int64 [pair]. Pairs whose key is below 0 are dropped.
        values: The values, from 0: int64 [pair].
        weights: A weight for each pair, float32 [pair]; those of equal pairs are added up. 1 by default, however often a
            pair occurs.

    Examples:
        >>> grouped = Grouped(torch.tensor([7, 5, 7, 7]), torch.tensor([1, 0, 3, 1]))
        >>> grouped.keys, grouped.values
        (tensor([5, 7, 7]), tensor([0, 1, 3]))
    """

    def __init__(self, keys: Tensor, values: Tensor, weights: Tensor | None = None) -> None:
        is_kept = keys >= 0
        width = int(values.max()) + 1 if len(values) else 1
        pairs, place = torch.unique((keys * width + values)[is_kept], return_inverse=True)
        self.keys, self.values = pairs // width, pairs % width
        if weights is None:
            self.weights = torch.ones(len(pairs), device=keys.device)
        else:
            self.weights = torch.zeros(len(pairs), device=keys.device).index_add_(0, place, weights[is_kept])

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return f"Grouped({len(self)} pairs)"

    def bounds(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The places of the first pair of each key, and of the pair after its last: int64 [key] each."""
        return torch.searchsorted(self.keys, keys), torch.searchsorted(self.keys, keys, right=True)

    def of(self, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All pairs that have one of these keys: the position of the key in `keys`, the value, and the weight.

        Args:
            keys: Keys, int64 [key], in any order.
        """
        first, last = self.bounds(keys)
        counts = last - first
        rows = torch.arange(len(keys), device=keys.device).repeat_interleave(counts)
        # The pairs of a key are consecutive: their places count up from its first, over all keys together.
        places = torch.arange(len(rows), device=keys.device) + (first - counts.cumsum(0) + counts)[rows]
        return rows, self.values[places], self.weights[places]

    def at(self, places: Tensor) -> Self:
        """The pairs at some places, which keep the order; a mask will do."""
        res = copy(self)
        res.keys, res.values, res.weights = self.keys[places], self.values[places], self.weights[places]
        return res

    def firsts(self) -> Self:
        """The first pair of each key."""
        return self.at(self.keys.diff(prepend=self.keys.new_full((1,), -1)) > 0)

    def without(self, other: Grouped) -> Self:
        """The pairs that `other` does not hold."""
        width = int(max(part.values.max() for part in (self, other) if len(part))) + 1 if len(self) else 1
        return self.at(~torch.isin(self.keys * width + self.values, other.keys * width + other.values))

    def to(self, device: Device) -> Self:
        """Move the pairs, in place."""
        if self.keys.device != torch.device(device):
            self.keys, self.values, self.weights = (t.to(device) for t in (self.keys, self.values, self.weights))
        return self
