"""Transforms: reversible steps that choose their code by type.

    class Negate(Transform):
        def encodes(self, x: TensorImage): return 1 - x
        def decodes(self, x: TensorImage): return 1 - x

`encodes`, `decodes` and `setups` may be defined once or, with different annotations, several times. Inside the library
each overload has its own name, `encode_<type>`; it takes and returns a plain tensor, and `Transform` restores the type.
"""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any, ClassVar, SupportsIndex

from torch import Tensor

from layered.foundation import seeds
from layered.foundation.dispatch import Kernel, OverloadMeta, first_types, make_kernel
from layered.foundation.errors import BadArgument
from layered.foundation.names import function_name
from layered.foundation.registry import Recorded, constructor_signature
from layered.foundation.tensors import TensorBase
from layered.foundation.types import is_named_tuple, with_elements

_PURE = {"builtins", "operator", "pathlib", "_operator"}  # modules of Python whose functions draw no random numbers


def is_foreign(function: object) -> bool:
    """Whether code from outside the library runs, which may draw random numbers from a global generator.

    Args:
        function: A function, a transform, a pipeline or a dataset; what has an attribute `is_foreign` answers by that.
    """
    if isinstance(function, functools.partial):
        return is_foreign(function.func)
    if hasattr(function, "is_foreign"):
        return bool(function.is_foreign)
    return _is_foreign_module(getattr(function, "__module__", None) or type(function).__module__)


def _is_foreign_module(name: str) -> bool:
    return name not in _PURE and name.partition(".")[0] != "layered"


