"""A fit resumes from its own checkpoints: those of another one are told apart, by name, and no two fits write to one folder."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from layered.callback import EMACallback, GradientClip
from layered.data import DataLoaders
from layered.foundation import CannotRestore, CannotSave, CannotTrain, Transform, noop
from layered.loop import Callback, Loop, Resume
from layered.loop.resume import lock
from layered.loop.resume.lock import LOCK

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))


class Boom(Exception):
    """Somebody else's failure."""


class Rows(Dataset):
    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.x[i].sum(0, keepdim=True)


def mae(pred, targ):
    return (pred - targ).abs().mean()


def twice(pred, targ):
    return 2 * mae(pred, targ)


def learner(x=X, drop=0.3, loss=None, metrics=mae, clip=0.1, lr=0.01, cbs=(), data=None):
    torch.manual_seed(0)
    loader = torch.utils.data.DataLoader(Rows(x) if data is None else data, 4)
    model = nn.Sequential(nn.Linear(3, 6), nn.Dropout(drop), nn.Linear(6, 1))
    own = [*([GradientClip(clip)] if clip else []), *cbs]
    learn = Loop((loader, loader), model, loss or nn.MSELoss(), lr=lr, metrics=metrics, cbs=own)
    learn.logger = noop
    return learn


def weights(learn):
    return [p.tolist() for p in learn.model.parameters()]


def interrupt(folder, **kwargs):
    def die(cb):
        if cb.learn.epoch == 1:
            raise Boom

    with pytest.raises(Boom):
        learner(**kwargs).fit(3, checkpoint=folder, resume="auto", cbs=Callback(before_train=die))


OTHER = {
    "data.train": {"x": X * 100}, "data.valid": {"x": torch.cat([X[:39], X[:1]])}, "data": {"data": Subset(Rows(X), range(40))},
    "model.1": {"drop": 0.5}, "loss": {"loss": nn.SmoothL1Loss()}, "metrics": {"metrics": twice}, "learner.lr": {"lr": 0.5},
    "callbacks.gradient_clip.max_norm": {"clip": 5.0}, "callbacks.gradient_clip": {"clip": None},
    "callbacks.ema": {"cbs": [EMACallback()]},
}  # fmt: skip


@pytest.mark.parametrize("part", OTHER)
def test_what_differs_from_the_interrupted_fit_is_named_and_may_be_allowed(tmp_path, part):
    interrupt(tmp_path)
    other = learner(**OTHER[part])
    before = weights(other)
    with pytest.raises(CannotRestore, match=part.replace(".", r"\.")) as caught:
        other.fit(3, checkpoint=tmp_path, resume="auto", cbs=Callback())
    assert weights(other) == before
    allowing = eval(caught.value.fix.partition("resume=")[2], {"Resume": Resume})
    learner(**OTHER[part]).fit(3, checkpoint=tmp_path, resume=allowing, cbs=Callback())


def test_the_same_fit_goes_on(tmp_path):
    whole = learner()
    whole.fit(3)
    interrupt(tmp_path)
    again = learner()
    again.fit(3, checkpoint=tmp_path, resume="auto", cbs=Callback())
    assert again.restored is not None
    assert weights(again) == weights(whole)


@pytest.mark.parametrize("times", [1, 2])
def test_each_fold_of_a_loop_in_one_folder_gets_its_own_model(tmp_path, times):
    folds = [X[:20], X[20:], X[10:30]]
    for _ in range(times):
        for fold in folds:
            left = []
            for saved in ({}, {"checkpoint": tmp_path, "resume": "auto"}):
                learn = learner(fold)
                for rate in (0.1, 0.01):
                    learn.fit(2, rate, **saved)
                left.append(weights(learn))
            assert left[0] == left[1]


