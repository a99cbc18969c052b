"""The public surface is a tested fact: what the façades export is listed in `public_names.txt`.

After adding a name to a façade, bring the list up to date with `python tests/documents/test_public.py`. A name that
goes away needs a line in CHANGELOG.md.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

import layered

PACKAGES = [
    module.name
    for module in pkgutil.iter_modules(layered.__path__)
    if module.ispkg and hasattr(importlib.import_module(f"layered.{module.name}"), "__all__")
]
FACADES = ("layered.basics", "layered.vision.all", "layered.tabular.all", "layered.text.all", "layered.collab.all")
TABULAR = set(importlib.import_module("layered.tabular.all").__all__)  # which `layered.collab` brings too
FACES = {package: importlib.import_module(f"layered.{package}") for package in PACKAGES}
LIST = Path(__file__).with_name("public_names.txt")

each_facade = pytest.mark.parametrize("name", FACADES)


def exported() -> str:
    lines = [f"{name}.{public}" for name in FACADES for public in sorted(importlib.import_module(name).__all__)]
    return "\n".join(lines) + "\n"


def test_the_facades_export_the_names_that_are_listed():
    assert exported().splitlines() == LIST.read_text("utf-8").splitlines()


@each_facade
def test_every_exported_name_is_there_once(name):
    facade = importlib.import_module(name)
    assert len(facade.__all__) == len(set(facade.__all__))
    assert [public for public in facade.__all__ if not hasattr(facade, public)] == []


@each_facade
def test_every_name_of_the_library_comes_from_the_face_of_one_package(name):
    facade = importlib.import_module(name)
    for public in facade.__all__:
        item = getattr(facade, public)
        homes = [package for package in PACKAGES if getattr(FACES[package], public, None) is item]
        homes = [o for o in homes if public in FACES[o].__all__ and not (o == "collab" and public in TABULAR)]
        is_own = not isinstance(item, ModuleType) and getattr(item, "__module__", "").startswith("layered.")
        assert len(homes) == 1 or (not homes and not is_own), f"{public} is in {homes}"


@each_facade
def test_every_function_and_class_of_ours_says_what_it_is(name):
    facade = importlib.import_module(name)
    ours = {
        public: item
        for public in facade.__all__
        if (inspect.isfunction(item := getattr(facade, public)) or inspect.isclass(item))
        and item.__module__.startswith("layered.")
    }
    assert len(ours) > 100
    assert [public for public, item in ours.items() if not (item.__doc__ or "").strip()] == []


if __name__ == "__main__":
    LIST.write_text(exported(), "utf-8")
