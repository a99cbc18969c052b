"""How good recommendations are: against what users went on to choose, held out of training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from layered.collab.data import ids_of
from layered.foundation import Array, BadValue, EmptySource, checked, lazy
from layered.tabular import Levels, Name, TableLike, as_frame, check_columns, checked_size, levels_of, numbers_of

if TYPE_CHECKING:
    from pandas import DataFrame

pd = lazy("pandas")


@checked
def leave_one_out(
    ratings: TableLike, user_name: Name | None = None, by: Name | None = None, seed: int | None = None
) -> tuple[Array, Array]:
    """(training positions, validation positions): one rating of each user who has several is held out.

    Args:
        user_name: The column of users; the first by default.
        by: A column of numbers or dates, whose largest value is held out; by default one drawn at random by `seed`.

    Raises:
        BadValue: For a column that is not there, or by which nothing can be put into order.
        EmptySource: Without ratings.

    Examples:
        >>> train, valid = leave_one_out(pd.DataFrame({"user": [1, 1, 2], "title": list("aba"), "when": [5, 3, 1]}), by="when")
        >>> train.tolist(), valid.tolist()
        ([1, 2], [0])
    """
    frame = as_frame(ratings)
    if not len(frame):
        raise EmptySource("there are no ratings", got="a table without rows")
    name = frame.columns[0] if user_name is None else user_name
    check_columns(frame, [name] if by is None else [name, by], "which user_name or by asks for")
    if by is not None and frame[by].dtype.kind not in "biufmM":
        raise BadValue(
            f"{by!r} has no order to go by", got=f"{frame[by].dtype}", expected="a column of numbers or dates"
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
        recommended: What `recommend` gave.
        held_out: A table with the same columns for users and items: what they chose. Users without recommendation
            count 0.

    Raises:
        BadValue: For missing columns, users and items, or k < 1.
        EmptySource: Where nothing was held out.

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
        recommended: What `recommend` gave.
        held_out: A table with the same columns for users and items: what they chose. Users without recommendation
            count 0.
        relevance: The column of `held_out` that says how good an item is (≥ 0); by default each held-out item counts
            1.

    Raises:
        BadValue: As `hit_rate`, and for a relevance that is missing or negative.

    Source: Järvelin & Kekäläinen 2002; an item at rank r counts relevance / log2(r + 1), over the best possible order

    Examples:
        >>> recommended = pd.DataFrame({"user": [1, 1], "rank": [1, 2], "title": ["a", "b"], "score": [2.0, 1.0]})
        >>> round(ndcg(recommended, pd.DataFrame({"user": [1], "title": ["b"]})), 4)
        0.6309
    """
    pairs = _gains(recommended, held_out, k, relevance)
    gained = (pairs["gain"] / np.log2(pairs["rank"] + 1)).fillna(0.0)
    place = pairs.groupby("user")["gain"].rank(method="first", ascending=False)
    ideal = (pairs["gain"] / np.log2(place + 1)).where(place <= k, 0.0)
    sums = pd.DataFrame({"user": pairs["user"], "gained": gained, "ideal": ideal}).groupby("user").sum()
    return float((sums["gained"] / sums["ideal"].where(sums["ideal"] > 0, 1.0)).mean())


def _gains(recommended: DataFrame, held_out: TableLike, k: int, relevance: Name | None) -> Any:
    """The held-out pairs, by codes: user, item, gain, and the rank they were given (NaN: not among the first k)."""
    k, columns = checked_size("k", k), list(recommended.columns) if isinstance(recommended, pd.DataFrame) else []
    if len(columns) != 4 or columns[1] != "rank":
        raise BadValue(
            "not a table of recommendations",
            got=", ".join(map(repr, columns)) or f"a {type(recommended).__name__}",
            expected="what recommend(...) gave: user, rank, item, score",
        )
    user, item = columns[0], columns[2]
    frame = as_frame(held_out)
    check_columns(frame, [user, item, *([] if relevance is None else [relevance])], "which says what was held out")
    if not len(frame):
        raise EmptySource("nothing was held out", got="a table without rows")
    gain = 1.0 if relevance is None else numbers_of(frame, [relevance], strict=True)[:, 0]
    if np.min(gain) < 0 or np.isnan(gain).any():
        raise BadValue("a relevance is missing or below 0", got=float(np.min(gain)), expected="numbers from 0 on")
    first = recommended.loc[recommended["rank"] <= k]
    levels = {part: Levels(levels_of(ids_of(frame, name))) for part, name in (("user", user), ("item", item))}
    pairs = pd.DataFrame(
        {"user": levels["user"].codes(frame[user]), "item": levels["item"].codes(frame[item]), "gain": gain}
    )
    ranks = pd.DataFrame({"user": levels["user"].codes(first[user]), "item": levels["item"].codes(first[item])})
    ranks["rank"] = first["rank"].to_numpy()
    return pairs.groupby(["user", "item"], as_index=False)["gain"].max().merge(ranks, on=["user", "item"], how="left")
