"""Nested state as data: a JSON tree that refers to tensors by name, and back, exactly."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layered.files.bounded import plain_key
from layered.foundation import BadFile, CannotSave

LONG = 64  # lists of so many floats, or tensors of one shape, are kept as one tensor

_TABLES = (dict, OrderedDict, MappingProxyType)  # all come back as a dict
_FACTORIES = {kind.__name__: kind for kind in (list, dict, set, int, float, str)}


def pack(tree: Any, tensors: dict[str, Tensor], where: str) -> Any:
    """`tree` as JSON; its tensors go into `tensors`, under names that begin with `where`.

    Holds None, booleans, numbers, strings, lists, tuples, sets, deques, dicts, counters, slices, dense tensors and NumPy arrays;
    a defaultdict of these where what it begins with is a list, a dict, a set, a number or a string.

    Raises:
        CannotSave: Naming the place and type of anything else.

    Examples:
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
    if isinstance(tree, Tensor) and tree.layout is torch.strided:
        tensors[where] = tree.detach()
        return {"$tensor": where} if tree.device.type == "cpu" else {"$tensor": where, "device": str(tree.device)}
    if kind is list and len(tree) >= LONG and all(type(item) is float for item in tree):
        tensors[where] = torch.tensor(tree, dtype=torch.float64)
        return {"$floats": where}
    if kind is list and len(tree) >= LONG and _form(tree[0]) and len(set(map(_form, tree))) == 1:
        return {"$stack": pack(torch.stack([item.detach() for item in tree]), tensors, where)}
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
    if kind in (set, frozenset, *_TABLES, Counter, defaultdict):
        _check_keys(tree, where)
    if kind in (list, tuple, set, frozenset):
        items = [pack(item, tensors, f"{where}.{i}") for i, item in enumerate(tree)]
        return items if kind is list else {f"${kind.__name__}": items}
    if kind is Counter:
        return {"$counter": pack(dict(tree), tensors, where)}
    if kind is defaultdict and (tree.default_factory is None or tree.default_factory in _FACTORIES.values()):
        return {"$defaultdict": [getattr(tree.default_factory, "__name__", None), pack(dict(tree), tensors, where)]}
    if kind in _TABLES:
        if all(isinstance(key, str) and not key.startswith("$") for key in tree):
            return {key: pack(value, tensors, f"{where}.{key}") for key, value in tree.items()}
        return {
            "$dict": [[pack(k, tensors, f"{where}.key"), pack(v, tensors, f"{where}.{k}")] for k, v in tree.items()]
        }
    raise CannotSave(
        f"{where} cannot be written into a file",
        got=f"{kind.__module__}.{kind.__qualname__}",
        expected="numbers, strings, dense tensors, and lists, tuples, sets or dicts of these",
        fix="list the attribute in the class's `transient`, or give the class state_dict() and load_state_dict()",
    )


def _check_keys(keys: Any, where: str) -> None:
    """Refuse keys that would not be read again: see `plain_key`."""
    for key in keys:
        try:
            plain_key(key)
        except TypeError as error:
            raise CannotSave(f"{where} cannot be written into a file", got=f"{key!r:.100}: {error}") from error


def _form(item: Any) -> tuple[Any, ...] | None:
    """What has to be the same of tensors that are kept as one; None for anything else."""
    return (item.shape, item.dtype, item.device) if type(item) is Tensor and item.layout is torch.strided else None


def unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `pack` made of a tree, as the tree.

    Raises:
        BadFile: For anything that `pack` does not make.
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
        x = tensors[value]
        device = packed.get("device", "cpu")  # only of kinds that are known here: torch imports others by their name
        return x.to(device) if re.fullmatch(r"cuda(:\d+)?", device) and torch.cuda.is_available() else x
    if tag == "$floats":
        return unused.pop(value).tolist()
    if tag == "$array":
        dtype = np.dtype(packed["dtype"])
        if dtype.kind not in "biuf":
            raise BadFile("an array of the file is of a type that is no number", got=dtype)
        return np.frombuffer(unused.pop(value).numpy().tobytes(), dtype=dtype).reshape(packed["shape"]).copy()
    if tag == "$dict":
        return {plain_key(_unpack(k, tensors, unused)): _unpack(v, tensors, unused) for k, v in value}
    return _MAKERS[tag](_unpack(value, tensors, unused))


_MAKERS: dict[str, Callable[[Any], Any]] = {
    "$tuple": tuple,
    "$set": lambda items: set(map(plain_key, items)),
    "$frozenset": lambda items: frozenset(map(plain_key, items)),
    "$slice": lambda parts: slice(*parts),
    "$deque": lambda parts: deque(*parts),
    "$counter": Counter,
    "$defaultdict": lambda parts: defaultdict(None if parts[0] is None else _FACTORIES[parts[0]], parts[1]),
    "$stack": lambda stacked: [x.clone() for x in stacked],
}
