"""Columns of a table as what models compute with: categories to codes, everything else to floats.

What training made of a column decides; a column that comes with another dtype later (text for numbers, floats for whole
numbers, other categories) gives the same codes and floats, and what cannot be read counts as missing.
"""

from __future__ import annotations

import ctypes
import datetime
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from torch import Tensor

from layered.data import CategoryMap
from layered.foundation import BadArgument, BadValue, lazy, listify, nearest

pd = lazy("pandas")

Array = np.ndarray[Any, Any]

NEAR = 2**12  # whole numbers that lie so near to each other are their own positions
CHUNK = 2**15  # rows that are looked at first
LARGEST = 1e30  # numbers beyond count as missing: their standard scores might not fit into float32
MANY_DIGITS = 1000  # a number with more is none that a level could be
TRUTHS = {"true": 1.0, "false": 0.0}
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d|-?\d+ days?)(?:[ T](\S+))?")


def listed(names: Any) -> list[Any]:
    """Names as a list: one, several in anything list-like (a list, an index, a column, an array), none for None. Texts and whole
    numbers of NumPy's are those of Python.

    Examples:
        >>> listed("x"), listed(np.array(["x", "y"])), listed([np.str_("z")]), listed(None)
        (['x'], ['x', 'y'], ['z'], [])
    """
    names = listify(names.tolist() if getattr(names, "ndim", 0) and hasattr(names, "tolist") else names)
    return [name.item() if isinstance(name, (np.str_, np.integer)) else name for name in names]


class Levels:
    """Finds the code of a value in a vocabulary: the value itself, else one that reads the same ("1", 1.0 and 1).

    A text is no other text: "7" is not "007", but the number 7 is, where there is no "7". Days are the same with midnight
    behind them as without.

    Examples:
        >>> levels = Levels(CategoryMap([1, 2], add_na=True))
        >>> [levels.code(value) for value in (1, 2.0, "2", "x", None)]
        [1, 2, 2, 0, 0]
    """

    def __init__(self, vocab: CategoryMap, unknown: int = 0) -> None:
        self.vocab, self.unknown = vocab, unknown
        self._readings: tuple[dict[Any, int], dict[Any, int], dict[Any, int]] | None = None

    def code(self, value: Any) -> int:
        """The code of one value; `unknown` for one that is missing or not in the vocabulary."""
        if is_missing(value):
            return self.unknown
        value = plain_level(value)
        code = self.vocab.o2i.get(value)
        return self._code_by_reading(value) if code is None else code

    def _code_by_reading(self, value: Any) -> int:
        if self._readings is None:
            self._readings = self._read()
        of_numbers, of_texts, of_moments = self._readings
        number = as_number(value)
        if isinstance(value, str):
            found = of_numbers.get(value, of_numbers.get(number))
            return of_moments.get(moment(value), self.unknown) if found is None else found
        text = str(value if isinstance(value, bool) or number is None else number)
        exact = of_numbers.get(number, self.vocab.o2i.get(text))
        return of_texts.get(number, self.unknown) if exact is None else exact

    def _read(self) -> tuple[dict[Any, int], dict[Any, int], dict[Any, int]]:
        """The codes of levels that are numbers, by number and by text; of levels that are texts, by number; and by moment."""
        of_numbers: dict[Any, int] = {}
        of_texts: dict[Any, int] = {}
        of_moments: dict[Any, int] = {}
        for label, code in self.vocab.o2i.items():
            if isinstance(label, str):
                of_texts.setdefault(as_number(label), code)
                of_moments.setdefault(moment(label), code)
            else:
                of_numbers.setdefault(as_number(label), code)
                of_numbers.setdefault(str(label), code)
        for readings in (of_numbers, of_texts, of_moments):
            readings.pop(None, None)
        return of_numbers, of_texts, of_moments

    def codes(self, column: Any) -> Array:
        """The codes of a column, in the smallest type of integers that holds them."""
        positions, values = factorized(column)
        kind = np.min_scalar_type(-max(len(self.vocab), 1))
        table = np.fromiter([*map(self.code, values.tolist()), self.unknown], dtype=kind, count=len(values) + 1)
        return table.take(positions)


