"""Two processes that share each batch train, measure and resume as one process with batches twice as large."""

import contextlib
import io
import json
import sys
import warnings

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close
from torch.utils.data import DataLoader as TorchLoader, DistributedSampler, TensorDataset

from layered.callback import GradientAccumulation, ProgressCallback, TerminateOnNaNCallback, TimeLimit
from layered.data import DataLoader
from layered.foundation import BadValue, CannotRestore, LayeredError, noop
from layered.loop import ESSENTIAL_CALLBACKS, Callback, Loop, Resume, unwrapped
from layered.loop.processes import merge_metrics
from layered.metrics import AccumMetric, Metric
from layered.optim import SGD

g = torch.Generator().manual_seed(0)
X = torch.randn(21, 3, generator=g)
DATA = TensorDataset(X, X.sum(1, keepdim=True))
HELD_OUT = TensorDataset(X[:11] * 2, X[:11].sum(1, keepdim=True))  # 11 rows: the last batch is ragged


def largest_error(pred, targ):
    return (pred - targ).abs().max()


def mean_error(pred, targ):
    return (pred - targ).abs().mean()


def learner(bs, shared, cbs=None) -> Loop:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    dls = DataLoader(DATA, bs=bs, shuffle=True, seed=3), DataLoader(HELD_OUT, bs=bs)
    metrics = [mean_error, AccumMetric(largest_error)]
    model = DistributedDataParallel(model) if shared else model
    callbacks = [*ESSENTIAL_CALLBACKS, ProgressCallback]
    return Loop(dls, model, nn.MSELoss(), SGD, lr=0.1, metrics=metrics, cbs=cbs, default_cbs=callbacks)


class Stop(Callback):
    def after_step(self):
        if self.train_iter == 4:
            raise KeyboardInterrupt


def limited(bs, rank):
    """The batches that a process does whose fellow has no time."""
    learn = learner(bs, True, TimeLimit("0.001 s" if rank else "1 h"))
    with contextlib.redirect_stdout(io.StringIO()):
        learn.fit(2)
    return learn.train_iter


def run(folder, bs, shared=False):
    """A fit, one that is stopped and gone on with, and one that accumulates; what is left of them, as data."""
    printed, left = io.StringIO(), {}
    learn = learner(bs, shared)
    with contextlib.redirect_stdout(printed):
        learn.fit(2)
    left["weights"] = {name: p.tolist() for name, p in unwrapped(learn.model).state_dict().items()}
    left["values"], left["validated"] = learn.recorder.values, learn.validate()
    left["lines"] = len(printed.getvalue().splitlines())
    with contextlib.redirect_stdout(printed):
        with contextlib.suppress(KeyboardInterrupt):
            learner(bs, shared, Stop).fit(2, checkpoint=folder / "run")
        resumed = learner(bs, shared)
        resumed.fit(2, checkpoint=folder / "run", resume="auto")
        left["resumed"] = {name: p.tolist() for name, p in unwrapped(resumed.model).state_dict().items()}
        gathers = learner(bs, shared, GradientAccumulation(16))
        gathers.fit(1)
        left["gathered"] = {name: p.tolist() for name, p in unwrapped(gathers.model).state_dict().items()}
    return left


def refusals(folder, rank):
    """What is said where the processes do not train the same, or the first one cannot write; by what is wrong."""
    halves = TensorDataset(X[rank::2], X[rank::2].sum(1, keepdim=True))
    torch_loader, divided = TorchLoader(DATA, 4, shuffle=True), DistributedSampler(DATA, shuffle=False)
    wrong = {
        "other rows": lambda: bare(DataLoader(halves, bs=4, seed=3)).fit(1),
        "other order": lambda: bare(DataLoader(DATA, bs=4, shuffle=True, seed=rank)).fit(1),
        "other layers": lambda: bare(DataLoader(DATA, bs=4), *[nn.Tanh()] * rank).fit(1),
        "other epochs": lambda: bare(DataLoader(DATA, bs=4)).fit(1 + rank),
        "undivided": lambda: bare(torch_loader).fit(1),
        "divided": lambda: bare(TorchLoader(DATA, 4, sampler=divided)).fit(1),
        "no place": lambda: bare(DataLoader(DATA, bs=4)).save(folder / "meet" / "weights"),
    }
    said = {}
    for name, verb in wrong.items():
        try:
            verb()
        except LayeredError as error:
            said[name] = f"{type(error).__name__}: {error}"
    return said


