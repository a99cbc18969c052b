"""What a `with` changes holds inside it and no longer; an error leaves a short traceback and no learner alive."""

import contextlib
import gc
import traceback
import weakref

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.callback import lr_find
from layered.foundation import BadValue, CannotTrain
from layered.inference import get_preds
from layered.loop import Callback, Loop


def batches(count=3):
    g = torch.Generator().manual_seed(1)
    return [(x, x.sum(1, keepdim=True)) for x in torch.randn(count, 4, 2, generator=g)]


def learner(cbs=None, loss_func=None, model=None, **kwargs) -> Loop:
    learn = Loop((batches(), batches(1)), model or nn.Linear(2, 1), loss_func or nn.MSELoss(), cbs=cbs, **kwargs)
    learn.logger = lambda row: None
    return learn


class Listen(Callback):
    def __init__(self):
        self.heard = []

    def __call__(self, name):
        self.heard.append(str(name))


def test_a_learner_is_a_context_for_passes_by_hand():
    learn = learner(cbs=Listen)
    learn.listen.heard.clear()
    with learn as same:
        assert same is learn
        learn.one_batch(0, batches(1)[0])
    assert learn.listen.heard == [
        "before_fit", "before_epoch", "before_batch", "after_pred", "after_loss", "after_batch", "after_epoch", "after_fit",
        "on_end",
    ]  # fmt: skip
    assert_close(learn.loss, nn.functional.mse_loss(learn.model(batches(1)[0][0]), batches(1)[0][1]).detach())
    with pytest.raises(ZeroDivisionError), learn:
        1 / 0
    assert learn.listen.heard[-2:] == ["on_error", "on_end"]
    with learn, pytest.raises(CannotTrain, match="nest"):
        learn.__enter__()


def test_inside_it_one_may_validate_and_predict():
    learn = learner()
    alone = learn.validate()
    with learn:
        assert learn.validate() == alone
        assert len(get_preds(learn)[0]) == 4


def test_a_context_that_cannot_be_entered_leaves_nothing_behind():
    learn = learner(cbs=Callback(before_epoch=lambda cb: 1 / 0))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), learn:
            pass


@pytest.mark.parametrize("loss_func", [nn.MSELoss(), nn.functional.mse_loss])
def test_the_loss_of_every_item_is_there_inside_and_their_mean_outside(loss_func):
    learn = learner(loss_func=loss_func)
    x, y = batches(1)[0]
    items = (learn.model(x) - y).pow(2).detach()
    with learn.loss_not_reduced(), learn:
        learn.one_batch(0, (x, y))
        assert_close(learn.loss, items)
    assert learn.loss_func is loss_func
    assert learn.validate()[0] == pytest.approx(items.mean().item())


def test_a_loss_without_reduction_is_refused():
    with (
        pytest.raises(BadValue, match="per sample"),
        learner(loss_func=lambda p, y: (p - y).mean()).loss_not_reduced(),
    ):
        pass


def test_lines_and_bars_are_left_out_inside():
    rows, learn = [], learner()
    learn.logger = rows.append
    with learn.no_logging(), learn.no_mbar():
        assert learn.create_mbar is False
        learn.fit(1)
    assert rows == []
    assert learn.create_mbar is True
    learn.fit(1)
    assert len(rows) == 1


def test_results_come_off_their_history_and_device():
    out = learner().to_detach({"a": (nn.Linear(1, 1)(torch.ones(1, 1)),)})
    assert not out["a"][0].requires_grad


class Fails(nn.Linear):
    def forward(self, x):
        raise ZeroDivisionError


FAILURES = {
    "the model": lambda: learner(model=Fails(2, 1)),
    "a callback": lambda: learner(cbs=Callback(after_backward=lambda cb: 1 / 0)),
    "a function": lambda: added(learner(), lambda: 1 / 0),
    "the loss": lambda: learner(loss_func=lambda pred, y: 1 / 0),
    "a step": lambda: learner(step=lambda learn, batch: 1 / 0),
}


def added(learn, function):
    learn.on("after_step", function)
    return learn


@pytest.mark.parametrize("call", [lambda learn: learn.fit(1), lambda learn: learn.validate()], ids=["fit", "validate"])
@pytest.mark.parametrize("make", FAILURES.values(), ids=FAILURES)
def test_an_error_of_the_user_has_six_frames_of_the_library_at_most(make, call):
    try:
        call(make())
    except ZeroDivisionError as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/layered/" in frame.filename]
        assert 2 <= len(ours) <= 6
        assert frames[-1].filename == __file__
    else:
        assert call.__code__.co_names[0] == "validate"  # which takes no step


class Boom(RuntimeError):
    pass


def explode(kind):
    def after_batch(cb):
        raise kind

    return Callback(after_batch=after_batch)


def fails(kind, call):
    with contextlib.suppress(kind):
        call(explode(kind))


def keeps_the_error(learn):
    try:
        learn.fit(1, cbs=explode(Boom))
    except Boom as error:
        kept.append(error.with_traceback(None))


kept = []


@pytest.mark.parametrize(
    "use",
    [
        lambda learn: learn.fit(2),
        lambda learn: fails(Boom, lambda cb: learn.fit(1, cbs=cb)),
        lambda learn: fails(KeyboardInterrupt, lambda cb: learn.fit(1, cbs=cb)),
        keeps_the_error,
        lambda learn: lr_find(learn, num_it=8, show_plot=False),
        lambda learn: get_preds(learn),
        lambda learn: fails(Boom, lambda cb: learn.validate(cbs=cb)),
    ],
    ids=["fit", "error", "Ctrl-C", "error that is kept", "lr_find", "get_preds", "error while validating"],
)
def test_a_deleted_learner_frees_itself_and_its_weights_at_once(use):
    gc.collect()
    gc.disable()
    try:
        learn = learner()
        learn.on("after_batch", lambda learn: None, every="2 batches")
        use(learn)
        refs = weakref.ref(learn), weakref.ref(learn.model.weight)
        del learn
        assert [ref() for ref in refs] == [None, None]
    finally:
        gc.enable()
