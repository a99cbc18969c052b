"""A fit that is interrupted in a random batch goes on bit for bit in a learner made anew, whatever it trains with."""

import inspect
import random
from contextlib import suppress
from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.data import TensorDataset

from layered.data import DataLoaders
from layered.foundation import set_seed
from layered.loop import Callback, Checkpoint
from layered.optim import zoo
from layered.training import Learner

OPTIMIZERS = {
    name: make
    for name, make in vars(zoo).items()
    if callable(make)
    and getattr(make, "__module__", "") == zoo.__name__
    and [*inspect.signature(make).parameters][:2] == ["params", "lr"]
}
TORCHS = ("SGD", "Adam", "AdamW", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "ASGD")
OPTIMIZERS |= {f"torch's {name}": getattr(torch.optim, name) for name in TORCHS}
OPTIMIZERS["Lookahead of Adam"] = lambda params, lr: zoo.Lookahead(zoo.Adam(params, lr), k=3)
OPTIMIZERS["SGD with momentum"] = partial(zoo.SGD, mom=0.9)
OPTIMIZERS["torch's SGD with momentum"] = partial(torch.optim.SGD, momentum=0.9)


class Boom(Exception):
    """Somebody else's failure."""


class FailAt(Callback):
    """Fails between the backward pass and the step of a batch."""

    order = 2000

    def __init__(self, batch=-1):
        self.batch = batch

    def before_step(self):
        if self.learn.train_iter == self.batch:
            raise Boom

    def __repr__(self):
        return "FailAt"


def learner(folder, opt_func, batch=-1, seed=0):
    set_seed(seed)
    x = torch.randn(22, 3, generator=torch.Generator().manual_seed(1))
    train, valid = (TensorDataset(part, part.sum(1, keepdim=True)) for part in (x[:18], x[18:]))
    dls = DataLoaders.from_dsets(train, valid, bs=4, device="cpu")
    model = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.ReLU(), nn.Linear(6, 1))
    return Learner(dls, model, nn.MSELoss(), opt_func, lr=0.01, path=folder, cbs=FailAt(batch))


def trained(learn, resume=None):
    saved = Checkpoint(learn.path / "run", "2 batches")
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(3, 0.02, checkpoint=saved, resume=resume)
    return learn


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_fit_with_any_optimizer_goes_on_bit_for_bit(tmp_path, name):
    make, batch = OPTIMIZERS[name], random.Random(name).randrange(3, 12)
    whole = trained(learner(tmp_path / "whole", make))
    numbers = torch.rand(3)
    with suppress(Boom):
        trained(learner(tmp_path / "cut", make, batch))
    again = trained(learner(tmp_path / "cut", make, seed=5), "auto")
    assert torch.equal(torch.rand(3), numbers)
    assert_close(again.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    assert_close(again.opt.state_dict()["state"], whole.opt.state_dict()["state"], rtol=0, atol=0)
    assert again.recorder.losses == whole.recorder.losses
    assert again.recorder.hps == whole.recorder.hps
    assert again.recorder.values == whole.recorder.values
