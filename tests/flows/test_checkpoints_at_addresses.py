"""Checkpoints at an address: a run goes on from them on a machine that has nothing else."""

import hashlib
import json
import os
import signal
import uuid

import fsspec
import pytest
import torch
from killing import End, finish, left_by, start
from torch import nn
from torch.utils.data import TensorDataset

import layered
from layered.callback import GradientClip
from layered.data import DataLoader
from layered.foundation import BadValue, CannotSave, MissingDependency, NotFoundPath, Offline, noop
from layered.loop import Callback, Checkpoint, Loop
from layered.loop.resume import remote
from layered.optim import Adam


def learner(*cbs):
    torch.manual_seed(3)
    x = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
    rows = TensorDataset(x, x.sum(1, keepdim=True))
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.2), nn.Linear(4, 1))
    learn = Loop(
        (DataLoader(rows, bs=4, shuffle=True, seed=1), DataLoader(rows, bs=4)), model, nn.MSELoss(), Adam, cbs=cbs
    )
    learn.logger = noop
    return learn


def weights(learn):
    return [p.tolist() for p in learn.model.parameters()]


class Boom(Exception):
    pass


def failing_at(batch):
    def fail(cb):
        if cb.learn.train_iter == batch:
            raise Boom

    return Callback(after_backward=fail)


@pytest.fixture
def address():
    return f"memory://{uuid.uuid4().hex}/run"


@pytest.fixture
def other_machine(tmp_path, monkeypatch):
    """Each call leaves this machine for one with an empty disk."""

    def go(name):
        monkeypatch.setenv("LAYERED_HOME", str(tmp_path / name))

    go("first")
    monkeypatch.setattr(remote, "PAUSE", 0.0)
    return go


@pytest.fixture(scope="module")
def whole():
    learn = learner(GradientClip(1.0), failing_at(-1))
    learn.fit(3, lr=0.05)
    return weights(learn)


def names(address):
    system, root = fsspec.core.url_to_fs(address)
    return sorted(path[len(root) + 1 :] for path in system.find(root))


@pytest.mark.parametrize("background", [True, False])
def test_another_machine_goes_on_where_the_first_one_was(address, other_machine, whole, background):
    checkpoint = Checkpoint(address, "2 batches", background=background)
    with pytest.raises(Boom):
        learner(GradientClip(1.0), failing_at(9)).fit(3, lr=0.05, checkpoint=checkpoint)
    assert names(address) == [".layered-run", "checkpoint-000003.layered", "checkpoint-000004.layered"]
    other_machine("second")
    again = learner(GradientClip(1.0), failing_at(-1))
    again.fit(3, lr=0.05, checkpoint=address, resume="auto")
    assert again.restored is not None
    assert weights(again) == whole
    assert names(address)[-1].endswith("-fit1.layered")
    other_machine("third")
    finished = learner(GradientClip(1.0), failing_at(-1))
    finished.fit(3, lr=0.05, resume=address)
    assert weights(finished) == whole
    assert finished.restored.file.name == names(address)[-1]


def test_a_torn_file_gives_way_to_the_one_before(address, other_machine, whole):
    with pytest.raises(Boom):
        learner(GradientClip(1.0), failing_at(9)).fit(3, lr=0.05, checkpoint=Checkpoint(address, "2 batches"))
    system, root = fsspec.core.url_to_fs(address)
    newest = f"{root}/{names(address)[-1]}"
    system.pipe_file(newest, system.cat_file(newest)[:-100])
    other_machine("second")
    again = learner(GradientClip(1.0), failing_at(-1))
    with pytest.warns(UserWarning, match="newer checkpoints are damaged"):
        again.fit(3, lr=0.05, checkpoint=address, resume="auto")
    assert weights(again) == whole


