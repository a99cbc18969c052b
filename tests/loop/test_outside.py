"""What models, losses, data sets and transforms hold outside `state_dict` is kept in checkpoints, or named."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader as TorchLoader, Dataset

from layered.data import DataLoader
from layered.foundation import Transform, noop
from layered.loop import Callback, Checkpoint, Loop

X = torch.randn(24, 3, generator=torch.Generator().manual_seed(1))


class Boom(Exception):
    """Somebody else's failure."""


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x):
        return self.layer(x) * self.factor()

    def factor(self):
        return 1.0


class Counts(Base):
    def __init__(self):
        super().__init__()
        self.count = 0

    def factor(self):
        self.count += 1
        return 1 + self.count / 10


class Nested(Base):
    class Meter:
        def __init__(self):
            self.total, self.seen = 0.0, Counter()

    def __init__(self):
        super().__init__()
        self.meters = [self.Meter()]

    def factor(self):
        meter = self.meters[0]
        meter.total += 0.1
        meter.seen[self.training] += 1
        return 1 + meter.total + meter.seen[True]


class Draws(Base):
    def __init__(self, make):
        super().__init__()
        self.rng = make()

    def factor(self):
        rng = self.rng
        if isinstance(rng, torch.Generator):
            return float(torch.rand((), generator=rng))
        return float(rng.random() if not isinstance(rng, np.random.RandomState) else rng.random_sample())


class Average(Base):
    def __init__(self):
        super().__init__()
        self.mean = None

    def forward(self, x):
        now = x.mean(0).detach()
        self.mean = now if self.mean is None else 0.9 * self.mean + 0.1 * now
        return self.layer(x + self.mean)


class Lazy(Base):
    """Gets its attribute in the first pass, and changes it in place."""

    def factor(self):
        if not hasattr(self, "numbers"):
            self.numbers = np.zeros(3000)
        self.numbers[7] += 1
        return 1 + self.numbers[7] / 10


class ByClass(Base):
    calls = 0

    def factor(self):
        ByClass.calls += 1
        return 1 + ByClass.calls / 10


RNG, TOTAL = random.Random(3), 0


def drawn():
    return RNG.random()


class ByModule(Base):
    def factor(self):
        global TOTAL
        TOTAL += 1
        return drawn() + TOTAL / 10


class Extra(Counts):
    def get_extra_state(self):
        return {"count": self.count}

    def set_extra_state(self, state):
        self.count = state["count"]


MODELS = {
    "counter": Counts, "nested": Nested, "tensor": Average, "lazy": Lazy, "class": ByClass, "module": ByModule, "extra": Extra,
    "torch": lambda: Draws(lambda: torch.Generator().manual_seed(1)), "python": lambda: Draws(lambda: random.Random(1)),
    "numpy": lambda: Draws(lambda: np.random.default_rng(1)), "old numpy": lambda: Draws(lambda: np.random.RandomState(1)),
}  # fmt: skip


def closing():
    count = 0

    def loss(pred, targ):
        nonlocal count
        count += 1
        return ((pred - targ) ** 2).mean() * (1 + count / 10)

    return loss


class CountingLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls, self.mean = 0, torch.zeros(())

    def forward(self, pred, targ):
        loss = ((pred - targ) ** 2).mean()
        self.calls += 1
        self.mean.mul_(0.9).add_(0.1 * loss.detach())
        return loss / (1 + self.mean) + self.calls * pred.mean() / 100


LOSSES = {"closure": closing, "module": CountingLoss}


class Rows(Dataset):
    def __init__(self):
        self.given, self.rng = 0, np.random.default_rng(5)

    def __len__(self):
        return 24

    def __getitem__(self, i):
        self.given += 1
        x = X[i] + self.given / 50 + float(self.rng.random())
        return x, x.sum(0, keepdim=True)


class Jitter(Transform):
    def __init__(self):
        self.calls, self.generator = 0, torch.Generator().manual_seed(3)

    def encodes(self, x: torch.Tensor):
        self.calls += 1
        return x + self.calls / 100 + torch.rand((), generator=self.generator)


def plain(num_workers=0):
    return DataLoader(Rows(), 4, shuffle=True, seed=1, num_workers=num_workers)


def jittered(num_workers=0):
    rows = [(x, x.sum(0, keepdim=True)) for x in X]
    return DataLoader(rows, 4, shuffle=True, seed=1, num_workers=num_workers, after_item=Jitter(), after_batch=Jitter())


class Batches:
    """A loader without interface, which counts its passes."""

    def __init__(self):
        self.passes = 0

    def __iter__(self):
        self.passes += 1
        for i in range(6):
            x = X[4 * i : 4 * i + 4] * self.passes
            yield x, x.sum(1, keepdim=True)

    def __len__(self):
        return 6


LOADERS = {
    "data set": plain, "in workers": lambda: plain(2), "transforms": jittered, "transforms in workers": lambda: jittered(2),
    "torch's": lambda: TorchLoader(Rows(), 4), "torch's with workers": lambda: TorchLoader(Rows(), 4, num_workers=2),
    "batches": Batches,
}  # fmt: skip


def learner(model=Base, loss=nn.MSELoss, loader=None):
    ByClass.calls = 0
    RNG.seed(3)
    globals()["TOTAL"] = 0
    torch.manual_seed(0)
    train = [(X[i : i + 4], X[i : i + 4].sum(1, keepdim=True)) for i in range(0, 24, 4)] if loader is None else loader()
    learn = Loop((train, train), model(), loss(), lr=0.01)
    learn.logger = noop
    return learn


def ended(folder, make, at=None, every="2 batches"):
    def die(cb):
        if cb.learn.training and (cb.learn.epoch, cb.learn.iter) == at:
            raise Boom

    stop = Callback(after_batch=die)
    stop.order = 2000
    learn = make()
    learn.fit(3, checkpoint=Checkpoint(folder, every, background=False), resume="auto", cbs=stop)
    return learn


def check_twins(tmp_path, make, at=(1, 3), every="2 batches"):
    whole = ended(tmp_path / "whole", make, every=every)
    with pytest.raises(Boom):
        ended(tmp_path / "run", make, at, every)
    again = ended(tmp_path / "run", make, every=every)
    assert again.restored is not None
    assert again.recorder.losses == whole.recorder.losses
    assert again.recorder.values == whole.recorder.values
    return again


@pytest.mark.parametrize("at", [(1, 3), (1, 0), (2, 5)])
@pytest.mark.parametrize("model", MODELS)
def test_what_a_model_holds_goes_on(tmp_path, model, at):
    check_twins(tmp_path, lambda: learner(MODELS[model]), at)


@pytest.mark.parametrize("loss", LOSSES)
def test_what_a_loss_holds_goes_on(tmp_path, loss):
    check_twins(tmp_path, lambda: learner(loss=LOSSES[loss]))


@pytest.mark.parametrize("every", ["2 batches", "1 epoch"])
@pytest.mark.parametrize("loader", LOADERS)
def test_what_makes_batches_holds_goes_on(tmp_path, loader, every):
    check_twins(tmp_path, lambda: learner(loader=LOADERS[loader]), (1, 4), every)
