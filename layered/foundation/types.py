"""Types that many signatures share, and the predicates that tell apart what Python's own classes do not."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Protocol, TypeAlias, TypeGuard, TypeVar

import numpy as np
import torch

S = TypeVar("S", bound="tuple[Any, ...] | list[Any]")

StrPath: TypeAlias = str | os.PathLike[str]
"""A file or folder, as text or as any path object."""

Device: TypeAlias = torch.device | str | int
"""Where tensors live, as torch accepts it: `torch.device("cuda", 1)`, "cuda:1" or 1."""

Array: TypeAlias = np.ndarray[Any, Any]
"""A NumPy array of any shape and dtype."""


class Frame(Protocol):
    """What is read by position through `iloc`: a pandas Series or DataFrame, or an object that behaves like one."""

    @property
    def iloc(self) -> Any:
        """Rows by position: one for an integer, a frame of several for a slice, a list or a mask."""

    @property
    def index(self) -> Any:
        """The labels of the rows."""

    def __len__(self) -> int: ...


def is_frame(o: object) -> TypeGuard[Frame]:
    """Whether `o` is read by position through `iloc`, as pandas' Series and DataFrames are; pandas is not imported.

    Args:
        o: Anything.

    Examples:
        >>> import pandas as pd
        >>> is_frame(pd.Series([1, 2])), is_frame([1, 2])
        (True, False)
    """
    return hasattr(o, "iloc")


def is_array_like(o: object) -> bool:
    """Whether `o` turns into a NumPy array by itself, as arrays, tensors, Series and frames do.

    Args:
        o: Anything.

    Examples:
        >>> is_array_like(torch.ones(2)), is_array_like([1.0, 1.0])
        (True, False)
    """
    return hasattr(o, "__array__")


def is_named_tuple(o: object) -> TypeGuard[tuple[Any, ...]]:
    """Whether `o` is a named tuple, whose class takes one argument per field where `tuple` takes an iterable.

    Args:
        o: Anything.

    Examples:
        >>> from collections import namedtuple
        >>> is_named_tuple(namedtuple("Point", "x y")(1, 2)), is_named_tuple((1, 2))
        (True, False)
    """
    return isinstance(o, tuple) and hasattr(o, "_fields")


def with_elements(sample: S, elements: Iterable[Any]) -> S:
    """A tuple or list of the same class with other elements; also where it is a named tuple.

    Args:
        sample: The tuple or list.
        elements: Its new elements.

    Examples:
        >>> with_elements((1, 2), [3, 4]), with_elements([1, 2], (3, 4))
        ((3, 4), [3, 4])
    """
    return type(sample)(*elements) if is_named_tuple(sample) else type(sample)(elements)  # type: ignore[return-value]
