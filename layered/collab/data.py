"""Loaders of ratings: rows of a user, an item, and the rating that the user gave the item."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from layered.data import DataLoaders, RandomSplitter, RegressionBlock, Splitter, csv_option_names, csv_options
from layered.foundation import Array, BadValue, CannotTrain, EmptySource, lazy, loader_kinds, refuse_unknown
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
    is_saved_index,
    known_arguments,
    read_table,
)

if TYPE_CHECKING:
    from pandas import DataFrame, Series

pd = lazy("pandas")

PathLike = str | os.PathLike[str]


class TabularCollab(TabularPandas):
    """A `TabularPandas` of ratings: two categorical columns (users, then items), and no continuous ones."""

    with_cont = False

    def dataloaders(self, bs: int = 64, **kwargs: Any) -> CollabDataLoaders:
        """Loaders of the splits.

        Args:
            bs: Ratings per training batch.
            kwargs: Arguments of `TabularDataLoaders.from_tabular`.
        """
        return CollabDataLoaders.from_tabular(self, bs=bs, **{"dl_type": CollabDataLoader, **kwargs})


@loader_kinds.register("collab.CollabDataLoader")
class CollabDataLoader(TabDataLoader):
    """Batches of ratings: (codes int64 [batch, 2] of user and item, ratings float32 [batch, 1]).

    Args:
        dataset: A processed `TabularCollab`, or a part of it.
        bs: Ratings per batch.
        shuffle: Whether each epoch takes the ratings in a new order.
        kwargs: Further arguments of `TabDataLoader`.
    """

    @classmethod
    def table_type(cls) -> type[Tabular]:
        return TabularCollab

    @classmethod
    def loaders_type(cls) -> type[DataLoaders]:
        return CollabDataLoaders


class CollabDataLoaders(TabularDataLoaders):
    """Training and validation loaders of ratings: see `from_df`.

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
        splitter: Splitter | None = None,
        **kwargs: Any,
    ) -> Self:
        """Loaders of a table with one row per rating, which is not changed.

        Users and items may be identified by numbers, text or both. Those that occur only in validation are '#na#'.

        Args:
            ratings: The table, in any form that `as_frame` accepts. Other columns are ignored.
            valid_pct: The share of the ratings to validate on, drawn at random.
            user_name: The column of users; the first by default.
            item_name: The column of items; the second by default.
            rating_name: The column of ratings, which are numbers; the third by default.
            seed: The seed of the random split; None draws anew each time.
            path: Where a learner of these loaders saves its files.
            splits: The positions of the training and of the validation ratings, such as `leave_one_out(ratings)`;
                replaces `valid_pct`.
            splitter: A function from the table to such splits, in their place: `KFoldSplitter(0)`.
            kwargs: Arguments of the loaders: `bs`, `val_bs`, `device`, ….

        Raises:
            BadArgument: For an unknown argument, and for anything that is not a table.
            BadValue: If a column does not exist, a user, an item or a rating is missing, or a rating is not a number.
            EmptySource: If the table has no rows.
        """
        refuse_unknown(kwargs, known_arguments(cls.from_df), f"{cls.__name__}.from_df")
        frame = as_frame(ratings)
        names = _column_names(frame, user_name, item_name, rating_name)
        if not len(frame):
            raise EmptySource("there are no ratings", got="a table without rows", expected="one row per rating")
        ids = {name: ids_of(frame, name) for name in names[:2]}
        frame = pd.DataFrame({**ids, names[2]: frame[names[2]]})
        if splits is None:
            splits = (splitter or RandomSplitter(valid_pct, seed))(as_frame(ratings))
        to = TabularCollab(frame, Categorify, names[:2], None, names[2], RegressionBlock(1), splits)
        return cls.from_tabular(to, path=path, **{"dl_type": CollabDataLoader, **kwargs})

    @classmethod
    def from_csv(cls, csv: PathLike, **kwargs: Any) -> Self:  # type: ignore[override]
        """Loaders of a file of ratings.

        Args:
            csv: A CSV file, or any other that `read_table` reads.
            kwargs: Arguments of `from_df`, and all options of `pandas.read_csv`: `sep`, `header`, `names`, `encoding`, ….
        """
        refuse_unknown(kwargs, known_arguments(cls.from_df) | csv_option_names(), f"{cls.__name__}.from_csv")
        options = csv_options(kwargs)
        return cls.from_df(read_table(csv, **options), **kwargs)


def ratings_of(dls: object) -> TabularCollab:
    """The training ratings of loaders.

    Raises:
        CannotTrain: If they are not loaders of ratings.
    """
    to = dls.train.dataset if isinstance(dls, DataLoaders) else None
    if not isinstance(to, TabularCollab):
        raise CannotTrain(
            "not loaders of ratings",
            got=f"{type(dls).__name__} with a dataset of type {type(to).__name__}",
            fix="build the loaders with CollabDataLoaders.from_df",
        )
    return to


def _column_names(frame: DataFrame, *given: Name | None) -> list[Any]:
    """The names of the columns of users, items and ratings: those given, else by their positions, saved indices aside."""
    columns = [name for name in frame.columns if not is_saved_index(name, frame[name])]
    if len(columns) < 3:
        raise BadValue(
            "a table of ratings needs at least three columns",
            got="the columns " + (", ".join(map(repr, columns)) or "none"),
            expected="one for users, one for items, one for ratings",
        )
    names = [columns[i] if name is None else name for i, name in enumerate(given)]
    check_columns(frame, names, "which user_name, item_name or rating_name names")
    if len(set(names)) < 3:
        raise BadValue(
            "the same column is used for two roles",
            got=", ".join(
                f"{part}={name!r}" for part, name in zip(("user_name", "item_name", "rating_name"), names, strict=True)
            ),
            expected="three different columns",
            fix="name all three; those not named are the first, second and third column",
        )
    return names


def ids_of(frame: DataFrame, name: Name) -> Series:
    """The column of users or items, checked; a pandas categorical becomes a column of its values.

    Raises:
        BadValue: If an identifier is missing, or is '#na#'.
    """
    column = frame[name]
    missing = column.isna().to_numpy(bool)
    if missing.any():
        raise BadValue(
            f"{name!r} is missing in {int(missing.sum())} of {len(frame)} rows",
            got=f"the first at index {frame.index[missing].tolist()[0]!r}",
            expected="a user and an item in each row",
            fix=f"df.dropna(subset=[{name!r}])",
        )
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if (column.astype(object) == "#na#").any():
        raise BadValue(
            f"{name!r} contains '#na#', which is reserved for users and items unseen in training", fix="rename it"
        )
    return column
