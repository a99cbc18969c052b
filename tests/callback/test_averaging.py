"""Averaged weights equal torch's own averages and a mean worked by hand, and come and go as asked."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.testing import assert_close

from layered.callback import EarlyStoppingCallback, EMACallback, SaveModelCallback, SWACallback
from layered.data import DataLoader
from layered.foundation import CannotTrain, OutOfRange
from layered.loop import Callback, CancelFitException, CancelStepException, Loop
from layered.optim import SGD


def batches():
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    return [(part, part.sum(1, keepdim=True)) for part in x.split(4)]


def learner(cbs, batch_norm=False, **kwargs) -> Loop:
    torch.manual_seed(0)
    norm = [nn.BatchNorm1d(4)] if batch_norm else []
    model = nn.Sequential(nn.Linear(3, 4), *norm, nn.Linear(4, 1))
    learn = Loop((batches(), batches()), model, nn.MSELoss(), SGD, lr=0.05, cbs=cbs, **kwargs)
    learn.logger = lambda row: None
    return learn


def state(learn):
    return copy.deepcopy(dict(learn.model.state_dict()))


class Follow(Callback):
    """Keeps the weights at the end of every epoch's training, and torch's own average of all steps."""

    def __init__(self, decay=0.9):
        self.decay, self.ends, self.theirs = decay, [], None

    def after_step(self):
        if self.theirs is None:
            average = get_ema_multi_avg_fn(self.decay)
            self.theirs = AveragedModel(self.model, multi_avg_fn=average, use_buffers=False)
        self.theirs.update_parameters(self.model)

    def after_train(self):
        self.ends.append(copy.deepcopy(dict(self.model.state_dict())))


def test_a_moving_average_is_torchs():
    learn = learner([EMACallback(0.9, warmup=False), follow := Follow()])
    learn.fit(2)
    assert_close(state(learn), dict(follow.theirs.module.state_dict()))


def test_warming_up_forgets_the_first_weights_sooner():
    seen = []
    learn = learner([EMACallback(0.3), Callback(after_step=lambda cb: seen.append(cb.model[0].bias.detach().clone()))])
    learn.fit(1)
    average = seen[0]
    for n, weights in enumerate(seen[1:], 1):
        decay = min(0.3, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * weights
    assert_close(learn.model[0].bias.detach(), average)


def test_a_step_that_is_left_out_does_not_count():
    def skip(cb):
        if cb.iter % 2:
            raise CancelStepException

    learn = learner([EMACallback(0.9), Callback(before_step=skip)])
    learn.fit(1)
    assert learn.ema.count == 3


def test_stochastic_averaging_is_the_mean_of_the_last_epochs():
    learn = learner([SWACallback(start=0.5), follow := Follow()])
    learn.fit(4)
    wanted = {name: (follow.ends[2][name] + follow.ends[3][name]) / 2 for name in follow.ends[0]}
    assert_close(state(learn), wanted)


def test_it_can_average_over_batches_at_a_rate_of_its_own():
    weights, rates = [], []

    def note(cb):
        weights.append(cb.model[0].bias.detach().clone())
        rates.append(cb.opt.hypers[0]["lr"])

    learn = learner([SWACallback(0.5, "2 batches", lr=0.01), Callback(after_step=note)])
    learn.fit(2)
    assert rates == [0.05] * 5 + [0.01] * 5
    assert_close(learn.model[0].bias.detach(), torch.stack([weights[i] for i in (5, 7, 9)]).mean(0))


def test_batch_norm_is_computed_anew_as_torch_does_it():
    learn = learner(SWACallback(start=0.0), batch_norm=True)
    learn.fit(2)
    theirs = copy.deepcopy(learn.model)
    update_bn([x for x, _ in batches()], theirs)
    assert_close(state(learn), dict(theirs.state_dict()))
    assert [m.momentum for m in learn.model if isinstance(m, nn.BatchNorm1d)] == [0.1]


def test_a_generator_and_batch_norm_are_refused_before_the_fit():
    learn = learner(SWACallback(start=0.0), batch_norm=True)
    learn.dls.train = (batch for batch in batches())
    with pytest.raises(CannotTrain, match="another pass"):
        learn.fit(1)
    assert len(list(learn.dls.train)) == 5


def test_a_look_at_the_data_for_batch_norm_moves_nothing_on():
    loaders = [
        DataLoader(torch.utils.data.TensorDataset(torch.randn(12, 3), torch.randn(12, 1)), 4, shuffle=True, seed=0)
    ]
    learn = learner(SWACallback(start=0.0), batch_norm=True)
    learn.dls.train = loaders[0]
    before = torch.get_rng_state()
    learn.fit(1)
    assert torch.equal(before, torch.get_rng_state())
    assert loaders[0].state_dict()["epoch"] == 1


@pytest.mark.parametrize("kind", [EMACallback, lambda **kw: SWACallback(start=0.0, **kw)])
def test_validation_sees_the_average_and_training_does_not(kind):
    seen = {True: [], False: []}
    trained = []

    def note(cb):
        if not cb.training:
            seen[validate].append(cb.loss.item())
        else:
            trained.append(cb.loss.item())

    for validate in (True, False):
        learn = learner([kind(validate=validate), Callback(after_batch=note)])
        learn.fit(3)
    half = len(trained) // 2
    assert trained[:half] == trained[half:]
    assert seen[True] != seen[False]
    plain = learner(Callback(after_batch=lambda cb: cb.training or plain_losses.append(cb.loss.item())))
    plain_losses = []
    plain.fit(3)
    assert seen[False] == plain_losses


def test_the_last_weights_stay_if_asked_and_the_average_can_be_borrowed():
    kept, borrowed = learner(EMACallback(0.9)), learner(EMACallback(0.9, keep=False))
    plain = learner(None)
    for learn in (kept, borrowed, plain):
        learn.fit(2)
    assert_close(state(borrowed), state(plain))
    with borrowed.ema.averaged():
        assert_close(state(borrowed), state(kept))
    assert_close(state(borrowed), state(plain))


def test_what_is_saved_after_an_epoch_is_what_was_validated(tmp_path):
    values = []
    learn = learner([EMACallback(0.8), SaveModelCallback()], path=tmp_path)
    learn.logger = lambda row: values.append(row[2])
    learn.fit(3)
    assert learn.validate()[0] == pytest.approx(min(values))


def test_early_stopping_leaves_the_average():
    ours = learner(
        [EMACallback(0.9, validate=False), EarlyStoppingCallback(min_delta=1e9, patience=1), follow := Follow()]
    )
    ours.fit(9)
    assert len(follow.ends) == 2
    assert ours.ema.count == 10
    assert not torch.equal(state(ours)["0.bias"], follow.ends[-1]["0.bias"])


@pytest.mark.parametrize("where", ["after_step", "after_pred"])
def test_a_fit_that_fails_leaves_the_last_weights(where):
    def fail(cb):
        if cb.learn.epoch == 1 and (where == "after_step" or not cb.training):
            last.update(copy.deepcopy(dict(cb.model.state_dict())))
            raise ZeroDivisionError

    last: dict = {}
    learn = learner([EMACallback(0.9), Follow(), Callback(**{where: fail})])
    with pytest.raises(ZeroDivisionError):
        learn.fit(3)
    wanted = last if where == "after_step" else learn.follow.ends[-1]
    assert_close(state(learn), wanted)


def test_a_validation_inside_a_training_pass_gives_the_weights_back():
    def validate(cb):
        if cb.training and cb.iter == 1:
            before = state(cb.learn)
            cb.learn.validate()
            assert_close(state(cb.learn), before)

    learn = learner([EMACallback(0.9), Callback(after_batch=validate)])
    learn.fit(2)
    plain = learner(EMACallback(0.9))
    plain.fit(2)
    assert_close(state(learn), state(plain))


def test_predictions_inside_a_validation_leave_the_average_in_place():
    seen = []

    def validate(cb):
        if not cb.learn.nested:
            cb.learn.validate()
            seen.append(state(cb.learn))

    learn = learner([EMACallback(0.9, keep=False), Callback(after_validate=validate)])
    learn.fit(1)
    with learn.ema.averaged():
        assert_close(seen[0], state(learn))


def test_a_fit_cancelled_before_its_first_step_keeps_its_weights():
    def stop(cb):
        raise CancelFitException

    learn = learner([EMACallback(), SWACallback(), Callback(before_batch=stop)])
    before = state(learn)
    learn.fit(1)
    assert_close(state(learn), before)
    with pytest.raises(CannotTrain, match="averaged yet"), learn.ema.averaged():
        pass


@pytest.mark.parametrize(
    "make",
    [lambda: EMACallback(1.5), lambda: EMACallback(-0.1), lambda: SWACallback(1.0), lambda: SWACallback(every="1 h")],
)
def test_what_makes_no_sense_is_refused(make):
    with pytest.raises((OutOfRange, ValueError)):
        make()
