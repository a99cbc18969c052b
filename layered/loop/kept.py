"""What a checkpoint keeps of a callback: which attributes are its state, of which kinds, and whether they have changed."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import islice
from types import UnionType
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

import numpy as np
import torch
from torch import Tensor, nn

from layered.foundation import Stateful, is_constant, leaves, own_vars
from layered.loop.state import State

MARKED = 1000  # how many items of a collection, or bytes of an array, `mark` looks at


def mark(value: object, depth: int = 3, inside: bool = False) -> Any:
    """A summary of a value that differs once the value was changed in place.

    Numbers, strings, tensors and collections are summarised by content, other objects by identity and their attributes.

    Args:
        value: Anything.
        depth: How many levels of collections to look into.
        inside: The value is an attribute of such an object: only its identity counts.
    """
    if is_constant(value):
        return value if value == value else "nan"
    if isinstance(value, Tensor):
        return id(value), value._version
    if isinstance(value, np.ndarray):
        return id(value), value.tobytes() if value.nbytes < MARKED else None
    if depth and isinstance(value, (list, tuple, set, frozenset, deque)):
        return len(value), tuple(mark(part, depth - 1, inside) for part in islice(value, MARKED))
    if depth and isinstance(value, Mapping):
        return len(value), tuple((mark(k, 0), mark(v, depth - 1, inside)) for k, v in islice(value.items(), MARKED))
    if inside or isinstance(value, (State, Stateful)):
        return id(value)
    return id(value), mark(own_vars(value), depth, inside=True)


# -- kinds: what a class declares of its state


def _has_no_text(value: object) -> bool:
    return not any(isinstance(leaf, (str, bytes)) for leaf in leaves(value))


Count: TypeAlias = Annotated[int, lambda n: n >= 0]
"""A whole number from 0."""
Amount: TypeAlias = Annotated[float, lambda x: 0 <= x < float("inf")]
"""A finite number from 0."""
Numbers: TypeAlias = Annotated[Any, _has_no_text]
"""Numbers and tensors in any nesting: anything but text."""


def fits(value: object, kind: Any) -> bool:
    """Whether a value is of a declared kind: a type, a union, a list, dict or tuple of kinds, or one of the above.

    Args:
        value: A value read from a file.
        kind: Such as `list[tuple[float, Count]] | None`.

    Examples:
        >>> fits([0.5, 1], list[float]), fits([0.5, "1"], list[float]), fits(-1, Count), fits(None, float | None)
        (True, False, False, True)
    """
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if kind is float:
        return type(value) in (int, float)
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in args)
    if origin is Annotated:
        return fits(value, args[0]) and bool(args[1](value))
    if origin is list:
        return type(value) is list and all(fits(part, args[0]) for part in value)
    if origin is dict:
        return type(value) is dict and all(fits(k, args[0]) and fits(v, args[1]) for k, v in value.items())
    if origin is tuple:
        return type(value) is tuple and len(value) == len(args) and all(map(fits, value, args))
    return type(value) is kind


Kinds: TypeAlias = tuple[tuple[str, Any], ...]
"""Attributes with their kinds."""

_CONTENTS = ((str,), (Mapping,), (set, frozenset), (list, tuple, deque, Tensor, np.ndarray))


def alike(old: object, new: object) -> bool:
    """Whether `new` may take the place of `old` in a class that declares nothing.

    Collections, text and numbers stay what they are; an object with a state of its own gets parts of that state.
    """
    if isinstance(old, Stateful):
        own = old.state_dict()
        return isinstance(new, Mapping) and all(name in own and alike(own[name], new[name]) for name in new)
    if isinstance(old, (int, float)) and isinstance(new, (Mapping, set, frozenset)):
        return False
    kind = next((kinds for kinds in _CONTENTS if isinstance(old, kinds)), None)
    return kind is None or new is None or isinstance(new, kind)


def restored_value(old: object, new: object) -> object:
    """`new`; but an existing parameter stays and gets the values, because a model or an optimizer holds it too."""
    if isinstance(old, nn.Parameter) and isinstance(new, Tensor) and old.shape == new.shape:
        with torch.no_grad():
            old.copy_(new)
        return old
    if (
        isinstance(old, (list, tuple))
        and isinstance(new, (list, tuple))
        and type(old) is type(new)
        and len(old) == len(new)
    ):
        return type(new)(map(restored_value, old, new))
    if isinstance(old, dict) and isinstance(new, dict) and type(old) is type(new) is dict:
        return {name: restored_value(old.get(name), value) for name, value in new.items()}
    return new
