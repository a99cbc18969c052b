"""What it takes to store an object as data: a name that its class is registered under, and its constructor's arguments.

A file only names a kind; what the name means is decided by the registries here, which the library and its user fill.
"""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from layered.foundation.errors import BadValue, CannotTrain, nearest, refuse_unknown, unknown_name
from layered.foundation.names import function_name

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
D = TypeVar("D")


class Registry(Generic[T]):
    """A two-way table of names and objects.

    Args:
        what: What it holds, for messages: "transform", "model builder".

    Examples:
        >>> colours = Registry[int]("colour")
        >>> colours.add("red", 1)
        1
        >>> colours.get("red"), colours.name_of(1)
        (1, 'red')
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._items: dict[str, T] = {}

    def add(self, name: str, item: T) -> T:
        """Register `item` under `name` and return it.

        A function or class that is defined again (the same module and qualified name, as when a notebook cell is run
        twice) replaces the old one; any other item under a taken name raises BadValue.
        """
        old = self._items.get(name)
        if old is not None and old is not item and _origin(old) != _origin(item):
            raise BadValue(
                f"the {self.what} '{name}' is taken",
                got=_origin(item),
                expected=_origin(old),
                fix="choose another name",
            )
        self._items[name] = item
        return item

    def register(self, name: str | None = None) -> Callable[[D], D]:
        """`add` as a decorator; the default name is the `__name__` of what is decorated."""

        def add(item: D) -> D:
            self.add(
                name or function_name(item), cast(T, item)
            )  # `D` is a `T`, which cannot be said of a type variable
            return item

        return add

    def get(self, name: str) -> T:
        """The item of that name; raises UnknownName, with the nearest names, if there is none."""
        if name in self._items:
            return self._items[name]
        raise unknown_name(self.what, name, self._items)

    def name_of(self, item: object) -> str | None:
        """The name that `item` is registered under, or None."""
        for name, known in self._items.items():
            if known is item or (callable(item) and known == item):
                return name
        return None

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._items)


def _origin(item: object) -> tuple[str, str]:
    """Where an item, or else its class, was defined: two functions of one origin are versions of the same code."""
    kind: Any = item if hasattr(item, "__qualname__") else type(item)
    return str(kind.__module__), str(kind.__qualname__)


functions: Registry[Callable[..., Any]] = Registry("registered function")
transforms: Registry[type] = Registry("transform")
losses: Registry[type] = Registry("loss")
modules: Registry[type] = Registry("module")
builders: Registry[Callable[..., Any]] = Registry("model builder")
loader_kinds: Registry[Any] = Registry("kind of loader")  # whose data describe themselves
learner_kinds: Registry[Any] = Registry("kind of learner")


class Recorded:
    """Base of classes whose instances remember their constructor's arguments, as `init_args`.

    Only the outermost call is recorded, not those of base classes inside it. Arguments are stored without copying, so
    later changes in place show. An unknown keyword raises BadArgument with the nearest name.

    Args:
        args: Recorded.
        kwargs: Recorded, once their names are checked against the signature of `__init__`.

    Examples:
        >>> class Scale(Recorded):
        ...     def __init__(self, by, shift=0): self.by, self.shift = by, shift
        >>> Scale(2).init_args
        {'by': 2, 'shift': 0}
        >>> Scale.from_init_args({"by": 3}).by
        3
    """

    _given: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        if kwargs:
            _check_keywords(cls, kwargs)
        self = super().__new__(cls)
        self.__dict__["_given"] = args, kwargs
        return self

    @property
    def init_args(self) -> dict[str, Any]:
        """Parameter name → value, defaults included; `*args` is a tuple, `**kwargs` a dict."""
        args, kwargs = self._given
        bound = constructor_signature(type(self)).bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def export_args(self) -> dict[str, Any]:
        """`init_args` as an export writes them, for `from_init_args`."""
        return self.init_args

    @classmethod
    def from_init_args(cls, init_args: Mapping[str, Any]) -> Self:
        """Create an instance from `init_args`, or from those of them that differ from the defaults.

        Raises:
            BadArgument: A name is not a parameter of the constructor.
        """
        signature = constructor_signature(cls)
        refuse_unknown(init_args, signature.parameters, cls.__name__)
        bound = inspect.BoundArguments(signature, OrderedDict(init_args))
        bound.apply_defaults()
        return cls(*bound.args, **bound.kwargs)


def _check_keywords(cls: type, given: Mapping[str, Any]) -> None:
    parameters = constructor_signature(cls).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        refuse_unknown(given, parameters, cls.__name__)


def constructor_signature(cls: type) -> inspect.Signature:
    """The signature of a class's constructor without `self`; empty for a class that does not define one.

    Args:
        cls: The class.
    """
    constructor = cls.__init__  # type: ignore[misc]
    if constructor is object.__init__:
        return inspect.Signature()
    return _without_self(constructor)


@functools.lru_cache(1024)
def _without_self(constructor: Callable[..., object]) -> inspect.Signature:
    signature = inspect.signature(constructor)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


default_losses: Registry[Callable[..., Callable[..., Any]]] = Registry("kind of target with a default loss")


item_results: Registry[Callable[[Sequence[Any], Tensor], Sequence[Tensor]]] = Registry(
    "kind of target with results to pick"
)
"""By kind of target, a function of a batch and of an output or target for it, [item, ...], that gives what there is for
each item, without padding and whatever else stands for nothing."""


def default_loss_for(kind: str | None, **details: object) -> Callable[..., Any]:
    """Create the default loss for a kind of target.

    Args:
        kind: "category", "multicategory", "regression" or "mask", which `layered.nn.losses` registers;
            `default_losses.add("ranking", RankingLoss)` adds another.
        details: Passed on to the constructor of the loss.

    Raises:
        CannotTrain: The kind has no default loss.
    """
    if kind in default_losses:
        return default_losses.get(str(kind))(**details)
    near = nearest(kind, default_losses) if kind else []
    raise CannotTrain(
        "these targets have no default loss",
        got=f"targets of kind {kind!r}",
        expected="one of the kinds " + ", ".join(default_losses.names()) if default_losses.names() else None,
        fix=f"use the kind '{near[0]}', or pass loss_func=" if near else "pass loss_func=",
    )