class Transform(Recorded, metaclass=OverloadMeta):
    """A step that can be undone, with code chosen by the type of its input.

    It is applied to each element of a tuple; a named tuple counts as one element. An element whose type has no overload
    passes through unchanged. The result gets the input's type, unless the overload has another return annotation
    (`-> None` leaves the result alone).

    Args:
        enc: Plain functions to encode and decode with, in place of methods; the annotation of `enc`'s first parameter
            says what it applies to (everything, if it has none).
        dec: Plain functions to encode and decode with, in place of methods; the annotation of `enc`'s first parameter
            says what it applies to (everything, if it has none).
        split_idx: The split that it is applied to: 0 training, 1 validation, None both.
        order: Where it stands in a `Pipeline`: smaller first.

    Examples:
        >>> @Transform
        ... def double(x: int): return 2 * x
        >>> double((1, 2.5, "a"))
        (2, 2.5, 'a')
    """

    order: float = 0
    split_idx: int | None = None
    train_setup: bool | None = None
    fits: ClassVar[tuple[str, ...]] = ()
    target_kind: ClassVar[str | None] = None  # of a target's encoding: "category", "regression", …
    loss_func: Callable[..., Any] | None = None  # of a target's encoding: the loss to train with
    makes: ClassVar[type | None] = None  # of a target's encoding: the type that predictions are decoded as
    keep: Callable[[Any], Any] | None = None  # of the column before it: what it makes of all items, by position
    needs_inputs: ClassVar[bool] = False  # to decode: whether targets are undone together with the inputs beside them
    enc: Callable[..., Any] | None = None
    dec: Callable[..., Any] | None = None
    _wrapped: dict[str, tuple[tuple[type, ...], Kernel]]  # verb → the types a plain function takes, and its kernel

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
            self.order = getattr(enc, "order", self.order)  # functions may carry one
        if split_idx is not None:
            self.split_idx = split_idx
        if order is not None:
            self.order = order

    @property
    def name(self) -> str:
        """Its name in messages."""
        return type(self).__name__ if self.enc is None else function_name(self.enc)

    @property
    def is_foreign(self) -> bool:
        """Whether code from outside the library runs inside; global generators are then seeded by the ticket of the item."""
        if self.enc is not None:
            return is_foreign(self.enc)
        functions = type(self).overloads("encodes").values()
        return _is_foreign_module(type(self).__module__) or any(is_foreign(f) for f in functions)

    def is_random(self, split_idx: int | None) -> bool:
        """Whether it may make something else of the same input each time; of user code, nothing is known.

        Args:
            split_idx: The split: 0 training, 1 validation.
        """
        return False

    def __call__(self, x: object, split_idx: int | None = None) -> Any:
        if self.split_idx is not None and split_idx != self.split_idx:
            return x
        return self._each("encodes", x)

    def decode(self, x: object, split_idx: int | None = None) -> Any:
        """Undo the transform as far as possible."""
        if self.split_idx is not None and split_idx != self.split_idx:
            return x
        return self._each("decodes", x)

    def setup(self, items: Any = None, train_setup: bool = False) -> None:
        """Fit to `items`, or to the training items alone if `train_setup` (or else the class attribute) says so."""
        train_setup = train_setup if self.train_setup is None else self.train_setup
        source = items.train if train_setup and hasattr(items, "train") else items
        kernel = type(self).kernel("setups", type(source))
        if kernel is not None:
            kernel.function(self, source)

    def _each(self, verb: str, x: object) -> Any:
        if isinstance(x, tuple) and not is_named_tuple(x):
            elements = [self._each(verb, element) for element in x]
            return with_elements(x, elements)
        return self._one(verb, x)

    def _one(self, verb: str, x: object) -> Any:
        if self.enc is not None:
            types, wrapped = self._wrapped.get(verb, ((), None))
            return wrapped.finish(wrapped.function(x), x) if wrapped and isinstance(x, types) else x
        kernel = type(self).kernel(verb, type(x))
        if kernel is None:
            return x
        value = x.as_subclass(Tensor) if kernel.takes_plain and isinstance(x, TensorBase) else x
        return kernel.finish(kernel.function(self, value), x)

    def draw(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number uniform in [low, high), from the ticket of the current sample (in a batch transform, of the batch)."""
        return seeds.draw(low, high)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Pickle a decorated function as functions are pickled: by its module and name."""
        module, name = getattr(self.enc, "__module__", ""), function_name(self.enc)
        is_bound_there = getattr(sys.modules.get(module), name, None) is self
        return (_at, (module, name)) if is_bound_there else super().__reduce_ex__(protocol)

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
        raise BadArgument("a transform needs a function", got=repr(function))
    _check_takes_one(function)
    if isinstance(function, type):
        return (object,), Kernel(function, False, None)
    return first_types(function, 0), make_kernel(function)


def _check_takes_one(function: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # builtins without a signature
        return
    try:
        signature.bind(None)
    except TypeError as error:
        name = function_name(function)
        raise BadArgument(
            f"a transform calls its function with one item, which {name}{signature} does not accept",
            got=str(error),
            expected=f"def {name if name.isidentifier() else 'f'}(item): ...",
            fix="give it one parameter; set the others by defaults or functools.partial",
        ) from error


class ItemTransform(Transform):
    """A transform that is applied to a tuple as a whole, not to its elements."""

    def _each(self, verb: str, x: object) -> Any:
        out = self._one(verb, x)
        return type(x)(out) if type(out) is tuple and isinstance(x, tuple) and not is_named_tuple(x) else out


class InplaceTransform(Transform):
    """A transform that changes its input in place and returns it."""

    def _one(self, verb: str, x: object) -> Any:
        super()._one(verb, x)
        return x


class DisplayedTransform(Transform):
    """A transform whose repr shows its arguments; here, all do. Kept for code that derives from it."""


class RandTransform(Transform):
    """A random transform: `before_call` draws once per call, so that all elements of a tuple are treated alike.

    Draws come from the ticket of the sample. A call works on a copy of the transform, so threads do not interfere.

    Args:
        p: The probability that a call applies it.
        split_idx: The split that it is applied to; by default 0, training.
        order: Where it stands in a `Pipeline`: smaller first.
    """

    split_idx: int | None = 0
    p: float = 1.0  # here too, for classes whose constructor does not call this one
    do: bool = True

    def __init__(self, p: float = 1.0, split_idx: int | None = None, order: float | None = None) -> None:
        super().__init__(split_idx=split_idx, order=order)
        self.p = p

    def is_random(self, split_idx: int | None) -> bool:
        """Whether it may make something else of the same input each time: where it applies.

        Args:
            split_idx: The split: 0 training, 1 validation.
        """
        return self.split_idx is None or split_idx == self.split_idx

    def before_call(self, x: object, split_idx: int | None) -> None:
        """Draw what this call needs; `self.do = False` skips it."""
        self.do = self.p >= 1.0 or self.draw() < self.p

    def __call__(self, x: object, split_idx: int | None = None) -> Any:
        if self.split_idx is not None and split_idx != self.split_idx:
            return x
        call = copy.copy(self)
        call.before_call(x, split_idx)
        return call._each("encodes", x) if call.do else x


def mk_transform(f: object) -> Transform:
    """Make a transform.

    Args:
        f: A transform, a class of transforms, or a function to wrap.
    """
    if isinstance(f, type) and issubclass(f, Transform):
        return made(f)
    return f if isinstance(f, Transform) else Transform(f)  # type: ignore[arg-type]  # refused there if not callable


def made(kind: type[Transform]) -> Transform:
    """Instantiate a class of transforms that was passed in place of an instance.

    Args:
        kind: The class.

    Raises:
        BadArgument: Its constructor has required arguments.
    """
    try:
        constructor_signature(kind).bind()
    except TypeError as error:
        raise BadArgument(
            f"{kind.__name__} is a class and needs arguments to become a transform",
            got=str(error),
            expected=f"{kind.__name__}{constructor_signature(kind)}",
            fix=f"call it: {kind.__name__}(...)",
        ) from error
    return kind()
