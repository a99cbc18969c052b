"""The best items for users, and the items most like one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from layered.collab.data import TabularCollab, ratings_of
from layered.collab.models import ByName
from layered.foundation import Array, BadArgument, BadValue, CannotTrain, checked, lazy
from layered.inference import evaluating
from layered.loop import Loop
from layered.tabular import Levels, Name, TableLike, as_frame, check_columns, checked_size, levels_of

if TYPE_CHECKING:
    from pandas import Series

pd = lazy("pandas")

SCORES_AT_ONCE, PAIRS_AT_ONCE = 2**20, 2**16


@checked
def recommend(loop: Loop, users: object, n: int = 10, exclude_seen: bool = True, seen: TableLike | None = None) -> Any:
    """The items that each user would rate best, as a table: user, rank (from 1), item, score (the predicted rating).

    Names are found in any form: "1", 1.0 and 1 are one user. Memory holds some million scores, however many users there are.

    Args:
        users: One user, or several; one that training did not have gets what the average user likes.
        n: Items for each; fewer where no more are left.
        exclude_seen: Leave out what they rated in training.
        seen: More to leave out: a table with the ratings' columns of users and items.

    Returns:
        A frame, the best first: user, rank, item, score, the first and the third named as in the ratings. No rows for
            a user to whom nothing is left.

    Raises:
        BadValue: For n < 1, and where the model's ratings are not finite.
        CannotTrain: Where what was rated is not known, as after `load_learner`.

    Examples:
        >>> from layered.collab.all import CollabDataLoaders, collab_learner
        >>> df = pd.DataFrame({"user": [1, 1, 2, 2], "title": list("abbc"), "rating": [5, 1, 4, 2]})
        >>> learn = collab_learner(CollabDataLoaders.from_df(df, splits=([1, 2, 3], [0]), bs=3))
        >>> learn.recommend(1).title.tolist(), learn.recommend([1, 2], exclude_seen=False).columns.tolist()
        (['c'], ['user', 'rank', 'title', 'score'])
    """
    to = ratings_of(loop.dls)
    users, n = _names(users), checked_size("n", n)
    user_name, item_name = to.cat_names
    if {"rank", "score"} & {user_name, item_name}:
        raise BadValue(
            "the table of recommendations has columns named 'rank' and 'score'",
            got=f"the ratings' columns {user_name!r} and {item_name!r}",
            fix="name the columns of users and items otherwise: ratings.rename(columns={...})",
        )
    codes = _codes(to, user_name, pd.Series(users, dtype=object))
    left_out = _left_out(to, users, codes, exclude_seen, seen)
    step = max(1, SCORES_AT_ONCE // len(to.classes[item_name]))
    tables = [
        _best(loop, to, users, codes, n, left_out, slice(start, start + step)) for start in range(0, len(users), step)
    ]
    if not tables:
        return pd.DataFrame(columns=[user_name, "rank", item_name, "score"])
    res = pd.concat(tables, ignore_index=True)
    return res.assign(**{str(name): res[name].infer_objects() for name in to.cat_names})


def _left_out(
    to: TabularCollab, users: list[Any], codes: Array, exclude_seen: bool, seen: TableLike | None
) -> list[tuple[Array, _Grouped]]:
    """What is not to be recommended: pairs (a key for each user, items by these keys)."""
    res = []
    if exclude_seen:
        known = to.subset(0).tensors[0].numpy(force=True)
        if seen is None and not len(known):
            raise CannotTrain(
                "what users rated in training is not known: an export keeps no rows",
                fix="pass the ratings, seen=df; or exclude_seen=False",
            )
        res.append((codes, _Grouped(np.where(known[:, 0] > 0, known[:, 0], -1), known[:, 1])))
    if seen is not None:
        frame = as_frame(seen)
        check_columns(frame, to.cat_names, "which says what is left out")
        column, items = frame[to.cat_names[0]], _codes(to, to.cat_names[1], frame[to.cat_names[1]])
        of = _codes(to, to.cat_names[0], column)
        res.append((codes, _Grouped(np.where(of > 0, of, -1), items)))
        levels = Levels(levels_of(column), unknown=-1)  # of those who are new since training too
        asked = levels.codes(pd.Series(users, dtype=object))
        res.append((asked, _Grouped(np.where(of > 0, -1, levels.codes(column)), items)))
    return res


def _best(
    loop: Loop,
    to: TabularCollab,
    users: list[Any],
    codes: Array,
    n: int,
    left_out: list[tuple[Array, _Grouped]],
    some: slice,
) -> Any:
    """The recommendations for some of the users."""
    user_name, item_name = to.cat_names
    items = np.array([*to.classes[item_name]], dtype=object)
    scores = scores_of(loop, torch.from_numpy(codes[some]), len(items))
    if not torch.isfinite(scores).all():
        raise BadValue(
            "the model's ratings are not finite",
            got=float(scores[~torch.isfinite(scores)][0]),
            fix="train again from the start, with a smaller learning rate: see learn.lr_find()",
        )
    scores[:, 0] = -torch.inf  # '#na#' is never recommended
    for keys, grouped in left_out:
        rows, columns = grouped.of(keys[some])
        scores[torch.from_numpy(rows), torch.from_numpy(columns)] = -torch.inf
    best = scores.topk(min(n, len(items) - 1), dim=1)
    row, place = torch.isfinite(best.values).nonzero().unbind(1)
    names = np.empty(len(users[some]), dtype=object)
    names[:] = users[some]
    return pd.DataFrame(
        {
            user_name: names[row.numpy()],
            "rank": place.numpy() + 1,
            item_name: items[best.indices[row, place].numpy()],
            "score": best.values[row, place].numpy(),
        }
    )


def _codes(to: TabularCollab, name: Name, column: Series) -> Array:
    """The codes of users or items, in whatever form their names come; 0 for those that training did not have."""
    codes: Array = to.procs.categorify.levels(name).codes(column).astype(np.int64)
    return codes


def scores_of(loop: Loop, users: Tensor, count: int) -> Tensor:
    """The predicted rating of each of `count` items by users with these codes: float32 [user, item], on the CPU."""
    model: Any = loop.model
    device = next(model.parameters()).device
    with evaluating(loop), torch.inference_mode():
        users = users.to(device)
        if hasattr(model, "all_items"):
            scores = model.all_items(users)
        else:
            pairs = torch.cartesian_prod(users, torch.arange(count, device=device))
            scores = torch.cat([model(some) for some in torch.split(pairs, PAIRS_AT_ONCE)])
    found: Tensor = scores.reshape(len(users), count).float().cpu().clone()
    return found


@checked
def similar(loop: Loop, name: object, n: int = 10, is_item: bool = True) -> Any:
    """The items whose vectors point most nearly where that of `name` points, as a table: item, similarity.

    Similarity is the cosine of the angle between the vectors, in [-1, 1].

    Args:
        n: How many.
        is_item: False: users like the user `name`.

    Raises:
        UnknownLabel: For a name that training did not have.
    """
    to, model = ratings_of(loop.dls), loop.model
    if not isinstance(model, ByName):
        raise BadArgument(
            "this model has no vectors that are found by name",
            got=type(model).__name__,
            expected="EmbeddingDotBias or EmbeddingNN",
        )
    n, column = checked_size("n", n), to.cat_names[is_item]
    code = int(model.codes([name], is_item))
    vectors = nn.functional.normalize(model.embeddings()[is_item].weight.detach().cpu(), dim=1)
    cosines = vectors @ vectors[code]
    cosines[[0, code]] = -torch.inf
    best = cosines.topk(min(n, max(len(cosines) - 2, 0)))
    names = np.array([*to.classes[column]], dtype=object)[best.indices.numpy()]
    return pd.DataFrame({column: names, "similarity": best.values.numpy()}).infer_objects()


class _Grouped:
    """Pairs of a key and a value, sorted by key; keys below 0 are left out."""

    def __init__(self, keys: Array, values: Array) -> None:
        some = keys >= 0
        keys, values = keys[some], values[some]
        order = np.argsort(keys, kind="stable")
        self.keys, self.values = keys[order], values[order]

    def of(self, keys: Array) -> tuple[Array, Array]:
        """(rows, values): all values of the pairs with these keys, each with the position of its key."""
        first, last = (np.searchsorted(self.keys, keys, side) for side in ("left", "right"))
        counts = last - first
        shift = np.repeat(first - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) if len(keys) else first
        return np.repeat(np.arange(len(keys)), counts), self.values[shift + np.arange(counts.sum())]


def _names(users: object) -> list[Any]:
    """The users that are meant: one by its name, or several, each once."""
    if isinstance(users, (Tensor, np.ndarray, np.generic)):
        users = users.tolist()
    if isinstance(users, (str, bytes)) or not isinstance(users, Iterable):
        return [users]
    is_table, names = isinstance(users, (Mapping, pd.DataFrame)), list(users)
    if is_table or not all(isinstance(name, Hashable) for name in names):
        raise BadArgument(
            "not names of users",
            got=f"a {type(users).__name__}: {users!r}"[:100],
            expected="one user, or several in a list or a column",
            fix="learn.recommend(df['user'].unique())",
        )
    return list(dict.fromkeys(names))
