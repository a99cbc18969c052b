"""Cells of a table that are present, but mean nothing to it: text for numbers, infinite numbers, levels unseen in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from layered.data import list_some
from layered.foundation import Array, BadValue, warn
from layered.tabular.columns import Column
from layered.tabular.values import LARGEST, Name, moment, number_fix, plain_level

if TYPE_CHECKING:
    from pandas import DataFrame

SOME = 1000  # values that are looked at for a fix


class Unread(NamedTuple):
    """The cells of one column that could not be read.

    Attributes:
        name: The column.
        is_number: Whether they should be numbers; else levels of training.
        num: How many there are.
        total: How many cells of the column are present.
        values: Some of them, each once.
        is_far: Whether they are numbers, but infinite or larger than `LARGEST`.
    """

    name: Name
    is_number: bool
    num: int
    total: int
    values: list[object]
    is_far: bool = False

    @property
    def is_worth_saying(self) -> bool:
        """Whether they suggest a mistake: a number that cannot be read does; a level does if several rows have no other."""
        return self.is_number or self.num == self.total > 1

    @property
    def problem(self) -> str:
        """What is wrong, in half a sentence."""
        rows = f"{self.num} of {self.total} cells" if self.total > 1 else "a value"
        if self.is_far:
            return f"{self.name!r} has {rows} that {'are' if self.total > 1 else 'is'} infinite or beyond {LARGEST:.0e}"
        if self.is_number:
            return f"{self.name!r} has {rows} that cannot be read as {'numbers' if self.total > 1 else 'a number'}"
        return f"{self.name!r} has {rows} that did not occur in training"

    @property
    def has_dates(self) -> bool:
        """Whether there are dates among them, or texts that begin with one."""
        levels = map(plain_level, self.values)
        return any(isinstance(level, str) and moment(level) is not None for level in levels)

    @property
    def fix(self) -> str:
        """What to type."""
        if not self.is_number:
            return "write them as in training, or train again with rows that have them"
        if self.is_far and self.total == 1:
            return "give a smaller number, or None for an unknown one"
        if self.is_far:
            return f"df[{self.name!r}] = df[{self.name!r}].where(df[{self.name!r}].abs() <= {LARGEST:.0e}) makes them missing"
        if self.has_dates:
            return "make numbers of the dates, as in training"
        if self.total == 1:
            return "give the number itself, with a decimal point: 0.92"
        return number_fix(self.name, self.values) or (
            f"df[{self.name!r}] = pd.to_numeric(df[{self.name!r}], errors='coerce') makes them missing; "
            "for categories, put the column into cat_names"
        )


def unread_cells(
    name: Name, column: Column, mask: Array, total: int, is_number: bool, is_far: bool = False
) -> Unread | None:
    """The cells that a mask selects; None if it selects none."""
    rows = np.flatnonzero(mask)
    if not len(rows):
        return None
    values = dict.fromkeys(plain_level(value) for value in column.series.iloc[rows[:SOME]].tolist())
    return Unread(name, is_number, len(rows), total, list(values), is_far)


def unread_numbers(name: Name, column: Column) -> list[Unread]:
    """The cells of a continuous column that are neither numbers nor missing, and those whose numbers are too large."""
    numbers, unread, far, _ = column.reading
    masks = [(mask, mask is far) for mask in (unread, far) if mask is not None]
    total = int(np.isfinite(numbers).sum() + sum(mask.sum() for mask, _ in masks)) if masks else 0
    found = (unread_cells(name, column, mask, total, is_number=True, is_far=is_far) for mask, is_far in masks)
    return [cells for cells in found if cells is not None]


def check_numeric(name: Name, column: Column) -> None:
    """Check that every value of a column is a number, reads as one, or is missing.

    Raises:
        BadValue: If one is not.
    """
    found = next((cells for cells in unread_numbers(name, column) if not cells.is_far), None)
    if found is not None:
        raise BadValue(
            f"the continuous column {name!r} contains non-numeric values, in {found.num} of {found.total} cells",
            got=list_some(found.values)[:100],
            expected="numbers or missing values",
            fix=f"add_datepart(df, {name!r}) turns dates into numbers and categories" if found.has_dates else found.fix,
        )


def numbers_of(frame: DataFrame, names: Sequence[Name], strict: bool = False) -> Array:
    """Columns of a frame as float64 [row, column]; NaN where a value is missing, larger than `LARGEST`, or unreadable.

    Args:
        frame: The frame.
        names: The columns.
        strict: Whether unreadable values are an error.

    Raises:
        BadValue: If `strict`, for an unreadable value; the message names the column and the value.
    """
    numbers = np.empty((len(frame), len(names)), order="F")
    for i, name in enumerate(names):
        column = Column(frame[name])
        if strict:
            check_numeric(name, column)
        numbers[:, i] = column.numbers
    return numbers


def report_unread(found: Sequence[Unread], strict: bool, where: str) -> None:
    """Say in one warning what could not be read, and counts as missing.

    Args:
        found: The cells of each column.
        strict: Whether to refuse them instead.
        where: Which rows these are: "the new rows".

    Raises:
        BadValue: If `strict`, and there are such cells.
    """
    if not found:
        return
    problem = f"in {where}, {'; '.join(cells.problem for cells in found[:10])}"
    error = BadValue(
        problem if strict else f"{problem}: counted as missing",
        got="; ".join(list_some(cells.values)[:100] for cells in found[:10]),
        expected="cells as in training",
        fix="; ".join(dict.fromkeys(cells.fix for cells in found[:3])),
    )
    if strict:
        raise error
    warn(str(error))
