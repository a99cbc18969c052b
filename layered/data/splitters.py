"""Splitters: each returns a function from items to the positions of the training items and of the validation items.

None of them draws from a global generator: without a seed, they use that of the run, `torch.initial_seed()`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Sized
from numbers import Integral, Number, Real
from operator import index
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layered.data.subset import Indexed, as_positions, labels_of, pick, positions_of, values_by_label, walk
from layered.files import read_lines
from layered.foundation import (
    BadArgument,
    BadValue,
    EmptySplit,
    Path,
    describe,
    failed,
    function_name,
    is_frame,
    key_of,
    lazy,
    permutation,
    unknown_name,
    warn,
)

selection = lazy("sklearn.model_selection")

Indices = Sequence[int] | np.ndarray[Any, Any]
Splitter = Callable[[Any], Sequence[Indices]]  # training, validation and any other splits


class Split:
    """A splitter of this library: a function from items to positions whose `repr` says how it splits.

    Args:
        split: The function.
        description: The call that made it: "RandomSplitter(valid_pct=0.2)".
        holds_out: Whether a validation split without items is an error; False where that was asked for.

    Examples:
        >>> RandomSplitter(0.1)
        RandomSplitter(valid_pct=0.1)
    """

    def __init__(self, split: Splitter, description: str, holds_out: bool = True) -> None:
        self.split, self.description, self.holds_out = split, description, holds_out

    def __call__(self, items: Indexed) -> Sequence[Indices]:
        return self.split(items)

    def __repr__(self) -> str:
        return self.description


def _shuffled(count: int, seed: int | None) -> np.ndarray[Any, Any]:
    return permutation(count, key_of(torch.initial_seed(), "split") if seed is None else index(seed)).numpy()


def sklearn_seed(seed: int | None) -> int:
    """`seed`, or one derived from that of the run, in the range that scikit-learn accepts (32 bits)."""
    return key_of(torch.initial_seed(), "split") % (1 << 32) if seed is None else index(seed)


def split_items(splitter: Splitter, items: Indexed) -> list[np.ndarray[Any, Any]]:
    """The positions that `splitter` gives for `items`, validated.

    Raises:
        EmptySplit: A split has no items; no validation items are an error only of a splitter that was to hold out some.
        BadValue: A position is out of range, or an item is in two splits.
        BadArgument: `splitter` is a function that makes splitters, such as `RandomSplitter` without parentheses.
    """
    asked = repr(splitter) if isinstance(splitter, Split) else function_name(splitter)
    if isinstance(splitter, FunctionType) and splitter.__module__.startswith(__package__):
        raise BadArgument(
            f"{asked} returns a splitter; it is not one itself",
            got=f"splitter={asked}",
            expected="a function from items to positions",
            fix=f"call it: splitter={asked}()",
        )
    try:
        splits = positions_of(splitter(items), len(items), labels_of(items))
        holds_out = isinstance(splitter, Split) and splitter.holds_out
        check_not_empty(splits if holds_out else splits[:1], asked=asked, total=len(items))
        if not isinstance(splitter, Split) and not any(map(len, splits[1:])):
            warn(f"{asked} holds out no items: training without validation")
        _check_apart(splits, items)
    except Exception as error:
        raise failed(error, f"splitting {len(items)} items by {asked}") from error
    return splits


def _check_apart(splits: Sequence[np.ndarray[Any, Any]], items: Indexed) -> None:
    taken = np.zeros(len(items), dtype=bool)
    for positions in splits:
        twice = positions[taken[positions]]
        if len(twice):
            others = f" and {len(twice) - 1} more" if len(twice) > 1 else ""
            raise BadValue(
                "an item is in two splits",
                got=f"item {twice[0]} ({describe(pick(items, int(twice[0])))}){others}",
                expected="each item in one split, so that validation items are never trained on",
                fix="remove the validation items from the training items",
            )
        taken[positions] = True


def check_not_empty(splits: Sequence[Indices], *, asked: str, total: int) -> None:
    """Raise EmptySplit if there are no training items, or no validation items.

    Args:
        splits: The positions of each split; the training split alone where no validation items are needed.
        asked: The splitter, as messages show it.
        total: The number of items.
    """
    for name, side in zip(("train", "valid"), splits, strict=False):
        if len(side) == 0:
            raise EmptySplit(
                f"the '{name}' split is empty",
                got=f"{asked} over {total} items gives {', '.join(str(len(s)) for s in splits)}",
                expected="at least one item in every split",
                fix=f"ask for at least {1 / max(total, 1):.3f} of the items, or for 0 to train on all"
                if "pct" in asked
                else "look at an item: the folder name or column that the splitter looks for may be missing",
            )


def values_of(items: Indexed, by: object, what: str) -> np.ndarray[Any, Any]:
    """One value for each item: array [item].

    Args:
        items: The items.
        by: The name of a column, a function of an item, or the values themselves.
        what: The argument that they were given as, for messages.
    """
    if isinstance(by, str):
        values = column_of(items, by)
    elif callable(by):
        values = [by(o) for o in walk(items)]
    else:
        values = by
    if is_frame(values):
        values = values_by_label(values, len(items), labels_of(items), what)
    if len(values) != len(items):
        raise BadValue(f"{what} needs exactly one value per item", got=len(values), expected=len(items))
    return np.asarray(values)


def column_of(items: Any, col: str | int) -> Any:
    """A column of a DataFrame, or of rows that are mappings."""
    if is_frame(items) and isinstance(col, int):
        return items.iloc[:, col]
    if hasattr(items, "columns"):
        if col not in items.columns:
            raise unknown_name("column", str(col), map(str, items.columns))
        return items[col]
    if len(items) and isinstance(items[0], Mapping) and col in items[0]:
        return [row[col] for row in walk(items)]
    raise BadValue(
        f"the items have no column {col!r} to split by",
        got=f"items of type {type(items[0]).__name__}" if len(items) else "no items",
        expected="a DataFrame, or rows that are mappings with that key",
    )


def RandomSplitter(valid_pct: float = 0.2, seed: int | None = None) -> Splitter:
    """Hold out a random share of the items for validation.

    Args:
        valid_pct: The share for validation, from 0 (train on all items) to below 1.
        seed: The same seed gives the same split on every machine, and the same one as fastai; by default the seed of
            the run.

    Examples:
        >>> RandomSplitter(seed=42)(list(range(5)))
        (array([4, 3, 0, 1]), array([2]))
    """
    check_share(valid_pct)

    def split(items: Indexed) -> tuple[Indices, Indices]:
        order = _shuffled(len(items), seed)
        cut = int(valid_pct * len(items))
        return order[cut:], order[:cut]

    return Split(split, f"RandomSplitter(valid_pct={valid_pct})", holds_out=valid_pct > 0)


def check_share(valid_pct: float) -> None:
    """Raise BadValue unless `valid_pct` is a share of the items that leaves some for training."""
    if not isinstance(valid_pct, Real) or not 0 <= valid_pct < 1:
        is_percent = isinstance(valid_pct, Real) and 1 < valid_pct < 100
        raise BadValue(
            "invalid valid_pct, the share of the items for validation",
            got=repr(valid_pct),
            expected="a number from 0 (train on all items) to below 1",
            fix=f"valid_pct={valid_pct / 100:g}" if is_percent else "valid_pct=0.2",
        )


def TrainTestSplitter(
    test_size: float = 0.2,
    random_state: int | None = None,
    stratify: object = None,
    train_size: float | None = None,
    shuffle: bool = True,
) -> Splitter:
    """Split by scikit-learn's `train_test_split`.

    Args:
        test_size: The share for validation, or the number of items.
        random_state: The seed; by default that of the run.
        stratify: Keep the shares of these labels in both splits: a label for each item, the name of a column, or a
            function of an item.
        train_size: The share for training, or the number of items; by default all others.
        shuffle: Draw at random; False holds out the last items.
    """

    def split(items: Indexed) -> tuple[Indices, Indices]:
        train, valid = selection.train_test_split(
            np.arange(len(items)),
            test_size=test_size if isinstance(test_size, Integral) else float(test_size),
            random_state=sklearn_seed(random_state) if shuffle else None,
            stratify=None if stratify is None else values_of(items, stratify, "stratify"),
            train_size=train_size if train_size is None or isinstance(train_size, Integral) else float(train_size),
            shuffle=shuffle,
        )
        return train, valid

    return with_repr(split, f"TrainTestSplitter(test_size={test_size})")


def IndexSplitter(valid_idx: Iterable[int]) -> Splitter:
    """Hold out items by position; all others are for training.

    Args:
        valid_idx: The positions of the validation items; negative ones count from the end. The rows of a frame may also
            be named by their labels in a pandas Index: `df.sample(frac=0.2).index`.
    """
    positions = list(valid_idx) if isinstance(valid_idx, Iterator) else valid_idx

    def split(items: Indexed) -> tuple[Indices, Indices]:
        valid = as_positions(positions, len(items), "validation", labels_of(items))
        rest = np.ones(len(items), dtype=bool)
        rest[valid] = False
        return np.flatnonzero(rest), valid

    is_empty = isinstance(positions, Sized) and len(positions) == 0
    return Split(split, "IndexSplitter", holds_out=not is_empty)


def EndSplitter(valid_pct: float = 0.2, valid_last: bool = True) -> Splitter:
    """Hold out the last items for validation, as for sorted time series.

    Args:
        valid_pct: The share for validation, from 0 (train on all items) to below 1.
        valid_last: False holds out the first items instead.
    """
    check_share(valid_pct)

    def split(items: Indexed) -> tuple[Indices, Indices]:
        count = len(items)
        cut = count - int(valid_pct * count) if valid_last else int(valid_pct * count)
        head, tail = np.arange(cut), np.arange(cut, count)
        return (head, tail) if valid_last else (tail, head)

    return Split(split, f"EndSplitter(valid_pct={valid_pct})", holds_out=valid_pct > 0)


def GrandparentSplitter(
    train_name: str | Collection[str] = "train", valid_name: str | Collection[str] = "valid"
) -> Splitter:
    """Split files by the name of the folder two levels up: train/cat/1.jpg.

    Args:
        train_name: The folder of the training items, or several.
        valid_name: The folder of the validation items, or several. Files of other folders are not used.
    """

    def under(names: str | Collection[str], parents: list[str]) -> np.ndarray[Any, Any]:
        wanted = {names} if isinstance(names, str) else set(names)
        return np.array([i for i, parent in enumerate(parents) if parent in wanted], dtype=np.int64)

    def split(items: Indexed) -> tuple[Indices, Indices]:
        parents = [Path(o).parent.parent.name for o in walk(items)]
        return under(train_name, parents), under(valid_name, parents)

    return with_repr(split, f"GrandparentSplitter(train_name={train_name!r}, valid_name={valid_name!r})")


def FuncSplitter(func: Callable[[Any], Any]) -> Splitter:
    """Hold out the items for which a function is true.

    Args:
        func: Called with each item.
    """

    def flag(o: object) -> object:
        found = func(o)
        return found if isinstance(found, (str, float)) else bool(found)  # "False" and NaN would count as true

    def split(items: Indexed) -> tuple[Indices, Indices]:
        return _by_flags(
            as_flags(map(flag, walk(items)), "the function of FuncSplitter", "FuncSplitter(lambda o: f(o) == {})")
        )

    return with_repr(split, "FuncSplitter")


def MaskSplitter(mask: Iterable[Any] | Tensor) -> Splitter:
    """Hold out the items whose entry in a mask is true.

    Args:
        mask: A boolean for each item. Those of a pandas Series are looked up by the labels of a frame's rows.
    """
    given: Any = mask if isinstance(mask, Sized) else list(mask)

    def split(items: Indexed) -> tuple[Indices, Indices]:
        values = values_by_label(given, len(items), labels_of(items), "the mask") if is_frame(given) else given
        if len(values) != len(items):
            raise BadValue("the mask and the items differ in length", got=len(values), expected=len(items))
        return _by_flags(as_flags(values, "the mask", "pd.Series(mask).eq({}).fillna(False).to_numpy()"))

    return with_repr(split, "MaskSplitter")


_FLAGS = {
    **dict.fromkeys(("true", "yes", "1", "valid", "validation", "val"), True),
    **dict.fromkeys(("false", "no", "0", "train", "training"), False),
}


def _by_flags(is_valid: np.ndarray[Any, Any]) -> tuple[Indices, Indices]:
    return np.flatnonzero(~is_valid), np.flatnonzero(is_valid)


def as_flags(values: Iterable[Any], what: str, fix: str) -> np.ndarray[Any, Any]:
    """What says whether items are for validation, as booleans: bool [item].

    Args:
        values: A value for each item: booleans, 0 and 1, or texts such as "True" and "valid".
        what: What the values are, for messages.
        fix: What to do about unclear values, with {} in place of the value that is true.

    Raises:
        BadValue: A value is missing, or is neither true nor false.
    """
    listed: list[Any] = np.asarray(values).tolist() if isinstance(values, (np.ndarray, Tensor)) else list(values)
    found = {value: _flag(value) for value in dict.fromkeys(listed)}
    unclear = next((i for i, value in enumerate(listed) if found[value] is None), None)
    if unclear is not None:
        example = listed[unclear] if isinstance(listed[unclear], str) else True
        true = next((value for value, flag in found.items() if flag), example)
        raise BadValue(
            f"{what} does not say of each item whether it is for validation",
            got=f"{listed[unclear]!r} for item {unclear}",
            expected="true or false for each item; also 1 and 0, or 'valid' and 'train'",
            fix=fix.format(repr(true)) + " trains on all others",
        )
    return np.array([found[value] for value in listed], dtype=bool)


def _flag(value: object) -> bool | None:
    """Whether one item is for validation; None if that is unclear."""
    if isinstance(value, str):
        return _FLAGS.get(value.strip().lower())
    return bool(value) if isinstance(value, (Number, np.bool_)) and value in (0, 1) else None


def FileSplitter(fname: str | os.PathLike[str]) -> Splitter:
    """Hold out the files that a text file lists.

    Args:
        fname: A text file in UTF-8 with one file name (without folders) per line.

    Raises:
        NotFoundPath: `fname` does not exist.
        BadFile: It is not text in UTF-8, or cannot be read.
    """
    names = set(read_lines(fname))
    shown = f"FileSplitter('{Path(fname).name}')"
    return with_repr(lambda items: FuncSplitter(lambda o: Path(o).name in names)(items), shown)


def ColSplitter(col: str | int = "is_valid", on: object = None) -> Splitter:
    """Hold out the rows of a DataFrame by the value of a column.

    Args:
        col: The name or number of the column.
        on: Hold out rows with this value, or with one of a list of values; None: those where the column is true, 1 or
            "valid".
    """

    def split(items: Any) -> Sequence[Indices]:
        values = np.asarray(column_of(items, col), dtype=object)
        if on is None:
            is_position = isinstance(col, int) and is_frame(items)
            name = items.columns[col] if is_position else col
            fix = f"df[{name!r}] = df[{name!r}].eq({{}}).fillna(False)"
            return _by_flags(as_flags(values, f"the column {col!r}", fix))
        wanted = on if isinstance(on, (list, tuple, set)) else [on]
        return MaskSplitter([value in wanted for value in values.tolist()])(items)

    return with_repr(split, f"ColSplitter({col!r})")


def RandomSubsetSplitter(train_sz: float, valid_sz: float, seed: int | None = None) -> Splitter:
    """Train and validate on random subsets; the other items are not used.

    Args:
        train_sz: The share for training, between 0 and 1.
        valid_sz: The share for validation, between 0 and 1; at most 1 with `train_sz`.
        seed: The same seed gives the same split; by default the seed of the run.
    """
    if not (0 < train_sz < 1 and 0 < valid_sz < 1 and train_sz + valid_sz <= 1):
        raise BadValue(
            "invalid train_sz and valid_sz, shares of the items",
            got=(train_sz, valid_sz),
            expected="each between 0 and 1, together at most 1",
        )

    def split(items: Indexed) -> tuple[Indices, Indices]:
        order = _shuffled(len(items), seed)
        train, valid = int(train_sz * len(items)), int(valid_sz * len(items))
        return order[:train], order[train : train + valid]

    return with_repr(split, f"RandomSubsetSplitter({train_sz}, {valid_sz})")


def with_repr(split: Splitter, text: str) -> Splitter:
    """`split` with a `repr`, for messages and notebooks."""
    return Split(split, text)
