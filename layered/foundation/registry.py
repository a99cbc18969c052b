"""Names for things that files may mention: a file names a kind, only the library or the caller says what it is."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, Self, TypeVar

from layered.foundation.errors import BadValue, CannotTrain, nearest, refuse_unknown, unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """A two-way table between names and objects.

    Args:
        what: What it holds, in words, for messages: "transform", "model builder".

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
        """Put `item` under `name`; the same pair twice is fine, another item under a taken name is an error.

        A redefinition of the same function or class (the same module and qualified name, as when a notebook
        cell runs again) replaces the old one.
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

    def register(self, name: str | None = None) -> Callable[[Any], Any]:
        """Decorator form of `add`; the default name is the object's own `__name__`."""

        def add(item: Any) -> Any:
            return self.add(name or item.__name__, item)

        return add

    def get(self, name: str) -> T:
        """The item under `name`; raises UnknownName with the nearest names."""
        if name in self._items:
            return self._items[name]
        raise unknown_name(self.what, name, self._items)

    def name_of(self, item: object) -> str | None:
        """The name under which `item` stands, or None."""
        for name, known in self._items.items():
            if known is item or (callable(item) and known == item):
                return name
        return None

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def names(self) -> list[str]:
        return sorted(self._items)


def _origin(item: object) -> tuple[str, str]:
    kind = item if hasattr(item, "__qualname__") else type(item)
    return str(getattr(kind, "__module__", "")), str(getattr(kind, "__qualname__", repr(item)))


functions: Registry[Callable[..., Any]] = Registry("registered function")
transforms: Registry[type] = Registry("transform")
losses: Registry[type] = Registry("loss")
modules: Registry[type] = Registry("module")
builders: Registry[Callable[..., Any]] = Registry("model builder")
loader_kinds: Registry[Any] = Registry("kind of loader")  # those that describe their data themselves
learner_kinds: Registry[Any] = Registry("kind of learner")


default_losses: Registry[Callable[..., Callable[..., Any]]] = Registry("kind of target with a default loss")


def default_loss_for(kind: str | None, **details: Any) -> Callable[..., Any]:
    """A new loss for targets of this kind.

    Args:
        kind: "category", "multicategory", "regression" or "mask", as filled by `layered.nn.losses`;
            `default_losses.add("ranking", RankingLoss)` adds another.
        details: Passed to the loss's constructor.

    Raises:
        CannotTrain: If no loss is known for the kind.
    """
    if kind in default_losses:
        return default_losses.get(str(kind))(**details)
    near = nearest(kind, default_losses) if kind else []
    raise CannotTrain(
        "no default loss is known for these targets",
        got=f"targets of kind {kind!r}",
        expected="one of the kinds " + ", ".join(default_losses.names()) if default_losses.names() else None,
        fix=f"use the kind '{near[0]}', or pass loss_func=" if near else "pass loss_func=",
    )


class Recorded:
    """Base of classes whose instances know their constructor arguments as `init_args`.

    Only the call that the user wrote is recorded, not those of base classes inside it. Arguments are kept as they
    are, not copied: one that is changed in place later shows the change. An unknown keyword is refused with the nearest.

    Examples:
        >>> class Scale(Recorded):
        ...     def __init__(self, by, shift=0): self.by, self.shift = by, shift
        >>> Scale(2).init_args
        {'by': 2, 'shift': 0}
        >>> Scale.from_init_args({"by": 3}).by
        3
    """

    _given: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if kwargs:
            _check_keywords(cls, kwargs)
        self = super().__new__(cls)
        self.__dict__["_given"] = args, kwargs
        return self

    @property
    def init_args(self) -> dict[str, Any]:
        """Parameter name → value, defaults included; `*args` stands as a tuple, `**kwargs` as a dict."""
        args, kwargs = self._given
        bound = constructor_signature(type(self)).bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    @classmethod
    def from_init_args(cls, init_args: Mapping[str, Any]) -> Self:
        """Build an instance from what `init_args` gave, or from the part of it that differs from the defaults.

        Raises:
            BadArgument: For a name that the constructor does not have.
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
    """The parameters of `cls.__init__`, without `self`; none where the class defines no constructor."""
    constructor = cls.__init__  # type: ignore[misc]
    if constructor is object.__init__:
        return inspect.Signature()
    signature = inspect.signature(constructor)
    return signature.replace(parameters=list(signature.parameters.values())[1:])
