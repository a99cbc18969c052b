"""Every callback that the library ships trains on two and four processes what it trains on one with batches as large."""

import contextlib
import io
import json
import sys
from functools import partial

import pytest
import torch
from test_callbacks import MAKERS, SHIPPED
from torch import distributed, nn
from torch.testing import assert_close
from torch.utils.data import TensorDataset

from layered.callback import TruncatedBPTT, rnn_cbs
from layered.data import DataLoaders
from layered.foundation import rank_and_world
from layered.metrics import accuracy
from layered.training import Learner
from layered.vision.gan import AdaptiveGANSwitcher, FixedGANSwitcher, GANDiscriminativeLR, GANLearner

pytestmark = pytest.mark.skipif(sys.platform == "win32" or not distributed.is_available(), reason="needs gloo")
OF_PROCESSES = {"SharedFit", "SharedLoss", "AverageGradients"}  # which a fit in several processes has already
OTHERWISE = {  # run here under other names, or elsewhere
    "Checkpoint": "test_processes and test_signals resume with it",
    "FileLogger": "the base of CSVLogger and JSONLogger",
    "GANTrainer": "of every GAN",
    "HeldOutCallback": "made by fit_auto for one fit",
    "MixHandler": "the base of MixUp and CutMix",
    "ModelResetter": "of rnn_cbs",
    "RNNCallback": "of rnn_cbs",
    "RNNRegularizer": "of rnn_cbs",
    "Recorder": "every learner has one already",
    "ResumedFit": "test_processes resumes with it",
    "Review": "made by Interpretation for one pass",
    "TrainEvalCallback": "every learner has one already",
    "WeightAverage": "the base of EMACallback and SWACallback",
}
ROWS = 21  # of pictures: the last batch is ragged, and does not divide


WEIGHTS = torch.tensor([1.0, 4.0, 0.5])


