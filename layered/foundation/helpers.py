"""Small functions under the names that course material uses."""

from __future__ import annotations

import inspect
import itertools
import operator
import sys
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any, TypeVar

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])

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

    Examples:
        >>> first([1, 2, 3], lambda n: n > 1)
        2
    """
    return next((o for o in x if f is None or f(o)), None)


def range_of(x: Any) -> list[int]:
    """The positions of a collection, or of a number of items.

    Examples:
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

    Examples:
        >>> using_attr(str.upper, "name")(SimpleNamespace(name="a"))
        'A'
    """

    def on_attribute(o: Any) -> Any:
        return f(getattr(o, attr))

    return on_attribute


def store_attr(names: str | None = None, self: Any = None, **attrs: Any) -> None:
    """Keep the arguments of the function that calls it as attributes of its `self`: all of them, or those in `names`.

    Args:
        names: "a, b"; by default all parameters.
        attrs: Others to keep, by name.

    Examples:
        >>> class Point:
        ...     def __init__(self, x, y=0): store_attr()
        >>> vars(Point(3))
        {'x': 3, 'y': 0}
    """
    caller = sys._getframe(1)
    owner = caller.f_locals[caller.f_code.co_varnames[0]] if self is None else self
    if names is None and not attrs:
        count = caller.f_code.co_argcount + caller.f_code.co_kwonlyargcount
        wanted = [name for name in caller.f_code.co_varnames[:count] if caller.f_locals[name] is not owner]
    else:
        wanted = [name.strip() for name in (names or "").split(",") if name.strip()]
    for name, value in {**{name: caller.f_locals[name] for name in wanted}, **attrs}.items():
        setattr(owner, name, value)


class GetAttr:
    """Looks up attributes that it does not have in the attribute named by `_default`.

    Examples:
        >>> class Box(GetAttr):
        ...     _default = "inner"
        ...     def __init__(self, inner): self.inner = inner
        >>> Box("abc").upper()
        'ABC'
    """

    _default = "default"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == self._default:
            raise AttributeError(f"{type(self).__name__} has no attribute '{name}'")
        return getattr(getattr(self, self._default), name)


def delegates(to: Callable[..., object] | None = None, keep: bool = False, but: Iterable[str] = ()) -> Callable[[F], F]:
    """Decorator: the signature lists the keywords of `to` in place of `**kwargs`, for `help()` and `inspect.signature`.

    Below `@checked`, it also says which keywords are known.

    Args:
        to: The function that receives `kwargs`; for a class, by default the constructor of its base.
        keep: Keep `**kwargs` in the signature too.
        but: Names to leave out.

    Examples:
        >>> def base(a, b=1, c=2): ...
        >>> @delegates(base)
        ... def f(x, **kwargs): return base(x, **kwargs)
        >>> inspect.signature(f)
        <Signature (x, *, b=1, c=2)>
    """

    def decorate(f: F) -> F:
        kind: Any = f  # a class where `to` is left out
        source = to if to is not None else kind.__base__.__init__
        function = kind.__init__ if to is None else kind
        parameters = dict(inspect.signature(function).parameters)
        rest = next((p for p in parameters.values() if p.kind is p.VAR_KEYWORD), None)
        if rest is not None:
            del parameters[rest.name]
        for name, p in inspect.signature(source).parameters.items():
            if p.default is not p.empty and name not in parameters and name not in but:
                parameters[name] = p.replace(kind=p.KEYWORD_ONLY)
        if rest is not None and keep:
            parameters[rest.name] = rest
        ordered = sorted(parameters.values(), key=lambda p: p.kind)
        function.__signature__ = inspect.Signature(ordered)
        return f

    return decorate


class _Inf:
    """Iterators that never end, new ones each time they are named.

    Examples:
        >>> list(zip("ab", Inf.count)), list(zip("ab", Inf.zeros))
        ([('a', 0), ('b', 1)], [('a', 0), ('b', 0)])
    """

    count = property(lambda self: itertools.count())
    zeros = property(lambda self: itertools.repeat(0))
    ones = property(lambda self: itertools.repeat(1))
    nones = property(lambda self: itertools.repeat(None))


Inf = _Inf()


def explode_types(o: Any) -> Any:
    """The types inside nested tuples, lists and mappings.

    Examples:
        >>> explode_types((1, ["a"]))
        {<class 'tuple'>: [<class 'int'>, {<class 'list'>: [<class 'str'>]}]}
    """
    if isinstance(o, Mapping):
        return {type(o): {key: explode_types(value) for key, value in o.items()}}
    if isinstance(o, (tuple, list)):
        return {type(o): [explode_types(element) for element in o]}
    return type(o)


class fastuple(tuple[Any, ...]):
    """A tuple with elementwise arithmetic, used for sizes and samples.

    Examples:
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
        return self._each(other, operator.mul)

    def __add__(self, other: Any) -> fastuple:
        return self._each(other, operator.add)

    def __sub__(self, other: Any) -> fastuple:
        return self._each(other, operator.sub)

    def __truediv__(self, other: Any) -> fastuple:
        return self._each(other, operator.truediv)

    def __floordiv__(self, other: Any) -> fastuple:
        return self._each(other, operator.floordiv)
