"""Items of a collection by position, one or a whole split, without copying."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np

from layered.foundation import BadArgument, BadValue, EmptySource, L, is_frame, mask2idxs, warn

SPLIT_NAMES = ("training", "validation")


class Subset(Sequence[Any]):
    """The items of a collection at some positions, without copying them."""

    def __init__(self, items: Indexed, positions: np.ndarray[Any, Any]) -> None:
        self.all_items, self.positions = items, positions

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, i: object) -> Any:
        if isinstance(i, (int, np.integer)):
            return pick(self.all_items, int(self.positions[i]))
        chosen = self.positions[i if isinstance(i, slice) else mask2idxs(i)]
        return Subset(self.all_items, chosen)

    def __iter__(self) -> Iterator[Any]:
        if is_frame(self.all_items):
            return (self.all_items.iloc[i] for i in self.positions)
        return map(self.all_items.__getitem__, self.positions.tolist())

    def __repr__(self) -> str:
        return repr(L(list(self), use_list=True))


@runtime_checkable
class Indexed(Protocol):
    """Items by position: a list, an array, a map-style data set, a DataFrame (whose rows `pick` reads)."""

    def __len__(self) -> int: ...
    def __getitem__(self, i: int, /) -> Any: ...


def is_indexed(o: object) -> TypeGuard[Sequence[Any]]:
    """Whether `o` has a length and indexing."""
    return isinstance(o, Indexed)


def pick(items: Indexed, i: int) -> Any:
    """Item `i` of a collection; of a DataFrame, its row number `i`."""
    return items.iloc[i] if is_frame(items) else items[i]


def walk(items: Indexed) -> Iterator[Any]:
    """All items in order; of a DataFrame its rows."""
    is_plain = isinstance(items, Iterable) and not is_frame(items)
    return iter(items) if is_plain else (pick(items, i) for i in range(len(items)))


def as_items(source: object) -> Any:
    """`source` as something with a length and indexing.

    Lists, arrays, pandas frames and map-style data sets are returned unchanged; frames of other libraries are converted by
    their `to_pandas` (unless their rows are mappings already); other iterables are listed.

    Raises:
        BadArgument: `source` is a path or a mapping, or not iterable.
        EmptySource: `source` is an exhausted iterator.
    """
    if isinstance(source, (str, os.PathLike)):
        raise BadArgument(
            "the items are a path, not its content",
            got=repr(source),
            expected="a list, a DataFrame, …",
            fix="list its content: DataBlock(get_items=get_image_files), or give get_image_files(path)",
        )
    if isinstance(source, Mapping):
        raise BadArgument(
            "the items are a mapping, which has no positions",
            got=f"{type(source).__name__} with the keys {', '.join(map(repr, list(source)[:5]))}",
            expected="a list, a DataFrame, …",
            fix="pd.DataFrame(source) for columns of one length, list(source.items()) for pairs",
        )
    if is_indexed(source):
        to_pandas = getattr(source, "to_pandas", None)
        has_mappings = to_pandas is not None and len(source) and isinstance(source[0], Mapping)
        return source if to_pandas is None or has_mappings else to_pandas()
    if not isinstance(source, Iterable):
        raise BadArgument(
            "the items cannot be listed", got=type(source).__name__, expected="a list, a DataFrame, a data set, …"
        )
    items = list(source)
    if not items and isinstance(source, Iterator):
        raise EmptySource(
            "the items are an exhausted iterator",
            got=f"a {type(source).__name__}, which can be iterated over only once",
            expected="a collection that can be iterated over repeatedly",
            fix="list it when it is made, items = list(iterator), and use the list",
        )
    return items


@runtime_checkable
class Labels(Protocol):
    """The labels of rows, as the index of a pandas frame."""

    def __len__(self) -> int: ...
    def __getitem__(self, positions: Any, /) -> Any: ...
    def get_indexer(self, target: Any, /) -> np.ndarray[Any, Any]: ...
    def equals(self, other: Any, /) -> bool: ...
    @property
    def is_unique(self) -> bool: ...


def labels_of(items: object) -> Labels | None:
    """The labels of the rows of a pandas frame, or of some of them; None for items that have none."""
    if isinstance(items, Subset):
        labels = labels_of(items.all_items)
        return None if labels is None else labels[items.positions]
    return items.index if is_frame(items) else None


def values_by_label(values: Any, total: int, index: Labels | None, what: str) -> np.ndarray[Any, Any]:
    """The values of a Series in the order of the items, each found by the label of its item.

    Args:
        values: A pandas Series.
        total: The number of items.
        index: The labels of the items; None labels them 0, 1, ….
        what: What the values are, for messages.

    Raises:
        BadValue: A label is missing or ambiguous.
    """
    found = np.asarray(values)
    if index is not None and index.equals(values.index):
        return found
    places = values.index.get_indexer(np.arange(total) if index is None else index) if values.index.is_unique else None
    if places is None or (places < 0).any():
        raise BadValue(
            f"{what} is a Series whose labels are not those of the items",
            got="labels that occur more than once"
            if places is None
            else f"{(places < 0).sum()} of {total} items without",
            expected="a value for the label of each item",
            fix=".to_numpy(), if the values are in the order of the items",
        )
    return np.asarray(found[places])


def _without_labels(split: Any, total: int, index: Labels | None, which: str) -> Iterable[Any]:
    """What pandas labels (an Index, or a Series with a mask) as positions or a mask in the order of the items; anything
    else unchanged."""
    is_series, is_index = is_frame(split), isinstance(split, Labels)
    if is_series and split.ndim > 1:
        raise BadValue(f"{which} is a table", expected="its positions, or its labels", fix="give its .index")
    is_mask = (is_series or is_index) and split.dtype.kind == "b"
    if is_series and is_mask:
        return values_by_label(split, total, index, which)
    if not (is_series or is_index) or is_mask or index is None or np.array_equal(np.asarray(index), np.arange(total)):
        return split  # type: ignore[no-any-return]  # labels are positions
    if is_series:
        raise BadValue(
            f"{which} is a Series, whose values may be positions or labels",
            got="a table whose labels are not 0, 1, 2, …",
            fix=".to_numpy() for positions, pd.Index(...) for labels",
        )
    positions = index.get_indexer(split) if index.is_unique else None
    if positions is None or (positions < 0).any():
        raise BadValue(
            f"{which} has labels that do not name one row each",
            got="a table whose labels occur more than once"
            if positions is None
            else repr(split[positions < 0].tolist()[0]),
            expected="labels of the table's index, each of one row",
            fix="df = df.reset_index(drop=True), before the split is made",
        )
    return positions


def as_positions(split: Iterable[Any], total: int, name: str = "", index: Labels | None = None) -> np.ndarray[Any, Any]:
    """A split (positions, labels or a mask) as int64 positions from 0.

    Args:
        split: Positions, where negative ones count from the end; a boolean for each item; or, if `index` is given, labels
            in a pandas Index. A mask in a Series is looked up by label.
        total: The number of items.
        name: The name of the split in messages.
        index: The labels of the items, if they have some: those of a frame's rows.

    Raises:
        BadValue: A position is out of range, or the split is neither positions nor a mask of the right length.
    """
    which = f"the {name} split" if name else "a split"
    split = _without_labels(split, total, index, which)
    given = np.asarray(split if isinstance(split, np.ndarray) else list(split))
    if given.dtype == bool and len(given) != total:
        raise BadValue(f"{which} is a mask whose length differs from the items", got=len(given), expected=total)
    if given.ndim != 1 or (len(given) and given.dtype.kind not in "biu"):
        shown = f"{given.dtype} of shape {given.shape}"
        raise BadValue(
            f"{which} has invalid positions",
            got=shown,
            expected="whole numbers, or a mask of booleans",
            fix="df.index.get_indexer(labels) turns labels of rows into positions" if given.ndim == 1 else None,
        )
    positions = np.flatnonzero(given) if given.dtype == bool else given.astype(np.int64, copy=False)
    low, high = (int(positions.min()), int(positions.max())) if len(positions) else (0, -1)
    if high >= total or low < -total:
        raise BadValue(
            f"{which} has a position that is out of range",
            got=high if high >= total else low,
            expected=f"less than {total}, the number of items",
            fix="make the split for these items: splits = splitter(items)",
        )
    return positions % total if low < 0 else positions


def as_splits(splits: object, total: int, index: Labels | None = None) -> list[np.ndarray[Any, Any]]:
    """The positions of the training items, of the validation items, …, validated by `as_positions`.

    Args:
        splits: What `as_positions` accepts, for each split.
        total: The number of items.
        index: The labels of the items, if they have some.

    Warns about items in two splits. Within one split an item may be repeated.
    """
    positions = positions_of(splits, total, index)
    _warn_of_overlap(positions, total)
    return positions


def positions_of(splits: object, total: int, index: Labels | None = None) -> list[np.ndarray[Any, Any]]:
    """As `as_splits`, without the warning about items in two splits."""
    if callable(splits):
        raise BadArgument(
            "the splits are a function, not positions", got=repr(splits), fix="call it: splits = splitter(items)"
        )
    parts = list(splits) if isinstance(splits, Iterable) else []
    if not parts or not all(isinstance(part, Sized) for part in parts):
        raise BadArgument(
            "the splits are not lists of positions",
            got=repr(splits)[:200],
            expected="(positions of the training items, positions of the validation items)",
            fix="splits = splitter(items), for example RandomSplitter()(items)",
        )
    names = dict(enumerate(SPLIT_NAMES))
    return [as_positions(part, total, names.get(i, ""), index) for i, part in enumerate(parts)]


def _warn_of_overlap(splits: list[np.ndarray[Any, Any]], total: int) -> None:
    """Warn about items in two splits. That is allowed, to test whether a model can memorize its items."""
    taken, twice = np.zeros(total, dtype=bool), np.zeros(total, dtype=bool)
    for positions in splits:
        twice[positions[taken[positions]]] = True
        taken[positions] = True
    both = np.flatnonzero(twice)
    if len(both):
        count = f"{len(both)} items are" if len(both) > 1 else "1 item is"
        warn(f"{count} in two splits, the first at position {both[0]}: validation on it says little about new items")
