"""`TfmdLists`: one column of items through one pipeline, made on demand."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layered.data.adapters import DatasetBase, PipelineColumn, Positions
from layered.data.conversions import Tfms
from layered.data.data_loaders import DataLoaders
from layered.data.loader import SkipItemException
from layered.data.subset import SPLIT_NAMES, Subset, as_items, as_splits, labels_of, pick, walk
from layered.foundation import (
    BadValue,
    ItemTransform,
    L,
    Pipeline,
    Transform,
    describe,
    failed,
    key_of,
    mask2idxs,
    seeded,
    without_axes,
)


class TfmdLists(DatasetBase):
    """Items through a pipeline, on demand.

    Args:
        items: A list, an `L`, an array, a DataFrame (its rows), a map-style data set, or any iterable.
        tfms: The transforms, applied in their `order`; each is fitted to what those before it make of the training
            items.
        use_list: True lists `items` even if they can be indexed.
        do_setup: Fit the transforms; False leaves them as they are.
        split_idx: The split that this is, which decides which transforms apply: 0 training, 1 validation, None all.
        train_setup: Fit to the training items only; the `train_setup` of a transform takes precedence.
        splits: The positions of the training items, of the validation items, …; None if the items are not split.
        verbose: Print each transform that is set up.
        dl_type: The loader class that `dataloaders` uses; `TfmdDL` by default.
        name: The name of the column in messages.
        getters: How many leading transforms only look something up, such as the column of a row: items given at
            prediction time skip them.

    Raises:
        BadItem: An item cannot be made; the message names the item and the step.

    Examples:
        >>> tl = TfmdLists([1, 2, 3], lambda x: 2 * x, splits=[[0, 2], [1]])
        >>> list(tl.train), list(tl.valid), tl[1]
        ([2, 6], [4], 4)
    """

    left_out: tuple[str, ...] = ()
    """In a loaded export: the getters and labellers before the pipeline, in words."""
    whole: Pipeline | None = None
    """In a loaded export: the pipeline with those steps; None if the file does not hold them."""
    _kept: tuple[int, Sequence[Any]] | None = None  # how many first steps, and what they make of all items

    def __init__(
        self,
        items: Any,
        tfms: Tfms = None,
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
        self._all_items = list(items) if use_list is True else as_items(items)
        self.splits = None if splits is None else as_splits(splits, len(self._all_items), labels_of(self._all_items))
        self._positions: np.ndarray[Any, Any] | None = None
        self.name, self.dl_type, self.getters = name, dl_type, getters
        self.tfms = Pipeline(tfms, split_idx=split_idx)
        if do_setup:
            self.setup(train_setup, verbose)

    def setup(self, train_setup: bool = True, verbose: bool = False) -> None:
        """Fit the transforms in order, each to what those before it make of the training items.

        Args:
            train_setup: Fit to the training items only; the `train_setup` of a transform takes precedence.
            verbose: Print each transform.
        """
        steps, self.tfms = self.tfms, Pipeline(split_idx=self.split_idx)
        self._kept = None
        with set_aside_random(steps.is_foreign):
            for step in steps:
                if verbose:
                    print(f"Setting up {step!r}")
                on_train = train_setup if step.train_setup is None else step.train_setup
                source = self.train if on_train and self.splits is not None else self
                try:
                    self.tfms.add(step, source)
                    self._keep_after(len(self.tfms))
                except Exception as error:
                    self.tfms = steps
                    raise failed(error, f"setting up the {self.name} on {len(source)} items") from error

    def _keep_after(self, count: int) -> None:
        """Keep what the first `count` steps make of all items, if the last of them says so: see `Transform.keep`."""
        step = self.tfms.fs[count - 1]
        if step.keep is not None:
            before = copy.copy(self)
            before.tfms = Pipeline(split_idx=self.split_idx)
            before.tfms.fs = self.tfms.fs[: count - 1]
            self._kept = count, step.keep(before)

    # -- which items

    @property
    def items(self) -> Any:
        """The items before any transform: all, or those of this subset."""
        return self._all_items if self._positions is None else Subset(self._all_items, self._positions)

    @property
    def all_items(self) -> Any:
        """The items of all splits, before any transform."""
        return self._all_items

    def with_all_items(self, items: object) -> TfmdLists:
        """The same column over another container of the same items."""
        res = copy.copy(self)
        res._all_items = items
        return res

    @property
    def columns(self) -> Sequence[PipelineColumn]:
        """Itself, the only column."""
        return [self]

    def with_columns(self, columns: Sequence[PipelineColumn]) -> TfmdLists:
        """The only one of `columns`."""
        (column,) = columns
        assert isinstance(column, TfmdLists)
        return column

    def as_split(self, split_idx: int) -> TfmdLists:
        """The same items, transformed as those of another split."""
        res = copy.copy(self)
        res.split_idx = split_idx
        return res

    def part(self, positions: Positions) -> TfmdLists:
        """Some of the items, through the same pipeline."""
        res = copy.copy(self)
        res._positions = positions if self._positions is None else self._positions[positions]
        return res

    @property
    def split_idx(self) -> int | None:
        """Which split this is: 0 training, 1 validation, None all."""
        return self.tfms.split_idx

    @split_idx.setter
    def split_idx(self, i: int | None) -> None:
        self.tfms = self.tfms.for_split(i)

    def subset(self, i: int) -> TfmdLists:
        """The items of split `i`, sharing the pipeline; without splits, all items are those of split 0, for training."""
        if self.splits is None and i != 0:
            raise BadValue(
                f"the items are not split, so there is no subset {i}", fix="TfmdLists(items, tfms, splits=splits)"
            )
        res = copy.copy(self)
        res.split_idx = i
        if self.splits is not None:
            res._positions = self.splits[i]
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

    def overlapping_splits(self) -> bool:
        """Whether an item is in more than one split."""
        joined = np.concatenate(self.splits) if self.splits else np.arange(0)
        return len(np.unique(joined)) < len(joined)

    def new(self, items: object, split_idx: int | None = None) -> TfmdLists:
        """The same fitted pipeline over other items."""
        res = copy.copy(self)
        res._all_items, res._positions, res.splits, res._kept = items, None, None, None
        if split_idx is not None:
            res.split_idx = split_idx
        return res

    def new_empty(self) -> TfmdLists:
        """The same pipeline without items."""
        return self.new([])

    def from_start(self) -> TfmdLists:
        """Of a loaded export: the column with the steps that find its items."""
        res = copy.copy(self)
        res.tfms, res.left_out = Pipeline(self.whole, split_idx=self.split_idx), ()
        return res

    # -- making them

    def __len__(self) -> int:
        return len(self._all_items) if self._positions is None else len(self._positions)

    def __getitem__(self, i: object) -> Any:
        if not isinstance(i, (int, np.integer)):
            wanted = range(len(self))[i] if isinstance(i, slice) else mask2idxs(i)
            return L([self[j] for j in wanted], use_list=True)
        if not -len(self) <= i < len(self):
            raise IndexError(f"item {i} is out of range for {len(self)} items")
        position = int(i) if self._positions is None else int(self._positions[i])
        if (kept := self.kept) is None:
            return self.make(pick(self._all_items, position), position)
        made = kept[position]
        try:
            for step in range(self._kept_steps, len(self.tfms)):
                made = self.tfms.step(step, made)
        except SkipItemException:
            raise
        except Exception as error:
            item = self._named_item(pick(self._all_items, position), position)
            raise failed(error, f"making the {self.name} of {item}") from error
        return made

    @property
    def kept(self) -> Sequence[Any] | None:
        """What the first steps make of each item of all splits, where one of them keeps it (see `Transform.keep`)."""
        return self._kept[1] if self._kept is not None and self._kept_steps <= len(self.tfms) else None

    @property
    def _kept_steps(self) -> int:
        return 0 if self._kept is None else self._kept[0]

    def make(self, item: object, position: int | None = None) -> Any:
        """`item` through the pipeline; an error names the item and the step that failed."""
        try:
            return self.tfms(item)
        except SkipItemException:
            raise
        except Exception as error:
            raise failed(error, f"making the {self.name} of {self._named_item(item, position)}") from error

    def _named_item(self, item: object, position: int | None) -> str:
        of = f" of the {SPLIT_NAMES[self.split_idx]} items" if self.split_idx in (0, 1) else ""
        return f"{'the item' if position is None else f'item {position}'}{of} ({describe(item)})"

    def describe_item(self, i: int) -> str:
        """Item `i` in a message: its position among all items, its split, and the source it is made from."""
        position = i if self._positions is None else int(self._positions[i])
        return self._named_item(pick(self._all_items, position), position)

    def __iter__(self) -> Iterator[Any]:
        """All items. Plain functions are mapped over many items at once, which saves the dispatch of each step."""
        if self.kept is not None:
            return (self[i] for i in range(len(self)))
        functions = [(step, plain_function(step)) for step in self.tfms]
        made = walk(self.items)
        for step, function in functions:
            if function is None:
                return (self[i] for i in range(len(self)))
            made = _each(step, function, made)
        return self._named(made)

    def _named(self, made: Iterator[Any]) -> Iterator[Any]:
        """Pass items on. When one fails, make it once more by index, for an error that names it."""
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

    # -- undoing and showing them

    def decode(self, o: object, full: bool = True) -> Any:
        """Undo the pipeline."""
        return self.tfms.decode(o, full=full)

    def show(self, o: object, ctx: object = None, **kwargs: object) -> Any:
        """Show one item, decoded as far as needed; axes are returned if `ctx` gave them."""
        return without_axes(self.tfms.show(o, ctx=ctx, **kwargs), ctx)

    # -- other items, at prediction time

    def infer_idx(self, item: object) -> int:
        """How many leading transforms to skip for an item given at prediction time: the getters, unless it has the type of
        the items they start from."""
        if not self.getters or not len(self._all_items):
            return self.getters
        kind = type(pick(self._all_items, 0))
        is_raw = isinstance(item, kind) or (_is_path_type(kind) and _is_path_type(type(item)))
        return 0 if is_raw else self.getters

    def infer(self, item: object) -> Any:
        """An item given at prediction time through the pipeline: see `infer_idx`."""
        return self.test_set([item])[0]

    def test_set(self, items: object, rm_tfms: int | None = None, with_labels: bool = False) -> TfmdLists:
        """Other items through the same pipeline, as validation items.

        Args:
            items: The items.
            rm_tfms: How many leading transforms to skip; by default judged by the type of the first item.
            with_labels: Ignored: a single column has no targets.
        """
        listed = as_items(items)
        res = self.new(listed, split_idx=1)
        skip = rm_tfms if rm_tfms is not None else self.infer_idx(pick(listed, 0)) if len(listed) else 0
        res.tfms, res.getters = Pipeline(self.tfms.fs[skip:], split_idx=1), max(0, self.getters - skip)
        if len(listed) > 1:
            with set_aside_random(res.is_foreign):
                for count in range(1, len(res.tfms) + 1):
                    res._keep_after(count)
        return res

    # -- what the transforms know

    @property
    def vocab(self) -> Any:
        """The vocabulary of the pipeline."""
        return self.tfms.vocab

    @property
    def c(self) -> Any:
        """The number of classes, or of numbers to predict, that the pipeline was fitted to."""
        return self.tfms.c

    @property
    def element_type(self) -> type | None:
        """The type that a transform says it makes, or the class whose method the last of them calls, such as
        `PILMask.create`: that of its tensors, if it names one; else None."""
        said = next((t.makes for t in self.tfms if t.makes is not None), None)
        if said is not None:
            return said
        owners = [t.enc.__self__ for t in self.tfms if isinstance(t.enc, MethodType)]
        made = next((owner for owner in reversed(owners) if isinstance(owner, type)), None)
        return None if made is None else getattr(made, "tensor_type", made)

    @property
    def target_kind(self) -> str | None:
        """The kind of target that the pipeline makes: "category", "regression", …; None if it does not say."""
        return next((t.target_kind for t in self.tfms if t.target_kind is not None), None)

    @property
    def is_foreign(self) -> bool:
        """Whether making an item runs code from outside the library."""
        return self.tfms.is_foreign

    def dataloaders(self, bs: int = 64, **kwargs: Any) -> DataLoaders:
        """Loaders over the splits: see `DataLoaders.from_splits`."""
        return DataLoaders.from_splits(self, bs=bs, **kwargs)

    @property
    def size_text(self) -> str:
        """How many items there are, in words: "10 items: 8 training, 2 validation"."""
        split = f"{SPLIT_NAMES[self.split_idx]} " if self.split_idx in (0, 1) else ""
        count = f"{len(self)} {split}item{'' if len(self) == 1 else 's'}"
        if self.splits is None or self._positions is not None:
            return count
        sizes = zip(
            map(len, self.splits), [*SPLIT_NAMES, *(f"split {i}" for i in range(2, len(self.splits)))], strict=False
        )
        return f"{count}: {', '.join(f'{size} {name}' for size, name in sizes)}"

    def __repr__(self) -> str:
        first = f", first {describe(pick(self.items, 0))}" if len(self) else ""
        return (
            f"{type(self).__name__} of {self.size_text}{first}\n  {' → '.join(map(repr, self.tfms)) or 'no transforms'}"
        )


def set_aside_random(foreign: bool) -> AbstractContextManager[None]:
    """Context for reading items during setup: foreign code draws from the seed of the run, and the states of the global
    generators are restored afterwards."""
    return seeded(key_of(torch.initial_seed(), "setup")) if foreign else nullcontext()


def plain_function(step: Transform) -> Callable[[Any], Any] | None:
    """The function of a transform that only calls it; None for all other transforms."""
    if type(step) not in (Transform, ItemTransform) or step.enc is None or step.split_idx is not None:
        return None
    return step.enc if step._wrapped["encodes"][1].returns in (Tensor, str, int, float, bool) else None


def _each(step: Transform, function: Callable[[Any], Any], items: Iterator[Any]) -> Iterator[Any]:
    """The items through a plain function, at the speed of `map`. Chunks with tuples, or with types that the function does
    not apply to, go through the dispatch of `step`."""
    types = step._wrapped["encodes"][0]
    while chunk := list(itertools.islice(items, 1024)):
        applies = types == (object,) or all(map(isinstance, chunk, itertools.repeat(types)))
        is_simple = applies and not any(map(isinstance, chunk, itertools.repeat(tuple)))
        yield from map(function if is_simple else step, chunk)


def _is_path_type(kind: type) -> bool:
    return issubclass(kind, (str, os.PathLike))
