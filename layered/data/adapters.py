"""What loaders ask of a data set and loops ask of a loader, and the adapters for those of other libraries.

Everything that is asked is declared here with a default. Objects of other libraries are wrapped once, at the door
(`as_dataset`, `as_loader`); behind it nothing is probed.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from layered.foundation import Pipeline

Positions = np.ndarray[Any, np.dtype[np.int64]]
Prints = np.ndarray[Any, np.dtype[np.int64]]
T = TypeVar("T", bound="DatasetBase")


# -- what a check reads of a split


@dataclass
class Target:
    """One target column.

    Args:
        name: What it is called in messages.
        kind: "category", "multicategory", "regression", or None where the values themselves must tell.
        values: The values at some positions, before they are encoded.
        vocab: The classes that a model is made for, where they are known.
        has_na: A missing label is a class of its own.
    """

    name: str
    kind: str | None
    values: Callable[[Positions], Any]
    vocab: Sequence[Any] | None = None
    has_na: bool = False


@dataclass
class Raw:
    """What can be read of one split without making its items. A data set with a method `raw_split` returns its own.

    Reading runs the getters and labellers of the user, so the caller sets the global generators aside.

    Args:
        count: The number of items; None if unknown.
        rough: Fingerprints of the inputs at some positions: equal for equal inputs, and cheap.
        exact: The same, but different for different inputs; None where `rough` already is.
        named: The name of item i in messages.
        items: The items before any transform.
        targets: The target columns that can be read.
        unchecked: What cannot be read, and why.
    """

    count: int | None = None
    rough: Callable[[Positions], Prints] | None = None
    exact: Callable[[Positions], Prints] | None = None
    named: Callable[[int], str] = "item {}".format
    items: Any = None
    targets: list[Target] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


# -- data sets


class Column(Protocol):
    """One column of a data set that is made by transforms: items through a pipeline."""

    name: str
    getters: int
    tfms: Pipeline

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
    """What a loader asks of its data set, with an answer for each question; subclasses override what they know.

    Any object with indexing or iteration is a data set: see `as_dataset`. Its attributes and methods of these names
    are used.
    """

    n_inp: int | None = None
    """How many leading elements of a sample are inputs; None if unknown."""
    split_idx: int | None = None
    """Which split it is: 0 training, 1 validation, None all."""
    starts_workers: bool = False
    """Whether loaders make its batches in workers unless told otherwise."""

    @property
    def columns(self) -> Sequence[Column]:
        """The columns of a data set that is made by transforms, one for each element of a sample; () for others."""
        return ()

    def with_columns(self: T, columns: Sequence[Column]) -> T:
        """The same data set with other columns."""
        return self

    def as_split(self, split_idx: int) -> Any:
        """The same samples, made as another split makes them."""
        res = copy.copy(self)
        res.split_idx = split_idx
        return res

    @property
    def fetch(self) -> Callable[[list[Any]], list[Any]] | None:
        """A function that makes the items at some positions in one call; None if that is not offered."""
        return None

    def row_tensors(self) -> tuple[Tensor, ...] | None:
        """Tensors whose rows are the samples, so that batches can be taken out of them; None if there are none."""
        return None

    def describe_item(self, i: Any) -> str:
        """Item `i` in a message."""
        return f"item {i}"

    def decode(self, o: Any, full: bool = True) -> Any:
        """A sample as it was before its pipelines."""
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
        """What `dls.check()` can read without making items; None if nothing is declared."""
        return None


class ForeignDataset(DatasetBase):
    """A data set of another library, or none at all: lists, tensors, torch's and torchvision's data sets."""

    def __init__(self, dataset: object) -> None:
        self.dataset: Any = dataset
        self.n_inp = getattr(dataset, "n_inp", None)
        self.split_idx = getattr(dataset, "split_idx", None)

    def as_split(self, split_idx: int) -> Any:
        res = copy.copy(self.dataset)
        res.split_idx = split_idx
        return res

    @property
    def fetch(self) -> Callable[[list[Any]], list[Any]] | None:
        owner = self.dataset
        while isinstance(owner, torch.utils.data.Subset):  # it has the method whether or not the data set below does
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


def as_dataset(dataset: object) -> DatasetBase:
    """`dataset` itself if it declares what a loader asks, else an adapter that answers for it."""
    return dataset if isinstance(dataset, DatasetBase) else ForeignDataset(dataset)


# -- loaders


@runtime_checkable
class Stateful(Protocol):
    """An object that can say where it stands, and continue from there."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


class Loader(Protocol):
    """What a loop asks of a loader. `DataLoader` answers itself; `ForeignLoader` answers for those of other libraries."""

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
        """Whether `state_dict` and `load_state_dict` say and restore where a pass stands."""

    @property
    def samplers(self) -> Sequence[object]:
        """The samplers that choose its items, in the order in which they are asked."""

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """The generators of its own that it draws from."""

    def __iter__(self) -> Iterator[Any]: ...

    def set_epoch(self, epoch: int, purpose: str = "train") -> None:
        """Fix what the next pass draws with."""

    def peeking(self) -> AbstractContextManager[Any]:
        """Passes inside leave no trace, if the loader can do that."""

    def state_dict(self) -> dict[str, Any]:
        """Where it stands."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from where `state` was taken."""


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
        """Where its batches are sent; None if it does not say."""
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
    def samplers(self) -> list[object]:
        """The samplers of a loader like torch's: its own, the one that makes batches, and the one inside that."""
        batch_sampler = getattr(self.loader, "batch_sampler", None)
        found = (getattr(self.loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
        return [sampler for sampler in found if sampler is not None]

    @property
    def generators(self) -> list[torch.Generator]:
        """The generators of the loader and its samplers, each once."""
        owned = [getattr(owner, "generator", None) for owner in (self.loader, *self.samplers)]
        return list({id(g): g for g in owned if isinstance(g, torch.Generator)}.values())

    def set_epoch(self, epoch: int, purpose: str = "train") -> None:
        """Pass the epoch on to the loader, or to the first of its item samplers that has a `set_epoch`."""
        batch_sampler = getattr(self.loader, "batch_sampler", None)
        for owner in (self.loader, *(sampler for sampler in self.samplers if sampler is not batch_sampler)):
            set_epoch = getattr(owner, "set_epoch", None)
            if set_epoch is not None:
                takes_purpose = "purpose" in inspect.signature(set_epoch).parameters
                set_epoch(epoch, purpose) if takes_purpose else set_epoch(epoch)
                return

    def peeking(self) -> AbstractContextManager[Any]:
        """Nothing: a pass over a foreign loader moves its generators on."""
        return nullcontext(self)

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands, as it says itself."""
        return self.loader.state_dict()  # type: ignore[no-any-return]  # whatever the loader says

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hand the loader back its own state."""
        self.loader.load_state_dict(state)


def length_of(loader: object) -> int | None:
    """The length of a loader or data set; None if it has none."""
    try:
        return len(loader) if isinstance(loader, Sized) else None
    except (TypeError, NotImplementedError):  # a length that is declared, but unknown
        return None