def factorized(column: Any) -> tuple[Array, Any]:
    """(positions, values): for each row the position of its value among some, -1 where it is missing."""
    if hasattr(column.dtype, "categories"):
        return column.array.codes, column.array.categories
    if (near := _near_numbers(column)) is not None:
        return near
    is_text = column.dtype.kind == "O" or pd.api.types.is_string_dtype(column.dtype)
    try:
        return _factorized_objects(column.to_numpy(object)) if is_text else pd.factorize(column)
    except TypeError:  # values that cannot be hashed, which no level is
        return pd.factorize(column.map(str, na_action="ignore"))  # type: ignore[no-any-return]


def _near_numbers(column: Any) -> tuple[Array, Any] | None:
    """`factorized` of truth values, or of whole numbers that lie near to each other; None for any other column."""
    if not (isinstance(column.dtype, np.dtype) and column.dtype.kind in "bi" and len(column)):
        return None
    if column.dtype.kind == "b":
        return column.to_numpy().view(np.int8), np.array([False, True])
    whole = column.to_numpy(np.int64)
    low, high = int(whole.min()), int(whole.max())
    if high - low >= NEAR:
        return None
    return np.subtract(whole, low, out=np.empty(len(whole), np.int16), casting="unsafe"), np.arange(low, high + 1)


def _factorized_objects(column: Array) -> tuple[Array, Any]:
    """As `pd.factorize`, but of each object once: equal texts of a column are mostly one object, and to compare addresses
    takes a quarter of the time."""
    column = np.ascontiguousarray(column)
    addresses = np.frombuffer(memoryview((ctypes.c_ssize_t * len(column)).from_address(column.ctypes.data)), np.intp)
    which, distinct = pd.factorize(addresses)
    positions, values = pd.factorize(column[_rows_of(which, len(distinct))])
    return positions[which], values


def _rows_of(positions: Array, count: int) -> Array:
    """For each of `count` values a row that has it, or -1 if there is none; the first rows mostly have all."""
    rows = np.full(count + 1, -1, np.intp)  # the last place is that of -1, for a missing value
    start, size = 0, CHUNK
    while start < len(positions) and (rows[:-1] < 0).any():
        part = positions[start : start + size]
        rows[part] = np.arange(start, start + len(part))
        start, size = start + size, 2 * size
    return rows[:-1]


def present(column: Any) -> Any:
    """The distinct values of a column, without a missing one; of a categorical those that occur."""
    positions, values = factorized(column)
    return values[_rows_of(positions, len(values)) >= 0]


def compact(column: Any) -> Any:
    """The values of a column of text, of mixed values, or of whole numbers near to each other as a pandas categorical; None for
    any other column."""
    is_text = column.dtype.kind == "O" or pd.api.types.is_string_dtype(column.dtype)
    found = factorized(column) if is_text and not hasattr(column.dtype, "categories") else _near_numbers(column)
    if found is None:
        return None
    positions, values = found
    codes = positions.astype(np.min_scalar_type(-max(len(values), 1)))
    return pd.Categorical.from_codes(codes, pd.Index(values, dtype=object if is_text else None))


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: None, NaN, NaT, pandas' NA."""
    if value is None:
        return True
    differs = value != value  # of NaN and NaT; pandas' NA gives itself
    is_truth = isinstance(differs, (bool, np.bool_)) or (isinstance(differs, Tensor) and not differs.ndim)
    return bool(differs) if is_truth else differs is pd.NA


def plain_level(value: Any) -> Any:
    """A value as a level: text, or a number or truth value of Python's; anything else, as dates, as it prints.

    A whole number of more digits than are read or written anywhere is the text of its hexadecimal digits.

    Examples:
        >>> plain_level(np.int8(3)), plain_level(b"x"), plain_level(np.datetime64("2020-01-01"))
        (3, 'x', '2020-01-01')
    """
    kind = type(value)
    if kind in (str, float, bool) or (kind is int and value.bit_length() < MANY_DIGITS):  # most are
        return value
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    elif isinstance(value, (np.generic, np.ndarray, Tensor)) and value.ndim == 0:
        value = value.item()
    if isinstance(value, datetime.timedelta):
        value = pd.Timedelta(value)
    if isinstance(value, Decimal) and value.is_finite() and value.adjusted() < MANY_DIGITS:
        value = int(value) if value == int(value) else float(value)
    if isinstance(value, int) and value.bit_length() > 4 * MANY_DIGITS:
        return hex(value)
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value).removesuffix(" 00:00:00")  # of a day that comes as its first moment


