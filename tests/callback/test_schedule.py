"""Scheduled fits set, batch by batch, what the formulas say."""

import math
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from layered.callback import (
    GradientAccumulation,
    ParamScheduler,
    TorchScheduler,
    fit_flat_cos,
    fit_one_cycle,
    fit_sgdr,
)
from layered.foundation import BadValue, CannotTrain, OutOfRange, UnknownName
from layered.loop import Callback, CancelStepException, CancelTrainException, Checkpoint, Loop
from layered.optim import SGD, SchedLin


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
    learn.recorder.plot_sched()
    assert len(plt.gcf().axes) == 1
    plt.close("all")


def test_a_loader_without_length_needs_n_iter():
    x = torch.ones(4, 2)
    batches = ((x, x.sum(1, keepdim=True)) for _ in range(20))
    learn = learner(batches)
    with pytest.raises(CannotTrain, match="n_iter"):
        fit_one_cycle(learn, 2)
    fit_one_cycle(learn, 2, n_iter=5)
    assert learn.train_iter == 10
    assert learn.pct_train == pytest.approx(1.0)


def test_groups_can_each_have_a_schedule_of_their_own():
    learn, seen = learner(groups=2), []
    learn.on("before_step")(lambda: seen.append([h["lr"] for h in learn.opt.hypers]))
    learn.fit(1, cbs=ParamScheduler({"lr": SchedLin(np.array([0.0, 1.0]), np.array([1.0, 1.0]))}))
    assert seen == [pytest.approx([i / 5, 1.0]) for i in range(5)]


def test_what_is_no_hyper_and_what_cannot_divide_is_named():
    with pytest.raises(UnknownName, match="did you mean 'lr'"):
        learner().fit(1, cbs=ParamScheduler({"lrr": SchedLin(0, 1)}))
    with pytest.raises(OutOfRange, match="div"):
        fit_one_cycle(learner(), 1, div=0)


def follow(make, each, n_epoch, lr=0.1):
    """The rates that torch itself sets, batch by batch, for epochs of five batches."""
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    sched, rates = make(opt), []
    for i in range(5 * n_epoch):
        rates.append(opt.param_groups[0]["lr"])
        opt.step()
        if each == "batch" or i % 5 == 4:
            sched.step()
    return rates


SCHEDULERS = {
    "step": (partial(lr_scheduler.StepLR, step_size=2), "epoch"),
    "restarts": (partial(lr_scheduler.CosineAnnealingWarmRestarts, T_0=5, T_mult=2), "batch"),
    "one cycle": (partial(lr_scheduler.OneCycleLR, max_lr=0.3, total_steps=21, cycle_momentum=False), "batch"),
    "lambda": (partial(lr_scheduler.LambdaLR, lr_lambda=lambda i: 1 / (1 + i)), "batch"),
}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("opt_func", [SGD, torch.optim.SGD])
def test_any_scheduler_of_torch_can_be_used(name, opt_func):
    make, each = SCHEDULERS[name]
    learn = learner(opt_func=opt_func)
    for _ in range(2):
        learn.fit(4, lr=0.1, cbs=TorchScheduler(make, each))
        assert learn.recorder.lrs == pytest.approx(follow(make, each, 4))


def test_a_scheduler_that_watches_a_column_gets_its_value():
    learn = learner(opt_func=SGD)
    make = partial(lr_scheduler.ReduceLROnPlateau, patience=0, threshold=1e9, threshold_mode="abs")
    learn.fit(3, lr=0.1, cbs=TorchScheduler(make, "epoch", monitor="train_loss"))
    assert learn.recorder.lrs[::5] == pytest.approx([0.1, 0.1, 0.01])
    with pytest.raises(UnknownName, match="train_loss"):
        learn.fit(1, cbs=TorchScheduler(make, "epoch", monitor="train_los"))
    with pytest.raises(BadValue, match="each"):
        TorchScheduler(make, "steps")


def test_a_scheduler_goes_on_where_a_checkpoint_left_it(tmp_path):
    make, each = SCHEDULERS["restarts"]

    def crash(cb):
        if cb.training and cb.train_iter == 7:
            raise KeyboardInterrupt

    stopped = learner(opt_func=SGD)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(4, lr=0.1, cbs=[TorchScheduler(make, each), Callback(after_batch=crash)], checkpoint=tmp_path)
    again = learner(opt_func=SGD)
    again.fit(4, lr=0.1, cbs=[TorchScheduler(make, each), Callback()], checkpoint=tmp_path, resume="auto")
    assert again.recorder.lrs == pytest.approx(follow(make, each, 4))


