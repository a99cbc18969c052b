"""A star import from an application's package binds what the package lists, and hides nothing of Python's."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

PACKAGES = [
    name
    for name in ("layered.vision", "layered.tabular", "layered.text", "layered.collab")
    if hasattr(importlib.import_module(name), "__all__")
]


def test_ratings_have_a_package_to_import_all_from():
    assert "layered.collab" in PACKAGES


@pytest.mark.parametrize("package", PACKAGES)
def test_a_star_import_binds_what_is_listed_and_leaves_builtins_alone(package):
    code = f"""
import builtins, json
before = set(globals())
from {package} import *
new = sorted(set(globals()) - before - {{"before"}})
hidden = [name for name in vars(builtins) if name in new and name != "__doc__"]
import {package}
print(json.dumps([new, sorted({package}.__all__), hidden, all is builtins.all]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    new, listed, hidden, is_builtin = json.loads(done.stdout)
    assert new == listed
    assert (hidden, is_builtin) == ([], True)