def test_two_fits_do_not_write_to_one_folder(tmp_path):
    def meet(cb):
        with pytest.raises(CannotTrain, match="another fit writes to") as caught:
            learner().fit(1, checkpoint=tmp_path / ".." / tmp_path.name)
        assert f"process {os.getpid()}" in caught.value.got

    learner().fit(1, checkpoint=tmp_path, cbs=Callback(before_train=meet))
    assert not (tmp_path / LOCK).exists()


def dead_process():
    return int(
        subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True).stdout
    )


@pytest.mark.parametrize("process", ["dead", "reused", "mine"])
def test_the_lock_of_a_dead_process_is_taken_over(tmp_path, process):
    number = {"dead": dead_process, "reused": os.getppid, "mine": os.getpid}[process]()
    owner = {"host": os.uname().nodename, "process": number, "start": "long ago"}
    (tmp_path / LOCK).write_text(json.dumps(owner))
    learner().fit(1, checkpoint=tmp_path)
    assert not (tmp_path / LOCK).exists()


ELSEWHERE = {"host": "elsewhere", "process": 1, "start": ""}
BEFORE_A_RESTART = {"host": os.uname().nodename, "space": "another", "process": os.getpid(), "start": ""}


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.1)
    monkeypatch.setattr(lock, "LEASE", 1.0)


@pytest.mark.parametrize("owner", [ELSEWHERE, BEFORE_A_RESTART], ids=["another host", "another container"])
def test_a_lock_that_is_touched_stays(tmp_path, hurried, owner):
    (tmp_path / LOCK).write_text(json.dumps(owner))
    is_over = threading.Event()
    other = threading.Thread(target=lock._beat, args=(tmp_path / LOCK, owner, is_over))
    other.start()
    with pytest.raises(CannotTrain, match=r"another fit writes to") as caught:
        learner().fit(1, checkpoint=tmp_path)
    is_over.set()
    other.join()
    assert owner["host"] in caught.value.got
    assert json.loads((tmp_path / LOCK).read_text()) == owner


@pytest.mark.parametrize("owner", [ELSEWHERE, BEFORE_A_RESTART], ids=["another host", "another container"])
def test_a_lock_that_nobody_touches_is_taken_over(tmp_path, hurried, owner, capsys):
    (tmp_path / LOCK).write_text(json.dumps(owner))
    os.utime(tmp_path / LOCK, (0, 2**32))  # its disk has another clock
    learner().fit(1, checkpoint=tmp_path)
    assert not (tmp_path / LOCK).exists()
    assert "looking for 1 seconds whether it lives" in capsys.readouterr().out


def test_a_fit_touches_its_lock(tmp_path, hurried):
    touched = set()

    def look(cb):
        touched.add((tmp_path / LOCK).stat().st_mtime_ns)
        time.sleep(0.05)

    learner().fit(1, checkpoint=tmp_path, cbs=Callback(after_batch=look))
    assert len(touched) >= 3
    assert not [thread for thread in threading.enumerate() if thread.name == "layered-lock" and thread.join(5)]


def test_a_fit_whose_folder_was_taken_over_ends_without_writing(tmp_path):
    learn = learner()

    def sleep_long(cb):
        if cb.learn.epoch == 0:
            (tmp_path / LOCK).write_text(json.dumps(ELSEWHERE))

    with pytest.raises(CannotSave, match="another fit has taken over"):
        learn.fit(2, checkpoint=tmp_path, cbs=Callback(before_train=sleep_long))
    assert json.loads((tmp_path / LOCK).read_text()) == ELSEWHERE
    assert not list(tmp_path.glob("*.layered"))


@pytest.mark.parametrize(
    ("seen", "expected"), [([0, 0], True), ([0, None], False), ([0, 1], False), ([None, None], False)]
)
def test_whether_all_processes_see_a_folder(tmp_path, monkeypatch, seen, expected):
    owners = [None if number is None else {**ELSEWHERE, "process": number} for number in seen]
    monkeypatch.setattr(lock, "gathered", lambda own: owners)
    assert lock.all_see(tmp_path) is expected


