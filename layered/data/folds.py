"""Splitters for cross-validation, for groups of related items, and for time series.

They keep no state: `KFoldSplitter(fold, n, seed)` gives the same fold at every call, and the `n` folds with the same seed
partition the items.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from layered.data.splitters import Indices, Splitter, selection, sklearn_seed, values_of, with_repr
from layered.data.subset import Indexed
from layered.foundation import BadValue, EmptySplit, lazy

pandas = lazy("pandas")


def KFoldSplitter(fold: int = 0, n: int = 5, seed: int | None = None, shuffle: bool = True) -> Splitter:
    """Validate on one of `n` folds and train on the others.

    Args:
        fold: The fold held out for validation, from 0 to `n - 1`.
        n: The number of folds, at least 2.
        seed: Must be the same for all folds of a cross-validation; by default the seed of the run.
        shuffle: Assign items to folds at random; False makes each fold a contiguous range of items.

    Examples:
        >>> [KFoldSplitter(fold, n=3, shuffle=False)(range(5))[1].tolist() for fold in range(3)]
        [[0, 1], [2, 3], [4]]
    """
    _check_fold(fold, n)

    def split(items: Indexed) -> tuple[Indices, Indices]:
        state = sklearn_seed(seed) if shuffle else None
        return _fold(selection.KFold(_at_most(n, items), shuffle=shuffle, random_state=state), fold, items)

    return with_repr(split, f"KFoldSplitter(fold={fold}, n={n})")


def StratifiedKFoldSplitter(labels: object, fold: int = 0, n: int = 5, seed: int | None = None) -> Splitter:
    """As `KFoldSplitter`, with the same share of every label in each fold.

    Args:
        labels: The name of a column, a function of an item, or one label for each item.
        fold: The fold held out for validation, from 0 to `n - 1`.
        n: The number of folds, at least 2.
        seed: Must be the same for all folds of a cross-validation; by default the seed of the run.
    """
    _check_fold(fold, n)

    def split(items: Indexed) -> tuple[Indices, Indices]:
        kinds = np.unique(values_of(items, labels, "labels").astype(str), return_inverse=True)[1]
        if np.bincount(kinds).max() < n:
            raise BadValue(
                "every label occurs less often than there are folds",
                got=f"at most {np.bincount(kinds).max()} items with the same label",
                expected=f"at least {n}",
                fix="fewer folds; for numbers, labels of ranges: pandas.qcut(numbers, 5, labels=False)",
            )
        folds = selection.StratifiedKFold(_at_most(n, items), shuffle=True, random_state=sklearn_seed(seed))
        return _fold(folds, fold, items, kinds)

    return with_repr(split, f"StratifiedKFoldSplitter(fold={fold}, n={n})")


def GroupSplitter(groups: object, valid_pct: float = 0.2, seed: int | None = None) -> Splitter:
    """Hold out a random share of the groups for validation: no group is in both splits.

    Args:
        groups: What an item belongs to, such as a patient: the name of a column, a function of an item, or one value
            for each item.
        valid_pct: The share of groups (not of items) for validation, between 0 and 1.
        seed: The same seed gives the same split; by default the seed of the run.

    Examples:
        >>> train, valid = GroupSplitter(lambda name: name[0], seed=1)(["a1", "a2", "b1", "b2", "c1"])
        >>> {("a1", "a2", "b1", "b2", "c1")[i][0] for i in train} & {("a1", "a2", "b1", "b2", "c1")[i][0] for i in valid}
        set()
    """
    if not 0 < valid_pct < 1:
        raise BadValue(
            "invalid valid_pct, the share of the groups for validation",
            got=valid_pct,
            expected="a number between 0 and 1",
        )

    def split(items: Indexed) -> tuple[Indices, Indices]:
        kinds = values_of(items, groups, "groups")
        _check_groups(kinds, 2)
        shuffled = selection.GroupShuffleSplit(1, test_size=valid_pct, random_state=sklearn_seed(seed))
        return next(shuffled.split(kinds, groups=kinds))  # type: ignore[no-any-return]  # scikit-learn has no types

    return with_repr(split, f"GroupSplitter(valid_pct={valid_pct})")


def GroupKFoldSplitter(groups: object, fold: int = 0, n: int = 5, labels: object = None) -> Splitter:
    """As `KFoldSplitter`, with folds of whole groups that are about equally large.

    Args:
        groups: As in `GroupSplitter`.
        fold: The fold held out for validation, from 0 to `n - 1`.
        n: The number of folds, at least 2.
        labels: As in `StratifiedKFoldSplitter`: the shares of these labels become as equal as whole groups allow.
    """
    _check_fold(fold, n)

    def split(items: Indexed) -> tuple[Indices, Indices]:
        kinds = values_of(items, groups, "groups")
        _check_groups(kinds, n)
        if labels is None:
            return _fold(selection.GroupKFold(n), fold, items, groups=kinds)
        classes = values_of(items, labels, "labels").astype(str)
        return _fold(selection.StratifiedGroupKFold(n), fold, items, classes, kinds)

    return with_repr(split, f"GroupKFoldSplitter(fold={fold}, n={n})")


def TimeSplitter(time: object, valid_pct: float = 0.2, gap: object = None) -> Splitter:
    """Validate on the latest items; every training item is earlier than all of them.

    Args:
        time: The time of an item, as numbers or dates: the name of a column, a function of an item, or a value for
            each item.
        valid_pct: The share of items for validation, between 0 and 1; items of equal time stay together.
        gap: Drop training items less than this before the first validation item, in the unit of `time`: a number, a
            `timedelta`, or its text, "7 days".

    Examples:
        >>> TimeSplitter([30, 10, 20, 40, 50], valid_pct=0.4, gap=15)("abcde")
        (array([1, 2]), array([3, 4]))
    """
    if not 0 < valid_pct < 1:
        raise BadValue(
            "invalid valid_pct, the share of the items for validation",
            got=valid_pct,
            expected="a number between 0 and 1",
        )

    def split(items: Indexed) -> tuple[Indices, Indices]:
        times = _times(items, time)
        order = np.argsort(times, kind="stable")
        count = int(valid_pct * len(items))
        if count == 0:
            raise EmptySplit(
                "the 'valid' split is empty",
                got=f"TimeSplitter(valid_pct={valid_pct}) over {len(items)} items",
                fix=f"ask for at least {1 / max(len(items), 1):.3f} of the items",
            )
        start = times[order[len(order) - count]]
        return order[_is_early(times[order], start, gap)], order[times[order] >= start]

    return with_repr(split, f"TimeSplitter(valid_pct={valid_pct})")


def TimeFoldSplitter(time: object, fold: int = 0, n: int = 5, gap: object = None) -> Splitter:
    """Validate on one of `n` periods that follow each other, and train on all items before it.

    The items are divided by time into `n` + 1 periods with about as many items each; the first is for training alone.

    Args:
        time: As in `TimeSplitter`; items of equal time stay together.
        fold: The period held out for validation, from 0 (the second of all) to `n - 1` (the latest).
        n: The number of folds, at least 2.
        gap: As in `TimeSplitter`.

    Examples:
        >>> [TimeFoldSplitter([1, 2, 3, 4, 5, 6], fold, n=2)("abcdef") for fold in range(2)]
        [(array([0, 1]), array([2, 3])), (array([0, 1, 2, 3]), array([4, 5]))]
    """
    _check_fold(fold, n)

    def split(items: Indexed) -> tuple[Indices, Indices]:
        times = _times(items, time)
        order = np.argsort(times, kind="stable")
        ordered, parts = times[order], _at_most(n + 1, items)
        start = ordered[len(items) * (fold + 1) // parts]
        held_out = ordered >= start
        if fold < n - 1:
            held_out &= ordered < ordered[len(items) * (fold + 2) // parts]
        return order[_is_early(ordered, start, gap)], order[held_out]

    return with_repr(split, f"TimeFoldSplitter(fold={fold}, n={n})")


def _times(items: Indexed, time: object) -> np.ndarray[Any, Any]:
    """The time of each item, as numbers or moments."""
    times = values_of(items, time, "time")
    if times.dtype.kind not in "biufM":
        times = pandas.to_datetime(times, utc=True).tz_localize(None).to_numpy()
    missing = np.flatnonzero(times != times)
    if len(missing):
        raise BadValue("the time of an item is missing", got=f"item {missing[0]}", expected="a time for each item")
    return times


def _is_early(times: np.ndarray[Any, Any], start: Any, gap: Any) -> np.ndarray[Any, Any]:
    """Which items come before the first validation item, and not within the gap before it."""
    width = pandas.Timedelta(gap).to_timedelta64() if times.dtype.kind == "M" else gap
    early: np.ndarray[Any, Any] = times < start if gap is None else times <= start - width
    return early


class _Folds(Protocol):
    """A cross-validator of scikit-learn."""

    def split(self, X: object, y: object, groups: object) -> Iterable[tuple[Indices, Indices]]: ...


def _fold(
    folds: _Folds, fold: int, items: Indexed, labels: object = None, groups: object = None
) -> tuple[Indices, Indices]:
    return list(folds.split(np.arange(len(items)), labels, groups))[fold]


def _check_fold(fold: int, n: int) -> None:
    if n < 2 or not 0 <= fold < n:
        raise BadValue("invalid fold", got=f"fold={fold} of n={n}", expected="n from 2, fold from 0 to n - 1")


def _at_most(n: int, items: Indexed) -> int:
    if len(items) < n:
        raise BadValue("more folds than items", got=f"n={n} for {len(items)} items", fix="a smaller n")
    return n


def _check_groups(kinds: np.ndarray[Any, Any], n: int) -> None:
    missing = np.flatnonzero(pandas.isna(kinds))
    if len(missing):
        raise BadValue(
            "an item has no group",
            got=f"item {missing[0]}: {kinds[missing[0]]}"
            + (f", and {len(missing) - 1} more" if missing[1:].size else ""),
            fix="leave such items out, or give each of them another group",
        )
    found = len(np.unique(kinds))
    if found < n:
        raise BadValue("not enough groups to split", got=f"{found} groups", expected=f"at least {n}")
