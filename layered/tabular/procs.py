"""What prepares a table: categories to codes, missing numbers filled, numbers in standard scores.

Each is fitted on the training rows, keeps what it learnt of each column and no rows, and stands in an exported file as data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from layered.data import CategoryMap, Normalize
from layered.foundation import BadArgument, BadValue, functions, lazy, transforms
from layered.tabular.columns import Array, Levels, levels_of, median_of, number_column, numbers_of, without_gaps
from layered.tabular.table import OWN_PROCS, Tabular, TabularProc

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
        self.classes = {name: levels_of(to.items[name], name not in to.compacted) for name in to.cat_names}

    def levels(self, name: Any) -> Levels:
        """How values of a column find their codes."""
        known = self._levels.get(name)
        if known is None or known.vocab is not self.classes[name]:
            known = self._levels[name] = Levels(self.classes[name])
        return known

    def encodes(self, to: Tabular) -> None:
        for name in to.cat_names:
            to.items[name] = self.levels(name).codes(to.items[name])

    def decodes(self, to: Tabular) -> None:
        for name in to.cat_names:
            labels = np.array([*self.classes[name]], dtype=object)
            to.items[name] = labels[to.items[name].to_numpy(np.int64)]

    def __getitem__(self, name: Any) -> CategoryMap:
        return self.classes[name]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_levels": {}}


class FillStrategy:
    """What a missing number is filled with, from a column of training rows and the value given for it."""

    @staticmethod
    def median(c: Any, fill: float) -> float:
        """The median."""
        return float(c.median())

    @staticmethod
    def constant(c: Any, fill: float) -> float:
        """The value given in `fill_vals`; 0 by default."""
        return float(fill)

    @staticmethod
    def mode(c: Any, fill: float) -> float:
        """The most frequent value; of several the smallest."""
        return float(c.mode().iloc[0])


for _strategy in (FillStrategy.median, FillStrategy.constant, FillStrategy.mode):
    functions.add(f"tabular.FillStrategy.{_strategy.__name__}", _strategy)


@transforms.register("tabular.FillMissing")
class FillMissing(TabularProc):
    """Fill the missing numbers of continuous columns, and say in a categorical column `<name>_na` where they were missing.

    `na_dict` has the fills of the columns that miss numbers in training. The others have one in `fills`, should a number be
    missing later.

    Args:
        fill_strategy: What with: `FillStrategy.median`, `constant`, `mode`, or your own function (column, fill) ->
            number.
        add_col: Add the columns, for those that miss numbers in training.
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
            raise BadArgument("fill_strategy is a function", got=repr(fill_strategy), fix="FillStrategy.median")
        if fill_vals is not None and not isinstance(fill_vals, Mapping):
            raise BadArgument("fill_vals says what by column", got=repr(fill_vals), fix="fill_vals={column: number}")
        self.fill_strategy, self.add_col, self.fill_vals = fill_strategy, add_col, fill_vals
        self.na_dict: dict[Any, float] = {}
        self.fills: dict[Any, float] = {}

    def setups(self, to: Tabular) -> None:
        constants = self.fill_vals or {}
        self.na_dict, self.fills = {}, {}
        for name in to.cont_names:
            column = number_column(to.items, name)
            known = without_gaps(column)
            if self.fill_strategy is FillStrategy.median:
                value = median_of(known)
            else:
                has_any = len(known) or self.fill_strategy is FillStrategy.constant
                value = float(self.fill_strategy(pd.Series(known), constants.get(name, 0))) if has_any else 0.0
            (self.fills if known is column else self.na_dict)[name] = value

    def flag_of(self, name: Any) -> str:
        """The column that says where numbers of column `name` are missing."""
        return f"{name}_na"

    def encodes(self, to: Tabular) -> None:
        flags, filled, fills = {}, {}, {**self.fills, **self.na_dict}
        for name in to.cont_names:
            column = number_column(to.items, name)
            missing = np.isnan(column)
            if self.add_col and name in self.na_dict:
                flags[self.flag_of(name)] = missing
            if missing.any():
                filled[name] = np.where(missing, fills[name], column)
        if flags:
            self._add_flags(to, flags)
        if filled:
            to.assign(list(filled), pd.DataFrame(filled, index=to.items.index, copy=False))

    def _add_flags(self, to: Tabular, flags: dict[str, Array]) -> None:
        taken = [flag for flag in flags if flag in to.x_given or flag in to.y_names]
        if taken:
            raise BadValue(
                f"FillMissing would write over the column {', '.join(map(repr, taken))}",
                fix="rename the column, or FillMissing(add_col=False)",
            )
        to.assign(list(flags), pd.DataFrame(flags, index=to.items.index, copy=False))
        new = [flag for flag in flags if flag not in to.cat_names]
        if new:
            to.cat_names = to.cat_names + new


@Normalize
def setups(self: Any, to: Tabular) -> None:
    """Mean and population standard deviation (+ 1e-7) of each continuous column, over the training rows."""
    self.mean, self.std = {}, {}
    for name in to.cont_names:
        column = number_column(to.items, name)
        known = without_gaps(column)
        self.mean[name] = float(known.mean()) if len(known) else 0.0
        self.std[name] = float(known.std()) + 1e-7 if len(known) else 1.0


@Normalize
def encodes(self: Any, to: Tabular) -> None:
    scores = np.empty((len(to), len(to.cont_names)), np.float32 if to.reduce_memory else np.float64, order="F")
    centred = np.empty(len(to))
    for i, name in enumerate(to.cont_names):
        np.subtract(number_column(to.items, name), self.mean[name], out=centred)
        np.divide(centred, self.std[name], out=scores[:, i], casting="same_kind")
    to.assign(to.cont_names, pd.DataFrame(scores, to.items.index, to.cont_names, copy=False))


@Normalize
def decodes(self: Any, to: Tabular) -> None:
    mean, std = ([values[name] for name in to.cont_names] for values in (self.mean, self.std))
    to.assign(to.cont_names, numbers_of(to.items, to.cont_names) * std + mean)


OWN_PROCS.update({Categorify: "encodes", FillMissing: "leaves", Normalize: "leaves"})
