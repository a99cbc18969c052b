"""The interfaces of data sets (to loaders) and of loaders (to loops), and adapters for those of other libraries.

Everything in an interface has a default. Objects of other libraries are wrapped once, on entry (`as_dataset`,
`as_loader`), so that only the adapters probe attributes.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from layered.foundation import Pipeline, Stateful, own_vars

Positions = np.ndarray[Any, np.dtype[np.int64]]
Prints = np.ndarray[Any, np.dtype[np.int64]]
T = TypeVar("T", bound="DatasetBase")


# -- the raw content of a split, for `dls.check()`


@dataclass
class TargetColumn:
    """One target column.

    Args:
        name: Its name in messages.
        kind: "category", "multicategory", "regression", or None to infer it from the values.
        values: Reads the values at some positions, before they are encoded.
        vocab: The classes of the model; None if unknown.
        has_na: Whether missing labels have a class.
    """

    name: str
    kind: str | None
    values: Callable[[Positions], Any]
    vocab: Sequence[Any] | None = None
    has_na: bool = False


@dataclass
class Raw:
    """What can be read of one split without making its items; `raw_split` of a data set returns it.

    Reading runs the getters and labellers of the user, so the caller must save and restore the global generators.

    Args:
        count: The number of items; None if unknown.
        rough: Cheap fingerprints of the inputs at some positions: equal inputs have equal ones.
        exact: Fingerprints that also differ for different inputs; None if `rough` does.
        named: The name of item i in messages.
        items: The items before any transform; None if unknown.
        targets: The target columns that can be read.
        unchecked: The parts that cannot be read, and why.
    """

    count: int | None = None
    rough: Callable[[Positions], Prints] | None = None
    exact: Callable[[Positions], Prints] | None = None
    named: Callable[[int], str] = "item {}".format
    items: Any = None
    targets: list[TargetColumn] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


# -- data sets


class PipelineColumn(Protocol):
    """One column of a data set that is made by transforms: items through a pipeline."""

    name: str
    getters: int
    tfms: Pipeline

    @property
    def element_type(self) -> type | None:
        """The type of its elements; None if its transforms do not say."""

    @property
    def items(self) -> Any:
        """The items before any transform: all, or those of this subset."""

    @property
    def all_items(self) -> Any:
        """The items of all splits."""

    @property
    def split_idx(self) -> int | None:
        """Which split this is."""

    def decode(self, o: Any, full: bool = True) -> Any:
        """Undo the pipeline."""

    def with_all_items(self, items: object) -> Any:
        """The same column over another container of the same items."""

    def __len__(self) -> int: ...
    def __getitem__(self, i: int, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...


class DatasetBase:
    """The interface of a data set to its loader, with defaults that subclasses override.

    Any object with indexing or iteration is a data set: see `as_dataset`. Attributes and methods with these names are used
    if it has them.
    """

    n_inp: int | None = None
    """How many leading elements of a sample are inputs; None if unknown."""
    split_idx: int | None = None
    """Which split it is: 0 training, 1 validation, None all."""
    starts_workers: bool = False
    """Whether loaders make its batches in workers by default."""

    @property
    def target_kinds(self) -> list[str | None]:
        """The kind of each target: "category", "regression", …; empty if it does not say."""
        return []

    @property
    def columns(self) -> Sequence[PipelineColumn]:
        """The columns of a data set that is made by transforms, one for each element of a sample; () for others."""
        return ()

    def with_columns(self: T, columns: Sequence[PipelineColumn]) -> T:
        """The same data set with other columns."""
        return self

    def as_split(self, split_idx: int) -> Any:
        """The same samples, transformed as those of another split."""
        res = copy.copy(self)
        res.split_idx = split_idx
        return res

    def part(self, positions: Positions) -> Any:
        """Some of the samples, made as they are here.

        Args:
            positions: Which, from 0: int64 [sample].
        """
        return Selection(self, positions)

    @property
    def fetch(self) -> Callable[[list[Any]], list[Any]] | None:
        """A function that makes the items at several positions in one call; None if the data set has none."""
        return None

    def row_tensors(self) -> tuple[Tensor, ...] | None:
        """Tensors whose rows are the samples, so that a batch is a single indexing operation; None for other data."""
        return None

    def describe_item(self, i: Any) -> str:
        """Item `i` in a message."""
        return f"item {i}"

    def decode(self, o: Any, full: bool = True) -> Any:
        """Undo the pipelines of a sample."""
        return o

    def test_set(self, items: object, rm_tfms: int | None = None, with_labels: bool = False) -> Any:
        """Other items as validation samples; None if the data set cannot make them."""
        return None

    def new_empty(self) -> Any:
        """The same data set without items."""
        return []

    def class_labels(self) -> np.ndarray[Any, Any] | None:
        """The class of each item, to balance by; None if unknown."""
        return None

    def raw_split(self) -> Raw | None:
        """The raw content that `dls.check()` reads; None if the data set declares nothing."""
        return None


class ForeignDataset(DatasetBase):
    """The adapter of data that declares no interface: lists, tensors, data sets of torch and torchvision, None.

    Args:
        dataset: The data; attributes with the names of the interface are used if it has them.
    """

    def __init__(self, dataset: object) -> None:
        self.dataset: Any = dataset
        self.n_inp = getattr(dataset, "n_inp", None)
        self.split_idx = getattr(dataset, "split_idx", None)

    def as_split(self, split_idx: int) -> Any:
        res = copy.copy(self.dataset)
        res.split_idx = split_idx
        return res

    def part(self, positions: Positions) -> Any:
        if hasattr(self.dataset, "part"):
            return self.dataset.part(positions)
        if type(self.dataset) is torch.utils.data.TensorDataset:
            return torch.utils.data.TensorDataset(*(t[torch.from_numpy(positions)] for t in self.dataset.tensors))
        return Selection(self.dataset, positions)

    @property
    def fetch(self) -> Callable[[list[Any]], list[Any]] | None:
        owner = self.dataset
        while isinstance(owner, torch.utils.data.Subset):  # it has the method whether or not the wrapped data set does
            owner = owner.dataset
        fetch: Callable[[list[Any]], list[Any]] | None = getattr(owner, "__getitems__", None)
        return fetch if fetch is None or owner is self.dataset else self.dataset.__getitems__

    def row_tensors(self) -> tuple[Tensor, ...] | None:
        kind = type(self.dataset)
        if kind is torch.utils.data.TensorDataset or getattr(kind, "rows_are_tensors", False):
            return tuple(self.dataset.tensors)
        return None

    def describe_item(self, i: Any) -> str:
        describe_item = getattr(self.dataset, "describe_item", super().describe_item)
        return str(describe_item(i))

    @property
    def target_kinds(self) -> list[str | None]:
        return getattr(self.dataset, "target_kinds", [])

    def decode(self, o: Any, full: bool = True) -> Any:
        return self.dataset.decode(o, full=full) if hasattr(self.dataset, "decode") else o

    def test_set(self, items: object, rm_tfms: int | None = None, with_labels: bool = False) -> Any:
        labels = {"with_labels": True} if with_labels else {}
        return self.dataset.test_set(items, rm_tfms, **labels) if hasattr(self.dataset, "test_set") else None

    def new_empty(self) -> Any:
        return self.dataset.new_empty() if hasattr(self.dataset, "new_empty") else []

    def class_labels(self) -> np.ndarray[Any, Any] | None:
        if isinstance(self.dataset, torch.utils.data.TensorDataset):
            return self.dataset.tensors[-1].numpy(force=True)
        targets = getattr(self.dataset, "targets", None)  # as torchvision's data sets have
        return None if targets is None else np.asarray(targets)

    def raw_split(self) -> Raw | None:
        return self.dataset.raw_split() if hasattr(self.dataset, "raw_split") else None


class Selection(torch.utils.data.Subset[Any]):
    """Some samples of a data set of another library, with what that says of all of them: `n_inp`, `vocab`, ….

    Args:
        dataset: The data set.
        positions: Which of its samples: int64 [sample].
    """

    def __init__(self, dataset: Any, positions: Positions) -> None:
        super().__init__(dataset, positions.tolist())
        if (targets := getattr(dataset, "targets", None)) is not None:
            self.targets = np.asarray(targets)[positions]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("dataset", "tensors"):
            raise AttributeError(name)
        return getattr(self.dataset, name)


def as_dataset(dataset: object) -> DatasetBase:
    """`dataset` itself if it is a `DatasetBase`, else an adapter."""
    return dataset if isinstance(dataset, DatasetBase) else ForeignDataset(dataset)


# -- loaders


class Loader(Protocol):
    """The interface of a loader to a loop. `DataLoader` implements it; `ForeignLoader` adapts those of other libraries."""

    dataset: Any

    @property
    def device(self) -> torch.device | None:
        """Where its batches are sent; None if it leaves them where they are."""

    @property
    def n_inp(self) -> int | None:
        """How many leading parts of a batch are inputs; None if unknown."""

    @property
    def length(self) -> int | None:
        """The number of batches of a pass; None if unknown."""

    @property
    def is_exhaustible(self) -> bool:
        """Whether it can be iterated over only once: a generator, or another iterator."""

    @property
    def keeps_position(self) -> bool:
        """Whether `state_dict` and `load_state_dict` save and restore the position within a pass."""

    @property
    def replays(self) -> bool:
        """Whether what makes its batches has changed in its workers, so that only replaying the pass restores that."""

    @property
    def samplers(self) -> Sequence[object]:
        """The samplers that choose its items, outermost first."""

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """The generators that belong to it and that it draws from."""

    def __iter__(self) -> Iterator[Any]: ...

    def set_epoch(self, epoch: int, purpose: str = "train") -> None:
        """Set the epoch that determines the order and the draws of the next pass."""

    def peeking(self) -> AbstractContextManager[Any]:
        """Context manager: passes inside do not advance the loader, as far as it supports that."""

    def state_dict(self) -> dict[str, Any]:
        """Its position."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a position."""


