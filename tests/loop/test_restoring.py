"""What is restored is told; what cannot be stops the run and names the way on."""

import os
import random
import signal
import threading
from collections import deque
from pathlib import Path

import pytest
import torch
from torch import nn

from layered.callback import EMACallback
from layered.files import durable
from layered.files.durable import Disk
from layered.foundation import CannotRestore, CannotSave
from layered.loop import Callback, Checkpoint, Loop, Resume


class Boom(RuntimeError):
    pass


class At(Callback):
    """Does something in the middle of the `at`-th batch, validation counted too."""

    order = 5
    transient = ("at", "do", "seen")

    def __init__(self, at=-1, do=None):
        self.at, self.do, self.seen = at, do, 0

    def after_pred(self):
        self.seen += 1
        if self.seen == self.at:
            self.do()

    def __repr__(self):
        return "At"


def boom():
    raise Boom


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def learner(at=-1, do=None, cbs=(), model=None) -> Loop:
    torch.manual_seed(0)
    x = torch.randn(20, 3)
    batches = [(x[i : i + 4], x[i : i + 4].sum(1, keepdim=True)) for i in range(0, 20, 4)]
    model = model or nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 1))
    return Loop((batches, batches), model, nn.MSELoss(), lr=0.01, cbs=[At(at, do), *cbs])


def state(learn):
    return {k: v.tolist() for k, v in learn.model.state_dict().items()}, learn.recorder.losses, learn.recorder.values


def fit(learn, folder=None, every="1 batch", resume="auto", **kwargs):
    with learn.no_logging():
        learn.fit(2, **({"checkpoint": Checkpoint(folder, every, **kwargs), "resume": resume} if folder else {}))
    return state(learn)


# the audit


def test_the_table_of_what_was_restored_names_every_part(tmp_path, capsys):
    with pytest.raises(Boom):
        fit(learner(8, boom, [EMACallback()]), tmp_path)
    learn = learner(cbs=[EMACallback()])
    learn.fit(2, checkpoint=Checkpoint(tmp_path, "1 batch"), resume="auto")
    parts = {part: (done, how) for part, done, how in learn.restored.rows}
    assert parts["model"] == (True, "9 tensors, 0 gradients")
    assert parts["loader"] == (True, "replays 5 batches")
    assert {"optimizer", "random.torch", "random.numpy", "random.random", "callbacks.ema", "callbacks.recorder"} <= set(
        parts
    )
    assert "callbacks.ema" in repr(learn.restored)
    assert f"resuming from {learn.restored.file}: epoch 0, batch 5" in capsys.readouterr().out


def test_a_callback_that_is_gone_or_new_stops_the_fit_unless_allowed(tmp_path):
    with pytest.raises(Boom):
        fit(learner(8, boom, [EMACallback()]), tmp_path)
    other = learner()
    before = state(other)[0]
    with pytest.raises(CannotRestore, match=r"callbacks\.ema") as caught:
        fit(other, tmp_path)
    assert "allow=['callbacks.ema']" in caught.value.fix
    assert (state(other)[0], other.fit_ordinal) == (before, 0)
    fit(learner(), tmp_path, resume=Resume("auto", allow="callbacks.ema"))


def test_a_new_callback_with_state_stops_the_fit_unless_allowed(tmp_path):
    with pytest.raises(Boom):
        fit(learner(8, boom), tmp_path)
    with pytest.raises(CannotRestore, match="not in the file"):
        fit(learner(cbs=[EMACallback()]), tmp_path)
    fit(learner(cbs=[EMACallback()]), tmp_path, resume=Resume("auto", allow=["callbacks"]))


def test_another_model_or_loss_is_refused_before_anything_changes(tmp_path):
    fit(learner(), tmp_path)
    other = learner(model=nn.Linear(3, 1))
    before = state(other)[0]
    with pytest.raises(CannotRestore, match="another model"):
        fit(other, tmp_path)
    assert state(other)[0] == before


# folders


def test_a_folder_whose_checkpoints_are_gone_stops_and_one_that_never_had_any_starts(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "history.csv").write_text("epoch")
    fit(learner(), tmp_path / "run")
    for file in (tmp_path / "run").glob("checkpoint-*"):
        file.unlink()
    with pytest.raises(CannotRestore, match="its checkpoints are gone"):
        fit(learner(), tmp_path / "run")


# SIGTERM


@pytest.mark.parametrize("at", [1, 3, 5, 6, 8, 12, 19, 20])
@pytest.mark.parametrize("every", ["1 epoch", "2 batches"])
def test_sigterm_saves_exits_with_143_and_the_run_goes_on_bit_for_bit(tmp_path, at, every):
    whole = fit(learner(cbs=[EMACallback(0.5)]))
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        fit(learner(at, terminate, [EMACallback(0.5)]), tmp_path, every)
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is handler
    torch.rand(5)
    learn = learner(cbs=[EMACallback(0.5)])
    assert fit(learn, tmp_path, every) == whole
    epoch, batch = divmod(at - 1, 10)  # a validation pass comes to its end first
    wanted = f"epoch {epoch}, batch {batch + 1}" if batch < 5 else f"epoch {epoch + 1}, batch 0"
    assert learn.restored.where == wanted


