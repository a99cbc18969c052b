"""Schedule-free Adam against the three sequences of its paper, and the weights that a learner predicts with."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.foundation import CannotTrain, OutOfRange
from layered.loop import Callback
from layered.nn import MSELossFlat
from layered.optim import ScheduleFree
from layered.testing import synth_dls
from layered.training import Learner


def by_the_paper(start, grads, lr, wd, warm_up, beta=0.9, sqr_mom=0.999, eps=1e-8):
    """x after each step; gradients do not depend on the weights."""
    x, z, v, weights, averages = start.clone(), start.clone(), torch.zeros_like(start), 0.0, []
    for t, grad in enumerate(grads, 1):
        y = (1 - beta) * z + beta * x
        rate = lr * min(1, t / warm_up) if warm_up else lr
        v = sqr_mom * v + (1 - sqr_mom) * grad**2
        z = z - rate * (grad / ((v / (1 - sqr_mom**t)).sqrt() + eps) + wd * y)
        weights += rate**2
        x = x + rate**2 / weights * (z - x)
        averages.append(x)
    return averages, (1 - beta) * z + beta * x


@pytest.mark.parametrize("warm_up", [0, 1, 5, 100])
@pytest.mark.parametrize("wd", [0.0, 0.1])
def test_it_computes_the_sequences_of_the_paper(warm_up, wd):
    torch.manual_seed(0)
    start, grads = torch.randn(4, 3, dtype=torch.float64), torch.randn(20, 4, 3, dtype=torch.float64)
    w = start.clone().requires_grad_()
    opt = ScheduleFree([w], lr=0.05, wd=wd, warm_up=warm_up)
    averages, y = by_the_paper(start, grads, 0.05, wd, warm_up)
    for grad, average in zip(grads, averages, strict=True):
        opt.train()
        opt.train()
        w.grad = grad.clone()
        opt.step()
        opt.eval()
        opt.eval()
        assert_close(w.detach(), average, rtol=0, atol=1e-12)
    opt.train()
    assert_close(w.detach(), y, rtol=0, atol=1e-12)


def test_coupled_decay_is_a_gradient_of_half_the_squared_weights():
    torch.manual_seed(0)
    a = torch.randn(5, dtype=torch.float64, requires_grad=True)
    b = a.detach().clone().requires_grad_()
    coupled, by_hand = ScheduleFree([a], lr=0.05, wd=0.1, decouple_wd=False), ScheduleFree([b], lr=0.05)
    for _ in range(5):
        a.grad = torch.ones_like(a)
        b.grad = 1 + 0.1 * b.detach()
        coupled.step()
        by_hand.step()
    assert_close(a, b, rtol=0, atol=1e-12)


def test_a_step_with_the_weights_to_predict_with_is_refused():
    w = torch.ones(2, requires_grad=True)
    w.grad = torch.ones(2)
    opt = ScheduleFree([w], lr=0.1)
    opt.step()
    opt.eval()
    before = w.detach().clone()
    with pytest.raises(CannotTrain, match=r"opt\.train\(\)"):
        opt.step()
    assert torch.equal(w, before)


@pytest.mark.parametrize("wrong", [{"interpolation": 1.0}, {"interpolation": 0.0}, {"warm_up": -1}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(OutOfRange):
        ScheduleFree([torch.ones(1, requires_grad=True)], lr=0.1, **wrong)


def weights(learn):
    return torch.cat([p.detach().flatten().clone() for p in learn.model.parameters()])


class Watches(Callback):
    """Remembers the weights of each pass."""

    def __init__(self, fail_at=None):
        self.fail_at, self.trained, self.validated = fail_at, [], []

    def after_batch(self):
        if self.training:
            self.trained.append(weights(self.learn))
            if self.learn.train_iter == self.fail_at:
                raise RuntimeError("stop here")
        else:
            self.validated.append(weights(self.learn))


def learner(**how):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    return Learner(synth_dls(n_train=4), model, MSELossFlat(), opt_func="ScheduleFree", lr=0.05, **how)


def test_a_learner_trains_with_one_kind_of_weights_and_predicts_with_the_other():
    learn = learner()
    seen = Watches()
    with learn.no_bar(), learn.no_logging():
        before = learn.validate()[0]
        learn.fit(3, cbs=seen)
        assert learn.validate()[0] < before
    assert torch.equal(seen.validated[-1], weights(learn))
    assert not torch.equal(seen.trained[-1], weights(learn))
    learn.opt.train()
    assert_close(weights(learn), seen.trained[-1])


def test_a_fit_that_fails_leaves_the_weights_to_predict_with():
    learn = learner()
    watch = Watches(fail_at=6)
    with learn.no_bar(), learn.no_logging(), pytest.raises(RuntimeError, match="stop here"):
        learn.fit(3, cbs=watch)
    left = weights(learn)
    assert not torch.equal(left, watch.trained[-1])
    learn.opt.train()
    assert_close(weights(learn), watch.trained[-1])


def test_both_kinds_of_weights_are_saved(tmp_path):
    learn, other = learner(path=tmp_path), learner(path=tmp_path)
    with learn.no_bar(), learn.no_logging():
        learn.fit(2)
    learn.save("half")
    other.load("half")
    assert torch.equal(weights(other), weights(learn))
    for one in (learn, other):
        one.opt.train()
    assert torch.equal(weights(other), weights(learn))
