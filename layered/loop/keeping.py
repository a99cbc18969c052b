"""What a checkpoint keeps of the attributes of a callback: whether they have changed, and how they are put back."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import islice
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from layered.foundation.errors import BadFile
from layered.loop.state import State

HIDDEN = ("_learn", "_as_made", "_event_functions")  # attributes of a callback that are no state of its own
MARKED = 1000  # items of a collection, and bytes of an array, that `mark` looks at


def is_constant(value: Any) -> bool:
    """Whether a value cannot change in place."""
    return value is None or isinstance(value, (bool, int, float, complex, str, bytes, type, FunctionType))


def mark(value: Any, depth: int = 3, inside: bool = False) -> Any:
    """A summary of a value by which to see whether it has changed in place: of its numbers, texts, tensors and collections.

    Of an object of another kind, which object it is, and a summary of its attributes; `inside` those, which object alone.
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
    if inside or isinstance(value, State) or hasattr(value, "load_state_dict"):
        return id(value)
    return id(value), mark(getattr(value, "__dict__", None), depth, inside=True)


_CONTENTS = ((str,), (Mapping,), (set, frozenset), (list, tuple, deque, Tensor, np.ndarray))


def check_state(cb: Any, name: Any, value: Any) -> None:
    """Refuse a name that is no attribute to set, and another kind of content than a collection or a text that is there.

    raises     BadFile
    """
    there = getattr(type(cb), name, None) if isinstance(name, str) else None
    is_of_class = callable(there) or isinstance(there, property)
    old = vars(cb).get(name)
    is_number = isinstance(old, (int, float)) and isinstance(value, (Mapping, set, frozenset))
    kind = next((kinds for kinds in _CONTENTS if isinstance(old, kinds)), None)
    fits = kind is None or value is None or isinstance(value, kind) or hasattr(old, "load_state_dict")
    if not isinstance(name, str) or not name.isidentifier() or name in HIDDEN or is_of_class or is_number or not fits:
        raise BadFile(
            f"the file has a state that {type(cb).__name__} cannot have",
            got=f"{name} of type {type(value).__name__}"[:200],
        )


def put_back(old: Any, new: Any) -> Any:
    """`new`; but a parameter that is there stays, and gets the values: a model or an optimizer has it too."""
    if isinstance(old, nn.Parameter) and isinstance(new, Tensor) and old.shape == new.shape:
        with torch.no_grad():
            old.copy_(new)
        return old
    if type(old) is type(new) and isinstance(new, (list, tuple)) and len(old) == len(new):
        return type(new)(map(put_back, old, new))
    if type(old) is type(new) is dict:
        return {name: put_back(old.get(name), value) for name, value in new.items()}
    return new
