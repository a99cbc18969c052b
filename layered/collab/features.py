"""What is known of users and items beside their ratings: a table of each, prepared like any other, and added to their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from layered.data import CategoryMap, Normalize, list_some
from layered.foundation import BadValue, lazy
from layered.nn import Embedding
from layered.tabular import (
    Categorify,
    FillMissing,
    Levels,
    Name,
    TableLike,
    TabularPandas,
    as_frame,
    check_columns,
    levels_of,
    split_columns,
)

if TYPE_CHECKING:
    from pandas import DataFrame, Series

pd = lazy("pandas")

FeatureSizes = tuple[Sequence[int], int]  # levels of each categorical column, and the number of continuous columns


class Features(NamedTuple):
    """The features of all users, or of all items, a row for each code.

    Attributes:
        levels: The number of levels of each categorical column, including '#na#'.
        codes: int64 [code, category].
        numbers: float32 [code, number], standardized.
        is_rated: Which were rated in training: bool [code].
    """

    levels: list[int]
    codes: Tensor
    numbers: Tensor
    is_rated: Tensor

    @property
    def sizes(self) -> FeatureSizes:
        """What a model needs to know to be built."""
        return self.levels, self.numbers.shape[1]


def feature_table(table: TableLike, name: Name, what: str) -> tuple[Series, DataFrame]:
    """The identifiers of a table of users or items, and its other columns.

    Args:
        table: The table. Its identifiers are in the column `name`, or in an index of that name.
        name: The name of the column in the ratings.
        what: The argument, for messages.

    Raises:
        BadValue: If there are no such identifiers, one is missing or occurs twice, or there are no other columns.
    """
    frame = as_frame(table)
    frame = frame.reset_index() if name not in frame.columns and frame.index.name == name else frame
    check_columns(frame, [name], f"which `{what}` needs, as in the ratings")
    ids = frame[name]
    wrong = ids[ids.isna() | ids.duplicated()]
    if len(wrong):
        raise BadValue(
            f"`{what}` needs one row for each {name!r}",
            got=f"{list_some(wrong.tolist())}, missing or repeated",
            fix=f"df.dropna(subset=[{name!r}]).drop_duplicates({name!r})",
        )
    others = frame.drop(columns=[name])
    if not len(others.columns):
        raise BadValue(f"`{what}` has no columns beside {name!r}", expected="at least one column of features")
    return ids, others


def names_with(rated: Series, ids: Series) -> list[Any]:
    """The names of the vocabulary: those that were rated in training, then those that only have features.

    Args:
        rated: The users, or items, of the training rows.
        ids: Those that have features. Names that read the same ("1", 1.0 and 1) are the same.
    """
    vocab = levels_of(rated)
    is_new = Levels(vocab).codes(ids) == 0
    return [*list(vocab)[1:], *list(levels_of(ids[is_new]))[1:]]


def features_of(ids: Series, columns: DataFrame, vocab: CategoryMap, rated: Series) -> Features:
    """The features by code, prepared on the rows of those that were rated in training.

    Args:
        ids: The identifiers of the rows.
        columns: The features.
        vocab: The vocabulary.
        rated: The users, or items, of the training rows.
    """
    levels = Levels(vocab)
    codes, is_rated = levels.codes(ids).astype(np.int64), torch.zeros(len(vocab), dtype=torch.bool)
    is_rated[levels.codes(rated).astype(np.int64)] = True
    by_code = columns.set_axis(codes).loc[codes > 0].reindex(range(len(vocab)))
    cont, cat = split_columns(columns, [])
    fitted = np.intersect1d(codes, is_rated.nonzero()[:, 0].numpy())
    if not len(fitted):
        raise BadValue(
            "none of those in training has features", got=list_some(ids.tolist()), expected=list_some(list(vocab)[1:])
        )
    order = np.concatenate([fitted, np.setdiff1d(np.arange(len(vocab)), fitted)])
    procs: list[Any] = [Categorify, FillMissing(add_col=False), Normalize]
    to = TabularPandas(by_code, procs, cat, cont, splits=(fitted, order[len(fitted) :]))
    place = np.argsort(order)
    by_row, numbers = (part[place] for part in to.tensors)
    return Features([len(to.classes[name]) for name in cat], by_row, numbers, is_rated)


class FeatureEmbedding(Embedding):
    """An embedding whose rows are a part of their own plus a part of their features: a vector for each level, and a direction for
    each number.

    Those without ratings have the mean own part of the others, and their features.

    Args:
        ni: Number of rows.
        nf: Numbers in a row.
        features: The levels of each categorical column, and the number of continuous columns; None for a plain embedding.
    """

    codes: Tensor
    numbers: Tensor
    is_rated: Tensor

    def __init__(self, ni: int, nf: int, features: FeatureSizes | None = None) -> None:
        super().__init__(ni, nf)
        levels, n_cont = features or ((), 0)
        self.has_features = features is not None
        if self.has_features:
            self.levels = nn.ModuleList([Embedding(n, nf) for n in levels])
            self.slopes = nn.Parameter(torch.zeros(n_cont, nf))
            self.register_buffer("codes", torch.zeros(ni, len(levels), dtype=torch.int64))
            self.register_buffer("numbers", torch.zeros(ni, n_cont))
            self.register_buffer("is_rated", torch.arange(ni) > 0)

    def describe(self, features: Features) -> None:
        """Take the features of the rows.

        Args:
            features: Features of the sizes that the embedding was made for.
        """
        self.codes.copy_(features.codes)
        self.numbers.copy_(features.numbers)
        self.is_rated.copy_(features.is_rated)

    def forward(self, codes: Tensor) -> Tensor:
        own = super().forward(codes)
        return own + self.of_features(codes) if self.has_features else own

    def of_features(self, codes: Tensor) -> Tensor:
        """The part of the features of these rows: codes int64 [...] to float32 [..., nf]."""
        res = self.numbers[codes] @ self.slopes
        for column, level in enumerate(self.levels):
            res = res + level(self.codes[codes, column])
        return res

    def table(self) -> Tensor:
        """All rows: float32 [code, nf]."""
        table: Tensor = (
            self(torch.arange(len(self.weight), device=self.weight.device)) if self.has_features else self.weight
        )
        return table

    @torch.no_grad()
    def fill_unseen(self) -> None:
        """Set the own part of rows without ratings to the mean of the others, and row 0, '#na#', to the mean of whole rows."""
        if len(self.weight) > 1 and not self.has_features:
            self.weight[0] = self.weight[1:].mean(0)
        elif len(self.weight) > 1:
            self.weight[~self.is_rated] = self.weight[self.is_rated].mean(0)
            whole = self.table()
            self.weight[0] += whole[self.is_rated].mean(0) - whole[0]
