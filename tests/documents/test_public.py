"""The public surface is a tested fact: what the façades export is listed in `public_names.txt`.

After adding a name to a façade, bring the list up to date with `python tests/documents/test_public.py`. A name that
goes away needs a line in CHANGELOG.md.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

FACADES = ("layered.basics", "layered.vision.all", "layered.tabular.all", "layered.collab.all")
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
