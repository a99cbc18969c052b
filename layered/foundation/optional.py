"""The one door for optional and heavy packages: nothing is imported before it is used."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from layered.foundation.errors import MissingDependency


def require(name: str, *, extra: str, why: str) -> Any:
    """Import the external package `name`, or say which extra brings it.

    Args:
        extra: The extra of the distribution that installs it.
        why: What needs it, for the message: "the model 'swin_tiny'".

    Raises:
        MissingDependency: If it is not installed; a package that is there but broken raises its own error.
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
    """Stands for a module until somebody asks it for a name."""

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self.__name__), attribute)

    def __dir__(self) -> list[str]:
        return dir(importlib.import_module(self.__name__))

    def __repr__(self) -> str:
        return f"<module '{self.__name__}', imported on first use>"


def lazy(name: str) -> Any:
    """A stand-in for module `name` that imports it on first attribute access.

    Examples:
        >>> lazy("math").sqrt(9.0)
        3.0
    """
    return _LazyModule(name)
