"""What models, losses, data sets and transforms hold outside `state_dict` is kept in checkpoints, or named."""

import itertools
import random
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader as TorchLoader, Dataset

from layered.data import DataLoader
from layered.files import read_archive, write_archive
from layered.foundation import CannotRestore, CannotSave, Transform, noop
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


class Tape:
    """Somebody's object that changes in place."""

    def __init__(self):
        self.numbers = itertools.cycle([1.0, 2.0])


class Plays(Base):
    def __init__(self):
        super().__init__()
        self.tape = Tape()

    def factor(self):
        return next(self.tape.numbers)


class MadeLater(Base):
    def factor(self):
        if not hasattr(self, "meter"):
            self.meter = Growing()
        return self.meter.step()


class Growing:
    def __init__(self):
        self.total = 1.0

    def step(self):
        self.total += 0.1
        return self.total


@pytest.mark.parametrize(("model", "place"), [(Plays, "model.tape.numbers"), (MadeLater, "model.meter.total")])
def test_what_cannot_be_restored_stops_the_fit_and_is_named(tmp_path, model, place):
    with pytest.raises(CannotSave, match=place.replace(".", r"\.")) as caught:
        learner(model).fit(1, checkpoint=tmp_path)
    assert "state_dict and load_state_dict" in caught.value.fix


def test_the_fix_that_is_shown_works(tmp_path):
    class Kept(Growing):
        def state_dict(self):
            return {"total": self.total}

        def load_state_dict(self, state):
            self.total = state["total"]

    class Keeps(Base):
        def __init__(self):
            super().__init__()
            self.meter = Kept()

        def factor(self):
            return self.meter.step()

    check_twins(tmp_path, lambda: learner(Keeps))


def test_a_table_of_objects_that_only_grows_is_taken_for_a_cache(tmp_path):
    class Caching(Rows):
        def __init__(self):
            super().__init__()
            self.cache = {}

        def __getitem__(self, i):
            if i not in self.cache:
                self.cache[i] = slice(Rows, i)  # nothing that a file can hold
            return X[i], X[i].sum(0, keepdim=True)

    with pytest.warns(UserWarning, match=r"train\.dataset\.cache only grows") as caught:
        learner(loader=lambda: DataLoader(Caching(), 4)).fit(2, checkpoint=Checkpoint(tmp_path, "2 batches"))
    assert len(caught) == 1


def test_a_module_that_seeds_as_it_is_imported_changes_nothing_in_a_fit(tmp_path, monkeypatch):
    (tmp_path / "seeds_at_import.py").write_text(
        "import random, numpy, torch\nrandom.seed(1); numpy.random.seed(1); torch.manual_seed(1)"
    )
    monkeypatch.syspath_prepend(tmp_path)

    class Imports(Base):
        def factor(self):
            import seeds_at_import  # noqa: F401

            return random.random() + float(torch.rand(())) + np.random.random()

    def make():
        sys.modules.pop("seeds_at_import", None)
        random.seed(5)
        np.random.seed(5)
        return learner(Imports)

    check_twins(tmp_path, make)
    assert len([finder for finder in sys.meta_path if type(finder).__name__ == "_Finder"]) == 0


def test_a_checkpoint_sets_only_what_the_code_changes(tmp_path):
    with pytest.raises(Boom):
        ended(tmp_path, lambda: learner(Counts), (1, 3))
    file = sorted(tmp_path.glob("*.layered"))[-1]
    archive = read_archive(file)
    for place, value in {
        "model.layer.in_features": 9,
        "model.count": "text",
        "loss_func.reduction": "sum",
        "model.new": 1,
    }.items():
        archive.manifest["outside"] = {place: value}
        write_archive(tmp_path / "edited.layered", archive.manifest, archive.tensors, kind="checkpoint")
        learn = learner(Counts)
        with pytest.raises(CannotRestore, match=place.replace(".", r"\.")):
            learn.fit(3, resume=tmp_path / "edited.layered", cbs=Callback())
        assert (learn.model.layer.in_features, learn.model.count, learn.loss_func.reduction) == (3, 0, "mean")
