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
    public = {name for name in namespace if name[0] != "_"} - {"TYPE_CHECKING"}
    modules = [name for name in public if isinstance(namespace[name], ModuleType)]
    return sorted(public.difference(name for name in modules if namespace[name].__name__ == f"{package}.{name}"))
