"""Sharpness-aware steps follow the paper's formula, and live with accumulation, precision and batch norm."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.callback import SAM, GradientAccumulation, MixedPrecision, MixUp
from layered.foundation import OutOfRange
from layered.loop import Callback, CancelBackwardException, Loop
from layered.optim import SGD


def batches(count=3):
    x = torch.randn(4 * count, 3, generator=torch.Generator().manual_seed(1))
    return [(part, part.sum(1, keepdim=True)) for part in x.split(4)]


def learner(cbs, model=None, data=None) -> Loop:
    torch.manual_seed(0)
    learn = Loop((data or batches(), None), model or nn.Linear(3, 1), nn.MSELoss(), SGD, lr=0.1, cbs=cbs)
    learn.logger = lambda row: None
    return learn


def gradient(w, x, y):
    """Of the mean of (x·w - y)²: worked by hand."""
    return 2 * x.T @ (x @ w - y) / len(x)


@pytest.mark.parametrize("adaptive", [False, True])
def test_it_steps_with_the_gradient_found_up_the_slope(adaptive):
    learn = learner(SAM(0.5, adaptive), nn.Linear(3, 1, bias=False))
    w = learn.model.weight.detach().clone().T
    learn.fit(2)
    for x, y in batches() * 2:
        g = gradient(w, x, y)
        size = w.abs() if adaptive else torch.ones_like(w)
        climb = 0.5 * size**2 * g / (size * g).norm()
        w = w - 0.1 * gradient(w + climb, x, y)
    assert_close(learn.model.weight.detach().T, w)


def test_reported_are_loss_and_prediction_of_the_first_pass():
    seen = []
    note = Callback(after_batch=lambda cb: seen.append((cb.loss, cb.pred.detach())))
    learn = learner([SAM(0.5), note], data=batches(1))
    before = copy.deepcopy(learn.model)
    learn.fit(1)
    ((x, y),) = batches(1)
    assert_close(seen[0][1], before(x).detach())
    assert_close(seen[0][0], nn.functional.mse_loss(before(x), y).detach())


def test_gathered_batches_each_climb_by_themselves():
    learn = learner([SAM(0.5), GradientAccumulation(8)], nn.Linear(3, 1, bias=False), batches(2))
    w = learn.model.weight.detach().clone().T
    learn.fit(1)
    total = torch.zeros_like(w)
    for x, y in batches(2):
        g = gradient(w, x, y)
        total += gradient(w + 0.5 * g / g.norm(), x, y) / 2
    assert_close(learn.model.weight.detach().T, w - 0.1 * total)


def test_a_scaled_loss_changes_nothing():
    class Line(nn.Module):
        """x * a: no operation that autocast knows."""

        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return (x * self.a).sum(1, keepdim=True)

    scaled, plain = learner([SAM(0.5), MixedPrecision(init_scale=64.0)], Line()), learner(SAM(0.5), Line())
    for learn in (scaled, plain):
        learn.fit(2)
    assert_close(scaled.model.state_dict(), plain.model.state_dict())


def test_both_passes_compute_in_half_precision():
    class Watch(nn.Linear):
        seen = ()

        def forward(self, x):
            out = super().forward(x)
            self.seen = (*self.seen, out.dtype)
            return out

    learn = learner([SAM(), MixedPrecision("bf16")], Watch(3, 1))
    learn.fit(1)
    assert learn.model.seen == (torch.bfloat16,) * 6
    assert not torch.is_autocast_enabled("cpu")


def test_batch_norm_counts_each_batch_once():
    def net():
        torch.manual_seed(0)
        return nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))

    sam, plain = learner(SAM(0.5), net()), learner(None, net())
    for learn in (sam, plain):
        learn.fit(1)
    assert_close(dict(sam.model[0].named_buffers()), dict(plain.model[0].named_buffers()))


def test_mixed_batches_are_mixed_the_same_way_in_both_passes():
    seen = []
    look = Callback(after_loss=lambda cb: seen.append((cb.xb[0].clone(), cb.yb[0].clone())))
    learner([SAM(0.5), MixUp(), look]).fit(1)
    assert len(seen) == 6
    for first, second in zip(seen[::2], seen[1::2]):
        assert_close(first, second)


def test_a_cancelled_backward_pass_moves_nothing():
    def skip(cb):
        raise CancelBackwardException

    learn = learner([SAM(), Callback(before_backward=skip)])
    before = copy.deepcopy(learn.model.state_dict())
    learn.fit(1)
    assert_close(learn.model.state_dict(), before)


def test_weights_are_back_where_they_were_when_the_second_pass_fails():
    def fail(cb):
        if len(calls) == 1:
            raise ZeroDivisionError
        calls.append(1)

    calls = []
    learn = learner([SAM(0.5), Callback(after_pred=fail)])
    before = copy.deepcopy(learn.model.state_dict())
    with pytest.raises(ZeroDivisionError):
        learn.fit(1)
    assert_close(learn.model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("rho", [0, -1.0, float("nan")])
def test_rho_is_above_zero(rho):
    with pytest.raises(OutOfRange):
        SAM(rho)
