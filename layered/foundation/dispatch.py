"""Code picked by type: one table for the overloads of a transform, one for verbs such as `show_batch`.

Types are read from annotations when they are first needed, and every choice is cached by concrete type: a call is a look-up.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

from layered.foundation.errors import AmbiguousDispatch, BadArgument

_EMPTY = inspect.Parameter.empty


def annotation(function: Callable[..., Any], name: str) -> Any:
    """What `name` ("return" for the result) is annotated with in `function`, evaluated; `Parameter.empty` if nothing."""
    function = inspect.unwrap(function)
    note = getattr(function, "__annotations__", {}).get(name, _EMPTY)
    if not isinstance(note, str):
        return note
    cells = inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else {}
    try:
        return eval(note, getattr(function, "__globals__", {}), dict(cells))  # the annotation of code that runs already
    except NameError as error:
        raise BadArgument(
            f"the annotation '{note}' of {function.__qualname__} cannot be resolved",
            got=str(error),
            fix="import the type at module level, not under TYPE_CHECKING",
        ) from error


def first_types(function: Callable[..., Any], position: int) -> tuple[type, ...]:
    """The types that parameter number `position` of `function` accepts; `object` where it has no annotation."""
    try:
        names = list(inspect.signature(function).parameters)
    except ValueError:  # builtins without a signature
        return (object,)
    if position >= len(names):
        return (object,)
    return as_types(annotation(function, names[position]))


def as_types(note: Any) -> tuple[type, ...]:
    """The classes of an annotation: of a union all, of a generic its origin."""
    if note is _EMPTY or note is Any:
        return (object,)
    if note is None:
        return (type(None),)
    if isinstance(note, tuple):
        return tuple(t for n in note for t in as_types(n))
    origin = typing.get_origin(note)
    if origin is typing.Union or origin is types.UnionType:
        return tuple(t for n in typing.get_args(note) for t in as_types(n))
    if isinstance(note, typing.TypeVar):
        return as_types(note.__bound__) if note.__bound__ else (object,)
    kind = origin or note
    return (kind,) if isinstance(kind, type) else (object,)


def most_specific(kind: type, known: Iterable[type]) -> type | None:
    """The type of `known` that fits `kind` best: nearest in its inheritance, then the narrowest abstract type.

    raises     AmbiguousDispatch if two abstract types fit equally well
    """
    fitting = [t for t in known if issubclass(kind, t)]
    if not fitting:
        return None
    for base in kind.__mro__[:-1]:
        if base in fitting:
            return base
    narrow = [t for t in fitting if not any(o is not t and issubclass(o, t) for o in fitting)]
    if len(narrow) > 1:
        names = " and ".join(t.__name__ for t in narrow)
        raise AmbiguousDispatch(
            f"{kind.__name__} fits {names} equally well", fix=f"add an overload for {kind.__name__} itself"
        )
    return narrow[0]


class Verb:
    """A function with one body for each pair of types of its first two arguments: most specific first, then second.

    Called with a type it has no body for, it raises TypeError. `verb.register` adds a body; so does `@typedispatch`.
    """

    def __init__(self, name: str) -> None:
        self.__name__ = self.name = name
        self._table: dict[type, dict[type, Callable[..., Any]]] = {}
        self._cache: dict[tuple[type, type], Callable[..., Any]] = {}

    def register(self, function: Callable[..., Any]) -> Verb:
        """Add a body for the annotated types of the first two parameters of `function`."""
        for first in first_types(function, 0):
            row = self._table.setdefault(first, {})
            for second in first_types(function, 1):
                row[second] = function
        self._cache.clear()
        return self

    def find(self, first: type, second: type) -> Callable[..., Any] | None:
        """The body for these two types, or None."""
        body = self._cache.get((first, second))
        if body is None:
            rows = dict(self._table)
            while rows and body is None:
                nearest = most_specific(first, rows)
                if nearest is None:
                    return None
                row = rows.pop(nearest)
                column = most_specific(second, row)
                body = row[column] if column is not None else None
            if body is not None:
                self._cache[first, second] = body
        return body

    def __call__(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        body = self.find(type(x), type(y))
        if body is None:
            raise BadArgument(
                f"{self.name} does not know how to handle {type(x).__name__} with {type(y).__name__}",
                fix=f"@typedispatch def {self.name}(x: {type(x).__name__}, y: {type(y).__name__}, ...)",
            )
        return body(x, y, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<verb {self.name}: {sum(map(len, self._table.values()))} bodies>"


_verbs: dict[str, Verb] = {}


def verb(name: str) -> Verb:
    """The one verb of that name, made on first use."""
    return _verbs.setdefault(name, Verb(name))


def typedispatch(function: Callable[..., Any]) -> Verb:
    """Add `function` as a body of the verb of its name, for the types of its first two parameters.

    >>> @typedispatch
    ... def describe_pair(x: int, y: str): return "a number and a word"
    >>> @typedispatch
    ... def describe_pair(x: object, y: str): return "something and a word"
    >>> describe_pair(1, "a"), describe_pair(1.5, "a")
    ('a number and a word', 'something and a word')
    """
    return verb(function.__name__).register(function)
