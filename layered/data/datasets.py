"""`Datasets`: samples as tuples, each element made on demand by the pipeline of its column."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from layered.data.adapters import DatasetBase, PipelineColumn, Positions
from layered.data.data_loaders import DataLoaders
from layered.data.encodings import Categorize, CategoryMap, distinct, list_some, unknown_labels
from layered.data.samplers import Weights
from layered.data.subset import SPLIT_NAMES, as_items, as_splits, labels_of, pick, walk
from layered.data.tfmd_lists import TfmdLists, set_aside_random
from layered.data.tfmd_loader import PartialDL
from layered.foundation import (
    BadValue,
    CannotTrain,
    L,
    Pipeline,
    default_loss_for,
    default_losses,
    facts_html,
    facts_text,
    failed,
    listify,
    mask2idxs,
    warn,
    without_axes,
)

sample_rules: dict[type, Callable[[tuple[Any, ...], int], tuple[Any, ...]]] = {}
"""By a class of targets: what brings samples with such a target together, given a sample and how many are inputs."""


def settle_unseen(dsets: Datasets) -> None:
    """Apply the `unseen` rule of each target's encoding to labels that the training items lack.

    Raises:
        UnknownLabel: The rule is "error".
        BadValue: A label is missing.
    """
    for tl in dsets.tls[dsets.n_inp :]:
        encode = next((t for t in tl.tfms if isinstance(t, Categorize) and t.fits_vocab), None)
        if encode is None or encode.add_na or tl.splits is None:
            continue
        with set_aside_random(tl.is_foreign):
            if encode.fitted_vocab.has_missing:
                raise _missing(tl, encode)
            for i in range(1, tl.n_subsets):
                labels, has_missing = distinct(_labels(tl, encode, i))
                if has_missing:
                    raise _missing(tl, encode, i)
                _settle(dsets, tl, encode, i, labels)


def _settle(dsets: Datasets, tl: TfmdLists, encode: Categorize, i: int, labels: list[Any]) -> None:
    seen = CategoryMap(_labels(tl, encode, 0), sort=False).o2i if encode.unseen == "extend" else encode.fitted_vocab.o2i
    unknown = [label for label in labels if label not in seen]
    if not unknown:
        return
    name = SPLIT_NAMES[i] if i < len(SPLIT_NAMES) else f"other ({i})"
    if encode.unseen == "error":
        raise unknown_labels(unknown, encode.fitted_vocab, f" of the training items, but among the {name} items")
    if encode.unseen == "extend":
        done = "added to the classes of the model, although it never trains on them"
    else:
        keep = np.array([not set(encode.labels([target])) & set(unknown) for target in _before(tl, encode, i)])
        for column in dsets.tls:
            assert column.splits is not None  # as the target's, which has a split to settle
            column.splits = [*column.splits[:i], column.splits[i][keep], *column.splits[i + 1 :]]
        count = int((~keep).sum())
        done = f"dropped, with {f'{count} items' if count > 1 else 'the item'}"
    warn(f"labels found only in {name} items were {done}: {list_some(unknown)}")


def _before(tl: TfmdLists, encode: Categorize, i: int) -> TfmdLists:
    """The targets of split `i` as the encoding receives them."""
    res = copy.copy(tl)
    res.tfms = Pipeline(tl.tfms.fs[: tl.tfms.fs.index(encode)])
    return res.subset(i)


def _labels(tl: TfmdLists, encode: Categorize, i: int) -> Any:
    return encode.labels(_before(tl, encode, i))


def _missing(tl: TfmdLists, encode: Categorize, split: int = 0) -> BadValue:
    targets = _before(tl, encode, split)
    missing = [i for i, target in enumerate(targets) if distinct(encode.labels([target]))[1]]
    count = f"{len(missing)} {SPLIT_NAMES[split]} item{'s have' if len(missing) > 1 else ' has'}"
    return BadValue(
        f"{count} no label, when making the {tl.name} of {targets.describe_item(missing[0])}",
        got=repr(targets[missing[0]]),
        expected="a label for each item",
        fix="drop those items (df.dropna(subset=...)), or give them a class: CategoryBlock(add_na=True); "
        "a class called 'NA' or 'None' is read by pd.read_csv(..., keep_default_na=False)",
    )


class Datasets(DatasetBase):
    """Samples as tuples: one `TfmdLists` per column, over the same items.

    Args:
        items: The items that all columns start from.
        tfms: A list of transforms for each column; by default one column of the items themselves.
        tls: Existing columns, in place of `items` and `tfms`.
        n_inp: How many leading columns are inputs; by default all but the last.
        dl_type: The loader class that `dataloaders` uses; `TfmdDL` by default.
        splits: Positions of the training items, of the validation items, …; None if the items are not split.
        do_setup: Fit the transforms to the training items; False leaves them as they are.
        verbose: Print each transform that is set up.

    Examples:
        >>> from layered.data.encodings import Categorize
        >>> dsets = Datasets(["a.x", "b.y"], [[str.upper], [lambda s: s[-1], Categorize()]], splits=[[0, 1], [1]])
        >>> dsets[0], dsets.vocab, dsets.decode(dsets[1])
        (('A.X', TensorCategory(0)), ['x', 'y'], ('B.Y', 'y'))
    """

    def __init__(
        self,
        items: object = None,
        tfms: Sequence[Any] | None = None,
        tls: Sequence[TfmdLists] | None = None,
        n_inp: int | None = None,
        dl_type: type | None = None,
        splits: Sequence[Any] | None = None,
        do_setup: bool = True,
        verbose: bool = False,
    ) -> None:
        if tls is None:
            listed, columns = as_items(items), [None] if tfms is None else listify(tfms)
            splits = None if splits is None else as_splits(splits, len(listed), labels_of(listed))
            names = column_names(len(columns), n_inp)
            tls = [
                TfmdLists(listed, column, splits=splits, do_setup=do_setup, verbose=verbose, name=name)
                for column, name in zip(columns, names, strict=True)
            ]
        self.tls = list(tls)
        self.n_inp: int = default_n_inp(len(self.tls), n_inp)
        self.dl_type = dl_type

    def __len__(self) -> int:
        return len(self.tls[0])

    def __getitem__(self, i: object) -> Any:
        if isinstance(i, (int, np.integer)):
            return self._together(tuple(tl[i] for tl in self.tls), int(i))
        wanted = range(len(self))[i] if isinstance(i, slice) else mask2idxs(i)
        return L([self[j] for j in wanted], use_list=True)

    def _together(self, sample: tuple[Any, ...], i: int) -> tuple[Any, ...]:
        for kind, rule in sample_rules.items():
            if any(isinstance(target, kind) for target in sample[self.n_inp :]):
                try:
                    sample = rule(sample, self.n_inp)
                except Exception as error:
                    raise failed(error, f"making the sample of {self.describe_item(i)}") from error
        return sample

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return (self[i] for i in range(len(self)))

    def describe_item(self, i: int) -> str:
        """Sample `i` in a message: see `TfmdLists.describe_item`."""
        return self.tls[0].describe_item(i)

    def _with(self, tls: Sequence[TfmdLists]) -> Datasets:
        res = copy.copy(self)
        res.tls = list(tls)
        return res

    @property
    def columns(self) -> Sequence[TfmdLists]:
        """The columns, as `tls`."""
        return self.tls

    def with_columns(self, columns: Sequence[PipelineColumn]) -> Datasets:
        """A copy with other columns."""
        return self._with([column for column in columns if isinstance(column, TfmdLists)])

    def as_split(self, split_idx: int) -> Datasets:
        """The same samples, transformed as those of another split."""
        return self._with([tl.as_split(split_idx) for tl in self.tls])

    def part(self, positions: Positions) -> Datasets:
        """Some of the samples."""
        return self._with([tl.part(positions) for tl in self.tls])

    def class_labels(self) -> np.ndarray[Any, Any] | None:
        """The first target of each sample, without making inputs; None without targets."""
        return np.asarray([np.asarray(o) for o in self.tls[self.n_inp]]) if len(self.tls) > self.n_inp else None

    @property
    def items(self) -> Any:
        """The items before any transform."""
        return self.tls[0].items

    @property
    def splits(self) -> Any:
        """The positions of each split."""
        return self.tls[0].splits

    starts_workers = True

    @property
    def split_idx(self) -> int | None:  # type: ignore[override]  # the columns keep it
        """Which split this is: 0 training, 1 validation, None all."""
        return self.tls[0].split_idx

    @property
    def n_subsets(self) -> int:
        return self.tls[0].n_subsets

    def subset(self, i: int) -> Datasets:
        """The samples of split `i`; without splits, all are those of split 0, for training."""
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
        """Context manager: transforms samples as those of split `i`; 0 gives them the augmentation of training."""
        before = [tl.split_idx for tl in self.tls]
        try:
            for tl in self.tls:
                tl.split_idx = i
            yield self
        finally:
            for tl, old in zip(self.tls, before, strict=True):
                tl.split_idx = old

    def decode(self, o: Sequence[Any], full: bool = True) -> tuple[Any, ...]:
        """Undo the pipeline of each column."""
        return tuple(tl.decode(x, full=full) for x, tl in zip(o, self.tls, strict=False))

    def show(self, o: Sequence[Any], ctx: object = None, **kwargs: object) -> Any:
        """Show each column of one sample on the same axes, which are returned if `ctx` gave them."""
        shown = ctx
        for x, tl in zip(o, self.tls, strict=False):
            shown = tl.tfms.show(x, ctx=shown, **kwargs)
        return without_axes(shown, ctx)

    @property
    def vocab(self) -> Any:
        """The vocabulary of the columns; an `L` if several have one: of a text, and of its label."""
        found = [tl.vocab for tl in self.tls if hasattr(tl.tfms, "vocab")]
        if not found:
            raise AttributeError("no transform of these datasets has a vocabulary")
        return found[0] if len(found) == 1 else L(found, use_list=True)

    @property
    def is_foreign(self) -> bool:
        """Whether making a sample runs code from outside the library."""
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
        """The `loss_func` of a transform of the target, else a new default loss for the kind of target; None without a
        target, or without a default for it."""
        named = [tfm.loss_func for tl in self.tls[self.n_inp :] for tfm in tl.tfms if tfm.loss_func is not None]
        if len(named) == 1:
            return named[0]
        kinds = self.target_kinds
        return default_loss_for(kinds[0]) if len(kinds) == 1 and kinds[0] in default_losses else None

    def check_labels(self) -> None:
        """Apply, before training, the `unseen` rule of each target to labels that only validation items have, and let each
        encoding of labels look at the samples."""
        settle_unseen(self)
        for encode in (step for tl in self.tls[self.n_inp :] for step in tl.tfms if isinstance(step, Categorize)):
            for i in range(self.n_subsets):
                encode.check_samples(self.subset(i))

    def test_set(self, items: object, rm_tfms: int | None = None, with_labels: bool = False) -> Datasets:
        """Other items through the input pipelines, as validation items.

        Args:
            items: Anything that the inputs can be made from.
            rm_tfms: How many leading transforms to skip; by default judged by the type of the first item.
            with_labels: Also make the targets.

        Raises:
            CannotTrain: The targets come from an export that does not hold what finds the labels.
        """
        listed, columns = as_items(items), self.tls if with_labels else self.tls[: self.n_inp]
        if with_labels and any(tl.left_out for tl in columns):
            return self._with(self._labelled(listed))
        if rm_tfms is None and len(columns) > 1 and self._are_apart(listed, len(columns)):
            parts = zip(*walk(listed), strict=True)
            return self._with([tl.test_set(list(part), tl.getters) for tl, part in zip(columns, parts, strict=True)])
        return self._with([tl.test_set(listed, rm_tfms) for tl in columns])

    def _labelled(self, items: Any) -> list[TfmdLists]:
        """The columns of an export over labelled items: those that its data sets started from, or tuples (input, target)."""
        lost = [tl for tl in self.tls if tl.whole is None]
        are_tuples = len(items) > 0 and all(type(o) is tuple and len(o) == len(self.tls) for o in walk(items))
        if are_tuples and (lost or not any(tl.left_out for tl in self.tls[: self.n_inp])):
            parts = [list(part) for part in zip(*walk(items), strict=True)]
            n = self.n_inp
            inputs = parts[:1] if n == 1 else [list(zip(*parts[:n], strict=True))] * n
            return [tl.test_set(part) for tl, part in zip(self.tls, [*inputs, *parts[n:]], strict=True)]
        if lost:
            raise CannotTrain(
                f"the export does not hold what finds the {lost[0].name} of an item",
                got=f"left out: {', '.join(lost[0].left_out)}",
                expected="parent_label, a RegexLabeller, a ColReader of a column that needs no folder before it, or a def with "
                "@exportable('my.name') above it, when exporting and when loading",
                fix="test_dl(list(zip(files, labels)), with_labels=True); without labels: test_dl(files)",
            )
        return [tl.from_start().test_set(items, 0) for tl in self.tls]

    def _are_apart(self, items: Any, count: int) -> bool:
        """Whether each item is a tuple with a source for each of `count` columns, as none of the items here is."""
        own = self.tls[0].all_items
        if not len(own) or isinstance(pick(own, 0), (tuple, list)):  # an export has no items, and may start from tuples
            return False
        return len(items) > 0 and all(isinstance(o, tuple) and len(o) == count for o in walk(items))

    def dataloaders(self, bs: int = 64, **kwargs: Any) -> DataLoaders:
        """Loaders over the splits: see `DataLoaders.from_splits`.

        Args:
            bs: Items per batch.
            kwargs: As for `DataLoaders.from_splits`.
        """
        return DataLoaders.from_splits(self, bs=bs, **kwargs)

    def weighted_dataloaders(self, wgts: Weights, bs: int = 64, **kwargs: object) -> DataLoaders:
        """Loaders over the splits whose training items are drawn by weight.

        Args:
            wgts: A weight for each item, or for each training item; or "balanced", "oversample".
            bs: Items per batch.
            kwargs: As for `DataLoaders.from_splits`.
        """
        return self.dataloaders(bs=bs, weights=wgts, **kwargs)

    def partial_dataloaders(self, partial_n: int, bs: int = 64, **kwargs: object) -> DataLoaders:
        """Loaders over the splits that train on a different random subset each epoch.

        Args:
            partial_n: Training items per epoch.
            bs: Items per batch.
            kwargs: As for `DataLoaders.from_splits`.
        """
        return self.dataloaders(bs=bs, dl_type=PartialDL, dl_kwargs=[{"partial_n": partial_n}], **kwargs)

    def _facts(self) -> tuple[str, dict[str, object]]:
        names = [tl.name for tl in self.tls]
        names = names if len(set(names)) == len(names) else column_names(len(names), self.n_inp)
        facts: dict[str, object] = {
            name: " → ".join(map(repr, tl.tfms)) or "the item itself" for name, tl in zip(names, self.tls, strict=True)
        }
        return f"{type(self).__name__} of {self.tls[0].size_text}", facts

    def __repr__(self) -> str:
        return facts_text(*self._facts())

    def _repr_html_(self) -> str:
        return facts_html(*self._facts())


def default_n_inp(columns: int, n_inp: int | None = None) -> int:
    """How many of `columns` are inputs: `n_inp`, checked, or all but the last."""
    if n_inp is not None and not 0 < n_inp <= columns:
        raise BadValue(
            "n_inp is the number of leading columns that are inputs",
            got=f"n_inp={n_inp} with {columns} columns",
            expected=f"from 1 to {columns}",
            fix="omit it if all columns but the last are inputs",
        )
    return max(1, columns - 1) if n_inp is None else n_inp


def column_names(columns: int, n_inp: int | None = None) -> list[str]:
    """The names of the columns in messages.

    Examples:
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
    """Item `i` of a data set, decoded.

    Args:
        o: A `Datasets`, `TfmdLists` or another data set with `decode`.
        i: The position of the item.
    """
    return o.decode(o[i])


def show_at(o: Any, i: int, **kwargs: object) -> Any:
    """Show item `i` of a data set.

    Args:
        o: A `Datasets`, `TfmdLists` or another data set with `show`.
        i: The position of the item.
        kwargs: For the `show` methods: `ctx`, the axes to draw on, ….
    """
    return o.show(o[i], **kwargs)
