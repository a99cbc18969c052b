"""Fits that meet in one folder: one at a time writes there, the others are refused, and each that ends is whole.

`LAYERED_SEED=… LAYERED_SOAK=1 pytest 'tests/flows/test_meetings.py::…[12]'` repeats number 12 of a seed.
"""

import json
import os
import platform
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from counts import SEED, chance, soak
from killing import End, Strike, finish, left_by, start
from torch import nn
from torch.utils.data import TensorDataset

from layered.basics import Callback, Checkpoint, DataLoaders, Learner, noop
from layered.foundation import CannotRestore, CannotTrain
from layered.loop.resume.lock import LOCK

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))


class Visits(Callback):
    """Writes down when a fit is in the folder."""

    order = 5000
    observes = True

    def __init__(self, file: Path, who: str) -> None:
        self.file, self.who = file, who

    def say(self, what: str) -> None:
        with self.file.open("a") as file:
            file.write(f"{self.who} {what}\n")

    def before_fit(self) -> None:
        self.say("in")

    def on_end(self) -> None:
        self.say("out")


class Slow(Callback):
    observes = True

    def after_batch(self) -> None:
        time.sleep(0.005)


def learner(folder: Path, scale: float, *cbs: Any) -> Learner:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    shift = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.rand(p.shape, generator=shift) - 0.5)
    data = TensorDataset(X * scale, X.sum(1, keepdim=True))
    dls = DataLoaders.from_dsets(data, data, bs=4, device="cpu", seed=1)
    learn = Learner(dls, model, nn.MSELoss(), path=folder, default_cbs=True, cbs=[Slow(), *cbs])
    learn.logger = noop
    return learn


def fit(folder: Path, end: End, shared: Path, scale: float = 1.0, strikes: bool = True) -> dict[str, Any]:
    """One fit that keeps its checkpoints in a shared folder: what it leaves, or why it was refused."""
    cbs = [Visits(shared.with_name("visits"), folder.name), *([Strike(end)] if strikes else [])]
    learn = learner(folder, scale, *cbs)
    with learn.no_bar():
        try:
            learn.fit(3, checkpoint=Checkpoint(shared, "3 batches"), resume="auto")
        except (CannotTrain, CannotRestore) as refusal:
            return {"refused": type(refusal).__name__, "words": str(refusal)}
    return {"weights": [p.tolist() for p in learn.model.parameters()], "losses": learn.recorder.losses}


def check_visits(file: Path, dead: set[str]) -> None:
    """Nobody came in while another was in, unless that one was killed."""
    inside: str | None = None
    for line in file.read_text().splitlines():
        name, what = line.split()
        if what == "in":
            assert inside is None or inside in dead, f"{name} came while {inside} was in"
            inside = name
        elif inside == name:
            inside = None


def lock_of_somebody(folder: Path, kind: str) -> None:
    """A lock as others may have left it."""
    folder.mkdir()
    lock = folder / LOCK
    owner = {"host": platform.node(), "process": os.getppid(), "start": "long ago"}
    if kind == "link":
        lock.symlink_to("nowhere")
    else:
        lock.write_bytes({"dead": json.dumps(owner).encode(), "torn": b'{"ho', "empty": b"", "zeros": bytes(80)}[kind])
    if kind == "empty":
        os.utime(lock, (time.time() + 3600, time.time() + 3600))  # its disk has another clock


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[float, Any]:
    """What each fit leaves that meets nobody."""
    place, left = tmp_path_factory.mktemp("alone"), {}
    for scale in (1.0, 2.0):
        finish(start(fit, place / f"{scale}", End(), place / f"run{scale}", scale))
        left[scale] = left_by(place / f"{scale}")[0]
    return left


@pytest.mark.soak
@pytest.mark.parametrize("number", range(soak(1, 60)))
def test_processes_that_meet_in_a_folder_write_one_at_a_time(tmp_path, alone, number):
    dice, shared, dead, told = chance("meetings", number), tmp_path / "run", set(), []
    kind = dice.choice(["dead", "torn", "empty", "zeros", "link", "", "", ""])
    if kind:
        lock_of_somebody(shared, kind)
    for round_ in range(dice.randint(1, 3)):
        fits = []
        for i in range(dice.randint(2, 4)):
            end = End(batch=dice.randrange(1, 60)) if dice.random() < 0.4 else End()
            if dice.random() < 0.2:
                end = End(operation=dice.randrange(1, 80), half=dice.randrange(3))
            name = f"{round_}-{i}"
            fits.append((name, start(fit, tmp_path / name, end, shared)))
            told.append((name, end))
            time.sleep(dice.choice([0, 0, 0.05, 0.3]))
        for name, process in fits:
            if finish(process) == -signal.SIGKILL:
                dead.add(name)
                continue
            left = left_by(tmp_path / name)[0]
            assert left == alone[1.0] or left.get("refused") == "CannotTrain", f"seed {SEED}: {name} of {told}: {left}"
    assert finish(start(fit, tmp_path / "last", End(), shared)) == 0, f"seed {SEED}: {told}"
    assert left_by(tmp_path / "last")[0] == alone[1.0], f"seed {SEED}: {told}"
    check_visits(tmp_path / "visits", dead)
    assert not [file.name for file in shared.iterdir() if file.name.startswith(LOCK) or ".tmp" in file.name], told


@pytest.mark.soak
@pytest.mark.parametrize("number", range(soak(1, 20)))
def test_fits_of_other_data_that_meet_never_get_each_others_model(tmp_path, alone, number):
    dice, shared, left = chance("folds", number), tmp_path / "run", {}
    for round_ in range(3):
        fits = []
        for i in range(dice.randint(2, 3)):
            name, scale = f"{round_}-{i}", dice.choice([1.0, 2.0])
            fits.append((name, scale, start(fit, tmp_path / name, End(), shared, scale)))
            time.sleep(dice.choice([0, 0.1, 0.5]))
        for name, scale, process in fits:
            assert finish(process) == 0
            left[name] = left_by(tmp_path / name)[0]
            assert left[name] == alone[scale] or "refused" in left[name], (
                f"seed {SEED}: {name} on {scale}: {left[name]}"
            )
    assert any("refused" not in one for one in left.values())
    check_visits(tmp_path / "visits", set())


@pytest.mark.soak
@pytest.mark.parametrize("number", range(soak(1, 40)))
def test_threads_that_meet_in_a_folder_write_one_at_a_time(tmp_path, alone, number):
    dice, shared, left = chance("threads", number), tmp_path / "run", {}

    def one(name: str, wait: float) -> None:
        time.sleep(wait)
        try:
            left[name] = fit(tmp_path / name, End(), shared, strikes=True)
        except Exception as error:
            left[name] = repr(error)

    names = [f"{i}" for i in range(dice.randint(2, 5))]
    threads = [threading.Thread(target=one, args=(name, dice.choice([0, 0.01, 0.2, 0.5]))) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for name in names:
        assert left[name] == alone[1.0] or left[name].get("refused") == "CannotTrain", (
            f"seed {SEED}: {name}: {left[name]}"
        )
    assert any("refused" not in one for one in left.values())
    check_visits(tmp_path / "visits", set())
    assert not (shared / LOCK).exists()
