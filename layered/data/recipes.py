"""What the one-line loaders of the applications have in common: `ImageDataLoaders`, `TextDataLoaders`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import numpy as np

from layered.data.block import CategoryBlock, MultiCategoryBlock, RegressionBlock, TransformBlock
from layered.data.csv_files import column_position
from layered.data.data_loaders import DataLoaders
from layered.data.loader import DataLoader
from layered.data.tfmd_loader import TfmdDL
from layered.foundation import Frame, NotFoundPath, Path, is_frame, listify, names_of, refuse_unknown

P = ParamSpec("P")
R = TypeVar("R")


def recipe(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: refuse, before anything is read, keywords that neither the recipe nor a loader accepts.

    Every recipe takes `splitter`, in place of how it splits the items itself.

    Args:
        function: The recipe.
    """
    known = names_of(function) | loader_arguments()

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        refuse_unknown(kwargs, known, function.__qualname__)
        return function(*args, **kwargs)

    return call


def loader_arguments() -> frozenset[str]:
    """The keywords that recipes pass on: those of loaders, and the splitter."""
    own = names_of(DataLoaders.from_dsets) | names_of(TfmdDL.__init__) | names_of(DataLoader.__init__)
    return (own | {"val_num_workers", "val_n", "splitter"}) - {"dataset"}


def check_folders(path: Path, train: str, valid: str) -> None:
    """Check that a data folder has its two subfolders.

    Args:
        path: The data folder.
        train: Name of the folder with the training items.
        valid: Name of the folder with the validation items.

    Raises:
        NotFoundPath: If one of them does not exist.
    """
    missing = [name for name in (train, valid) if not (path / name).is_dir()]
    if path.is_dir() and missing:
        existing = [o.name for o in path.ls() if o.is_dir()]
        raise NotFoundPath(
            f"folder '{missing[0]}' does not exist in '{path}'",
            got=f"the folders {', '.join(existing[:8])}{', …' if len(existing) > 8 else ''}"
            if existing
            else "no folders",
            expected=f"'{train}' and '{valid}', each with a folder for each label",
            fix="pass valid_pct=0.2 to split at random, or the folders' names as train= and valid=",
        )


def block_of_labels(
    df: Frame, label_col: int | str | Sequence[int | str], label_delim: str | None
) -> Callable[[], TransformBlock]:
    """The block for labels in a table: numbers for columns with many different fractions, else one label, or several.

    Args:
        df: The table.
        label_col: The column of labels, or several.
        label_delim: The text between the labels of one row; implies several labels.
    """
    if are_fractions(df, listify(label_col)):
        return RegressionBlock
    return CategoryBlock if label_delim is None and isinstance(label_col, (int, str)) else MultiCategoryBlock


def are_fractions(df: Frame, names: Sequence[int | str]) -> bool:
    """Whether columns hold numbers with fractions, too many different ones for classes.

    Args:
        df: A table.
        names: Columns, by name or position.
    """
    places = [column_position(df, name) for name in names] if is_frame(df) else []
    values = [np.asarray(df.iloc[:, i]) for i in places if i is not None]
    if not all(v.dtype.kind in "iuf" for v in values):
        return False
    fractions = [v for v in values if (v[np.isfinite(v)] % 1).any()]
    return any(len(np.unique(v)) > min(20, len(v) // 2) for v in fractions)
