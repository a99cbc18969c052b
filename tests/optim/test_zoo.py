"""The recipes against torch's and timm's optimizers, and formulas worked by hand."""

from __future__ import annotations

import math

import pytest
import timm.optim
import torch
from torch.testing import assert_close

from layered.foundation import BadArgument, OutOfRange
from layered.optim import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Lamb,
    Larc,
    Lion,
    Lookahead,
    QHAdam,
    RAdam,
    RMSProp,
    ScheduleFree,
    optimizer as driver,
    ranger,
)

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


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("wd", [0.0, 0.1])
def test_adagrad_follows_torch_adagrad(wd, fused):
    ours, theirs = twins()
    ref = torch.optim.Adagrad(theirs, lr=0.1, weight_decay=wd)
    opt = Adagrad(ours, lr=0.1, wd=wd, decouple_wd=False, fused=fused)
    follow(opt, ref, ours, theirs, sometimes_none=True)


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


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("eps", [1e-3, 1.0])
def test_rms_prop_follows_torch_with_any_eps(eps):
    ours, theirs = twins()
    ref = torch.optim.RMSprop(theirs, lr=1e-2, alpha=0.9, eps=eps, weight_decay=0.1)
    opt = RMSProp(ours, lr=1e-2, sqr_mom=0.9, eps=eps, wd=0.1, decouple_wd=False)
    follow(opt, ref, ours, theirs, sometimes_none=True)


def torch_radam(params, wd=0.0, decoupled=True):
    betas, eps = (0.9, 0.99), 1e-5
    return torch.optim.RAdam(params, lr=1e-2, betas=betas, eps=eps, weight_decay=wd, decoupled_weight_decay=decoupled)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("decoupled", [True, False])
@pytest.mark.parametrize("change", [None, change_lr_and_mom])
def test_radam_follows_torch(decoupled, change):
    ours, theirs = twins()
    opt = RAdam(ours, lr=1e-2, wd=0.1, decouple_wd=decoupled)
    follow(opt, torch_radam(theirs, 0.1, decoupled), ours, theirs, change=change, sometimes_none=True)


def test_radam_s_beta_softens_the_denominator():
    w = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    opt = RAdam([w], lr=0.1, mom=0.0, sqr_mom=0.9, beta=3.0, eps=0.0)
    for _ in range(6):  # the mean of equal gradients is the gradient itself, and so is the root of the mean square
        w.grad = torch.tensor([0.5], dtype=torch.float64)
        before = w.item()
        opt.step()
    rho_inf = 2 / 0.1 - 1
    rho = rho_inf - 2 * 6 * 0.9**6 / (1 - 0.9**6)
    assert rho > 5
    rect = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
    assert before - w.item() == pytest.approx(0.1 * rect * 0.5 / (math.log(1 + math.exp(3.0 * 0.5)) / 3.0))


