"""The loop fires its events in order, trains as a hand-written loop does, and leaves nothing behind."""

import contextlib
import gc
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.callback import EarlyStoppingCallback, GradientAccumulation, SaveModelCallback, overfit
from layered.foundation import BadEvent, BadValue, CannotTrain, EmptySource, LayeredError, TensorImage
from layered.loop import Callback, Checkpoint, Event, Loop, declare_event, events
from layered.optim import SGD, Adam


def batches(count: int = 3, rows: int = 4) -> list[tuple[torch.Tensor, torch.Tensor]]:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(count, rows, 2, generator=g)
    return [(xb, xb.sum(1, keepdim=True)) for xb in x]


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(2, 1)


def loop(train=None, valid=None, **kwargs) -> Loop:
    kwargs = {"lr": 0.1, "opt_func": SGD, "loss_func": nn.MSELoss()} | kwargs
    model = kwargs.pop("model", None) or linear()
    return Loop((train if train is not None else batches(), valid), model, **kwargs).add_cbs(Silent)


class Silent(Callback):
    def after_create(self):
        pass

    def before_fit(self):
        self.learn.logger = lambda row: None


class Hears(Callback):
    """Hears every event, and raises what it is told to at one of them."""

    order = 100

    def __init__(self, at=None, error=None, training=True):
        self.heard, self.at, self.error, self.in_training = [], at, error, training

    def __call__(self, name):
        self.heard.append(str(name))
        if name == self.at and self.training == self.in_training:
            raise self.error


TRAIN_BATCH = [
    "before_batch",
    "after_pred",
    "after_loss",
    "before_backward",
    "after_backward",
    "before_step",
    "after_step",
    "after_batch",
]
VALID_BATCH = ["before_batch", "after_pred", "after_loss", "after_batch"]


def trace_of(at=None, error=None, training=True, n_epoch=1):
    trace = Hears(at, error, training)
    loop(batches(2), batches(1), cbs=trace).fit(n_epoch)
    return [name for name in trace.heard if name != "after_create"]


def test_events_come_in_the_order_of_the_loop():
    epoch = ["before_epoch", "before_train", *TRAIN_BATCH * 2, "after_train"]
    epoch += ["before_validate", *VALID_BATCH, "after_validate", "after_epoch"]
    assert trace_of(n_epoch=2) == ["before_fit", *epoch * 2, "after_fit", "on_end"]


@pytest.mark.parametrize(
    ("at", "error", "part"),
    [
        ("after_pred", events.CancelBatchException, "after_pred after_cancel_batch after_batch"),
        ("before_batch", events.CancelBatchException, "before_batch after_cancel_batch after_batch"),
        (
            "before_backward",
            events.CancelBackwardException,
            "before_backward after_cancel_backward after_backward before_step",
        ),
        ("before_step", events.CancelStepException, "before_step after_cancel_step after_step after_batch"),
        ("after_loss", events.CancelTrainException, "after_loss after_cancel_train after_train before_validate"),
        ("after_loss", events.CancelEpochException, "after_loss after_cancel_epoch after_epoch after_fit"),
        ("after_loss", events.CancelFitException, "after_loss after_cancel_fit after_fit on_end"),
    ],
)
def test_a_cancel_ends_its_own_phase_and_no_other(at, error, part):
    heard = " ".join(trace_of(at, error))
    assert part in heard
    assert heard.endswith("after_fit on_end")


def test_cancelling_validation_ends_validation():
    heard = " ".join(trace_of("after_pred", events.CancelValidException, training=False))
    assert "before_validate before_batch after_pred after_cancel_validate after_validate after_epoch" in heard


def test_a_cancelled_step_still_clears_the_gradients_and_a_cancelled_batch_does_not():
    class Look(Callback):
        def __init__(self, error):
            self.error, self.grads = error, []

        def before_step(self):
            raise self.error

        def after_batch(self):
            self.grads.append(self.model.weight.grad)

    for error, cleared in ((events.CancelStepException, True), (events.CancelBatchException, False)):
        look = Look(error)
        loop(batches(1), cbs=look).fit(1)
        assert (look.grads[0] is None) == cleared