def test_restarts_are_those_of_torch():
    learn = learner(opt_func=SGD)
    fit_sgdr(learn, 3, 1, 0.1)
    make = partial(lr_scheduler.CosineAnnealingWarmRestarts, T_0=5, T_mult=2)
    assert learn.recorder.lrs == pytest.approx(follow(make, "batch", 7), abs=1e-12)


def test_a_fit_that_was_done_brings_its_scheduler_back_and_leaves_the_rates(tmp_path):
    make, _ = SCHEDULERS["one cycle"]
    done, again = (learner(opt_func=SGD, cbs=TorchScheduler(make)) for _ in range(2))
    for learn in (done, again):
        learn.fit(2, lr=0.1, checkpoint=tmp_path, resume="auto")
    assert again.restored.where == "the end of the fit"
    assert again.torch_scheduler.scheduler.state_dict() == done.torch_scheduler.scheduler.state_dict()
    assert again.opt.hypers == done.opt.hypers
    for learn in (done, again):
        learn.fit(2, lr=0.1)
    assert again.recorder.lrs == done.recorder.lrs == pytest.approx(follow(make, "batch", 2))


class Lying:
    """A loader that gives other numbers of batches than it says, one number an epoch."""

    def __init__(self, says, gives):
        self.says, self.gives, self.passes = says, gives, 0

    def __iter__(self):
        x = torch.ones(4, 2)
        self.passes += 1
        return iter([(x, x.sum(1, keepdim=True))] * self.gives[min(self.passes, len(self.gives)) - 1])

    def __len__(self):
        return self.says


@pytest.mark.parametrize("says", [3, 12])
def test_a_schedule_ends_with_the_epochs_of_a_loader_whose_length_is_wrong(says):
    learn = learner(Lying(says, [6]))
    with pytest.warns(UserWarning, match=f"gave 6 batches instead of {says}") as heard:
        fit_one_cycle(learn, 4, 0.1)
    assert len(heard) == 1
    one_cycle = fit_one_cycle_rates(4, 6)
    assert learn.recorder.lrs[6:] == pytest.approx(one_cycle[6:])
    assert learn.pct_train == pytest.approx(1.0)
    first = [min(i / says, 1.0) / 4 for i in range(6)]
    assert learn.recorder.lrs[:6] == pytest.approx([rate(0.1, p) for p in first])


def rate(peak, p):
    return cos(peak / 25, peak, p / 0.25) if p < 0.25 else cos(peak, peak / 1e5, (p - 0.25) / 0.75)


def fit_one_cycle_rates(epochs, batches):
    return [rate(0.1, i / (epochs * batches)) for i in range(epochs * batches)]


def test_a_last_epoch_longer_than_said_stays_at_the_end_of_the_schedule():
    learn = learner(Lying(4, [4, 9]))
    with pytest.warns(UserWarning, match="gave 9 batches"):
        fit_one_cycle(learn, 2, 0.1)
    assert learn.recorder.lrs[8:] == pytest.approx([0.1 / 1e5] * 5)


def test_more_batches_than_the_loader_has_are_not_waited_for():
    learn = learner()
    with pytest.warns(UserWarning, match="n_iter=100 is more than the 5 batches"):
        fit_one_cycle(learn, 2, 0.1, n_iter=100)
    assert learn.recorder.lrs == pytest.approx(fit_one_cycle_rates(2, 5))


def test_a_pass_that_was_cut_says_nothing_about_its_loader(recwarn):
    def cut(learn):
        if learn.iter == 1:
            raise CancelTrainException

    learn = learner()
    learn.on("after_batch", cut)
    fit_one_cycle(learn, 2, 0.1)
    assert not recwarn.list
    assert learn.recorder.lrs == pytest.approx([fit_one_cycle_rates(2, 5)[i] for i in (0, 1, 5, 6)])


def test_torch_schedulers_can_step_once_an_update():
    def rates(each, n_acc=None, **kwargs):
        x = torch.ones(4, 2)
        make = partial(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=6, cycle_momentum=False)
        cbs = [TorchScheduler(make, each=each), *([GradientAccumulation(n_acc)] if n_acc else [])]
        learn = learner([(x, x.sum(1, keepdim=True))] * 6, cbs=cbs, **kwargs)
        at_steps = []
        learn.on("before_step", lambda: at_steps.append(learn.opt.hypers[0]["lr"]), order=99)
        learn.fit(2)
        return at_steps

    plain = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler, expected = lr_scheduler.OneCycleLR(plain, max_lr=0.1, total_steps=6, cycle_momentum=False), []
    for _ in range(6):
        expected.append(plain.param_groups[0]["lr"])
        plain.step()
        scheduler.step()
    assert rates("step", n_acc=8) == pytest.approx(expected)
    # by batches, the rate of the first one is never used, since the first step is taken after the second: torch says so
    with pytest.warns(UserWarning, match="before `optimizer.step"), pytest.raises(ValueError, match="total steps"):
        rates("batch", n_acc=8)


