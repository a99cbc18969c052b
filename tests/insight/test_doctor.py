"""Each check is quiet on three healthy runs and speaks up at its own seeded fault."""

import time

import pytest
import torch
from sklearn.datasets import load_digits, load_iris
from torch import nn
from torch.testing import assert_close
from torch.utils.data import TensorDataset

from layered.data import DataLoaders
from layered.foundation import UnknownName
from layered.insight import Finding, doctor
from layered.insight.doctor import CHECKS
from layered.nn import BCEWithLogitsLossFlat, ConvLayer, CrossEntropyLossFlat, PoolFlatten
from layered.testing import synth_learner
from layered.training import Learner


def loaders(x, y):
    x, y = torch.as_tensor(x).float(), torch.as_tensor(y)
    return DataLoaders.from_dsets(TensorDataset(x, y), TensorDataset(x, y), bs=32, seed=0, device="cpu")


def iris(model=None, loss_func=None, lr=1e-2, scale=1.0, x=None, y=None):
    """A healthy classifier of flowers, or one with something else in it."""
    torch.manual_seed(0)
    data = load_iris()
    inputs = (data.data - data.data.mean(0)) / data.data.std(0) * scale if x is None else x
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)) if model is None else model
    return Learner(loaders(inputs, data.target if y is None else y), model, loss_func or CrossEntropyLossFlat(), lr=lr)


def digits():
    """A healthy classifier of pictures."""
    torch.manual_seed(0)
    data = load_digits()
    model = nn.Sequential(ConvLayer(1, 8, stride=2), ConvLayer(8, 16, stride=2), PoolFlatten(), nn.Linear(16, 10))
    return Learner(loaders(data.images[:256, None] / 16, data.target[:256]), model, nn.CrossEntropyLoss(), lr=1e-2)


def labels():
    """A healthy classifier with several labels at once."""
    torch.manual_seed(0)
    x = torch.randn(128, 5)
    model = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 2))
    return Learner(loaders(x, (x[:, :2] > 0).float()), model, BCEWithLogitsLossFlat(), lr=1e-2)


HEALTHY = {"iris": iris, "digits": digits, "labels": labels, "line": lambda: synth_learner(lr=0.1)}


@pytest.mark.parametrize("make", HEALTHY.values(), ids=HEALTHY)
def test_healthy_runs_pass_every_check(make):
    diagnosis = doctor(make())
    assert diagnosis.ok, str(diagnosis)
    assert [finding.check for finding in diagnosis.findings] == list(CHECKS)


class Dead(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
        nn.init.constant_(self[0].bias, -100)


class Sleepy(TensorDataset):
    def __getitem__(self, i):
        time.sleep(0.001)
        return super().__getitem__(i)


class Detached(nn.Linear):
    def forward(self, x):
        return super().forward(x * 0)


def slow():
    learn = iris()
    learn.dls = DataLoaders.from_dsets(
        Sleepy(*learn.dls.train.dataset.tensors), bs=32, seed=0, device="cpu", num_workers=0
    )
    return learn


def deep_sigmoids():
    layers = [layer for _ in range(14) for layer in (nn.Linear(8, 8), nn.Sigmoid())]
    return iris(nn.Sequential(nn.Linear(4, 8), *layers, nn.Linear(8, 3)))


def frozen():
    learn = iris()
    learn.model.requires_grad_(False)
    learn.model[2].bias.requires_grad_(True)
    learn.model[0].weight.requires_grad_(True)
    learn.model[2].weight.data.zero_()
    return learn


FAULTS = [
    ("initial loss", lambda: iris(scale=1e4)),
    ("initial loss", lambda: iris(x=torch.full((150, 4), torch.nan))),
    ("dead units", lambda: iris(Dead())),
    ("gradients", deep_sigmoids),
    ("gradients", lambda: iris(scale=1e38)),
    ("gradients", lambda: iris(scale=1e6)),
    ("loader", slow),
    ("learning rate", lambda: iris(lr=1e3)),
    ("learning rate", lambda: iris(lr=1e-7)),
    ("one batch", lambda: iris(Detached(4, 3))),
    ("one batch", lambda: iris(x=torch.ones(150, 4))),
]


@pytest.mark.parametrize(("check", "make"), FAULTS)
def test_each_check_speaks_up_at_its_fault(check, make):
    torch.manual_seed(0)
    finding = doctor(make(), [check])[check]
    assert not finding.ok, finding
    assert finding.fix


def test_a_frozen_model_is_named():
    learn = iris()
    learn.model.requires_grad_(False)
    assert "unfreeze" in doctor(learn, ["gradients"])["gradients"].fix


def test_a_parameter_that_is_not_used_is_named():
    class Unused(nn.Linear):
        def __init__(self):
            super().__init__(4, 3)
            self.other = nn.Linear(4, 3)

    assert "other.weight" in doctor(iris(Unused()), ["gradients"])["gradients"].fix


def test_nothing_is_changed_and_nothing_printed_by_the_checks(capsys):
    learn = iris()
    before = [p.detach().clone() for p in learn.model.parameters()]
    random, cbs = torch.get_rng_state(), list(learn.cbs)
    doctor(learn)
    assert_close([*learn.model.parameters()], before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert learn.cbs == cbs
    assert learn.opt is None
    assert capsys.readouterr().out == ""


def test_checks_can_be_chosen_and_added():
    def small(learn):
        return Finding("small", sum(p.numel() for p in learn.model.parameters()) < 10, "large", "fewer layers")

    diagnosis = doctor(iris(), ["dead units", small])
    assert [f.check for f in diagnosis.findings] == ["dead units", "small"]
    assert not diagnosis
    assert str(diagnosis).splitlines()[-1] == "small: fewer layers"
    with pytest.raises(UnknownName, match="dead units"):
        doctor(iris(), ["dead unit"])


class Slow(nn.Linear):
    def forward(self, x):
        time.sleep(0.01)
        return super().forward(x)


def test_what_the_time_does_not_reach_is_named_and_is_not_a_fault():
    diagnosis = doctor(iris(Slow(4, 3)), seconds=0.3)
    assert diagnosis["one batch"].seen.startswith("not checked: the 0.3 s were over")
    assert diagnosis["one batch"].ok
    assert [finding.check for finding in diagnosis.findings] == list(CHECKS)
    assert "unknown" in str(diagnosis)
    assert doctor(iris(), ["one batch"]).ok


def test_an_error_of_a_check_is_raised():
    with pytest.raises(ZeroDivisionError):
        doctor(iris(), [lambda learn: 1 / 0])
