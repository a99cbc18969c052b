"""Loaders of ratings, rows of a user, an item and what the user thought of it; and of choices, rows of a user and an item."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from layered.collab.choices import AllItems, ChoiceSetup, Expand, Negatives
from layered.collab.features import Features, feature_table, features_of, names_with
from layered.collab.grouped import Grouped
from layered.collab.show import Choices
from layered.data import (
    DataLoaders,
    RandomSplitter,
    RegressionBlock,
    Splitter,
    TransformBlock,
    Weights,
    as_splits,
    csv_option_names,
    csv_options,
    labels_of,
)
from layered.foundation import (
    Array,
    BadValue,
    CannotTrain,
    EmptySource,
    L,
    Pipeline,
    lazy,
    listify,
    loader_kinds,
    refuse_unknown,
    warn,
)
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
    checked_size,
    is_saved_index,
    known_arguments,
    numbers_of,
    read_table,
)

if TYPE_CHECKING:
    from pandas import DataFrame, Series

pd = lazy("pandas")

PathLike = str | os.PathLike[str]
SCORE = "score"  # what is predicted for choices


class TabularCollab(TabularPandas):
    """A `TabularPandas` of ratings: two categorical columns (users, then items), and no continuous ones."""

    with_cont = False
    features: Mapping[Any, Features] = MappingProxyType({})
    """What is known of users and of items, by column. Empty after `load_learner`, as the model has it."""
    is_weighted = False
    """Whether the target says how much a pair counts, added up where it occurs several times; otherwise each counts as 1."""

    @classmethod
    def loader_type(cls) -> type[CollabDataLoader]:
        """The class of its loaders."""
        return CollabDataLoader

    def dataloaders(self, bs: int = 64, **kwargs: Any) -> CollabDataLoaders:
        """Loaders of the splits.

        Args:
            bs: Ratings per training batch.
            kwargs: Arguments of `CollabDataLoaders.from_tabular`.
        """
        return CollabDataLoaders.from_tabular(self, bs=bs, **kwargs)

    @property
    def known(self) -> Grouped:
        """The items that each user of training rated, by their codes; none after `load_learner`, as an export keeps no rows."""
        return self.subset(0).pairs()

    def pairs(self, at_least: float | None = None) -> Grouped:
        """The pairs of the rows whose user and item were seen in training.

        Args:
            at_least: The lowest rating of these rows; None takes all.
        """
        codes, *ratings = (part.cpu() for part in self.tensors)
        users, items = codes.unbind(1)
        is_taken = (users > 0) & (items > 0)
        if at_least is not None:
            is_taken &= ratings[0][:, 0] >= at_least
        return Grouped(
            users[is_taken], items[is_taken], ratings[0][is_taken, 0] if ratings and self.is_weighted else None
        )


class TabularImplicit(TabularCollab):
    """A `TabularCollab` of choices. Its target holds their weights, and is named 'score', as predictions are."""

    is_weighted = True
    choices: tuple[Grouped, ...] = ()
    """The choices of each split: of training, then of validation. None after `load_learner`, as an export keeps no rows."""

    @classmethod
    def loader_type(cls) -> type[CollabDataLoader]:
        return ImplicitDataLoader

    def for_loaders(self, negatives: int | None = None) -> tuple[list[Self], list[Expand]]:
        """For each split a table of the rows of a loader, and the transform that makes their batches.

        Args:
            negatives: As for `CollabDataLoaders.from_df`.

        Raises:
            EmptySource: If no choice of a split is of a user and an item of training.
        """
        num_items = len(self.classes[self.cat_names[1]])
        known = self.subset(0).pairs()
        self.choices = (known, *(self.subset(i).pairs().without(known) for i in range(1, self.n_subsets)))
        for i, part in enumerate(self.choices):
            if not len(part):
                raise EmptySource(
                    f"no choices to {'validate' if i else 'train'} on",
                    got=f"{len(self.subset(i))} rows"
                    + ", none of which is of a user and an item of training, and new" * (i > 0),
                    fix="hold out few rows of each user: splits=leave_n_out(df, 1)",
                )
        rows = [part.firsts() for part in self.choices]
        expand: list[Expand] = [AllItems(part, num_items, None if part is known else known) for part in self.choices]
        if negatives is not None:
            expand[0], rows[0] = Negatives(known, num_items, checked_size("negatives", negatives)), known
        return [self._table_of(pairs) for pairs in rows], expand

    def _table_of(self, pairs: Grouped) -> Self:
        columns = [pairs.keys, pairs.values, pairs.weights]
        names = [*self.cat_names, *self.y_names]
        frame = pd.DataFrame({name: column.numpy() for name, column in zip(names, columns, strict=True)})
        return self.with_rows(frame, is_processed=True)

    @property
    def known(self) -> Grouped:
        return self.choices[0] if self.choices else super().known


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


@loader_kinds.register("collab.ImplicitDataLoader")
class ImplicitDataLoader(CollabDataLoader):
    """Batches of choices: (codes int64 [batch, …], targets float32 [batch, item]), as `AllItems` or `Negatives` makes them.

    Over other rows, such as those of `dls.test_dl(df)`, batches are codes [batch, 2] of user and item.

    Args:
        dataset: A `TabularImplicit`, or a part of it.
        bs: Rows per batch.
        shuffle: Whether each epoch takes the rows in a new order.
        kwargs: Further arguments of `TabDataLoader`.
    """

    @classmethod
    def table_type(cls) -> type[Tabular]:
        return TabularImplicit

    def new(self, dataset: object = None, cls: type[Any] | None = None, **changes: Any) -> Any:
        if dataset is not None:
            changes = {"after_batch": self._steps_of_users, **changes}
        return super().new(dataset, cls, **changes)

    def described(self) -> dict[str, Any]:
        return {**super().described(), "after_batch": Pipeline(self._steps_of_users)}

    @property
    def _steps_of_users(self) -> list[Any]:
        return [step for step in self.after_batch if not isinstance(step, Expand)]  # type: ignore[attr-defined]

    def _pre_show_batch(self, b: Any, max_n: int) -> tuple[Any, Any, L | None]:
        if len(self._steps_of_users) == len(self.after_batch):  # type: ignore[arg-type]  # a pipeline
            return super()._pre_show_batch(b, max_n)
        codes, targets = (part[:max_n].detach().cpu() for part in b)
        users, titles = (self.dataset.classes[name] for name in self.dataset.cat_names)
        items = codes[:, 1:] if codes.shape[1] > 1 else torch.arange(len(titles)).expand_as(targets)
        rows = [[titles[i] for i in row.tolist()] for row in items]
        return Choices([users[i] for i in codes[:, 0].tolist()], rows, targets, self.dataset.cat_names), None, L(rows)

    def decode_results(self, b: Any, out: object, max_n: int = 9) -> L:
        """The first `max_n` rows of scores."""
        if len(self._steps_of_users) == len(self.after_batch):  # type: ignore[arg-type]  # a pipeline
            return super().decode_results(b, out, max_n)
        return L([row.cpu() for row in out[:max_n]], use_list=True)  # type: ignore[index]  # a tensor


class CollabDataLoaders(TabularDataLoaders):
    """Training and validation loaders of ratings: see `from_df`.

    Examples:
        >>> df = pd.DataFrame({"user": [1, 1, 2, 2], "title": list("abab"), "rating": [5, 1, 4, 2]})
        >>> dls = CollabDataLoaders.from_df(df, splits=([0, 1, 2], [3]), bs=3)
        >>> dls.classes["title"], [part.shape for part in dls.one_batch()]
        (['#na#', 'a', 'b'], [torch.Size([3, 2]), torch.Size([3, 1])])
        >>> dls = CollabDataLoaders.from_df(df[["user", "title"]], splits=([0, 1, 2], [3]), bs=2)  # who chose what
        >>> dls.valid.one_batch()  # user 2 chose 'b'; 'a' and '#na#' are left out
        (tensor([[2]]), tensor([[-1., -1.,  1.]]))
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
        implicit: bool | None = None,
        weight_name: Name | None = None,
        negatives: int | None = None,
        users: TableLike | None = None,
        items: TableLike | None = None,
        **kwargs: Any,
    ) -> Self:
        """Loaders of a table with one row per rating, which is not changed; or, if `implicit`, one row per choice.

        Users and items may be identified by numbers, text or both. Those that occur only in validation are '#na#'.

        Choices (what somebody watched, bought, clicked) have no rating: a model learns to score what a user chose above
        everything else. A pair that occurs several times is one choice. A validation row is a user with everything that they
        chose there, against all items but those of training, which are left out. Choices of users or items that training
        lacks cannot be ranked, and are left out of validation too.

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
            implicit: Whether the rows are choices, without ratings; by default if the table has only two columns, or
                `weight_name` or `negatives` is given.
            weight_name: The column that says how much a choice counts, > 0, such as how often a song was played; those of a
                pair that occurs several times are added up. 1 for all by default.
            negatives: How many items that the user did not choose are drawn for each choice of a training batch, whose rows
                are then choices. None compares with all items, and rows are users, with all that they chose; that learns more
                in less time where the scores of all items for `bs` users fit into memory.
            users: What is known of users: a table with a row for each, with the column of users (or an index of that name), and
                columns of categories and numbers. Each adds to the vector of a user what is learnt of it, so that users
                without ratings, who may be in this table too, are predicted by it.
            items: What is known of items, likewise.
            kwargs: Arguments of the loaders: `bs`, `val_bs`, `device`, ….

        Raises:
            BadArgument: For an unknown argument, and for anything that is not a table.
            BadValue: If a column does not exist, a user, an item, a rating or a weight is missing, a rating is not a number, a
                weight is not above 0, or both a rating and choices are asked for.
            EmptySource: If the table has no rows, or no choices are left for a split.
        """
        refuse_unknown(kwargs, known_arguments(cls.from_df), f"{cls.__name__}.from_df")
        frame = as_frame(ratings)
        asked = {"weight_name": weight_name, "negatives": negatives}
        is_implicit = _is_implicit(frame, implicit, rating_name, {k: v for k, v in asked.items() if v is not None})
        names = _column_names(frame, {"user_name": user_name, "item_name": item_name}, rating_name, is_implicit)
        if not len(frame):
            raise EmptySource("there are no ratings", got="a table without rows", expected="one row per rating")
        if splits is None:
            splits = (splitter or RandomSplitter(valid_pct, seed))(frame)
        splits = as_splits(splits, len(frame), labels_of(frame))
        ids = {name: ids_of(frame, name) for name in names[:2]}
        given = {name: table for name, table in zip(ids, (users, items), strict=True) if table is not None}
        known = {
            name: feature_table(table, name, "users" if name == names[0] else "items") for name, table in given.items()
        }
        rated = {name: ids[name].iloc[splits[0]] for name in known}
        for name, (described, _) in known.items():
            ids[name] = ids[name].astype(pd.CategoricalDtype(names_with(rated[name], described)))
        target = _weights(frame, weight_name) if is_implicit else frame[names[2]]
        kind, block = (
            (TabularImplicit, TransformBlock(type_tfms=ChoiceSetup(1)))
            if is_implicit
            else (TabularCollab, RegressionBlock(1))
        )
        y_name = SCORE if is_implicit else names[2]
        to = kind(pd.DataFrame({**ids, y_name: target}), Categorify, names[:2], None, y_name, block, splits)
        to.is_weighted = weight_name is not None
        to.features = {name: features_of(*found, to.classes[name], rated[name]) for name, found in known.items()}
        return cls.from_tabular(to, negatives=negatives, path=path, **kwargs)

    @classmethod
    def from_tabular(
        cls, to: Tabular, bs: int = 64, weights: Weights | None = None, negatives: int | None = None, **kwargs: Any
    ) -> Self:
        """Loaders of the splits of a processed table.

        Args:
            to: A `TabularCollab`, or a `TabularImplicit`.
            bs: Rows per training batch.
            weights: How often each training rating is drawn, as for `TabularDataLoaders`; not for choices.
            negatives: For choices, as for `from_df`.
            kwargs: Further arguments of the loaders: `val_bs`, `device`, ….

        Raises:
            BadValue: If weights are given for choices, or their number does not match the rows.
            EmptySource: If no choices are left for a split.
        """
        kwargs = {"dl_type": to.loader_type(), **kwargs} if isinstance(to, TabularCollab) else kwargs
        if not isinstance(to, TabularImplicit):
            return super().from_tabular(to, bs, weights, **kwargs)
        if weights is not None:
            raise BadValue("choices have no weights of rows", fix="weight_name= says how much each choice counts")
        tables, expand = to.for_loaders(negatives)
        after = listify(kwargs.pop("after_batch", None))
        own = [{"after_batch": [one, *after]} for one in expand]
        return cls.from_dsets(*tables, bs=bs, dl_kwargs=own, **{"drop_last": False, **kwargs})

    def test_dl(  # type: ignore[override]  # further arguments are passed on
        self, test_items: Tabular | TableLike, *args: Any, **kwargs: Any
    ) -> Any:
        """A loader of new pairs, in their order, as of `TabularDataLoaders`; a warning says how many are of somebody unknown.

        Args:
            test_items: A frame, one row as a dict or Series, or a list of rows.
            args: Further arguments of `TabularDataLoaders.test_dl`.
            kwargs: The same by name.
        """
        dl = super().test_dl(test_items, *args, **kwargs)
        warn_of_unknown(dl.dataset, dl.dataset.tensors[0])
        return dl

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


