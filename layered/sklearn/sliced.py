"""Inputs that scikit-learn can take rows of: dicts of arrays, and data sets of torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from torch.utils.data import Dataset

from layered.foundation import BadValue


class SliceDict(dict[str, Any]):
    """A dict of arrays whose length is that of the arrays, and of which rows can be taken: for searches and cross-validation.

    Args:
        arrays: By name, with a row for each item.

    Raises:
        BadValue: They differ in length.

    Examples:
        >>> X = SliceDict(a=np.arange(4), b=np.zeros((4, 2)))
        >>> len(X), X["a"][1:3], X[1:3]["b"].shape
        (4, array([1, 2]), (2, 2))
    """

    def __init__(self, **arrays: Any) -> None:
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise BadValue("the arrays of a SliceDict differ in length", got=lengths)
        super().__init__(**arrays)

    @property
    def shape(self) -> tuple[int]:
        """The number of items."""
        return (len(self),)

    def __len__(self) -> int:
        return len(next(iter(self.values()))) if self.keys() else 0

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return super().__getitem__(key)
        rows = _rows(key)
        return SliceDict(**{name: array[rows] for name, array in self.items()})


class SliceDataset(Sequence[Any]):
    """One part of the samples of a data set, of which rows can be taken: `SliceDataset(ds, 0)` as X, `SliceDataset(ds, 1)` as y.

    Args:
        dataset: A data set of torch with samples by position.
        idx: Which part of its samples.
        indices: The positions of the samples; by default all.

    Examples:
        >>> from torch.utils.data import TensorDataset; import torch
        >>> y = SliceDataset(TensorDataset(torch.zeros(4, 2), torch.arange(4)), 1)
        >>> len(y), np.asarray(y[1:3])
        (4, array([1, 2]))
    """

    def __init__(self, dataset: Dataset[Any], idx: int = 0, indices: Sequence[int] | None = None) -> None:
        self.dataset, self.idx = dataset, idx
        self.indices = np.arange(len(dataset)) if indices is None else np.asarray(indices)  # type: ignore[arg-type]  # is sized

    @property
    def shape(self) -> tuple[int]:
        """The number of items."""
        return (len(self),)

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, key: int) -> Any: ...
    @overload
    def __getitem__(self, key: slice) -> SliceDataset: ...
    def __getitem__(self, key: Any) -> Any:
        chosen = self.indices[_rows(key)]
        if np.ndim(chosen):
            return SliceDataset(self.dataset, self.idx, chosen)
        return self.dataset[int(chosen)][self.idx]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.asarray(np.stack([np.asarray(o) for o in self]), dtype=dtype)


def _rows(key: Any) -> Any:
    """What scikit-learn asks for as array[rows, ...]."""
    return key[0] if isinstance(key, tuple) else key
