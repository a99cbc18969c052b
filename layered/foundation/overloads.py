"""A class body in which one name may stand many times: each `def encodes(self, x: T)` is the code for type `T`.

Overloads are read from annotations when they are first needed; the choice for a concrete type is made once and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from layered.foundation.dispatch import annotation, as_types, first_types, most_specific
from layered.foundation.tensors import retype

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
