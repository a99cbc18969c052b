"""Reversible transforms that pick their code by type, and undo it.

    class Negate(Transform):
        def encodes(self, x: TensorImage): return 1 - x
        def decodes(self, x: TensorImage): return 1 - x

`encodes`, `decodes` and `setups` may be written once or, with other annotations, many times. Inside the library each
overload has its own name, `encode_<type>`; such a kernel is given a plain tensor and returns one, and the boundary puts
the meaning back.
"""

from __future__ import annotations

import copy
import functools
import importlib
import sys
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from layered.foundation import seeds
from layered.foundation.dispatch import annotation, as_types, first_types, most_specific
from layered.foundation.errors import BadArgument
from layered.foundation.recorded import Recorded, constructor_signature
from layered.foundation.tensors import TensorBase, retype

_VERBS = {"encodes": "encode_", "decodes": "decode_", "setups": "setup_"}


class Kernel(NamedTuple):
    """One overload, ready to call: `function(transform, x)`."""

    function: Callable[..., Any]
    takes_plain: bool
    returns: Any  # a class to cast to, None to leave the result alone, Tensor to give back the input's meaning


Overloads = dict[str, list[tuple[str, Callable[..., Any]]]]  # verb → (name in the class body, function)


class _Body(dict[str, Any]):
    """The namespace of a class body in which `def encodes` may stand many times."""

    def __init__(self) -> None:
        super().__init__()
        self.overloads: Overloads = {verb: [] for verb in _VERBS}

    def __setitem__(self, name: str, value: Any) -> None:
        for verb, prefix in _VERBS.items():
            if callable(value) and (name == verb or name.startswith(prefix)):
                self.overloads[verb].append((name, value))
        super().__setitem__(name, value)


class _TransformMeta(type):
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
        function = args[0] if args else None
        name = getattr(function, "__name__", None)
        if name in _VERBS and callable(function) and len(args) == 1 and not kwargs:
            cls._add(name, function)
            return function
        return super().__call__(*args, **kwargs)

    def _add(cls, verb: str, function: Callable[..., Any]) -> None:
        cls._own[verb].append((verb, function))
        todo: list[Any] = [cls]
        while todo:
            kind = todo.pop()
            kind._tables.clear()
            kind._kernels.clear()
            todo.extend(kind.__subclasses__())

    def _table(cls, verb: str) -> dict[type, Callable[..., Any]]:
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

    def _kernel(cls, verb: str, kind: type) -> Kernel | None:
        key = (verb, kind)
        if key not in cls._kernels:
            table = cls._table(verb)
            best = most_specific(kind, table)
            cls._kernels[key] = None if best is None else make_kernel(table[best])
        return cls._kernels[key]


def make_kernel(function: Callable[..., Any]) -> Kernel:
    """Read from the name and the annotations of `function` how it is to be called."""
    inside = getattr(function, "__name__", "").startswith(("encode_", "decode_"))
    note = annotation(function, "return")
    if note is None:
        return Kernel(function, inside, None)
    named = as_types(note)
    cast = named[0] if len(named) == 1 and named[0] not in (object, tuple, list, dict) else Tensor
    return Kernel(function, inside, cast)


def _finish(out: Any, x: Any, returns: Any) -> Any:
    if returns is None or out is None:
        return out
    if returns is Tensor:
        return retype(out, x)
    if isinstance(out, returns):
        return out
    return out.as_subclass(returns) if isinstance(out, Tensor) and issubclass(returns, Tensor) else returns(out)


_PURE = {"builtins", "operator", "pathlib", "_operator"}


def is_foreign(function: Any) -> bool:
    """Whether `function` is code that is not ours and may draw from a global generator."""
    if isinstance(function, functools.partial):
        return is_foreign(function.func)
    if hasattr(function, "is_foreign"):
        return bool(function.is_foreign)
    return _is_foreign_module(getattr(function, "__module__", None) or type(function).__module__)


def _is_foreign_module(name: str) -> bool:
    return name not in _PURE and name.partition(".")[0] != "layered"


