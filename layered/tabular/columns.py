"""The columns of a table, each read once: as numbers (float64, NaN where missing) or as codes of its distinct values."""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from layered.foundation import Array, BadArgument, BadValue, L, lazy, listify, nearest
from layered.tabular.values import LARGEST, TRUTHS, Name, parse_number

if TYPE_CHECKING:
    from pandas import DataFrame, Index, Series

pd = lazy("pandas")

Names: TypeAlias = Hashable | Iterable[Hashable] | None

NEAR = 2**12  # whole numbers that span less than this are factorized by subtraction; their offsets fit into int16
CHUNK = 2**15  # rows of the first chunk, which usually has every distinct value
BAND = 2**12  # numbers of a sample that tells between which two the median of many must lie
_SURROGATE = re.compile("[\ud800-\udfff]")


def listed(names: Names) -> list[Any]:
    """Names as a list, with NumPy's strings and integers as Python's.

    Args:
        names: One name, several in anything list-like (a list, an index, a column, an array), or None for none.

    Examples:
        >>> listed("x"), listed(np.array(["x", "y"])), listed([np.str_("z")]), listed(None)
        (['x'], ['x', 'y'], ['z'], [])
    """
    if isinstance(names, (np.ndarray, pd.Series, pd.Index)):
        names = names.tolist()
    return [name.item() if isinstance(name, (np.str_, np.integer)) else name for name in listify(names)]


class Reading(NamedTuple):
    """A column as numbers.

    Attributes:
        numbers: Float64 [row]; NaN where a value is missing, larger than `LARGEST`, or unreadable.
        unread: A mask of the rows whose value is present but unreadable; None if there are certainly none.
        far: A mask of the rows whose number is larger than `LARGEST`; None if there are none.
        is_stored: Whether the column already stores exactly these numbers, so that it need not be written.
    """

    numbers: Array
    unread: Array | None
    far: Array | None
    is_stored: bool


class Column:
    """A column of a table, read at most once as numbers and once as codes of its distinct values.

    Args:
        source: Its values: a pandas Series of any dtype, or an array that a proc made.
        rows: The positions in `source` of the values of this column; None takes all, in order.
    """

    def __init__(self, source: Series | Array, rows: Array | None = None) -> None:
        self.source, self.rows = source, rows

    def __len__(self) -> int:
        return len(self.source) if self.rows is None else len(self.rows)

    def __getitem__(self, rows: slice) -> Column:
        """Some of its rows, which share what has already been read."""
        return _Part(self, rows)

    @property
    def dtype(self) -> Any:
        """The dtype in which its values are stored."""
        return self.source.dtype

    @cached_property
    def series(self) -> Series:
        """Its values as they are stored."""
        source = pd.Series(self.source, copy=False) if isinstance(self.source, np.ndarray) else self.source
        return source if self.rows is None else source.iloc[self.rows]

    @cached_property
    def reading(self) -> Reading:
        """Its values as numbers, and which could not be read. The numbers may share the table's memory: do not change them."""
        if isinstance(self.source, np.ndarray):  # made by a proc: nothing to read, and no limit on size
            return Reading(self.source.astype(np.float64, copy=False), None, None, True)
        if self.dtype.kind in "biuf":  # read before the rows are reordered: moving plain numbers is cheap
            is_numpy = is_plain(self.dtype)
            stored = self.source.to_numpy() if is_numpy else self.source.to_numpy(np.float64, na_value=np.nan)
            stored = stored if self.rows is None else stored.take(self.rows)
            numbers, unread = stored.astype(np.float64, copy=False), None
        else:
            numbers, unread = _read_numbers(self.series)
        bounded = without_far(numbers)
        far = None if bounded is numbers else np.isnan(bounded) & ~np.isnan(numbers)
        return Reading(bounded, unread, far, far is None and is_plain(self.dtype))

    @property
    def numbers(self) -> Array:
        """Its values as numbers, float64 [row]; NaN where one is missing or unreadable. Do not change them."""
        return self.reading.numbers

    @property
    def missing(self) -> Array:
        """A mask of the rows whose number is missing."""
        # A proc's float32 array is tested as it is: `numbers` would first convert it to float64.
        is_float = isinstance(self.source, np.ndarray) and self.dtype.kind == "f"
        return np.isnan(self.source if is_float else self.numbers)

    @property
    def categories(self) -> Index | None:
        """The categories of a pandas categorical, in their order, whether or not they occur."""
        return self.dtype.categories if isinstance(self.dtype, pd.CategoricalDtype) else None

    @cached_property
    def factorized(self) -> tuple[Array, Array | Index]:
        """(positions, values): for each row the position of its value among the distinct ones, -1 where it is missing."""
        # Text, whole numbers and dates are factorized before their rows are reordered, as moving small integers is much
        # cheaper than moving values. For other kinds the first occurrence in this column's order represents equal values
        # (0.0 and -0.0), so those are reordered first.
        if self.rows is None or isinstance(self.source, np.ndarray):
            return factorized(self.series)
        found = _factorized_quickly(self.source)
        if found is None:
            return factorized(self.series)
        positions, values = found
        # The smallest dtype that holds the positions, as `take` is bound by memory.
        return positions.astype(np.min_scalar_type(-max(len(values), 1)), copy=False).take(self.rows), values

    def present(self) -> Array | Index:
        """The distinct values, without missing ones; of a pandas categorical, the categories that occur."""
        positions, values = self.factorized
        return values[_rows_of(positions, len(values)) >= 0]


