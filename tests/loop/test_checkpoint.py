"""An interrupted fit that goes on from a checkpoint equals the uninterrupted one, bit for bit."""

import os
import signal
import subprocess
import sys
import textwrap
import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader as TorchDataLoader, TensorDataset

from layered.callback import fit_one_cycle
from layered.data import DataLoader
from layered.foundation import BadValue, CannotRestore, CannotSave, NotFoundPath
from layered.loop import Callback, Checkpoint, Loop


class Boom(RuntimeError):
    pass


def data() -> TensorDataset:
    x = torch.randn(22, 3, generator=torch.Generator().manual_seed(1))
    return TensorDataset(x, x.sum(1, keepdim=True))


LOADERS = {
    "ours": lambda: DataLoader(data(), bs=4, shuffle=True),
    "torch's": lambda: TorchDataLoader(data(), 4, shuffle=True),
    "a list": lambda: [data()[i : i + 4] for i in range(0, 22, 4)],
}


class Track(Callback):
    """Keeps state of several kinds, and dies after a number of batches."""

    def __init__(self, die_at=None):
        self.die_at, self.count, self.sums = die_at, 0, {"x": torch.zeros(3)}

    def after_batch(self):
        if self.training:
            self.count += 1
            self.sums["x"] = self.sums["x"] + self.x.sum(0)

    def after_step(self):
        if self.count + 1 == self.die_at:
            raise Boom


def learner(loader="a list", die_at=None, model=None) -> Loop:
    torch.manual_seed(0)
    model = model or nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 1))
    learn = Loop((LOADERS[loader](), LOADERS[loader]()), model, nn.MSELoss(), lr=0.01, cbs=Track(die_at))
    learn.logger = lambda row: None
    return learn


def two_fits(learn: Loop, folder=None, every="1 epoch", resume=None) -> dict:
    checkpoint = None if folder is None else Checkpoint(folder, every)
    fit_one_cycle(learn, 1, 0.01, checkpoint=checkpoint, resume=resume)
    fit_one_cycle(learn, 3, 0.02, checkpoint=checkpoint, resume=resume)
    return remains(learn)


def remains(learn: Loop) -> dict:
    state = {k: v.tolist() for k, v in learn.model.state_dict().items()}
    opt = {
        i: [v.tolist() if torch.is_tensor(v) else v for v in s.values()]
        for i, s in learn.opt.state_dict()["state"].items()
    }
    record = learn.recorder
    return {
        "weights": state, "opt": opt, "losses": record.losses, "lrs": record.lrs, "hps": record.hps, "values": record.values,
        "iters": record.iters, "count": learn.track.count, "sums": learn.track.sums["x"].tolist(),
        "epochs": learn.epochs_started, "rng": torch.rand(3).tolist(),
    }  # fmt: skip


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(("die_at", "every"), [(3, "1 batch"), (9, "2 batches"), (15, "1 epoch"), (24, "1 batch")])
def test_a_resumed_fit_equals_the_uninterrupted_one(tmp_path, loader, die_at, every):
    whole = two_fits(learner(loader))
    with pytest.raises(Boom):
        two_fits(learner(loader, die_at), tmp_path, every)
    torch.rand(5)
    assert two_fits(learner(loader), tmp_path, every, resume="auto") == whole


