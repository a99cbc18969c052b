"""Tools that read docstrings find every parameter: those of each public function and class, with a description."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache

import griffe
import pytest

import layered

PACKAGES = [
    module.name
    for module in pkgutil.iter_modules(layered.__path__)
    if module.ispkg and hasattr(importlib.import_module(f"layered.{module.name}"), "__all__")
]


@cache
def parsed() -> griffe.Module:
    """The package as griffe reads it, without importing it."""
    loader = griffe.GriffeLoader(docstring_parser=griffe.Parser.google)
    package = loader.load("layered")
    loader.resolve_aliases(implicit=False, external=False)
    assert isinstance(package, griffe.Module)
    return package


def public_names(package: str) -> list[str]:
    """The functions and classes that a package defines and lists, as `module.name`."""
    face = importlib.import_module(f"layered.{package}")
    items = {name: getattr(face, name) for name in face.__all__}
    return sorted(
        f"{item.__module__}.{item.__qualname__}"
        for item in items.values()
        if (inspect.isclass(item) or inspect.isfunction(item)) and item.__module__.startswith(f"layered.{package}")
    )


def undocumented(path: str) -> list[str]:
    """The parameters of a function or class that its docstring does not describe, and those it describes but lacks.

    A class without a constructor of its own is described by the class that it takes it from.
    """
    item = parsed()[path.removeprefix("layered.")]
    described = descriptions(item)
    if isinstance(item, griffe.Class) and "__init__" not in item.members:
        for base in item.mro():
            described = {**descriptions(base), **described}
    own = [p.name.lstrip("*") for p in item.parameters]
    own = [name for name in own if isinstance(item, griffe.Function) or name != "self"]
    missing = [f"{path}({name}) is not described" for name in own if not described.get(name)]
    return missing + [f"{path}({name}) does not exist" for name in descriptions(item) if own and name not in own]


def descriptions(item: griffe.Object) -> dict[str, str]:
    """The `Args:` of a docstring, by name."""
    sections = item.docstring.parse(warnings=False) if item.docstring else []
    parameters = (s.value for s in sections if s.kind is griffe.DocstringSectionKind.parameters)
    return {parameter.name.lstrip("*"): parameter.description for section in parameters for parameter in section}


def test_all_packages_are_looked_at():
    assert {"foundation", "optim", "nn", "data", "loop", "callback", "training", "vision", "tabular", "text"} <= set(
        PACKAGES
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_every_parameter_is_described_once_and_none_that_does_not_exist(package):
    names = public_names(package)
    assert names or package == "integrations"
    assert [fault for name in names for fault in undocumented(name)] == []
