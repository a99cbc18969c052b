"""The levels of a categorical column: its vocabulary, and the code of a value in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from layered.data import CategoryMap, is_missing
from layered.foundation import Array
from layered.tabular.columns import Column
from layered.tabular.values import Level, as_number, moment, plain_level

if TYPE_CHECKING:
    from pandas import Series


class _Readings(NamedTuple):
    """Codes by what levels read as, for values that are not themselves in the vocabulary."""

    of_numbers: dict[Level | None, int]  # levels that are numbers, by number and by text
    of_texts: dict[int | float | None, int]  # levels that are text, by the number that the text reads as
    of_moments: dict[str | None, int]  # levels that are text, by the date or time span that the text reads as


class Levels:
    """Looks up the code of a value in a vocabulary: its own, or that of a level that reads the same ("1", 1.0 and 1).

    Two different texts are never the same level: "7" does not match "007". The number 7 does, unless "7" is a level too.
    A date matches itself followed by midnight.

    Args:
        vocab: The vocabulary.
        unknown: The code of values that are missing or not in the vocabulary.

    Examples:
        >>> levels = Levels(CategoryMap([1, 2], add_na=True))
        >>> [levels.code(value) for value in (1, 2.0, "2", "x", None)]
        [1, 2, 2, 0, 0]
    """

    def __init__(self, vocab: CategoryMap, unknown: int = 0) -> None:
        self.vocab, self.unknown = vocab, unknown
        self._readings: _Readings | None = None

    def code(self, value: object) -> int:
        """The code of one value; `unknown` if it is missing or not in the vocabulary."""
        if is_missing(value):
            return self.unknown
        level = plain_level(value)
        code = self.vocab.o2i.get(level)
        return self._code_by_reading(level) if code is None else code

    def _code_by_reading(self, level: Level) -> int:
        if self._readings is None:
            self._readings = self._read()
        of_numbers, of_texts, of_moments = self._readings
        number = as_number(level)
        if isinstance(level, str):
            found = of_numbers.get(level, of_numbers.get(number))
            return of_moments.get(moment(level), self.unknown) if found is None else found
        text = str(level if isinstance(level, bool) or number is None else number)
        exact = of_numbers.get(number, self.vocab.o2i.get(text))
        return of_texts.get(number, self.unknown) if exact is None else exact

    def _read(self) -> _Readings:
        readings = _Readings({}, {}, {})
        for label, code in self.vocab.o2i.items():
            if isinstance(label, str):
                readings.of_texts.setdefault(as_number(label), code)
                readings.of_moments.setdefault(moment(label), code)
            else:
                readings.of_numbers.setdefault(as_number(label), code)
                readings.of_numbers.setdefault(str(label), code)
        readings.of_numbers.pop(None, None)  # None is the key of all labels without such a reading
        readings.of_texts.pop(None, None)
        readings.of_moments.pop(None, None)
        return readings

    def codes(self, column: Column | Series) -> Array:
        """The codes of a column, [row], in the smallest integer dtype that holds them."""
        positions, values = (column if isinstance(column, Column) else Column(column)).factorized
        kind = np.min_scalar_type(-max(len(self.vocab), 1))
        # A missing value has the position -1, so the last entry of the table is the code of unknown values.
        table = np.fromiter([*map(self.code, values.tolist()), self.unknown], dtype=kind, count=len(values) + 1)
        return table.take(positions)


def levels_of(column: Column | Series) -> CategoryMap:
    """The vocabulary of a column: '#na#', then the categories of a pandas categorical in their order, or the sorted distinct
    values of any other column."""
    column = column if isinstance(column, Column) else Column(column)
    declared = column.categories
    levels = list(dict.fromkeys(map(plain_level, (column.present() if declared is None else declared).tolist())))
    if declared is None:
        try:
            levels.sort()
        except TypeError:  # mixed types, which are sorted by type first
            levels.sort(key=lambda o: (type(o).__name__, o))
    return CategoryMap(levels, sort=False, add_na=True)