class ForeignLoader:
    """The adapter of a loader of another library: torch's `DataLoader`, a list of batches, a generator.

    Args:
        loader: Anything that can be iterated over.
    """

    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader: Any = loader
        self.dataset: Any = getattr(loader, "dataset", None)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loader)

    @property
    def device(self) -> torch.device | None:
        """Where its batches are sent; None if unknown."""
        return getattr(self.loader, "device", None)

    @property
    def n_inp(self) -> int | None:
        """How many leading parts of a batch are inputs; None if unknown."""
        return getattr(self.loader, "n_inp", None)

    @property
    def length(self) -> int | None:
        """The number of batches of a pass; None if unknown."""
        return length_of(self.loader)

    @property
    def is_exhaustible(self) -> bool:
        """Whether it can be iterated over only once."""
        return isinstance(self.loader, Iterator)

    @property
    def keeps_position(self) -> bool:
        """Whether it has `state_dict` and `load_state_dict`."""
        return isinstance(self.loader, Stateful)

    @property
    def replays(self) -> bool:
        """Whether its state leaves out what waits in a buffer. Without `state_dict` the pass is replayed anyway."""
        return reads_ahead(self.loader) or reads_ahead(self.dataset)

    @property
    def samplers(self) -> list[object]:
        """The samplers of a loader like torch's: `sampler`, `batch_sampler`, and the sampler inside the latter."""
        batch_sampler = getattr(self.loader, "batch_sampler", None)
        found = (getattr(self.loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
        return [sampler for sampler in found if sampler is not None]

    @property
    def generators(self) -> list[torch.Generator]:
        """The generators of the loader and its samplers, each once."""
        owned = [getattr(owner, "generator", None) for owner in (self.loader, *self.samplers)]
        return list({id(g): g for g in owned if isinstance(g, torch.Generator)}.values())

    def set_epoch(self, epoch: int, purpose: str = "train") -> None:
        """Forward the epoch to the loader, or to the first of its item samplers that has a `set_epoch`."""
        batch_sampler = getattr(self.loader, "batch_sampler", None)
        for owner in (self.loader, *(sampler for sampler in self.samplers if sampler is not batch_sampler)):
            set_epoch = getattr(owner, "set_epoch", None)
            if set_epoch is not None:  # this library's takes a purpose too, DistributedSampler's only the epoch
                takes_purpose = "purpose" in inspect.signature(set_epoch).parameters
                set_epoch(epoch, purpose) if takes_purpose else set_epoch(epoch)
                return

    def peeking(self) -> AbstractContextManager[Any]:
        """Does nothing: any pass over a foreign loader advances its generators."""
        return nullcontext(self)

    def state_dict(self) -> dict[str, Any]:
        """The loader's own state."""
        return self.loader.state_dict()  # type: ignore[no-any-return]  # in the loader's own format

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the loader's own state."""
        self.loader.load_state_dict(state)


def length_of(loader: object) -> int | None:
    """The length of a loader or data set; None if it has none."""
    try:
        return len(loader) if isinstance(loader, Sized) else None
    except (TypeError, NotImplementedError):  # `__len__` exists, but raises: an IterableDataset inside, for example
        return None


def reads_ahead(source: object) -> bool:
    """Whether a stream of Hugging Face's datasets is shuffled: its state then leaves out what waits in the buffer.

    Args:
        source: A stream, of any library.
    """
    own = own_vars(source) or {}
    layers = [own.get("_ex_iterable"), own.get("ex_iterable"), *(own.get("ex_iterables") or ())]
    below = [layer for layer in layers if layer is not None]
    return type(source).__name__ == "BufferShuffledExamplesIterable" or any(map(reads_ahead, below))
