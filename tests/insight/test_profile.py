"""A profile says where the time went, and leaves everything as it was."""

import time

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadValue, CannotTrain
from layered.insight import profile
from layered.insight.profile import STAGES
from layered.loop import Callback
from layered.testing import synth_learner
from layered.training import Learner

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


class Slow:
    """A data set that takes its time."""

    def __len__(self):
        return 12

    def __getitem__(self, i):
        time.sleep(0.003)
        return torch.ones(3), torch.ones(1)


class SlowModel(nn.Linear):
    def forward(self, x):
        time.sleep(0.02)
        return super().forward(x)


class SlowCallback(Callback):
    def after_pred(self):
        time.sleep(0.02)


def quiet(learn):
    learn.logger = lambda row: None
    return learn


@pytest.mark.parametrize(
    ("stage", "data", "model", "cbs"),
    [
        ("data", Slow(), nn.Linear(3, 1), None),
        ("forward", [(torch.ones(3), torch.ones(1))] * 12, SlowModel(3, 1), None),
        ("callbacks", [(torch.ones(3), torch.ones(1))] * 12, nn.Linear(3, 1), SlowCallback),
    ],
)
def test_the_slowest_stage_has_the_largest_share(stage, data, model, cbs):
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    seen = profile(Learner((loader, None), model, nn.MSELoss(), cbs=cbs), n_batches=2, warm_up=1)
    assert max(seen.seconds, key=seen.seconds.get) == stage
    assert seen.share(stage) > 0.5
    if stage == "callbacks":
        assert next(iter(seen.listeners)) == "after_pred"


def test_sizes_in_memory_equal_those_by_hand():
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 1))
    batches = [(torch.randn(16, 3), torch.randn(16, 1))] * 3
    seen = profile(Learner((batches, None), model, nn.MSELoss()), n_batches=1)
    parameters = (3 * 8 + 8 + 8 + 8 + 8 + 1) * 4
    assert seen.memory["parameters"] == seen.memory["gradients"] == parameters
    assert seen.memory["optimizer state"] == 2 * parameters
    assert seen.memory["batch"] == 16 * 4 * 4
    assert seen.memory["activations"] >= 2 * 16 * 8 * 4


def test_training_after_a_profile_is_as_if_there_had_been_none():
    def train(look):
        torch.manual_seed(0)
        learn = quiet(synth_learner(lr=0.1))
        learn.fit(1)
        if look:
            profile(learn, n_batches=3)
        learn.fit(1)
        return [*learn.model.parameters()], learn.recorder.values

    (ours, values), (theirs, wanted) = train(True), train(False)
    assert_close(ours, theirs, rtol=0, atol=0)
    assert [row[:2] for row in values] == [row[:2] for row in wanted]


def test_everything_is_put_back_after_an_error_too():
    learn = quiet(synth_learner(cbs=Callback(after_pred=lambda cb: 1 / 0)))
    with pytest.raises(ZeroDivisionError):
        profile(learn)
    assert not {"emit", "one_batch"} & vars(learn).keys()
    assert [type(cb).__name__ for cb in learn.cbs] == [
        "TrainEvalCallback",
        "Recorder",
        "CastToTensor",
        "ProgressCallback",
        "Callback",
    ]


def test_an_epoch_shorter_than_the_warm_up_will_do(capsys):
    seen = profile(synth_learner(n_train=1))
    assert seen.batches == 1
    assert seen.total == pytest.approx(sum(seen.seconds.values()))
    assert capsys.readouterr().out == ""


def test_it_prints_as_a_table_and_plots_as_bars():
    seen = profile(synth_learner(), n_batches=3)
    lines = str(seen).splitlines()
    assert lines[1].split() == ["stage", "ms", "a", "batch", "share"]
    assert [line.split()[0] for line in lines if line and not line.startswith((" ", "="))][1:9] == list(STAGES)
    seen.plot()
    assert len(plt.gca().patches) == len(STAGES)
    plt.close("all")


def test_what_cannot_be_profiled_is_named():
    learn = synth_learner()
    with pytest.raises(BadValue, match="n_batches=0"):
        profile(learn, n_batches=0)
    learn.dls.loaders[0] = (b for b in [(torch.ones(2, 1), torch.ones(2, 1))])
    with pytest.raises(CannotTrain, match="generator"):
        profile(learn)
