"""What the README says is so: its Python runs as it stands, and the files and commands that it names are there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from layered.catalog import URLs, untar_data
from layered.cli.main import make_parser

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A LAYERED_HOME whose FASHION_TINY holds every twentieth image: the README's lines run unchanged, in seconds."""
    whole = untar_data(URLs.FASHION_TINY, base=tmp_path / "whole")
    home = tmp_path / "home"
    for file in sorted(whole.glob("*/*/*.png"))[::20]:
        target = home / "data" / whole.name / file.relative_to(whole)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return home


def test_its_python_runs_in_an_empty_folder_that_has_a_shoe(home, tmp_path):
    (code,) = blocks("python")
    folder = tmp_path / "empty"
    folder.mkdir()
    shutil.copy(next(home.glob("data/*/valid/sneaker/*.png")), folder / "shoe.png")
    env = {**os.environ, "LAYERED_HOME": str(home), "LAYERED_OFFLINE": "1", "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_files_it_names_are_there():
    named = re.findall(r"`((?:nbs|docs|benchmarks)/[\w./]+|[A-Z]+\.md)`", README)
    notebooks = [f"nbs/{name}.ipynb" for name in re.findall(r"`(\d\d_\w+)`", README)]
    assert len(named) > 3
    assert [name for name in named + notebooks if not (ROOT / name).exists()] == []


def test_the_make_targets_it_names_are_there():
    targets = re.findall(r"^ {4}make (\w+)", README, re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert targets
    assert [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_the_command_lines_it_shows_are_understood():
    lines = re.findall(r"^ {4}layered (.+)$", README, re.MULTILINE)
    assert lines
    for line in lines:
        make_parser().parse_args(shlex.split(line))


def test_the_extras_it_tells_to_install_exist():
    extras = set(re.findall(r"layered-learn\[(\w+)\]|\.\[(\w+)\]", README))
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert extras
    assert [name for pair in extras for name in pair if name and not re.search(rf"^{name} = \[", project, re.M)] == []
