"""Which items are alike, by the cosine of the angle between their features: neighbours, and duplicates."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from layered.foundation import BadValue, OutOfRange, checked, describe

Features = Tensor | np.ndarray[Any, Any]
ROWS = 256  # compared at a time
PAIRS = 100  # duplicates for each item: more mean that the features do not tell items apart


class Duplicate(NamedTuple):
    """Two items that are alike.

    Attributes:
        similarity: Their cosine, at most 1.
        first: The earlier item.
        second: The later item.
    """

    similarity: float
    first: Any
    second: Any


@checked
def most_similar(features: Features, to: Features | None = None, k: int = 5) -> tuple[Tensor, Tensor]:
    """The most similar rows of `features`, best first, for each row of `to`.

        similarities, positions = most_similar(features, learn.embed(["photo.jpg"]))
        [files[i] for i in positions[0]]

    Args:
        features: A row for each item, as from `learn.embed`: [item, feature].
        to: Rows to compare with them: [row, feature]; by default the items themselves, each without itself.
        k: How many for each row.

    Returns:
        Cosines, float32 [row, k] from -1 to 1, and positions in `features`, int64 [row, k].

    Raises:
        OutOfRange: There are fewer than `k` items.
        BadValue: The features are not finite rows of one length.

    Examples:
        >>> most_similar(torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 0.1]]), k=1)[1].flatten().tolist()
        [2, 2, 0]
    """
    rows = _unit_rows(features)
    count = len(rows) - (to is None)
    if not 1 <= operator.index(k) <= count:
        raise OutOfRange("k is how many neighbours each row has", got=k, expected=f"a whole number from 1 to {count}")
    queries = rows if to is None else _unit_rows(to)
    if queries.shape[1] != rows.shape[1]:
        raise BadValue(
            "the rows to compare differ in length", got=f"{queries.shape[1]} features", expected=rows.shape[1]
        )
    best = [cosines.topk(k, 1) for _, cosines in _compared(queries, rows, leave_out_self=to is None)]
    return torch.cat([top.values for top in best]), torch.cat([top.indices for top in best])


@checked
def duplicates(features: Features, items: Sequence[Any] | None = None, similarity: float = 0.9) -> list[Duplicate]:
    """All pairs of items that are at least so similar, the most similar first.

    Copies in another format or size have a cosine close to 1; crops and near duplicates one that depends on the model, so
    look at some pairs, and set `similarity` by them.

    Args:
        features: A row for each item, as from `learn.embed`: [item, feature].
        items: What to call them, such as their files; by default their positions.
        similarity: The smallest cosine.

    Raises:
        OutOfRange: `similarity` is not in (-1, 1].
        BadValue: There are not as many items as rows, or more than 100 pairs for each item.

    Examples:
        >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]])
        >>> [(a, b) for _, a, b in duplicates(features, ["a.jpg", "b.jpg", "c.jpg"])]
        [('a.jpg', 'c.jpg')]
    """
    rows = _unit_rows(features)
    items = range(len(rows)) if items is None else items
    if len(items) != len(rows):
        raise BadValue("there must be an item for each row", got=f"{len(items)} items", expected=len(rows))
    if not -1 < similarity <= 1:
        raise OutOfRange("similarity is the smallest cosine of a pair", got=similarity, expected="from -1 to 1")
    found: list[Duplicate] = []
    bound = similarity - 1e-6  # the rounding of float32
    for start, cosines in _compared(rows, rows):
        pairs = (cosines >= bound) & torch.ones_like(cosines, dtype=torch.bool).triu(start + 1)
        if len(found) + int(pairs.sum()) > PAIRS * len(rows):
            raise BadValue(
                "nearly all items are alike by these features",
                got=f"more than {PAIRS} pairs for each item",
                fix=f"a similarity above {similarity}, or features of another layer: learn.embed(items, layer=…)",
            )
        for row, column in pairs.nonzero().tolist():
            found.append(Duplicate(float(cosines[row, column]), items[start + row], items[column]))
    return sorted(found, key=lambda pair: -pair.similarity)


def _compared(queries: Tensor, rows: Tensor, leave_out_self: bool = False) -> Iterator[tuple[int, Tensor]]:
    """The cosines of some queries at a time with all rows, and the number of the first."""
    for start in range(0, len(queries), ROWS):
        cosines = (queries[start : start + ROWS] @ rows.T).clamp_(-1, 1)
        if leave_out_self:
            cosines.diagonal(start).fill_(-torch.inf)
        yield start, cosines


def _unit_rows(features: Features) -> Tensor:
    """Rows of length 1; a row of zeros stays, and is like nothing."""
    rows = torch.as_tensor(features).detach().cpu()
    if rows.ndim != 2 or not rows.numel():
        raise BadValue("features are a row for each item", got=describe(features), expected="[item, feature]")
    wrong = (~rows.isfinite()).any(1).nonzero().flatten().tolist()
    if wrong:
        raise BadValue("features must be finite", got=f"NaN or infinity in {len(wrong)} rows, the first {wrong[0]}")
    return F.normalize(rows.float(), dim=1)
