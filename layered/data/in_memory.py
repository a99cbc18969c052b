"""Tensors and arrays in memory: a batch is a single indexing operation, without single items."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from layered.data.adapters import DatasetBase, Positions, as_dataset
from layered.data.samplers import TicketBatch
from layered.foundation import BadValue, tensor

TAKEN_AT_ONCE = 2**18  # bytes gathered by one indexing operation and cut into several small batches


class Arrays(TensorDataset, DatasetBase):
    """Inputs and targets as tensors in memory, with a row for each item.

    Args:
        inputs: An array or tensor (or a list of its rows), or a tuple of several; float64 becomes float32.
        targets: Likewise.
        names: The names of inputs and targets in messages.

    Raises:
        BadValue: The arrays differ in length, or one cannot be converted to a tensor.

    Examples:
        >>> Arrays(np.zeros((3, 2)), [0, 1, 0])[1]
        (tensor([0., 0.]), tensor(1))
    """

    def __init__(self, inputs: object, targets: object = (), names: tuple[str, str] = ("x", "y")) -> None:
        sides = [as_tensors(side, name) for side, name in zip((inputs, targets), names, strict=True)]
        self.n_inp: int = len(sides[0])
        together = [*sides[0], *sides[1]]
        lengths = [len(t) for t in together]
        if len(set(lengths)) > 1:
            named = [name for name, side in zip(names, sides, strict=True) for _ in side]
            raise BadValue(
                "inputs and targets differ in length",
                got=", ".join(f"{name}: {n} rows" for name, n in zip(named, lengths, strict=True)),
                expected="one row per item in every array",
            )
        super().__init__(*together)

    def row_tensors(self) -> tuple[Tensor, ...] | None:
        """Its tensors; None for a subclass, which may make its samples differently."""
        return self.tensors if type(self) is Arrays else None

    def class_labels(self) -> np.ndarray[Any, Any]:
        """The last target of each item."""
        labels: np.ndarray[Any, Any] = self.tensors[-1].numpy(force=True)
        return labels

    def rows(self, positions: Any) -> Self:
        """The items at some positions."""
        return self._with([t[positions] for t in self.tensors])

    def part(self, positions: Positions) -> Self:
        """The items at some positions, int64 [item]."""
        return self.rows(torch.from_numpy(positions))

    def new_empty(self) -> Self:
        """The same without items."""
        return self.rows(torch.arange(0))

    def test_set(self, items: object, rm_tfms: int | None = None, with_labels: bool = False) -> Self:
        """Other inputs: arrays, or a list of samples. `with_labels`, the targets follow them."""
        if isinstance(items, list) and items and isinstance(items[0], tuple):
            items = tuple(map(list, zip(*items, strict=True)))
        res = self._with(as_tensors(items, "items"))
        expected = len(self.tensors) if with_labels else self.n_inp
        if len(res.tensors) != expected:
            raise BadValue(
                "wrong number of arrays",
                got=len(res.tensors),
                expected=f"{expected}, one for each input{' and target' if with_labels else ''}",
            )
        return res

    def _with(self, tensors: Sequence[Tensor]) -> Self:
        res = type(self).__new__(type(self))
        res.tensors, res.n_inp = tuple(tensors), self.n_inp
        return res

    def __repr__(self) -> str:
        return f"Arrays of {len(self)} items, {', '.join(str(tuple(t.shape[1:])) for t in self.tensors)} each"


def as_tensors(side: object, name: str) -> list[Tensor]:
    """One array, or a tuple of several, as tensors."""
    try:
        tensors = [tensor(o).as_subclass(Tensor) for o in (side if isinstance(side, tuple) else [side])]
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadValue(
            f"{name} cannot be converted to a tensor",
            got=f"{error}",
            expected="numbers, with a row of the same shape for each item",
            fix="several arrays as a tuple; labels as numbers: np.unique(labels, return_inverse=True)[1]",
        ) from error
    if any(t.ndim == 0 for t in tensors):
        raise BadValue(f"{name} has no rows", got=repr(side)[:100], expected="an array with a row for each item")
    return tensors


def row_taker(dataset: object) -> Callable[[Any], Any] | None:
    """A function from positions to a batch, for tensors and arrays in memory; None for any other data set."""
    tensors = as_dataset(dataset).row_tensors()
    if tensors is not None:
        return lambda rows: tuple(t.index_select(0, _index(rows, t)) for t in tensors)
    if type(dataset) is Tensor and dataset.ndim:
        return lambda rows: dataset.index_select(0, _index(rows, dataset))
    if type(dataset) is np.ndarray and dataset.ndim and dataset.dtype.kind in "biuf":
        return lambda rows: tensor(dataset[rows])
    return None


def _index(rows: object, of: Tensor) -> Tensor:
    index = torch.from_numpy(rows) if isinstance(rows, np.ndarray) else torch.as_tensor(rows)
    return index if of.device.type == "cpu" else index.to(of.device)


def row_numbers(order: object, count: int) -> np.ndarray[Any, Any]:
    """Positions as int64 from 0, checked to be in range."""
    rows = np.asarray(order, dtype=np.int64)
    if len(rows) and (rows.min() < -count or rows.max() >= count):
        raise BadValue(
            "get_idxs returned a position that is out of range",
            got=f"{rows.min()} to {rows.max()}",
            expected=f"positions from 0 to {count - 1}",
        )
    return np.where(rows < 0, rows + count, rows)


def take_batches(
    take: Callable[[Any], Any], plan: Iterator[TicketBatch]
) -> Iterator[tuple[Any, TicketBatch, list[str]]]:
    """The planned batches. Several small ones are gathered by one indexing operation and then cut, which is faster."""
    several = 1
    while parts := list(itertools.islice(plan, several)):
        batches = [take(parts[0].indices)] if several == 1 else _cut(take, [part.indices for part in parts])
        for batch, part in zip(batches, parts, strict=True):
            yield batch, part, []
        # Reading plans ahead would advance a generator too far, so only an order that is known as a whole is grouped.
        if several == 1 and isinstance(parts[0].indices, np.ndarray):
            size = sum(t.nbytes for t in (batches[0] if isinstance(batches[0], tuple) else batches))
            several = min(64, max(1, TAKEN_AT_ONCE // max(1, size)))


def _cut(take: Callable[[Any], Any], rows: list[Any]) -> list[Any]:
    """Gather the rows of several batches at once, and cut the result into batches."""
    taken, sizes = take(np.concatenate(rows)), [len(some) for some in rows]
    parts = taken if isinstance(taken, tuple) else (taken,)
    batches = list(zip(*(t.split(sizes) for t in parts), strict=True))
    return batches if isinstance(taken, tuple) else [batch for (batch,) in batches]