def moment(text: str) -> str | None:
    """A date or a time span as `plain_level` writes it, of text that says one; None for other text.

    Examples:
        >>> moment("2020-01-01T00:00:00"), moment("2020-01-01 03:04:05"), moment("x 00:00:00")
        ('2020-01-01', '2020-01-01 03:04:05', None)
    """
    found = _MOMENT.fullmatch(text.strip())
    if found is None:
        return None
    day, time = found.groups()
    return day if time in (None, "00:00", "00:00:00") else f"{day} {time}"


def as_number(value: Any) -> int | float | None:
    """The number that a level is, or that its text says; None where there is none.

    Whole numbers are exact, others as exact as float32, which many tables are kept in.

    Examples:
        >>> as_number(3.0), as_number("3.0"), as_number(True), as_number("x"), as_number("9007199254740993")
        (3, 3, 1, None, 9007199254740993)
    """
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        text = value.strip()
        if text.removeprefix("-").isdecimal() and text.isascii() and len(text) < MANY_DIGITS:
            return int(text)
    number = number_of(value)
    if math.isnan(number):
        return None
    return int(number) if number.is_integer() else float(np.float32(number))


def levels_of(column: Any, is_declared: bool = True) -> CategoryMap:
    """The vocabulary of a column: '#na#', then its categories in their order, or its distinct values, sorted.

    Args:
        is_declared: False: the categories of a pandas categorical are no more than what some rows hold.
    """
    categories = getattr(column.dtype, "categories", None) if is_declared else None
    found = present(column) if categories is None else categories
    levels = list(dict.fromkeys(map(plain_level, found.tolist())))
    if categories is None:
        try:
            levels.sort()
        except TypeError:  # several kinds of values, each sorted by itself
            levels.sort(key=lambda o: (type(o).__name__, o))
    return CategoryMap(levels, sort=False, add_na=True)


def number_of(value: Any) -> float:
    """A value as a number; NaN where it is missing, larger than `LARGEST`, or cannot be read as one. "True" is 1.

    Examples:
        >>> number_of("2.5"), number_of("true"), number_of("much"), number_of(None)
        (2.5, 1.0, nan, nan)
    """
    if isinstance(value, str) and value.strip().lower() in TRUTHS:
        return TRUTHS[value.strip().lower()]
    if isinstance(value, str) and ("_" in value or not value.isascii()):  # which Python reads, and pandas does not
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if abs(number) <= LARGEST else math.nan


def numbers_of(frame: Any, names: Sequence[Any], strict: bool = False) -> Array:
    """Columns as float64 [row, column]; NaN where a value is missing, infinite or larger than
    `LARGEST`, or cannot be read as a number.

    Args:
        strict: Raise BadValue for what cannot be read, naming column and value.
    """
    numbers = np.empty((len(frame), len(names)), order="F")
    for i, name in enumerate(names):
        numbers[:, i] = without_far(number_column(frame, name, strict))
    return numbers


def without_far(numbers: Array) -> Array:
    """NaN in place of numbers larger than `LARGEST`; the column itself where there is none."""
    with np.errstate(all="ignore"):
        if np.dot(numbers, numbers) <= LARGEST**2:  # then each is small enough; quicker than to look at each
            return numbers
    is_far = np.abs(numbers) > LARGEST
    return np.where(is_far, np.nan, numbers) if is_far.any() else numbers


def without_gaps(numbers: Array) -> Array:
    """The numbers of a column that are not missing; the column itself where none is."""
    return numbers[~np.isnan(numbers)] if np.isnan(numbers.sum()) else numbers


def median_of(numbers: Array) -> float:
    """The median of a column without its missing values; 0 where it has no others.

    Examples:
        >>> median_of(np.array([4.0, np.nan, 1.0, 2.0])), median_of(np.array([np.nan]))
        (2.0, 0.0)
    """
    known = without_gaps(numbers)
    if not len(known):
        return 0.0
    half = len(known) // 2
    parted = np.partition(known, half)  # of one position, which is much quicker than the two of np.median
    return float(parted[half] if len(known) % 2 else (parted[:half].max() + parted[half]) / 2)


