"""Misspelt keywords are refused, with the name that was meant; whole numbers are those of any library."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable
from functools import cache
from typing import Any, ParamSpec, TypeVar

import numpy as np

from layered.foundation.errors import refuse_unknown

P = ParamSpec("P")
R = TypeVar("R")


@cache
def names_of(function: Callable[..., Any]) -> frozenset[str]:
    """The names of the parameters that can be passed by keyword.

    Args:
        function: A function, a method or a class.
    """
    parameters = inspect.signature(function).parameters.values()
    by_keyword = (p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    return frozenset(by_keyword) - {"self", "cls"}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: unknown keywords raise BadArgument (a TypeError) with the nearest name, before anything runs.

    Args:
        function: What is decorated; its signature says which keywords exist.

    Examples:
        >>> @checked
        ... def greet(name, punctuation="!"): return name + punctuation
        >>> greet("a", punctation="?")
        Traceback (most recent call last):
        layered.foundation.errors.BadArgument: greet got an unknown argument 'punctation'
          expected name, punctuation
          fix      did you mean 'punctuation'?
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs and not names_of(function) >= kwargs.keys():
            known = names_of(function) - {"loop"}  # the learner itself, where a function is one of its verbs
            refuse_unknown(kwargs, known, _called(function, args))
        return function(*args, **kwargs)

    return call


def whole_number(value: object) -> int | None:
    """A whole number as Python's `int`; None for anything else, and for booleans.

    Args:
        value: Python's, NumPy's, or a tensor of one.

    Examples:
        >>> import numpy as np
        >>> whole_number(np.int64(3)), whole_number(3.0), whole_number(True), whole_number("3")
        (3, None, None, None)
    """
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]  # asks the value itself
    except TypeError:
        return None


def _called(function: Callable[..., object], args: tuple[object, ...]) -> str:
    """What the user called: `Learner` rather than the base class whose constructor it inherits, `DataLoader.new` for a method."""
    name = function.__name__
    first = next(iter(inspect.signature(function).parameters), None)
    if first not in ("self", "cls") or not args:
        return name
    owner = args[0] if isinstance(args[0], type) else type(args[0])
    return owner.__name__ if name == "__init__" else f"{owner.__name__}.{name}"
