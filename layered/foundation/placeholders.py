"""`Self`: short functions of one object, `Self.parent.name()` for `lambda o: o.parent.name`."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any


class _Chain:
    """Steps to apply to an object in order. A chain that ends in a call or an index is complete: a function."""

    def __init__(self, steps: tuple[Callable[[Any], Any], ...] = (), is_open: bool = True) -> None:
        self._steps, self._is_open = steps, is_open

    def __getattr__(self, name: str) -> _Chain:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Chain((*self._steps, operator.attrgetter(name)))

    def __getitem__(self, i: object) -> _Chain:
        return _Chain((*self._steps, operator.itemgetter(i)), is_open=False)

    def __invert__(self) -> _Chain:
        return _Chain(self._steps, is_open=False)

    def __call__(self, *args: object, **kwargs: object) -> Any:
        if self._is_open:
            return _Chain((*self._steps, lambda o: _called(o, *args, **kwargs)), is_open=False)
        (o,) = args
        for step in self._steps:
            o = step(o)
        return o


def _called(o: Any, *args: object, **kwargs: object) -> Any:
    """Call a method; an attribute that is not callable is returned, so that `Self.name()` works for both."""
    return o(*args, **kwargs) if args or kwargs or callable(o) else o


Self = _Chain()
"""Write what to do with an object, and end with a call (or put `~` in front):

>>> from pathlib import PurePosixPath as Path
>>> list(map(Self.parent.name(), [Path("cat/1.jpg")])), list(map(~Self.suffix, [Path("cat/1.jpg")]))
(['cat'], ['.jpg'])
>>> list(map(Self.split("_")[0].upper(), ["a_1"]))
['A']
"""
