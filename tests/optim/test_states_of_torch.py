from __future__ import annotations

import copy

import pytest
import torch
from torch.testing import assert_close

from layered.foundation import BadValue
from layered.optim import SGD, Adam, RAdam, RMSProp

ADAM = {"betas": (0.9, 0.99), "eps": 1e-5, "weight_decay": 0.1}


def weights():
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in ((3, 4), (4,), ())]


def train(opt, params, steps, start=0):
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step)
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        opt.step()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (lambda ps: torch.optim.AdamW(ps, lr=1e-2, **ADAM), lambda ps: Adam(ps, lr=1.0)),
        (lambda ps: torch.optim.Adam(ps, lr=1e-2, **ADAM), lambda ps: Adam(ps, lr=1.0, decouple_wd=False)),
        (lambda ps: torch.optim.RAdam(ps, lr=1e-2, **ADAM), lambda ps: RAdam(ps, lr=1.0, decouple_wd=False)),
        (
            lambda ps: torch.optim.SGD(ps, lr=1e-2, momentum=0.8, weight_decay=0.1),
            lambda ps: SGD(ps, lr=1.0, mom=0.9, decouple_wd=False),
        ),
        (lambda ps: torch.optim.SGD(ps, lr=1e-2), lambda ps: SGD(ps, lr=1.0, wd=0.9)),
    ],
    ids=["AdamW", "Adam", "RAdam", "SGD with momentum", "SGD"],
)
def test_a_run_of_a_torch_optimizer_goes_on_in_ours(theirs, ours):
    straight, begun = weights(), weights()
    ref, first = theirs(straight), theirs(begun)
    train(ref, straight, 12)
    train(first, begun, 5)
    taken = [p.detach().clone().requires_grad_() for p in begun]
    opt = ours(taken)
    opt.load_state_dict(first.state_dict())
    assert opt.hypers[0]["lr"] == 1e-2
    train(opt, taken, 7, start=5)
    assert_close(taken, straight, rtol=0, atol=1e-12)


def test_groups_and_a_scheduler_s_mark_come_along():
    params = weights()
    ref = torch.optim.Adam([{"params": params[:1], "lr": 0.5}, {"params": params[1:]}], lr=0.1, betas=(0.7, 0.8))
    torch.optim.lr_scheduler.ConstantLR(ref, factor=0.5)
    opt = Adam([params[:1], params[1:]], lr=1.0)
    opt.load_state_dict(ref.state_dict())
    assert [(h["lr"], h["initial_lr"], h["mom"], h["sqr_mom"]) for h in opt.hypers] == [
        (0.25, 0.5, 0.7, 0.8),
        (0.05, 0.1, 0.7, 0.8),
    ]


@pytest.mark.parametrize(
    ("theirs", "recipe", "problem"),
    [
        (lambda ps: torch.optim.Adam(ps, amsgrad=True), Adam, "'amsgrad'"),
        (lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, nesterov=True), SGD, "'nesterov'"),
        (lambda ps: torch.optim.Adam(ps), SGD, "'(grad|sqr)_avg' of parameter 0"),
        (lambda ps: torch.optim.RMSprop(ps), RMSProp, "'square_avg' of parameter 0"),
        (lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9), Adam, "'sqr_avg' missing"),
        (lambda ps: torch.optim.Adam([p for p in ps if p.ndim]), Adam, "groups of"),
    ],
    ids=["amsgrad", "nesterov", "Adam into SGD", "RMSprop", "SGD into Adam", "other parameters"],
)
def test_what_has_no_counterpart_is_refused_and_nothing_changes(theirs, recipe, problem):
    params = weights()
    ref = theirs(weights())
    train(ref, [p for group in ref.param_groups for p in group["params"]], 2)
    opt = recipe(params, lr=0.3)
    train(opt, params, 2)
    before = copy.deepcopy(opt.state_dict())
    with pytest.raises(BadValue, match=problem):
        opt.load_state_dict(ref.state_dict())
    assert_close(opt.state_dict(), before, rtol=0, atol=0)
