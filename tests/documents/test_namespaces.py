"""`import layered` offers packages and common names, the same to editors, to tab completion and at run time."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import layered

TREE = ast.parse(Path(layered.__file__).read_text("utf-8"))
STATIC = {
    name.name: node.module
    for block in TREE.body
    if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
    for node in block.body
    if isinstance(node, ast.ImportFrom)
    for name in node.names
}


def test_completion_offers_what_type_checkers_see():
    assert STATIC.keys() == layered._PACKAGES | layered._PACKAGE_OF.keys()
    assert set(STATIC) <= set(dir(layered))


@pytest.mark.parametrize("name", [name for name, package in STATIC.items() if package != "layered"])
def test_a_common_name_is_that_of_its_package(name):
    assert getattr(layered, name) is getattr(importlib.import_module(STATIC[name]), name)


@pytest.mark.parametrize("name", [name for name, package in STATIC.items() if package == "layered"])
def test_a_package_is_imported_on_first_use(name):
    assert getattr(layered, name) is importlib.import_module(f"layered.{name}")


def test_a_misspelt_name_is_an_attribute_error_that_python_can_help_with():
    with pytest.raises(AttributeError, match="no attribute 'Lerner'") as caught:
        _ = layered.Lerner
    assert (caught.value.name, caught.value.obj) == ("Lerner", layered)
    with pytest.raises(ImportError):
        from layered import Lerner  # noqa: F401


def test_no_two_files_of_tests_have_one_name():
    names = [path.name for path in Path(__file__).parents[1].rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)  # pytest would import one in place of the other
