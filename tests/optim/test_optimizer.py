from __future__ import annotations

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadArgument, BadValue, UnknownName
from layered.optim import SGD, Adam, Optimizer, average_sqr_grad, momentum_step, sgd_step, stats, weight_decay
from layered.optim.update import elementwise


def weights(*shapes):
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]


def give_grads(params, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)


def train(opt, params, steps, start=0):
    for step in range(start, start + steps):
        give_grads(params, step)
        opt.step()


# The per-tensor form, as courses teach it.


def average_grad(p, mom, grad_avg=None, **kwargs):
    if grad_avg is None:
        grad_avg = torch.zeros_like(p.grad.data)
    return {"grad_avg": grad_avg * mom + p.grad.data}


def book_momentum_step(p, lr, grad_avg, **kwargs):
    p.data.add_(grad_avg, alpha=-lr)


def test_callbacks_of_one_tensor_do_momentum_like_torch():
    ours, theirs = weights((3, 2), (4,)), weights((3, 2), (4,))
    opt_func = partial(Optimizer, cbs=[average_grad, book_momentum_step], mom=0.9)
    train(opt_func(ours, lr=0.1), ours, 20)
    train(torch.optim.SGD(theirs, lr=0.1, momentum=0.9), theirs, 20)
    assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "updates",
    [
        [stats.average_grad, book_momentum_step],
        [average_grad, momentum_step],
        [stats.average_grad, momentum_step],
    ],
    ids=["statistic, then book step", "book statistic, then step", "slabs only"],
)
def test_both_kinds_of_update_live_in_one_optimizer(updates):
    ours, theirs = weights((3, 2), (4,)), weights((3, 2), (4,))
    train(Optimizer(ours, cbs=updates, mom=0.9, lr=0.1), ours, 10)
    train(torch.optim.SGD(theirs, lr=0.1, momentum=0.9), theirs, 10)
    assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_updates_run_in_the_order_given():
    (w,) = weights((1,))
    order = []
    updates = [lambda p, i=i, **kwargs: order.append(i) for i in range(4)]
    give_grads([w])
    Optimizer([w], cbs=updates[:2], steps=updates[2:], lr=0.1).step()
    assert order == [0, 1, 2, 3]


def test_a_callback_gives_first_values_of_hyper_parameters():
    def step(p, lr, power=1, **kwargs):
        p.data.sub_(lr * p.grad.sign() * p.grad.abs() ** power)

    step.defaults = {"power": 2, "lr": 1.0}
    (w,) = weights((3,))
    opt = Optimizer([w], cbs=step, lr=0.5)
    assert opt.hypers[0] == {"power": 2, "lr": 0.5}


def test_a_callback_without_kwargs_gets_what_it_names():
    w = torch.ones(2, requires_grad=True)
    w.grad = torch.ones(2)
    Optimizer([w], cbs=lambda p, lr: p.data.sub_(lr), lr=0.25, mom=0.9).step()
    assert w.tolist() == [0.75, 0.75]


def test_a_callback_that_returns_no_state_is_named():
    def wrong(p, **kwargs):
        return 3

    (w,) = weights((3,))
    give_grads([w])
    with pytest.raises(BadArgument, match="wrong"):
        Optimizer([w], cbs=[wrong]).step()


def test_something_that_is_no_update_is_refused():
    with pytest.raises(BadArgument, match="statistics and steps"):
        Optimizer(weights((3,)), cbs=[3])


def test_a_missing_hyper_parameter_is_named():
    (w,) = weights((3,))
    give_grads([w])
    with pytest.raises(UnknownName, match="lr"):
        Optimizer([w], steps=[sgd_step]).step()


def test_an_update_without_a_promise_sees_whole_slabs_and_one_with_it_pieces():
    seen = []

    def norms(slab):
        seen.append([p.shape[0] for p in slab.params])

    params = [torch.zeros(1 << 19, requires_grad=True) for _ in range(2)]
    for p in params:
        p.grad = torch.zeros_like(p)
    before, threads = torch.get_num_threads(), 1
    torch.set_num_threads(threads)
    try:
        Optimizer(params, steps=[norms]).step()
        Optimizer(params, steps=[elementwise(norms)]).step()
    finally:
        torch.set_num_threads(before)
    assert seen == [[1 << 19, 1 << 19]] + [[1 << 18]] * 4


