"""How good recommendations are, measured on items that users chose and that were held out of training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from layered.collab.data import ids_of
from layered.foundation import Array, BadValue, EmptySource, checked, lazy
from layered.tabular import (
    Levels,
    Name,
    TableLike,
    as_frame,
    check_columns,
    checked_size,
    column_kind,
    levels_of,
    numbers_of,
)

if TYPE_CHECKING:
    from pandas import DataFrame

pd = lazy("pandas")


@checked
def leave_one_out(
    ratings: TableLike, user_name: Name | None = None, by: Name | None = None, seed: int | None = None
) -> tuple[Array, Array]:
    """A split that holds out one rating of each user who has at least two.

    Args:
        ratings: The table of ratings, in any form that `as_frame` accepts.
        user_name: The column of users; the first by default.
        by: A column of numbers or dates, such as the time of the rating; the rating with the largest value is held out.
            By default one is drawn at random.
        seed: The seed of that draw; None draws anew each time.

    Returns:
        (training positions, validation positions), int64, each ascending.

    Raises:
        BadValue: If a column does not exist, or `by` does not hold numbers or dates.
        EmptySource: If there are no ratings.

    Examples:
        >>> train, valid = leave_one_out(pd.DataFrame({"user": [1, 1, 2], "title": list("aba"), "when": [5, 3, 1]}), by="when")
        >>> train.tolist(), valid.tolist()
        ([1, 2], [0])
    """
    frame = as_frame(ratings)
    if not len(frame):
        raise EmptySource("there are no ratings", got="a table without rows", expected="one row per rating")
    name = frame.columns[0] if user_name is None else user_name
    check_columns(frame, [name] if by is None else [name, by], "which user_name or by names")
    if by is not None and column_kind(frame[by]) == "level":
        raise BadValue(
            f"the column {by!r} cannot be ordered",
            got=f"{frame[by].dtype}",
            expected="a column of numbers or dates",
            fix=f"pd.to_numeric(df[{by!r}]), or pd.to_datetime(df[{by!r}])",
        )
    key = np.random.default_rng(seed).random(len(frame)) if by is None else frame[by].rank(method="first").to_numpy()
    users = pd.Series(frame[name].to_numpy())
    keys = pd.Series(key).groupby(users, sort=False, observed=True)
    is_held = (keys.rank(method="first", ascending=False) == 1) & (keys.transform("size") > 1)
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


@checked
def hit_rate(recommended: DataFrame, held_out: TableLike, k: int = 10) -> float:
    """The share of users who find at least one of their held-out items among their first `k` recommendations.

    Args:
        recommended: The frame that `recommend` returned.
        held_out: What users chose: a table with the same columns of users and items. Users without recommendations
            count as 0.
        k: How many recommendations of each user count; more in `recommended` are ignored.

    Raises:
        BadValue: If `recommended` is not a table of recommendations, a column, a user or an item is missing, or k < 1.
        EmptySource: If `held_out` has no rows.

    Examples:
        >>> recommended = pd.DataFrame({"user": [1, 1], "rank": [1, 2], "title": ["a", "b"], "score": [2.0, 1.0]})
        >>> hit_rate(recommended, pd.DataFrame({"user": [1, 2], "title": ["b", "a"]}))
        0.5
    """
    pairs = _gains(recommended, held_out, k, None)
    return float(pairs.groupby("user")["rank"].count().gt(0).mean())


@checked
def ndcg(recommended: DataFrame, held_out: TableLike, k: int = 10, relevance: Name | None = None) -> float:
    """Normalised discounted cumulative gain of the first `k` recommendations, mean over users, in [0, 1].

    Args:
        recommended: The frame that `recommend` returned.
        held_out: What users chose: a table with the same columns of users and items. Users without recommendations
            count as 0.
        k: How many recommendations of each user count; more in `recommended` are ignored.
        relevance: The column of `held_out` that says how good an item is, ≥ 0; by default each held-out item counts as 1.

    Raises:
        BadValue: If `recommended` is not a table of recommendations, a column, a user or an item is missing, k < 1, or a
            relevance is missing or negative.
        EmptySource: If `held_out` has no rows.

    Source: Järvelin & Kekäläinen 2002; an item at rank r gains relevance / log2(r + 1), relative to the best possible order

    Examples:
        >>> recommended = pd.DataFrame({"user": [1, 1], "rank": [1, 2], "title": ["a", "b"], "score": [2.0, 1.0]})
        >>> round(ndcg(recommended, pd.DataFrame({"user": [1], "title": ["b"]})), 4)
        0.6309
    """
    pairs = _gains(recommended, held_out, k, relevance)
    gained = (pairs["gain"] / np.log2(pairs["rank"] + 1)).fillna(0.0)
    place = pairs.groupby("user")["gain"].rank(method="first", ascending=False)  # in the best possible order
    ideal = (pairs["gain"] / np.log2(place + 1)).where(place <= k, 0.0)
    sums = pd.DataFrame({"user": pairs["user"], "gained": gained, "ideal": ideal}).groupby("user").sum()
    return float((sums["gained"] / sums["ideal"].where(sums["ideal"] > 0, 1.0)).mean())


def _gains(recommended: DataFrame, held_out: TableLike, k: int, relevance: Name | None) -> Any:
    """The held-out pairs as codes: user, item, gain, and their rank among the recommendations (NaN if not in the first k)."""
    k, columns = checked_size("k", k), list(recommended.columns) if isinstance(recommended, pd.DataFrame) else []
    if len(columns) != 4 or columns[1] != "rank":
        raise BadValue(
            "not a table of recommendations",
            got=", ".join(map(repr, columns)) or f"a {type(recommended).__name__}",
            expected="what recommend(...) returned: user, rank, item, score",
        )
    user, item = columns[0], columns[2]
    frame = as_frame(held_out)
    check_columns(frame, [user, item, *([] if relevance is None else [relevance])], "which `held_out` needs")
    if not len(frame):
        raise EmptySource("nothing was held out", got="a table without rows")
    gain = 1.0 if relevance is None else numbers_of(frame, [relevance], strict=True)[:, 0]
    if np.min(gain) < 0 or np.isnan(gain).any():
        raise BadValue("a relevance is missing or negative", got=float(np.min(gain)), expected="numbers >= 0")
    # Codes make names in different forms ("1", 1.0 and 1) equal, so that the tables can be merged.
    first = recommended.loc[recommended["rank"] <= k]
    levels = {part: Levels(levels_of(ids_of(frame, name))) for part, name in (("user", user), ("item", item))}
    pairs = pd.DataFrame(
        {"user": levels["user"].codes(frame[user]), "item": levels["item"].codes(frame[item]), "gain": gain}
    )
    ranks = pd.DataFrame({"user": levels["user"].codes(first[user]), "item": levels["item"].codes(first[item])})
    ranks["rank"] = first["rank"].to_numpy()
    return pairs.groupby(["user", "item"], as_index=False)["gain"].max().merge(ranks, on=["user", "item"], how="left")
