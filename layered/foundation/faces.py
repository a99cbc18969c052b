"""What a star import takes from a package, computed from the imports that its `__init__` lists."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any


def star(namespace: Mapping[str, Any]) -> list[str]:
    """The public names of a module's `globals()` so far, for its `__all__`: without its own submodules.

    Examples:
        >>> star({"__name__": "zoo", "lion": 1, "_keeper": 2})
        ['lion']
    """
    package = namespace["__name__"]

    def is_public(name: str, value: object) -> bool:
        is_submodule = isinstance(value, ModuleType) and value.__name__ == f"{package}.{name}"
        return not name.startswith("_") and name != "TYPE_CHECKING" and not is_submodule

    return sorted(name for name, value in namespace.items() if is_public(name, value))
