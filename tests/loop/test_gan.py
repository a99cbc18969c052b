"""Two models and two optimizers in 40 lines, with what a fit has for one: accumulation, clipping, half precision, files."""

import inspect
from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.callback import AMPMode, GradientAccumulation, GradientClip, MixedPrecision
from layered.foundation import BadValue, CannotRestore, CannotTrain, UnknownName
from layered.loop import Callback, Loop
from layered.optim import SGD, Adam


def a_gan(points, **kwargs) -> Loop:
    """From here to its end: all that a user writes for a GAN that learns where the points lie."""

    def bce(logits, is_real):
        return nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(is_real)))

    def step(learn, batch):
        (real,) = batch
        gen, critic = learn.model["gen"], learn.model["critic"]
        fake = gen(torch.randn(len(real), 4))
        both = bce(critic(real), True) + bce(critic(fake.detach()), False)
        critic_loss = learn.minimize(both, "critic")
        gen_loss = learn.minimize(bce(critic(fake), True), "gen")
        return critic_loss + gen_loss

    torch.manual_seed(0)
    model = nn.ModuleDict(
        {
            "gen": nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)),
            "critic": nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1)),
        }
    )
    opts = {"gen": partial(Adam, mom=0.5), "critic": partial(Adam, mom=0.5)}
    cbs = [GradientAccumulation(64), GradientClip(1.0)]
    return Loop((points, points[:1]), model, opt_func=opts, step=step, cbs=cbs, lr=2e-3, **kwargs)


def points(count=8, rows=32):
    g = torch.Generator().manual_seed(1)
    return [(torch.randn(rows, 2, generator=g) * 0.3 + torch.tensor([2.0, -1.0]),) for _ in range(count)]


def silent(learn):
    learn.logger = lambda row: None
    return learn


def test_it_is_forty_lines_at_most_and_learns_where_the_points_lie():
    assert len(inspect.getsource(a_gan).splitlines()) <= 40
    learn = silent(a_gan(points(40)))
    learn.fit(40)
    with torch.no_grad():
        mean = learn.model["gen"](torch.randn(500, 4)).mean(0)
    assert (mean - torch.tensor([2.0, -1.0])).norm() < 0.5
    assert learn.validate()[0] > 0


def test_accumulation_and_clipping_are_those_of_each_optimizer():
    """Beside a loop by hand: gradients of two batches, clipped one model at a time, then a step of each."""
    data = points(5)
    ours = silent(a_gan(data, wd=0.0))
    model = a_gan(data).model
    parts = {name: list(model[name].parameters()) for name in ("critic", "gen")}
    opts = {n: torch.optim.AdamW(p, lr=2e-3, betas=(0.5, 0.99), eps=1e-5, weight_decay=0) for n, p in parts.items()}

    def bce(logits, value):
        return nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, value))

    def by_hand(real, share, steps):
        fake = model["gen"](torch.randn(len(real), 4))
        losses = {
            "critic": lambda: bce(model["critic"](real), 1.0) + bce(model["critic"](fake.detach()), 0.0),
            "gen": lambda: bce(model["critic"](fake), 1.0),
        }
        for name, loss in losses.items():
            grads = torch.autograd.grad(loss() * share, parts[name])
            for p, grad in zip(parts[name], grads):
                p.grad = grad if p.grad is None else p.grad + grad
            if steps:
                nn.utils.clip_grad_norm_(parts[name], 1.0)
                opts[name].step()
                opts[name].zero_grad()

    torch.manual_seed(7)
    for i, (real,) in enumerate(data):  # the last group of an epoch is one batch alone
        by_hand(real, 1.0 if i == 4 else 0.5, i in (1, 3, 4))
    torch.manual_seed(7)
    ours.dls.valid = None
    ours.fit(1)
    assert_close(ours.model.state_dict(), model.state_dict())