def test_a_killed_process_goes_on_in_a_new_one(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import torch, test_checkpoint as t
        from layered.loop import Callback
        learn = t.learner("torch's")
        kill = int(sys.argv[1])
        class Kill(Callback):
            def before_step(self):
                if self.track.count == kill:
                    os.kill(os.getpid(), 9)
        learn.add_cb(Kill)
        remains = t.two_fits(learn, {str(tmp_path / "kept")!r}, "2 batches", resume="auto")
        torch.save(remains, {str(tmp_path / "out.pt")!r})
        """)
    )

    def run(kill):
        return subprocess.run([sys.executable, script, str(kill)], check=False).returncode

    assert run(13) == -signal.SIGKILL
    assert run(-1) == 0
    assert torch.load(tmp_path / "out.pt") == two_fits(learner("torch's"))


def test_finished_fits_return_at_once(tmp_path):
    first = two_fits(learner(), tmp_path)
    assert two_fits(learner(die_at=1), tmp_path, resume="auto") == first


def test_accumulated_gradients_are_kept(tmp_path):
    from layered.loop import CancelBatchException

    class EveryThird(Callback):
        order = 20

        def after_backward(self):
            if (self.train_iter + 1) % 3:
                raise CancelBatchException

    def run(die_at=None, **kwargs):
        learn = learner(die_at=die_at)
        learn.fit(2, cbs=EveryThird, **kwargs)
        return remains(learn)

    whole = run()
    with pytest.raises(Boom):
        run(6, checkpoint=Checkpoint(tmp_path, "1 batch"))
    assert run(checkpoint=Checkpoint(tmp_path, "1 batch"), resume="auto") == whole


def test_a_folder_without_anything_means_start_and_one_without_a_usable_file_stops(tmp_path):
    learner().fit(1, resume="auto", checkpoint=tmp_path / "new")
    (tmp_path / "empty").mkdir()
    for place in ("none", "empty", "new/checkpoint-000099.layered"):
        with pytest.raises(NotFoundPath, match="there is no checkpoint at"):
            learner().fit(1, resume=tmp_path / place)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "checkpoint-000001.layered").write_bytes(b"junk")
    with pytest.raises(CannotRestore, match="no usable"):
        learner().fit(1, resume=tmp_path / "odd")
    with pytest.raises(BadValue, match="checkpoint="):
        learner().fit(1, resume="auto")


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before_and_says_so(tmp_path):
    whole = two_fits(learner())
    with pytest.raises(Boom):
        two_fits(learner(die_at=15), tmp_path, "2 batches")
    newest = sorted(tmp_path.iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-10])
    with pytest.warns(UserWarning, match=newest.name):
        assert two_fits(learner(), tmp_path, "2 batches", resume="auto") == whole


def test_other_arguments_and_other_models_are_refused(tmp_path):
    learner().fit(2, checkpoint=tmp_path)
    other = learner()
    with pytest.raises(CannotRestore, match="n_epoch=3"):
        other.fit(3, resume=tmp_path)
    assert other.fit_ordinal == 0
    with pytest.raises(CannotRestore, match="another model"):
        learner(model=nn.Linear(3, 1)).fit(2, resume=tmp_path)


def test_only_the_newest_stay(tmp_path):
    learner().fit(3, checkpoint=Checkpoint(tmp_path, "1 batch", keep=2))
    assert [f.name for f in sorted(tmp_path.glob("check*"))] == [
        "checkpoint-000018.layered",
        "checkpoint-000019-fit1.layered",
    ]


def test_the_end_of_each_earlier_fit_stays_too(tmp_path):
    two_fits(learner(), tmp_path, "1 batch")
    names = [f.name for f in sorted(tmp_path.glob("check*"))]
    assert len(names) == 3
    assert "-fit1" in names[0]
    assert "-fit2" in names[2]


def test_state_that_a_file_cannot_hold_stops_the_save_and_is_named(tmp_path):
    class Odd(Callback):
        def __init__(self):
            self.given = object()

        def before_fit(self):
            self.made = object()

    with pytest.raises(CannotSave, match=r"odd\.made"):
        learner().fit(1, cbs=Odd, checkpoint=tmp_path)

    class Declared(Odd):
        transient = ("made",)

    learner().fit(1, cbs=Declared, checkpoint=tmp_path)


@pytest.mark.parametrize("every", ["never", "0 epochs", "1 fortnight", 3])
def test_a_duration_that_makes_no_sense_is_refused(every, tmp_path):
    with pytest.raises(BadValue, match=r"how often|invalid duration"):
        Checkpoint(tmp_path / "new", every)
    assert not (tmp_path / "new").exists()


def test_checkpoints_by_the_clock_are_written(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner().fit(1, checkpoint=Checkpoint(tmp_path, "1 h"))
    assert len(list(tmp_path.glob("check*"))) == 1
