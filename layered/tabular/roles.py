"""A frame whose columns have a role (categorical, continuous, target) and whose rows are split: how both are reached."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Generic, Self, TypeVar

import numpy as np
from torch import Tensor

from layered.foundation import BadValue, L, lazy
from layered.tabular.columns import Array, check_columns, listed

pd = lazy("pandas")

MANY = 50  # columns, from which on a new frame is quicker than to put them into the old one

TableType = TypeVar("TableType", bound="Table")


class NoSuchSplit(BadValue, AttributeError):
    """A split that a table does not have; so `hasattr(to, "valid")` says whether there is one."""


class Table:
    """Rows and columns of a frame by what they are for.

    Attributes:
        items: The frame; rows of the first split come first.
        cat_names: The categorical and the continuous columns, and the targets.
        cont_names: The categorical and the continuous columns, and the targets.
        y_names: The categorical and the continuous columns, and the targets.
    """

    items: Any
    cat_names: L
    cont_names: L
    y_names: L
    inplace: bool
    is_processed: bool
    order: Array | None  # which rows of the frame that was given these are; None: all, in their order
    _sizes: list[int]  # of the splits
    _tensors: tuple[Tensor, ...] | None  # what loaders take batches from, once it is made

    def __len__(self) -> int:
        return len(self.items)

    def with_rows(self, items: Any, is_processed: bool) -> Self:
        """The same columns and procs over other rows."""
        res = copy.copy(self)
        res.items, res.is_processed, res.order, res._tensors = items, is_processed, None, None
        res._sizes = [len(items)]
        return res

    @property
    def splits(self) -> list[Array] | None:
        """The positions, in `items`, of the training rows, of the validation rows, …"""
        if self.order is None:
            return None
        ends = np.cumsum(self._sizes)
        return [np.arange(end - size, end) for end, size in zip(ends, self._sizes, strict=True)]

    @property
    def n_subsets(self) -> int:
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
        return self.with_rows(self.items.iloc[end - self._sizes[i] : end], self.is_processed)

    @property
    def train(self) -> Self:
        """The training rows."""
        return self.subset(0)

    @property
    def valid(self) -> Self:
        """The validation rows."""
        return self.subset(1)

    def copy(self) -> Self:
        """A copy with a table of its own, sharing the procs."""
        res = copy.copy(self)
        res.items = self.items.copy()
        res.cat_names, res.cont_names, res.y_names = self.cat_names.copy(), self.cont_names.copy(), self.y_names.copy()
        return res

    @property
    def loc(self) -> Any:
        """Rows and cells of `items` by label, to read and to set."""
        return self.items.loc

    @property
    def iloc(self) -> _Positions[Self]:
        """Rows by position, as a `Tabular` of them: `to.iloc[:5]`."""
        return _Positions(self)

    def __getitem__(self, names: Any) -> Any:
        """Columns of `items`."""
        return self.items[list(names) if isinstance(names, (L, tuple)) else names]

    # -- which columns

    @property
    def x_names(self) -> L:
        """The inputs: categorical, then continuous columns."""
        return self.cat_names + self.cont_names

    @property
    def all_col_names(self) -> L:
        """The inputs, then the targets that are there."""
        return self.x_names + [name for name in self.y_names if name in self.items.columns]

    @property
    def cats(self) -> Any:
        """The categorical columns."""
        return self[self.cat_names]

    @cats.setter
    def cats(self, values: Any) -> None:
        self[self.cat_names] = values

    @property
    def conts(self) -> Any:
        """The continuous columns."""
        return self[self.cont_names]

    @conts.setter
    def conts(self, values: Any) -> None:
        self[self.cont_names] = values

    @property
    def xs(self) -> Any:
        """The inputs, as scikit-learn's models take them."""
        return self[self.x_names]

    @property
    def ys(self) -> Any:
        """The targets."""
        return self[self.y_names]

    targ = ys

    @property
    def y(self) -> Any:
        """The first target."""
        return self.items[self.y_names[0]]

    @property
    def all_cols(self) -> Any:
        """The inputs and the targets that are there."""
        return self[self.all_col_names]

    # -- changing

    def assign(self, names: Sequence[Any], values: Any) -> None:
        """Put columns into the table: a frame, or an array [row, column]; new ones come last."""
        new = (
            values if hasattr(values, "columns") else pd.DataFrame(values, columns=list(names), index=self.items.index)
        )
        if len(names) > MANY and not self.inplace:
            added = [name for name in names if name not in self.items.columns]
            others = self.items.drop(columns=[name for name in names if name not in added])
            self.items = pd.concat([others, new], axis=1)[[*self.items.columns, *added]]
            self._tensors = None
            return
        for name in names:
            self.items[name] = new[name]
        self._tensors = None

    def __setitem__(self, names: Any, values: Any) -> None:
        if isinstance(names, (L, tuple, list)):
            self.assign(list(names), values if hasattr(values, "columns") else np.asarray(values))
        else:
            self.items[names] = values
            self._tensors = None

    def transform(self, cols: Any, f: Callable[[Any], Any], all_col: bool = True) -> None:
        """Replace columns by `f` of each.

        Args:
            all_col: All of them have to be there; False takes those that are.
        """
        names = [name for name in listed(cols) if all_col or name in self.items.columns]
        for name in names:
            self[name] = f(self.items[name])


class _Positions(Generic[TableType]):
    """Rows of a table by position."""

    def __init__(self, to: TableType) -> None:
        self.to = to

    def __getitem__(self, rows: Any) -> TableType:
        rows, columns = rows if isinstance(rows, tuple) else (rows, slice(None))
        chosen = self.to.items.iloc[[rows] if isinstance(rows, (int, np.integer)) else rows]
        chosen = chosen if isinstance(columns, slice) else chosen[listed(columns)]
        return self.to.with_rows(chosen, self.to.is_processed)


def check_names(frame: Any, cats: L, conts: L, ys: L) -> None:
    """Raise BadValue unless each of these columns has one role, and stands in the frame once."""
    if frame.columns.nlevels > 1:
        raise BadValue(
            "the columns of the table have names in several levels",
            got=f"{frame.columns[0]!r}",
            fix="df.columns = df.columns.map('_'.join)",
        )
    names = [*cats, *conts, *ys]
    double = sorted({str(name) for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if double:
        raise BadValue(
            f"{', '.join(map(repr, double))} stands twice among cat_names, cont_names and y_names",
            expected="each column in one of them, once: a target is no input",
        )
    check_columns(frame, names, "which cat_names, cont_names or y_names asks for")


def reordered(frame: Any, rows: Array | None, compacted: dict[Any, Any]) -> Any:
    """A copy of the frame with these rows, or all; and the values of some columns replaced."""
    others = frame[[name for name in frame.columns if name not in compacted]] if compacted else frame
    is_same = rows is None or (len(rows) == len(frame) and bool((rows == np.arange(len(rows))).all()))
    moved = others.copy() if is_same else pd.DataFrame(others.iloc[rows])
    if not compacted:
        return moved
    columns = {name: values if is_same else values.take(rows) for name, values in compacted.items()}
    return pd.concat([moved, pd.DataFrame(columns, moved.index, copy=False)], axis=1)[list(frame.columns)]
