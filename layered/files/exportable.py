"""Names for what users define, and versions of what a file describes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from layered.foundation import (
    BadArgument,
    BadFile,
    NewerFormat,
    Recorded,
    Registry,
    Transform,
    builders,
    functions,
    losses,
    modules,
    transforms,
)


def exportable(name: str, *, builds_model: bool = False) -> Callable[[Any], Any]:
    """Give your function, or your class of transforms, modules or losses, a name that exported files may mention.

    Args:
        name: Unique, best with a prefix of yours; the loading side must import the same definition first.
        builds_model: The function is a model builder: `vision_learner(dls, function)` then exports how to build the
            model.

    Raises:
        BadArgument: For a lambda, a function inside a function, or something that is neither.

    Examples:
        >>> @exportable("tutorial.halve")
        ... def halve(x):
        ...     return x / 2
        >>> functions.get("tutorial.halve")(4)
        2.0
    """

    def add(item: Any) -> Any:
        for registry in _registries_for(item, builds_model):
            registry.add(name, item)
        return item

    return add


def _registries_for(item: Any, builds_model: bool) -> list[Registry[Any]]:
    if isinstance(item, type):
        if issubclass(item, Transform):
            return [transforms]
        if issubclass(item, nn.Module):
            return [modules, losses]
        if issubclass(item, Recorded):
            return [losses]
    elif inspect.isroutine(item):
        inner = "<locals>" in item.__qualname__
        if item.__name__ != "<lambda>" and not inner:
            return [builders if builds_model else functions]
        raise BadArgument(
            f"{item.__qualname__} cannot be found again where the file is loaded",
            expected="a def or class at the top of a module or notebook cell",
            fix="move it out of the function" if inner else "write it as a def",
        )
    raise BadArgument(
        "this cannot be named in a file",
        got=repr(item)[:200],
        expected="a function, or a class that derives from Transform, Module or BaseLoss",
    )


def version_of(kind: object) -> int:
    """The version of the description that a class or function writes: its attribute `version`, or 1."""
    version: int = getattr(kind, "version", 1)
    return version


def upgraded(kind: Any, name: str, version: object, *parts: Any) -> tuple[Any, ...]:
    """The description of an object in a file, brought to the present version of its class.

    A class whose description has changed sets `version = 2` and defines the class method `upgrade(version, *parts)`,
    which returns the parts as the present version has them.

    Args:
        kind: The class, or the builder of a model.
        name: The registered name, for the error.
        version: What the file says.
        parts: `args` and `fitted` for transforms and losses, `args` for everything else.

    Returns:
        As many parts as were given.

    Raises:
        NewerFormat: The file has a later version than the class.
        BadFile: The version is invalid, or the class cannot upgrade it.
    """
    own = version_of(kind)
    if version == own:
        return parts
    if type(version) is not int or version < 1 or (version < own and not hasattr(kind, "upgrade")):
        raise BadFile(f"'{name}' in the file has a version that cannot be read", got=version, expected=own)
    if version > own:
        raise NewerFormat(
            f"'{name}' in the file was written by a newer version of it",
            got=f"version {version}",
            expected=f"at most {own}",
            fix="update the package that defines it",
        )
    return tuple(kind.upgrade(version, *parts))
