"""Dropout in validation is dropout alone, and is off again afterwards."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.callback import MCDropoutCallback
from layered.loop import Callback, Loop

BATCH = (torch.randn(16, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(16, 1))


class OwnDropout(nn.Module):
    def forward(self, x):
        return x + 1 if self.training else x


def learner() -> Loop:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), OwnDropout(), nn.Linear(8, 1))
    learn = Loop(([BATCH], [BATCH]), model, nn.MSELoss())
    learn.logger = lambda row: None
    learn.fit(1)
    return learn


def test_dropout_alone_is_in_training_mode_during_validation():
    learn, modes = learner(), []
    look = Callback(after_pred=lambda cb: modes.append([m.training for m in cb.model]))
    learn.validate(cbs=[MCDropoutCallback, look])
    assert modes == [[False, False, True, True, False]]
    assert not any(m.training for m in learn.model.modules())


def test_predictions_differ_and_their_mean_is_near_the_plain_one():
    learn = learner()
    plain = learn.validate()[0]
    assert learn.validate()[0] == plain
    assert len({learn.validate(cbs=MCDropoutCallback)[0] for _ in range(4)}) == 4
    assert learn.validate()[0] == plain


def test_training_is_as_ever():
    seen = []
    learn = learner()
    learn.fit(
        1, cbs=[MCDropoutCallback, Callback(before_batch=lambda cb: seen.append((cb.training, cb.model[1].training)))]
    )
    assert seen == [(True, True), (False, False)]


def test_a_validation_that_fails_leaves_dropout_off():
    def fail(cb):
        raise ZeroDivisionError

    learn = learner()
    with pytest.raises(ZeroDivisionError):
        learn.validate(cbs=[MCDropoutCallback, Callback(after_pred=fail)])
    assert not any(m.training for m in learn.model.modules())
    assert_close(learn.model(BATCH[0]), learn.model(BATCH[0]))
