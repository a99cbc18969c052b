"""Optional and heavy packages: imported on first use, and here only."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from layered.foundation.errors import MissingDependency


def require(name: str, *, extra: str, why: str) -> Any:
    """Import an optional package, or say how to install it.

    Args:
        name: The package.
        extra: The extra of this library that installs it.
        why: What needs it, for the message: "the model 'swin_tiny'".

    Raises:
        MissingDependency: It is not installed. A package that is installed but broken raises its own error.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != name.partition(".")[0]:
            raise
        raise MissingDependency(
            f"{why} needs the package '{name}'", fix=f"pip install 'layered-learn[{extra}]'"
        ) from error


class _LazyModule(ModuleType):
    """Stands in for a module and imports it when an attribute is read."""

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self.__name__), attribute)

    def __dir__(self) -> list[str]:
        return dir(importlib.import_module(self.__name__))

    def __repr__(self) -> str:
        return f"<module '{self.__name__}', imported on first use>"


def lazy(name: str) -> Any:
    """A stand-in for a module that imports it when an attribute is first read.

    Args:
        name: The full name of the module.

    Examples:
        >>> lazy("math").sqrt(9.0)
        3.0
    """
    return _LazyModule(name)
