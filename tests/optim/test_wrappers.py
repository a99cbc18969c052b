from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest
import timm.optim
import torch
from torch import nn

from layered.foundation import BadArgument
from layered.optim import Adam, OptimWrapper, force_train, mark_no_decay


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


KINDS = {name: getattr(torch.optim, name) for name in ("AdamW", "SGD", "RMSprop", "Adagrad", "NAdam", "Adafactor")}
KINDS |= {f"timm's {name}": timm.optim.get_optimizer_class(name) for name in ("lamb", "adan", "adopt", "sgdp", "muon")}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def equal(*models):
    return all(all(torch.equal(p, ps[0]) for p in ps) for ps in zip(*(m.parameters() for m in models), strict=True))


@each_kind
def test_a_wrapped_optimizer_does_what_it_does_bare(kind):
    ours, theirs = model(), model()
    train(ours, partial(OptimWrapper, opt=kind)(groups(ours), lr=0.01))
    train(theirs, kind(theirs.parameters(), lr=0.01))
    assert equal(ours, theirs)


@each_kind
def test_every_kind_freezes_and_goes_on_from_a_state_dict_a_copy_or_a_pickle(kind):
    straight = model()
    opt = OptimWrapper(groups(straight), kind, lr=slice(1e-3, 1e-2))
    train(straight, opt)
    copied, pickled = copy.deepcopy((straight, opt)), pickle.loads(pickle.dumps((straight, opt)))
    loaded = copy.deepcopy(straight)
    resumed = OptimWrapper(groups(loaded), kind, lr=1.0)
    resumed.load_state_dict(opt.state_dict())
    for m, one in ((straight, opt), copied, pickled, (loaded, resumed)):
        train(m, one)
        one.freeze()
        train(m, one)
    assert equal(straight, copied[0], pickled[0], loaded)
    assert [h["lr"] for h in copied[1].hypers] == pytest.approx([1e-3, 10**-2.5, 1e-2])


def test_the_muon_of_torch_takes_matrices():
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    ours, theirs = (nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    opt = OptimWrapper(groups(ours), torch.optim.Muon, lr=0.01, weight_decay=0.1)
    opt.set_hypers(mom=0.9, wd=0.2)
    train(ours, opt)
    train(theirs, torch.optim.Muon(theirs.parameters(), lr=0.01, weight_decay=0.2, momentum=0.9))
    assert equal(ours, theirs)


class TwoKindsOfWeights(torch.optim.SGD):
    mode = "train"

    def train(self):
        self.mode = "train"

    def eval(self):
        self.mode = "eval"


def test_modes_reach_the_optimizers_that_have_them_and_no_others():
    opt = OptimWrapper(groups(model()), TwoKindsOfWeights, lr=0.1)
    opt.eval()
    assert opt.opt.mode == "eval"
    opt.train()
    assert opt.opt.mode == "train"
    for plain in (OptimWrapper(groups(model()), torch.optim.SGD, lr=0.1), Adam(groups(model()), lr=0.1)):
        plain.eval()
        plain.train()


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