def test_other_folders_do_not_wait_for_a_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "LEASE", 30.0)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / LOCK).write_text(json.dumps(ELSEWHERE))
    waiting = threading.Thread(target=lambda: learner().fit(1, checkpoint=tmp_path / "a"))
    waiting.start()
    learner().fit(1, checkpoint=tmp_path / "b")
    assert waiting.is_alive()
    (tmp_path / "a" / LOCK).unlink()
    waiting.join(10)
    assert not waiting.is_alive()


@pytest.mark.parametrize("other", ["link", "link/../run", "run/../run", "~/run"])
def test_a_folder_is_found_however_it_is_written(tmp_path, monkeypatch, other):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    interrupt(other)
    again = learner()
    again.fit(3, checkpoint="run", resume="auto", cbs=Callback())
    assert again.restored is not None


def test_callbacks_whose_repr_holds_an_address_or_a_place_go_on(tmp_path):
    class Log(Callback):
        def __init__(self, file):
            self.file = file

        def __repr__(self):
            return f"Log('{self.file}', {object()!r})"

    def die(cb):
        raise Boom

    def fit(place, *cbs):
        learner().fit(2, checkpoint=place, resume="auto", cbs=[Log(place / "log"), *cbs])

    late = Callback(after_epoch=die)
    late.order = 2000
    with pytest.raises(Boom):
        fit(tmp_path / "old", late)
    (tmp_path / "old").rename(tmp_path / "new")
    fit(tmp_path / "new", Callback())


@pytest.mark.parametrize("seeds", [torch.manual_seed, None], ids=["of torch", "of the loaders"])
@pytest.mark.parametrize("times", [1, 2])
def test_each_repeat_of_a_loop_over_seeds_in_one_folder_gets_its_own_model(tmp_path, times, seeds):
    def repeat(seed, **saved):
        torch.manual_seed(seed if seeds else 0)
        dls = DataLoaders.from_dsets(Rows(X), Rows(X), bs=4, device="cpu", seed=None if seeds else seed)
        learn = Loop(dls, nn.Sequential(nn.Linear(3, 6), nn.Linear(6, 1)), nn.MSELoss(), lr=0.01)
        learn.logger = noop
        for rate in (0.1, 0.01):
            learn.fit(2, rate, **saved)
        return weights(learn)

    wanted = [repeat(seed) for seed in range(3)]
    assert wanted[0] != wanted[1] != wanted[2]
    for _ in range(times):
        assert [repeat(seed, checkpoint=tmp_path, resume="auto") for seed in range(3)] == wanted


def noise(x):
    return x


def scaled(by):
    return Transform(lambda x: x * by)


BATCHES = {
    "batches.train.shuffle": {"shuffle": False}, "batches.train.drop_last": {"drop_last": True},
    "batches.train.after_item": {"after_item": scaled(3)}, "batches.train.after_batch": {"after_batch": [noise]},
}  # fmt: skip


@pytest.mark.parametrize("part", BATCHES)
def test_other_batches_are_named_and_may_be_allowed(tmp_path, part):
    def fit(resume, cbs, **settings):
        made = {"after_item": scaled(2), "drop_last": False, "bs": 4, "device": "cpu"} | settings
        torch.manual_seed(0)
        learn = Loop(DataLoaders.from_dsets(Rows(X), Rows(X), **made), nn.Linear(3, 1), nn.MSELoss(), lr=0.01, cbs=cbs)
        learn.logger = noop
        learn.fit(3, checkpoint=tmp_path, resume=resume)

    def die(cb):
        if cb.learn.epoch == 1:
            raise Boom

    with pytest.raises(Boom):
        fit("auto", Callback(before_train=die))
    with pytest.raises(CannotRestore, match=part.replace(".", r"\.")) as caught:
        fit("auto", None, **BATCHES[part])
    allowing = eval(caught.value.fix.partition("resume=")[2], {"Resume": Resume})
    fit(allowing, None, **BATCHES[part])