def warn_of_unknown(to: TabularCollab, codes: Tensor) -> None:
    """Warn of pairs whose user or item training did not see, and which are predicted as the average.

    Args:
        to: The ratings.
        codes: int64 [pair, 2].
    """
    counts = (codes == 0).sum(0).tolist()
    found = [f"{count} of {len(codes)} in {name!r}" for name, count in zip(to.cat_names, counts, strict=True) if count]
    if found:
        warn(f"unknown in training, so predicted as the average: {' and '.join(found)}")


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


def _columns(frame: DataFrame) -> list[Any]:
    """The names of the columns, saved indices aside."""
    return [name for name in frame.columns if not is_saved_index(name, frame[name])]


def _is_implicit(frame: DataFrame, implicit: bool | None, rating_name: Name | None, asked: dict[str, Any]) -> bool:
    """Whether the rows are choices, by what was asked for, else by the number of columns."""
    if implicit is None:
        implicit = rating_name is None and (bool(asked) or len(_columns(frame)) == 2)
    if implicit and rating_name is not None:
        raise BadValue(
            "choices have no rating",
            got=f"rating_name={rating_name!r} with implicit=True",
            fix=f"df[df[{rating_name!r}] >= 4] keeps what was liked; weight_name= says how much a choice counts",
        )
    if asked and not implicit:
        raise BadValue(
            f"{next(iter(asked))} is for choices, which have no rating",
            got=", ".join(f"{name}={value!r}" for name, value in {**asked, "rating_name": rating_name}.items()),
            fix="implicit=True, without rating_name",
        )
    return implicit


