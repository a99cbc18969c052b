"""The reference is built without a warning, and has an entry for every public function and class."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import layered
from layered.foundation import LayeredError, errors
from layered.loop import Event

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_public_function_and_class_has_an_entry(site):
    missing = []
    for name in (module.name for module in pkgutil.iter_modules(layered.__path__) if module.ispkg):
        package = importlib.import_module(f"layered.{name}")
        page = site / "reference" / name / "index.html"
        if not page.exists():
            continue
        html = page.read_text("utf-8")
        for public in package.__all__:
            item = getattr(package, public)
            is_own = inspect.isclass(item) or inspect.isfunction(item)
            if (
                is_own
                and item.__module__.startswith(f"layered.{name}.")
                and f'id="layered.{name}.{public}"' not in html
            ):
                missing.append(f"layered.{name}.{public}")
    assert missing == []


def test_every_event_and_every_error_stands_in_its_table(site):
    events = (site / "reference/events/index.html").read_text("utf-8")
    assert [name for name in Event if f"<code>{name}</code>" not in events] == []
    page = (site / "reference/errors/index.html").read_text("utf-8")
    kinds = [name for name, item in vars(errors).items() if inspect.isclass(item) and issubclass(item, LayeredError)]
    assert [name for name in kinds if name != "LayeredError" and f"<code>{name}</code>" not in page] == []


def test_there_is_a_page_for_each_package_of_the_library(site):
    pages = {folder.name for folder in (site / "reference").iterdir() if folder.is_dir()}
    packages = {module.name for module in pkgutil.iter_modules(layered.__path__) if module.ispkg}
    assert packages - pages == {"cli", "integrations"}
    index = (site / "reference/index.html").read_text("utf-8")
    assert [name for name in pages if f'href="{name}/"' not in index] == []
    assert pages - packages == {"command_line", "errors", "events", "file_formats"}
