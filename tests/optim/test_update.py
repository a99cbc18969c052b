from __future__ import annotations

from functools import partial

import pytest
import torch

from layered.foundation import BadArgument, UnknownName
from layered.optim import (
    SGD,
    Adam,
    Optimizer,
    adam_step,
    average_grad,
    average_sqr_grad,
    debias,
    l2_reg,
    momentum_step,
    sgd_step,
    step_stat,
    weight_decay,
)
from layered.optim.update import elementwise, hyper_defaults, keeps


def weight(*values):
    w = torch.tensor(values or (1.0, -2.0), dtype=torch.float64, requires_grad=True)
    w.grad = torch.tensor([0.5] * len(w), dtype=torch.float64)
    return w


def test_a_new_optimizer_takes_less_than_ten_lines():
    @keeps(momentum=torch.zeros_like)
    @hyper_defaults(mom=0.9)
    def sign_momentum(slab):
        torch._foreach_mul_(slab["momentum"], slab.hyper["mom"])
        torch._foreach_add_(slab["momentum"], slab.grads)
        torch._foreach_add_(slab.params, torch._foreach_sign(slab["momentum"]), alpha=-slab.hyper["lr"])

    w = weight(1.0)
    opt = Optimizer([w], [weight_decay, sign_momentum], lr=0.25)
    for grad, expected in ((1.0, 0.75), (-0.5, 0.5), (-0.5, 0.75)):  # momentum: 1, 0.4, -0.14
        w.grad.fill_(grad)
        opt.step()
        assert w.item() == expected
    assert opt.hypers[0] == {"wd": 0.0, "mom": 0.9, "lr": 0.25}
    assert opt.state[w]["momentum"].item() == pytest.approx(-0.14)


def test_a_statistic_may_be_an_object_that_keeps_and_updates():
    class Largest:
        def __init__(self):
            self.keeps = {"largest": torch.zeros_like}

        def update(self, slab):
            torch._foreach_maximum_(slab["largest"], torch._foreach_abs(slab.grads))

    w = weight()
    opt = Optimizer([w], stats=[Largest()], lr=0.1)
    opt.step()
    w.grad = torch.tensor([-3.0, 0.1], dtype=torch.float64)
    opt.step()
    assert opt.state[w]["largest"].tolist() == [3.0, 0.5]


def test_the_book_s_adam_reads_the_known_statistics():
    def book_adam(p, lr, grad_avg, sqr_avg, step, mom, sqr_mom, eps, **kwargs):
        bias, sqr_bias = debias(mom, 1 - mom, step), debias(sqr_mom, 1 - sqr_mom, step)
        p.data.addcdiv_(grad_avg / bias, (sqr_avg / sqr_bias).sqrt() + eps, value=-lr)

    a, b = weight(), weight()
    mean = partial(average_grad, dampening=True)
    book = Optimizer([a], cbs=[step_stat, mean, average_sqr_grad, book_adam], lr=0.1, eps=1e-5)
    ours = Adam([b], lr=0.1, wd=0)
    for step in range(5):
        a.grad = torch.full_like(a, step - 1.5)
        b.grad = a.grad.clone()
        book.step()
        ours.step()
    assert torch.allclose(a, b, rtol=0, atol=1e-12)
    assert book.hypers[0] == {"mom": 0.9, "sqr_mom": 0.99, "lr": 0.1, "eps": 1e-5}


def test_l2_through_the_slab_reaches_a_step_for_one_tensor():
    def step_down(p, lr, **kwargs):
        p.data.add_(p.grad, alpha=-lr)

    a, b = weight(), weight()
    Optimizer([a], [l2_reg, step_down], lr=0.1, wd=0.5).step()
    SGD([b], lr=0.1, wd=0.5, decouple_wd=False).step()
    assert torch.equal(a, b)


def test_what_is_declared_is_found_through_a_partial():
    opt = Optimizer([weight()], [partial(average_grad, dampening=True), adam_step], sqr_mom=0.9, lr=0.1)
    assert list(opt.keeps) == ["grad_avg"]
    assert opt.hypers[0] == {"mom": 0.9, "eps": 1e-5, "sqr_mom": 0.9, "lr": 0.1}


def no_parameters():
    pass


def misspelt(slabs):
    pass


def by_keyword(*, p):
    pass


def two(slab, lr):
    pass


@pytest.mark.parametrize(
    ("update", "problem"),
    [
        (no_parameters, "does not take the parameters"),
        (misspelt, "does not take the parameters"),
        (by_keyword, "does not take the parameters"),
        (two, "requires more than the slab"),
        (3, "statistics and steps"),
        ("sgd_step", "statistics and steps"),
        (dict, "statistics and steps"),
        (torch.relu, "cannot be inspected"),
    ],
    ids=str,
)
def test_what_can_be_no_update_is_refused_at_once(update, problem):
    with pytest.raises(BadArgument, match=problem) as caught:
        Optimizer([weight()], [update], lr=0.1)
    if callable(update) and update is not dict:
        assert update.__name__ in str(caught.value)


def test_a_hyper_that_a_step_lacks_is_named_with_the_nearest():
    @elementwise
    def power_step(slab):
        torch._foreach_add_(slab.params, torch._foreach_pow(slab.grads, slab.hyper["power"]), alpha=-0.1)

    def book_power_step(p, power, **kwargs):
        p.data.sub_(p.grad**power)

    for step in (power_step, book_power_step):
        with pytest.raises(UnknownName, match="power") as caught:
            Optimizer([weight()], [step], lr=0.1, powr=2).step()
        assert "did you mean 'powr'" in caught.value.fix
        with pytest.raises(UnknownName, match="power") as caught:
            Optimizer([weight()], [step], lr=0.1).step()
        assert "power=..." in caught.value.fix


def test_a_statistic_that_nobody_keeps_is_named():
    with pytest.raises(UnknownName, match="grad_avg"):
        Optimizer([weight()], [momentum_step], lr=0.1).step()


@pytest.mark.parametrize(
    ("given", "meant"), [({"step": [sgd_step]}, "steps"), ({"stat": average_grad}, "stats"), ({"cb": sgd_step}, "cbs")]
)
def test_a_misspelt_argument_is_no_hyper_parameter(given, meant):
    with pytest.raises(BadArgument, match="unknown argument") as caught:
        Optimizer([weight()], lr=0.1, **given)
    assert meant in caught.value.fix


def test_a_misspelt_hyper_is_refused_with_the_one_that_an_update_reads():
    with pytest.raises(BadArgument, match="'momm'") as caught:
        Optimizer([weight()], [average_grad, momentum_step], lr=0.1, momm=0.8)
    assert "'mom'" in caught.value.fix
    Optimizer([weight()], [average_grad, momentum_step], lr=0.1, mom=0.8, momm=0.8)


def test_debias_is_the_sum_of_the_weights_of_a_running_mean():
    for mom, damp in ((0.9, 0.1), (0.5, 1.0), (1.0, 0.3), (0.0, 1.0)):
        avg = 0.0
        for step in range(1, 6):
            avg = mom * avg + damp
            assert debias(mom, damp, step) == pytest.approx(avg)
