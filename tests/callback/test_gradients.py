"""Gathered gradients are those of one large batch; clipped ones are no longer than asked."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.callback.gradients import GradientAccumulation, GradientClip
from layered.foundation.errors import OutOfRange
from layered.loop.loop import Loop
from layered.optim.zoo import SGD


def batches(rows):
    x = torch.randn(sum(rows), 3, generator=torch.Generator().manual_seed(1))
    return [(part, part.sum(1, keepdim=True)) for part in x.split(rows)]


def fit(rows, cbs=None, n_epoch=2) -> Loop:
    torch.manual_seed(0)
    learn = Loop((batches(rows), batches(rows)), nn.Linear(3, 1), nn.MSELoss(), SGD, lr=0.1, cbs=cbs)
    learn.logger = lambda row: None
    learn.fit(n_epoch)
    return learn


@pytest.mark.parametrize(
    ("small", "n_acc", "large"),
    [
        ([4, 4, 4, 4], 8, [8, 8]),
        ([4, 4, 4], 8, [8, 4]),
        ([3, 4, 2, 4, 2], 6, [7, 6, 2]),
        ([4, 4], 100, [8]),
        ([4, 4], 1, [4, 4]),
    ],
)
def test_accumulation_equals_larger_batches(small, n_acc, large):
    ours, whole = fit(small, GradientAccumulation(n_acc)), fit(large)
    assert_close(ours.model.state_dict(), whole.model.state_dict())


def test_the_reported_loss_is_that_of_each_batch():
    ours, plain = fit([4, 4], GradientAccumulation(100), 1), fit([4, 4], n_epoch=1)
    assert ours.recorder.losses[0] == plain.recorder.losses[0]


def test_a_number_of_samples_below_one_is_refused():
    with pytest.raises(OutOfRange):
        GradientAccumulation(0)


@pytest.mark.parametrize("norm_type", [2.0, float("inf")])
def test_clipped_gradients_have_the_norm_asked_for(norm_type):
    norms = []
    torch.manual_seed(0)
    learn = Loop((batches([4, 4]), None), nn.Linear(3, 1), nn.MSELoss(), SGD, cbs=GradientClip(1e-3, norm_type))
    learn.logger = lambda row: None

    @learn.on("after_step")
    def norm(learn):
        norms.append(torch.cat([p.grad.flatten() for p in learn.model.parameters()]).norm(norm_type).item())

    learn.fit(1)
    assert norms == pytest.approx([1e-3, 1e-3], rel=1e-3)
