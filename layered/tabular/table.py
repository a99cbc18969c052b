"""`Tabular`: a table and the procs that prepare it for a model, fitted on its training rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from layered.data import as_splits, own_copies
from layered.foundation import (
    BadArgument,
    BadValue,
    CannotTrain,
    InplaceTransform,
    L,
    Pipeline,
    Transform,
    checked,
    default_loss_for,
    default_losses,
    lazy,
    listify,
)
from layered.nn import MultiTaskLoss
from layered.tabular.columns import (
    Array,
    check_columns,
    compact,
    is_plain,
    listed,
    median_of,
    not_encoded,
    number_column,
    numbers_of,
    without_doubles,
    without_far,
)
from layered.tabular.frames import as_frame, show_frame
from layered.tabular.roles import Table, check_names, reordered
from layered.tabular.targets import Target, targets_of

pd = lazy("pandas")

NEEDED = "which the model was trained on"
OWN_PROCS: dict[type, str] = {}  # the procs of this library, which take categoricals, and what they do with them


class Tabular(Table):
    """A table whose columns are inputs (categorical and continuous) and targets, and the procs that prepare it.

    `items` is the table as it is now: after processing, categories are codes (0 is '#na#': missing or unseen), and the
    training rows come first. The frame that was given stays as it was.

    Args:
        df: The table: a frame of pandas, or what `as_frame` makes one of (polars, Arrow, a list of rows, …).
        procs: What prepares it: `[Categorify, FillMissing, Normalize]`, applied by their `order`, fitted on the
            training rows alone.
        cat_names: The categorical and the continuous columns.
        cont_names: The categorical and the continuous columns.
        y_names: The target, or several.
        y_block: What kind of target: a block, or a list with one for each target. By default numbers are predicted as
            numbers, anything else as classes.
        splits: Positions of the training rows and of the validation rows; by default all rows train.
        do_setup: Fit the procs and process the rows; False leaves both as they are.
        device: Where `tensors` and loaders are; by default as `DataLoaders` decides.
        inplace: Work in the frame that was given, where no rows have to be reordered, in place of a copy.
        reduce_memory: Keep floats as float32; whole numbers stay what they are.

    Raises:
        BadValue: Naming the columns, for those that are not there, that are no numbers, or have no target.
    """

    with_cont: ClassVar[bool] = True
    rows_are_tensors: ClassVar[bool] = True  # the loader takes batches out of `tensors`

    @checked
    def __init__(
        self,
        df: Any,
        procs: Any = None,
        cat_names: Any = None,
        cont_names: Any = None,
        y_names: Any = None,
        y_block: Any = None,
        splits: Sequence[Any] | None = None,
        do_setup: bool = True,
        device: torch.device | str | None = None,
        inplace: bool = False,
        reduce_memory: bool = True,
    ) -> None:
        frame = as_frame(df)
        self.cat_names, self.cont_names, self.y_names = (L(listed(names)) for names in (cat_names, cont_names, y_names))
        check_names(frame, self.cat_names, self.cont_names, self.y_names)
        self.x_given = [*self.cat_names, *self.cont_names]  # what a new table must have
        frame = without_doubles(frame, self.x_given)
        self.device, self.reduce_memory, self.inplace = device, reduce_memory, inplace
        self.procs = Pipeline(own_copies([_proc(p) for p in _several(procs)]))
        self.target_columns: list[Target] = targets_of(frame, self.y_names, y_block)
        self.fills: dict[Any, float] = {}  # for numbers that are missing, and that no proc fills
        self.is_processed = False
        self.rows_given = len(frame)
        parts = None if splits is None else as_splits(splits, len(frame))
        self.order = None if parts is None else np.concatenate(parts)
        self._sizes = [len(frame)] if parts is None else [len(part) for part in parts]
        stays = inplace and parts is None
        self.compacted = self._compact(frame) if do_setup and not stays else {}
        self.items = frame if stays else reordered(frame, self.order, self.compacted)
        self._tensors: tuple[Tensor, ...] | None = None
        if do_setup:
            self.setup()
        self.compacted = {}

    # -- preparing

    def setup(self) -> None:
        """Fit targets and procs to the training rows, in order, and process all rows."""
        self._check_raw()
        if self._sizes[0] == 0:
            raise BadValue("there are no rows to train on", got=f"{len(self)} rows in all", fix="check df and splits")
        for target in self.target_columns:
            train, others = self.items.iloc[: self._sizes[0]], self.items.iloc[self._sizes[0] :]
            self._keep(target.setup(train, others, target.names[0] not in self.compacted))
        train = self.items.iloc[: self._sizes[0]]
        numbers_of(train, [name for name in self.cont_names if not is_plain(train[name].dtype)], strict=True)
        steps, self.procs = self.procs.fs, Pipeline()
        self._read_numbers()
        for step in steps:
            self.procs.add(step, self, train_setup=True)
            self._prepare(step)
        self._finish(is_fitting=True)

    def _prepare(self, step: Any) -> None:
        step(self)
        if type(step) not in OWN_PROCS:
            self._read_numbers()

    def _read_numbers(self) -> None:
        """Make the continuous columns numbers to compute with: texts are read, and what is too large counts as missing."""
        read = {}
        for name in self.cont_names:
            column = number_column(self.items, name)
            numbers = without_far(column)
            if numbers is not column or not is_plain(self.items[name].dtype):
                read[name] = numbers
        if read:
            self.assign(list(read), pd.DataFrame(read, index=self.items.index, copy=False))

    def _compact(self, frame: Any) -> dict[Any, Any]:
        """The values of columns that will be codes, as pandas categoricals: quick to put into order, and to encode.

        Only for procs that are known to take them: others may compute with what the columns hold.
        """
        kinds = [OWN_PROCS.get(type(proc)) for proc in self.procs]
        if None in kinds or "encodes" not in kinds:
            return {}
        classes = [t.names[0] for t in self.target_columns if t.categorize is not None]
        made = {name: compact(frame[name]) for name in [*self.cat_names, *classes]}
        return {name: values for name, values in made.items() if values is not None}

    def process(self) -> None:
        """Apply the fitted procs to the rows.

        Columns may come in another order or with other dtypes, and others may be there too. What training never saw is
        '#na#', a number that is missing is the median of the training rows.

        Raises:
            BadValue: Naming all columns that are missing.
        """
        self._check_raw()
        check_columns(self.items, self.x_given, NEEDED)
        self._read_numbers()
        for step in self.procs:
            self._prepare(step)
        self._finish(is_fitting=False)

    def _check_raw(self) -> None:
        if self.is_processed:
            raise BadValue("these rows are processed already", fix="to.new(df), then process()")

    def _finish(self, is_fitting: bool) -> None:
        """The last steps: numbers that are missing still, targets, and the dtypes that are kept."""
        if is_fitting:
            filled = {*getattr(self.procs, "fills", ()), *getattr(self.procs, "na_dict", ())}
            unfilled = [name for name in self.cont_names if name not in filled]
            train = self.items.iloc[: self._sizes[0]]
            self.fills = {name: median_of(number_column(train, name)) for name in unfilled}
        else:
            gaps = [name for name in self.cont_names if self.items[name].isna().any()]
            if gaps:
                numbers = numbers_of(self.items, gaps)
                self.assign(gaps, np.where(np.isnan(numbers), [self.fills.get(n, 0.0) for n in gaps], numbers))
        kinds = self.items[list(self.cont_names)].dtypes if self.reduce_memory else {}
        large = [name for name, kind in kinds.items() if kind != np.float32 and not _is_whole(kind)]
        if large:
            self.assign(large, numbers_of(self.items, large).astype(np.float32))
        for target in self.target_columns:
            if all(name in self.items for name in target.names):
                self.assign(target.names, target.encoded(self.items))
        self.is_processed = True

    def _keep(self, some: Array | None) -> None:
        """Leave out validation rows that `some` (a mask) does not have."""
        if some is not None:
            keep = np.concatenate([np.ones(self._sizes[0], dtype=bool), some])
            ends = np.cumsum(self._sizes)
            self._sizes = [int(keep[end - size : end].sum()) for end, size in zip(ends, self._sizes, strict=True)]
            self.items = self.items[keep]
            self.order = None if self.order is None else self.order[keep]

    def new(self, df: Any, inplace: bool = False) -> Self:
        """Other rows for the same, fitted procs; call `process()` on them."""
        frame = as_frame(df)
        if frame.shape == (0, 0):  # no rows, so nothing that could name columns
            frame = pd.DataFrame(columns=pd.Index(self.x_given, tupleize_cols=False))
        frame = without_doubles(frame, self.x_given)
        res = self.with_rows(frame if inplace else frame.copy(), is_processed=False)
        res.inplace = inplace
        return res

    # -- what was fitted

    @property
    def classes(self) -> dict[Any, Any]:
        """For each categorical column its vocabulary, '#na#' first."""
        return self.procs.classes  # type: ignore[no-any-return]

    @property
    def means(self) -> dict[Any, float]:
        """The mean of each continuous column, as `Normalize` fitted it."""
        return self.procs.normalize.mean  # type: ignore[no-any-return]

    @property
    def stds(self) -> dict[Any, float]:
        """The standard deviation of each continuous column, as `Normalize` fitted it."""
        return self.procs.normalize.std  # type: ignore[no-any-return]

    @property
    def na_dict(self) -> dict[Any, float]:
        """The fill of each column that has missing values in training."""
        return self.procs.na_dict  # type: ignore[no-any-return]

    @property
    def vocab(self) -> Any:
        """The classes of the target; an `L` where there are several targets that have classes."""
        found = [t.steps.vocab for t in self.target_columns if hasattr(t.steps, "vocab")]
        if not found:
            raise AttributeError("no target of this table has a vocabulary")
        return found[0] if len(found) == 1 else L(found, use_list=True)

    @property
    def c(self) -> int:
        """How many outputs a model needs."""
        return sum(target.c for target in self.target_columns)

    @property
    def target_kinds(self) -> list[str | None]:
        """The kind of each target: "category", "regression", …"""
        return [target.kind for target in self.target_columns]

    @property
    def loss_func(self) -> Any:
        """A new default loss for the targets; None where none is known for one of them."""
        kinds = self.target_kinds
        if not kinds or any(kind not in default_losses for kind in kinds):
            return None
        losses = [default_loss_for(kind) for kind in kinds]
        return losses[0] if len(losses) == 1 else MultiTaskLoss(losses, [target.c for target in self.target_columns])

    @property
    def targets(self) -> Array:
        """The class of each row, by which loaders balance."""
        if self.target_kinds != ["category"]:
            raise AttributeError("these rows do not have one class each")
        return self.tensors[-1].numpy(force=True)[:, 0]

    # -- tensors, which loaders take batches from

    @property
    def n_inp(self) -> int:
        """How many leading tensors are inputs."""
        return 2 if self.with_cont else 1

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Codes int64 [row, category], numbers float32 [row, number], and each target [row, …]; made once.

        Raises:
            BadValue: Where a number is missing, or a categorical column is not encoded.
        """
        if self._tensors is None:
            made = [self._codes(), *([self._numbers()] if self.with_cont else [])]
            has_targets = all(name in self.items.columns for name in self.y_names)
            made += [target.tensor(self.items) for target in self.target_columns if has_targets]
            self._tensors = tuple(t if self.device is None else t.to(self.device) for t in made)
        return self._tensors

    def _codes(self) -> Tensor:
        columns = {name: self.items[name] for name in self.cat_names}
        raw = [name for name, x in columns.items() if getattr(x.dtype, "kind", "O") not in "iub" or x.hasnans]
        if raw:
            raise not_encoded(raw[0], self.items[raw[0]].dtype)
        return torch.from_numpy(np.array(self.items[list(self.cat_names)].to_numpy(np.int64), order="C"))

    def _numbers(self) -> Tensor:
        numbers = np.empty((len(self), len(self.cont_names)), np.float32)
        for i, name in enumerate(self.cont_names):
            numbers[:, i] = number_column(self.items, name)
        missing = np.isnan(numbers)
        if missing.any():
            names = [name for name, some in zip(self.cont_names, missing.max(0), strict=True) if some]
            raise BadValue(
                f"{int(missing.any(1).sum())} rows miss a number in {', '.join(map(repr, names[:10]))}",
                expected="a number in each row, for a model to compute with",
                fix="procs=[FillMissing, ...]",
            )
        return torch.from_numpy(numbers)

    def __getitems__(self, positions: Sequence[int]) -> list[tuple[Tensor, ...]]:
        """Rows as tensors, for loaders with stages of their own."""
        return [tuple(t[i] for t in self.tensors) for i in positions]

    def to_device(self, d: torch.device | str | None = None) -> Self:
        """Keep the tensors on `d`."""
        self.device, self._tensors = d, None
        return self

    def new_empty(self) -> Self:
        """The same without rows."""
        return self.with_rows(self.items.iloc[:0], is_processed=True)

    def test_set(
        self, items: Any, rm_tfms: int | None = None, with_labels: bool = False, inplace: bool = False
    ) -> Self:
        """Other rows, processed; with their targets, `with_labels`.

        Args:
            inplace: Put what was made into the frame that is given, too.
        """
        res = self.new(items)
        if with_labels:
            check_columns(res.items, self.y_names, "which holds the targets")
        else:
            res.items = res.items.drop(columns=[name for name in self.y_names if name in res.items.columns])
        res.process()
        if inplace and items is as_frame(items):
            for name in res.all_col_names:
                items[name] = res.items[name]
        return res

    # -- looking

    def decode(self) -> Self:
        """The same rows, as they were before they were processed, as far as that can be undone."""
        res = self.with_rows(self.items.copy(), is_processed=False)
        for target in res.target_columns:
            if target.categorize is not None and target.names[0] in res.items.columns:
                labels = np.array([*target.categorize.fitted_vocab], dtype=object)
                res.items[target.names[0]] = labels[res.items[target.names[0]].to_numpy(np.int64)]
        for step in reversed(list(res.procs)):
            step.decode(res)
        return res

    def decode_row(self, row: Any) -> Any:
        """One processed row, a Series or a table of one row, as it was before."""
        frame = row.items if isinstance(row, Table) else as_frame(row)
        return self.with_rows(frame, is_processed=True).decode().items.iloc[0]

    def show(self, max_n: int = 10, **kwargs: Any) -> None:
        """Show the first rows, decoded."""
        show_frame(self.iloc[:max_n].decode().all_cols if self.is_processed else self.all_cols[:max_n])

    def __repr__(self) -> str:
        columns = f"{len(self.cat_names)} categorical and {len(self.cont_names)} continuous columns"
        return f"{type(self).__name__} of {len(self)} rows, {columns}\n{self.procs!r}"


