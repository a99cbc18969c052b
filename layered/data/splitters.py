"""Splitters: each returns a function from items to the positions of the training items and of the validation items.

None draws from a global generator: without a seed, the run's own (`torch.initial_seed()`) is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layered.foundation.errors import BadValue, EmptySplit, NotFoundPath
from layered.foundation.lists import mask2idxs
from layered.foundation.optional import lazy
from layered.foundation.seeds import key_of, permutation

selection = lazy("sklearn.model_selection")

Indices = Sequence[int] | np.ndarray[Any, Any]
Splitter = Callable[[Any], tuple[Indices, Indices]]


def _shuffled(count: int, seed: int | None) -> np.ndarray[Any, Any]:
    return permutation(count, key_of(torch.initial_seed(), "split") if seed is None else seed).numpy()


def check_not_empty(splits: Sequence[Indices], *, asked: str, total: int) -> None:
    """Raise EmptySplit where a side has no items.

    asked      what was asked for, in words
    """
    for name, side in zip(("train", "valid"), splits, strict=False):
        if len(side) == 0:
            raise EmptySplit(
                f"the '{name}' split is empty",
                got=f"{asked} over {total} items gives {', '.join(str(len(s)) for s in splits)}",
                expected="at least one item in every split",
                fix=f"ask for at least {1 / max(total, 1):.3f} of the items, or name them with IndexSplitter"
                if "pct" in asked
                else "look at an item: what the splitter goes by, a folder's name or a column, is not there",
            )


def RandomSplitter(valid_pct: float = 0.2, seed: int | None = None) -> Splitter:
    """A random share `valid_pct` of the items for validation.

    seed       the same seed gives the same split on every machine, the one known from published courses

    >>> RandomSplitter(seed=42)(list(range(5)))
    (array([4, 3, 0, 1]), array([2]))
    """
    if not 0 < valid_pct < 1:
        raise BadValue("valid_pct is a share of the items", got=valid_pct, expected="a number between 0 and 1")

    def split(items: Any) -> tuple[Indices, Indices]:
        order = _shuffled(len(items), seed)
        cut = int(valid_pct * len(items))
        return order[cut:], order[:cut]

    return _named(split, f"RandomSplitter(valid_pct={valid_pct})")


def TrainTestSplitter(
    test_size: float = 0.2,
    random_state: int | None = None,
    stratify: Any = None,
    train_size: float | None = None,
    shuffle: bool = True,
) -> Splitter:
    """scikit-learn's `train_test_split`; `stratify` holds a label for each item."""

    def split(items: Any) -> tuple[Indices, Indices]:
        seed = random_state if random_state is not None else key_of(torch.initial_seed(), "split") % (1 << 32)
        train, valid = selection.train_test_split(
            np.arange(len(items)),
            test_size=test_size,
            random_state=seed if shuffle else None,
            stratify=stratify,
            train_size=train_size,
            shuffle=shuffle,
        )
        return train, valid

    return _named(split, f"TrainTestSplitter(test_size={test_size})")


def IndexSplitter(valid_idx: Iterable[int]) -> Splitter:
    """The items at `valid_idx` for validation, all others for training."""

    def split(items: Any) -> tuple[Indices, Indices]:
        valid = np.asarray(mask2idxs(list(valid_idx)), dtype=np.int64)
        if len(valid) and (valid.max() >= len(items) or valid.min() < -len(items)):
            raise BadValue(
                f"IndexSplitter names an item that is not there, among {len(items)} items",
                got=int(valid.max()),
                expected=f"positions from 0 to {len(items) - 1}",
            )
        rest = np.ones(len(items), dtype=bool)
        rest[valid] = False
        return np.flatnonzero(rest), valid

    return _named(split, "IndexSplitter")


