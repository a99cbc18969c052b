"""A run that is killed, at any moment and as often as may be, and started again ends like one that was never stopped."""

import random
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from counts import SEED, soak
from killing import End, finish, left_by, start
from recipes import RECIPES, shared

from layered.catalog import URLs, untar_data

KILLS = soak(18, 300)  # of the first test; two are in the last


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERED_HOME", str(folder / "home"))
        untar_data(URLs.FASHION_TINY)
    return folder


def undisturbed(name: str, place: Path) -> tuple[dict, int, float]:
    """What the recipe leaves, how many file operations it takes, and how many seconds."""
    folder = place / f"{name} undisturbed"
    if not folder.exists():
        began = time.monotonic()
        finish(start(RECIPES[name], folder))
        (folder / "seconds").write_text(str(time.monotonic() - began))
    return *left_by(folder), float((folder / "seconds").read_text())


def some_end(chance: random.Random, operations: int, seconds: float) -> End:
    """A moment of the run, or of the saves in it: before, in or after one of their file operations."""
    if chance.random() < 0.5:
        return End(after=chance.uniform(0.1, 1) * seconds)
    return End(operation=chance.randrange(operations) + 1, half=chance.randrange(3))


def differences(found: dict, wanted: dict) -> list[str]:
    return [key for key in wanted if found[key] != wanted[key]]


@pytest.mark.soak
@pytest.mark.parametrize("name", RECIPES)
def test_a_killed_run_that_is_started_again_ends_like_one_that_was_not(place, name):
    wanted, operations, seconds = undisturbed(name, place)
    chance, kills, run = random.Random(f"{SEED} {name}"), 0, 0
    quota = KILLS // len(RECIPES) + (KILLS % len(RECIPES) > list(RECIPES).index(name))
    while kills < quota:
        run, told = run + 1, []
        folder = place / f"{name} {run}"
        for _ in range(min(chance.randint(1, 3), quota - kills)):
            end = some_end(chance, operations, seconds)
            status = finish(start(RECIPES[name], folder, end), end.after)
            told.append(end)
            assert status in (0, -signal.SIGKILL), f"seed {SEED}, {told}"
            if status == 0:
                break
            kills += 1
        finish(start(RECIPES[name], folder))
        found, _ = left_by(folder)
        assert not differences(found, wanted), f"seed {SEED}, run {run} is another after {told}"


def test_workers_do_not_change_a_run(place):
    assert not differences(undisturbed("workers", place)[0], undisturbed("augmented", place)[0])


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("augmented", {"batch": 4}),
        ("workers", {"batch": 9}),
        ("mixed", {"batch": 8}),
        ("cut", {"batch": 13}),
        ("tracked", {"operation": 9}),
        ("epochs", {"batch": 12}),
    ],
)
def test_a_terminated_run_saves_and_tells_so_by_143_and_goes_on(place, name, end):
    wanted, _, _ = undisturbed(name, place)
    folder = place / f"{name} terminated {end}"
    assert finish(start(RECIPES[name], folder, End(sent=signal.SIGTERM, **end))) == 128 + signal.SIGTERM
    assert finish(start(RECIPES[name], folder)) == 0
    assert not differences(left_by(folder)[0], wanted)


def both(folder: Path, name: str, after: float | None = None, ends: Mapping[int, End] = {}) -> list[int]:
    """The exit statuses of two processes that share a run, both killed after so many seconds."""
    folder.mkdir(exist_ok=True)
    pair = [start(shared, folder / f"{rank}", ends.get(rank, End()), rank, folder / f"meet {name}") for rank in (0, 1)]
    if after is not None:
        pair[0].join(after)
        for process in pair:  # at once: the second ends with an error of its own as soon as it misses the first
            process.kill()
    return [finish(process) for process in pair]


@pytest.mark.soak
def test_two_processes_that_are_killed_together_go_on_together(tmp_path):
    began = time.monotonic()
    assert both(tmp_path / "whole", "first") == [0, 0]
    seconds, chance = time.monotonic() - began, random.Random(f"{SEED} shared")
    for run in range(soak(1, 10)):
        folder = tmp_path / f"{run}"
        after = chance.uniform(0.3, 0.9) * seconds
        assert set(both(folder, "first", after)) <= {0, -signal.SIGKILL}
        assert both(folder, "second") == [0, 0]
        check_pair(folder, tmp_path / "whole", f"seed {SEED}, run {run}, after {after}")


def check_pair(folder: Path, whole: Path, told: str) -> None:
    """Each of two processes has left what it leaves undisturbed."""
    for rank in "01":
        one, wanted = left_by(folder / rank)[0], left_by(whole / rank)[0]
        assert not differences(one, wanted), f"process {rank}, {told}"


def test_two_processes_end_together_when_one_is_terminated(tmp_path):
    assert both(tmp_path / "whole", "first") == [0, 0]
    for terminated, batch in ((0, 13), (1, 9), (1, 21)):
        folder = tmp_path / f"{terminated} {batch}"
        end = End(batch=batch, sent=signal.SIGTERM)
        assert both(folder, "first", ends={terminated: end}) == [143, 143]
        assert both(folder, "second") == [0, 0]
        check_pair(folder, tmp_path / "whole", f"{terminated} terminated in batch {batch}")
