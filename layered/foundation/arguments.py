"""A misspelt keyword is refused with the name that was meant."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, ParamSpec, TypeVar

from layered.foundation.errors import refuse_unknown

P = ParamSpec("P")
R = TypeVar("R")


@cache
def names_of(function: Callable[..., Any]) -> frozenset[str]:
    """The names of the parameters that `function` takes by keyword."""
    parameters = inspect.signature(function).parameters.values()
    by_keyword = (p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    return frozenset(by_keyword) - {"self", "cls"}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: unknown keywords raise BadArgument (a TypeError) with the nearest name, before anything runs.

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
        if kwargs and not known() >= kwargs.keys():
            refuse_unknown(kwargs, known(), function.__qualname__.removesuffix(".__init__"))
        return function(*args, **kwargs)

    def known() -> frozenset[str]:
        return names_of(function)

    return call
