"""Tensors and arrays in memory: batches are rows of them, taken all at once, without making items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from layered.data.samplers import TicketBatch
from layered.foundation.errors import BadValue
from layered.foundation.tensors import tensor


class Arrays(TensorDataset):
    """Inputs and targets as tensors in memory, with a row for each item.

    inputs     an array or tensor, or several of them; float64 becomes float32
    targets    likewise
    names      what each is called in messages
    raises     BadValue where they differ in length

    >>> Arrays(np.zeros((3, 2)), [0, 1, 0])[1]
    (tensor([0., 0.]), tensor(1))
    """

    def __init__(self, inputs: Any, targets: Any = (), names: tuple[str, str] = ("x", "y")) -> None:
        sides = [as_tensors(side, name) for side, name in zip((inputs, targets), names, strict=True)]
        self.n_inp = len(sides[0])
        together = [*sides[0], *sides[1]]
        lengths = [len(t) for t in together]
        if len(set(lengths)) > 1:
            named = [name for name, side in zip(names, sides, strict=True) for _ in side]
            raise BadValue(
                "inputs and targets differ in length",
                got=", ".join(f"{name}: {n} rows" for name, n in zip(named, lengths, strict=True)),
                expected="a row for each item in all of them",
            )
        super().__init__(*together)

    def rows(self, positions: Any) -> Self:
        """Some of the items."""
        return self._with([t[positions] for t in self.tensors])

    def new_empty(self) -> Self:
        """The same without items."""
        return self.rows(torch.arange(0))

    def test_set(self, items: Any, rm_tfms: int | None = None, with_labels: bool = False) -> Self:
        """Other inputs; with their targets behind them, `with_labels`."""
        res = self._with(as_tensors(items, "items"))
        expected = len(self.tensors) if with_labels else self.n_inp
        if len(res.tensors) != expected:
            raise BadValue("there is not one array for each input", got=len(res.tensors), expected=expected)
        return res

    def _with(self, tensors: Sequence[Tensor]) -> Self:
        res = type(self).__new__(type(self))
        res.tensors, res.n_inp = tuple(tensors), self.n_inp
        return res

    def __repr__(self) -> str:
        return f"Arrays of {len(self)} items, {', '.join(str(tuple(t.shape[1:])) for t in self.tensors)} each"


def as_tensors(side: Any, name: str) -> list[Tensor]:
    """One array or several as tensors: a tuple holds several, and so does a list of arrays."""
    is_several = isinstance(side, tuple) or (
        isinstance(side, list) and bool(side) and all(isinstance(o, (np.ndarray, Tensor)) and o.ndim for o in side)
    )
    tensors = [as_tensor(o) for o in (side if is_several else [side])]
    if any(t.ndim == 0 for t in tensors):
        raise BadValue(f"{name} has no rows", got=repr(side)[:100], expected="an array with a row for each item")
    return tensors


def as_tensor(o: Any) -> Tensor:
    return tensor(o).as_subclass(Tensor)


def row_taker(dataset: Any) -> Callable[[Any], Any] | None:
    """A function from positions to a batch of these rows of tensors or arrays in memory; None for any other data set."""
    if type(dataset) in (TensorDataset, Arrays):
        tensors = dataset.tensors
        return lambda rows: tuple(t.index_select(0, _index(rows, t)) for t in tensors)
    if type(dataset) is Tensor and dataset.ndim:
        return lambda rows: dataset.index_select(0, _index(rows, dataset))
    if type(dataset) is np.ndarray and dataset.ndim and dataset.dtype.kind in "biuf":
        return lambda rows: tensor(dataset[rows])
    return None


def _index(rows: Any, of: Tensor) -> Tensor:
    index = torch.from_numpy(rows)
    return index if of.device.type == "cpu" else index.to(of.device)


def take_rows(take: Callable[[Any], Any], plan: Iterator[TicketBatch]) -> Iterator[tuple[Any, TicketBatch, list[str]]]:
    """The batches of a plan."""
    return ((take(part.indices), part, []) for part in plan)
