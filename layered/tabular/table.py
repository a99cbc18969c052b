"""`Tabular`: a table with roles for its columns, splits for its rows, and procs that prepare it for a model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Sized
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from layered.callback import steps_bar
from layered.data import as_splits, is_missing, labels_of, own_copies
from layered.foundation import (
    Array,
    BadArgument,
    BadValue,
    CannotTrain,
    Device,
    InplaceTransform,
    L,
    Pipeline,
    Transform,
    checked,
    default_loss_for,
    default_losses,
    facts_html,
    facts_text,
    lazy,
    listify,
    visible,
)
from layered.nn import MultiTaskLoss
from layered.tabular.columns import (
    Column,
    Columns,
    Names,
    check_columns,
    check_roles,
    is_plain,
    listed,
    median_of,
    not_encoded,
    without_doubles,
    without_far,
)
from layered.tabular.reading import TableLike, as_frame, show_frame
from layered.tabular.targets import Blocks, Target, make_targets
from layered.tabular.unread import Unread, check_numeric, report_unread, unread_cells, unread_numbers
from layered.tabular.values import Name, is_far, parse_number, plain_level

if TYPE_CHECKING:
    from pandas import DataFrame

pd = lazy("pandas")

NEEDED = "which the model was trained on"
SHOWN, MAX_SHOWN, SHOWN_NAMES = 5, 20, 10  # rows, columns and column names in a repr
LARGE = 10_000_000  # cells: preparing more than these shows a bar
MANY = 50  # with more columns than this, concatenating frames is faster than inserting them one by one

TabularType = TypeVar("TabularType", bound="Tabular")
Proc: TypeAlias = Transform | type[Transform] | Callable[..., Any]
Procs: TypeAlias = Pipeline | Proc | Iterable[Proc] | None


class NoSuchSplit(BadValue, AttributeError):
    """A split that a table does not have. Also an AttributeError, so that `hasattr(to, "valid")` tells whether it exists."""


class Tabular:
    """A table whose columns are inputs (categorical and continuous) and targets, and the procs that prepare it.

    `items` is the table as it is now: after processing, categories are codes (0 is '#na#': missing or unseen), and the
    training rows come first. The frame passed in is not changed.

    Args:
        df: The table: a pandas frame, or anything that `as_frame` accepts (polars, Arrow, a list of rows, …).
        procs: What prepares the table, such as `[Categorify, FillMissing, Normalize]`: applied by their `order`, and
            fitted on the training rows only. The table has copies; instances that were not fitted before get what these
            learnt, so `norm.means` can be read.
        cat_names: The categorical columns.
        cont_names: The continuous columns.
        y_names: The target column, or several.
        y_block: The block of the target, or a list with one for each target. By default numbers are regressed and
            everything else is classified.
        splits: The positions of the training rows and of the validation rows, or their labels in a pandas Index; by
            default all rows are for training.
        do_setup: Whether to fit the procs and process the rows; False leaves that to `setup`.
        device: Where `tensors` and batches are; by default `DataLoaders` decides.
        inplace: Whether to work in `df` itself instead of a copy, unless `splits` reorder its rows.
        reduce_memory: Whether floats are stored as float32; whole numbers keep their dtype.

    Raises:
        BadArgument: If `df` is not a table, or a proc is not a transform.
        BadValue: If a column does not exist, a continuous column has non-numeric values, or a row has no target.
        UnknownLabel: If a class occurs only in the validation rows.
    """

    with_cont: ClassVar[bool] = True
    rows_are_tensors: ClassVar[bool] = True  # loaders take their batches out of `tensors`
    _is_handed_out = False  # `items` was: whoever has the frame may change it at any time

    @checked
    def __init__(
        self,
        df: TableLike,
        procs: Procs = None,
        cat_names: Names = None,
        cont_names: Names = None,
        y_names: Names = None,
        y_block: Blocks = None,
        splits: Sequence[Sequence[int] | Array] | None = None,
        do_setup: bool = True,
        device: Device | None = None,
        inplace: bool = False,
        reduce_memory: bool = True,
    ) -> None:
        frame = as_frame(df)
        self.cat_names, self.cont_names, self.y_names = (L(listed(names)) for names in (cat_names, cont_names, y_names))
        check_roles(frame, self.cat_names, self.cont_names, self.y_names)
        self.x_given: list[Any] = [*self.cat_names, *self.cont_names]  # the columns that new rows must have
        frame = without_doubles(frame, self.x_given)
        self.device, self.reduce_memory, self.inplace = device, reduce_memory, inplace
        given = [_check_proc(p) for p in _proc_list(procs)]
        own = own_copies(given)
        self.procs = Pipeline(own)
        self.target_columns: list[Target] = make_targets(frame, self.y_names, y_block)
        self.fills: dict[Any, float] = {}  # for missing numbers of columns that no proc fills
        self.is_processed = False
        self._unread: list[Unread] | None = None  # what could not be read of new rows
        self.rows_given = len(frame)
        parts = None if splits is None else as_splits(splits, len(frame), labels_of(frame))
        # the positions of the rows in the frame passed in; None: all, in order
        self.order: Array | None = None if parts is None else np.concatenate(parts)
        self._sizes = [len(frame)] if parts is None else [len(part) for part in parts]
        self._columns = Columns(frame, self.order, inplace and parts is None)
        self._tensors: tuple[Tensor, ...] | None = None  # made on first use; loaders slice batches from them
        if do_setup:
            self.setup()
            _show_what_was_learnt(given, own)
        else:
            _ = self._frame  # copies the frame now, as the caller may change it before `setup`

    def __len__(self) -> int:
        return len(self._columns)

    # -- preparing

    def setup(self) -> None:
        """Fit targets and procs to the training rows, in order, and process all rows."""
        self._check_raw()
        if self._sizes[0] == 0:
            raise BadValue("there are no rows to train on", got=f"{len(self)} rows in all", fix="check df and splits")
        for target in self.target_columns:
            self._keep(target.setup(self._columns, self._sizes[0]))
        for name in self.cont_names:
            check_numeric(name, self.column(name)[: self._sizes[0]])
        for rows, where in ((slice(self._sizes[0]), "training"), (slice(self._sizes[0], None), "validation")):
            found = [cells for name in self.cont_names for cells in unread_numbers(name, self.column(name)[rows])]
            report_unread(found, False, f"the {where} rows")
        steps, self.procs = self.procs.fs, Pipeline()
        with self._bar(steps) as advance:
            for step in steps:
                self._read_numbers()
                self.procs.add(step, self, train_setup=True)
                self._read_numbers()
                step(self)
                advance()
        self._finish(is_fitting=True)

    def process(self, strict: bool = False) -> None:
        """Apply the fitted procs to the rows.

        Columns may be in another order or have other dtypes, and extra columns are kept. Levels unseen in training become
        '#na#', and missing numbers that no proc fills become the median of the training rows. Cells that cannot be read as
        numbers, or are infinite or beyond 1e30, count as missing, with a warning; so does a column without any level of training.

        Args:
            strict: Whether to refuse cells that cannot be read as numbers or are too large, and levels unseen in training.

        Raises:
            BadValue: If columns are missing (the message names them all), the rows are already processed, or, if `strict`,
                cells cannot be read.
        """
        self._check_raw()
        check_columns(self._columns.base, self.x_given, NEEDED)
        names = [name for name in self.cont_names if name in self.x_given]
        self._unread = [cells for name in names for cells in unread_numbers(name, self.column(name))]
        with self._bar(self.procs) as advance:
            for step in self.procs:
                self._read_numbers()
                step(self)
                advance()
        found = [cells for cells in self._unread if strict or cells.is_worth_saying]
        if strict:
            report_unread(found, strict, "the rows")
        self._finish(is_fitting=False)
        report_unread(found, strict, "the rows")

    def note_unknown(self, name: Name, column: Column, codes: Array) -> None:
        """Note the levels of new rows that a categorical column did not have in training, for `process` to report.

        Args:
            name: The column.
            column: Its values.
            codes: Their codes, where 0 stands for missing and unknown ones.
        """
        if self._unread is not None and name in self.x_given and not codes.all():
            is_present = column.factorized[0] >= 0
            cells = unread_cells(name, column, is_present & (codes == 0), int(is_present.sum()), is_number=False)
            self._unread += [] if cells is None else [cells]

    def column(self, name: Name) -> Column:
        """A column as procs read it: by `numbers`, or by `factorized` values; each is computed once."""
        return self._columns[name]

    def put(self, name: Name, values: Array) -> None:
        """Replace or add a column. Unlike `to.items[name] = …`, this does not make the next proc read the other columns again.

        Args:
            name: The column.
            values: Its new values: an array [row].
        """
        self._columns[name] = values
        self._tensors = None

    def _bar(self, steps: Sized) -> AbstractContextManager[Callable[[], None]]:
        cells = len(self) * len(self.x_names)
        return steps_bar("Preparing the table", len(steps), with_bar=cells >= LARGE)

    def _check_raw(self) -> None:
        if self.is_processed:
            raise BadValue("these rows are already processed", fix="to.new(df), then process()")

    def _read_numbers(self) -> None:
        """Store the continuous columns as numbers: text is read, and numbers that are too large count as missing."""
        for name in self.cont_names:
            reading = self.column(name).reading
            if not reading.is_stored:
                self.put(name, reading.numbers)

    def _finish(self, is_fitting: bool) -> None:
        """The last steps: fill numbers that are still missing, reduce dtypes, and encode the targets.

        While fitting, numbers may stay missing, so that a table without `FillMissing` shows its gaps; `tensors` refuses
        them. New rows have no second chance, so they get the median of training.
        """
        self._read_numbers()
        if is_fitting:
            filled = {name for step in self.procs if isinstance(step, TabularProc) for name in step.filled}
            unfilled = [name for name in self.cont_names if name not in filled]
            self.fills = {name: median_of(self.column(name).numbers[: self._sizes[0]]) for name in unfilled}
        else:
            for name in self.cont_names:
                if self.column(name).missing.any():
                    numbers = without_far(self.column(name).numbers)
                    self.put(name, np.where(np.isnan(numbers), self.fills.get(name, 0.0), numbers))
        for name in self.cont_names if self.reduce_memory else ():
            kind = self.column(name).dtype
            if kind != np.float32 and kind.kind not in "iu":
                self.put(name, without_far(self.column(name).numbers).astype(np.float32))
        for target in self.target_columns:
            if all(name in self._columns for name in target.names):
                target.encode(self._columns)
        _ = self._frame  # assembles the frame once, with all columns
        self.is_processed = True

    def _keep(self, mask: Array | None) -> None:
        """Keep all training rows and, of the rows after them, those of a mask; None keeps all."""
        if mask is not None:
            keep = np.concatenate([np.ones(self._sizes[0], dtype=bool), mask])
            ends = np.cumsum(self._sizes)
            self._sizes = [int(keep[end - size : end].sum()) for end, size in zip(ends, self._sizes, strict=True)]
            self._columns = self._columns.keep(keep)
            self.order = None if self.order is None else self.order[keep]

    def new(self, df: TableLike, inplace: bool = False) -> Self:
        """A table of new rows with the same, fitted procs; call `process()` on it.

        Args:
            df: The rows, in any form that `as_frame` accepts.
            inplace: Whether to process `df` itself instead of a copy.
        """
        res = self._unprocessed(df, inplace)
        _ = res._frame  # copies the frame now, as the caller may change it before `process`
        return res

    def _unprocessed(self, df: TableLike, inplace: bool = False, without: Collection[Name] = ()) -> Self:
        frame = as_frame(df)
        if frame.shape == (0, 0):  # an empty list of rows, which has nothing to name the columns
            frame = pd.DataFrame(columns=pd.Index(self.x_given, tupleize_cols=False))
        frame = without_doubles(frame, self.x_given)
        dropped = [name for name in without if name in frame.columns]
        res = self._with_columns(Columns(frame.drop(columns=dropped) if dropped else frame, inplace=inplace), False)
        res.inplace = inplace
        return res

    # -- what was fitted

    @property
    def classes(self) -> dict[Any, Any]:
        """The vocabulary of each categorical column, '#na#' first."""
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
        found = [target.vocab for target in self.target_columns if target.vocab is not None]
        if not found:
            raise AttributeError("no target of this table has a vocabulary")
        return found[0] if len(found) == 1 else L(found, use_list=True)

    @property
    def c(self) -> int:
        """The number of outputs that a model needs for all targets."""
        return sum(target.c for target in self.target_columns)

    @property
    def target_kinds(self) -> list[str | None]:
        """The kind of each target: "category", "regression", …"""
        return [target.kind for target in self.target_columns]

    @property
    def loss_func(self) -> Any:
        """A new default loss for the targets; None if one of them has no default."""
        kinds = self.target_kinds
        if not kinds or any(kind not in default_losses for kind in kinds):
            return None
        losses = [default_loss_for(kind) for kind in kinds]
        return losses[0] if len(losses) == 1 else MultiTaskLoss(losses, [target.c for target in self.target_columns])

    @property
    def targets(self) -> Array:
        """The class of each row, int64 [row], which loaders use for balancing."""
        if self.target_kinds != ["category"]:
            raise AttributeError("these rows do not have one class each")
        return self.tensors[-1].numpy(force=True)[:, 0]

    # -- tensors, which loaders slice batches from

    @property
    def n_inp(self) -> int:
        """The number of tensors that are inputs; they come first."""
        return 2 if self.with_cont else 1

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Codes int64 [row, category], numbers float32 [row, number], then each target [row, …]; made on first use.

        Raises:
            BadValue: If a number is missing, or a categorical column is not encoded.
        """
        if self._tensors is None or self._is_handed_out:
            made = [self._codes(), *([self._numbers()] if self.with_cont else [])]
            has_targets = all(name in self._frame.columns for name in self.y_names)
            made += [target.tensor(self._frame) for target in self.target_columns if has_targets]
            self._tensors = tuple(t if self.device is None else t.to(self.device) for t in made)
        return self._tensors

    def _codes(self) -> Tensor:
        columns = {name: self._frame[name] for name in self.cat_names}
        raw = [name for name, x in columns.items() if x.dtype.kind not in "iub" or x.hasnans]
        if raw:
            raise not_encoded(raw[0], columns[raw[0]].dtype)
        return torch.from_numpy(np.array(self._frame[list(self.cat_names)].to_numpy(np.int64), order="C"))

    def _numbers(self) -> Tensor:
        numbers = np.empty((len(self), len(self.cont_names)), np.float32)
        for i, name in enumerate(self.cont_names):
            column = self._frame[name]
            numbers[:, i] = column.to_numpy() if is_plain(column.dtype) else Column(column).numbers
        missing = np.isnan(numbers)
        if missing.any():
            names = [name for name, is_gap in zip(self.cont_names, missing.max(0), strict=True) if is_gap]
            raise BadValue(
                f"numbers are missing in {int(missing.any(1).sum())} rows, in {', '.join(map(repr, names[:10]))}",
                expected="a number in each row",
                fix="procs=[FillMissing, ...]",
            )
        return torch.from_numpy(numbers)

    def __getitems__(self, positions: Sequence[int]) -> list[tuple[Tensor, ...]]:
        """Rows as tensors, for loaders with custom stages."""
        if self._is_handed_out:
            rows = self.with_rows(self._frame.iloc[list(positions)], True).tensors
            return list(zip(*rows, strict=True))
        return [tuple(t[i] for t in self.tensors) for i in positions]

    def to_device(self, d: Device | None = None) -> Self:
        """Keep the tensors on device `d`; None lets the loaders decide."""
        self.device, self._tensors = d, None
        return self

    # -- rows

    @property
    def items(self) -> DataFrame:
        """The frame, with the training rows first. Loaders notice what is changed in it."""
        self._is_handed_out = True
        return self._frame

    @items.setter
    def items(self, frame: DataFrame) -> None:
        self._columns, self._tensors = Columns(frame, is_own=True), None

    @property
    def _frame(self) -> DataFrame:
        return self._columns.frame

    def with_rows(self, items: DataFrame, is_processed: bool) -> Self:
        """A table of other rows with the same columns and procs.

        Args:
            items: The rows. They are not copied, so do not use the frame afterwards.
            is_processed: Whether the procs have been applied to them.
        """
        return self._with_columns(Columns(items, is_own=True), is_processed)

    def _with_columns(self, columns: Columns, is_processed: bool) -> Self:
        res = copy.copy(self)
        res._columns, res.is_processed, res.order, res._tensors = columns, is_processed, None, None
        res._is_handed_out = False
        res._sizes = [len(columns)]
        return res

    @property
    def splits(self) -> list[Array] | None:
        """The positions in `items` of the rows of each split; None if the table was not split."""
        if self.order is None:
            return None
        ends = np.cumsum(self._sizes)
        return [np.arange(end - size, end) for end, size in zip(ends, self._sizes, strict=True)]

    @property
    def n_subsets(self) -> int:
        """The number of splits."""
        return len(self._sizes)

    def subset(self, i: int) -> Self:
        """The rows of split `i`."""
        if not 0 <= i < self.n_subsets:
            raise NoSuchSplit(
                f"there is no split {i}",
                got=f"{self.n_subsets} splits",
                fix="TabularPandas(..., splits=RandomSplitter()(df))",
            )
        end = sum(self._sizes[: i + 1])
        rows = slice(end - self._sizes[i], end)
        if self.is_processed:
            return self.with_rows(self._frame.iloc[rows], True)
        return self._with_columns(self._columns.part(rows), False)  # procs are fitted to these rows

    @property
    def train(self) -> Self:
        """The training rows."""
        return self.subset(0)

    @property
    def valid(self) -> Self:
        """The validation rows."""
        return self.subset(1)

    def part(self, positions: Array) -> Self:
        """Some of the processed rows.

        Args:
            positions: Which, from 0: int64 [row].
        """
        return self.with_rows(self._frame.iloc[positions], self.is_processed)

    def copy(self) -> Self:
        """A copy with its own frame, which shares the procs."""
        res = copy.copy(self)
        res._columns = Columns(self._frame.copy(), is_own=True)
        res.cat_names, res.cont_names, res.y_names = self.cat_names.copy(), self.cont_names.copy(), self.y_names.copy()
        return res

    def new_empty(self) -> Self:
        """The same table without rows."""
        return self.with_rows(self._frame.iloc[:0], is_processed=True)

    def test_set(
        self,
        items: TableLike,
        rm_tfms: int | None = None,
        with_labels: bool = False,
        inplace: bool = False,
        strict: bool = False,
    ) -> Self:
        """A table of new rows, processed.

        Args:
            items: The rows, in any form that `as_frame` accepts.
            rm_tfms: Ignored; accepted because datasets of other data take it.
            with_labels: Whether to encode the targets too, which the rows must then have.
            inplace: Whether to write the processed columns into `items` too, if it is a pandas frame.
            strict: Whether to refuse cells that cannot be read as numbers, and levels unseen in training.

        Raises:
            BadValue: If columns are missing (the message names them all), or, if `strict`, cells cannot be read.
        """
        res = self._unprocessed(items, without=() if with_labels else self.y_names)
        if with_labels:
            check_columns(res._columns.base, self.y_names, "which holds the targets")
        res.process(strict)
        if inplace and isinstance(items, pd.DataFrame):
            for name in res.all_col_names:
                items[name] = res._frame[name]
        return res

    @property
    def loc(self) -> Any:
        """Rows and cells of `items` by label, to read and to write."""
        return self.items.loc

    @property
    def iloc(self) -> _Positions[Self]:
        """Rows by position, as a `Tabular`: `to.iloc[:5]`."""
        return _Positions(self)

    # -- columns

    def __getitem__(self, names: Any) -> Any:
        """Columns of `items`."""
        return self._frame[list(names) if isinstance(names, (L, tuple)) else names]

    def __setitem__(self, names: Names, values: Any) -> None:
        if isinstance(names, (L, tuple, list)):
            self.assign(list(names), values if isinstance(values, pd.DataFrame) else np.asarray(values))
        else:
            self._frame[names] = values  # type: ignore[index]  # a single name
            self._tensors = None

    def assign(self, names: Sequence[Name], values: DataFrame | Array) -> None:
        """Replace or add columns; new ones come last.

        Args:
            names: Their names.
            values: A frame with these columns, or an array [row, column].
        """
        items = self._frame
        new: DataFrame = (
            pd.DataFrame(values, columns=pd.Index(names, tupleize_cols=False), index=items.index)
            if isinstance(values, np.ndarray)
            else values
        )
        self._tensors = None
        if len(names) > MANY and not self.inplace:
            added = [name for name in names if name not in items.columns]
            others = items.drop(columns=[name for name in names if name not in added])
            self.items = pd.concat([others, new], axis=1)[[*items.columns, *added]]
            return
        for name in names:
            items[name] = new[name]

    @property
    def x_names(self) -> L:
        """The inputs: categorical, then continuous columns."""
        return self.cat_names + self.cont_names

    @property
    def all_col_names(self) -> L:
        """The inputs, then those targets that the table has."""
        return self.x_names + [name for name in self.y_names if name in self._columns]

    @property
    def cats(self) -> Any:
        """The categorical columns."""
        return self[self.cat_names]

    @cats.setter
    def cats(self, values: object) -> None:
        self[self.cat_names] = values

    @property
    def conts(self) -> Any:
        """The continuous columns."""
        return self[self.cont_names]

    @conts.setter
    def conts(self, values: object) -> None:
        self[self.cont_names] = values

    @property
    def xs(self) -> Any:
        """The inputs, in the form that scikit-learn's models take."""
        return self[self.x_names]

    @property
    def ys(self) -> Any:
        """The targets."""
        return self[self.y_names]

    targ = ys

    @property
    def y(self) -> Any:
        """The first target."""
        return self._frame[self.y_names[0]]

    @property
    def all_cols(self) -> Any:
        """The inputs, and those targets that the table has."""
        return self[self.all_col_names]

    def transform(self, cols: Names, f: Callable[[Any], Any], all_col: bool = True) -> None:
        """Replace each of some columns by a function of it.

        Args:
            cols: The columns.
            f: Takes a column as a Series, and returns the new values.
            all_col: Whether all columns must exist; False skips those that do not.
        """
        names = [name for name in listed(cols) if all_col or name in self._frame.columns]
        for name in names:
            self[name] = f(self._frame[name])

    # -- looking

    def decode(self) -> Self:
        """The same rows before processing, as far as it can be undone."""
        res = self.with_rows(self._frame.copy(), is_processed=False)
        for target in res.target_columns:
            target.decode_columns(res._columns)
        for step in reversed(list(res.procs)):
            step.decode(res)
        return res

    def decode_row(self, row: Tabular | TableLike) -> Any:
        """One processed row, decoded: a Series.

        Args:
            row: A Series, or a table with one row.
        """
        frame = row.items if isinstance(row, Tabular) else as_frame(row)
        return self.with_rows(frame, is_processed=True).decode().items.iloc[0]

    def show(self, max_n: int = 10, **kwargs: object) -> None:
        """Show the first rows, decoded.

        Args:
            max_n: How many rows.
            **kwargs: Ignored; accepted because other data that can be shown takes them.
        """
        show_frame(self.iloc[:max_n].decode().all_cols if self.is_processed else self.all_cols[:max_n])

    def facts(self) -> tuple[str, dict[str, object]]:
        """The title of the `repr` with the sizes, then its lines: columns by role, and procs."""
        names = ("training", "validation")
        sizes = [
            f"{size} {names[i]}" if i < len(names) else f"{size} of split {i}" for i, size in enumerate(self._sizes)
        ]
        rows = f"{len(self)} rows" if len(sizes) == 1 else " and ".join(sizes) + " rows"
        targets = [f"{_some(target.names)} ({target.kind or 'as it is'})" for target in self.target_columns]
        state = "processed" if self.is_processed else "not processed yet"
        return f"{type(self).__name__}: {rows}, {state}", {
            "categorical": _some(self.cat_names),
            "continuous": _some(self.cont_names),
            "target" if len(targets) == 1 else "targets": ", ".join(targets) or "none",
            "procs": " -> ".join(map(repr, self.procs)) or "none",
        }

    def first_rows(self) -> DataFrame:
        """The first rows as they are now, for a `repr`."""
        rows: DataFrame = self.all_cols[:SHOWN]
        return rows

    def __repr__(self) -> str:
        return f"{facts_text(*self.facts())}\n{visible(self.first_rows().to_string(max_cols=MAX_SHOWN), None)}"

    def _repr_html_(self) -> str:
        return f"{facts_html(*self.facts())}{visible(self.first_rows().to_html(max_cols=MAX_SHOWN), None)}"