def learner(folder, cbs, layers=(), make=Learner, numbers=False, weight=None) -> Learner:
    """A model without layers that see a batch as a whole, unless given."""
    torch.manual_seed(0)
    x = torch.randn(ROWS + 9, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    y = x.mean((2, 3)).repeat(1, 3) if numbers else torch.arange(len(x)) % 3
    train, valid = TensorDataset(x[:ROWS], y[:ROWS]), TensorDataset(x[ROWS:], y[ROWS:])
    dls = DataLoaders.from_dsets(train, valid, bs=bs(8), device="cpu", seed=0, drop_last=False)
    model = nn.Sequential(nn.Sequential(nn.Conv2d(1, 4, 3), *layers, nn.Tanh(), nn.Flatten()), nn.Linear(64, 3))
    loss_func = nn.MSELoss() if numbers else nn.CrossEntropyLoss(weight=weight)
    return Learner(
        dls, model, loss_func, lr=0.05, metrics=[] if numbers else accuracy, path=folder, cbs=cbs,
        splitter=lambda m: [[*m[0].parameters()], [*m[1].parameters()]],
    )  # fmt: skip


def bs(rows):
    """The batch size at which the processes have so many rows together."""
    return rows // rank_and_world()[1]


class Spoken(nn.Module):
    """A recurrent model that keeps its state, and shows its outputs; [batch, time, 2] to [batch, time, 1]."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(2, 3, batch_first=True), nn.Linear(3, 1)
        self.reset()

    def reset(self):
        self.hidden = None

    def forward(self, x):
        raw, hidden = self.rnn(x, self.hidden)
        self.hidden = hidden.detach()
        return self.head(raw), [raw], [raw * 2]


class Quiet(Spoken):
    def forward(self, x):
        raw, self.hidden = self.rnn(x, self.hidden)
        return self.head(raw)


def recurrent(folder, cbs, model=Spoken) -> Learner:
    torch.manual_seed(0)
    x = torch.randn(16, 7, 2, generator=torch.Generator().manual_seed(1))
    rows = TensorDataset(x, x.sum(-1, keepdim=True).cumsum(1))
    dls = DataLoaders.from_dsets(rows, rows, bs=bs(8), device="cpu", seed=0)
    return Learner(dls, model(), nn.MSELoss(), lr=0.05, path=folder, cbs=cbs)


def adversarial(folder, cbs, make=GANLearner.wgan) -> Learner:
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(1)
    rows = TensorDataset(torch.randn(ROWS, 4, generator=g), torch.randn(ROWS, 2, generator=g))
    dls = DataLoaders.from_dsets(rows, bs=bs(8), device="cpu", seed=0, drop_last=False)
    parts = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), nn.Sequential(nn.Linear(2, 8), nn.Linear(8, 1))
    return make(dls, *parts, lr=0.05, show_img=False, default_cbs=True, path=folder, cbs=cbs)


def with_all(*kinds):
    return lambda: [MAKERS[kind]() for kind in kinds]


LEARNERS = {name: (learner, make) for name, make in MAKERS.items() if name not in OF_PROCESSES} | {
    "CutMix of weighted classes": (partial(learner, weight=WEIGHTS), MAKERS["CutMix"]),
    "MixUp of weighted classes": (partial(learner, weight=WEIGHTS), MAKERS["MixUp"]),
    "MixUp of numbers": (partial(learner, numbers=True), MAKERS["MixUp"]),
    "MixUp, accumulated": (partial(learner, weight=WEIGHTS), with_all("MixUp", "GradientAccumulation")),
    "SAM, accumulated and clipped": (learner, with_all("SAM", "GradientAccumulation", "GradientClip")),
    "EMA, accumulated": (learner, with_all("EMACallback", "GradientAccumulation")),
    "a loss that a handler adds to": (learner, lambda: SHIPPED["FunctionCallback"]("after_loss", add_to_loss)),
    "rnn_cbs": (recurrent, lambda: rnn_cbs(alpha=2.0, beta=1.0)),
    "TruncatedBPTT": (partial(recurrent, model=Quiet), lambda: TruncatedBPTT(3)),
    "FixedGANSwitcher": (adversarial, lambda: FixedGANSwitcher(2, 1)),
    "AdaptiveGANSwitcher": (adversarial, lambda: AdaptiveGANSwitcher(0.7, -0.1)),
    "GANDiscriminativeLR": (adversarial, lambda: GANDiscriminativeLR(3.0)),
}


def add_to_loss(learn):
    learn.loss_grad = learn.loss_grad + learn.pred.pow(2).mean()


def trained(learn, epochs=2):
    """What a fit leaves: weights, the table, and how many lines were printed."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        learn.fit(epochs)
    return {
        "weights": [p.tolist() for p in learn.model.state_dict().values()],
        "values": learn.recorder.values,
        "lines": len(printed.getvalue().splitlines()),
    }


def results(folder):
    return {name: trained(make(folder / name, cbs())) for name, (make, cbs) in LEARNERS.items()}


def normalised(folder):
    """What fits of a model leave whose layers see the rows of one process, or draw for them."""
    layers = [nn.BatchNorm2d(4), nn.Dropout(0.2)]
    return {name: trained(learner(folder / name, make(), layers))["weights"] for name, make in MAKERS.items()}


def one_of_several(rank, world, folder, job):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet{world}", rank=rank, world_size=world)
    torch.set_num_threads(1)
    (folder / f"{rank}-of-{world}.json").write_text(json.dumps(job(folder / f"{world}")))
    distributed.barrier()
    distributed.destroy_process_group()


def several(folder, world, job):
    """What each of several processes leaves."""
    torch.multiprocessing.spawn(one_of_several, (world, folder, job), nprocs=world)
    return [json.loads((folder / f"{rank}-of-{world}.json").read_text()) for rank in range(world)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("callbacks")
    return json.loads(json.dumps(results(folder / "1"))), folder


@pytest.fixture(scope="module", params=[2, 4])
def both(request, alone):
    """What each of several processes leaves, and one alone, in which folder."""
    return several(alone[1], request.param, results), *alone


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return several(tmp_path_factory.mktemp("normalised"), 2, normalised)


def test_every_callback_is_run():
    assert SHIPPED.keys() - LEARNERS.keys() == OTHERWISE.keys() | OF_PROCESSES


@pytest.mark.parametrize("name", LEARNERS)
def test_a_fit_is_that_of_one_process(both, name):
    first, *others = (left[name] for left in both[0])
    alone = both[1][name]
    for other in others:
        assert first["weights"] == other["weights"]
        assert first["values"] == other["values"]
    bound = 1e-3 if name == "MixedPrecision" else 2e-6  # the gradient of a process is rounded before the mean is taken
    for got, wanted in zip(first["weights"], alone["weights"], strict=True):
        assert_close(torch.tensor(got), torch.tensor(wanted), rtol=0, atol=bound)
    assert len(first["values"]) == len(alone["values"])
    for row, wanted in zip(first["values"], alone["values"], strict=True):
        assert [value is None for value in row] == [value is None for value in wanted]
        got, expected = ([value for value in values if value is not None] for values in (row, wanted))
        assert got == pytest.approx(expected, rel=100 * bound, abs=bound)


@pytest.mark.parametrize("name", LEARNERS)
def test_the_first_process_alone_prints_and_writes(both, name):
    lines = [left[name]["lines"] for left in both[0]]
    assert lines == [both[1][name]["lines"], *[0] * (len(lines) - 1)]
    written = [sorted(file.name for file in (both[2] / n / name).rglob("*")) for n in ("1", str(len(lines)))]
    assert written[0] == written[1]


@pytest.mark.parametrize("name", MAKERS)
def test_processes_stay_alike_though_each_normalises_its_own_rows(two, name):
    first, second = (left[name] for left in two)
    assert first == second
