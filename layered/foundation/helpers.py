"""Small functions under the names that courses use."""

from __future__ import annotations

import inspect
import itertools
import operator
import sys
from collections.abc import Callable, Iterable, Mapping, Sized
from types import SimpleNamespace
from typing import Any, Self, TypeVar, overload

from layered.foundation.names import function_name
from layered.foundation.types import is_array_like

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])


class _Defaults(SimpleNamespace):
    """Settings of the process: `defaults.cpus` and whatever packages and users add."""

    cpus: int | None = None


defaults = _Defaults()
"""What calls without that argument use: `cpus` (workers of `parallel`) and `callbacks` (of every new `Learner`)."""


@overload
def noop() -> None: ...
@overload
def noop(x: T, *args: object, **kwargs: object) -> T: ...
def noop(x: object = None, *args: object, **kwargs: object) -> object:
    """Return `x`, unchanged.

    Args:
        x: Anything.
        args: Ignored.
        kwargs: Ignored.
    """
    return x


def true(*args: object, **kwargs: object) -> bool:
    """Return True, whatever the arguments.

    Args:
        args: Ignored.
        kwargs: Ignored.
    """
    return True


def ifnone(a: T | None, b: T) -> T:
    """`b` if `a` is None, else `a`.

    Args:
        a: A value, or None.
        b: What stands in for None.
    """
    return b if a is None else a


def first(x: Iterable[T], f: Callable[[T], object] | None = None) -> T | None:
    """The first item, or the first for which `f` is true; None if there is none.

    Args:
        x: The items.
        f: What to look for.

    Examples:
        >>> first([1, 2, 3], lambda n: n > 1)
        2
    """
    return next((o for o in x if f is None or f(o)), None)


def own_vars(o: object) -> dict[str, Any] | None:
    """The attributes of an object itself, as `vars`; None for what has none: numbers, text, lists, ….

    Args:
        o: Any object.

    Examples:
        >>> own_vars(range_of), own_vars(3)
        ({}, None)
    """
    try:
        return vars(o)
    except TypeError:
        return None


def range_of(x: int | Sized) -> list[int]:
    """The positions of the items of a collection.

    Args:
        x: A collection, or its length.

    Examples:
        >>> range_of("abc")
        [0, 1, 2]
    """
    return list(range(x if isinstance(x, int) else len(x)))


def listify(o: object) -> list[Any]:
    """Make a list: empty for None, the items of an iterable, `[o]` for anything else.

    Args:
        o: Anything. Strings, arrays, tensors and mappings count as one item.
    """
    if o is None:
        return []
    if isinstance(o, (str, bytes)) or is_array_like(o):
        return [o]
    return list(o) if isinstance(o, Iterable) and not hasattr(o, "keys") else [o]


def using_attr(f: Callable[[Any], Any], attr: str) -> Callable[[Any], Any]:
    """Turn a function of an attribute into one of the object that has it.

    Args:
        f: What to call with the attribute.
        attr: The name of the attribute.

    Examples:
        >>> using_attr(str.upper, "name")(SimpleNamespace(name="a"))
        'A'
    """
    return OnAttribute(f, attr)


class OnAttribute:
    """A function of an attribute, called with the object that has it: see `using_attr`.

    Args:
        f: What to call with the attribute.
        attr: The name of the attribute.
    """

    def __init__(self, f: Callable[[Any], Any], attr: str) -> None:
        self.f, self.attr = f, attr
        self.__name__ = function_name(f)  # as messages call it

    def __call__(self, o: object) -> Any:
        return self.f(getattr(o, self.attr))

    def described(self) -> dict[str, Any]:
        """The arguments of `from_described`."""
        return {"f": self.f, "attr": self.attr}

    @classmethod
    def from_described(cls, state: dict[str, Any]) -> Self:
        """The same function of the same attribute.

        Args:
            state: What `described` returned.
        """
        return cls(state["f"], state["attr"])


def store_attr(names: str | None = None, self: object = None, **attrs: object) -> None:
    """Store the arguments of the calling method as attributes of its `self`.

    Args:
        names: Which to store, separated by commas: "a, b"; by default all.
        self: The object to store them on; by default the first argument of the caller.
        attrs: Other attributes to set.

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
    """Passes lookups of attributes that it lacks on to the object in the attribute that `_default` names.

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
    """Endless iterators; each access gives a new one.

    Examples:
        >>> list(zip("ab", Inf.count)), list(zip("ab", Inf.zeros))
        ([('a', 0), ('b', 1)], [('a', 0), ('b', 0)])
    """

    count = property(lambda self: itertools.count())
    zeros = property(lambda self: itertools.repeat(0))
    ones = property(lambda self: itertools.repeat(1))
    nones = property(lambda self: itertools.repeat(None))


Inf = _Inf()


def explode_types(o: object) -> Any:
    """The types in nested tuples, lists and mappings.

    Args:
        o: Anything.

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

    Args:
        x: The elements, or the first of them.
        rest: Further elements.

    Examples:
        >>> fastuple(2, 3) * 2, fastuple((4, 6)) // (2, 3)
        ((4, 6), (2, 2))
    """

    def __new__(cls, x: object = None, *rest: object) -> fastuple:
        if rest:
            return super().__new__(cls, (x, *rest))
        return super().__new__(cls, () if x is None else x if isinstance(x, Iterable) else (x,))

    def _each(self, other: object, f: Callable[[Any, Any], Any]) -> fastuple:
        others = other if isinstance(other, (tuple, list)) else (other,) * len(self)
        return type(self)([f(a, b) for a, b in zip(self, others, strict=True)])

    def __mul__(self, other: object) -> fastuple:
        return self._each(other, operator.mul)

    def __add__(self, other: object) -> fastuple:
        return self._each(other, operator.add)

    def __sub__(self, other: object) -> fastuple:
        return self._each(other, operator.sub)

    def __truediv__(self, other: object) -> fastuple:
        return self._each(other, operator.truediv)

    def __floordiv__(self, other: object) -> fastuple:
        return self._each(other, operator.floordiv)