def test_parameters_of_a_slab_share_dtype_count_and_flags():
    params = [torch.zeros(2, requires_grad=True) for _ in range(3)]
    params.append(torch.zeros(2, dtype=torch.float64, requires_grad=True))
    opt = Adam(params, lr=0.1)
    opt.state[params[0]]["do_wd"] = False
    params[1].grad = torch.zeros(2)
    opt.step()
    give_grads(params)
    parts = [(slab.count, slab.do_wd, slab.params[0].dtype, len(slab.params)) for slab in opt.slabs()]
    assert parts == [
        (1, False, torch.float32, 1),
        (2, True, torch.float32, 1),
        (1, True, torch.float32, 1),
        (1, True, torch.float64, 1),
    ]


def test_a_parameter_without_a_gradient_is_left_alone():
    a, b = weights((2,), (2,))
    before = b.detach().clone()
    opt = Adam([a, b], lr=0.1)
    give_grads([a])
    opt.step()
    assert torch.equal(b, before)
    assert b not in opt.state


def test_a_sparse_gradient_is_refused_before_anything_changes():
    linear, emb = nn.Linear(3, 3), nn.Embedding(10, 3, sparse=True)
    opt = Adam([list(linear.parameters()), list(emb.parameters())], lr=0.1)
    linear(emb(torch.tensor([1]))).sum().backward()
    before = linear.weight.detach().clone()
    with pytest.raises(BadValue, match="parameter 0 of group 1 has a sparse gradient"):
        opt.step()
    assert torch.equal(linear.weight, before)
    with pytest.raises(BadValue, match="'weight' has a sparse gradient"):
        Adam(emb.named_parameters(), lr=0.1).step()


def test_complex_parameters_are_refused():
    with pytest.raises(BadValue, match="complex"):
        SGD([torch.zeros(2, dtype=torch.complex64, requires_grad=True)], lr=0.1)


def test_a_closure_runs_with_gradients_and_its_loss_is_returned():
    w = torch.tensor([3.0], requires_grad=True)
    opt = SGD([w], lr=0.5)

    def closure():
        opt.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss

    assert opt.step(closure).item() == 9.0
    assert w.item() == 0.0


def test_state_dict_is_data_in_torch_s_structure():
    ours = weights((3, 2), (4,))
    opt = Adam([ours[:1], ours[1:]], lr=slice(1e-3, 1e-1))
    opt.flags(ours[1])["do_wd"] = False
    train(opt, ours, 2)
    saved = opt.state_dict()
    assert [group["params"] for group in saved["param_groups"]] == [[0], [1]]
    assert set(saved["state"]) == {0, 1}
    assert saved["state"][1]["count"] == 2
    plain = (bool, int, float, torch.Tensor)
    assert all(isinstance(value, plain) for entry in saved["state"].values() for value in entry.values())