class Transform(Recorded, metaclass=_TransformMeta):
    """A step that can be undone, with code picked by the type of what it is given.

    enc, dec   plain functions to encode and decode with, in place of methods; the annotation of `enc`'s first parameter
               says what it applies to (everything, if it has none)
    split_idx  0: training items only, 1: validation items only, None: both
    order      where it stands in a `Pipeline`: smaller first

    Tuples are taken element by element; elements whose type has no overload pass through untouched; named tuples are
    one element. The result takes the input's type back, unless the overload's return annotation says otherwise
    (`-> None`: as it is).

    >>> @Transform
    ... def double(x: int): return 2 * x
    >>> double((1, 2.5, "a"))
    (2, 2.5, 'a')
    """

    order: float = 0
    split_idx: int | None = None
    train_setup: bool | None = None
    fits: ClassVar[tuple[str, ...]] = ()
    enc: Callable[..., Any] | None = None
    dec: Callable[..., Any] | None = None
    _wrapped: dict[str, tuple[tuple[type, ...], Kernel]]  # verb → what a plain function takes, and how it is called

    def __init__(
        self,
        enc: Callable[..., Any] | None = None,
        dec: Callable[..., Any] | None = None,
        split_idx: int | None = None,
        order: float | None = None,
    ) -> None:
        if enc is not None:
            self.enc, self.dec = enc, dec
            self._wrapped = {verb: _wrap(f) for verb, f in (("encodes", enc), ("decodes", dec)) if f is not None}
            self.order = getattr(enc, "order", self.order)
        if split_idx is not None:
            self.split_idx = split_idx
        if order is not None:
            self.order = order

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return getattr(self.enc, "__name__", type(self).__name__)

    @property
    def is_foreign(self) -> bool:
        """Whether code that is not of this library runs inside: such code is seeded by the ticket of its item."""
        if self.enc is not None:
            return is_foreign(self.enc)
        functions = type(self)._table("encodes").values()
        return _is_foreign_module(type(self).__module__) or any(is_foreign(f) for f in functions)

    def __call__(self, x: Any, split_idx: int | None = None) -> Any:
        if self.split_idx is not None and split_idx != self.split_idx:
            return x
        return self._each("encodes", x)

    def decode(self, x: Any, split_idx: int | None = None) -> Any:
        """Undo the transform, as far as it can be undone."""
        if self.split_idx is not None and split_idx != self.split_idx:
            return x
        return self._each("decodes", x)

    def setup(self, items: Any = None, train_setup: bool = False) -> None:
        """Fit to `items`, to the training items alone where `train_setup` (or the class) says so."""
        train_setup = train_setup if self.train_setup is None else self.train_setup
        source = items.train if train_setup and hasattr(items, "train") else items
        kernel = type(self)._kernel("setups", type(source))
        if kernel is not None:
            kernel.function(self, source)

    def _each(self, verb: str, x: Any) -> Any:
        if isinstance(x, tuple) and not hasattr(x, "_fields"):
            return _like_tuple(x, (self._each(verb, element) for element in x))
        return self._one(verb, x)

    def _one(self, verb: str, x: Any) -> Any:
        if self.enc is not None:
            types, wrapped = self._wrapped.get(verb, ((), None))
            return _finish(wrapped.function(x), x, wrapped.returns) if wrapped and isinstance(x, types) else x
        kernel = type(self)._kernel(verb, type(x))
        if kernel is None:
            return x
        value = x.as_subclass(Tensor) if kernel.takes_plain and isinstance(x, TensorBase) else x
        return _finish(kernel.function(self, value), x, kernel.returns)

    def draw(self, low: float = 0.0, high: float = 1.0) -> float:
        """One number uniform in [low, high), from the ticket of the current sample (or, in a batch transform, batch)."""
        return seeds.draw(low, high)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A decorated function is pickled as functions are: as the name under which it stands in its module."""
        module, name = getattr(self.enc, "__module__", ""), getattr(self.enc, "__name__", "")
        stands_there = getattr(sys.modules.get(module), name, None) is self
        return (_at, (module, name)) if stands_there else super().__reduce_ex__(protocol)

    def __repr__(self) -> str:
        if self.enc is not None:
            return f"{type(self).__name__}({self.name})"
        parameters = constructor_signature(type(self)).parameters
        texts = {name: (repr(value), repr(parameters[name].default)) for name, value in self.init_args.items()}
        given = ", ".join(f"{name}={text[:200]}" for name, (text, default) in texts.items() if text != default)
        return f"{type(self).__name__}({given})"


def _at(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _wrap(function: Callable[..., Any]) -> tuple[tuple[type, ...], Kernel]:
    if not callable(function):
        raise BadArgument("a transform is made of a function", got=repr(function))
    if isinstance(function, type):
        return (object,), Kernel(function, False, None)
    return first_types(function, 0), make_kernel(function)


def _like_tuple(like: tuple[Any, ...], elements: Iterable[Any]) -> Any:
    return type(like)(elements) if type(like) is not tuple else tuple(elements)


class ItemTransform(Transform):
    """A transform that is given the whole tuple, not its elements."""

    def _each(self, verb: str, x: Any) -> Any:
        out = self._one(verb, x)
        if type(x) is not tuple and isinstance(x, tuple) and type(out) is tuple and not hasattr(x, "_fields"):
            return _like_tuple(x, out)
        return out


class InplaceTransform(Transform):
    """A transform that changes its input and returns it."""

    def _one(self, verb: str, x: Any) -> Any:
        super()._one(verb, x)
        return x


class DisplayedTransform(Transform):
    """A transform whose repr shows its arguments, as all of this library's do."""


class RandTransform(Transform):
    """A random transform: `before_call` draws once, so that all elements of a tuple are treated alike.

    p          the share of calls that apply it
    Draws come from the ticket of the sample; a call works on a copy, so calls from several threads do not mix.
    """

    split_idx: int | None = 0

    def __init__(self, p: float = 1.0, split_idx: int | None = None, order: float | None = None) -> None:
        super().__init__(split_idx=split_idx, order=order)
        self.p, self.do = p, True

    def before_call(self, x: Any, split_idx: int | None) -> None:
        """Draw what this call needs; `self.do = False` skips it."""
        self.do = self.p >= 1.0 or self.draw() < self.p

    def __call__(self, x: Any, split_idx: int | None = None) -> Any:
        if self.split_idx is not None and split_idx != self.split_idx:
            return x
        call = copy.copy(self)
        call.before_call(x, split_idx)
        return call._each("encodes", x) if call.do else x


def mk_transform(f: Any) -> Transform:
    """A transform of `f`: itself, an instance of it if it is a class, or a plain function wrapped."""
    if isinstance(f, type) and issubclass(f, Transform):
        return f()
    return f if isinstance(f, Transform) else Transform(f)
