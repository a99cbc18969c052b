"""A process of a fit that fails, is killed or hangs: the other one ends soon and says which; both go on together later."""

import json
import os
import signal
import socket
import time
from contextlib import suppress

import pytest
import torch
from counts import SEED, chance, soak
from killing import End, finish, left_by, start
from torch import distributed, nn
from torch.utils.data import TensorDataset

import layered
from layered.data import DataLoader, DataLoaders
from layered.foundation import launched, noop, rank_and_world
from layered.loop import Callback, Loop, lost
from layered.optim import Adam
from layered.training import Learner

pytestmark = pytest.mark.skipif(
    not distributed.is_available() or not hasattr(os, "fork"), reason="needs gloo and forks"
)


class Ends(Callback):
    """Does something to this process in the middle of a batch."""

    transient = ("how", "batch")
    state_kinds = ()

    def __init__(self, how, batch=4):
        self.how, self.batch = how, batch

    def after_backward(self):
        if self.learn.train_iter == self.batch and self.learn.fit_ordinal == 2:
            self.how()

    def __repr__(self):
        return "Ends"


class Strikes(Callback):
    """Gives this process a signal at one of the events of its fits."""

    order = 100
    transient = ("number", "count")
    state_kinds = ()

    def __init__(self, number=0, count=0):
        self.number, self.count = number, count

    def strike(self):
        self.count -= 1
        if self.count == 0:
            os.kill(os.getpid(), self.number)

    before_batch = after_backward = before_step = after_batch = before_validate = after_epoch = strike

    def __repr__(self):
        return "Strikes"


def fails():
    raise ValueError("no such thing")


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def hangs():
    time.sleep(60)


def told_to_end():
    os.kill(os.getpid(), signal.SIGUSR1)


def as_ever():
    pass


def script(folder, end, rank, port, how):
    """What each process runs, started by SLURM: two fits of one learner."""
    os.environ |= {"SLURM_PROCID": f"{rank}", "SLURM_NTASKS": "2", "SLURM_LOCALID": f"{rank}", "MASTER_PORT": port}
    os.environ |= {"SLURM_JOB_NODELIST": "localhost,other[1-3]", "LAYERED_TIMEOUT": "5"}
    lost.PATIENCE = 2
    layered.resume_all(folder.parent / "run", every="2 batches")
    torch.manual_seed(3)
    x = torch.randn(22, 3, generator=torch.Generator().manual_seed(0))
    rows = TensorDataset(x, x.sum(1, keepdim=True))
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.2), nn.Linear(4, 1))
    cb = how if isinstance(how, Callback) else Ends(how)
    learn = Loop((DataLoader(rows, bs=4, shuffle=True), DataLoader(rows, bs=4)), model, nn.MSELoss(), Adam, cbs=cb)
    learn.logger = noop
    assert rank_and_world() == (rank, 2)
    for epochs in (1, 3):
        learn.fit(epochs, lr=0.05)
    return {
        "weights": [p.tolist() for p in learn.model.parameters()],
        "losses": [float(x) for x in learn.recorder.losses],
    }


