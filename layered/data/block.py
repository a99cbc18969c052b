"""`DataBlock`: the description of a data set. It holds no data; `datasets` and `dataloaders` apply it to a source."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Callable, Iterable, Sequence, Sized
from typing import Any

from layered.data.conversions import Tfms, ToTensor, as_tfms
from layered.data.data_loaders import DataLoaders
from layered.data.datasets import Datasets, column_names, default_n_inp
from layered.data.encodings import (
    Categorize,
    EncodedMultiCategorize,
    MultiCategorize,
    OneHotEncode,
    RegressionSetup,
    list_some,
)
from layered.data.samplers import Weights
from layered.data.sources import ItemGetter
from layered.data.splitters import RandomSplitter, Splitter, split_items
from layered.data.subset import SPLIT_NAMES, as_items
from layered.data.tfmd_loader import TfmdDL
from layered.foundation import (
    BadArgument,
    BadValue,
    EmptySource,
    ItemTransform,
    L,
    LayeredError,
    Pipeline,
    Tickets,
    Transform,
    checked,
    describe,
    drawing,
    facts_html,
    facts_text,
    failed,
    function_name,
    key_of,
    made,
    noop,
    to_device,
    warn,
)


def explain(block: DataBlock, source: object, bs: int = 4, show_batch: bool = False, **kwargs: object) -> None:
    """Print, step by step, how a `DataBlock` turns `bs` training items of `source` into a batch; then try every loader.

    A failing step raises what the loaders would raise.
    """
    print(f"Setting up the data of {describe(source)}")
    dsets = block.datasets(source, verbose=True)
    first = dsets.train.describe_item(0)
    print("\nBuilding one sample")
    sample = []
    for tl in dsets.train.tls:
        print(f"  {tl.name}\n    the item is          {describe(tl.items[0])}")
        sample.append(_apply("    ", tl.tfms, tl.items[0], f"making the {tl.name} of {first}"))
    item = tuple(sample)
    print(f"\nThe sample: {describe(item)}")

    slots: dict[str, Any] = block.slots()
    loading: dict[str, Any] = {"bs": bs, "num_workers": 0, "drop_last": False, **block.dls_kwargs, **kwargs}
    dls = dsets.dataloaders(after_item=slots["after_item"], **loading)
    print("\nItem transforms, one sample at a time")
    steps = dls.train.after_item
    assert isinstance(steps, Pipeline)  # a slot of a `TfmdDL`
    with drawing(Tickets(key_of("explain"))):
        _apply("  ", steps, item, f"transforming {first}")

    print(f"\nCollating {min(bs, len(dsets.train))} samples")
    batch = to_device(dls.one_batch(), dls.device)
    print(f"  the batch is         {describe(batch)}")

    print("\nBatch transforms, on the device")
    dls = dsets.dataloaders(**slots, **loading)
    batch_steps = dls.train.after_batch
    assert isinstance(batch_steps, Pipeline)  # a slot of a `TfmdDL`
    with drawing(Tickets(key_of("explain"))):
        _apply("  ", batch_steps, batch, "transforming a batch")

    print("\nA batch of each loader, from the start")
    for name, dl in zip(SPLIT_NAMES, dls, strict=False):
        print(f"  {name:<20} {describe(dl.one_batch())}")
    if show_batch:
        dls.show_batch()


def _apply(indent: str, steps: Pipeline, o: object, stage: str) -> Any:
    if not len(steps):
        print(f"{indent}no transforms")
    for i, step in enumerate(steps):
        try:
            made = steps.step(i, o)
        except Exception as error:
            cause = error.problem if isinstance(error, LayeredError) else f"{type(error).__name__}: {error}"
            print(f"{indent}{step!r} FAILED on {describe(o)}: {cause}")
            raise failed(error, stage) from error
        print(f"{indent}{repr(step)[:60]:<20} gives {describe(made)}")
        o = made
    return o


class TransformBlock:
    """One column of a `DataBlock`: how its elements are made, and which transforms they need by default.

    Args:
        type_tfms: Turn what the getter returns into the element of the sample: `PILImage.create`, `Categorize()`.
        item_tfms: Default transforms of single items, on the CPU; `ToTensor` is always among them.
        batch_tfms: Default transforms of batches, on the device.
        dl_type: The loader class that this kind of data needs; `TfmdDL` if no block names one.
        dls_kwargs: Default arguments of the loaders.
    """

    def __init__(
        self,
        type_tfms: Tfms = None,
        item_tfms: Tfms = None,
        batch_tfms: Tfms = None,
        dl_type: type[TfmdDL] | None = None,
        dls_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.type_tfms = as_tfms(type_tfms)
        self.item_tfms = [ToTensor, *as_tfms(item_tfms)]
        self.batch_tfms = as_tfms(batch_tfms)
        self.dl_type, self.dls_kwargs = dl_type, dls_kwargs or {}

    def __repr__(self) -> str:
        own = {"type_tfms": self.type_tfms, "item_tfms": self.item_tfms[1:], "batch_tfms": self.batch_tfms}
        given = [f"{name}=[{', '.join(map(_brief, tfms))}]" for name, tfms in own.items() if tfms]
        given += [f"dl_type={self.dl_type.__name__}"] if self.dl_type is not None else []
        return f"{type(self).__name__}({', '.join(given)})"


Block = TransformBlock | Callable[[], TransformBlock]  # a block, or the class or function that makes one


def CategoryBlock(
    vocab: Sequence[Any] | None = None, sort: bool = True, add_na: bool = False, unseen: str = "error"
) -> TransformBlock:
    """A target with one label per item.

    Args:
        vocab: The labels, in order; by default the sorted labels of the training items.
        sort: Sort the labels, including those of `vocab`; False keeps the order of first appearance.
        add_na: Reserve class 0, '#na#', for missing and unknown labels.
        unseen: How to treat labels that only validation items have: "error", "drop" these items, or "extend" the
            vocabulary.
    """
    return TransformBlock(type_tfms=Categorize(vocab=vocab, sort=sort, add_na=add_na, unseen=unseen))


def MultiCategoryBlock(
    encoded: bool = False, vocab: Sequence[Any] | None = None, add_na: bool = False, unseen: str = "error"
) -> TransformBlock:
    """A target with a list of labels per item, one-hot encoded: float32 [class].

    Args:
        encoded: The targets are already zeros and ones, one for each label of `vocab`.
        vocab: The labels, in order, required with `encoded`; by default the sorted labels of the training items.
        add_na: Reserve class 0, '#na#', for missing and unknown labels.
        unseen: How to treat labels that only validation items have; as in `CategoryBlock`.

    Raises:
        BadValue: `encoded` without `vocab`.
    """
    if encoded and vocab is None:
        raise BadValue("encoded labels need a vocabulary", fix="MultiCategoryBlock(encoded=True, vocab=[...])")
    tfms = (
        [EncodedMultiCategorize(vocab or ())]
        if encoded
        else [MultiCategorize(vocab=vocab, add_na=add_na, unseen=unseen), OneHotEncode()]
    )
    return TransformBlock(type_tfms=tfms)


def RegressionBlock(n_out: int | None = None) -> TransformBlock:
    """A target of one or several numbers per item, as float32.

    Args:
        n_out: Numbers per item, the outputs of a model; by default counted in the first training item.
    """
    return TransformBlock(type_tfms=RegressionSetup(c=n_out))


def _kind_of(tfm: object) -> Any:
    """The identity by which one transform replaces another: its class; for a function, the function itself."""
    return tfm if isinstance(tfm, type) else type(tfm) if isinstance(tfm, Transform) and not tfm.enc else id(tfm)


def merge_tfms(*tfms: Iterable[Any]) -> list[Any]:
    """All transforms in order; a later one of the same class takes the place of the earlier one. Classes are instantiated."""
    merged: dict[Any, Any] = {}
    for several in tfms:
        for tfm in several:
            merged[_kind_of(tfm)] = tfm
    return [made(tfm) if isinstance(tfm, type) and issubclass(tfm, Transform) else tfm for tfm in merged.values()]


class DataBlock:
    """A description of a data set, from a source to batches.

    Args:
        blocks: A block for each column: `(ImageBlock, CategoryBlock)`, as classes, functions or instances; by default
            two plain `TransformBlock`s.
        get_items: Lists the items of the source; by default the source itself is the list of items.
        splitter: Splits the items into training and validation positions; `RandomSplitter()` by default.
        get_x: Gets the input from an item; a list of functions for several input blocks. By default the item itself.
        get_y: Gets the target from an item; a list of functions for several target blocks. By default the item itself.
        getters: One function for each block, in place of `get_x` and `get_y`.
        n_inp: How many leading columns are inputs; all but the last by default.
        item_tfms: Transforms of single items; each replaces a block's default of the same class.
        batch_tfms: Transforms of batches, on the device; each replaces a block's default of the same class.
        dl_type: The loader class; by default the one that the last block names, else `TfmdDL`.

    Examples:
        >>> block = DataBlock(get_y=lambda n: n % 2, blocks=(TransformBlock, CategoryBlock), splitter=RandomSplitter(seed=42))
        >>> dsets = block.datasets(list(range(10)))
        >>> len(dsets.train), len(dsets.valid), dsets.vocab
        (8, 2, [0, 1])
    """

    @checked
    def __init__(
        self,
        blocks: Block | Sequence[Block] | None = None,
        dl_type: type[TfmdDL] | None = None,
        getters: Sequence[Callable[..., Any]] | None = None,
        n_inp: int | None = None,
        item_tfms: Tfms = None,
        batch_tfms: Tfms = None,
        *,
        get_items: Callable[[Any], Any] | None = None,
        splitter: Splitter | None = None,
        get_x: Callable[..., Any] | Sequence[Callable[..., Any]] | None = None,
        get_y: Callable[..., Any] | Sequence[Callable[..., Any]] | None = None,
    ) -> None:
        given = (TransformBlock, TransformBlock) if blocks is None else blocks
        given = given if isinstance(given, (tuple, list, L)) else (given,)
        self.blocks: list[TransformBlock] = [_as_block(b) for b in given]
        self.n_inp = default_n_inp(len(self.blocks), n_inp)
        self.get_items, self.splitter = _a_function("get_items", get_items), _a_function("splitter", splitter)
        self.getters = _getters(len(self.blocks), self.n_inp, getters, get_x, get_y)
        types = [b.dl_type for b in self.blocks if b.dl_type is not None]
        self.dl_type = dl_type or (types[-1] if types else TfmdDL)
        self.dls_kwargs = {k: v for b in self.blocks for k, v in b.dls_kwargs.items()}
        self.item_tfms = merge_tfms(*(b.item_tfms for b in self.blocks), as_tfms(item_tfms))
        self.batch_tfms = merge_tfms(*(b.batch_tfms for b in self.blocks), as_tfms(batch_tfms))

    @classmethod
    def from_columns(
        cls,
        blocks: Sequence[Block] | None = None,
        getters: Sequence[Callable[..., Any]] | None = None,
        get_items: Callable[[Any], Any] | None = None,
        **kwargs: Any,
    ) -> DataBlock:
        """A `DataBlock` for a source given by column: column `i` of `get_items(source)` feeds block `i`.

        Args:
            blocks: A block for each column; by default two plain `TransformBlock`s.
            getters: One function for each column, applied to its elements; by default they are used as they are.
            get_items: Gets the columns from the source; by default the source is the sequence of columns.
            kwargs: For `DataBlock`: `splitter`, `item_tfms`, `batch_tfms`, ….
        """
        count = len(blocks) if blocks is not None else 2
        columns = getters if getters is not None else [noop] * count
        composed = [Pipeline([ItemGetter(i), *([] if f is noop else [f])]) for i, f in enumerate(columns)]

        def rows(source: Iterable[Any]) -> list[Any]:
            columns = get_items(source) if get_items is not None else source
            return list(zip(*columns, strict=True))

        return cls(blocks=blocks, getters=composed, get_items=rows, **kwargs)

    def new(self, item_tfms: Tfms = None, batch_tfms: Tfms = None, splitter: Splitter | None = None) -> DataBlock:
        """A copy with other item or batch transforms, or another splitter; the original does not change.

        Args:
            item_tfms: Replaces the item transforms, merged with the blocks' defaults again; None keeps them.
            batch_tfms: Replaces the batch transforms, likewise.
            splitter: Replaces the splitter; None keeps it.
        """
        res = copy.copy(self)
        res.splitter = self.splitter if splitter is None else splitter
        if item_tfms is not None:
            res.item_tfms = merge_tfms(*(b.item_tfms for b in self.blocks), as_tfms(item_tfms))
        if batch_tfms is not None:
            res.batch_tfms = merge_tfms(*(b.batch_tfms for b in self.blocks), as_tfms(batch_tfms))
        return res

    def datasets(self, source: object, verbose: bool = False) -> Datasets:
        """The data sets of `source`: its items, split, with transforms fitted to the training items.

        Args:
            source: What `get_items` takes; without it, the items.
            verbose: Print the number of items and each transform that is set up.

        Raises:
            EmptySource: The source has no items.
            EmptySplit: A split is empty.
            UnknownLabel: Only validation items have a label.
            BadValue: There are no classes, a label is missing, or an item is in two splits.
            BadArgument: The items are a path.
        """
        items = as_items(_items_of(source, self.get_items))
        check_items(items, source, self.get_items)
        splits = split_items(self.splitter if self.splitter is not None else RandomSplitter(), items)
        if verbose:
            print(f"Found {len(items)} items, split into {' and '.join(str(len(s)) for s in splits)}")
        tfms = [
            [*_steps(getter), *own_copies(block.type_tfms)]
            for getter, block in zip(self.getters, self.blocks, strict=True)
        ]
        dsets = Datasets(items, tfms=tfms, splits=splits, n_inp=self.n_inp, dl_type=self.dl_type, verbose=verbose)
        for tl, getter in zip(dsets.tls, self.getters, strict=True):
            tl.getters = len(_steps(getter))
        check_classes(dsets)
        check_fractions(dsets)
        dsets.check_labels()
        return dsets

    def dataloaders(
        self, source: object, path: str | os.PathLike[str] = ".", verbose: bool = False, bs: int = 64, **kwargs: object
    ) -> DataLoaders:
        """The loaders of `source`: training items shuffled, validation items in order.

        Args:
            source: What `get_items` takes; without it, the items.
            path: The folder for models and exports.
            verbose: Print each step of the setup.
            bs: Items per batch.
            kwargs: For `DataLoaders.from_dsets`: `val_bs`, `num_workers`, `device`, `seed`, `on_bad`, ….
        """
        dsets = self.datasets(source, verbose=verbose)
        kwargs = {**self.dls_kwargs, **kwargs}
        return dsets.dataloaders(bs=bs, path=path, verbose=verbose, **self.slots(), **kwargs)

    def weighted_dataloaders(self, source: object, wgts: Weights, bs: int = 64, **kwargs: Any) -> DataLoaders:
        """The loaders of `source` with training items drawn by weight: see `Datasets.weighted_dataloaders`.

        Args:
            source: What `get_items` takes; without it, the items.
            wgts: A weight for each item, or for each training item; or "balanced", "oversample".
            bs: Items per batch.
            kwargs: As for `dataloaders`.
        """
        return self.dataloaders(source, bs=bs, weights=wgts, **kwargs)

    def slots(self) -> dict[str, list[Any]]:
        """The transforms for the slots of loaders, copied so that fitting them does not change this description."""
        return {"after_item": own_copies(self.item_tfms), "after_batch": own_copies(self.batch_tfms)}

    def _facts(self) -> tuple[str, dict[str, object]]:
        columns = zip(column_names(len(self.blocks), self.n_inp), self.getters, self.blocks, strict=True)
        facts: dict[str, object] = {} if self.get_items is None else {"source": _brief(self.get_items)}
        for name, getter, block in columns:
            facts[name] = _in_order([*_steps(getter), *block.type_tfms]) or "the item itself"
        facts["splitter"] = _brief(self.splitter if self.splitter is not None else RandomSplitter())
        slots = {"item_tfms": self.item_tfms, "batch_tfms": self.batch_tfms}
        return type(self).__name__, facts | {name: _in_order(tfms) for name, tfms in slots.items() if tfms}

    def __repr__(self) -> str:
        return facts_text(*self._facts())

    def _repr_html_(self) -> str:
        return facts_html(*self._facts())

    def summary(self, source: object, bs: int = 4, show_batch: bool = False, **kwargs: object) -> None:
        """Build a batch step by step and print what each step does, up to the step that fails.

        Args:
            source: What `get_items` takes; without it, the items.
            bs: Items of the batch.
            show_batch: Show the batch at the end.
            kwargs: As for `dataloaders`.
        """
        explain(self, source, bs=bs, show_batch=show_batch, **kwargs)


def _items_of(source: object, get_items: Callable[[Any], Any] | None) -> Any:
    if get_items is None:
        return source
    try:
        items = get_items(source)
    except LayeredError:
        raise
    except Exception as error:
        raise failed(error, f"getting the items of {describe(source)}") from error
    if items is None:
        raise BadArgument(
            f"{_brief(get_items)} returned no items, when getting the items of {describe(source)}",
            got="None",
            expected="a list, a DataFrame, …",
            fix="add a return statement",
        )
    return items


def check_items(items: Sized, source: object, get_items: object) -> None:
    """Raise EmptySource if there is no item."""
    if len(items) == 0:
        maker = f"{_brief(get_items)} of " if get_items is not None else ""
        raise EmptySource(
            f"found no items in {maker}{describe(source)}",
            got="0 items",
            expected="at least one item for training and one for validation",
            fix="check the source"
            if get_items is not None
            else "check the source, or give a function that lists its items: get_items=",
        )


def check_classes(dsets: Datasets) -> None:
    """Raise BadValue where a target has no classes, and warn where it has only one."""
    for tl in dsets.tls[dsets.n_inp :]:
        if tl.target_kind != "category" or tl.c > 1:
            continue
        if not tl.c:
            raise BadValue(
                "the target has no labels: nothing to classify",
                got=f"{len(dsets.train)} training items, none with a label",
                expected="at least two different labels",
                fix="check get_y (or the folders), or give the whole vocabulary: CategoryBlock(vocab=[...])",
            )
        warn(
            f"the target has only one class, {tl.vocab[0]!r}, for all {len(dsets.train)} training items: enough to look at "
            "the data, but nothing to classify. Check get_y (or the folders), or give the whole vocabulary: "
            "CategoryBlock(vocab=[...])"
        )


def check_fractions(dsets: Datasets) -> None:
    """Raise BadValue where the classes of a target are fractions, nearly as many as there are items."""
    for tl in dsets.tls[dsets.n_inp :]:
        is_classes = tl.target_kind == "category" and 2 * tl.c > len(dsets.train)
        if is_classes and any(isinstance(label, float) and label % 1 for label in tl.vocab):
            raise BadValue(
                "the labels are numbers with fractions, nearly as many as there are items",
                got=f"{tl.c} different numbers for {len(dsets.train)} training items: {list_some(tl.vocab)}",
                expected="classes that occur several times",
                fix="RegressionBlock for numbers to predict, in place of CategoryBlock",
            )


def _brief(tfm: object) -> str:
    """A transform, or a function or class that becomes one, for a `repr`."""
    return function_name(tfm) if isinstance(tfm, type) or inspect.isroutine(tfm) else repr(tfm)


def _in_order(tfms: Iterable[object]) -> str:
    return " → ".join(map(_brief, tfms))


def _as_block(block: object) -> TransformBlock:
    res = block() if isinstance(block, type) or (not isinstance(block, TransformBlock) and callable(block)) else block
    if not isinstance(res, TransformBlock):
        raise BadArgument(
            "not a block",
            got=repr(block),
            expected="a TransformBlock, or a function that returns one: ImageBlock, CategoryBlock(vocab=[...]), …",
            fix=f"without quotes: blocks=(..., {block})" if isinstance(block, str) else "for example CategoryBlock",
        )
    return res


def _a_function(name: str, given: object) -> Any:
    if given is None or callable(given):
        return given
    is_label = name not in ("get_items", "splitter") and isinstance(given, (str, int))
    raise BadArgument(
        f"{name} is not a function",
        got=repr(given)[:200],
        expected="a function of the source" if name == "get_items" else "a function of the items, or of one item",
        fix=f"{name}=ColReader({given!r}) for a column" if is_label else f"{name}=lambda o: ..., or leave it out",
    )


def _getters(count: int, n_inp: int, getters: Iterable[object] | None, get_x: object, get_y: object) -> list[Any]:
    res: list[Any] = [noop] * count if getters is None else list(getters)
    if len(res) != count:
        raise BadValue(
            "expected one getter for each block",
            got=f"{len(res)} getters",
            expected=f"{count}, one for each block",
            fix="noop for a block that starts from the item itself",
        )
    for name, given, start, stop in (("get_x", get_x, 0, n_inp), ("get_y", get_y, n_inp, count)):
        if given is None:
            continue
        several = list(given) if isinstance(given, (list, tuple, L)) else [given]
        if len(several) != stop - start:
            raise BadValue(
                f"{name} needs one function for each of its blocks",
                got=f"{len(several)} functions",
                expected=f"{stop - start}, with {count} blocks and n_inp={n_inp}",
                fix=f"to chain several functions, {name}=Pipeline([f, g])",
            )
        res[start:stop] = [_a_function(name, f) for f in several]
    return [_a_function("getters", f) for f in res]


def _steps(getter: Callable[..., Any] | None) -> list[Any]:
    if getter is noop or getter is None:
        return []
    if isinstance(getter, Pipeline):
        return list(getter.fs)
    is_transform = isinstance(getter, Transform) or (isinstance(getter, type) and issubclass(getter, Transform))
    # A plain Transform would be applied to each element of a tuple; a getter takes the whole item.
    return [getter if is_transform else ItemTransform(getter)]


def own_copies(tfms: list[Any]) -> list[Any]:
    """The transforms, copied: fitting them to one data set must not affect another made by the same block."""
    return [copy.copy(t) if isinstance(t, Transform) else t for t in tfms]