def EndSplitter(valid_pct: float = 0.2, valid_last: bool = True) -> Splitter:
    """The last share of the items (the first, with `valid_last=False`) for validation; for time series."""

    def split(items: Any) -> tuple[Indices, Indices]:
        count = len(items)
        cut = count - int(valid_pct * count) if valid_last else int(valid_pct * count)
        head, tail = np.arange(cut), np.arange(cut, count)
        return (head, tail) if valid_last else (tail, head)

    return _named(split, f"EndSplitter(valid_pct={valid_pct})")


def GrandparentSplitter(
    train_name: str | Collection[str] = "train", valid_name: str | Collection[str] = "valid"
) -> Splitter:
    """By the name of the folder two levels up: train/cat/1.jpg. Each name may be several."""

    def split(items: Any) -> tuple[Indices, Indices]:
        parents = [Path(o).parent.parent.name for o in items]

        def under(names: str | Collection[str]) -> np.ndarray[Any, Any]:
            wanted = {names} if isinstance(names, str) else set(names)
            return np.array([i for i, parent in enumerate(parents) if parent in wanted], dtype=np.int64)

        return under(train_name), under(valid_name)

    return _named(split, f"GrandparentSplitter(train_name={train_name!r}, valid_name={valid_name!r})")


def FuncSplitter(func: Callable[[Any], Any]) -> Splitter:
    """The items for which `func` holds for validation."""
    return _named(lambda items: MaskSplitter([bool(func(o)) for o in items])(items), "FuncSplitter")


def MaskSplitter(mask: Iterable[Any] | Tensor) -> Splitter:
    """The items whose place in `mask` is true for validation."""

    def split(items: Any) -> tuple[Indices, Indices]:
        flags = np.asarray(mask if isinstance(mask, (np.ndarray, Tensor)) else list(mask)).astype(bool)
        if len(flags) != len(items):
            raise BadValue("the mask and the items differ in length", got=len(flags), expected=len(items))
        return np.flatnonzero(~flags), np.flatnonzero(flags)

    return _named(split, "MaskSplitter")


def FileSplitter(fname: str | os.PathLike[str]) -> Splitter:
    """The items whose file name stands in the text file `fname`, one a line, for validation."""
    file = Path(fname)
    if not file.is_file():
        raise NotFoundPath(f"FileSplitter finds no file '{file}'", fix="one file name a line")
    names = set(file.read_text().splitlines())
    return _named(lambda items: FuncSplitter(lambda o: Path(o).name in names)(items), f"FileSplitter('{file.name}')")


def ColSplitter(col: str | int = "is_valid", on: Any = None) -> Splitter:
    """The rows of a DataFrame whose column `col` is true (equals `on`, or is among them) for validation."""

    def split(items: Any) -> tuple[Indices, Indices]:
        if not hasattr(items, "iloc"):
            raise BadValue("ColSplitter splits a DataFrame", got=type(items).__name__)
        values = items.iloc[:, col] if isinstance(col, int) else items[col]
        if on is None:
            return MaskSplitter(values.to_numpy().astype(bool))(items)
        wanted = on if isinstance(on, (list, tuple, set)) else [on]
        return MaskSplitter(values.isin(list(wanted)).to_numpy())(items)

    return _named(split, f"ColSplitter({col!r})")


def RandomSubsetSplitter(train_sz: float, valid_sz: float, seed: int | None = None) -> Splitter:
    """Random shares `train_sz` and `valid_sz` of the items; the rest is not used."""
    if not (0 < train_sz < 1 and 0 < valid_sz < 1 and train_sz + valid_sz <= 1):
        raise BadValue(
            "train_sz and valid_sz are shares", got=(train_sz, valid_sz), expected="in (0, 1), at most 1 in all"
        )

    def split(items: Any) -> tuple[Indices, Indices]:
        order = _shuffled(len(items), seed)
        train, valid = int(train_sz * len(items)), int(valid_sz * len(items))
        return order[:train], order[train : train + valid]

    return _named(split, f"RandomSubsetSplitter({train_sz}, {valid_sz})")


def _named(split: Any, text: str) -> Splitter:
    split.description = text
    return split  # type: ignore[no-any-return]  # a function that carries its description
