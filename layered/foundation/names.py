"""What classes and functions are called in messages, tables and attributes."""

from __future__ import annotations

import functools
import re
from typing import Any

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def snake_case(name: str) -> str:
    """A CamelCase name in snake_case; a run of capitals is one word.

    Args:
        name: The name of a class.

    Examples:
        >>> snake_case("MixUp"), snake_case("CSVLogger"), snake_case("F1Score")
        ('mix_up', 'csv_logger', 'f1_score')
    """
    return _WORD_START.sub("_", name).lower()


def function_name(function: object) -> str:
    """The `__name__` of a function or class, also inside `functools.partial`; of any other object, its class's.

    Args:
        function: A function, a class, or an object that is called like one.

    Examples:
        >>> function_name(len), function_name(functools.partial(len)), function_name(functools.cmp_to_key)
        ('len', 'len', 'cmp_to_key')
    """
    function = innermost(function)
    return str(getattr(function, "__name__", type(function).__name__))


def innermost(function: Any) -> Any:
    """The function inside any number of `functools.partial`; anything else unchanged.

    Args:
        function: A function, or a partial of one.

    Examples:
        >>> innermost(functools.partial(functools.partial(max, 1), 2)) is max
        True
    """
    while isinstance(function, functools.partial):
        function = function.func
    return function
