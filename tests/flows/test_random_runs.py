"""A run of any make that is killed, or whose power is cut, at any moment and started again ends like one that was not stopped.

`LAYERED_SEED=… LAYERED_SOAK=1 pytest 'tests/flows/test_random_runs.py::…[12]'` repeats number 12 of a seed.
"""

import random
import re
import signal
import time
from pathlib import Path

import pytest
from counts import SEED, soak
from killing import End, finish, left_by, start
from power import Synced
from random_runs import random_run, recipe
from test_kills import differences, some_end


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("random_runs")


def twin(place: Path, seed: str) -> tuple[dict, int, float]:
    """What a run leaves that nothing disturbs, its file operations and its seconds; skips what the library refuses to combine."""
    folder, began = place / f"{seed} whole", time.monotonic()
    finish(start(random_run, folder, End(), seed))
    error = folder / "error.txt"
    refusal = (
        re.search(r"^layered\.foundation\.errors\.(.*)", error.read_text(), re.MULTILINE) if error.exists() else None
    )
    if refusal:
        pytest.skip(refusal[1])
    return *left_by(folder), time.monotonic() - began


def goes_on(place: Path, seed: str, cuts_power: bool) -> None:
    wanted, operations, seconds = twin(place, seed)
    dice, told, folder = random.Random(f"{seed} ends"), [], place / seed
    folder.mkdir()
    synced = Synced(folder)
    for _ in range(dice.randint(1, 3)):
        end = some_end(dice, operations, seconds)
        told.append(end)
        if cuts_power:
            synced.begin()
        status = finish(start(random_run, folder, end, seed, synced if cuts_power else None), end.after)
        assert status in (0, -signal.SIGKILL), f"{told} {recipe(seed)} {(folder / 'error.txt').read_text()}"
        if cuts_power:
            told += synced.cut(dice)
    finish(start(random_run, folder, End(), seed))
    found, _ = left_by(folder)
    unlike = differences(found, wanted)
    shown = {name: (found[name], wanted[name]) for name in unlike if name in ("logs", "files", "states", "metrics")}
    assert not unlike, f"{unlike} after {told}\n{recipe(seed)}\n{shown}"


@pytest.mark.soak
@pytest.mark.parametrize("number", range(soak(1, 300)))
def test_a_killed_run_of_any_make_goes_on(place, number):
    goes_on(place, f"{SEED} killed {number}", cuts_power=False)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(soak(1, 300)))
def test_a_run_of_any_make_goes_on_after_a_power_cut(place, number):
    goes_on(place, f"{SEED} power {number}", cuts_power=True)
