"""How good recommendations are, measured on items that users chose and that were held out of training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from layered.collab.choices import targets_for
from layered.collab.data import TabularCollab, TabularImplicit, ids_of, ratings_of
from layered.collab.grouped import Grouped
from layered.collab.metrics import AT_K
from layered.collab.recommending import SCORES_AT_ONCE, score_items
from layered.foundation import Array, BadValue, CannotTrain, EmptySource, checked, lazy
from layered.loop import Loop
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
def leave_n_out(
    ratings: TableLike,
    n: int | float = 1,
    user_name: Name | None = None,
    by: Name | None = None,
    seed: int | None = None,
) -> tuple[Array, Array]:
    """A split that holds out some rows of each user: `CollabDataLoaders.from_df(df, splits=leave_n_out(df, 5, by="when"))`.

    Args:
        ratings: The table of ratings or choices, in any form that `as_frame` accepts.
        n: How many rows of each user, from those who have more than that; or which share of them, above 0 and below 1,
            rounded, so that at least one stays.
        user_name: The column of users; the first by default.
        by: A column of numbers or dates, such as the time of the rating; the rows with the largest values are held out.
            By default they are drawn at random.
        seed: The seed of that draw; None draws anew each time.

    Returns:
        (training positions, validation positions), int64, each ascending.

    Raises:
        BadArgument: If n is not a number.
        BadValue: If n is neither a whole number from 1 nor a share, a column does not exist, or `by` does not hold numbers or
            dates.
        EmptySource: If there are no rows.

    Examples:
        >>> df = pd.DataFrame({"user": [1, 1, 1, 2], "title": list("abca"), "when": [5, 3, 1, 2]})
        >>> train, valid = leave_n_out(df, 2, by="when")
        >>> train.tolist(), valid.tolist()
        ([2, 3], [0, 1])
    """
    is_share = isinstance(n, float) and 0 < n < 1
    count = n if is_share else checked_size("n", n)
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
    sizes = keys.transform("size")
    held = (sizes * count).round().clip(upper=sizes - 1) if is_share else count * (sizes > count)
    is_held = keys.rank(method="first", ascending=False) <= held
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


@checked
def leave_one_out(
    ratings: TableLike, user_name: Name | None = None, by: Name | None = None, seed: int | None = None
) -> tuple[Array, Array]:
    """A split that holds out one rating of each user who has at least two: `leave_n_out(ratings, 1, …)`.

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
    return leave_n_out(ratings, 1, user_name, by, seed)


@checked
def ranking_scores(
    loop: Loop, k: int = 10, held_out: TableLike | None = None, exclude_seen: bool = True, at_least: float | None = None
) -> dict[str, float]:
    """How well a learner ranks, for each user, what they chose among all items; the mean over users.

    Users with nothing held out do not count. What is held out of users or items that training lacks cannot be ranked, and is
    left out. About a million scores are in memory at a time.

    Args:
        loop: A learner of ratings or choices.
        k: How many items of each user count as recommended.
        held_out: What users chose: a table with the same columns of users and items; the validation rows by default.
        exclude_seen: Whether items of training are left out.
        at_least: The rating from which an item counts as chosen; by default all that are held out do.

    Returns:
        By name ("ndcg@10", …) the values of `NDCGAtK`, `RecallAtK`, `PrecisionAtK`, `MAPAtK`, `MRRAtK` and `HitRateAtK`; and
        "users", the number of users.

    Raises:
        BadValue: If a column is missing, or k < 1.
        CannotTrain: If `loop` is not a learner of ratings, or does not know what was rated, as after `load_learner`.
        EmptySource: If no held-out row is of a user and an item of training.

    Examples:
        >>> from layered.collab.all import CollabDataLoaders, collab_learner
        >>> df = pd.DataFrame({"user": [1, 1, 2, 2], "title": list("abba")})
        >>> learn = collab_learner(CollabDataLoaders.from_df(df, splits=([0, 1, 2], [3]), bs=2))
        >>> ranking_scores(learn, 2)["recall@2"]
        1.0
    """
    to = ratings_of(loop.dls)
    metrics = [kind(k) for kind in AT_K]
    chosen = _validation(loop, at_least) if held_out is None else _held_out(to, held_out, at_least)
    if not len(chosen):
        raise EmptySource(
            "nothing is held out that could be ranked",
            got="no validation rows" if held_out is None else "no row of a user and an item of training",
            fix="ranking_scores(learn, held_out=df)",
        )
    if exclude_seen and not len(to.known):
        raise CannotTrain(
            "the ratings of training are unknown: an export keeps no rows",
            fix="ranking_scores(..., exclude_seen=False)",
        )
    users, count = chosen.firsts().keys, len(to.classes[to.cat_names[1]])
    for some in users.split(max(1, SCORES_AT_ONCE // count)):
        scores = score_items(loop, some, count)
        targets = targets_for(some, chosen, to.known if exclude_seen else None, count)
        for metric in metrics:
            metric.update(scores, targets)
    return {**{metric.name: metric.value for metric in metrics}, "users": len(users)}


def _validation(loop: Loop, at_least: float | None) -> Grouped:
    """The pairs of the validation rows."""
    table = loop.dls.valid.dataset if len(loop.dls.loaders) > 1 else ratings_of(loop.dls).new_empty()
    pairs: Grouped = (
        table.choices[1] if isinstance(table, TabularImplicit) and len(table.choices) > 1 else table.pairs(at_least)
    )
    return pairs


def _held_out(to: TabularCollab, table: TableLike, at_least: float | None) -> Grouped:
    """The pairs of a table whose user and item were seen in training."""
    frame = as_frame(table)
    check_columns(frame, [*to.cat_names, *(to.y_names if at_least is not None else ())], "which `held_out` needs")
    return to.test_set(frame, with_labels=at_least is not None).pairs(at_least)


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