def both(folder, *hows):
    """The exit statuses of two processes; the second is killed if it stays behind."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    pair = [start(script, folder / f"{rank}", End(), rank, port, how) for rank, how in enumerate(hows)]
    return [finish(pair[0]), finish(pair[1], after=5)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert both(folder, as_ever, as_ever) == [0, 0]
    return [left_by(folder / f"{rank}")[0] for rank in (0, 1)]


@pytest.mark.parametrize(
    ("hows", "statuses", "said"),
    [
        (
            (as_ever, fails),
            [1, 1],
            "process 1 of 2 is lost: process 0 cannot go on\n  got      process 1: ValueError: no such",
        ),
        (
            (as_ever, killed),
            [1, -9],
            "process 1 of 2 is lost: process 0 cannot go on\n  got      process 1: left without a word",
        ),
        (
            (as_ever, hangs),
            [1, -9],
            "process 1 of 2 is lost: process 0 cannot go on\n  got      process 1: left without a word",
        ),
        ((told_to_end, as_ever), [138, 138], None),
        ((as_ever, told_to_end), [138, 138], None),
    ],
    ids=["fails", "killed", "hangs", "told to end", "the other told to end"],
)
def test_the_other_ends_and_both_go_on(tmp_path, whole, hows, statuses, said):
    assert both(tmp_path, *hows) == statuses
    if said is not None:
        error = (tmp_path / "0" / "error.txt").read_text()
        for rank in "01":
            (tmp_path / rank / "error.txt").unlink(missing_ok=True)
        assert said in error
        assert "resume='auto'" in error
    assert both(tmp_path, as_ever, as_ever) == [0, 0]
    for rank in (0, 1):
        assert json.loads(json.dumps(left_by(tmp_path / f"{rank}")[0])) == whole[rank]


SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(soak(1, 100)))
def test_ended_anywhere_on_either_process_both_go_on(tmp_path, whole, number):
    dice = chance("two processes", number)
    for _ in range(2):
        hows = [Strikes(), Strikes()]
        hows[dice.randrange(2)] = Strikes(dice.choice(SIGNALS), dice.randrange(1, 90))
        both(tmp_path, *hows)
    for rank in "01":
        (tmp_path / rank / "error.txt").unlink(missing_ok=True)
    assert both(tmp_path, Strikes(), Strikes()) == [0, 0], f"seed {SEED}"
    for rank in (0, 1):
        assert json.loads(json.dumps(left_by(tmp_path / f"{rank}")[0])) == whole[rank], f"seed {SEED}"


def get_preds(learn, tmp):
    learn.get_preds()


def validate(learn, tmp):
    learn.validate()


def save(learn, tmp):
    learn.save(tmp / "model")


def verbs(folder, end, rank, port, verb):
    """Each process caught an error of its own earlier; then the second one is killed before a verb of all."""
    os.environ |= {"RANK": f"{rank}", "WORLD_SIZE": "2", "LOCAL_RANK": f"{rank}", "MASTER_ADDR": "localhost"}
    os.environ |= {"MASTER_PORT": port, "LAYERED_TIMEOUT": "5"}
    lost.PATIENCE = 2
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    rows = TensorDataset(x, x.sum(1, keepdim=True))
    learn = Learner(DataLoaders(DataLoader(rows, bs=4), DataLoader(rows, bs=4)), nn.Linear(3, 1), nn.MSELoss())
    learn.logger = noop
    learn.fit(1)
    with suppress(ValueError):
        learn.fit(1, cbs=Ends(fails, 0))
        raise AssertionError("it has not failed")
    learn.fit(1)
    if rank == 1:
        killed()
    verb(learn, folder)


@pytest.mark.parametrize("verb", [get_preds, validate, save], ids=lambda verb: verb.__name__)
def test_what_all_do_together_names_who_is_lost(tmp_path, verb):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    pair = [start(verbs, tmp_path / f"{rank}", End(), rank, port, verb) for rank in (0, 1)]
    assert [finish(pair[0]), finish(pair[1], after=5)] == [1, -9]
    assert (
        "process 1 of 2 is lost: process 0 cannot go on\n  got      process 1: left without a word"
        in (tmp_path / "0" / "error.txt").read_text()
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_meets_no_other_says_where_it_was(monkeypatch, rank):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    named = {"RANK": f"{rank}", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in (named | {"LAYERED_TIMEOUT": "1"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(lost.LostProcess, match=rf"process {rank} of 2 does not meet the others at 127.0.0.1:{port}"):
        Loop(([], None), nn.Linear(1, 1), nn.MSELoss())


def test_what_launchers_say(monkeypatch):
    for name in [name for name in os.environ if name.startswith("SLURM_")] + [
        "RANK",
        "WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
    ]:
        monkeypatch.delenv(name, raising=False)
    assert launched() is None
    slurm = {"PROCID": "5", "NTASKS": "8", "LOCALID": "1", "JOB_NODELIST": "gpu[03-04]", "JOB_ID": "61234"}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert launched() == (5, 8, 1, "gpu03", 20000 + 61234 % 20000)
    monkeypatch.setenv("SLURM_GTIDS", "0")  # the script of the job itself, before it calls srun
    assert launched() is None
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "6")
    assert launched() == (5, 6, 1, "gpu03", 20000 + 61234 % 20000)
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)  # torchrun, in a job of SLURM
    assert launched() == (1, 2, 1, "here", 29500)