def test_a_fit_trains_as_a_loop_by_hand_does():
    model = linear()
    opt = torch.optim.AdamW(model.parameters(), lr=0.1, betas=(0.9, 0.99), eps=1e-5, weight_decay=0.0)
    for _ in range(3):
        for xb, yb in batches():
            nn.functional.mse_loss(model(xb), yb).backward()
            opt.step()
            opt.zero_grad()
    ours = loop(opt_func=Adam, wd=0.0)
    ours.fit(3)
    assert_close(ours.model.state_dict(), model.state_dict())


def test_two_way_callbacks_change_what_is_differentiated_and_not_what_is_reported():
    class Double(Callback):
        def after_loss(self):
            self.learn.loss_grad = self.loss_grad * 2

    plain, doubled = loop(batches(1)), loop(batches(1), lr=0.05, cbs=Double)
    plain.fit(1)
    doubled.fit(1)
    assert_close(plain.model.state_dict(), doubled.model.state_dict())
    assert plain.recorder.losses == doubled.recorder.losses


def test_run_false_mutes_a_callback_until_the_fit_ends():
    class Once(Callback):
        count = 0

        def after_batch(self):
            self.count += 1
            self.run = False

    once = Once()
    learn = loop(cbs=once)
    learn.fit(1)
    assert (once.count, once.run) == (1, True)
    learn.fit(1)
    assert once.count == 2


def test_run_valid_false_leaves_out_the_batches_of_validation():
    class Count(Callback):
        run_valid = False
        count = 0

        def after_batch(self):
            self.count += 1

    count = Count()
    loop(batches(3), batches(2), cbs=count).fit(1)
    assert count.count == 3


def test_start_epoch_skips_epochs_that_still_count():
    learn = loop()
    seen = []
    learn.on("before_train")(lambda: seen.append((learn.epoch, learn.pct_train)))
    learn.fit(4, start_epoch=2)
    assert seen == [(2, 0.5), (3, 0.75)]
    assert len(learn.recorder.values) == 2
    assert learn.epochs_started == 2


def test_functions_listen_too_every_so_often_or_once():
    learn, every, once = loop(batches(5)), [], []

    @learn.on("after_batch", every=2)
    def note(learn):
        every.append(learn.train_iter)

    @learn.on("after_batch", once=True)
    def first():
        once.append(1)

    learn.fit(1)
    assert (every, once) == ([2, 4], [1])
    learn.remove_cb(note)
    learn.fit(1)
    assert every == [2, 4]


def test_events_that_nobody_declared_are_refused_with_the_nearest():
    learn = loop()
    with pytest.raises(BadEvent, match="after_batch"):
        learn.emit("after_bacth")
    with pytest.raises(BadEvent, match="before_fit"):
        learn.on("befor_fit")


def test_declared_events_are_heard():
    declare_event("after_both_models")
    heard = []

    class Hear(Callback):
        def after_both_models(self):
            heard.append(self.learn)

    learn = loop(cbs=Hear)
    learn.emit("after_both_models")
    assert heard == [learn]


def test_callbacks_are_added_as_classes_and_named_attributes_and_removed_without_a_trace():
    learn = loop(cbs=Hears)
    assert learn.hears in learn.cbs
    before = list(learn.cbs)
    with learn.removed_cbs(Hears):
        assert not hasattr(learn, "hears")
    assert learn.cbs == before
    with pytest.raises(ZeroDivisionError):
        learn.fit(1, cbs=Callback(before_train=lambda cb: 1 / 0))
    assert learn.cbs == before


class Boom(RuntimeError):
    pass


class Explode(Callback):
    def after_batch(self):
        raise Boom


def test_an_error_is_told_and_raised_again_and_the_learner_stays_usable():
    told = []

    class Tell(Callback):
        def on_error(self):
            told.append(self.learn.error)

        def on_end(self):
            told.append("end")

    learn = loop(cbs=Tell)
    learn.model.eval()
    boom = Hears("after_backward", Boom("stop"))
    with pytest.raises(Boom) as caught:
        learn.fit(1, cbs=boom)
    assert told == [caught.value, "end"]
    assert not learn.model.training
    assert learn.model.weight.grad is None
    assert learn.error is None
    assert not hasattr(learn, "boom")
    fresh = loop()
    learn.fit(1)
    fresh.fit(1)
    assert_close(learn.model.state_dict(), fresh.model.state_dict())


def test_ctrl_c_ends_a_fit_like_an_error():
    learn = loop()
    with pytest.raises(KeyboardInterrupt):
        learn.fit(1, cbs=Hears("after_batch", KeyboardInterrupt()))
    learn.fit(1)


