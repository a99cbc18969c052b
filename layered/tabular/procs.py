"""Procs, which prepare a table: they encode categories, fill missing numbers, and standardize numbers.

Each is fitted on the training rows, keeps what it learnt of each column but no rows, and can be exported as data. Each
encodes whole tables (`Tabular`) and, for `predict`, single rows (`Row`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from layered.data import CategoryMap, Normalize, is_missing
from layered.foundation import BadArgument, BadValue, functions, lazy, transforms, warn
from layered.tabular.columns import constant_std, median_of, without_gaps
from layered.tabular.levels import Levels, levels_of
from layered.tabular.table import Row, Tabular, TabularProc
from layered.tabular.unread import Unread
from layered.tabular.values import Name, plain_level

if TYPE_CHECKING:
    from pandas import Series

pd = lazy("pandas")


@transforms.register("tabular.Categorify")
class Categorify(TabularProc):
    """Encodes categories as codes: 0 for '#na#' (missing, or unseen in training), then the levels of training.

    Levels are sorted, or in the order of a pandas categorical. Values that read the same ("1", 1, 1.0) are the same level.

    Attributes:
        classes: The vocabulary of each column, '#na#' first.
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
        """The lookup of codes for a column, cached until the column gets another vocabulary."""
        known = self._levels.get(name)
        if known is None or known.vocab is not self.classes[name]:
            known = self._levels[name] = Levels(self.classes[name])
        return known

    def encodes(self, to: Tabular) -> None:
        for name in to.cat_names:
            column = to.column(name)
            codes = self.levels(name).codes(column)
            to.note_unknown(name, column, codes)
            to.put(name, codes)

    def encode_row(self, row: Row) -> None:
        for name in row.cat_names:
            levels, value = self.levels(name), row.values[name]
            code = row.values[name] = levels.code(value)
            if not code and not is_missing(value):
                row.unread.append(Unread(name, False, 1, 1, [plain_level(value)]))
            row.shown[name] = levels.vocab.items[code]

    def decodes(self, to: Tabular) -> None:
        for name in to.cat_names:
            labels = np.array([*self.classes[name]], dtype=object)
            to.put(name, labels[to.column(name).series.to_numpy(np.int64)])

    def __getitem__(self, name: Name) -> CategoryMap:
        return self.classes[name]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_levels": {}}  # a cache, rebuilt from `classes`


class FillStrategy:
    """What missing numbers are filled with: functions of a column's known training numbers and its value in `fill_vals`."""

    @staticmethod
    def median(c: Series, fill: float) -> float:
        """The median."""
        return float(c.median())

    @staticmethod
    def constant(c: Series, fill: float) -> float:
        """The column's value in `fill_vals`; 0 if it has none."""
        return float(fill)

    @staticmethod
    def mode(c: Series, fill: float) -> float:
        """The most frequent number; the smallest if there are several."""
        return float(c.mode().iloc[0])


for _strategy in (FillStrategy.median, FillStrategy.constant, FillStrategy.mode):
    functions.add(f"tabular.FillStrategy.{_strategy.__name__}", _strategy)


@transforms.register("tabular.FillMissing")
class FillMissing(TabularProc):
    """Fills missing numbers, and records in a categorical column `<name>_na` where they were missing.

    Args:
        fill_strategy: What to fill with: `FillStrategy.median`, `FillStrategy.constant`, `FillStrategy.mode`, or your own
            function of (known numbers as a Series, value in `fill_vals`) that returns a number.
        add_col: Whether to add the column `<name>_na`, for columns with missing numbers in training.
        fill_vals: The values for `FillStrategy.constant`, {column: number}; 0 for other columns.

    Attributes:
        na_dict: The fill of each column with missing numbers in training.
        fills: The fill of each other continuous column, in case a number is missing later.

    Raises:
        BadArgument: If `fill_strategy` is not a function, or `fill_vals` not a mapping.
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
                # Of no numbers there is neither a median nor a mode; a constant needs none.
                has_any = len(known) or self.fill_strategy is FillStrategy.constant
                value = float(self.fill_strategy(pd.Series(known), constants.get(name, 0))) if has_any else 0.0
            # `without_gaps` returns the same array if no number is missing.
            (self.fills if known is numbers else self.na_dict)[name] = value

    def flag(self, name: Name) -> str:
        """The name of the column that records where numbers of column `name` were missing."""
        return f"{name}_na"

    def encodes(self, to: Tabular) -> None:
        fills, flags = {**self.fills, **self.na_dict}, {}
        for name in to.cont_names:
            column = to.column(name)
            missing = column.missing
            if self.add_col and name in self.na_dict:
                if self.flag(name) in flags:
                    raise BadValue(
                        f"FillMissing would make two columns {self.flag(name)!r}",
                        got=", ".join(repr(other) for other in to.cont_names if str(other) == str(name)),
                        expected="names that differ as text",
                        fix="rename one of them: df.rename(columns={...})",
                    )
                flags[self.flag(name)] = missing
            if missing.any():
                to.put(name, np.where(missing, fills[name], column.numbers))
        taken = [flag for flag in flags if flag in to.x_given or flag in to.y_names]
        if taken:
            raise BadValue(
                f"FillMissing would overwrite the column {', '.join(map(repr, taken))}",
                expected="no input or target with such a name",
                fix="rename the column, or use FillMissing(add_col=False)",
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
    """What `Normalize` keeps of a table: the mean and the standard deviation of each continuous column."""

    mean: dict[Any, float]
    std: dict[Any, float]


# `Normalize` also scales images, so its part for tables is added here: decorating with it registers an overload.
@Normalize
def setups(self: _Scores, to: Tabular) -> None:
    """Mean and population standard deviation of each continuous column, over the training rows; 1 for a constant column."""
    self.mean, self.std = {}, {}
    constant = []
    for name in to.cont_names:
        known = without_gaps(to.column(name).numbers)
        mean, std = (float(known.mean()), float(known.std())) if len(known) else (0.0, 0.0)
        is_constant = std <= constant_std(mean, len(known))
        self.mean[name], self.std[name] = mean, 1.0 if is_constant else std
        constant += [name] if is_constant else []
    if constant:
        warn(
            f"nothing can be learned from the numbers of {', '.join(map(repr, constant[:10]))}: "
            "they are the same in all training rows"
        )


@Normalize
def encodes(self: _Scores, to: Tabular) -> None:
    centred = np.empty(len(to))  # reused for each column; float64, as float32 would lose digits of large numbers
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
