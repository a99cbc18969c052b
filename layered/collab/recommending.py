"""Recommendations: the best items for users, and the items most similar to one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from layered.collab.data import TabularCollab, ratings_of
from layered.collab.grouped import Grouped
from layered.collab.models import ByName
from layered.data import list_some
from layered.foundation import BadArgument, BadValue, CannotTrain, checked, lazy, warn
from layered.inference import evaluating
from layered.loop import Loop
from layered.tabular import Levels, Name, TableLike, as_frame, check_columns, checked_size, levels_of

if TYPE_CHECKING:
    from pandas import Series

pd = lazy("pandas")

SCORES_AT_ONCE, PAIRS_AT_ONCE = 2**20, 2**16  # bounds on memory: scores held, and pairs put through a model


@checked
def recommend(loop: Loop, users: object, n: int = 10, exclude_seen: bool = True, seen: TableLike | None = None) -> Any:
    """The items that each user would rate highest, or, of a learner of choices, would choose first.

    Users that read the same ("1", 1.0 and 1) are the same user. Those that are unseen in training get what the average user
    likes, and a warning names them. About a million scores are in memory at a time, for any
    number of users.

    Args:
        loop: A learner of ratings.
        users: One user, or several.
        n: Items per user; fewer if there are not that many left.
        exclude_seen: Whether to leave out items that the user rated or chose in training.
        seen: More items to leave out: a table with the ratings' columns of users and items.

    Returns:
        A frame with a row for each recommendation, the best first for each user: the user, `rank` (from 1), the item,
            and `score`: the predicted rating, or, of choices, a number without a unit that orders the items of a user. Users
            and items are named as in the ratings. A user with no items left has no rows.

    Raises:
        BadArgument: If `users` are not names.
        BadValue: If n < 1, or the predicted ratings are not finite.
        CannotTrain: If `loop` is not a learner of ratings, or does not know what was rated, as after `load_learner`.

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
            "the columns 'rank' and 'score' are reserved for the table of recommendations",
            got=f"the ratings' columns {user_name!r} and {item_name!r}",
            fix="rename the columns of users and items: ratings.rename(columns={...})",
        )
    codes = _codes(to, user_name, pd.Series(users, dtype=object))
    if not codes.all():
        new = [user for user, code in zip(users, codes.tolist(), strict=True) if not code]
        warn(f"unknown in training, so recommended what the average user likes: {list_some(new)}")
    left_out = _left_out(to, users, codes, exclude_seen, seen)
    step = max(1, SCORES_AT_ONCE // len(to.classes[item_name]))
    tables = [
        _best(loop, to, users, codes, n, left_out, slice(start, start + step)) for start in range(0, len(users), step)
    ]
    if not tables:
        return pd.DataFrame(columns=[user_name, "rank", item_name, "score"])
    res = pd.concat(tables, ignore_index=True)
    for name in to.cat_names:
        res[name] = res[name].infer_objects()
    return res


def _left_out(
    to: TabularCollab, users: list[Any], codes: Tensor, exclude_seen: bool, seen: TableLike | None
) -> list[tuple[Tensor, Grouped]]:
    """What must not be recommended: pairs (a key for each user, items grouped by these keys).

    Users of training have their code as the key. `seen` may also name users that are new since training, which all have
    code 0; these are matched by codes of a vocabulary of their own.
    """
    res = []
    if exclude_seen:
        if seen is None and not len(to.known):
            raise CannotTrain(
                "the ratings of training are unknown: an export keeps no rows",
                fix="pass the ratings, or choices, seen=df; or exclude_seen=False",
            )
        res.append((codes, to.known))
    if seen is not None:
        frame = as_frame(seen)
        check_columns(frame, to.cat_names, "which `seen` needs")
        column, items = frame[to.cat_names[0]], _codes(to, to.cat_names[1], frame[to.cat_names[1]])
        raters = _codes(to, to.cat_names[0], column)
        is_known = raters > 0
        res.append((codes, Grouped(torch.where(is_known, raters, -1), items)))
        levels = Levels(levels_of(column), unknown=-1)
        keys = torch.from_numpy(levels.codes(column).astype(np.int64))
        new_keys = torch.from_numpy(levels.codes(pd.Series(users, dtype=object)).astype(np.int64))
        res.append((new_keys, Grouped(torch.where(is_known, -1, keys), items)))
    return res


def _best(
    loop: Loop,
    to: TabularCollab,
    users: list[Any],
    codes: Tensor,
    n: int,
    left_out: list[tuple[Tensor, Grouped]],
    part: slice,
) -> Any:
    """The recommendations for a part of the users."""
    user_name, item_name = to.cat_names
    items = np.array([*to.classes[item_name]], dtype=object)
    scores = score_items(loop, codes[part], len(items))
    if not torch.isfinite(scores).all():
        raise BadValue(
            "the predicted ratings are not finite",
            got=float(scores[~torch.isfinite(scores)][0]),
            expected="finite numbers",
            fix="train from scratch with a smaller learning rate: see learn.lr_find()",
        )
    scores[:, 0] = -torch.inf  # '#na#' is never recommended
    for keys, grouped in left_out:
        rows, columns, _ = grouped.of(keys[part])
        scores[rows, columns] = -torch.inf
    best = scores.topk(min(n, len(items) - 1), dim=1)  # where too few items are left, -inf is among them
    row, place = torch.isfinite(best.values).nonzero().unbind(1)
    names = np.empty(len(users[part]), dtype=object)  # np.array would make a matrix of users that are tuples
    names[:] = users[part]
    return pd.DataFrame(
        {
            user_name: names[row.numpy()],
            "rank": place.numpy() + 1,
            item_name: items[best.indices[row, place].numpy()],
            "score": best.values[row, place].numpy(),
        }
    )


def _codes(to: TabularCollab, name: Name, column: Series) -> Tensor:
    """The codes of users or items, int64 [row]; 0 for those that are unseen in training."""
    return torch.from_numpy(to.procs.categorify.levels(name).codes(column).astype(np.int64))


def score_items(loop: Loop, users: Tensor, count: int) -> Tensor:
    """The predicted ratings of all items: float32 [user, item], on the CPU.

    Args:
        loop: A learner of ratings. Its model may have a method `all_items`, as `EmbeddingDotBias` has; otherwise all
            pairs go through the model.
        users: The codes of the users, int64 [user].
        count: The number of items, including '#na#'.
    """
    model: Any = loop.model
    device = next(model.parameters()).device
    with evaluating(loop), torch.inference_mode():
        users = users.to(device)
        if hasattr(model, "all_items"):
            scores = model.all_items(users)
        else:
            pairs = torch.cartesian_prod(users, torch.arange(count, device=device))
            scores = torch.cat([model(part) for part in torch.split(pairs, PAIRS_AT_ONCE)])
    found: Tensor = scores.reshape(len(users), count).float().cpu().clone()
    return found


@checked
def similar(loop: Loop, name: object, n: int = 10, is_item: bool = True) -> Any:
    """The items that are most similar to one, by the cosine similarity of their vectors.

    Args:
        loop: A learner of ratings with an `EmbeddingDotBias` or `EmbeddingNN`.
        name: The item, or the user.
        n: How many to find; fewer if there are not that many.
        is_item: Whether `name` is an item; False finds users similar to the user `name`.

    Returns:
        A frame with a row for each, the most similar first: the item (or user), and `similarity`, in [-1, 1].

    Raises:
        BadArgument: If the model has no vectors of users and items.
        BadValue: If n < 1.
        CannotTrain: If `loop` is not a learner of ratings.
        UnknownLabel: For a name that is unseen in training.
    """
    to, model = ratings_of(loop.dls), loop.model
    if not isinstance(model, ByName):
        raise BadArgument(
            "the model has no vectors of users and items",
            got=type(model).__name__,
            expected="EmbeddingDotBias or EmbeddingNN",
        )
    n, column = checked_size("n", n), to.cat_names[is_item]
    code = int(model.codes([name], is_item))
    vectors = nn.functional.normalize(model.embeddings()[is_item].table().detach().cpu(), dim=1)
    cosines = vectors @ vectors[code]
    cosines[[0, code]] = -torch.inf  # neither '#na#' nor itself
    best = cosines.topk(min(n, max(len(cosines) - 2, 0)))
    names = np.array([*to.classes[column]], dtype=object)[best.indices.numpy()]
    return pd.DataFrame({column: names, "similarity": best.values.numpy()}).infer_objects()


def _names(users: object) -> list[Any]:
    """The names of one user or several as a list, without duplicates."""
    if isinstance(users, (Tensor, np.ndarray, np.generic)):
        users = users.tolist()
    if isinstance(users, (str, bytes)) or not isinstance(users, Iterable):
        return [users]
    is_table, names = isinstance(users, (Mapping, pd.DataFrame)), list(users)
    if is_table or not all(isinstance(name, Hashable) for name in names):
        raise BadArgument(
            "users must be names",
            got=f"a {type(users).__name__}: {users!r}"[:100],
            expected="one user, or several in a list or a column",
            fix="learn.recommend(df['user'].unique())",
        )
    return list(dict.fromkeys(names))
