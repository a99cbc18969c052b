"""Numbers that steps and callbacks log by name: they wait, on their device, for the row of the epoch to take their means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Logged: TypeAlias = dict[str, list[Any]]
"""The numbers since the last row, by name, in the order of their first ones."""


def settle(logged: Mapping[str, list[Any]]) -> None:
    """Read the numbers that are still on a device.

    Args:
        logged: The numbers by name; they are replaced in place.
    """
    for numbers in logged.values():
        numbers[:] = map(float, numbers)


def take_means(logged: Mapping[str, list[Any]]) -> dict[str, float]:
    """The means of the numbers, which are then gone; a name without any has none.

    Args:
        logged: The numbers by name.

    Examples:
        >>> numbers = {"norm": [1.0, 3.0], "size": []}
        >>> take_means(numbers), take_means(numbers)
        ({'norm': 2.0}, {})
    """
    settle(logged)
    means = {name: sum(numbers) / len(numbers) for name, numbers in logged.items() if numbers}
    for numbers in logged.values():
        numbers.clear()
    return means