def _column_names(frame: DataFrame, given: dict[str, Any], rating_name: Name | None, is_implicit: bool) -> list[Any]:
    """The names of the columns of users and items, then of ratings: those given, else by their positions."""
    columns, count = _columns(frame), 2 if is_implicit else 3
    given = given if is_implicit else {**given, "rating_name": rating_name}
    if len(columns) < count:
        raise BadValue(
            "a table of choices needs two columns"
            if is_implicit
            else "a table of ratings needs at least three columns",
            got="the columns " + (", ".join(map(repr, columns)) or "none"),
            expected="one for users, one for items" + ("" if is_implicit else ", one for ratings"),
            fix=None if is_implicit or len(columns) < 2 else "implicit=True, if the rows are choices without a rating",
        )
    names = [columns[i] if name is None else name for i, name in enumerate(given.values())]
    check_columns(frame, names, f"which {', '.join(given)} name")
    if len(set(names)) < count:
        raise BadValue(
            "the same column is used for two roles",
            got=", ".join(f"{part}={name!r}" for part, name in zip(given, names, strict=True)),
            expected=f"{'two' if is_implicit else 'three'} different columns",
            fix="name all of them; those not named are the first columns, in the order users, items, ratings",
        )
    if is_implicit and SCORE in names:
        raise BadValue(
            f"the column {SCORE!r} is reserved for predictions", fix=f"rename it: df.rename(columns={{{SCORE!r}: ...}})"
        )
    return names


def _weights(frame: DataFrame, name: Name | None) -> Any:
    """How much each choice counts."""
    if name is None:
        return 1.0
    check_columns(frame, [name], "which weight_name names")
    weights = numbers_of(frame, [name], strict=True)[:, 0]
    wrong = ~(weights > 0)
    if wrong.any():
        raise BadValue(
            f"weights must be above 0, and {int(wrong.sum())} of {len(frame)} in {name!r} are not",
            got=f"{weights[wrong][0]} at index {frame.index[wrong].tolist()[0]!r}",
            fix=f"df[df[{name!r}] > 0]; the logarithm of a count, np.log1p, tames large ones",
        )
    return weights


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