def test_a_service_that_fails_for_a_while_costs_nothing(address, other_machine, whole, monkeypatch):
    system, _ = fsspec.core.url_to_fs(address)
    put, count = system.put_file, 0

    def fails_at_first(*args):
        nonlocal count
        count += 1
        if count <= 4:
            raise ConnectionError("no route")
        return put(*args)

    monkeypatch.setattr(system, "put_file", fails_at_first)
    learn = learner(GradientClip(1.0), failing_at(-1))
    with pytest.warns(UserWarning, match="no route.*the next one takes them along"):
        learn.fit(3, lr=0.05, checkpoint=Checkpoint(address, keep=3))
    assert weights(learn) == whole
    assert len(names(address)) == 4


def test_what_cannot_be_put_in_the_end_is_an_error(address, other_machine, monkeypatch):
    system, _ = fsspec.core.url_to_fs(address)

    def fails(*args):
        raise ConnectionError("no route")

    monkeypatch.setattr(system, "put_file", fails)
    with pytest.warns(UserWarning, match="no route"), pytest.raises(CannotSave, match="no route") as caught:
        learner().fit(2, checkpoint=address)
    assert "start again, and fit puts them there" in caught.value.fix


def test_files_that_only_look_like_those_of_a_run_stay_where_they_are(address, other_machine, tmp_path):
    system, root = fsspec.core.url_to_fs(address)
    hostile = [
        "../../checkpoint-000009.layered",
        "notes.txt",
        "checkpoint-000009.layered/x",
        "data-zz/checkpoint-1.layered",
    ]
    for name in hostile:
        system.pipe_file(f"{root}/{name}", b"x")
    learner().fit(1, checkpoint=address, resume="auto")
    assert set(names(address)) >= {"notes.txt", "data-zz/checkpoint-1.layered"}
    assert not [file for file in tmp_path.rglob("*") if "000009" in file.name or file.name == "notes.txt"]


def test_two_runs_at_one_address_are_told(address, other_machine):
    def meet(cb):
        if cb.learn.epoch == 1:
            other_machine("second")
            learner().fit(1, checkpoint=address)
            other_machine("first")

    with pytest.raises(CannotSave, match="another run writes to 'memory:"):
        learner(Callback(before_train=meet)).fit(3, checkpoint=Checkpoint(address, background=False))


def test_a_script_as_it_is_keeps_its_runs_at_an_address(address, other_machine, whole, monkeypatch):
    monkeypatch.setenv("LAYERED_RUN", address)
    try:
        with pytest.raises(Boom):
            learner(GradientClip(1.0), failing_at(9)).fit(3, lr=0.05)
        layered.resume_all(None)
        other_machine("second")
        again = learner(GradientClip(1.0), failing_at(-1))
        again.fit(3, lr=0.05)
    finally:
        layered.resume_all(None)
    assert weights(again) == whole
    assert all(name.startswith("learner-1/") for name in names(address))