def bare(train, *layers):
    """A learner that was told nothing about processes, whose weights differ in each."""
    torch.manual_seed(distributed.get_rank() if distributed.is_initialized() else 0)
    learn = Loop((train, None), nn.Sequential(nn.Linear(3, 1), *layers), nn.MSELoss(), SGD, lr=0.1)
    learn.logger = noop
    return learn


def ended_by_nan(rank):
    """The batches that each process does when one of them meets a loss that is not finite."""
    learn = bare(DataLoader(DATA, bs=4))
    learn.add_cbs(TerminateOnNaNCallback())
    learn.on("after_loss", lambda learn: setattr(learn, "loss", learn.loss * (float("nan") if rank else 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learn.fit(1)
    return learn.train_iter


def one_of_two(rank, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.set_num_threads(1)
    left = run(folder, bs=4, shared=True) | {"limited": limited(4, rank)}
    left |= {"refused": refusals(folder, rank), "ended": ended_by_nan(rank)}
    (folder / f"{rank}.json").write_text(json.dumps(left))
    distributed.barrier()  # neither leaves while the other still talks to it
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(one_of_two, (folder,), nprocs=2)
    both = [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]
    return both, json.loads(json.dumps(run(folder / "alone", bs=8))), folder


def tensors(weights):
    return {name: torch.tensor(value) for name, value in weights.items()}


pytestmark = pytest.mark.skipif(sys.platform == "win32" or not distributed.is_available(), reason="needs gloo")


@pytest.mark.parametrize("which", ["weights", "resumed", "gathered"])
def test_parameters_are_those_of_one_process_with_the_whole_batch(left, which):
    both, alone, _ = left
    for one in both:
        assert_close(tensors(one[which]), tensors(alone[which]))
    assert_close(tensors(both[0]["resumed"]), tensors(both[0]["weights"]))


def test_losses_and_metrics_are_those_of_all_rows_in_every_process(left):
    both, alone, _ = left
    for one in both:
        for row, expected in zip(one["values"], alone["values"], strict=True):
            assert row == pytest.approx(expected, rel=1e-4)
        assert one["validated"] == pytest.approx(alone["validated"], rel=1e-4)
    assert both[0]["values"] == both[1]["values"]


def test_processes_end_together_when_the_time_of_one_is_over(left):
    assert [one["limited"] for one in left[0]] == [1, 1]


def test_processes_end_together_when_the_loss_of_one_is_not_finite(left):
    assert [one["ended"] for one in left[0]] == [1, 1]


def test_processes_that_would_not_train_the_same_are_refused(left):
    for one in left[0]:
        said = one["refused"]
        assert "process 1 would train something else" in said["other rows"]
        assert "different in data.train" in said["other rows"]
        assert "RandomSplitter(seed=42)" in said["other rows"]
        assert "different in seed.train" in said["other order"]
        assert "different in model.layers" in said["other layers"]
        assert "different in arguments.n_epoch" in said["other epochs"]
        assert "each of the 2 processes would read all rows" in said["undivided"]
        assert "divided" not in said


def test_what_the_first_process_cannot_write_is_an_error_in_all(left):
    assert all(one["refused"]["no place"].startswith("CannotSave") for one in left[0])


def test_another_number_of_processes_is_told_of_and_may_go_on(left):
    _, _, folder = left
    with pytest.raises(CannotRestore, match="processes: written by 2, resumed by 1") as caught:
        learner(8, False).fit(2, checkpoint=folder / "run", resume="auto")
    assert "allow=['processes']" in str(caught.value)
    alone = learner(8, False)
    alone.fit(2, resume=Resume(folder / "run", allow="processes"))
    assert alone.restored.file.parent == folder / "run"


def test_the_first_process_alone_prints_and_writes(left):
    both, alone, folder = left
    assert [one["lines"] for one in both] == [alone["lines"], 0]
    assert [file.name for file in sorted((folder / "run").iterdir())] == [
        file.name for file in sorted((folder / "alone" / "run").iterdir())
    ]


class OldStyle(Metric):
    """A metric of the older form, which does not say what it keeps."""

    def reset(self):
        self.rows = 0

    def accumulate(self, learn):
        self.rows += len(learn.pred)

    @property
    def value(self):
        return self.rows


def test_a_metric_that_would_see_the_rows_of_one_process_alone_is_refused(monkeypatch):
    merge_metrics([OldStyle()])
    monkeypatch.setattr("layered.loop.processes.rank_and_world", lambda: (0, 2))
    with pytest.raises(BadValue, match="'old_style' cannot be combined across processes"):
        merge_metrics([AccumMetric(largest_error), OldStyle()])
