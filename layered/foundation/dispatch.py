"""Code chosen by type: the overloads of a transform, and verbs such as `show_batch`.

Types are read from annotations when first needed, and every choice is cached by concrete type: a call is one lookup.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeGuard

from torch import Tensor

from layered.foundation.errors import AmbiguousDispatch, BadArgument
from layered.foundation.tensors import retype

_EMPTY = inspect.Parameter.empty


def annotation(function: Callable[..., Any], name: str) -> Any:
    """The evaluated annotation of a parameter.

    Args:
        function: The function; one that `functools.wraps` wraps is looked through.
        name: The parameter, or "return".

    Returns:
        The annotation, or `inspect.Parameter.empty` if there is none.

    Raises:
        BadArgument: It names something that does not exist at run time.
    """
    function = inspect.unwrap(function)
    function = function.__func__ if isinstance(function, types.MethodType) else function
    note = inspect.get_annotations(function).get(name, _EMPTY)
    if not isinstance(note, str):
        return note
    # A class defined in a function is found among the function's variables, if the overload uses it there too.
    known = (function.__globals__, dict(inspect.getclosurevars(function).nonlocals)) if _is_def(function) else ({}, {})
    try:
        return eval(note, *known)  # not data from outside: the source code of a function that was already imported
    except NameError as error:
        raise BadArgument(
            f"the annotation '{note}' of {function.__qualname__} cannot be resolved",
            got=str(error),
            fix="import the type at module level, not under TYPE_CHECKING",
        ) from error


def _is_def(function: object) -> TypeGuard[types.FunctionType]:
    """Whether `function` was written with `def` or `lambda`: built-ins and callable objects are not overloads."""
    return isinstance(function, types.FunctionType)


def first_types(function: Callable[..., Any], position: int) -> tuple[type, ...]:
    """The types that a parameter accepts; `object` if it has no annotation.

    Args:
        function: The function.
        position: The number of the parameter, from 0.
    """
    try:
        names = list(inspect.signature(function).parameters)
    except ValueError:  # builtins without a signature
        return (object,)
    if position >= len(names):
        return (object,)
    return as_types(annotation(function, names[position]))


def as_types(note: object) -> tuple[type, ...]:
    """The classes that an annotation stands for: all members of a union, the origin of a generic.

    Args:
        note: The evaluated annotation; `object` stands for what is not a class.
    """
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
    """The best match for a type: the nearest of its base classes, else the narrowest abstract type.

    Args:
        kind: The type of an argument.
        known: The types to choose from.

    Raises:
        AmbiguousDispatch: Two abstract types match equally well.
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
            f"{kind.__name__} matches {names} equally well", fix=f"add an overload for {kind.__name__} itself"
        )
    return narrow[0]


