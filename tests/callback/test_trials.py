"""Trials say what is wrong and leave no trace."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.callback import GradientAccumulation, MixUp, OverfitOneBatch, dry_run, overfit
from layered.foundation import BadValue, CannotTrain
from layered.loop import Callback
from layered.testing import synth_learner


def learner(**args):
    torch.manual_seed(0)
    learn = synth_learner(lr=0.1, **args)
    learn.remove_cbs([cb for cb in learn.cbs if cb.name == "progress"])
    learn.logger = lambda row: None
    return learn


def remains(learn):
    torch_state, attributes = (
        torch.get_rng_state(),
        {k: v for k, v in vars(learn).items() if k not in ("callbacks",)},
    )
    return (
        copy.deepcopy(dict(learn.model.state_dict())),
        None if learn.opt is None else copy.deepcopy(learn.opt.state_dict()),
        torch_state,
        attributes.keys() - {"opt"},
        list(learn.cbs),
        list(learn.recorder.losses),
        [m.training for m in learn.model.modules()],
        [p.grad is None for p in learn.model.parameters()],
    )


TRIALS = {"dry_run": dry_run, "overfit": lambda learn, **args: overfit(learn, 5, **args)}


@pytest.mark.parametrize("trial", TRIALS.values(), ids=TRIALS)
@pytest.mark.parametrize("fits", [0, 1])
def test_nothing_is_changed_afterwards(trial, fits):
    learn, twin = learner(), learner()
    for one in (learn, twin):
        one.fit(fits)
    before = remains(learn)
    trial(learn)
    after = remains(learn)
    for old, new in zip(before, after, strict=True):
        assert_close(old, new, rtol=0, atol=0) if not isinstance(old, (list, set)) else None
        assert type(old) is type(new)
    assert before[3:] == after[3:]
    for one in (learn, twin):
        one.fit(2)
    assert learn.recorder.losses == twin.recorder.losses
    assert_close(learn.model.state_dict(), twin.model.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("trial", TRIALS.values(), ids=TRIALS)
def test_nothing_is_changed_by_one_that_fails(trial):
    def fail(cb):
        raise ZeroDivisionError

    learn, twin = learner(), learner()
    with pytest.raises((CannotTrain, ZeroDivisionError)):
        trial(learn, cbs=Callback(after_step=fail))
    for one in (learn, twin):
        one.fit(1)
    assert_close(learn.model.state_dict(), twin.model.state_dict(), rtol=0, atol=0)


def test_a_dry_run_prints_every_stage(capsys):
    dry_run(learner())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "training batch", "model", "loss", "backward pass", "optimizer's step",
        "validation batch", "validation: model", "validation: loss", "validation: metrics",
    ]  # fmt: skip
    assert all("  ok  " in line for line in lines)
    assert "16×1" in lines[0]


def test_a_dry_run_takes_one_batch_of_each():
    seen = []
    dry_run(learner(), cbs=Callback(after_batch=lambda cb: seen.append(cb.training)))
    assert seen == [True, False]


def test_a_dry_run_works_without_validation_data_and_with_gathered_gradients(capsys):
    learn = learner(cbs=[GradientAccumulation(1000), MixUp])
    learn.dls = ([(torch.ones(2, 1), torch.ones(2, 1))], None)
    learn = type(learn)(learn.dls, learn.model, learn.loss_func, cbs=[GradientAccumulation(1000), MixUp])
    dry_run(learn)
    assert "optimizer's step  ok" in capsys.readouterr().out


def broken(what):
    def fail(*args):
        raise ZeroDivisionError("oh")

    learn = learner()
    match what:
        case "model":
            learn.model.forward = fail
        case "loss":
            learn.loss_func = fail
        case "training batch":
            learn.dls.train.after_batch = fail
        case "validation batch":
            learn.dls.valid.after_batch = fail
        case "optimizer's step":
            learn.create_opt()
            learn.opt.updates = [fail]
        case "validation: metrics":
            learn.metrics = fail
        case "backward pass":
            learn.model.a.register_hook(fail)
    return learn


STAGES = (
    "training batch",
    "model",
    "loss",
    "backward pass",
    "optimizer's step",
    "validation batch",
    "validation: metrics",
)


@pytest.mark.parametrize("stage", STAGES)
def test_a_dry_run_names_the_stage_that_fails(stage):
    with pytest.raises(CannotTrain) as caught:
        dry_run(broken(stage))
    assert caught.value.problem.endswith(f": {stage}")
    assert "oh" in str(caught.value)
    assert caught.value.__cause__ is not None


def test_parameters_without_a_gradient_are_told_of(capsys):
    learn = learner()
    learn.model.spare = nn.Parameter(torch.zeros(1))
    dry_run(learn)
    assert "no gradient for spare" in capsys.readouterr().out


def test_overfitting_learns_one_batch_by_heart(capsys):
    losses = overfit(learner(), 200)
    assert len(losses) == 200
    assert losses[-1] < losses[0] / 100
    assert "200 steps on one batch: loss" in capsys.readouterr().out


def test_one_batch_can_be_every_batch_of_a_fit():
    seen = []
    note = Callback(after_pred=lambda cb: seen.append(cb.x.clone()) if cb.training else None)
    learner(cbs=[OverfitOneBatch, note]).fit(2)
    assert len(seen) == 20
    assert all(torch.equal(x, seen[0]) for x in seen)


@pytest.mark.parametrize("wrong", [0, -3, 2.5, "9"])
def test_steps_are_counted_from_one(wrong):
    with pytest.raises(BadValue):
        overfit(learner(), wrong)


@pytest.mark.parametrize("trial", TRIALS.values(), ids=TRIALS)
def test_a_generator_is_not_used_up(trial):
    learn = learner()
    learn.dls.loaders[0] = generator = ((torch.ones(2, 1), torch.ones(2, 1)) for _ in range(3))
    with pytest.raises(CannotTrain, match="use up a generator"):
        trial(learn)
    assert len(list(generator)) == 3