def test_both_optimizers_are_saved_loaded_and_resumed(tmp_path):
    learn = silent(a_gan(points(), path=tmp_path))
    torch.manual_seed(3)
    learn.fit(2)
    learn.save("gan")
    again = silent(a_gan(points(), path=tmp_path)).load("gan")
    assert set(again.opt) == {"gen", "critic"}
    for name in again.opt:
        assert_close(again.opt[name].state_dict()["state"], learn.opt[name].state_dict()["state"])

    straight = silent(a_gan(points()))
    torch.manual_seed(5)
    straight.fit(3)
    stopped = silent(a_gan(points()))
    torch.manual_seed(5)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(3, checkpoint=tmp_path / "run", cbs=StopAt(19))
    resumed = silent(a_gan(points()))
    resumed.fit(3, checkpoint=tmp_path / "run", resume="auto", cbs=StopAt(None))
    assert_close(resumed.model.state_dict(), straight.model.state_dict(), rtol=0, atol=0)


class StopAt(Callback):
    def __init__(self, batch):
        self.batch = batch

    def after_step(self):
        if self.train_iter == self.batch:
            raise KeyboardInterrupt

    def state_dict(self):
        return {}


def test_half_precision_reaches_every_model_of_a_step():
    dtypes = set()
    learn = silent(a_gan(points(), default_cbs=True)).add_cb(MixedPrecision(AMPMode.BF16))
    for part in learn.model.values():
        part[0].register_forward_hook(lambda module, args, out: dtypes.add(out.dtype))
    learn.fit(1)
    assert dtypes == {torch.bfloat16}
    assert {p.dtype for p in learn.model.parameters()} == {torch.float32}


def test_rates_are_set_for_each_or_for_all():
    opts = {"gen": lambda groups, lr: SGD(groups, lr=lr), "critic": Adam}
    learn = Loop((points(1), None), a_gan(points()).model, opt_func=opts, lr=0.3, step=lambda learn, batch: None)
    learn.create_opt()
    assert [hyper["lr"] for hyper in learn.opt.hypers] == [0.3, 0.3]
    learn.opt.set_hypers(lr={"gen": 0.1, "critic": 0.2}, wd=0.01)
    assert [(hyper["lr"], hyper["wd"]) for hyper in learn.opt.hypers] == [(0.1, 0.01), (0.2, 0.01)]
    with pytest.raises(BadValue, match="do not name the optimizers"):
        learn.opt.set_hypers(lr={"gen": 0.1})


def test_several_optimizers_step_together_where_no_step_tells_them_apart():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    data, before = [(p, p.sum(1, keepdim=True)) for (p,) in points(1)], [p.detach().clone() for p in model.parameters()]
    learn = silent(Loop((data, None), model, nn.MSELoss(), opt_func={"0": SGD, "1": torch.optim.Adam}, lr=0.1))
    learn.fit(1)
    assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters()))


@pytest.mark.parametrize("result", [{"loss": 1.0}, 0.5])
@pytest.mark.parametrize("learns", [True, False])
def test_a_step_that_returns_no_tensor_is_told(result, learns):
    def step(learn, batch):
        if learns:
            learn.minimize(learn.model(*batch).sum())
        return result

    with pytest.raises(CannotTrain, match="not a tensor"):
        silent(Loop((points(1), None), nn.Linear(2, 1), step=step)).fit(1)


def test_what_does_not_fit_together_is_named(tmp_path):
    learn = silent(a_gan(points(), path=tmp_path))
    learn.opt_func = {"gen": Adam}
    with pytest.raises(CannotTrain, match="no optimizer"):
        learn.create_opt()
    learn.opt_func, learn.lr = {"gen": Adam, "critik": Adam}, {"gen": 1.0, "critik": 1.0}
    with pytest.raises(UnknownName, match="critik"):
        learn.create_opt()
    one = silent(
        Loop((points(1), None), nn.Linear(2, 1), step=lambda learn, b: learn.minimize(learn.model(*b).sum(), "gen"))
    )
    with pytest.raises(BadValue, match="single optimizer"):
        one.fit(1)
    misnamed = silent(a_gan(points()))
    misnamed.step = lambda learn, batch: learn.minimize(learn.model["gen"](torch.randn(2, 4)).sum(), "generator")
    with pytest.raises(UnknownName, match="generator"):
        misnamed.fit(1)
    other = silent(a_gan(points(), path=tmp_path))
    other.fit(1)
    other.save("x")
    fewer = silent(Loop((points(1), None), other.model, path=tmp_path, step=lambda learn, b: None))
    with pytest.raises(CannotRestore):
        fewer.load("x")
