"""A trace says who changed what and when; the loop can be shown with everybody who hears it."""

import gc
import weakref

import pytest
import torch
from torch import nn

from layered.callback import GradientClip, ParamScheduler
from layered.loop import Callback, Loop, declare_event
from layered.optim import SGD


def learner(**kwargs) -> Loop:
    batches = [(torch.ones(2, 1), torch.ones(2, 1))] * 3
    learn = Loop((batches, batches[:1]), nn.Linear(1, 1), nn.MSELoss(), opt_func=SGD, lr=0.1, **kwargs)
    learn.logger = lambda row: None
    return learn


class Double(Callback):
    def before_batch(self):
        self.learn.xb = (self.xb[0] * 2,)
        self.learn.flavour = "sweet"

    def after_loss(self):
        if self.training:
            self.learn.loss_grad = self.loss_grad * 2

    def before_step(self):
        self.model.bias.grad.zero_()


def found(trace, **wanted):
    return [row for row in trace if all(getattr(row, name) == value for name, value in wanted.items())]


def test_a_trace_names_event_writer_attribute_and_how_often():
    schedule, last_loss = ParamScheduler({"lr": lambda pos: 0.5}), []
    learn = learner(cbs=[Double, schedule])
    learn.on("after_step", lambda learn: last_loss.append(float(learn.loss)))
    with learn.trace() as trace:
        learn.fit(1)
    (loss,) = found(trace, writer="Double", name="loss_grad")
    assert (loss.event, loss.count) == ("after_loss", 3)
    assert float(loss.new) == pytest.approx(2 * last_loss[-1], rel=1e-3)
    (flavour,) = found(trace, name="flavour")
    assert (flavour.old, flavour.new, flavour.count) == ("unset", "sweet", 1)
    assert [row.new for row in found(trace, name="opt.lr", writer=repr(schedule))] == ["0.5"]
    assert found(trace, writer="Double", name="gradients", event="before_step")[0].count == 3
    assert found(trace, writer="the loop", name="weights", event="after_step")
    assert found(trace, writer="TrainEvalCallback", name="model.training", event="before_validate")[0].new == "False"
    assert not found(trace, writer="Recorder", name="loss")
    assert len(str(trace).splitlines()) == len(trace) + 4


def test_without_changes_there_are_no_rows():
    learn = learner(default_cbs=False, cbs=Callback(after_train=lambda cb: None))
    with learn.trace() as trace:
        learn.emit("after_train")
    assert list(trace) == []


def test_tracing_changes_nothing_and_ends_with_its_block():
    plain, traced = learner(cbs=Double), learner(cbs=Double)
    traced.model.load_state_dict(plain.model.state_dict())
    handlers = traced.callbacks.handlers
    with traced.trace() as trace, traced.trace() as inner:
        traced.fit(1)
    plain.fit(1)
    assert torch.equal(plain.model.weight, traced.model.weight)
    assert not trace.rows
    assert inner.rows
    assert {name: [h for _, h, _ in heard] for name, heard in traced.callbacks.handlers.items()} == {
        name: [h for _, h, _ in heard] for name, heard in handlers.items()
    }
    count = len(inner)
    traced.fit(1)
    assert len(inner) == count


def test_a_trace_keeps_no_learner_alive():
    gc.collect()
    gc.disable()
    try:
        learn = learner(cbs=Double)
        with learn.trace() as trace:
            learn.fit(1)
        weights = weakref.ref(learn.model.weight)
        del learn
        assert weights() is None
        assert trace.rows
    finally:
        gc.enable()


def test_the_loop_is_shown_with_those_who_hear_it_in_their_order(capsys):
    declare_event("after_supper")
    learn = learner(cbs=[GradientClip, Double])
    learn.on("after_supper", lambda: None)
    learn.show_training_loop()
    lines = capsys.readouterr().out.splitlines()
    by_event = {line.split()[0]: [name.strip(" ,") for name in line.split()[1:]] for line in lines}
    assert by_event["before_step"] == ["Double", "GradientClip"]
    assert by_event["before_batch"] == ["Double", "CastToTensor"]
    assert by_event["after_pred"] == []
    assert by_event["after_supper"] == ["<lambda>()"]
    events = [line.split()[0] for line in lines]
    in_order = ["before_fit", "before_batch", "after_step", "after_fit"]
    assert [name for name in events if name in in_order] == in_order
    assert "after_cancel_step" not in events
    depth = {line.split()[0]: len(line) - len(line.lstrip()) for line in lines}
    depths = [depth[name] for name in ("before_fit", "before_epoch", "before_train", "before_batch", "after_loss")]
    assert depths == sorted(set(depths))


def test_a_long_description_of_a_callback_is_cut_in_the_table_alone():
    schedule = ParamScheduler({"lr": lambda pos: 0.5, "wd": lambda pos: 0.0, "mom": lambda pos: 0.9})
    learn = learner(cbs=schedule)
    with learn.trace() as trace:
        learn.fit(1)
    assert found(trace, writer=repr(schedule), name="opt.lr")
    assert max(map(len, str(trace).splitlines())) < 160
