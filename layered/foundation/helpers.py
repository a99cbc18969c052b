"""Small functions under the names that course material uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, TypeVar

T = TypeVar("T")

defaults = SimpleNamespace()


def noop(x: Any = None, *args: Any, **kwargs: Any) -> Any:
    """`x`, unchanged."""
    return x


def true(*args: Any, **kwargs: Any) -> bool:
    """True, whatever it is given."""
    return True


def ifnone(a: T | None, b: T) -> T:
    """`b` if `a` is None, else `a`."""
    return b if a is None else a


def first(x: Iterable[Any], f: Callable[[Any], Any] | None = None) -> Any:
    """The first item of `x` (for which `f` holds), or None.

    >>> first([1, 2, 3], lambda n: n > 1)
    2
    """
    return next((o for o in x if f is None or f(o)), None)


def range_of(x: Any) -> list[int]:
    """The positions of a collection, or of a number of items.

    >>> range_of("abc")
    [0, 1, 2]
    """
    return list(range(x if isinstance(x, int) else len(x)))


def listify(o: Any) -> list[Any]:
    """A list of `o`: empty for None, its items for a list-like, else `[o]`."""
    if o is None:
        return []
    if isinstance(o, (str, bytes)) or hasattr(o, "__array__"):
        return [o]
    return list(o) if isinstance(o, Iterable) and not hasattr(o, "keys") else [o]


def using_attr(f: Callable[[Any], Any], attr: str) -> Callable[[Any], Any]:
    """A function of an object that applies `f` to its attribute `attr`.

    >>> using_attr(str.upper, "name")(SimpleNamespace(name="a"))
    'A'
    """

    def on_attribute(o: Any) -> Any:
        return f(getattr(o, attr))

    return on_attribute


class fastuple(tuple[Any, ...]):
    """A tuple with elementwise arithmetic, used for sizes and samples.

    >>> fastuple(2, 3) * 2, fastuple((4, 6)) // (2, 3)
    ((4, 6), (2, 2))
    """

    def __new__(cls, x: Any = None, *rest: Any) -> fastuple:
        if rest:
            return super().__new__(cls, (x, *rest))
        return super().__new__(cls, () if x is None else x if isinstance(x, Iterable) else (x,))

    def _each(self, other: Any, f: Callable[[Any, Any], Any]) -> fastuple:
        others = other if isinstance(other, (tuple, list)) else (other,) * len(self)
        return type(self)([f(a, b) for a, b in zip(self, others, strict=True)])

    def __mul__(self, other: Any) -> fastuple:
        return self._each(other, lambda a, b: a * b)

    def __add__(self, other: Any) -> fastuple:
        return self._each(other, lambda a, b: a + b)

    def __sub__(self, other: Any) -> fastuple:
        return self._each(other, lambda a, b: a - b)

    def __truediv__(self, other: Any) -> fastuple:
        return self._each(other, lambda a, b: a / b)

    def __floordiv__(self, other: Any) -> fastuple:
        return self._each(other, lambda a, b: a // b)