class _Part(Column):
    """Consecutive rows of another column."""

    def __init__(self, whole: Column, span: slice) -> None:
        self.whole, self.span = whole, span

    def __len__(self) -> int:
        return len(range(*self.span.indices(len(self.whole))))

    @property
    def dtype(self) -> Any:
        return self.whole.dtype

    @cached_property
    def series(self) -> Series:
        return self.whole.series.iloc[self.span]

    @cached_property
    def reading(self) -> Reading:
        numbers, unread, far, is_stored = self.whole.reading
        unread, far = (None if mask is None else mask[self.span] for mask in (unread, far))
        return Reading(numbers[self.span], unread, far, is_stored)

    @cached_property
    def factorized(self) -> tuple[Array, Array | Index]:
        positions, values = self.whole.factorized
        return positions[self.span], values


class Columns:
    """The columns of a frame, read on first use; what is written stays arrays until `frame` is asked for.

    Whoever takes `frame` may change it, so from then on columns are read from it again.

    Args:
        frame: The frame, which is not changed unless `inplace`.
        rows: The positions of the rows to take from it; None takes all, in order.
        inplace: Whether to write into `frame` itself.
        is_own: Whether this object owns `frame`, so that it need not be copied.
    """

    def __init__(
        self, frame: DataFrame, rows: Array | None = None, inplace: bool = False, is_own: bool = False
    ) -> None:
        is_same = rows is None or (len(rows) == len(frame) and bool((rows == np.arange(len(rows))).all()))
        self.base, self.rows, self.inplace, self.is_own = frame, None if is_same else rows, inplace, is_own or inplace
        self._read: dict[Name, Column] = {}
        self._written: dict[Name, Array] = {}

    def __len__(self) -> int:
        return len(self.base) if self.rows is None else len(self.rows)

    def __contains__(self, name: Name) -> bool:
        return name in self._written or name in self.base.columns

    def __getitem__(self, name: Name) -> Column:
        if name not in self._read:
            self._read[name] = Column(self.base[name], self.rows)
        return self._read[name]

    def __setitem__(self, name: Name, values: Array) -> None:
        self._written[name], self._read[name] = values, Column(values)

    def part(self, rows: slice) -> Columns:
        """Consecutive rows, which share what has already been read."""
        return _ColumnsPart(self, rows)

    def keep(self, mask: Array) -> Columns:
        """The rows that a mask selects."""
        return Columns(self.base, np.flatnonzero(mask) if self.rows is None else self.rows[mask])

    @property
    def index(self) -> Index:
        """The labels of the rows."""
        return self.base.index if self.rows is None else self.base.index.take(self.rows)

    def select(self, names: Sequence[Name], rows: slice = slice(None)) -> DataFrame:
        """A frame with some of the columns, as they are now.

        Args:
            names: The columns.
            rows: Which rows; all by default.
        """
        # Keyed by position, and named afterwards, because pandas would make a MultiIndex of names that are tuples.
        columns = {i: self[name].series.array for i, name in enumerate(names)}
        frame: DataFrame = pd.DataFrame(columns, index=self.index).iloc[rows]
        frame.columns = pd.Index(names, tupleize_cols=False)
        return frame

    @property
    def frame(self) -> DataFrame:
        """The frame, with everything that was written; its rows are those of this object, in order."""
        if self.inplace:
            for name, values in self._written.items():
                self.base[name] = values
        elif self._written:
            self.base = self._assembled()
        elif not self.is_own:
            self.base = self._taken(list(range(self.base.shape[1])))
        self.rows, self.is_own, self._written, self._read = None, True, {}, {}
        return self.base

    def _taken(self, places: list[int]) -> DataFrame:
        """Some columns of the base, by position, with the rows of this object."""
        part = self.base.iloc[:, places]
        if self.rows is not None:
            return part.iloc[self.rows]
        return part if self.is_own else part.copy()

    def _assembled(self) -> DataFrame:
        """The base with the written columns: replaced ones in their places, new ones last."""
        names = self.base.columns
        kept = [i for i, name in enumerate(names) if name not in self._written]
        taken = self._taken(kept)
        new = pd.DataFrame(dict(enumerate(self._written.values())), index=taken.index, copy=False)
        new.columns = pd.Index(list(self._written), tupleize_cols=False)
        place = {name: i for i, name in enumerate([*taken.columns, *self._written])}
        added = [name for name in self._written if name not in names]
        res: DataFrame = pd.concat([taken, new], axis=1).iloc[:, [place[name] for name in (*names, *added)]]
        return res


