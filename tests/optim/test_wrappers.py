from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn

from layered.foundation.errors import BadArgument
from layered.optim.groups import force_train, mark_no_decay
from layered.optim.wrappers import OptimWrapper


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def groups(m):
    return [list(part.parameters()) for part in m]


def train(m, opt, steps=3):
    torch.manual_seed(1)
    for _ in range(steps):
        opt.zero_grad()
        m(torch.randn(8, 3)).pow(2).sum().backward()
        opt.step()


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad])
def test_a_wrapped_optimizer_does_what_it_does_bare(kind):
    ours, theirs = model(), model()
    train(ours, partial(OptimWrapper, opt=kind)(groups(ours), lr=0.01))
    train(theirs, kind(theirs.parameters(), lr=0.01))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_hypers_go_by_our_names():
    opt = OptimWrapper(groups(model()), torch.optim.AdamW, lr=slice(1e-4, 1e-2))
    opt.set_hypers(mom=0.8, sqr_mom=0.9, wd=0.3)
    assert [h["lr"] for h in opt.hypers] == pytest.approx([1e-4, 1e-3, 1e-2])
    assert opt.opt.param_groups[1]["betas"] == (0.8, 0.9)
    assert opt.opt.param_groups[2]["weight_decay"] == 0.3
    sgd = OptimWrapper(model().parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)
    assert dict(sgd.hypers[0]) == {"lr": 0.1, "mom": 0.9, "dampening": 0, "wd": 0}


def test_a_momentum_that_the_optimizer_lacks_may_be_set():
    opt = OptimWrapper(model().parameters(), torch.optim.Adagrad, lr=0.1)
    opt.set_hyper("mom", 0.9)
    assert opt.hypers[0]["mom"] == 0.9


def test_a_built_optimizer_can_be_wrapped():
    m = model()
    built = torch.optim.SGD(m.parameters(), lr=0.1)
    opt = OptimWrapper(opt=built)
    assert opt.param_lists == [list(m.parameters())]
    assert opt.state is built.state


@pytest.mark.parametrize("args", [{}, {"params": []}, {"params": [], "opt": torch.optim.SGD(model().parameters())}])
def test_half_a_wrapper_is_refused(args):
    with pytest.raises(BadArgument, match="parameters and a class"):
        OptimWrapper(**args)


def test_groups_freeze_and_norms_go_on():
    m = model()
    opt = OptimWrapper(groups(m), torch.optim.AdamW, lr=0.1)
    mark_no_decay(opt, m)
    force_train(opt, m)
    train(m, opt)
    opt.freeze()
    assert [part.weight.requires_grad for part in m] == [False, True, True]
    assert not opt.state
    before = [p.detach().clone() for p in m.parameters()]
    train(m, opt)
    still = [torch.equal(a, b) for a, b in zip(m.parameters(), before, strict=True)]
    assert still == [True, True, False, False, False, False]
    opt.unfreeze()
    train(m, opt)


def test_state_is_copied_on_loading_and_the_run_goes_on_the_same():
    straight = model()
    opt = OptimWrapper(groups(straight), torch.optim.AdamW, lr=0.01)
    train(straight, opt)
    again = copy.deepcopy(straight)
    resumed = OptimWrapper(groups(again), torch.optim.AdamW, lr=1.0)
    resumed.load_state_dict(opt.state_dict())
    train(straight, opt)
    train(again, resumed)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), again.parameters(), strict=True))


def test_torch_schedulers_and_scalers_take_it():
    m = model()
    opt = OptimWrapper(m.parameters(), torch.optim.SGD, lr=1.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(opt, gamma=0.1)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(m(torch.randn(8, 3)).sum()).backward()
    scaler.step(opt)
    scaler.update()
    scheduler.step()
    assert opt.hypers[0]["lr"] == pytest.approx(0.1)


def test_a_closure_reaches_optimizers_that_need_one():
    w = torch.tensor([3.0], requires_grad=True)
    opt = OptimWrapper([w], torch.optim.LBFGS, lr=1.0)

    def closure():
        opt.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss

    opt.step(closure)
    assert abs(w.item()) < 1e-3
