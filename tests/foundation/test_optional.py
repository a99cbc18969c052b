"""Optional packages come in by one door."""

from __future__ import annotations

import sys

import pytest

from layered.foundation import MissingDependency, lazy, require


def test_a_package_that_is_there_is_imported():
    import json

    assert require("json", extra="x", why="this") is json


def test_a_missing_package_is_an_error_with_the_extra_that_brings_it():
    with pytest.raises(MissingDependency, match="the model 'swin' needs the package 'no_such_package'") as caught:
        require("no_such_package", extra="timm", why="the model 'swin'")
    assert caught.value.fix == "pip install 'layered-learn[timm]'"
    assert isinstance(caught.value, ImportError)


def test_a_package_that_is_there_but_broken_raises_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import a_missing_neighbour")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_missing_neighbour") as caught:
        require("broken_package", extra="x", why="this")
    assert not isinstance(caught.value, MissingDependency)


def test_a_lazy_module_is_imported_on_first_use(tmp_path, monkeypatch):
    (tmp_path / "sleepy_module.py").write_text("value = 3")
    monkeypatch.syspath_prepend(tmp_path)
    module = lazy("sleepy_module")
    assert "sleepy_module" not in sys.modules
    assert "imported on first use" in repr(module)
    assert module.value == 3
    assert "value" in dir(module)
    monkeypatch.delitem(sys.modules, "sleepy_module")
