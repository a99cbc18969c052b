"""Scheduled fits set, batch by batch, what the formulas say."""

import math

import pytest
import torch
from torch import nn

from layered.callback.schedule import ParamScheduler, fit_flat_cos, fit_one_cycle, fit_sgdr
from layered.foundation.errors import BadValue, CannotTrain
from layered.loop.loop import Loop
from layered.optim.schedules import SchedLin


def learner(train=None, groups=1, **kwargs) -> Loop:
    x = torch.ones(4, 2)
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    splitter = (lambda m: [list(m[0].parameters()), list(m[1].parameters())]) if groups == 2 else None
    kwargs |= {"splitter": splitter} if splitter else {}
    learn = Loop((train or [(x, x.sum(1, keepdim=True))] * 5, None), model, nn.MSELoss(), **kwargs)
    learn.logger = lambda row: None
    return learn


def cos(start, end, pos):
    return start + (1 + math.cos(math.pi * (1 - pos))) * (end - start) / 2


def test_one_cycle_follows_its_two_cosines_from_the_progress_before_each_batch():
    learn = learner()
    fit_one_cycle(learn, 4, 0.1)
    at = [i / 20 for i in range(20)]
    lrs = [cos(0.1 / 25, 0.1, p / 0.25) if p < 0.25 else cos(0.1, 0.1 / 1e5, (p - 0.25) / 0.75) for p in at]
    moms = [cos(0.95, 0.85, p / 0.25) if p < 0.25 else cos(0.85, 0.95, (p - 0.25) / 0.75) for p in at]
    assert learn.recorder.hps["lr"] == pytest.approx(lrs)
    assert learn.recorder.hps["mom"] == pytest.approx(moms)
    assert learn.recorder.lrs == learn.recorder.hps["lr"]


def test_the_arguments_of_one_cycle_are_heard():
    learn = learner(lr=0.5, moms=(0.8, 0.7, 0.8))
    fit_one_cycle(learn, 2, div=5, pct_start=0.5, wd=0.3)
    assert max(learn.recorder.lrs) == pytest.approx(0.5)
    assert learn.recorder.lrs[0] == pytest.approx(0.1)
    assert learn.recorder.lrs[5] == pytest.approx(0.5)
    assert learn.recorder.hps["mom"][0] == pytest.approx(0.8)
    assert learn.opt.hypers[0]["wd"] == 0.3
    fit_one_cycle(learn, 1, moms=(0, 0, 0))
    assert learn.recorder.hps["mom"] == [0] * 5


def test_a_slice_gives_each_group_its_own_cycle():
    learn = learner(groups=2)
    seen = []
    learn.on("before_step")(lambda: seen.append([h["lr"] for h in learn.opt.hypers]))
    fit_one_cycle(learn, 1, slice(0.001, 0.1))
    assert seen[0] == pytest.approx([0.001 / 25, 0.1 / 25])
    assert all(low == pytest.approx(high / 100) for low, high in seen)


def test_flat_cos_is_flat_and_then_falls():
    learn = learner()
    fit_flat_cos(learn, 4, 0.1, start_epoch=1)
    at = [i / 20 for i in range(5, 20)]
    assert learn.recorder.lrs == pytest.approx(
        [0.1 if p < 0.75 else cos(0.1, 0.1 / 1e5, (p - 0.75) / 0.25) for p in at]
    )


@pytest.mark.parametrize(("mult", "lengths"), [(2, [5, 10, 20]), (1, [5, 5, 5])])
def test_sgdr_restarts(mult, lengths):
    learn = learner()
    fit_sgdr(learn, 3, 1, 0.1, cycle_mult=mult)
    assert learn.recorder.lrs == pytest.approx([cos(0.1, 0.0, i / n) for n in lengths for i in range(n)], abs=1e-9)
    with pytest.raises(BadValue, match="cycle"):
        fit_sgdr(learn, 0, 1)


def test_any_hyper_can_be_scheduled():
    learn = learner()
    learn.fit(2, cbs=ParamScheduler({"wd": SchedLin(0.0, 1.0)}))
    assert learn.recorder.hps["wd"] == pytest.approx([i / 10 for i in range(10)])
    assert len(learn.recorder.plot_sched().axes) == 1


def test_a_loader_without_length_needs_n_iter():
    x = torch.ones(4, 2)
    batches = ((x, x.sum(1, keepdim=True)) for _ in range(20))
    learn = learner(batches)
    with pytest.raises(CannotTrain, match="n_iter"):
        fit_one_cycle(learn, 2)
    fit_one_cycle(learn, 2, n_iter=5)
    assert learn.train_iter == 10
    assert learn.pct_train == pytest.approx(1.0)
