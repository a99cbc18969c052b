"""The best items for users, and the items most like one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from layered.collab.data import TabularCollab, ratings_of
from layered.collab.models import ByName
from layered.foundation.arguments import checked
from layered.foundation.errors import BadArgument, BadValue, CannotTrain
from layered.foundation.optional import lazy
from layered.loop.loop import Loop
from layered.tabular.columns import Array, check_columns
from layered.tabular.frames import as_frame
from layered.tabular.models.checks import checked_size
from layered.tabular.procs import Categorify
from layered.training.inference import evaluating

pd = lazy("pandas")

SCORES_AT_ONCE, PAIRS_AT_ONCE = 2**20, 2**16


@checked
def recommend(loop: Loop, users: Any, n: int = 10, exclude_seen: bool = True, seen: Any = None) -> Any:
    """The items that each user would rate best, as a table: user, rank (from 1), item, score (the predicted rating).

    users      one user, or several; one that training did not have gets what the average user likes
    n          items for each; fewer where no more are left
    exclude_seen  leave out what they rated in training
    seen       more to leave out: a table with a column for users and one for items, named as in the ratings
    raises     BadValue for n < 1; CannotTrain where what was rated is not known, as after `load_learner`

    Columns of users and items are named as in the ratings. Memory holds some million scores, however many users there are.
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
    users_of, items_of = (_categorify(to).levels(name) for name in to.cat_names)
    codes = users_of.codes(pd.Series(users, dtype=object)).astype(np.int64)
    rated = []
    if exclude_seen and seen is None and not len(to.subset(0)):
        raise CannotTrain(
            "what users rated in training is not known: an export keeps no rows",
            fix="pass the ratings, seen=df; or exclude_seen=False",
        )
    if exclude_seen:
        known = to.subset(0).tensors[0].numpy(force=True)
        rated.append((codes, _Grouped(np.where(known[:, 0] > 0, known[:, 0], -1), known[:, 1])))
    if seen is not None:
        frame = as_frame(seen)
        check_columns(frame, to.cat_names, "which says what is left out")
        keys = pd.Index(users, dtype=object).get_indexer(frame[user_name].astype(object))
        rated.append((np.arange(len(users)), _Grouped(keys, items_of.codes(frame[item_name]).astype(np.int64))))

    count, vocab = len(items_of.vocab), np.array([*items_of.vocab], dtype=object)
    step, n = max(1, SCORES_AT_ONCE // count), min(n, count - 1)
    tables = []
    for start in range(0, len(users), step):
        some = slice(start, start + step)
        scores = scores_of(loop, torch.from_numpy(codes[some]), count)
        scores[:, 0] = -torch.inf  # '#na#' is no item
        for keys, grouped in rated:
            rows, columns = grouped.of(keys[some])
            scores[torch.from_numpy(rows), torch.from_numpy(columns)] = -torch.inf
        best = scores.topk(n, dim=1)
        row, place = torch.isfinite(best.values).nonzero().unbind(1)
        names = np.empty(len(users[some]), dtype=object)
        names[:] = users[some]
        tables.append(
            pd.DataFrame(
                {
                    user_name: names[row.numpy()],
                    "rank": place.numpy() + 1,
                    item_name: vocab[best.indices[row, place].numpy()],
                    "score": best.values[row, place].numpy(),
                }
            )
        )
    if not tables:
        return pd.DataFrame(columns=[user_name, "rank", item_name, "score"])
    res = pd.concat(tables, ignore_index=True)
    return res.assign(**{str(name): res[name].infer_objects() for name in to.cat_names})


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
def similar(loop: Loop, name: Any, n: int = 10, is_item: bool = True) -> Any:
    """The items whose vectors point most nearly where that of `name` points, as a table: item, similarity.

    n          how many
    is_item    False: users like the user `name`
    raises     UnknownLabel for a name that training did not have

    Similarity is the cosine of the angle between the vectors, in [-1, 1].
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


def _categorify(to: TabularCollab) -> Categorify:
    return next(step for step in to.procs if isinstance(step, Categorify))


def _names(users: Any) -> list[Any]:
    """The users that are meant: one by its name, or several, each once."""
    if isinstance(users, (Tensor, np.ndarray, np.generic)):
        users = users.tolist()
    if isinstance(users, (str, bytes)) or not isinstance(users, Iterable):
        return [users]
    is_table, names = isinstance(users, Mapping) or hasattr(users, "columns"), list(users)
    if is_table or not all(isinstance(name, Hashable) for name in names):
        raise BadArgument(
            "these are not names of users",
            got=f"a {type(users).__name__}: {users!r}"[:100],
            expected="one user, or several in a list or a column",
            fix="learn.recommend(df['user'].unique())",
        )
    return list(dict.fromkeys(names))