def is_plain(kind: Any) -> bool:
    """Whether columns of this dtype are stored as NumPy's numbers or truth values."""
    return isinstance(kind, np.dtype) and kind.kind in "biuf"


def number_column(frame: Any, name: Any, strict: bool = False) -> Array:
    """One column as `numbers_of` reads it, with large numbers as they are, float64 [row]; it may be the table's own memory, so it
    is not to be changed."""
    column = frame[name]
    kind = column.dtype
    if is_plain(kind):
        return column.to_numpy(np.float64)  # type: ignore[no-any-return]
    if getattr(kind, "kind", "O") in "Mm":
        if strict:
            raise _no_number(name, column.iloc[0], "add_datepart(df, column) makes numbers and categories of a date")
        return np.full(len(column), np.nan)
    if getattr(kind, "kind", "O") in "biuf":
        return column.to_numpy(np.float64, na_value=np.nan)  # type: ignore[no-any-return]
    values = column.astype(object)
    numbers = _read_numbers(values)
    strange = np.isnan(numbers) & values.notna().to_numpy()
    if strange.any() and strict:
        raise _no_number(name, values.iloc[int(strange.argmax())], "put the column into cat_names, or clean it")
    return numbers


def _read_numbers(values: Any) -> Array:
    try:
        numbers = pd.to_numeric(values, errors="coerce")
    except (TypeError, OverflowError):  # lists, whole numbers beyond those of floats
        numbers = None
    if numbers is None or numbers.dtype.kind == "c":
        return np.fromiter(map(number_of, values), np.float64, len(values))
    read: Array = np.array(numbers.to_numpy(np.float64, na_value=np.nan))
    unread = np.flatnonzero(np.isnan(read) & values.notna().to_numpy())
    read[unread] = [TRUTHS.get(str(value).strip().lower(), math.nan) for value in values.iloc[unread]]
    return read


def not_encoded(name: Any, kind: Any = None) -> BadValue:
    """The error for a categorical column without codes."""
    return BadValue(f"the column {name!r} is categorical, and not encoded", got=kind, fix="procs=[Categorify, ...]")


def _no_number(name: Any, example: Any, fix: str) -> BadValue:
    return BadValue(
        f"the column {name!r} is to be continuous, but holds what is no number",
        got=repr(plain_level(example) if isinstance(example, int) else example)[:100],
        expected="numbers, or nothing where one is missing",
        fix=fix,
    )


def check_columns(frame: Any, names: Iterable[Any], what: str) -> None:
    """Raise BadValue unless the table has all these columns, each once.

    Args:
        what: What they are needed for.
    """
    if not hasattr(frame, "columns"):
        raise BadArgument("this is no table", got=f"a {type(frame).__name__}", expected="a DataFrame")
    names = list(names)
    there = set(frame.columns)
    missing = [name for name in names if name not in there]
    if missing:
        near = nearest(str(missing[0]), map(str, frame.columns), 1)
        raise BadValue(
            f"the table has no column{'s' if len(missing) > 1 else ''} {', '.join(map(repr, missing))}, {what}",
            got="the columns " + (", ".join(map(repr, list(frame.columns)[:20])) or "none"),
            fix=f"did you mean {near[0]!r}?" if near else "check the names: upper and lower case, blanks around them",
        )
    if not frame.columns.is_unique:
        double = sorted({str(name) for name in names if (frame.columns == name).sum() > 1})
        if double:
            raise BadValue(
                f"the table has several columns named {', '.join(map(repr, double))}",
                fix="df = df.loc[:, ~df.columns.duplicated()] keeps the first of each",
            )


def without_doubles(frame: Any, names: Iterable[Any]) -> Any:
    """The frame with each column once: of several that share a name, none of `names`, the first."""
    if frame.columns.is_unique:
        return frame
    check_columns(frame, names, "which is needed")
    return frame.loc[:, ~frame.columns.duplicated()]


def check_row(row: Mapping[Any, Any], names: Iterable[Any], what: str) -> None:
    """Raise BadValue unless the row has a value for all these names."""
    missing = [name for name in names if name not in row]
    if missing:
        raise BadValue(
            f"the row has no {', '.join(map(repr, missing))}, {what}",
            got=", ".join(map(repr, row)),
            fix="None stands for a value that is not known",
        )
