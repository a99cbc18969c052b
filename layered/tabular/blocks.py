"""The block of a row: columns of categories and numbers beside other inputs of a sample, such as a text or an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from layered.data import Subset, TfmdLists, TransformBlock
from layered.foundation import BadValue, ItemTransform, TitledStr, is_frame, lazy, transforms
from layered.tabular.columns import Names, listed
from layered.tabular.data import PROCS, TabularPandas, described_table, table_from_described
from layered.tabular.table import Procs, Tabular

if TYPE_CHECKING:
    from pandas import DataFrame

pd = lazy("pandas")


class Rows(Sequence[Any]):
    """The tensors of some rows, by position: codes int64 [category], and numbers float32 [number].

    Args:
        to: The table.
    """

    def __init__(self, to: Tabular) -> None:
        self.tensors = to.tensors[: to.n_inp]

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, i: Any) -> tuple[Tensor, ...]:
        return tuple(part[i] for part in self.tensors)


@transforms.register("tabular.RowSetup")
class RowSetup(ItemTransform):
    """A row of a table to its tensors, (codes int64 [category], numbers float32 [number]), by procs fitted on the training rows.

    Args:
        cat_names: The categorical columns.
        cont_names: The continuous columns.
        procs: How the rows are prepared; `[Categorify, FillMissing, Normalize]` by default.

    Attributes:
        to: The table that was fitted, without its rows; None before.
    """

    fits = ("described",)

    def __init__(self, cat_names: Names = None, cont_names: Names = None, procs: Procs = None) -> None:
        super().__init__()
        self.cat_names, self.cont_names = listed(cat_names), listed(cont_names)
        if not self.cat_names + self.cont_names:
            raise BadValue(
                "a row without columns", got="RowBlock()", fix='RowBlock(cat_names=["kind"], cont_names=["price"])'
            )
        self.procs = list(PROCS) if procs is None else procs
        self.to: Tabular | None = None

    @property
    def init_args(self) -> dict[str, Any]:
        """What the constructor takes, without the procs, which are part of what is fitted."""
        return {"cat_names": self.cat_names, "cont_names": self.cont_names, "procs": None}

    @property
    def described(self) -> dict[str, Any] | None:
        """What was fitted, as data; None before."""
        return None if self.to is None else described_table(self.to)

    @described.setter
    def described(self, state: dict[str, Any] | None) -> None:
        self.to = None if state is None else table_from_described(TabularPandas, state)

    @property
    def fitted(self) -> Tabular:
        """The table that was fitted.

        Raises:
            BadValue: It is not fitted yet.
        """
        if self.to is None:
            raise BadValue("the columns are not fitted yet", fix="a DataBlock fits them; by hand, setup(rows)")
        return self.to

    def setup_items(self, items: object) -> None:
        if self.to is None:
            self.to = TabularPandas(_frame_of(items), self.procs, self.cat_names, self.cont_names).new_empty()

    def keep(self, items: TfmdLists) -> Rows:
        """The tensors of all rows of a column.

        Args:
            items: The rows.
        """
        return Rows(self.fitted.test_set(_frame_of(items)))

    def encode_row(self, row: Any) -> tuple[Tensor, ...]:
        return Rows(self.fitted.test_set([row]))[0]

    def decode_tensors(self, o: tuple[Any, ...] | list[Any]) -> Any:
        to = self.fitted
        names = (to.cat_names, to.cont_names)[: to.n_inp]
        values = {
            name: [x.item()] for group, part in zip(names, o, strict=True) for name, x in zip(group, part, strict=True)
        }
        row = to.with_rows(pd.DataFrame(values), is_processed=True).decode().items.iloc[0]
        return TitledStr(", ".join(f"{name} {_short(value)}" for name, value in row.items()))


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)


def _frame_of(items: Any) -> DataFrame:
    """Rows as a frame; those of a column with getters are made one by one."""
    if isinstance(items, TfmdLists) and not len(items.tfms):
        items = items.items
        if isinstance(items, Subset) and is_frame(items.all_items):
            items = items.all_items.iloc[items.positions]
    frame: Any = items if is_frame(items) else pd.DataFrame(list(items))
    return frame  # type: ignore[no-any-return]  # a pandas frame


def RowBlock(cat_names: Names = None, cont_names: Names = None, procs: Procs = None) -> TransformBlock:
    """An input of some columns of a row: a tuple of codes, int64 [batch, category], and numbers, float32 [batch, number].

    It stands beside another input: `DataBlock((TextBlock.from_df("text"), RowBlock("kind", "price"), CategoryBlock), n_inp=2)`,
    whose model gets a batch as `model(texts, (codes, numbers))`.

    Args:
        cat_names: The categorical columns.
        cont_names: The continuous columns.
        procs: How the rows are prepared; `[Categorify, FillMissing, Normalize]` by default.
    """
    return TransformBlock(RowSetup(cat_names, cont_names, procs))
