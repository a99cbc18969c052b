"""Code picked by type: one table for the overloads of a transform, one for verbs such as `show_batch`.

Types are read from annotations when they are first needed, and every choice is cached by concrete type: a call is a look-up.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from torch import Tensor

from layered.foundation.errors import AmbiguousDispatch, BadArgument
from layered.foundation.tensors import retype

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

    Raises:
        AmbiguousDispatch: If two abstract types fit equally well.
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

    Examples:
        >>> @typedispatch
        ... def describe_pair(x: int, y: str): return "a number and a word"
        >>> @typedispatch
        ... def describe_pair(x: object, y: str): return "something and a word"
        >>> describe_pair(1, "a"), describe_pair(1.5, "a")
        ('a number and a word', 'something and a word')
    """
    return verb(function.__name__).register(function)


VERBS = {"encodes": "encode_", "decodes": "decode_", "setups": "setup_"}

Overloads = dict[str, list[tuple[str, Callable[..., Any]]]]  # verb → (name in the class body, function)


class Kernel(NamedTuple):
    """One overload, ready to call: `function(transform, x)`."""

    function: Callable[..., Any]
    takes_plain: bool
    returns: Any  # a class to cast to, None to leave the result alone, Tensor to give back the input's meaning

    def finish(self, out: Any, x: Any) -> Any:
        """The result `out` of this kernel for `x`, as its return annotation says."""
        if self.returns is None or out is None:
            return out
        if self.returns is Tensor:
            return retype(out, x)
        if isinstance(out, self.returns):
            return out
        is_tensor = isinstance(out, Tensor) and issubclass(self.returns, Tensor)
        return out.as_subclass(self.returns) if is_tensor else self.returns(out)


def make_kernel(function: Callable[..., Any]) -> Kernel:
    """Read from the name and the annotations of `function` how it is to be called."""
    inside = getattr(function, "__name__", "").startswith(("encode_", "decode_"))
    note = annotation(function, "return")
    if note is None:
        return Kernel(function, inside, None)
    named = as_types(note)
    cast = named[0] if len(named) == 1 and named[0] not in (object, tuple, list, dict) else Tensor
    return Kernel(function, inside, cast)


class _Body(dict[str, Any]):
    """The namespace of a class body, which keeps every `def encodes`."""

    def __init__(self) -> None:
        super().__init__()
        self.overloads: Overloads = {verb: [] for verb in VERBS}

    def __setitem__(self, name: str, value: Any) -> None:
        for verb, prefix in VERBS.items():
            if callable(value) and (name == verb or name.startswith(prefix)):
                self.overloads[verb] += [(name, function) for function in self._all_of(value)]
        super().__setitem__(name, value)

    def _all_of(self, function: Callable[..., Any]) -> list[Callable[..., Any]]:
        """`decodes = encodes` means every `encodes` so far, though Python knows the last one only."""
        verb = getattr(function, "__name__", "")
        repeated = [f for name, f in self.overloads.get(verb, ()) if name == verb]
        return repeated if function in repeated else [function]


class OverloadMeta(type):
    """Collects overloads; `@SomeTransform` above a function named `encodes` adds one to the class."""

    _own: Overloads
    _tables: dict[str, dict[type, Callable[..., Any]]]
    _kernels: dict[tuple[str, type], Kernel | None]

    @classmethod
    def __prepare__(mcs, name: str, bases: tuple[type, ...], /, **kwargs: Any) -> _Body:
        return _Body()

    def __new__(mcs, name: str, bases: tuple[type, ...], body: _Body) -> Any:
        cls = super().__new__(mcs, name, bases, dict(body))
        cls._own, cls._tables, cls._kernels = body.overloads, {}, {}
        return cls

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        name = getattr(args[0], "__name__", None) if len(args) == 1 and not kwargs else None
        if name in VERBS and callable(args[0]):
            cls._add(name, args[0])
            return args[0]
        return super().__call__(*args, **kwargs)

    def _add(cls, verb: str, function: Callable[..., Any]) -> None:
        cls._own[verb].append((verb, function))
        todo: list[Any] = [cls]
        while todo:
            kind = todo.pop()
            kind._tables.clear()
            kind._kernels.clear()
            todo.extend(kind.__subclasses__())

    def overloads(cls, verb: str) -> dict[type, Callable[..., Any]]:
        """Type → overload, those of derived classes and later lines replacing earlier ones.

        An overload with a name of its own, `encode_image`, is replaced by any other of that name, as methods are.
        """
        if verb not in cls._tables:
            table: dict[type, Callable[..., Any]] = {}
            for kind in reversed(cls.__mro__):
                for name, function in kind.__dict__["_own"][verb] if "_own" in kind.__dict__ else ():
                    if name == verb or getattr(cls, name) is function:
                        table.update(dict.fromkeys(first_types(function, 1), function))
            cls._tables[verb] = table
        return cls._tables[verb]

    def kernel(cls, verb: str, kind: type) -> Kernel | None:
        """The overload for things of type `kind`; None where they pass through."""
        key = verb, kind
        try:
            return cls._kernels[key]
        except KeyError:
            table = cls.overloads(verb)
            best = most_specific(kind, table)
            cls._kernels[key] = None if best is None else make_kernel(table[best])
            return cls._kernels[key]