class _ColumnsPart(Columns):
    """Consecutive rows of other columns, until they are written to or their frame is taken: then with a frame of their own."""

    def __init__(self, whole: Columns, span: slice) -> None:
        self.whole, self.span = whole, span
        self.is_detached = False

    def __len__(self) -> int:
        return super().__len__() if self.is_detached else len(range(*self.span.indices(len(self.whole))))

    def __contains__(self, name: Name) -> bool:
        return super().__contains__(name) if self.is_detached else name in self.whole

    def __getitem__(self, name: Name) -> Column:
        return super().__getitem__(name) if self.is_detached else self.whole[name][self.span]

    def __setitem__(self, name: Name, values: Array) -> None:
        self._detach()
        super().__setitem__(name, values)

    @property
    def frame(self) -> DataFrame:
        self._detach()
        return super().frame

    def _detach(self) -> None:
        if not self.is_detached:
            super().__init__(self.whole.frame.iloc[self.span], is_own=True)
            self.is_detached = True


def factorized(column: Series) -> tuple[Array, Array | Index]:
    """(positions, values): for each row the position of its value among the distinct ones, -1 where it is missing."""
    found = _factorized_quickly(column)
    if found is not None:
        return found
    try:
        return pd.factorize(column)  # type: ignore[no-any-return]
    except TypeError:  # unhashable values, such as lists, are levels by their text
        return pd.factorize(column.map(str, na_action="ignore"))  # type: ignore[no-any-return]


def _factorized_quickly(column: Series) -> tuple[Array, Array | Index] | None:
    """`factorized` for the kinds of which equal values look the same: categories, text and other objects, truth values,
    whole numbers, dates. None for other columns, and for unhashable values."""
    kind = column.dtype
    if isinstance(kind, pd.CategoricalDtype):
        return column.array.codes, kind.categories
    if kind.kind == "b":
        return _marked(_filled(column, np.int8, False), column), np.array([False, True])
    if kind.kind in "iu":
        return _near_numbers(column) or pd.factorize(column)
    if kind.kind in "Mm" or _is_text_of_arrow(kind):
        return pd.factorize(column)  # type: ignore[no-any-return]
    if kind.kind == "O" or pd.api.types.is_string_dtype(kind):
        try:
            return _factorized_objects(column.to_numpy(object))
        except TypeError:
            return None
    return None


def _is_text_of_arrow(kind: Any) -> bool:
    """Whether a dtype stores text in Arrow's memory, where it is factorized without making Python objects of it."""
    is_arrow = isinstance(kind, pd.ArrowDtype) or getattr(kind, "storage", None) == "pyarrow"
    return is_arrow and pd.api.types.is_string_dtype(kind)


def _filled(column: Series, kind: type, fill: int) -> Array:
    """The values of a column of whole numbers or truth values as a NumPy dtype, with `fill` in place of missing ones."""
    return column.to_numpy(kind, na_value=fill) if column.hasnans else column.to_numpy(kind)


def _marked(positions: Array, column: Series) -> Array:
    """Positions with -1 where the value of a column is missing."""
    if column.hasnans:
        positions[column.isna().to_numpy()] = -1
    return positions


def _near_numbers(column: Series) -> tuple[Array, Array] | None:
    """`factorized` for whole numbers that span less than `NEAR`; None for others."""
    low, high = column.min(), column.max()
    if pd.isna(low) or int(high) - int(low) >= NEAR or high > np.iinfo(np.int64).max:
        return None
    low, high = int(low), int(high)
    whole = _filled(column, np.int64, low)
    positions = np.subtract(whole, low, out=np.empty(len(whole), np.int16), casting="unsafe")
    return _marked(positions, column), np.arange(low, high + 1)


