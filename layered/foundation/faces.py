"""`__all__` of a package, computed from the imports in its `__init__`, so that each name is written once."""

from collections.abc import Mapping
from types import ModuleType


def star(namespace: Mapping[str, object]) -> list[str]:
    """The names that a package has imported so far, for its `__all__`.

    Names with an underscore, `TYPE_CHECKING` and the package's own submodules, which importing from them binds, are left
    out.

    Args:
        namespace: The `globals()` of the package.

    Examples:
        >>> star({"__name__": "zoo", "lion": 1, "_keeper": 2})
        ['lion']
    """
    package = namespace["__name__"]
    public = {name for name in namespace if name[0] != "_"} - {"TYPE_CHECKING"}
    modules = {name: value for name in public if isinstance(value := namespace[name], ModuleType)}
    return sorted(public.difference(name for name, module in modules.items() if module.__name__ == f"{package}.{name}"))