def test_a_run_goes_on_bit_for_bit_from_a_state_dict():
    straight, first = weights((3, 2), (4,)), weights((3, 2), (4,))
    opt = Adam(straight, lr=0.1)
    train(opt, straight, 9)

    begun = Adam(first, lr=0.1)
    train(begun, first, 5)
    again = [p.detach().clone().requires_grad_() for p in first]
    resumed = Adam(again, lr=7.0, mom=0.0)
    saved = begun.state_dict()
    resumed.load_state_dict(saved)
    train(begun, first, 3)
    train(resumed, again, 4, start=5)
    assert all(torch.equal(a, b) for a, b in zip(straight, again, strict=True))
    assert all(torch.equal(opt.state[a]["sqr_avg"], resumed.state[b]["sqr_avg"]) for a, b in zip(straight, again))


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (lambda: Adam(weights((3, 2)), lr=0.1), "optimizer does not fit"),
        (lambda: Adam([[p] for p in weights((3, 2), (4,))], lr=0.1), "optimizer does not fit"),
        (lambda: Adam(weights((3, 2), (5,)), lr=0.1), "'grad_avg' of shape"),
        (lambda: SGD(weights((3, 2), (4,)), lr=0.1, mom=0.9), "'sqr_avg' missing"),
    ],
    ids=["fewer parameters", "other groups", "other shapes", "other statistics"],
)
def test_a_state_dict_that_does_not_fit_changes_nothing(other, problem):
    ours = weights((3, 2), (4,))
    opt = Adam(ours, lr=0.1)
    train(opt, ours, 2)
    before = copy.deepcopy(opt.state_dict())
    stranger = other()
    train(stranger, [entry[0] for entry in stranger.all_params()], 3)
    stranger.set_hyper("lr", 5.0)
    with pytest.raises(BadValue, match=problem):
        opt.load_state_dict(stranger.state_dict())
    assert_close(opt.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    "stranger", [nn.Linear(2, 2).state_dict(), {}, None, 3], ids=["model", "empty", "none", "number"]
)
def test_what_is_no_optimizer_s_state_is_refused(stranger):
    with pytest.raises(BadValue, match="not the state of an optimizer"):
        SGD(weights((2,)), lr=0.1).load_state_dict(stranger)


def test_a_count_that_is_no_number_is_refused_and_changes_nothing():
    ours = weights((3, 2))
    opt = Adam(ours, lr=0.1)
    train(opt, ours, 2)
    before, edited = copy.deepcopy(opt.state_dict()), copy.deepcopy(opt.state_dict())
    edited["state"][0]["count"] = []
    with pytest.raises(BadValue, match="'count' list"):
        opt.load_state_dict(edited)
    assert_close(opt.state_dict(), before, rtol=0, atol=0)


def test_a_copy_trains_on_its_own_parameters():
    ours = weights((3,))
    opt = Adam(ours, lr=0.1)
    train(opt, ours, 1)
    twin, copied = copy.deepcopy((opt, ours))
    train(opt, ours, 2, start=1)
    train(twin, copied, 2, start=1)
    assert torch.equal(ours[0], copied[0])
    assert ours[0] is not copied[0]


def test_torch_schedulers_drive_it():
    (w,) = weights((2,))
    opt = SGD([w], lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(opt, step_size=1, gamma=0.5)
    give_grads([w])
    opt.step()
    scheduler.step()
    assert opt.hypers[0]["lr"] == 0.5


def test_a_gradient_scaler_skips_a_step_with_infinite_gradients():
    w = torch.ones(2, requires_grad=True)
    opt = SGD([w], lr=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for grad, expected in ((float("inf"), 1.0), (1.0, 0.5)):
        opt.zero_grad()
        scaler.scale((w * grad).sum()).backward()
        scaler.step(opt)
        scaler.update()
        assert w.tolist() == [expected, expected]


def test_changed_flags_and_state_are_seen_at_the_next_step():
    (w,) = weights((2,))
    opt = Optimizer([w], stats=[average_sqr_grad], steps=[weight_decay], lr=0.5, wd=1.0, sqr_mom=0.9)
    give_grads([w])
    before = w.detach().clone()
    opt.step()
    assert_close(w.detach(), before / 2)
    opt.state[w]["do_wd"] = False
    opt.state[w]["sqr_avg"] = torch.zeros_like(w)
    opt.step()
    assert_close(w.detach(), before / 2)
    assert_close(opt.state[w]["sqr_avg"], 0.1 * w.grad**2)


@pytest.mark.parametrize(
    "wrong", [{"mom": 1.0}, {"sqr_mom": 1.0}, {"eps": -1e-8}, {"wd": -0.1}, {"lr": math.nan}, {"lr": [0.1, math.inf]}]
)
def test_numbers_with_which_no_step_can_be_taken_are_refused_when_the_optimizer_is_made(wrong):
    groups = [[torch.zeros(2, requires_grad=True)], [torch.zeros(2, requires_grad=True)]]
    with pytest.raises(BadValue, match=f"'{next(iter(wrong))}' is out of range"):
        Adam(groups, **{"lr": 0.1, **wrong})
