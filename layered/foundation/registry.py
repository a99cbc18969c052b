"""Names for things that files may mention: a file names a kind, only the library or the caller says what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from layered.foundation.errors import BadValue, unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """A two-way table between names and objects.

    what       what it holds, in words, for messages: "transform", "model builder"

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
