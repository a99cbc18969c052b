"""Items of a collection by position: one, or a split of them, without copying."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from layered.foundation.errors import BadValue
from layered.foundation.lists import L, mask2idxs


class Subset(Sequence[Any]):
    """The items of a collection at some positions, without copying them."""

    def __init__(self, items: Any, positions: np.ndarray[Any, Any]) -> None:
        self.all_items, self.positions = items, positions

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, (int, np.integer)):
            return pick(self.all_items, int(self.positions[i]))
        chosen = self.positions[i if isinstance(i, slice) else mask2idxs(i)]
        return Subset(self.all_items, chosen)

    def __iter__(self) -> Iterator[Any]:
        items = self.all_items
        if hasattr(items, "iloc"):
            return (items.iloc[i] for i in self.positions)
        return map(items.__getitem__, self.positions.tolist())

    def __repr__(self) -> str:
        return repr(L(list(self), use_list=True))


def pick(items: Any, i: int) -> Any:
    """Item `i` of a collection; of a DataFrame, its row number `i`."""
    return items.iloc[i] if hasattr(items, "iloc") else items[i]


def as_positions(split: Any, total: int) -> np.ndarray[Any, Any]:
    """A split (positions or a mask) as int64 positions; a position that is not there is an error."""
    positions = (
        split if isinstance(split, np.ndarray) and split.dtype != bool else np.asarray(mask2idxs(split), np.int64)
    )
    if len(positions) and (positions.max() >= total or positions.min() < -total):
        raise BadValue(
            "a split names an item that is not there",
            got=int(positions.max() if positions.max() >= total else positions.min()),
            expected=f"less than {total}, the number of items",
        )
    return positions.astype(np.int64, copy=False)
