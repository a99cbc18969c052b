"""The wheel, installed alone in a folder of its own, works outside the checkout and holds all that the checkout has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ("layered", "datasets_index", "pyproject.toml", "README.md", "LICENSE")


def run(*command: str, cwd: Path, **env: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "LAYERED_HOME")}
    env = {**clean, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "LAYERED_OFFLINE": "1", **env}
    done = subprocess.run([sys.executable, *command], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the wheel's content, built from a copy of what is shipped."""
    tmp = tmp_path_factory.mktemp("wheel")
    copy = tmp / "copy"
    copy.mkdir()
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy)
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp), cwd=copy)
    (wheel,) = tmp.glob("layered_learn-*-py3-none-any.whl")
    run("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp / "site"), str(wheel), cwd=tmp)
    return tmp / "site"


def test_the_wheel_holds_every_file_of_the_package_and_the_index(installed):
    def files(folder: Path) -> set[str]:
        found = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
        return {name for name in found if "__pycache__" not in name}

    index = {f"datasets_index/{name}" for name in files(ROOT / "datasets_index")}
    missing = (files(ROOT / "layered") | index) - files(installed / "layered")
    assert not missing, f"add their packages to [tool.setuptools] in pyproject.toml: {sorted(missing)}"
    assert list(installed.glob("layered_learn-*.dist-info/licenses/LICENSE"))
    assert {f.name for f in installed.iterdir() if f.suffix != ".dist-info"} <= {"layered", "bin"}


def test_the_installed_wheel_unpacks_its_data_set_outside_the_checkout(installed, tmp_path):
    code = (
        "import layered; from layered.catalog.catalog import URLs, datasets, untar_data\n"
        "print(layered.__file__)\n"
        "print(len(datasets()))\n"
        "print(sum(1 for _ in untar_data(URLs.FASHION_TINY).rglob('*.png')))\n"
    )
    said = run("-c", code, cwd=tmp_path, PYTHONPATH=str(installed), LAYERED_HOME=str(tmp_path / "home")).split()
    assert said == [
        str(installed / "layered" / "__init__.py"),
        str(len(list((ROOT / "datasets_index").glob("*.toml")))),
        "2000",
    ]
