"""A training step never waits for the device: nothing in it needs to know the value of a tensor."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from layered.callback import (
    CSVLogger,
    EMACallback,
    GradientAccumulation,
    GradientClip,
    MixedPrecision,
    MixUp,
    TerminateOnNaNCallback,
)
from layered.data import DataLoaders
from layered.loop import Callback
from layered.metrics import accuracy
from layered.optim import SGD, Adagrad, Muon, RAdam, ScheduleFree
from layered.training import Learner

WAITING = {"_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "bincount", "_unique2"}
"""Operations of torch that wait for a GPU, for their result or its shape is on the host; the first is `item()`."""


class Waits(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name == "index" and any(i is not None and i.dtype is torch.bool for i in args[1])
        if name in WAITING or by_mask:
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


class Watch(Callback):
    """Looks at each training step, from before its other callbacks to after them."""

    order = -1000

    def __init__(self):
        self.waits, self.steps = Waits(), 0

    def before_batch(self):
        if self.training:
            self.waits.__enter__()


class EndWatch(Callback):
    order = 1000

    def __init__(self, watch):
        self.watching = watch

    def after_batch(self):
        if self.training:
            self.watching.waits.__exit__(None, None, None)
            self.watching.steps += 1


def learner(cbs=(), device="cpu", **how):
    torch.manual_seed(0)
    rows = [(torch.randn(6), int(torch.randint(3, ()))) for _ in range(64)]
    dls = DataLoaders.from_dsets(rows[:48], rows[48:], bs=8, device=device)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    return Learner(dls, model, nn.CrossEntropyLoss(), metrics=accuracy, cbs=list(cbs), **how)


RECIPES = {
    "default": {},
    "SGD": {"opt_func": SGD},
    "RAdam": {"opt_func": RAdam},
    "Adagrad": {"opt_func": Adagrad},
    "Muon": {"opt_func": Muon},
    "ScheduleFree": {"opt_func": ScheduleFree},
    "MixUp": {"cbs": [MixUp]},
    "clipped": {"cbs": [lambda: GradientClip(1.0)]},
    "accumulated": {"cbs": [lambda: GradientAccumulation(16)]},
    "averaged": {"cbs": [EMACallback]},
    "bf16": {"cbs": [lambda: MixedPrecision("bf16")]},
    "logged": {"cbs": [CSVLogger]},
}
each_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)


def watched(recipe):
    learn = learner([make() for make in recipe.get("cbs", ())], **{k: v for k, v in recipe.items() if k != "cbs"})
    watch = Watch()
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(2, 0.01, cbs=[watch, EndWatch(watch)])
    return watch


@each_recipe
def test_no_step_waits(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    watch = watched(recipe)
    assert watch.steps == 12
    assert not watch.waits.seen


def test_what_waits_is_seen():
    assert watched({"cbs": [TerminateOnNaNCallback]}).waits.seen["_local_scalar_dense"] == 12


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@each_recipe
def test_no_step_waits_on_a_gpu(recipe, tmp_path, monkeypatch):
    class Strict(Callback):
        order = 9.5  # the batch is on the device

        def before_batch(self):
            if self.training and self.learn.train_iter > 1:  # the first ones set up
                torch.cuda.set_sync_debug_mode("error")

        def after_step(self):
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.chdir(tmp_path)
    cbs = [make() for make in recipe.get("cbs", ())]
    learn = learner(cbs, device="cuda", **{k: v for k, v in recipe.items() if k != "cbs"})
    try:
        with learn.no_bar(), learn.no_logging():
            learn.fit_one_cycle(2, 0.01, cbs=Strict())
    finally:
        torch.cuda.set_sync_debug_mode("default")
