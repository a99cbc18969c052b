"""Names and arguments that will go: they warn for a minor release at least, and a test finds those that should be gone."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import typing_extensions

from layered.foundation.errors import BadArgument, BadValue
from layered.foundation.names import function_name

T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True)
class Deprecation:
    """Something that will be removed.

    Args:
        name: Where it is defined, and its name.
        since: The version that warns first: "0.2".
        removed_in: The version that no longer has it: "0.3".
    """

    name: str
    since: str
    removed_in: str

    def __post_init__(self) -> None:
        if minor(self.since) >= minor(self.removed_in):
            raise BadValue(
                f"{self.name} must warn for a minor release before it is removed",
                got=f"since {self.since}, removed in {self.removed_in}",
            )


deprecations: list[Deprecation] = []


def minor(version: str) -> tuple[int, int]:
    """The major and the minor number of a version.

    Args:
        version: Such as "0.2.1".

    Examples:
        >>> minor("0.2.1")
        (0, 2)
    """
    major, number = version.split(".")[:2]
    return int(major), int(number)


def expired(version: str) -> list[Deprecation]:
    """What a version should no longer have; the tests of the library hold this against its own version.

    Args:
        version: Such as "0.2.1".
    """
    return [deprecation for deprecation in deprecations if minor(deprecation.removed_in) <= minor(version)]


def deprecated(instead: str, *, since: str, removed_in: str) -> Callable[[T], T]:
    """Decorator: a function or class that will be removed warns, at the line that uses it, and says what to write instead.

    Args:
        instead: What to write instead: "use `fit_one_cycle`".
        since: The version that warns first.
        removed_in: The version that no longer has it: a later minor release.

    Raises:
        BadValue: If it would be removed without having warned for a minor release.

    Examples:
        >>> import warnings
        >>> @deprecated("use `new`", since="0.2", removed_in="0.3")
        ... def old(): return 1
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     result = old()
        >>> result, str(caught[0].message)
        (1, 'old will be removed in layered 0.3: use `new`')
        >>> _ = deprecations.pop()
    """

    def mark(item: T) -> T:
        deprecations.append(Deprecation(f"{item.__module__}.{item.__qualname__}", since, removed_in))
        message = f"{function_name(item)} will be removed in layered {removed_in}: {instead}"
        return typing_extensions.deprecated(message, category=FutureWarning)(item)

    return mark


def renamed_argument(old: str, new: str, *, since: str, removed_in: str) -> Callable[[T], T]:
    """Decorator: a function takes an argument by its old name too, with a warning.

    It stands above `checked`, which would refuse the old name.

    Args:
        old: The name that will be refused.
        new: The name in the signature.
        since: The version that warns first.
        removed_in: The version that refuses the old name: a later minor release.

    Raises:
        BadValue: If it would be refused without having warned for a minor release.
        BadArgument: When the function is called with both names.
    """

    def mark(function: T) -> T:
        name = function_name(function)
        deprecations.append(Deprecation(f"{function.__module__}.{function.__qualname__}({old}=)", since, removed_in))

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if old in kwargs:
                if new in kwargs:
                    raise BadArgument(f"{name} got '{new}' under its old name '{old}' too", fix=f"leave out '{old}'")
                message = f"the argument '{old}' of {name} will be refused in layered {removed_in}: use '{new}'"
                warnings.warn(message, FutureWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]  # it is called as `function` is

    return mark
