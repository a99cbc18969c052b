"""Columns of a table as what models compute with: categories to codes, everything else to floats.

What training made of a column decides; a column that comes with another dtype later (text for numbers, floats for whole
numbers, other categories) gives the same codes and floats, and what cannot be read counts as missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from layered.data.encodings import CategoryMap
from layered.foundation.errors import BadValue
from layered.foundation.optional import lazy

pd = lazy("pandas")

Array = np.ndarray[Any, Any]

NEAR = 2**12  # whole numbers that lie so near to each other are their own positions


class Levels:
    """Finds the code of a value in a vocabulary: the value itself, else one that reads the same ("1", 1.0 and 1).

    >>> levels = Levels(CategoryMap([1, 2], add_na=True))
    >>> [levels.code(value) for value in (1, 2.0, "2", "x", None)]
    [1, 2, 2, 0, 0]
    """

    def __init__(self, vocab: CategoryMap, unknown: int = 0) -> None:
        self.vocab, self.unknown = vocab, unknown
        self._spellings: dict[str, int] | None = None

    def code(self, value: Any) -> int:
        """The code of one value; `unknown` for one that is missing or not in the vocabulary."""
        if is_missing(value):
            return self.unknown
        value = plain_level(value)
        code = self.vocab.o2i.get(value)
        return self._by_spelling(value) if code is None else code

    def _by_spelling(self, value: Any) -> int:
        if self._spellings is None:
            self._spellings = {}
            for label, code in self.vocab.o2i.items():
                for spelling in spellings(label):
                    self._spellings.setdefault(spelling, code)
        found = (self._spellings.get(spelling) for spelling in spellings(value))
        return next((code for code in found if code is not None), self.unknown)

    def codes(self, column: Any) -> Array:
        """The codes of a column, in the smallest type of integers that holds them."""
        positions, values = factorized(column)
        kind = np.min_scalar_type(-max(len(self.vocab), 1))
        table = np.fromiter([*map(self.code, values), self.unknown], dtype=kind, count=len(values) + 1)
        return table[positions]


def factorized(column: Any) -> tuple[Array, Any]:
    """(positions, values): for each row the position of its value among some, -1 where it is missing."""
    if hasattr(column.dtype, "categories"):
        return column.cat.codes.to_numpy(), column.cat.categories
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "bi" and len(column):
        whole = column.to_numpy(np.int64)
        low, high = int(whole.min()), int(whole.max())
        if high - low < NEAR:
            values = np.arange(low, high + 1)
            return whole - low, values.astype(bool) if column.dtype.kind == "b" else values
    is_text = pd.api.types.is_string_dtype(column.dtype)
    try:
        return pd.factorize(column.to_numpy(object) if is_text else column)  # type: ignore[no-any-return]
    except TypeError:  # values that cannot be hashed, which no level is
        return pd.factorize(column.map(str))  # type: ignore[no-any-return]


def present(column: Any) -> Any:
    """The distinct values of a column, without a missing one; of a categorical those that occur."""
    positions, values = factorized(column)
    return values[np.bincount(positions + 1, minlength=len(values) + 1)[1:] > 0]


def compact(column: Any) -> Any:
    """A column of text, or of mixed values, as a pandas categorical of what it holds; any other as it is."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind != "O":
        return column
    if hasattr(column.dtype, "categories") or not (
        column.dtype.kind == "O" or pd.api.types.is_string_dtype(column.dtype)
    ):
        return column
    positions, values = factorized(column)
    kind = np.min_scalar_type(-max(len(values), 1))
    found = pd.Categorical.from_codes(positions.astype(kind), pd.Index(values, dtype=object))
    return pd.Series(found, index=column.index, copy=False)


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: None, NaN, NaT, pandas' NA."""
    if value is None:
        return True
    differs = value != value  # of NaN and NaT; pandas' NA gives itself
    return bool(differs) if isinstance(differs, (bool, np.bool_)) else differs is pd.NA


def plain_level(value: Any) -> Any:
    """A value as a level: text, or a number or truth value of Python's; anything else as it prints."""
    value = value.item() if isinstance(value, np.generic) and not isinstance(value, np.datetime64) else value
    return value if isinstance(value, (str, bool, int, float)) else str(value)


def spellings(value: Any) -> list[str]:
    """The texts under which a level is found, the exact one first.

    >>> spellings(3.0), spellings("3.0"), spellings("x"), spellings(True)
    (['3'], ['3.0', '3'], ['x'], ['True', '1'])
    """
    if isinstance(value, bool):
        return [str(value), str(int(value))]
    if isinstance(value, str):
        number = number_of(value)
        return [value] if math.isnan(number) else [value, _spelt(number)]
    return [_spelt(float(value))]