class TwoParts(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 1), nn.Linear(2, 1)

    def forward(self, x):
        return self.a(x) + self.b(x)


def in_turns(loop, batch):
    x, y = batch
    loop.minimize(nn.functional.mse_loss(loop.model(x), y), "a")
    if loop.iter % 2:
        loop.minimize(nn.functional.mse_loss(loop.model(x), y), "b")


@pytest.mark.parametrize(
    ("each", "step", "left"),
    [("batch", None, (6, 6)), ("step", None, (6, 6)), ("epoch", None, (1, 1)), ("step", in_turns, (6, 3))],
)
def test_each_of_several_optimizers_has_its_scheduler(each, step, left, tmp_path):
    def make(*cbs):
        torch.manual_seed(0)
        x = torch.ones(4, 2)
        data = [(x, x.sum(1, keepdim=True))] * 6
        cbs = [TorchScheduler(partial(lr_scheduler.StepLR, step_size=1, gamma=0.5), each), *cbs]
        kwargs = {} if step is None else {"step": step}
        learn = Loop((data, None), TwoParts(), nn.MSELoss(), {"a": SGD, "b": SGD}, lr=1.0, cbs=cbs, **kwargs)
        learn.logger = lambda row: None
        return learn

    def rates(learn):
        return [learn.opt[name].hypers[0]["lr"] for name in "ab"]

    learn = make()
    learn.fit(1)
    assert rates(learn) == [pytest.approx(0.5**count) for count in left]

    def crash(cb):
        if cb.train_iter == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(Callback(after_batch=crash)).fit(1, checkpoint=Checkpoint(tmp_path, "2 batches"))
    again = make(Callback())
    again.fit(1, checkpoint=Checkpoint(tmp_path, "2 batches"), resume="auto")
    assert again.restored is not None
    assert rates(again) == rates(learn)


def test_a_step_that_is_skipped_does_not_count_for_a_scheduler():
    def skip(cb):
        if cb.iter % 2:
            raise CancelStepException

    learn = learner(cbs=[TorchScheduler(partial(lr_scheduler.StepLR, step_size=1), "step"), Callback(before_step=skip)])
    learn.fit(1, lr=1.0)
    assert learn.opt.hypers[0]["lr"] == pytest.approx(1e-3)


def test_a_plateau_scheduler_that_takes_a_metric_the_wrong_way_round_is_refused():
    def fit(mode, metric):
        batches = [(torch.ones(4, 2), torch.ones(4, 1))]
        make = partial(lr_scheduler.ReduceLROnPlateau, patience=0, mode=mode)
        learn = Loop((batches, batches), nn.Linear(2, 1), nn.MSELoss(), metrics=["mae", "r2"], lr=0.1)
        learn.logger = lambda row: None
        learn.fit(3, cbs=TorchScheduler(make, "epoch", metric), valid_every=2)

    for right, wrong, metric in (("min", "max", "mae"), ("max", "min", "r2_score"), ("min", "max", "valid_loss")):
        fit(right, metric)
        with pytest.raises(BadValue, match="the wrong way round"):
            fit(wrong, metric)


@pytest.mark.filterwarnings("ignore:the training loader gave")
@pytest.mark.parametrize("at", [7, 9, 12])
def test_a_resumed_fit_knows_the_true_length_of_its_loader(tmp_path, at):
    def crash(cb):
        if cb.train_iter == at:
            raise KeyboardInterrupt

    whole = learner(Lying(4, [6]))
    fit_one_cycle(whole, 3, 0.1)
    checkpoint = {"checkpoint": Checkpoint(tmp_path, "1 batch")}
    with pytest.raises(KeyboardInterrupt):
        fit_one_cycle(learner(Lying(4, [6])), 3, 0.1, cbs=Callback(before_batch=crash), **checkpoint)
    again = learner(Lying(4, [6]))
    fit_one_cycle(again, 3, 0.1, cbs=Callback(), resume="auto", **checkpoint)
    assert again.recorder.lrs == whole.recorder.lrs
