"""The examples in docstrings show what really comes out."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import layered

MODULES = [module.name for module in pkgutil.walk_packages(layered.__path__, "layered.")]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_give_what_they_show(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=0)
    assert result.failed == 0
