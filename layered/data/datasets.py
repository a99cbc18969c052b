"""Lazily transformed collections: `TfmdLists` is one column of items through one pipeline, `Datasets` several of them."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layered.data.encodings import Categorize, unknown_labels
from layered.data.loader import SkipItemException
from layered.data.loader_set import DataLoaders
from layered.data.subset import Subset, as_positions, pick
from layered.foundation.errors import BadValue, failed
from layered.foundation.lists import L, mask2idxs
from layered.foundation.pipeline import Pipeline, describe
from layered.foundation.seeds import key_of, seeded
from layered.foundation.targets import default_loss_for, default_losses
from layered.foundation.transform import Transform

SPLIT_NAMES = ("training", "validation")


class TfmdLists:
    """Items through a pipeline, on demand.

    items        a list, an `L`, an array, a DataFrame (its rows) or anything with `len` and indexing
    tfms         the transforms, in order; those that fit to data are set up, in order, on the training items
    splits       the positions of the training items, of the validation items, …
    split_idx    which split this is: its random transforms behave accordingly
    train_setup  fit on the training items only
    do_setup     False leaves the transforms as they are
    getters      how many leading transforms only find an item, and do not make it: a row's column, a file's label
    raises       BadItem, with the item and the step, when an item cannot be made

    >>> tl = TfmdLists([1, 2, 3], lambda x: 2 * x, splits=[[0, 2], [1]])
    >>> list(tl.train), list(tl.valid), tl[1]
    ([2, 6], [4], 4)
    """

    def __init__(
        self,
        items: Any,
        tfms: Any = None,
        use_list: bool | None = None,
        do_setup: bool = True,
        split_idx: int | None = None,
        train_setup: bool = True,
        splits: Sequence[Any] | None = None,
        verbose: bool = False,
        dl_type: type | None = None,
        name: str = "item",
        getters: int = 0,
    ) -> None:
        self._all_items = items if hasattr(items, "__getitem__") and use_list is not True else list(items)
        total = len(self._all_items)
        self.splits: list[np.ndarray[Any, Any]] | None = None
        if splits is not None:
            self.splits = [as_positions(split, total) for split in splits]
        self._positions: np.ndarray[Any, Any] | None = None
        self.name, self.dl_type, self.getters = name, dl_type, getters
        self.tfms = Pipeline(tfms, split_idx=split_idx)
        if do_setup:
            self.setup(train_setup, verbose)

    @property
    def items(self) -> Any:
        """The items before any transform: all, or those of this subset."""
        return self._all_items if self._positions is None else Subset(self._all_items, self._positions)

    def setup(self, train_setup: bool = True, verbose: bool = False) -> None:
        """Set the transforms up in order, each on what the ones before it make of the training items."""
        with _set_aside_random(self.is_foreign):
            steps, self.tfms = self.tfms.fs, Pipeline(split_idx=self.split_idx)
            for step in steps:
                if verbose:
                    print(f"Setting up {step!r}")
                source: Any = self.train if train_setup and self.splits is not None else self
                self.tfms.add(step, source)

    @property
    def split_idx(self) -> int | None:
        """Which split this is: 0 training, 1 validation, None all."""
        return self.tfms.split_idx

    @split_idx.setter
    def split_idx(self, i: int | None) -> None:
        self.tfms = self.tfms.for_split(i)

    def subset(self, i: int) -> TfmdLists:
        """The items of split `i`, sharing the pipeline."""
        if self.splits is None:
            raise BadValue("there are no splits to take a subset of", fix="TfmdLists(items, tfms, splits=splits)")
        res = copy.copy(self)
        res._positions, res.split_idx = self.splits[i], i
        return res

    @property
    def n_subsets(self) -> int:
        return 1 if self.splits is None else len(self.splits)

    @property
    def train(self) -> TfmdLists:
        """The training items."""
        return self.subset(0)

    @property
    def valid(self) -> TfmdLists:
        """The validation items."""
        return self.subset(1)

    def new_empty(self) -> TfmdLists:
        """The same pipeline without items."""
        return self.new([])

    def new(self, items: Any, split_idx: int | None = None) -> TfmdLists:
        """The same fitted pipeline over other items."""
        res = copy.copy(self)
        res._all_items, res._positions, res.splits = items, None, None
        if split_idx is not None:
            res.split_idx = split_idx
        return res

    def __len__(self) -> int:
        return len(self._all_items) if self._positions is None else len(self._positions)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, (int, np.integer)):
            position = int(i) if self._positions is None else int(self._positions[i])
            if not -len(self._all_items) <= position < len(self._all_items):
                raise IndexError(f"item {i} of {len(self)}")
            return self.make(pick(self._all_items, position), position)
        wanted = range(len(self))[i] if isinstance(i, slice) else mask2idxs(i)
        return L([self[j] for j in wanted], use_list=True)

    def make(self, item: Any, position: int | None = None) -> Any:
        """What the pipeline makes of `item`; a failure names the item and the step."""
        try:
            return self.tfms(item)
        except SkipItemException:
            raise
        except Exception as error:
            raise failed(error, f"making the {self.name} of {self._named_item(item, position)}") from error

    def _named_item(self, item: Any, position: int | None) -> str:
        of = f" of the {SPLIT_NAMES[self.split_idx]} items" if self.split_idx in (0, 1) else ""
        return f"{'the item' if position is None else f'item {position}'}{of} ({describe(item)})"

    def describe_item(self, i: int) -> str:
        """What item `i` is, for messages: its place among all items, its split, and what it is made from."""
        position = i if self._positions is None else int(self._positions[i])
        return self._named_item(pick(self._all_items, position), position)

    def __iter__(self) -> Iterator[Any]:
        """All items; through plain functions they are mapped step by step, without the dispatch of a single item."""
        items = self.items
        made: Iterator[Any] = (items.iloc[i] for i in range(len(items))) if hasattr(items, "iloc") else iter(items)
        functions = [plain_function(step) for step in self.tfms]
        if None in functions:
            return (self[i] for i in range(len(self)))
        for step, function in zip(self.tfms, functions, strict=True):
            made = _each(step, function, made)
        return self._named(made)

    def _named(self, made: Iterator[Any]) -> Iterator[Any]:
        """Pass items on; when one fails, find it again by itself for an error that names it."""
        count = 0
        try:
            for count, item in enumerate(made, 1):  # noqa: B007  # the count is read when an item fails
                yield item
        except SkipItemException:
            raise
        except Exception:
            for i in range(count, len(self)):
                self[i]
            raise

    def decode(self, o: Any, full: bool = True) -> Any:
        """Undo the pipeline."""
        return self.tfms.decode(o, full=full)

    def show(self, o: Any, ctx: Any = None, **kwargs: Any) -> Any:
        """Show one item, decoded as far as needed."""
        return self.tfms.show(o, ctx=ctx, **kwargs)

    def infer_idx(self, item: Any) -> int:
        """How many leading transforms an item given at prediction time has behind it: its getters, unless it is of the
        kind that the getters start from."""
        if not self.getters or not len(self._all_items):
            return self.getters
        kind = type(pick(self._all_items, 0))
        is_raw = isinstance(item, kind) or (_is_path_type(kind) and _is_path_type(type(item)))
        return 0 if is_raw else self.getters

    def test_set(self, items: Any, rm_tfms: int | None = None) -> TfmdLists:
        """Other items through the same pipeline, as validation items.

        rm_tfms    how many leading transforms they have behind them; by default judged by the type of the first
        """
        res = self.new(items, split_idx=1)
        skip = rm_tfms if rm_tfms is not None else self.infer_idx(pick(items, 0)) if len(items) else 0
        res.tfms, res.getters = Pipeline(self.tfms.fs[skip:], split_idx=1), max(0, self.getters - skip)
        return res

    def overlapping_splits(self) -> bool:
        """Whether an item stands in more than one split."""
        joined = np.concatenate(self.splits) if self.splits else np.arange(0)
        return len(np.unique(joined)) < len(joined)

    @property
    def vocab(self) -> Any:
        """The vocabulary that a transform of the pipeline fitted."""
        return self.tfms.vocab

    @property
    def is_foreign(self) -> bool:
        """Whether making an item runs code that is not of this library."""
        return self.tfms.is_foreign

    @property
    def c(self) -> Any:
        """The number of classes, or of numbers, that a transform of the pipeline fitted."""
        return self.tfms.c

    @property
    def target_kind(self) -> str | None:
        """What kind of target this column is, as its transforms say: "category", "regression", …"""
        return next((t.target_kind for t in self.tfms if hasattr(t, "target_kind")), None)

    def dataloaders(self, bs: int = 64, **kwargs: Any) -> DataLoaders:
        """Loaders over the splits: see `DataLoaders.from_splits`."""
        return DataLoaders.from_splits(self, bs=bs, **kwargs)

    def __repr__(self) -> str:
        return f"TfmdLists of {len(self)} items, first {describe(self.items[0]) if len(self) else None}\n{self.tfms!r}"


def _set_aside_random(foreign: bool) -> AbstractContextManager[None]:
    """Code that is not ours, run to look at the items, draws from the run's seed and moves no global generator."""
    return seeded(key_of(torch.initial_seed(), "setup")) if foreign else nullcontext()