def _factorized_objects(column: Array) -> tuple[Array, Array]:
    """`pd.factorize`, on one row per object where rows share objects: equal strings of a file are usually the same object,
    and comparing addresses takes a quarter of the time of hashing.

    Raises:
        TypeError: For unhashable values.
    """
    column = np.ascontiguousarray(column)
    # An array of objects is an array of pointers to them. The objects stay alive while `column` does.
    addresses = np.frombuffer(memoryview((ctypes.c_ssize_t * len(column)).from_address(column.ctypes.data)), np.intp)
    if 2 * len(pd.unique(addresses[:CHUNK])) > len(addresses[:CHUNK]):
        return _factorized_values(column)
    which, distinct = pd.factorize(addresses)
    positions, values = _factorized_values(column[_rows_of(which, len(distinct))])
    return positions[which], values


def _factorized_values(column: Array) -> tuple[Array, Array]:
    """`pd.factorize`, which mistakes a text with a lone surrogate for its `repr`: where there is such text, by a dict."""
    positions, values = pd.factorize(column)
    try:
        text = "".join(values)
    except TypeError:  # other objects than text, which pandas compares themselves
        return positions, values
    if "\\ud" not in text and (text.isascii() or not _SURROGATE.search(text)):
        return positions, values
    present = np.flatnonzero(positions >= 0)
    places = {value: i for i, value in enumerate(dict.fromkeys(column[present]))}
    positions[present] = [places[value] for value in column[present]]
    return positions, np.array([*places], dtype=object)


def _rows_of(positions: Array, count: int) -> Array:
    """For each of `count` values, a row that has it; -1 if there is none.

    Looks at growing chunks, and stops once every value has been found, which is usually in the first.
    """
    rows = np.full(count + 1, -1, np.intp)  # missing values have the position -1, so they write to the last place
    start, size = 0, CHUNK
    while start < len(positions) and (rows[:-1] < 0).any():
        part = positions[start : start + size]
        rows[part] = np.arange(start, start + len(part))
        start, size = start + size, 2 * size
    return rows[:-1]


def without_far(numbers: Array) -> Array:
    """The numbers with NaN in place of those larger than `LARGEST`; the array itself if there are none."""
    with np.errstate(all="ignore"):
        # If the sum of squares is below the limit, so is each square: one pass, without temporary arrays. NaN or overflow
        # fail the test, and lead to the slow way.
        if np.dot(numbers, numbers) <= LARGEST**2:
            return numbers
    is_far = np.abs(numbers) > LARGEST
    return np.where(is_far, np.nan, numbers) if is_far.any() else numbers


def without_gaps(numbers: Array) -> Array:
    """The numbers that are not missing; the array itself if none are."""
    return numbers[~np.isnan(numbers)] if np.isnan(numbers.sum()) else numbers


def median_of(numbers: Array) -> float:
    """The median of the numbers that are not missing; 0 if all are.

    Examples:
        >>> median_of(np.array([4.0, np.nan, 1.0, 2.0])), median_of(np.array([np.nan]))
        (2.0, 0.0)
    """
    known = without_gaps(numbers)
    if not len(known):
        return 0.0
    half = len(known) // 2
    middle, below = _middle(known, half)
    parted = np.partition(middle, half - below)  # around one position: much faster than around two, as np.median does
    upper = parted[half - below]
    return float(upper if len(known) % 2 else (parted[: half - below].max() + upper) / 2)


