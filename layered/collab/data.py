"""Loaders of ratings: a user, an item, and how the one rated the other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from layered.data import DataLoaders, RandomSplitter, RegressionBlock
from layered.foundation import Array, BadValue, CannotTrain, EmptySource, lazy, loader_kinds, names_of, refuse_unknown
from layered.tabular import (
    Categorify,
    Name,
    TabDataLoader,
    TableLike,
    Tabular,
    TabularDataLoaders,
    TabularPandas,
    as_frame,
    check_columns,
    loader_arguments,
    read_table,
)

if TYPE_CHECKING:
    from pandas import DataFrame, Series

pd = lazy("pandas")

PathLike = str | os.PathLike[str]


class TabularCollab(TabularPandas):
    """A `TabularPandas` of ratings: two categorical columns, users and items, and no continuous ones."""

    with_cont = False

    def dataloaders(self, bs: int = 64, **kwargs: Any) -> CollabDataLoaders:
        """Loaders of the splits; see `TabularDataLoaders.from_tabular`."""
        return CollabDataLoaders.from_tabular(self, bs=bs, **{"dl_type": CollabDataLoader, **kwargs})


@loader_kinds.register("collab.CollabDataLoader")
class CollabDataLoader(TabDataLoader):
    """Batches of ratings: (codes int64 [batch, 2] of user and item, ratings float32 [batch, 1])."""

    @classmethod
    def table_type(cls) -> type[Tabular]:
        return TabularCollab

    @classmethod
    def loaders_type(cls) -> type[DataLoaders]:
        return CollabDataLoaders


class CollabDataLoaders(TabularDataLoaders):
    """Loaders of ratings: see `from_df`.

    Examples:
        >>> df = pd.DataFrame({"user": [1, 1, 2, 2], "title": list("abab"), "rating": [5, 1, 4, 2]})
        >>> dls = CollabDataLoaders.from_df(df, splits=([0, 1, 2], [3]), bs=3)
        >>> dls.classes["title"], [part.shape for part in dls.one_batch()]
        (['#na#', 'a', 'b'], [torch.Size([3, 2]), torch.Size([3, 1])])
    """

    @classmethod
    def from_df(  # type: ignore[override]  # the arguments that are known for ratings
        cls,
        ratings: TableLike,
        valid_pct: float = 0.2,
        user_name: Name | None = None,
        item_name: Name | None = None,
        rating_name: Name | None = None,
        seed: int | None = None,
        path: PathLike = ".",
        *,
        splits: Sequence[Sequence[int] | Array] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Loaders of a table with a row for each rating, which stays as it is.

        Users and items are named by anything: numbers, text, both. Those that only validation has are '#na#'.

        Args:
            valid_pct: The share of the ratings to validate on, drawn at random by `seed`.
            user_name: The columns; by default the first, the second and the third.
            item_name: The columns; by default the first, the second and the third.
            rating_name: The columns; by default the first, the second and the third.
            splits: Training and validation positions, in place of `valid_pct`: `leave_one_out(ratings)`.
            kwargs: For the loaders: `bs`, `val_bs`, `device`, ….

        Raises:
            EmptySource: For no rows.
            BadValue: Naming the column, for one that is not there, for ratings that are missing or no numbers, and
                for rows without a user or an item.
        """
        refuse_unknown(kwargs, loader_arguments() | names_of(CollabDataLoaders.from_df), f"{cls.__name__}.from_df")
        frame = as_frame(ratings)
        names = _names(frame, user_name, item_name, rating_name)
        if not len(frame):
            raise EmptySource("there are no ratings", got="a table without rows")
        ids = {name: ids_of(frame, name) for name in names[:2]}
        frame = pd.DataFrame({**ids, names[2]: frame[names[2]]})
        splits = RandomSplitter(valid_pct, seed)(range(len(frame))) if splits is None else splits
        to = TabularCollab(frame, Categorify, names[:2], None, names[2], RegressionBlock(1), splits)
        return cls.from_tabular(to, path=path, **{"dl_type": CollabDataLoader, **kwargs})

    @classmethod
    def from_csv(cls, csv: PathLike, **kwargs: Any) -> Self:  # type: ignore[override]
        """Loaders of a CSV file (or another that `read_table` reads); arguments as `from_df`."""
        return cls.from_df(read_table(csv), **kwargs)


def ratings_of(dls: object) -> TabularCollab:
    """The ratings to train on, of loaders that have some.

    Raises:
        CannotTrain: A fit that cannot start or go on: no loss, no optimizer, no data, or parts that do not fit
            together.
    """
    to = dls.train.dataset if isinstance(dls, DataLoaders) else None
    if not isinstance(to, TabularCollab):
        raise CannotTrain(
            "these loaders are not of ratings",
            got=f"a {type(dls).__name__} with a data set of type {type(to).__name__}",
            fix="build the loaders with CollabDataLoaders.from_df",
        )
    return to


def _names(frame: DataFrame, *given: Name | None) -> list[Any]:
    """The columns of users, items and ratings."""
    if len(frame.columns) < 3:
        raise BadValue(
            "ratings have at least three columns",
            got="the columns " + (", ".join(map(repr, frame.columns)) or "none"),
            expected="one for users, one for items, one for ratings",
        )
    names = [frame.columns[i] if name is None else name for i, name in enumerate(given)]
    check_columns(frame, names, "which user_name, item_name or rating_name asks for")
    if len(set(names)) < 3:
        raise BadValue(
            "one column cannot have two parts",
            got=", ".join(
                f"{part}={name!r}" for part, name in zip(("user_name", "item_name", "rating_name"), names, strict=True)
            ),
            expected="three different columns",
            fix="name all three; those not named are the first, second and third column",
        )
    return names


def ids_of(frame: DataFrame, name: Name) -> Series:
    """The column of users or of items, of which no one is missing; a pandas categorical as the values that it holds.

    Raises:
        BadValue: An argument of the right type whose value makes no sense here.
    """
    column = frame[name]
    missing = column.isna().to_numpy(bool)
    if missing.any():
        raise BadValue(
            f"{int(missing.sum())} of the rows have no {name!r}",
            got=f"first at {frame.index[missing].tolist()[0]!r}",
            fix=f"df.dropna(subset=[{name!r}])",
        )
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if (column.astype(object) == "#na#").any():
        raise BadValue(f"{name!r} holds the name '#na#', which stands for what training never had", fix="rename it")
    return column
