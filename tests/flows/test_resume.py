"""A vision run that is killed and started again ends where the undisturbed run ends, to the last bit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("vision_run.py")


def run(home: Path, folder: object = "", workers: int = 0, kill_at: int = 0) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "LAYERED_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), str(folder), str(workers), str(kill_at)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def undisturbed(home):
    done = run(home)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_workers_do_not_change_a_run(home, undisturbed):
    done = run(home, workers=2)
    assert done.stdout == undisturbed, done.stderr


@pytest.mark.parametrize(
    ("kill_at", "workers"), [(4, 0), (12, 2)], ids=["in the frozen epoch", "after it, with workers"]
)
def test_a_killed_run_that_is_started_again_ends_like_one_that_was_not(home, undisturbed, tmp_path, kill_at, workers):
    killed = run(home, tmp_path / "run", workers, kill_at)
    assert killed.returncode == -9, killed.stderr
    again = run(home, tmp_path / "run", 2 - workers)
    assert again.stdout == undisturbed, again.stderr