def _spelt(number: float) -> str:
    return str(int(number)) if number.is_integer() else str(float(np.float32(number)))


def levels_of(column: Any, is_declared: bool = True) -> CategoryMap:
    """The vocabulary of a column: '#na#', then its categories in their order, or its distinct values, sorted.

    is_declared  False: the categories of a pandas categorical are no more than what some rows hold
    """
    categories = getattr(column.dtype, "categories", None) if is_declared else None
    found = present(column) if categories is None else categories
    levels = list(dict.fromkeys(map(plain_level, found)))
    if categories is None:
        try:
            levels.sort()
        except TypeError:  # several kinds of values, each sorted by itself
            levels.sort(key=lambda o: (type(o).__name__, o))
    return CategoryMap(levels, sort=False, add_na=True)


def number_of(value: Any) -> float:
    """A value as a number; NaN where it is missing, infinite, or cannot be read as one.

    >>> number_of("2.5"), number_of(True), number_of("much"), number_of(None)
    (2.5, 1.0, nan, nan)
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def numbers_of(frame: Any, names: Sequence[Any], strict: bool = False) -> Array:
    """Columns as float64 [row, column]; NaN where a value is missing, infinite, or cannot be read as a number.

    strict     raise BadValue for what cannot be read, naming column and value
    """
    some = frame[list(names)]
    if not len(texts(some)):
        numbers: Array = some.to_numpy(np.float64, copy=True)
    else:
        numbers = np.empty((len(some), len(names)))
        for i, name in enumerate(names):
            numbers[:, i] = _numbers(some[name], name, strict)
    if not np.isfinite(numbers.sum()):  # quicker than to look at each, and mostly all are
        numbers[~np.isfinite(numbers)] = np.nan
    return numbers


def texts(frame: Any) -> list[Any]:
    """The columns that are not stored as plain numbers or truth values."""
    kinds = zip(frame.columns, frame.dtypes, strict=True)
    return [name for name, kind in kinds if not (isinstance(kind, np.dtype) and kind.kind in "biuf")]


def _numbers(column: Any, name: Any, strict: bool) -> Array:
    kind = column.dtype
    if isinstance(kind, np.dtype) and kind.kind in "biuf":
        return column.to_numpy(np.float64)  # type: ignore[no-any-return]
    if getattr(kind, "kind", "O") in "Mm":
        if strict:
            raise _no_number(name, column.iloc[0], "add_datepart(df, column) makes numbers and categories of a date")
        return np.full(len(column), np.nan)
    if getattr(kind, "kind", "O") in "biuf":
        return column.to_numpy(np.float64, na_value=np.nan)  # type: ignore[no-any-return]
    values = column.astype(object)
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    strange = np.isnan(numbers) & values.notna().to_numpy()
    if strange.any() and strict:
        raise _no_number(name, values.iloc[int(strange.argmax())], "put the column into cat_names, or clean it")
    return numbers  # type: ignore[no-any-return]


def _no_number(name: Any, example: Any, fix: str) -> BadValue:
    return BadValue(
        f"the column {name!r} is to be continuous, but holds what is no number",
        got=repr(example),
        expected="numbers, or nothing where one is missing",
        fix=fix,
    )


def check_columns(frame: Any, names: Iterable[Any], what: str) -> None:
    """Raise BadValue unless the table has all these columns, each once.

    what       what they are needed for
    """
    names = list(names)
    there = set(frame.columns)
    missing = [name for name in names if name not in there]
    if missing:
        raise BadValue(
            f"the table has no column{'s' if len(missing) > 1 else ''} {', '.join(map(repr, missing))}, {what}",
            got="the columns " + (", ".join(map(repr, list(frame.columns)[:20])) or "none"),
            fix="check the names: upper and lower case, blanks around them",
        )
    if not frame.columns.is_unique:
        double = sorted({str(name) for name in names if (frame.columns == name).sum() > 1})
        if double:
            raise BadValue(
                f"the table has several columns named {', '.join(map(repr, double))}",
                fix="df = df.loc[:, ~df.columns.duplicated()] keeps the first of each",
            )


def check_row(row: Mapping[Any, Any], names: Iterable[Any], what: str) -> None:
    """Raise BadValue unless the row has a value for all these names."""
    missing = [name for name in names if name not in row]
    if missing:
        raise BadValue(
            f"the row has no {', '.join(map(repr, missing))}, {what}",
            got=", ".join(map(repr, row)),
            fix="None stands for a value that is not known",
        )