def test_a_callback_that_fails_while_an_error_is_told_does_not_hide_it():
    learn = loop(cbs=Callback(on_error=lambda cb: 1 / 0))
    with pytest.raises(Boom) as caught:
        learn.fit(1, cbs=Hears("after_batch", Boom()))
    assert "ZeroDivisionError" in caught.value.__notes__[-1]


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_deleted_learner_frees_its_weights_at_once(interrupted):
    gc.collect()
    gc.disable()
    try:
        learn = loop(valid=batches(1), cbs=Hears)
        learn.on("after_batch")(lambda: None)
        learn.fit(1)
        if interrupted:
            with contextlib.suppress(Boom):
                learn.fit(1, cbs=Explode)
        weights = weakref.ref(learn.model.weight)
        del learn
        assert weights() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("kwargs", "error", "says"),
    [
        ({"n_epoch": -1}, BadValue, "n_epoch"),
        ({"n_epoch": 1.5}, BadValue, "n_epoch"),
        ({"n_epoch": 1, "start_epoch": -2}, BadValue, "start_epoch"),
    ],
)
def test_bad_numbers_are_refused_before_anything_changes(kwargs, error, says):
    learn = loop()
    with pytest.raises(error, match=says):
        learn.fit(**kwargs)
    assert learn.opt is None
    assert learn.fit_ordinal == 0


def test_no_batches_no_loss_and_no_loaders_are_named():
    with pytest.raises(EmptySource, match="no batch"):
        loop([]).fit(1)
    with pytest.raises(CannotTrain, match="loss_func"):
        loop(loss_func=None).fit(1)
    with pytest.raises(CannotTrain, match="train"):
        Loop(batches(), linear())


def test_a_generator_is_good_for_one_epoch_or_for_n_iter_batches_each():
    with pytest.raises(CannotTrain, match="generator"):
        loop(iter(batches())).fit(2)
    learn = loop(iter(batches(6)))
    learn.fit(1)
    assert learn.train_iter == 6
    seen = []
    learn = loop(iter(batches(6)))
    learn.on("after_batch")(lambda: seen.append((learn.epoch, learn.iter)))
    learn.fit(2, n_iter=2)
    assert seen == [(0, 0), (0, 1), (1, 0), (1, 1)]
    with pytest.raises(EmptySource):
        loop(x for x in ()).fit(1)


def test_a_mapping_goes_to_forward_by_name_and_the_model_may_have_its_own_loss():
    class Out:
        def __init__(self, loss):
            self.loss = loss

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = linear()

        def forward(self, x, labels):
            return Out(nn.functional.mse_loss(self.inner(x), labels))

    named = [{"labels": y, "x": x, "id": torch.arange(4)} for x, y in batches()]
    ours, plain = loop(named, model=Own(), loss_func=None), loop()
    ours.dls.train = [{k: v for k, v in b.items() if k != "id"} for b in named]
    ours.fit(1)
    plain.fit(1)
    assert_close(ours.model.inner.state_dict(), plain.model.state_dict())


def test_a_mapping_may_go_with_a_loss_function_whose_targets_forward_does_not_name():
    class Named(nn.Linear):
        def forward(self, x):
            return super().forward(x)

    torch.manual_seed(0)
    ours, plain = loop([{"x": x, "target": y} for x, y in batches()], model=Named(2, 1)), loop()
    ours.fit(1)
    plain.fit(1)
    assert_close(ours.model.state_dict(), plain.model.state_dict())


def test_a_step_of_ones_own_replaces_model_and_loss():
    def step(learn, batch):
        x, y = batch
        return nn.functional.mse_loss(learn.model(x), y)

    ours, plain = loop(step=step, loss_func=None), loop()
    ours.fit(1)
    plain.fit(1)
    assert_close(ours.model.state_dict(), plain.model.state_dict())


def test_the_model_sees_plain_tensors():
    class See(nn.Linear):
        def forward(self, x):
            assert type(x) is torch.Tensor
            return super().forward(x)

    loop([(TensorImage(x), y) for x, y in batches()], model=See(2, 1)).fit(1)