def plain_function(step: Transform) -> Callable[[Any], Any] | None:
    """The function of a transform that does nothing else but call it; None for all other transforms."""
    if type(step) is not Transform or step.enc is None or step.split_idx is not None:
        return None
    return step.enc if step._wrapped["encodes"][1].returns in (Tensor, str, int, float, bool) else None


def _each(step: Transform, function: Any, items: Iterator[Any]) -> Iterator[Any]:
    """`function` of all items, at the speed of `map`; what it does not apply to, and tuples, are for the step itself."""
    types = step._wrapped["encodes"][0]
    while chunk := list(itertools.islice(items, 1024)):
        applies = types == (object,) or all(map(isinstance, chunk, itertools.repeat(types)))
        is_simple = applies and not any(map(isinstance, chunk, itertools.repeat(tuple)))
        yield from map(function if is_simple else step, chunk)


def _is_path_type(kind: type) -> bool:
    return issubclass(kind, str) or hasattr(kind, "__fspath__")


class Datasets:
    """Samples as tuples: one `TfmdLists` a column, over the same items.

    items      the items all columns start from
    tfms       one list of transforms a column
    tls        ready columns, in place of items and tfms
    n_inp      how many leading columns are inputs; by default all but the last
    splits     positions of the training items, of the validation items, …

    >>> dsets = Datasets(["a.x", "b.y"], [[str.upper], [lambda s: s[-1], Categorize()]], splits=[[0, 1], [1]])
    >>> dsets[0], dsets.vocab, dsets.decode(dsets[1])
    (('A.X', TensorCategory(0)), ['x', 'y'], ('B.Y', 'y'))
    """

    def __init__(
        self,
        items: Any = None,
        tfms: Sequence[Any] | None = None,
        tls: Sequence[TfmdLists] | None = None,
        n_inp: int | None = None,
        dl_type: type | None = None,
        splits: Sequence[Any] | None = None,
        do_setup: bool = True,
        verbose: bool = False,
    ) -> None:
        if tls is None:
            columns = [None] if tfms is None else list(tfms)
            positions = None if splits is None else [as_positions(s, len(items)) for s in splits]
            inputs = max(1, len(columns) - 1) if n_inp is None else n_inp
            tls = [
                TfmdLists(
                    items,
                    t,
                    splits=positions,
                    do_setup=do_setup,
                    verbose=verbose,
                    name=_column_name(i, inputs, len(columns)),
                )
                for i, t in enumerate(columns)
            ]
        self.tls = list(tls)
        self.n_inp = n_inp if n_inp is not None else max(1, len(self.tls) - 1)
        self.dl_type = dl_type

    def __len__(self) -> int:
        return len(self.tls[0])

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, (int, np.integer)):
            return tuple(tl[i] for tl in self.tls)
        return L(list(zip(*(tl[i] for tl in self.tls), strict=True)), use_list=True)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return (self[i] for i in range(len(self)))

    def describe_item(self, i: int) -> str:
        """What sample `i` is, for messages: see `TfmdLists.describe_item`."""
        return self.tls[0].describe_item(i)

    def _with(self, tls: Sequence[TfmdLists]) -> Datasets:
        res = copy.copy(self)
        res.tls = list(tls)
        return res

    @property
    def items(self) -> Any:
        """The items before any transform."""
        return self.tls[0].items

    @property
    def splits(self) -> Any:
        """The positions of each split."""
        return self.tls[0].splits

    @property
    def split_idx(self) -> int | None:
        """Which split this is: 0 training, 1 validation, None all."""
        return self.tls[0].split_idx

    @property
    def n_subsets(self) -> int:
        return self.tls[0].n_subsets

    def subset(self, i: int) -> Datasets:
        """The samples of split `i`."""
        return self._with([tl.subset(i) for tl in self.tls])

    @property
    def train(self) -> Datasets:
        """The training samples."""
        return self.subset(0)

    @property
    def valid(self) -> Datasets:
        """The validation samples."""
        return self.subset(1)

    def new_empty(self) -> Datasets:
        """The same fitted pipelines without items."""
        return self._with([tl.new_empty() for tl in self.tls])

    @contextmanager
    def set_split_idx(self, i: int | None) -> Iterator[Datasets]:
        """The same samples, inside, as another split makes them: `0` with the training augmentation."""
        before = [tl.split_idx for tl in self.tls]
        for tl in self.tls:
            tl.split_idx = i
        try:
            yield self
        finally:
            for tl, old in zip(self.tls, before, strict=True):
                tl.split_idx = old

    def decode(self, o: Sequence[Any], full: bool = True) -> tuple[Any, ...]:
        """Undo the pipeline of each column."""
        return tuple(tl.decode(x, full=full) for x, tl in zip(o, self.tls, strict=False))

    def show(self, o: Sequence[Any], ctx: Any = None, **kwargs: Any) -> Any:
        """Show each column of one sample on the same axes."""
        for x, tl in zip(o, self.tls, strict=False):
            ctx = tl.show(x, ctx=ctx, **kwargs)
        return ctx

    @property
    def vocab(self) -> Any:
        """The vocabulary of the target, or of the input if no target has one; an `L` where there are several."""
        having = [tl for tl in self.tls if hasattr(tl.tfms, "vocab")]
        found = [tl.vocab for tl in having if tl in self.tls[self.n_inp :]] or [tl.vocab for tl in having]
        if not found:
            raise AttributeError("no transform of these datasets has a vocabulary")
        return found[0] if len(found) == 1 else L(found, use_list=True)

    @property
    def is_foreign(self) -> bool:
        """Whether making a sample runs code that is not of this library."""
        return any(tl.is_foreign for tl in self.tls)

    @property
    def c(self) -> int:
        """How many outputs a model needs, as the targets say."""
        return sum(int(tl.c) for tl in self.tls[self.n_inp :] if hasattr(tl.tfms, "c"))

    @property
    def target_kinds(self) -> list[str | None]:
        """The kind of each target: "category", "regression", …"""
        return [tl.target_kind for tl in self.tls[self.n_inp :]]

    @property
    def loss_func(self) -> Any:
        """A new default loss for the target, by its kind; None where there is no target or no loss is known for it."""
        kinds = self.target_kinds
        return default_loss_for(kinds[0]) if len(kinds) == 1 and kinds[0] in default_losses else None

    def check_labels(self) -> None:
        """Raise UnknownLabel, before anything is trained, if validation items have labels that the training items lack."""
        for tl in self.tls[self.n_inp :]:
            encode = next((t for t in tl.tfms if type(t) is Categorize), None)
            if encode is None or tl.splits is None or encode.add_na:
                continue
            vocab = encode.fitted_vocab
            before = copy.copy(tl)
            before.tfms = Pipeline(tl.tfms.fs[: tl.tfms.fs.index(encode)])
            for i in range(1, tl.n_subsets):
                with _set_aside_random(tl.is_foreign):
                    strange = list(dict.fromkeys(o for o in before.subset(i) if o not in vocab.o2i))
                if strange:
                    raise unknown_labels(
                        strange, vocab, f" of the training items, but among the {SPLIT_NAMES[i]} items"
                    )

    def test_set(self, items: Any, rm_tfms: int | None = None, with_labels: bool = False) -> Datasets:
        """Other items through the input pipelines (the targets' too, `with_labels`), as validation items."""
        columns = self.tls if with_labels else self.tls[: self.n_inp]
        return self._with([tl.test_set(items, rm_tfms) for tl in columns])

    def dataloaders(self, bs: int = 64, **kwargs: Any) -> DataLoaders:
        """Loaders over the splits: see `DataLoaders.from_splits`."""
        return DataLoaders.from_splits(self, bs=bs, **kwargs)

    def __repr__(self) -> str:
        return "\n".join(f"(#{len(self)}) column {i}: {tl.tfms!r}" for i, tl in enumerate(self.tls))


def _column_name(i: int, inputs: int, columns: int) -> str:
    if i < inputs:
        return "input" if inputs == 1 else f"input {i}"
    return "target" if columns - inputs == 1 else f"target {i - inputs}"