class _Positions(Generic[TabularType]):
    """Indexes rows of a table by position."""

    def __init__(self, to: TabularType) -> None:
        self.to = to

    def __getitem__(self, rows: Any) -> TabularType:
        rows, columns = rows if isinstance(rows, tuple) else (rows, slice(None))
        places: Any = [rows] if isinstance(rows, (int, np.integer)) else rows
        chosen: Any = self.to.items.iloc[places]
        chosen = chosen if isinstance(columns, slice) else chosen[listed(columns)]
        return self.to.with_rows(chosen, self.to.is_processed)


class Row:
    """One row to predict. A proc encodes it with an overload for this type: `def encodes(self, row: Row)`.

    Args:
        to: The table whose procs encode the row; it gives the roles of the columns.
        given: The row: its values by column.

    Attributes:
        values: The values by column, which procs replace.
        shown: The values as they were understood, for display.
        unread: The numbers that could not be read, and the levels unseen in training.
    """

    def __init__(self, to: Tabular, given: Mapping[Any, Any]) -> None:
        self.cat_names, self.cont_names = to.cat_names, to.cont_names
        self.values: dict[Any, Any] = dict(given)
        self.unread: list[Unread] = []
        for name in self.cont_names:
            value = given[name]
            number = self.values[name] = parse_number(value)
            if number != number and not is_missing(value):
                self.unread.append(Unread(name, True, 1, 1, [plain_level(value)], is_far(value)))
        self.shown: dict[Any, Any] = dict(self.values)


