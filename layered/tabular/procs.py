"""What prepares a table: categories to codes, missing numbers filled, numbers in standard scores.

Each is fitted on the training rows, keeps what it learnt of each column but no rows, and can be exported as data. Each
encodes whole tables (`Tabular`) and, for `predict`, single rows (`Row`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from layered.data import CategoryMap, Normalize
from layered.foundation import BadArgument, BadValue, functions, lazy, transforms
from layered.tabular.columns import median_of, without_gaps
from layered.tabular.levels import Levels, levels_of
from layered.tabular.table import Row, Tabular, TabularProc
from layered.tabular.values import Name

if TYPE_CHECKING:
    from pandas import Series

pd = lazy("pandas")


@transforms.register("tabular.Categorify")
class Categorify(TabularProc):
    """Categories to codes: 0 is '#na#' (missing, or not seen in training), then the levels, sorted, or in the order of a
    pandas categorical. A value that reads the same ("1", 1, 1.0) is the same level.

    `classes` has the vocabulary of each column.
    """

    order = 1
    fits = ("classes",)

    def __init__(self) -> None:
        super().__init__()
        self.classes: dict[Any, CategoryMap] = {}
        self._levels: dict[Any, Levels] = {}

    def setups(self, to: Tabular) -> None:
        self.classes = {name: levels_of(to.column(name)) for name in to.cat_names}

    def levels(self, name: Name) -> Levels:
        """How values of a column find their codes."""
        known = self._levels.get(name)
        if known is None or known.vocab is not self.classes[name]:
            known = self._levels[name] = Levels(self.classes[name])
        return known

    def encodes(self, to: Tabular) -> None:
        for name in to.cat_names:
            to.put(name, self.levels(name).codes(to.column(name)))

    def encode_row(self, row: Row) -> None:
        for name in row.cat_names:
            levels = self.levels(name)
            code = row.values[name] = levels.code(row.values[name])
            row.shown[name] = levels.vocab.items[code]

    def decodes(self, to: Tabular) -> None:
        for name in to.cat_names:
            labels = np.array([*self.classes[name]], dtype=object)
            to.put(name, labels[to.column(name).series.to_numpy(np.int64)])

    def __getitem__(self, name: Name) -> CategoryMap:
        return self.classes[name]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_levels": {}}


class FillStrategy:
    """What missing numbers are filled with, from the known numbers of the training rows and the value given for the column."""

    @staticmethod
    def median(c: Series, fill: float) -> float:
        """The median."""
        return float(c.median())

    @staticmethod
    def constant(c: Series, fill: float) -> float:
        """The value given in `fill_vals`; 0 by default."""
        return float(fill)

    @staticmethod
    def mode(c: Series, fill: float) -> float:
        """The most frequent value; of several the smallest."""
        return float(c.mode().iloc[0])


for _strategy in (FillStrategy.median, FillStrategy.constant, FillStrategy.mode):
    functions.add(f"tabular.FillStrategy.{_strategy.__name__}", _strategy)


@transforms.register("tabular.FillMissing")
class FillMissing(TabularProc):
    """Fill the missing numbers of continuous columns, and record in a categorical column `<name>_na` where they were missing.

    `na_dict` has the fills of the columns with missing numbers in training. The others have one in `fills`, in case a
    number is missing later.

    Args:
        fill_strategy: What to fill with: `FillStrategy.median`, `constant`, `mode`, or your own function
            (column, fill) -> number.
        add_col: Add the columns, for those with missing numbers in training.
        fill_vals: The constants: a mapping from column to number; 0 by default.
    """

    fits = ("na_dict", "fills")

    def __init__(
        self,
        fill_strategy: Callable[[Any, Any], Any] = FillStrategy.median,
        add_col: bool = True,
        fill_vals: Mapping[Any, float] | None = None,
    ) -> None:
        super().__init__()
        if not callable(fill_strategy):
            raise BadArgument("fill_strategy must be a function", got=repr(fill_strategy), fix="FillStrategy.median")
        if fill_vals is not None and not isinstance(fill_vals, Mapping):
            raise BadArgument(
                "fill_vals must map columns to numbers", got=repr(fill_vals), fix="fill_vals={column: number}"
            )
        self.fill_strategy, self.add_col, self.fill_vals = fill_strategy, add_col, fill_vals
        self.na_dict: dict[Any, float] = {}
        self.fills: dict[Any, float] = {}

    @property
    def filled(self) -> Collection[Name]:
        return {**self.fills, **self.na_dict}

    def setups(self, to: Tabular) -> None:
        constants = self.fill_vals or {}
        self.na_dict, self.fills = {}, {}
        for name in to.cont_names:
            numbers = to.column(name).numbers
            known = without_gaps(numbers)
            if self.fill_strategy is FillStrategy.median:
                value = median_of(known)
            else:
                has_any = len(known) or self.fill_strategy is FillStrategy.constant
                value = float(self.fill_strategy(pd.Series(known), constants.get(name, 0))) if has_any else 0.0
            (self.fills if known is numbers else self.na_dict)[name] = value

    def flag(self, name: Name) -> str:
        """The column that records where numbers of column `name` were missing."""
        return f"{name}_na"

    def encodes(self, to: Tabular) -> None:
        fills, flags = {**self.fills, **self.na_dict}, {}
        for name in to.cont_names:
            column = to.column(name)
            missing = column.missing
            if self.add_col and name in self.na_dict:
                flags[self.flag(name)] = missing
            if missing.any():
                to.put(name, np.where(missing, fills[name], column.numbers))
        taken = [flag for flag in flags if flag in to.x_given or flag in to.y_names]
        if taken:
            raise BadValue(
                f"FillMissing would overwrite the column {', '.join(map(repr, taken))}",
                fix="rename the column, or FillMissing(add_col=False)",
            )
        for flag, missing in flags.items():
            to.put(flag, missing)
        new = [flag for flag in flags if flag not in to.cat_names]
        if new:
            to.cat_names = to.cat_names + new

    def encode_row(self, row: Row) -> None:
        for name in row.cont_names:
            number = row.values[name]
            is_missing = number != number  # NaN
            if self.add_col and name in self.na_dict:
                row.values[self.flag(name)] = is_missing
            if is_missing:
                row.values[name] = row.shown[name] = self.na_dict[name] if name in self.na_dict else self.fills[name]


class _Scores(Protocol):
    """`Normalize` as tables use it: a mean and a standard deviation for each continuous column."""

    mean: dict[Any, float]
    std: dict[Any, float]


@Normalize
def setups(self: _Scores, to: Tabular) -> None:
    """Mean and population standard deviation (+ 1e-7) of each continuous column, over the training rows."""
    self.mean, self.std = {}, {}
    for name in to.cont_names:
        known = without_gaps(to.column(name).numbers)
        self.mean[name] = float(known.mean()) if len(known) else 0.0
        self.std[name] = float(known.std()) + 1e-7 if len(known) else 1.0


@Normalize
def encodes(self: _Scores, to: Tabular) -> None:
    centred = np.empty(len(to))  # a buffer for one column after the other
    for name in to.cont_names:
        np.subtract(to.column(name).numbers, self.mean[name], out=centred)
        scores = np.empty(len(to), np.float32 if to.reduce_memory else np.float64)
        to.put(name, np.divide(centred, self.std[name], out=scores, casting="same_kind"))


@Normalize  # type: ignore[no-redef]  # one overload of the verb for each type
def encodes(self: _Scores, row: Row) -> None:  # noqa: F811
    for name in row.cont_names:
        row.values[name] = (row.values[name] - self.mean[name]) / self.std[name]


@Normalize
def decodes(self: _Scores, to: Tabular) -> None:
    for name in to.cont_names:
        to.put(name, to.column(name).numbers * self.std[name] + self.mean[name])