@pytest.mark.parametrize(
    ("event", "order"),
    [("after_epoch", -10), ("after_epoch", 1001), ("after_fit", -10), ("after_fit", 1001), ("on_end", -10)],
)
def test_sigterm_at_the_end_of_an_epoch_or_fit_is_not_lost(tmp_path, event, order):
    whole = fit(learner())
    last = Callback(**{event: lambda cb: terminate()})
    last.order = order
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        fit(learner(cbs=[last]), tmp_path)
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is handler
    assert fit(learner(), tmp_path) == whole


@pytest.mark.parametrize("at", [3, 8])
def test_sigterm_whose_checkpoint_cannot_be_written_raises_the_error(tmp_path, monkeypatch, at):
    def refuse(self, file):
        raise OSError("no space")

    monkeypatch.setattr(Disk, "sync", refuse)
    with pytest.raises(CannotSave, match="could not write"):
        fit(learner(at, terminate), tmp_path, "1 epoch")


@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt])
def test_a_callback_that_fails_at_the_end_does_not_keep_the_signal(tmp_path, error):
    def fail(cb):
        raise error

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(error):
        fit(learner(cbs=[Callback(on_end=fail)]), tmp_path)
    assert signal.getsignal(signal.SIGTERM) is handler


def test_what_cannot_be_written_and_changes_in_place_is_named(tmp_path):
    cb = Callback()
    cb.queue, cb.draws = deque([1, 2], maxlen=2), random.Random(0)
    with pytest.raises(CannotSave, match=r"callback\.draws"):
        fit(learner(cbs=[cb]), tmp_path)


def test_a_queue_is_kept(tmp_path):
    class Last(Callback):
        def __init__(self):
            self.queue = deque(maxlen=3)

        def after_batch(self):
            self.queue.append(self.learn.epoch * 10 + self.learn.iter)

    whole, first, second = Last(), Last(), Last()
    fit(learner(cbs=[whole]))
    with pytest.raises(Boom):
        fit(learner(13, boom, [first]), tmp_path)
    fit(learner(cbs=[second]), tmp_path)
    assert (second.queue, second.queue.maxlen) == (whole.queue, 3)


def test_a_fit_in_another_thread_leaves_signals_alone(tmp_path):
    failed = []

    def work():
        try:
            fit(learner(), tmp_path)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failed == []
    assert list(tmp_path.glob("checkpoint-*"))


# failing disks


class Failing(Disk):
    """Refuses the `at`-th operation, before or after it is done."""

    def __init__(self, at, when):
        self.at, self.when, self.count = at, when, 0

    def __getattribute__(self, name):
        method = object.__getattribute__(self, name)
        if name not in vars(Disk):
            return method

        def watched(*args):
            self.count += 1
            if self.count == self.at and self.when == "before":
                raise OSError(28, "No space left on device")
            res = method(*args)
            if self.count == self.at and self.when == "after":
                raise OSError(5, "Input/output error")
            return res

        return watched


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_error_at_any_file_operation_is_raised_and_the_run_goes_on_from_what_is_left(
    tmp_path, monkeypatch, when, background
):
    whole, at = fit(learner()), 1
    while True:
        folder = tmp_path / str(at)
        disk = Failing(at, when)
        with monkeypatch.context() as patch:
            patch.setattr(durable, "disk", disk)
            if at > 40:  # all operations of several checkpoints have been tried
                break
            with pytest.raises(CannotSave, match=r"space|Input/output"):
                fit(learner(), folder, "2 batches", background=background)
        assert fit(learner(), folder, "2 batches") == whole, at
        assert len(list(folder.glob("checkpoint-*"))) <= 3
        at += 1


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "gone"])
def test_a_damaged_newest_checkpoint_gives_way_and_is_told_of(tmp_path, harm):
    whole = fit(learner())
    with pytest.raises(Boom):
        fit(learner(9, boom), tmp_path, "2 batches")
    newest = sorted(tmp_path.glob("checkpoint-*"))[-1]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    {
        "cut": lambda: newest.write_bytes(bytes(data[:-1])),
        "flip": lambda: newest.write_bytes(bytes(data)),
        "empty": lambda: newest.write_bytes(b""),
        "gone": newest.unlink,
    }[harm]()
    if harm == "gone":
        assert fit(learner(), tmp_path, "2 batches") == whole
    else:
        with pytest.warns(UserWarning, match=newest.name):
            assert fit(learner(), tmp_path, "2 batches") == whole


def test_what_others_put_beside_the_checkpoints_stays(tmp_path):
    (tmp_path / "checkpoint-000001.layered.d").mkdir()
    (tmp_path / "checkpoint-000090.layered").mkdir()
    (tmp_path / "checkpoint-best.layered").write_text("mine")
    fit(learner(), tmp_path)
    assert (tmp_path / "checkpoint-best.layered").read_text() == "mine"
    assert (tmp_path / "checkpoint-000090.layered").is_dir()
    assert fit(learner(), tmp_path) == fit(learner())


def test_a_folder_that_cannot_be_made_stops_the_fit(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotSave, match="choose another folder"):
        fit(learner(), Path(tmp_path / "file" / "run"), resume=None)