class TabularProc(InplaceTransform):
    """Base of what prepares a table: `setups(self, to)` fits to the training rows, `encodes(self, to)` changes the table
    `to` in place, `decodes(self, to)` undoes that as far as it can be.

    Give a proc of your own a name (`@exportable("my.proc")`), and name in `fits` the attributes that it fits, so that it can
    be exported. It must not keep the table itself.
    """

    train_setup = True


def table_of(dls: Any) -> Tabular:
    """The training rows of loaders that have a table.

    Raises:
        CannotTrain: A fit that cannot start or go on: no loss, no optimizer, no data, or parts that do not fit
            together.
    """
    table = getattr(getattr(dls, "train", None), "dataset", None)
    if not isinstance(table, Tabular):
        raise CannotTrain(
            "these are not loaders of a table",
            got=f"a {type(dls).__name__}",
            expected="TabularDataLoaders",
            fix="TabularPandas(...).dataloaders(), or TabularDataLoaders.from_df(df, ...)",
        )
    return table


def _is_whole(kind: Any) -> bool:
    return isinstance(kind, np.dtype) and kind.kind in "iu"


def _proc(p: Any) -> Any:
    if isinstance(p, (type, Transform)) or callable(p):
        return p
    raise BadArgument(
        "procs are what prepares the table",
        got=repr(p),
        expected="classes or instances",
        fix="[Categorify, FillMissing, Normalize]",
    )


def _several(procs: Any) -> list[Any]:
    return list(procs) if isinstance(procs, Pipeline) else [procs] if callable(procs) else listify(procs)
