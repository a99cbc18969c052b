"""`Datasets`: samples as tuples, each column made by a pipeline of its own, on demand."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from layered.data.choosers import Weights
from layered.data.column import TfmdLists
from layered.data.loader_set import DataLoaders
from layered.data.subset import as_items, as_splits
from layered.data.unseen import settle_unseen
from layered.data.weighted import PartialDL
from layered.foundation.errors import BadValue
from layered.foundation.helpers import listify
from layered.foundation.lists import L
from layered.foundation.targets import default_loss_for, default_losses


class Datasets:
    """Samples as tuples: one `TfmdLists` a column, over the same items.

    items      the items all columns start from
    tfms       one list of transforms a column
    tls        ready columns, in place of items and tfms
    n_inp      how many leading columns are inputs; by default all but the last
    splits     positions of the training items, of the validation items, …

    >>> from layered.data.encodings import Categorize
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
            items, columns = as_items(items), [None] if tfms is None else listify(tfms)
            splits = None if splits is None else as_splits(splits, len(items))
            names = column_names(len(columns), n_inp)
            tls = [
                TfmdLists(items, column, splits=splits, do_setup=do_setup, verbose=verbose, name=name)
                for column, name in zip(columns, names, strict=True)
            ]
        self.tls = list(tls)
        self.n_inp = default_n_inp(len(self.tls), n_inp)
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
        """The loss that a transform of the target names as its `loss_func`, else a new default loss for the kind of the
        target; None where there is no target or no loss is known for it."""
        named = [tfm.loss_func for tl in self.tls[self.n_inp :] for tfm in tl.tfms if hasattr(tfm, "loss_func")]
        if len(named) == 1:
            return named[0]
        kinds = self.target_kinds
        return default_loss_for(kinds[0]) if len(kinds) == 1 and kinds[0] in default_losses else None

    def check_labels(self) -> None:
        """Settle, before anything is trained, what happens to labels that validation items have and training items lack, as
        the encoding of each target says: see `settle_unseen`."""
        settle_unseen(self)

    def test_set(self, items: Any, rm_tfms: int | None = None, with_labels: bool = False) -> Datasets:
        """Other items through the input pipelines (the targets' too, `with_labels`), as validation items."""
        items, columns = as_items(items), self.tls if with_labels else self.tls[: self.n_inp]
        return self._with([tl.test_set(items, rm_tfms) for tl in columns])

    def dataloaders(self, bs: int = 64, **kwargs: Any) -> DataLoaders:
        """Loaders over the splits: see `DataLoaders.from_splits`."""
        return DataLoaders.from_splits(self, bs=bs, **kwargs)

    def weighted_dataloaders(self, wgts: Weights, bs: int = 64, **kwargs: Any) -> DataLoaders:
        """The same, with training items drawn by weight: see `DataLoaders.from_splits`.

        wgts       a number for each item, or for each training item; or "balanced", "oversample"
        """
        return self.dataloaders(bs=bs, weights=wgts, **kwargs)

    def partial_dataloaders(self, partial_n: int, bs: int = 64, **kwargs: Any) -> DataLoaders:
        """The same, with `partial_n` of the training items an epoch, others each time."""
        return self.dataloaders(bs=bs, dl_type=PartialDL, dl_kwargs=[{"partial_n": partial_n}], **kwargs)

    def __repr__(self) -> str:
        return "\n".join(f"(#{len(self)}) column {i}: {tl.tfms!r}" for i, tl in enumerate(self.tls))


def default_n_inp(columns: int, n_inp: int | None = None) -> int:
    """How many of `columns` are inputs: `n_inp`, checked, or all but the last."""
    if n_inp is not None and not 0 < n_inp <= columns:
        raise BadValue(
            "n_inp is the number of leading columns that are inputs",
            got=f"n_inp={n_inp} with {columns} columns",
            expected=f"from 1 to {columns}",
            fix="leave it out where all columns but the last are inputs",
        )
    return max(1, columns - 1) if n_inp is None else n_inp


def column_names(columns: int, n_inp: int | None = None) -> list[str]:
    """What the columns are called in messages.

    >>> column_names(2), column_names(3, n_inp=2)
    (['input', 'target'], ['input 0', 'input 1', 'target'])
    """
    inputs = default_n_inp(columns, n_inp)
    targets = columns - inputs
    return [
        *(["input"] if inputs == 1 else [f"input {i}" for i in range(inputs)]),
        *(["target"] if targets == 1 else [f"target {i}" for i in range(targets)]),
    ]


def decode_at(o: Any, i: int) -> Any:
    """Item `i` of `o`, decoded."""
    return o.decode(o[i])


def show_at(o: Any, i: int, **kwargs: Any) -> Any:
    """Show item `i` of `o`."""
    return o.show(o[i], **kwargs)