@pytest.mark.usefixtures("cache")
def test_lion_follows_timm():
    ours, theirs = twins()
    ref = timm.optim.Lion(theirs, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    follow(Lion(ours, lr=1e-2, wd=0.1), ref, ours, theirs, sometimes_none=True)


def test_lamb_follows_timm_where_the_ratio_stays_below_ten():
    ours, theirs = (params[:2] + params[3:] for params in twins())
    how = {"betas": (0.9, 0.99), "eps": 1e-5, "weight_decay": 0.1, "decoupled_decay": True, "max_grad_norm": None}
    ref = timm.optim.Lamb(theirs, lr=1e-2, always_adapt=True, **how)
    follow(Lamb(ours, lr=1e-2, wd=0.1), ref, ours, theirs)


@pytest.mark.parametrize(("value", "ratio"), [(3.0, 3.0), (25.0, 10.0), (0.0, 1.0)])
def test_lamb_s_first_step_is_as_long_as_its_tensor_up_to_ten_times(value, ratio):
    w = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    w.grad = torch.tensor([0.7], dtype=torch.float64)  # the first step of Adam, without eps, has length 1
    Lamb([w], lr=0.1, eps=0.0).step()
    assert w.item() == pytest.approx(value - 0.1 * ratio)


def test_lamb_and_larc_leave_a_tensor_with_a_gradient_of_zero_in_place():
    for recipe in (Lamb, Larc):
        w = torch.tensor([2.0, 1.0], requires_grad=True)
        w.grad = torch.zeros(2)
        recipe([w], lr=0.1).step()
        assert w.tolist() == [2.0, 1.0]


def test_larc_without_clipping_follows_timm_lars():
    ours, theirs = twins()
    ref = timm.optim.Lars(theirs, lr=0.1, trust_coeff=0.02, always_adapt=True)
    follow(Larc(ours, lr=0.1, mom=0.0, clip=False), ref, ours, theirs)


def test_larc_with_clipping_follows_timm_larc_at_rate_one():
    ours, theirs = twins()
    ref = timm.optim.Lars(theirs, lr=1.0, trust_coeff=0.5, trust_clip=True, always_adapt=True)
    follow(Larc(ours, lr=1.0, mom=0.0, trust_coeff=0.5), ref, ours, theirs)


@pytest.mark.parametrize("clip", [True, False])
def test_larc_with_momentum_and_decay_matches_two_steps_by_hand(clip):
    lr, mom, trust, wd = 0.5, 0.9, 2.0, 0.1
    w = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    opt = Larc([w], lr=lr, mom=mom, trust_coeff=trust, wd=wd, clip=clip, decouple_wd=False)
    value, avg = w.detach().clone(), torch.zeros(2, dtype=torch.float64)
    for grad in ([0.3, -0.4], [6.0, 8.0]):
        w.grad = torch.tensor(grad, dtype=torch.float64)
        opt.step()
        reg = torch.tensor(grad, dtype=torch.float64) + wd * value
        avg = mom * avg + reg
        local = lr * trust * value.norm() / (reg.norm() + wd * value.norm() + 1e-8)
        value = value - (min(local, lr) if clip else local) * avg
    assert_close(w.detach(), value, rtol=0, atol=1e-12)


def test_larc_moves_a_tensor_of_zeros_at_the_common_rate():
    w = torch.zeros(2, requires_grad=True)
    w.grad = torch.ones(2)
    Larc([w], lr=0.5).step()
    assert w.tolist() == [-0.5, -0.5]


@pytest.mark.usefixtures("cache")
def test_qhadam_matches_the_paper_s_formula():
    (ours, theirs), h = twins(), {"mom": 0.9, "sqr_mom": 0.95, "nu_1": 0.6, "nu_2": 0.8}
    opt = QHAdam(ours, lr=1e-2, eps=1e-6, **h)
    g, s = ([torch.zeros_like(p) for p in theirs] for _ in range(2))
    for t in range(1, 21):
        give_grads(ours, theirs, t)
        opt.step()
        for i, p in enumerate(theirs):
            grad = p.grad
            g[i] = h["mom"] * g[i] + (1 - h["mom"]) * grad
            s[i] = h["sqr_mom"] * s[i] + (1 - h["sqr_mom"]) * grad**2
            g_now, s_now = g[i] / (1 - h["mom"] ** t), s[i] / (1 - h["sqr_mom"] ** t)
            top = (1 - h["nu_1"]) * grad + h["nu_1"] * g_now
            bottom = ((1 - h["nu_2"]) * grad**2 + h["nu_2"] * s_now).sqrt() + 1e-6
            p.data -= 1e-2 * top / bottom
    assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_qhadam_with_both_nus_one_is_adam():
    ours, theirs = twins()
    how = {"lr": 1e-2, "mom": 0.9, "sqr_mom": 0.99, "eps": 1e-5, "wd": 0.1}
    follow(QHAdam(ours, nu_1=1.0, nu_2=1.0, **how), Adam(theirs, **how), ours, theirs)


def test_lookahead_follows_timm_whose_slow_weights_begin_after_k_steps():
    ours, theirs = twins()
    inner = RAdam(ours, lr=1e-2)
    ref = timm.optim.Lookahead(torch_radam(theirs), alpha=0.3, k=4)
    follow(inner, ref, ours, theirs, steps=4)
    follow(Lookahead(inner, k=4, alpha=0.3), ref, ours, theirs)


@pytest.mark.usefixtures("cache")
def test_ranger_is_radam_drawn_back_half_way_every_six_steps():
    ours, theirs = twins()
    opt = ranger(ours, lr=1e-2)
    assert isinstance(opt, Lookahead)
    ref = torch.optim.RAdam(
        theirs, lr=1e-2, betas=(0.95, 0.99), eps=1e-6, weight_decay=0.01, decoupled_weight_decay=True
    )
    slow = [p.detach().clone() for p in theirs]
    for step in range(1, 51):
        give_grads(ours, theirs, step)
        opt.step()
        ref.step()
        for i, p in enumerate(theirs):
            if step % 6 == 0:
                slow[i] += 0.5 * (p.detach() - slow[i])
                p.data.copy_(slow[i])
    assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_lookahead_goes_on_from_the_optimizer_it_is_put_around():
    ours, theirs = twins()
    inner, ref = Adam([ours[:2], ours[2:]], lr=slice(1e-3, 1e-2)), Adam([theirs[:2], theirs[2:]], lr=slice(1e-3, 1e-2))
    for opt in (inner, ref):
        opt.state[opt.param_lists[0][0]]["do_wd"] = False
    follow(inner, ref, ours, theirs, steps=3)
    follow(Lookahead(inner, k=100), ref, ours, theirs, steps=3)


def test_lookahead_wants_one_of_our_optimizers():
    w = torch.zeros(1, requires_grad=True)
    for other in (torch.optim.SGD([w]), ScheduleFree([w], lr=0.1)):
        with pytest.raises(BadArgument, match="statistics and steps"):
            Lookahead(other)


def test_lookahead_refuses_a_misspelt_argument_and_no_steps():
    opt = SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    with pytest.raises(BadArgument, match="alfa"):
        Lookahead(opt, alfa=0.3)
    with pytest.raises(OutOfRange, match="at this interval"):
        Lookahead(opt, k=0)


def test_channels_last_parameters_are_updated_like_others(monkeypatch):
    monkeypatch.setattr(driver, "PIECE_BYTES", 256)
    torch.manual_seed(0)
    plain = torch.randn(8, 4, 3, 3, requires_grad=True)
    last = plain.detach().clone().to(memory_format=torch.channels_last).requires_grad_()
    for p in (plain, last):
        p.grad = torch.linspace(-1, 1, p.numel()).view(p.shape)
        Adam([p], lr=0.1).step()
    assert_close(last, plain)