def test_a_model_without_parameters_and_a_frozen_one_go_through_the_loop():
    class Mean(nn.Module):
        def forward(self, x):
            return x.mean(1, keepdim=True)

    learn = loop(model=Mean(), valid=batches(1))
    learn.fit(1)
    assert learn.validate()[0] == pytest.approx(
        nn.functional.mse_loss(
            *[f(batches(1)[0]) for f in (lambda b: b[0].mean(1, keepdim=True), lambda b: b[1])]
        ).item()
    )
    frozen = linear().requires_grad_(False)
    before = {k: v.clone() for k, v in frozen.state_dict().items()}
    loop(model=frozen).fit(1)
    assert_close(frozen.state_dict(), before)


def test_any_torch_optimizer_class_works():
    ours, plain = loop(opt_func=torch.optim.SGD), loop(wd=0.0)
    ours.fit(2)
    plain.fit(2)
    assert_close(ours.model.state_dict(), plain.model.state_dict())


def test_optimizer_state_lasts_between_fits_unless_reset():
    learn = loop(opt_func=Adam)
    learn.fit(1)
    opt = learn.opt
    learn.fit(1)
    assert learn.opt is opt
    learn.fit(1, reset_opt=True)
    assert learn.opt is not opt


def test_lr_and_wd_reach_the_optimizer():
    learn = loop(opt_func=Adam, lr=0.1, wd=0.3)
    learn.fit(1)
    assert (learn.opt.hypers[0]["lr"], learn.opt.hypers[0]["wd"]) == (0.1, 0.3)
    learn.fit(1, lr=0.2, wd=0.4)
    assert (learn.opt.hypers[0]["lr"], learn.opt.hypers[0]["wd"]) == (0.2, 0.4)


def test_validate_weighs_batches_by_their_rows_and_keeps_the_history():
    valid = [(x[:rows], y[:rows]) for (x, y), rows in zip(batches(2), (4, 1), strict=True)]
    learn = loop(valid=valid)
    learn.fit(1)
    history = list(learn.recorder.losses), list(learn.recorder.values)
    x, y = (torch.cat(parts) for parts in zip(*valid, strict=True))
    with torch.no_grad():
        assert learn.validate()[0] == pytest.approx(nn.functional.mse_loss(learn.model(x), y).item(), rel=1e-6)
    assert (learn.recorder.losses, learn.recorder.values) == history
    assert learn.validate(dl=batches(1)) != learn.validate()


def test_validating_inside_a_fit_disturbs_nothing():
    plain, looking = loop(valid=batches(1)), loop(valid=batches(1))
    seen = []
    looking.on("after_batch")(lambda learn: seen.append(learn.validate()) if learn.training else None)
    plain.fit(2)
    looking.fit(2)
    assert_close(plain.model.state_dict(), looking.model.state_dict())
    assert plain.recorder.values == looking.recorder.values
    assert len(seen) == 6


def test_the_enum_is_its_strings():
    assert Event.before_fit == "before_fit"
    assert len(Event) == 26


def test_an_error_in_a_batch_says_which_batch_and_what_was_in_it():
    data = [*batches(2), (torch.randn(4, 5), torch.randn(4, 1))]
    with pytest.raises(RuntimeError) as caught:
        loop(data).fit(1)
    (note,) = caught.value.__notes__
    assert note == "in batch 2 of epoch 0, training: inputs (Tensor 4×5 float32), targets (Tensor 4×1 float32)"


def test_whole_numbers_of_numpy_and_torch_count_like_pythons(tmp_path):
    for one in (np.int64(1), np.int32(1), torch.tensor(1)):
        x = torch.ones(4, 2)
        batches = [(x, x.sum(1, keepdim=True))] * 2
        learn = Loop((batches, batches), nn.Linear(2, 1), nn.MSELoss(), path=tmp_path)
        learn.logger = lambda row: None
        cbs = [EarlyStoppingCallback(patience=one), GradientAccumulation(one * 8), SaveModelCallback(keep=one)]
        checkpoint = Checkpoint(tmp_path / str(type(one)), keep=one)
        learn.fit(one + one, start_epoch=one, n_iter=one, valid_every=one, cbs=cbs, checkpoint=checkpoint)
        assert (learn.train_iter, len(learn.recorder.values)) == (1, 1)
        learn.on("after_epoch", lambda: None, every=one)
        learn.opt.freeze_to(-one)
        overfit(learn, one)
    for wrong in (True, np.bool_(True), 1.0, np.float64(1.0), "1", -1):
        with pytest.raises(LayeredError):
            learn.fit(wrong)
        with pytest.raises(LayeredError):
            EarlyStoppingCallback(patience=wrong)
