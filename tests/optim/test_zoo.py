"""The recipes against torch's optimizers and formulas worked by hand."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from layered.optim import optimizer as driver
from layered.optim.zoo import SGD, Adam, AdamW, RMSProp

SHAPES = [(40, 7), (7,), (), (3, 4, 5), (1, 300)]


def twins(dtype=torch.float64):
    torch.manual_seed(0)
    ours = [torch.randn(s, dtype=dtype).requires_grad_() for s in SHAPES]
    return ours, [p.detach().clone().requires_grad_() for p in ours]


def give_grads(ours, theirs, step, *, sometimes_none=False):
    generator = torch.Generator().manual_seed(step)
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        grad = torch.randn(a.shape, generator=generator, dtype=a.dtype)
        missing = sometimes_none and (step + i) % 3 == 0
        a.grad, b.grad = (None, None) if missing else (grad, grad.clone())


def follow(opt, ref, ours, theirs, *, steps=50, change=None, **how):
    for step in range(steps):
        if change:
            change(opt, ref, step)
        give_grads(ours, theirs, step, **how)
        opt.step()
        ref.step()
    assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.fixture(params=[1 << 20, 256], ids=["whole", "in pieces"])
def cache(request, monkeypatch):
    monkeypatch.setattr(driver, "PIECE_BYTES", request.param)


def torch_adamw(params, lr=1e-2, **kwargs):
    return torch.optim.AdamW(params, lr=lr, betas=(0.9, 0.99), eps=1e-5, weight_decay=0.01, **kwargs)


def change_lr_and_mom(opt, ref, step):
    lr, mom = 1e-2 * (1 + step % 7), 0.8 + 0.003 * step
    opt.set_hypers(lr=lr, mom=mom)
    for group in ref.param_groups:
        group["lr"], group["betas"] = lr, (mom, 0.99)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("sometimes_none", [False, True])
@pytest.mark.parametrize("change", [None, change_lr_and_mom])
def test_adam_follows_torch_adamw_for_fifty_steps(sometimes_none, change):
    ours, theirs = twins()
    follow(Adam(ours, lr=1e-2), torch_adamw(theirs), ours, theirs, change=change, sometimes_none=sometimes_none)


def test_adam_follows_torch_with_groups_and_frozen_groups():
    ours, theirs = twins()
    opt = Adam([ours[:2], ours[2:4], ours[4:]], lr=slice(1e-4, 1e-2))
    groups = [(theirs[:2], 1e-4), (theirs[2:4], 1e-3), (theirs[4:], 1e-2)]
    ref = torch_adamw([{"params": params, "lr": lr} for params, lr in groups])
    follow(opt, ref, ours, theirs, sometimes_none=True)

    opt.freeze()
    ref.state.clear()
    for step in range(5):
        give_grads(ours, theirs, step)
        for a, b in zip(ours[:4], theirs[:4], strict=True):
            a.grad = b.grad = None
        opt.step()
        ref.step()
    assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_adam_without_decay_for_flagged_parameters_follows_two_torch_groups():
    ours, theirs = twins()
    opt = Adam(ours, lr=1e-2, wd=0.1)
    for p in ours[1:3]:
        opt.state[p]["do_wd"] = False
    ref = torch.optim.AdamW(
        [{"params": [theirs[0], *theirs[3:]], "weight_decay": 0.1}, {"params": theirs[1:3], "weight_decay": 0.0}],
        lr=1e-2,
        betas=(0.9, 0.99),
        eps=1e-5,
    )
    follow(opt, ref, ours, theirs)


def test_adam_with_coupled_decay_follows_torch_adam():
    ours, theirs = twins()
    ref = torch.optim.Adam(theirs, lr=1e-2, betas=(0.9, 0.99), eps=1e-5, weight_decay=0.1)
    follow(Adam(ours, lr=1e-2, wd=0.1, decouple_wd=False), ref, ours, theirs)


def test_adamw_is_adam():
    assert AdamW is Adam


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("mom", [0.0, 0.9])
@pytest.mark.parametrize("wd", [0.0, 0.1])
def test_sgd_follows_torch_sgd(mom, wd):
    ours, theirs = twins()
    ref = torch.optim.SGD(theirs, lr=1e-2, momentum=mom, weight_decay=wd)
    follow(SGD(ours, lr=1e-2, mom=mom, wd=wd, decouple_wd=False), ref, ours, theirs, sometimes_none=True)


def test_sgd_decays_the_parameters_themselves_by_default():
    w = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    w.grad = torch.zeros_like(w)
    SGD([w], lr=0.5, wd=0.1).step()
    assert w.item() == pytest.approx(2.0 * (1 - 0.05))


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("mom", [0.0, 0.9])
def test_rms_prop_matches_two_steps_by_hand(mom):
    w = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    opt = RMSProp([w], lr=0.1, mom=mom, sqr_mom=0.9, eps=1e-3)
    for _ in range(2):
        w.grad = torch.tensor([0.5, 3.0], dtype=torch.float64)
        opt.step()
    for i, (value, grad) in enumerate([(1.0, 0.5), (-2.0, 3.0)]):
        first = grad / ((0.1 * grad**2) ** 0.5 + 1e-3)
        second = (mom * grad + grad) / ((0.19 * grad**2) ** 0.5 + 1e-3)
        assert w[i].item() == pytest.approx(value - 0.1 * (first + second), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adam_runs_in_lower_precision_and_keeps_the_dtype(dtype):
    ours, theirs = twins(dtype)
    give_grads(ours, theirs, 0)
    opt = Adam(ours, lr=1e-2)
    opt.step()
    assert {p.dtype for p in ours} == {opt.state[p]["grad_avg"].dtype for p in ours} == {dtype}
    torch_adamw(theirs).step()
    assert_close(ours, theirs)


def test_channels_last_parameters_are_updated_like_others(monkeypatch):
    monkeypatch.setattr(driver, "PIECE_BYTES", 256)
    torch.manual_seed(0)
    plain = torch.randn(8, 4, 3, 3, requires_grad=True)
    last = plain.detach().clone().to(memory_format=torch.channels_last).requires_grad_()
    for p in (plain, last):
        p.grad = torch.linspace(-1, 1, p.numel()).view(p.shape)
        Adam([p], lr=0.1).step()
    assert_close(last, plain)


@pytest.mark.parametrize("recipe", [SGD, RMSProp, Adam])
def test_an_unknown_argument_is_refused(recipe):
    with pytest.raises(TypeError, match="momentum"):
        recipe([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
