"""Channels last is a layout: strides change, numbers do not, and nothing is left of it."""

import copy

import torch
from torch import nn
from torch.testing import assert_close

from layered.callback import AMPMode, ChannelsLast, MixedPrecision, to_channelslast, to_contiguous
from layered.foundation import TensorImage
from layered.loop import Callback, Loop
from layered.optim import Adam


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.Flatten(), nn.Linear(32, 1))


def batches():
    x = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return [(TensorImage(part), part.mean((1, 2, 3))[:, None]) for part in x.split(4)]


def learner(cbs=None, model=None) -> Loop:
    learn = Loop((batches(), batches()), model or net(), nn.MSELoss(), Adam, lr=0.01, cbs=cbs)
    learn.logger = lambda row: None
    return learn


def is_last(x):
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def test_weights_and_inputs_lie_channels_last_during_a_fit_and_not_after_it():
    seen = []
    look = Callback(after_pred=lambda cb: seen.append((is_last(cb.x), is_last(cb.model[0].weight))))
    learn = learner([ChannelsLast, look])
    learn.fit(1)
    assert seen == [(True, True)] * 4
    assert all(p.is_contiguous() for p in learn.model.parameters())


def test_the_numbers_are_the_same():
    last, plain = learner(ChannelsLast), learner()
    for learn in (last, plain):
        learn.fit(2)
        learn.fit(1)
    assert_close(last.model.state_dict(), plain.model.state_dict())


def test_weights_are_saved_and_loaded_in_the_middle_of_it(tmp_path):
    learn = learner(ChannelsLast)
    learn.path = tmp_path
    learn.on("after_epoch")(lambda learn: learn.save("x"))
    learn.fit(1)
    wanted = copy.deepcopy(dict(learn.model.state_dict()))
    assert_close(dict(learner().load(tmp_path / "models" / "x").model.state_dict()), wanted)


def test_models_of_other_shapes_are_left_alone():
    class Volume(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(1, 1, 1)

        def forward(self, x):
            return self.conv(x[:, None]).mean((1, 2, 3, 4))[:, None]

    learner(ChannelsLast, Volume()).fit(1)


def test_verbs_switch_it_on_and_off():
    learn = learner()
    assert to_channelslast(learn, amp_mode=AMPMode.BF16) is learn
    to_channelslast(learn, amp_mode=AMPMode.BF16)
    assert [type(cb) for cb in learn.cbs[-2:]] == [ChannelsLast, MixedPrecision]
    learn.fit(1)
    to_contiguous(learn)
    assert isinstance(learn.cbs[-1], MixedPrecision)
    assert not any(isinstance(cb, ChannelsLast) for cb in learn.cbs)
    to_contiguous(learn, to_fp32=True)
    assert not any(isinstance(cb, MixedPrecision) for cb in learn.cbs)
    assert [type(cb) for cb in to_channelslast(learn, use_amp=False).cbs].count(ChannelsLast) == 1
    assert not any(isinstance(cb, MixedPrecision) for cb in learn.cbs)
