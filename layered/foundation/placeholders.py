"""`Self`: a short way to write a function of one object, `Self.parent.name()` for `lambda o: o.parent.name`."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any


class _Chain:
    """Attributes, items and calls to apply in order. A chain that ends in a call or an item is a function."""

    def __init__(self, steps: tuple[Callable[[Any], Any], ...] = (), is_open: bool = True) -> None:
        self._steps, self._is_open = steps, is_open

    def __getattr__(self, name: str) -> _Chain:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Chain((*self._steps, operator.attrgetter(name)))

    def __getitem__(self, i: Any) -> _Chain:
        return _Chain((*self._steps, operator.itemgetter(i)), is_open=False)

    def __invert__(self) -> _Chain:
        return _Chain(self._steps, is_open=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._is_open:
            return _Chain((*self._steps, lambda o: _called(o, *args, **kwargs)), is_open=False)
        (o,) = args
        for step in self._steps:
            o = step(o)
        return o


def _called(o: Any, *args: Any, **kwargs: Any) -> Any:
    """`o(...)`; an attribute that is no method stands for itself, so that `Self.name()` works for both."""
    return o(*args, **kwargs) if args or kwargs or callable(o) else o


Self = _Chain()
"""Write what is to be done with an object, and close with a call (or with `~` before it):

>>> from pathlib import PurePosixPath as Path
>>> list(map(Self.parent.name(), [Path("cat/1.jpg")])), list(map(~Self.suffix, [Path("cat/1.jpg")]))
(['cat'], ['.jpg'])
>>> list(map(Self.split("_")[0].upper(), ["a_1"]))
['A']
"""
