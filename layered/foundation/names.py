"""What classes and functions are called in messages, tables and attributes."""

from __future__ import annotations

import functools
import re

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
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))