class Verb:
    """A function with several bodies, chosen by the types of its first two arguments.

    The most specific match of the first argument decides, then that of the second. `register` and `@typedispatch` add
    a body. A call with types that no body takes raises BadArgument, a TypeError.

    Args:
        name: The name of the function.
    """

    def __init__(self, name: str) -> None:
        self.__name__ = self.name = name
        self._table: dict[type, dict[type, Callable[..., Any]]] = {}
        self._cache: dict[tuple[type, type], Callable[..., Any]] = {}

    def register(self, function: Callable[..., Any]) -> Verb:
        """Add `function` as the body for the types that its first two parameters are annotated with."""
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

    def __call__(self, x: object, y: object = None, *args: object, **kwargs: object) -> Any:
        body = self.find(type(x), type(y))
        if body is None:
            raise BadArgument(
                f"{self.name} is not defined for {type(x).__name__} with {type(y).__name__}",
                fix=f"@typedispatch def {self.name}(x: {type(x).__name__}, y: {type(y).__name__}, ...)",
            )
        return body(x, y, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<verb {self.name}: {sum(map(len, self._table.values()))} bodies>"


_verbs: dict[str, Verb] = {}


def verb(name: str) -> Verb:
    """The verb of that name, created on first use.

    Args:
        name: The name of the function.
    """
    return _verbs.setdefault(name, Verb(name))


def typedispatch(function: Callable[..., Any]) -> Verb:
    """Decorator: add a body to the verb of the function's name.

    Args:
        function: The body; the annotations of its first two parameters say what it is for.

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
    returns: Any  # a class to cast to, None to leave the result alone, Tensor to restore the input's meaning

    def finish(self, out: object, x: object) -> Any:
        """Cast the result for `x` as the return annotation says."""
        if self.returns is None or out is None:
            return out
        if self.returns is Tensor:
            return retype(out, x)
        if isinstance(out, self.returns):
            return out
        if isinstance(out, Tensor) and issubclass(self.returns, Tensor):
            return out.as_subclass(self.returns)
        return self.returns(out)


def make_kernel(function: Callable[..., Any]) -> Kernel:
    """Read from a function's name and annotations how to call it.

    Args:
        function: The overload; one named `encode_<type>` or `decode_<type>` takes a plain tensor.
    """
    inside = _is_def(function) and function.__name__.startswith(("encode_", "decode_"))
    note = annotation(function, "return")
    if note is None:
        return Kernel(function, inside, None)
    named = as_types(note)
    cast = named[0] if len(named) == 1 and named[0] not in (object, tuple, list, dict) else Tensor
    return Kernel(function, inside, cast)


class _Body(dict[str, Any]):
    """The namespace of a class body, which keeps every `def encodes`: a dict would keep only the last."""

    def __init__(self) -> None:
        super().__init__()
        self.overloads: Overloads = {verb: [] for verb in VERBS}

    def __setitem__(self, name: str, value: object) -> None:
        for verb, prefix in VERBS.items():
            if callable(value) and (name == verb or name.startswith(prefix)):
                self.overloads[verb] += [(name, function) for function in self._all_of(value)]
        super().__setitem__(name, value)

    def _all_of(self, function: Callable[..., Any]) -> list[Callable[..., Any]]:
        """`decodes = encodes` means every `encodes` so far, of which Python passes on only the last."""
        verb = function.__name__ if _is_def(function) else ""
        repeated = [f for name, f in self.overloads.get(verb, ()) if name == verb]
        return repeated if function in repeated else [function]


class OverloadMeta(type):
    """Collects the overloads in a class body; `@SomeTransform` above a function named `encodes` adds one later.

    Args:
        name: The name of the class.
        bases: Its base classes.
        body: Its namespace, which kept every overload.
    """

    _own: Overloads
    _tables: dict[str, dict[type, Callable[..., Any]]]
    _kernels: dict[tuple[str, type], Kernel | None]

    @classmethod
    def __prepare__(mcs, name: str, bases: tuple[type, ...], /, **kwargs: object) -> _Body:
        return _Body()

    def __new__(mcs, name: str, bases: tuple[type, ...], body: _Body) -> Any:
        cls = super().__new__(mcs, name, bases, dict(body))
        cls._own, cls._tables, cls._kernels = body.overloads, {}, {}
        return cls

    def __call__(cls, *args: object, **kwargs: object) -> Any:
        if len(args) == 1 and not kwargs and _is_def(args[0]) and args[0].__name__ in VERBS:
            cls._add(args[0].__name__, args[0])
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
        """Type → overload; those of derived classes and of later lines replace earlier ones.

        An overload that has a name of its own, such as `encode_image`, is overridden by name too, as methods are.
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
        """The overload for objects of type `kind`; None if they pass through unchanged."""
        key = verb, kind
        try:
            return cls._kernels[key]
        except KeyError:
            table = cls.overloads(verb)
            best = most_specific(kind, table)
            cls._kernels[key] = None if best is None else make_kernel(table[best])
            return cls._kernels[key]