def _middle(numbers: Array, half: int) -> tuple[Array, int]:
    """Those numbers among which the sorted ones before and at position `half` are, and how many are smaller than these:
    a sample tells the bounds; all of them, and 0, for few numbers and where the sample misleads."""
    if len(numbers) > 16 * BAND:
        sample = np.sort(numbers[:: len(numbers) // BAND])
        margin = len(sample) // 32  # four standard deviations of the place of their median in the sample
        low, high = sample[len(sample) // 2 - margin], sample[len(sample) // 2 + margin]
        middle, below = numbers[(numbers >= low) & (numbers <= high)], np.count_nonzero(numbers < low)
        if below < half < below + len(middle):
            return middle, int(below)
    return numbers, 0


def constant_std(mean: float, count: int) -> float:
    """The standard deviation up to which `count` numbers differ by rounding errors only, as in scikit-learn's scalers.

    Args:
        mean: The mean of the numbers.
        count: How many there are.
    """
    return abs(mean) * count * float(np.finfo(np.float64).eps)


def is_plain(kind: object) -> bool:
    """Whether a dtype is one of NumPy's for numbers or truth values."""
    return isinstance(kind, np.dtype) and kind.kind in "biuf"


def _read_numbers(column: Series) -> tuple[Array, Array | None]:
    """The numbers of a column without a plain dtype, and a mask of its unreadable values (None if there are certainly none)."""
    if not isinstance(column.dtype, pd.CategoricalDtype) and column.dtype.kind in "Mm":
        return np.full(len(column), np.nan), column.notna().to_numpy()
    values = column.astype(object)
    is_known = values.notna().to_numpy()
    try:
        numbers = pd.to_numeric(values, errors="coerce")
    except (TypeError, OverflowError):  # lists; whole numbers too large for a float
        numbers = None
    if numbers is None or numbers.dtype.kind == "c":
        read = np.fromiter(map(parse_number, values), np.float64, len(values))
    else:
        read = np.array(numbers.to_numpy(np.float64, na_value=np.nan))
        unread = np.flatnonzero(np.isnan(read) & is_known)
        read[unread] = [TRUTHS.get(str(value).strip().lower(), math.nan) for value in values.iloc[unread]]
    return read, np.isnan(read) & is_known


def not_encoded(name: Name, kind: object = None) -> BadValue:
    """The error for a categorical column that does not hold codes."""
    return BadValue(f"the categorical column {name!r} is not encoded", got=kind, fix="procs=[Categorify, ...]")


def check_columns(frame: object, names: Iterable[Name], what: str) -> None:
    """Check that a table has all these columns, each once.

    Args:
        frame: The table.
        names: The columns.
        what: Why they are needed, for the message: "which holds the targets".

    Raises:
        BadArgument: If it is not a DataFrame.
        BadValue: If columns are missing or occur more than once; the message names them.
    """
    if not isinstance(frame, pd.DataFrame):
        raise BadArgument("not a table", got=f"a {type(frame).__name__}", expected="a DataFrame")
    names = list(names)
    existing = set(frame.columns)
    missing = [name for name in names if name not in existing]
    if missing:
        near = nearest(str(missing[0]), map(str, frame.columns), 1)
        raise BadValue(
            f"the table has no column{'s' if len(missing) > 1 else ''} {', '.join(map(repr, missing))}, {what}",
            got="the columns " + (", ".join(map(repr, list(frame.columns)[:20])) or "none"),
            fix=f"did you mean {near[0]!r}?" if near else "check the names: upper and lower case, surrounding blanks",
        )
    if not frame.columns.is_unique:
        double = sorted({str(name) for name in names if (frame.columns == name).sum() > 1})
        if double:
            raise BadValue(
                f"the table has several columns named {', '.join(map(repr, double))}",
                fix="df = df.loc[:, ~df.columns.duplicated()] keeps the first of each",
            )


def check_roles(frame: DataFrame, cats: L, conts: L, ys: L) -> None:
    """Check that each of these columns has a single role, and that the frame has it once.

    Raises:
        BadValue: If not, or if column names have several levels.
    """
    if frame.columns.nlevels > 1:
        raise BadValue(
            "column names with several levels are not supported",
            got=f"{frame.columns[0]!r}",
            fix="df.columns = df.columns.map('_'.join)",
        )
    names = [*cats, *conts, *ys]
    double = sorted({str(name) for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if double:
        raise BadValue(
            f"{', '.join(map(repr, double))} occurs more than once in cat_names, cont_names and y_names",
            expected="each column in one of them, once: a target cannot be an input",
        )
    check_columns(frame, names, "which cat_names, cont_names or y_names names")


def without_doubles(frame: DataFrame, names: Iterable[Name]) -> DataFrame:
    """The frame with the first of each group of columns that share a name.

    Raises:
        BadValue: If one of `names` is missing or occurs more than once.
    """
    if frame.columns.is_unique:
        return frame
    check_columns(frame, names, "which is needed")
    return frame.loc[:, ~frame.columns.duplicated()]


def check_row(row: Mapping[Any, object], names: Iterable[Name], what: str) -> None:
    """Check that a row has a value for each of these names; `what` says why they are needed.

    Raises:
        BadValue: If some are missing; the message names them.
    """
    missing = [name for name in names if name not in row]
    if missing:
        raise BadValue(
            f"the row has no value for {', '.join(map(repr, missing))}, {what}",
            got=", ".join(map(repr, row)),
            fix="use None for an unknown value",
        )
