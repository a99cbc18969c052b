"""Pipelines as data: each transform as its registered kind, its constructor arguments and what it fitted, and back."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from layered.data import CategoryMap
from layered.files import pack, plain_key, unpack, upgraded
from layered.foundation import (
    BadFile,
    CannotSave,
    L,
    LayeredError,
    NotExportable,
    Pipeline,
    Recorded,
    Registry,
    Transform,
    functions,
    losses,
    transforms,
)
from layered.nn import constructor_args

DECORATOR = "@exportable('my.%s')"
MAX_PARTS = 10_000  # transforms, losses, vocabularies, …
FEW = 100  # labels that may well have the same hash
RECORDED: dict[str, Registry[Any]] = {"transform": transforms, "loss": losses}


def describe_data(value: Any, tensors: dict[str, Tensor], where: str) -> Any:
    """`value` as JSON: plain data, and registered transforms, losses, functions and vocabularies by name.

    Args:
        tensors: Gets the tensors found, under names that begin with `where`.

    Raises:
        NotExportable: Naming what cannot be written, with the way to register it.
    """
    try:
        return pack(_named(value, where), tensors, where)
    except CannotSave as error:
        raise NotExportable(error.problem, got=error.got, fix="give plain data, or a registered function") from error


def rebuild_data(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `describe` made of a value, as the value; every name is looked up in a registry.

    Raises:
        UnknownName: For a kind that nobody registered in this process.
    """
    try:
        described = unpack(packed, tensors)
        if _parts(described) > MAX_PARTS:
            raise BadFile("the description of a pipeline has far too many parts", expected=f"at most {MAX_PARTS}")
        return _built(described)
    except LayeredError:
        raise
    except Exception as error:  # constructors of any kind, called with what the file says
        raise BadFile(
            "the description of a pipeline does not make sense", got=f"{type(error).__name__}: {error}"
        ) from error


def _named(value: Any, where: str) -> Any:
    """Objects replaced by mappings that say what they are."""
    if isinstance(value, Pipeline):
        return {"@": "pipeline", "steps": [_named(step, f"{where}[{i}]") for i, step in enumerate(value)]}
    if isinstance(value, CategoryMap):
        return {"@": "vocab", "items": value.items[value.add_na :], "add_na": value.add_na}
    if isinstance(value, (Recorded, nn.Module)):
        return _recorded(value, where)
    if isinstance(value, enum.Enum):
        return _named(value.value, where)
    if isinstance(value, L):
        return [_named(item, where) for item in value]
    if isinstance(value, (list, tuple)):
        return type(value)(_named(item, where) for item in value)
    if isinstance(value, dict):
        return {key: _named(item, where) for key, item in value.items()}
    if inspect.isroutine(value) or isinstance(value, type) or callable(value):
        name = functions.name_of(value)
        if name is None:
            raise not_registered(value, where)
        return {"@": "function", "name": name}
    return value


def _recorded(value: Recorded | nn.Module, where: str) -> dict[str, Any]:
    if isinstance(value, Transform) and value.enc is not None:
        if type(value) is not Transform or value.dec is not None:
            raise not_registered(value.enc, where)
        return {
            "@": "function_transform",
            "function": _named(value.enc, where),
            "order": value.order,
            "split_idx": value.split_idx,
        }
    for kind, registry in RECORDED.items():
        name = registry.name_of(type(value))
        if name is not None:
            place = f"{where} ({name})"
            args = constructor_args(value, place) if isinstance(value, nn.Module) else value.init_args
            return {
                "@": kind,
                "kind": name,
                "version": getattr(type(value), "version", 1),
                "args": {k: _named(v, place) for k, v in args.items()},
                "fitted": {k: _named(getattr(value, k), place) for k in getattr(value, "fits", ())},
            }
    raise not_registered(value, where)


def not_registered(value: Any, where: str) -> NotExportable:
    """The error for a class or function that a file has no name for."""
    item = value if inspect.isroutine(value) or isinstance(value, type) else type(value)
    name = getattr(item, "__name__", repr(item))
    what = "class" if isinstance(item, type) else "function"
    if name == "<lambda>":
        recipe = f"make the lambda a def, with {DECORATOR % 'name'} above it"
    elif "<locals>" in getattr(item, "__qualname__", ""):
        recipe = f"move {name} out of the function that it is defined in, with {DECORATOR % name} above it"
    else:
        above = f"{'class' if what == 'class' else 'def'} {name}"
        recipe = f"from layered.basics import exportable; then {DECORATOR % name} above {above}"
    return NotExportable(
        f"{where} uses {name}, which a file cannot name",
        got=f"{what} {getattr(item, '__module__', '')}.{getattr(item, '__qualname__', name)}",
        expected="a class or function that is registered, here and where the file is loaded",
        fix=recipe,
    )


def _parts(value: Any) -> int:
    """How many objects a description holds."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return (isinstance(value, dict) and "@" in value) + sum(map(_parts, items))


def _built(value: Any) -> Any:
    """Mappings that say what they are replaced by the objects; what may be labels, to be hashed, is looked at first."""
    if isinstance(value, (list, tuple)):
        if len(value) > FEW:
            for item in value:
                if isinstance(item, (int, tuple, frozenset, slice)):
                    plain_key(item)
        return type(value)(_built(item) for item in value)
    if not isinstance(value, dict):
        return value
    if "@" not in value:
        return {key: _built(item) for key, item in value.items()}
    match value:
        case {"@": "pipeline", "steps": list(steps)}:
            return Pipeline([_built(step) for step in steps])
        case {"@": "vocab", "items": list(items), "add_na": bool(add_na)}:
            return CategoryMap(_built(items), sort=False, add_na=add_na)
        case {"@": "function", "name": str(name)}:
            return functions.get(name)
        case {"@": "function_transform", "function": function, "order": order, "split_idx": split_idx}:
            return Transform(_built(function), order=order, split_idx=split_idx)
        case {"@": str(kind), "kind": str(name), "args": dict(args), "fitted": dict(fitted)} if kind in RECORDED:
            cls = RECORDED[kind].get(name)
            return _build_recorded(cls, *upgraded(cls, name, value.get("version"), args, fitted))
    kind = value["@"]
    raise BadFile(
        "a file describes something that this library does not know, or not in this form",
        got=kind if isinstance(kind, str) else type(kind).__name__,
    )


def _build_recorded(cls: Any, args: dict[str, Any], fitted: dict[str, Any]) -> Any:
    built = {k: _built(v) for k, v in args.items()}
    res = cls.from_init_args(built) if issubclass(cls, Recorded) else cls(**built)
    unknown = set(fitted) - set(getattr(cls, "fits", ()))
    if unknown:
        raise BadFile(f"{cls.__name__} does not fit {', '.join(sorted(unknown))}")
    for name, value in fitted.items():
        setattr(res, name, _built(value))
    return res
