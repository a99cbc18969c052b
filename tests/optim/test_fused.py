"""Steps by one kernel of torch: the same numbers as the formulas, and where these run instead."""

from functools import partial

import pytest
import torch

from layered.optim import SGD, Adagrad, Adam, Optimizer, RAdam, average_grad, average_sqr_grad
from layered.optim.fused import kernel_for
from layered.optim.steppers import adam_step, weight_decay

RECIPES = {
    "Adam": partial(Adam, wd=0.1),
    "Adam, L2": partial(Adam, wd=0.1, decouple_wd=False),
    "Adagrad": partial(Adagrad, wd=0.1),
    "Adagrad, L2": partial(Adagrad, wd=0.1, decouple_wd=False),
    "SGD": partial(SGD, wd=0.1),
    "SGD, L2": partial(SGD, wd=0.1, decouple_wd=False),
    "SGD, momentum": partial(SGD, wd=0.1, mom=0.9),
    "SGD, momentum, L2": partial(SGD, wd=0.1, mom=0.9, decouple_wd=False),
}
SHAPES = [(5,), (4, 7), (), (3, 2, 4, 4), (0,), (1000,)]


def parameters(dtype=torch.float32):
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in SHAPES]


def trained(make, steps=200, dtype=torch.float32, prepare=lambda opt, params: None, gradient=torch.randn_like):
    params = parameters(dtype)
    opt = make(params)
    prepare(opt, params)
    torch.manual_seed(1)
    for step in range(steps):
        for i, p in enumerate(params):
            p.grad = None if i == step % 7 else gradient(p.detach())  # so that counts differ
        opt.step()
    return params, opt


def assert_same(found, expected, **tolerance):
    for p, q in zip(found, expected, strict=True):
        torch.testing.assert_close(p, q, **tolerance)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_compute_the_formulas(name, dtype):
    def no_decay_of_the_first(opt, params):
        opt.state[params[0]]["do_wd"] = False

    both = [
        trained(partial(RECIPES[name], lr=0.01, fused=fused), dtype=dtype, prepare=no_decay_of_the_first)
        for fused in (True, False)
    ]
    assert kernel_for(both[0][1].updates) is not None
    assert_same(both[0][0], both[1][0], rtol=1e-5, atol=1e-6)
    states = [[dict(opt.state[p]) for p in params] for params, opt in both]
    for found, expected in zip(*states, strict=True):
        assert found.keys() == expected.keys()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", RECIPES)
def test_kernels_are_run(name, monkeypatch):
    opt = RECIPES[name](parameters(), lr=0.1)
    monkeypatch.setattr(opt, "updates", list(opt.updates))
    ran = []
    monkeypatch.setattr("layered.optim.optimizer.kernel_for", lambda updates: Spy(kernel_for(updates), ran))
    for p in (q for plist in opt.param_lists for q in plist):
        p.grad = torch.ones_like(p)
    opt.step()
    assert ran == [True]


class Spy:
    def __init__(self, kernel, ran):
        self.kernel, self.ran = kernel, ran

    def fits(self, slab):
        self.ran.append(self.kernel.fits(slab))
        return self.ran[-1]

    def step(self, slab):
        self.kernel.step(slab)


def transposed(p):
    """A gradient whose elements lie in memory in another order than the parameter's."""
    return torch.randn(p.shape[::-1], dtype=p.dtype).permute(tuple(range(p.ndim))[::-1])


def test_gradients_in_another_order_of_memory_reach_their_elements():
    runs = [trained(partial(Adam, lr=0.01, fused=fused), 20, gradient=transposed)[0] for fused in (True, False)]
    assert_same(*runs, rtol=1e-5, atol=1e-6)


def test_channels_last():
    def channels_last(p):
        grad = torch.randn_like(p)
        return grad.to(memory_format=torch.channels_last) if p.ndim == 4 else grad

    runs = []
    for fused in (True, False):
        params = [
            torch.nn.Parameter(p.detach().to(memory_format=torch.channels_last)) for p in parameters() if p.ndim == 4
        ]
        opt = Adam(params, lr=0.01, fused=fused)
        torch.manual_seed(0)
        for _ in range(5):
            for p in params:
                p.grad = channels_last(p.detach())
            opt.step()
        runs.append(params)
    assert_same(*runs, rtol=1e-5, atol=1e-6)


def test_a_momentum_that_a_schedule_makes_0_is_remembered_as_the_formula_says():
    def run(fused):
        p = torch.nn.Parameter(torch.zeros(3))
        opt = SGD([p], lr=0.1, mom=0.9, fused=fused)
        for mom in (0.9, 0.0, 0.9):
            opt.set_hypers(mom=mom)
            p.grad = torch.arange(3.0)
            opt.step()
        return [p]

    assert_same(run(True), run(False))


@pytest.mark.parametrize("name", RECIPES)
def test_a_graph_that_a_step_has_overtaken_is_refused(name):
    p, x = torch.nn.Parameter(torch.ones(3)), torch.ones(3, requires_grad=True)
    opt, loss = RECIPES[name]([p], lr=0.1), (p * x).sum()
    loss.backward(retain_graph=True)
    opt.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    assert all(t._version > 0 for t in opt.state[p].values() if isinstance(t, torch.Tensor))


def test_torchs_own_fused_adamw_agrees_after_200_steps():
    ours = trained(partial(Adam, lr=1e-2, sqr_mom=0.999, eps=1e-8))[0]
    theirs = trained(partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.01, fused=True))[0]
    assert_same(ours, theirs, rtol=1e-5, atol=1e-6)


def test_recipes_with_other_updates_have_no_kernel():
    def own_step(slab):
        return None

    dampened = partial(average_grad, dampening=True)
    assert kernel_for(RAdam(parameters(), lr=0.1).updates) is None
    assert kernel_for([weight_decay, dampened, average_sqr_grad, adam_step, own_step]) is None
    assert kernel_for([weight_decay, partial(average_grad, dampening=False), average_sqr_grad, adam_step]) is None
    assert kernel_for([weight_decay, average_grad, average_sqr_grad, adam_step]) is None
    assert kernel_for(Optimizer(parameters(), [weight_decay, dampened, average_sqr_grad, adam_step], lr=1).updates)