class TabularProc(InplaceTransform):
    """Base of procs, which prepare a table.

    `setups(self, to)` fits the proc to the training rows, `encodes(self, to)` changes the table `to` in place, and
    `decodes(self, to)` undoes that as far as possible.

    To make your own proc exportable, give it a name (`@exportable("my.proc")`), and list in `fits` the attributes that
    `setups` sets. A proc must not keep the table itself.
    """

    train_setup = True

    @property
    def filled(self) -> Collection[Name]:
        """The continuous columns whose missing numbers it fills."""
        return ()


def table_of(dls: object) -> Tabular:
    """The training rows of loaders of a table.

    Raises:
        CannotTrain: If they are not loaders of a table.
    """
    table = getattr(getattr(dls, "train", None), "dataset", None)
    if not isinstance(table, Tabular):
        raise CannotTrain(
            "not loaders of a table",
            got=f"a {type(dls).__name__}",
            expected="TabularDataLoaders",
            fix="TabularPandas(...).dataloaders(), or TabularDataLoaders.from_df(df, ...)",
        )
    return table


def _some(names: Sequence[Name]) -> str:
    """The first few column names, and how many more there are."""
    texts = [str(name) for name in names[:SHOWN_NAMES]]
    more = len(names) - len(texts)
    return ", ".join(texts) + (f" and {more} more" if more else "") if texts else "none"


def _check_proc(p: object) -> Proc:
    if isinstance(p, (type, Transform)) or callable(p):
        return p
    raise BadArgument(
        "procs must be transforms",
        got=repr(p),
        expected="classes or instances of transforms, or functions",
        fix="[Categorify, FillMissing, Normalize]",
    )


def _show_what_was_learnt(given: Sequence[object], fitted: Sequence[object]) -> None:
    """Let instances that were given unfitted have what their copies learnt, for `norm.means` and `fill.na_dict`."""
    for proc, own in zip(given, fitted, strict=True):
        if isinstance(proc, Transform) and isinstance(own, Transform):
            learnt = {name: own.__dict__[name] for name in own.fits}
            if all(proc.__dict__[name] is None or proc.__dict__[name] == {} for name in learnt):
                proc.__dict__.update(learnt)


def _proc_list(procs: Procs) -> list[Any]:
    return list(procs) if isinstance(procs, Pipeline) else [procs] if callable(procs) else listify(procs)
