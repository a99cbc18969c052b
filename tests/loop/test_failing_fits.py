"""A fit that fails leaves what the same command goes on from, bit for bit; a script says so once for all of its fits."""

import os
import signal

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import layered
from layered.data import DataLoader
from layered.foundation import BadArgument, CannotRestore, LayeredError, noop
from layered.loop import ESSENTIAL_CALLBACKS, Callback, Loop
from layered.optim import Adam


class Rows:
    """A data set of which one item cannot be read while the environment names it."""

    def __init__(self):
        self.x = torch.randn(14, 3, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return 14

    def __getitem__(self, i):
        if str(i) == os.environ.get("BROKEN"):
            raise OSError("the disk is away")
        return self.x[i], self.x[i].sum(0, keepdim=True)


class Fails(Callback):
    """Raises in the middle of a batch, or makes an item unreadable from the second epoch on."""

    transient = ("batch", "error", "item")
    state_kinds = ()

    def __init__(self, batch=-1, error=RuntimeError, item=None):
        self.batch, self.error, self.item = batch, error, item

    def before_epoch(self):
        if self.item is not None and self.learn.epoch == 1:
            os.environ["BROKEN"] = str(self.item)

    def after_backward(self):
        if self.learn.train_iter == self.batch:
            raise self.error

    def __repr__(self):
        return "Fails"


class Sends(Fails):
    """Sends this process a signal in the middle of a batch."""

    def after_backward(self):
        if self.learn.train_iter == self.batch:
            os.kill(os.getpid(), self.error)


def learner(cb=None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.Linear(4, 1))
    dls = DataLoader(Rows(), bs=4, shuffle=True, seed=1, drop_last=True), DataLoader(Rows(), bs=4)
    learn = Loop(dls, model, nn.MSELoss(), Adam, lr=0.1, cbs=cb or Fails(), default_cbs=ESSENTIAL_CALLBACKS)
    learn.logger = noop
    return learn


@pytest.fixture(scope="module")
def twin():
    learn = learner()
    learn.fit(3)
    return learn


@pytest.fixture(autouse=True)
def sound():
    yield
    os.environ.pop("BROKEN", None)
    layered.resume_all(None)


def check(learn, twin):
    assert_close(learn.model.state_dict(), twin.model.state_dict(), rtol=0, atol=0)
    assert learn.recorder.values == twin.recorder.values
    assert learn.recorder.losses == twin.recorder.losses


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_fit_that_fails_before_its_first_checkpoint_leaves_its_start(tmp_path, twin, error):
    with pytest.raises(error):
        learner(Fails(2, error)).fit(3, checkpoint=tmp_path)
    assert [file.name for file in tmp_path.glob("*.layered")] == ["checkpoint-000001.layered"]
    torch.manual_seed(9)  # another start than that of the file
    again = learner()
    nn.init.zeros_(again.model[0].weight)
    again.fit(3, checkpoint=tmp_path, resume="auto")
    assert (again.restored.file.name, again.recorder.epochs) == ("checkpoint-000001.layered", [0, 1, 2])
    check(again, twin)


def test_a_fit_that_fails_between_two_batches_leaves_where_it_was(tmp_path, twin):
    places = set()
    for item in range(0, 14, 3):
        learn, folder = learner(Fails(item=item)), tmp_path / f"{item}"
        with pytest.raises(LayeredError, match="the disk is away"):
            learn.fit(3, checkpoint=folder)
        os.environ.pop("BROKEN")
        again = learner()
        again.fit(3, checkpoint=folder, resume="auto")
        is_within = learn.train_iter in (4, 5)  # after the first or the second of the three batches
        assert again.restored.file.name == ("checkpoint-000002.layered" if is_within else "checkpoint-000001.layered")
        places.add(learn.train_iter)
        check(again, twin)
    assert {3, 4, 5} <= places


def test_a_failed_save_is_not_tried_again(tmp_path):
    learn = learner(Fails(1))
    with pytest.raises(RuntimeError) as caught:
        learn.fit(1, checkpoint=tmp_path)
    assert not any("failed in on_error" in note for note in caught.value.__notes__)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="has no such signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGUSR2"])
def test_each_signal_saves_and_ends_with_its_status(tmp_path, twin, name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        learner(Sends(4, number)).fit(3, checkpoint=tmp_path)
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) == before
    again = learner(Sends())
    again.fit(3, checkpoint=tmp_path, resume="auto")
    check(again, twin)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="has no such signals")
def test_a_handler_of_the_script_stays(tmp_path):
    heard = []
    old = signal.signal(signal.SIGUSR1, lambda *_: heard.append("script"))
    try:
        learner(Sends(1, signal.SIGUSR1)).fit(1, checkpoint=tmp_path)
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert heard == ["script"]


def two_fits(first=None, second=None):
    """A script of two learners: what both leave."""
    one = learner(first)
    one.fit(2)
    one.fit(1)
    two = learner(second)
    two.fit(1)
    return one, two


@pytest.mark.parametrize("says", ["a call", "the environment"])
def test_a_script_that_resumes_all_fits_goes_on_in_that_which_failed(tmp_path, monkeypatch, says):
    def begin():
        layered.resume_all(None)
        if says == "a call":
            layered.resume_all(tmp_path / "run", every="1 batch")
        else:
            monkeypatch.setenv("LAYERED_RUN", str(tmp_path / "run"))

    wanted = two_fits()
    for failing in (Fails(4), None), (None, Fails(1)):
        begin()
        with pytest.raises(RuntimeError):
            two_fits(*failing)
    begin()
    found = two_fits()
    for learn, expected in zip(found, wanted, strict=True):
        check(learn, expected)
    assert found[1].restored is not None
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == ["learner-1", "learner-2"]


def test_a_fit_with_a_checkpoint_of_its_own_keeps_it(tmp_path, twin):
    layered.resume_all(tmp_path / "run")
    with pytest.raises(RuntimeError):
        learner(Fails(4)).fit(3, checkpoint=tmp_path / "own")
    again = learner()
    again.fit(3, checkpoint=tmp_path / "own")
    check(again, twin)
    assert not (tmp_path / "run").exists()


def test_a_mock_fit_writes_nothing(tmp_path):
    layered.resume_all(tmp_path / "run")
    learn = learner()
    learn.peeking = True
    learn.fit(1)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_resumed_is_refused_as_ever(tmp_path):
    layered.resume_all(tmp_path / "run")
    learner().fit(1)
    layered.resume_all(tmp_path / "run")
    other = learner()
    other.model[3] = nn.Linear(4, 1, bias=False)
    with pytest.raises(CannotRestore):
        other.fit(1)
    with pytest.raises(BadArgument, match="resume_all needs a folder"):
        layered.resume_all("")