def test_secrets_in_an_address_are_not_shown(other_machine, monkeypatch):
    address = f"memory://key:geheim@{uuid.uuid4().hex}/run?sig=geheim"
    checkpoint = Checkpoint(address)
    assert "geheim" not in repr(checkpoint) + str(checkpoint.folder)
    monkeypatch.setattr(fsspec.core.url_to_fs(address)[0], "info", lambda *_: 1 / 0)
    with pytest.raises(Offline) as caught:
        learner().fit(1, checkpoint=checkpoint)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "error", "words"),
    [
        ("https://example.com/run", BadValue, "nothing can be written"),
        ("nonsense://bucket/run", BadValue, "an address that fsspec knows"),
        ("s3://bucket/run", MissingDependency, "s3fs"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused_at_once(place, error, words):
    with pytest.raises(error) as caught:
        learner().fit(1, checkpoint=place)
    assert words in str(caught.value)
    with pytest.raises(error):
        layered.resume_all(place)


def test_nothing_at_an_address_is_said(address, other_machine, monkeypatch):
    with pytest.raises(NotFoundPath):
        learner().fit(1, resume=address)
    with pytest.raises(NotFoundPath):
        learner().fit(1, resume=f"{address}/checkpoint-000001.layered")
    with pytest.raises(BadValue, match="whole files"):
        Checkpoint(address, parts=True)


def test_what_another_machine_changed_replaces_what_this_one_holds(address, other_machine):
    with pytest.raises(Boom):  # a run that is given up
        learner(failing_at(9)).fit(3, lr=0.01, checkpoint=Checkpoint(address, "2 batches"))
    fsspec.core.url_to_fs(address)[0].rm(address, recursive=True)
    other_machine("second")
    with pytest.raises(Boom):  # another one, with files of the same names and sizes
        learner(failing_at(9)).fit(3, lr=0.05, checkpoint=Checkpoint(address, "2 batches"))
    kept = weights_in(names(address)[-1], address)
    other_machine("first")
    with pytest.raises(Boom):
        learner(failing_at(9)).fit(3, lr=0.05, checkpoint=Checkpoint(address, "2 batches"), resume="auto")
    assert weights_in(names(address)[-1], address) == kept


def test_an_address_that_was_emptied_begins_anew(address, other_machine):
    learn = learner()
    learn.fit(1, checkpoint=address)
    fsspec.core.url_to_fs(address)[0].rm(address, recursive=True)
    again = learner()
    again.fit(1, checkpoint=address, resume="auto")
    assert again.restored is None


def test_what_could_not_be_put_is_there_for_the_next_start(address, other_machine, whole, monkeypatch):
    system, _ = fsspec.core.url_to_fs(address)
    put = system.put_file

    def fails(*args):
        put(*args)
        system.pipe_file(args[1], system.cat_file(args[1])[:100])
        raise ConnectionError("no route")

    monkeypatch.setattr(system, "put_file", fails)
    with pytest.warns(UserWarning, match="no route"), pytest.raises(Boom):
        learner(GradientClip(1.0), failing_at(15)).fit(3, lr=0.05, checkpoint=address)
    monkeypatch.setattr(system, "put_file", put)
    again = learner(GradientClip(1.0), failing_at(-1))
    again.fit(3, lr=0.05, checkpoint=address, resume="auto")
    assert again.restored.epoch_and_batch[0] == 2
    assert weights(again) == whole


def weights_in(name, address):
    system, root = fsspec.core.url_to_fs(address)
    return hashlib.sha256(system.cat_file(f"{root}/{name}")).hexdigest()


def test_a_service_that_does_not_answer_is_not_an_empty_one(address, other_machine, monkeypatch):
    learner().fit(1, checkpoint=address)
    other_machine("second")
    system, _ = fsspec.core.url_to_fs(address)

    def fails(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(system, "ls", fails)
    monkeypatch.setattr(system, "info", fails)
    learn = learner()
    before = weights(learn)
    with pytest.raises(Offline, match="no route"):
        learn.fit(1, checkpoint=address, resume="auto")
    assert weights(learn) == before


def killed_in_a_batch(folder, end, home, address):
    os.environ["LAYERED_HOME"] = str(home)
    learn = learner(failing_at(-1), Kill(end.batch))
    learn.fit(3, lr=0.05, checkpoint=Checkpoint(address, "1 batches"), resume="auto")
    return {"weights": weights(learn)}


class Kill(Callback):
    order = 100
    transient = ("batch",)
    state_kinds = ()

    def __init__(self, batch):
        self.batch = batch

    def after_backward(self):
        if self.learn.train_iter == self.batch:
            os.kill(os.getpid(), signal.SIGKILL)

    def __repr__(self):
        return "Kill"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forks")
def test_killed_on_each_machine_it_comes_to_its_end_on_the_last_one(tmp_path):
    address = f"file://{tmp_path}/service/run"
    for machine, batch in enumerate((3, 8, 14)):
        home = tmp_path / f"home{machine}"
        assert finish(start(killed_in_a_batch, tmp_path / f"{machine}", End(batch=batch), home, address)) == -9
    runs = {}
    for name, home, where in (("last", "home9", address), ("whole", "home10", f"file://{tmp_path}/other")):
        assert finish(start(killed_in_a_batch, tmp_path / name, End(), tmp_path / home, where)) == 0
        runs[name] = json.dumps(left_by(tmp_path / name)[0])
    assert runs["last"] == runs["whole"]
