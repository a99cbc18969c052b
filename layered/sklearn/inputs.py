"""What estimators accept as X, as tensors with a row for each item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from layered.data import Normalize
from layered.foundation import BadValue, describe, lazy, tensor
from layered.tabular import Categorify, FillMissing, TabularModel, TabularPandas, as_frame, get_emb_sz, split_columns

pd, sparse = map(lazy, ("pandas", "scipy.sparse"))


class Inputs(Protocol):
    """How X becomes the inputs of a module."""

    def tensors(self, X: object) -> tuple[Tensor, ...]:
        """The inputs, each with a row for each item.

        Args:
            X: As for `fit`.
        """


class Plain:
    """Arrays as they are, for a module of the user: one input, or several by position or by name.

    Args:
        X: What the estimator is fitted on.

    Attributes:
        names: The keys of a dict, by which the module gets its inputs; None without names.
    """

    def __init__(self, X: object) -> None:
        self.names: list[str] | None = list(X) if isinstance(X, Mapping) else None

    def tensors(self, X: object) -> tuple[Tensor, ...]:
        """The inputs, each with a row for each item.

        Args:
            X: As for `fit`: an array, a tensor, a frame, a sparse matrix, or a dict of these.

        Raises:
            BadValue: A part that the estimator was fitted on is missing, or values are not numbers.
        """
        if self.names is None:
            return (dense(X),)
        missing = [name for name in self.names if not isinstance(X, Mapping) or name not in X]
        if missing:
            raise BadValue("X lacks parts that the estimator was fitted on", got=describe(X), expected=str(self.names))
        assert isinstance(X, Mapping)  # or all of them would be missing
        return tuple(dense(X[name]) for name in self.names)


class OfTable:
    """The columns of a table, for an MLP: categories as positions, numbers filled and scaled.

    Args:
        X: What the estimator is fitted on: a frame, an array or a sparse matrix of numbers.

    Raises:
        BadValue: There is a single row, or a column of dates.

    Attributes:
        table: The fitted preparation.
    """

    def __init__(self, X: object) -> None:
        frame = frame_of(X)
        if len(frame) < 2:
            raise BadValue("an MLP with batch norm learns from two rows or more", got=f"n_samples = {len(frame)}")
        conts, cats = (list(frame), []) if isinstance(X, np.ndarray) else split_columns(frame, max_card=0)
        self.table = TabularPandas(frame, [Categorify, FillMissing, Normalize], cats, conts)

    def tensors(self, X: object) -> tuple[Tensor, ...]:
        """Categories [row, column] and numbers [row, column].

        Args:
            X: As for `fit`.
        """
        return tuple(self.table.test_set(frame_of(X)).tensors[:2])

    def module(self, n_out: int, **options: Any) -> nn.Module:
        """An MLP for these columns.

        Args:
            n_out: The number of outputs.
            options: Of `TabularModel`, such as `layers`, [200, 100] by default.
        """
        layers = options.pop("layers", [200, 100])
        return TabularModel(get_emb_sz(self.table), len(self.table.cont_names), n_out, layers, **options)


class ByName(nn.Module):
    """A module that gets its inputs by name.

    Args:
        module: Called as module(**inputs).
        names: The names of the inputs, in the order in which they come.
    """

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.module, self.names = module, list(names)

    def forward(self, *inputs: Tensor) -> Any:
        return self.module(**dict(zip(self.names, inputs, strict=True)))


def unpacked(X: Any, y: Any = None) -> tuple[Any, Any]:
    """The inputs and the targets of a data set of torch, read once; anything else as it is.

    Args:
        X: Inputs, or a data set whose samples are inputs, or pairs of inputs and target.
        y: The targets; by default those of the data set.
    """
    if not isinstance(X, Dataset) or not isinstance(X, Sized):
        return X, y
    batch = default_collate([X[i] for i in range(len(X))])
    if not isinstance(batch, (list, tuple)):
        return batch, y
    if len(batch) != 2:
        raise BadValue("the samples of a data set are inputs, or pairs of inputs and target", got=describe(X[0]))
    return batch[0], batch[1] if y is None else y


def frame_of(X: Any) -> Any:
    """A table as a pandas frame; columns of arrays are called x0, x1, ….

    Args:
        X: An array [row, column], a sparse matrix, or a table of pandas, polars or Arrow.
    """
    if isinstance(X, (np.ndarray, Tensor)) or sparse.issparse(X):
        numbers = dense(X).numpy(force=True)
        return pd.DataFrame(numbers, columns=[f"x{i}" for i in range(numbers.shape[1])])
    return as_frame(X)


def dense(X: Any) -> Tensor:
    """Numbers as a tensor; float64 becomes float32.

    Args:
        X: An array, a tensor, a frame, a sparse matrix or lists.

    Raises:
        BadValue: These are not numbers.
    """
    if sparse.issparse(X):
        X = X.toarray()
    elif not isinstance(X, Tensor):
        X = np.asarray(X)
    if isinstance(X, np.ndarray) and X.dtype.kind not in "biuf":
        try:
            X = X.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise BadValue(
                "the module takes numbers",
                got=describe(X),
                fix="encode the columns first, or leave out module=: the default takes tables with any columns",
            ) from error
    return tensor(X)
