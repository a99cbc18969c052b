"""Nested state as data: a JSON tree that refers to tensors by name, and back, exactly."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layered.foundation.errors import BadFile, CannotSave

LONG = 64  # lists of so many floats are kept as a tensor


def pack(tree: Any, tensors: dict[str, Tensor], where: str) -> Any:
    """`tree` as JSON; its tensors go into `tensors`, under names that begin with `where`.

    Holds None, booleans, numbers, strings, lists, tuples, sets, deques, mappings, slices, tensors and NumPy arrays.

    raises     CannotSave naming the place and type of anything else

    >>> store = {}
    >>> pack({"avg": (torch.ones(2), 3)}, store, "opt")
    {'avg': {'$tuple': [{'$tensor': 'opt.avg.0'}, 3]}}
    >>> unpack(_, store)
    {'avg': (tensor([1., 1.]), 3)}
    """
    kind = type(tree)
    if tree is None or kind in (bool, int, float, str):
        return tree
    while where in tensors:
        where += "'"
    if isinstance(tree, Tensor):
        tensors[where] = tree.detach()
        return {"$tensor": where} if tree.device.type == "cpu" else {"$tensor": where, "device": str(tree.device)}
    if kind is list and len(tree) >= LONG and all(type(item) is float for item in tree):
        tensors[where] = torch.tensor(tree, dtype=torch.float64)
        return {"$floats": where}
    if isinstance(tree, np.ndarray) and tree.dtype.kind in "biuf":
        raw = np.frombuffer(np.ascontiguousarray(tree).tobytes(), dtype=np.uint8).copy()
        tensors[where] = torch.from_numpy(raw)
        return {"$array": where, "dtype": tree.dtype.str, "shape": list(tree.shape)}
    if isinstance(tree, np.generic):
        return pack(tree.item(), tensors, where)
    if kind is slice:
        return {"$slice": pack([tree.start, tree.stop, tree.step], tensors, where)}
    if kind is deque:
        return {"$deque": pack([list(tree), tree.maxlen], tensors, where)}
    if kind in (list, tuple, set, frozenset):
        items = [pack(item, tensors, f"{where}.{i}") for i, item in enumerate(tree)]
        return items if kind is list else {f"${kind.__name__}": items}
    if isinstance(tree, Mapping):
        if all(isinstance(key, str) and not key.startswith("$") for key in tree):
            return {key: pack(value, tensors, f"{where}.{key}") for key, value in tree.items()}
        return {
            "$dict": [[pack(k, tensors, f"{where}.key"), pack(v, tensors, f"{where}.{k}")] for k, v in tree.items()]
        }
    raise CannotSave(
        f"{where} cannot be written into a file",
        got=f"{kind.__module__}.{kind.__qualname__}",
        expected="numbers, strings, tensors, and lists, tuples, sets or dicts of these",
        fix="list the attribute in the class's `transient`, or give the class state_dict() and load_state_dict()",
    )


def unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `pack` made of a tree, as the tree.

    raises     BadFile for anything that `pack` does not make
    """
    try:
        return _unpack(packed, tensors, dict(tensors))
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if isinstance(error, BadFile):
            raise
        raise BadFile("the file describes a state that makes no sense", got=f"{error!s:.200}") from error


def _unpack(packed: Any, tensors: Mapping[str, Tensor], unused: dict[str, Tensor]) -> Any:
    """What `pack` made of a tree; numbers are copied out of `unused`, once, so that a few bytes stay few."""
    if isinstance(packed, list):
        return [_unpack(item, tensors, unused) for item in packed]
    if not isinstance(packed, dict):
        return packed
    tag = next(iter(packed), "")
    if not tag.startswith("$"):
        return {key: _unpack(value, tensors, unused) for key, value in packed.items()}
    value = packed[tag]
    if tag == "$tensor":
        device = torch.device(packed.get("device", "cpu"))
        if device.type == "meta":
            raise BadFile("a tensor of the file has no values", got=value)
        return tensors[value].to(device) if device.type != "cuda" or torch.cuda.is_available() else tensors[value]
    if tag == "$floats":
        return unused.pop(value).tolist()
    if tag == "$array":
        dtype = np.dtype(packed["dtype"])
        if dtype.kind not in "biuf":
            raise BadFile("an array of the file is of a type that is no number", got=dtype)
        return np.frombuffer(unused.pop(value).numpy().tobytes(), dtype=dtype).reshape(packed["shape"]).copy()
    if tag == "$dict":
        return {_unpack(k, tensors, unused): _unpack(v, tensors, unused) for k, v in value}
    return _MAKERS[tag](_unpack(value, tensors, unused))


_MAKERS: dict[str, Callable[[Any], Any]] = {
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
    "$slice": lambda parts: slice(*parts),
    "$deque": lambda parts: deque(*parts),
}
