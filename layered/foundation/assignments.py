"""Which attributes code assigns, read from its bytecode: what may change while an object is used, and what is a setting."""

from __future__ import annotations

import dis
import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from types import CodeType, FunctionType


def is_constant(value: object) -> bool:
    """Whether a value cannot change in place."""
    return value is None or isinstance(value, (bool, int, float, complex, str, bytes, type, FunctionType))


def is_place_or_text(value: object) -> bool:
    """Whether a value may name a file or folder."""
    return isinstance(value, (str, bytes, os.PathLike))


@lru_cache(maxsize=1 << 16)
def assigned_by(code: CodeType) -> frozenset[str]:
    """The attributes that a function assigns, of whatever object; "*" if it also sets some whose names it computes.

    Examples:
        >>> def count(cb): cb.seen += 1
        >>> sorted(assigned_by(count.__code__))
        ['seen']
    """
    names = {step.argval for step in dis.get_instructions(code) if step.opname == "STORE_ATTR"}
    if not {"setattr", "__setattr__", "__dict__", "vars"}.isdisjoint(code.co_names):
        names.add("*")
    inner = (assigned_by(part) for part in code.co_consts if isinstance(part, CodeType))
    return frozenset(names).union(*inner)


def assigned_by_all(functions: Iterable[object]) -> frozenset[str]:
    """The attributes that these functions assign."""
    codes = (function.__code__ for function in functions if isinstance(function, FunctionType))
    return frozenset[str]().union(*map(assigned_by, codes))


def assigned(kind: type, is_open: Callable[[type], bool] | None = None) -> frozenset[str]:
    """The attributes that methods of a class and its bases assign, other than `__init__`.

    Args:
        kind: The class.
        is_open: Which of the bases to look at; None for all.
    """
    methods = (
        function_of(attribute)
        for base in kind.__mro__
        if is_open is None or is_open(base)
        for name, attribute in vars(base).items()
        if name not in ("__init__", "__init_subclass__", "__setattr__", "__getattr__")
    )
    return assigned_by_all(methods)


def function_of(attribute: object) -> object:
    """What an attribute of a class runs: the function of a method, or the getter of a property."""
    if isinstance(attribute, (classmethod, staticmethod)):
        return attribute.__func__
    return attribute.fget if isinstance(attribute, property) else attribute
