"""What every recipe keeps to: groups, freezing, decay, all dtypes and shapes, resuming, torch's tools."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.testing import assert_close

from layered.files import decode_tree, encode_tree, read_archive, write_archive
from layered.foundation import BadArgument
from layered.optim import (
    SGD,
    Adagrad,
    Adam,
    Lamb,
    Larc,
    Lion,
    Lookahead,
    Muon,
    QHAdam,
    RAdam,
    RMSProp,
    ScheduleFree,
    mark_no_decay,
    muon,
    ranger,
    schedule_free,
    zoo,
)
from layered.testing import synth_learner

RECIPES = {
    "SGD": SGD,
    "SGD with momentum": lambda params, lr, **how: SGD(params, lr, **{"mom": 0.9} | how),
    "RMSProp": RMSProp,
    "RMSProp with momentum": lambda params, lr, **how: RMSProp(params, lr, **{"mom": 0.9} | how),
    "Adagrad": Adagrad,
    "Adam": Adam,
    "RAdam": RAdam,
    "RAdam with softplus": lambda params, lr, **how: RAdam(params, lr, beta=50.0, **how),
    "QHAdam": QHAdam,
    "Larc": Larc,
    "Larc without momentum": lambda params, lr, **how: Larc(params, lr, **{"mom": 0.0, "clip": False} | how),
    "Lamb": Lamb,
    "Lion": Lion,
    "Muon": Muon,
    "ScheduleFree": ScheduleFree,
    "ScheduleFree with a warm-up": lambda params, lr, **how: ScheduleFree(params, lr, warm_up=4, **how),
    "ranger": lambda params, lr, **how: ranger(params, lr, **{"k": 2} | how),
    "Lookahead": lambda params, lr, **how: Lookahead(SGD(params, lr, **how), k=3),
    "Lookahead around Muon": lambda params, lr, **how: Lookahead(Muon(params, lr, **how), k=3),
}
each_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
SHAPES = [(3, 4), (4,), (), (0,), (2, 3, 2)]


def weights(dtype=torch.float64, shapes=SHAPES):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes]


def give_grads(params, seed, *, sometimes_none=False):
    generator = torch.Generator().manual_seed(seed)
    for i, p in enumerate(params):
        grad = torch.randn(p.shape, generator=generator, dtype=torch.float64)
        p.grad = None if sometimes_none and (seed + i) % 3 == 0 else grad.to(p.dtype)


def train(opt, params, steps, start=0, **how):
    for step in range(start, start + steps):
        give_grads(params, step, **how)
        opt.step()


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def model():
    torch.manual_seed(0)
    return nn.ModuleDict(
        {"lstm": nn.LSTM(3, 4), "norm": nn.GroupNorm(2, 4), "batch": nn.BatchNorm1d(4), "head": nn.Linear(4, 2)}
    )


def parts(m):
    return [list(part.parameters()) for part in m.values()]


def test_every_recipe_of_the_zoo_is_tried_here():
    modules = [zoo, muon, schedule_free]
    own = [item for m in modules for item in vars(m).values() if getattr(item, "__module__", "") == m.__name__]
    takes_lr = {item for item in own if callable(item) and "lr" in inspect.signature(item).parameters}
    assert takes_lr == {SGD, RMSProp, Adagrad, Adam, RAdam, QHAdam, Larc, Lamb, Lion, Muon, ScheduleFree, ranger}


@each_recipe
def test_a_step_goes_down_a_bowl(recipe):
    w = torch.tensor([3.0, -4.0], dtype=torch.float64, requires_grad=True)
    opt = recipe([w], 0.05)
    for _ in range(100):
        opt.zero_grad()
        (w**2).sum().backward()
        opt.step()
    assert (w**2).sum() < 21


@each_recipe
def test_groups_with_rates_of_their_own_are_like_optimizers_of_their_own(recipe):
    together, apart = weights(), weights()
    opt = recipe([together[:2], together[2:]], slice(1e-3, 1e-1))
    singles = [recipe(apart[:2], 1e-3), recipe(apart[2:], 1e-1)]
    for step in range(7):
        give_grads(together, step, sometimes_none=True)
        give_grads(apart, step, sometimes_none=True)
        for one in (opt, *singles):
            one.step()
    assert equal(together, apart)


@each_recipe
def test_a_hyper_changed_in_the_middle_counts_from_then_on(recipe):
    a, b = weights(), weights()
    first, second = recipe(a, 1e-2), recipe(b, 1e-2)
    train(first, a, 4)
    train(second, b, 4)
    assert equal(a, b)
    first.set_hypers(lr=0.0, wd=0.5, mom=0.5)
    train(first, a, 1, start=4)
    moved = [not torch.equal(p, q) for p, q in zip(a, b, strict=True) if p.numel()]
    assert not any(moved) or not {"k", "has_average"}.isdisjoint(first.hypers[0])  # drawn to other weights
    train(second, b, 1, start=4)
    assert not equal(a, b)


@each_recipe
def test_frozen_groups_stay_and_thawed_ones_begin_anew(recipe):
    params = weights()
    opt = recipe([params[:2], params[2:]], 1e-2)
    train(opt, params, 3)
    opt.freeze_to(1)
    assert opt.frozen_idx == 1
    assert not any("count" in state for state in opt.state.values())
    assert [p.requires_grad for p in params] == [False, False, True, True, True]
    before = [p.detach().clone() for p in params]
    train(opt, params[2:], 3)
    assert equal(params[:2], before[:2])
    assert not torch.equal(params[-1], before[-1])
    opt.unfreeze()
    fresh = [p.detach().clone().requires_grad_() for p in params]
    train(opt, params, 2)
    train(recipe(fresh, 1e-2), fresh, 2)
    assert equal(params, fresh)


@each_recipe
@pytest.mark.parametrize("decouple_wd", [True, False])
def test_decay_spares_norms_and_all_biases(recipe, decouple_wd):
    decayed, plain = model(), model()
    opt = recipe(parts(decayed), 0.1, wd=0.3, decouple_wd=decouple_wd)
    ref = recipe(parts(plain), 0.1, wd=0.0, decouple_wd=decouple_wd)
    mark_no_decay(opt, decayed)
    for step in range(3):
        for m, one in ((decayed, opt), (plain, ref)):
            give_grads(list(m.parameters()), step)
            one.step()
    names = [name for name, p in decayed.named_parameters() if not torch.equal(p, plain.get_parameter(name))]
    assert names == ["lstm.weight_ih_l0", "lstm.weight_hh_l0", "head.weight"]


@each_recipe
def test_missing_gradients_leave_a_parameter_and_its_count_alone(recipe):
    params, alone = weights(), weights()
    opt, ref = recipe(params, 1e-2), recipe(alone[1:2], 1e-2)
    for step in range(7):
        give_grads(params, step)
        if step % 2:
            params[1].grad = None
            before = params[1].detach().clone()
            opt.step()
            assert torch.equal(params[1], before)
        else:
            alone[1].grad = params[1].grad.clone()
            opt.step()
            ref.step()
    assert torch.equal(params[1], alone[1])
    assert [opt.state[p]["count"] for p in params] == [7, 4, 7, 7, 7]


@each_recipe
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_dtype_is_kept_and_near_double_precision(recipe, dtype):
    narrow, wide = weights(dtype), [p.detach().double().requires_grad_() for p in weights(dtype)]
    opt, ref = recipe(narrow, 1e-2, eps=1e-3) if takes_eps(recipe) else recipe(narrow, 1e-2), None
    ref = recipe(wide, 1e-2, eps=1e-3) if takes_eps(recipe) else recipe(wide, 1e-2)
    for step in range(3):
        give_grads(narrow, step)
        for p, q in zip(narrow, wide, strict=True):
            q.grad = p.grad.double()
        opt.step()
        ref.step()
    assert {p.dtype for p in narrow} == {dtype}
    assert all(torch.isfinite(p).all() for p in narrow)
    computed = torch.bfloat16 if opt.kinds else dtype  # Muon's orthogonal matrices
    for p, q in zip(narrow, wide, strict=True):
        assert_close(p.double(), q, rtol=0, atol=4 * max(torch.finfo(dtype).eps, 0.01 * torch.finfo(computed).eps) * 3)


def takes_eps(recipe):
    try:
        recipe([torch.zeros(1, requires_grad=True)], 0.1, eps=1e-3)
    except BadArgument:
        return False
    return True


@each_recipe
def test_dtypes_mix_in_one_group(recipe):
    mixed = [*weights(torch.float32), *weights(torch.float64)]
    single, double = weights(torch.float32), weights(torch.float64)
    opts = [recipe(mixed, 1e-2), recipe(single, 1e-2), recipe(double, 1e-2)]
    for step in range(4):
        for params in (mixed[:5], mixed[5:], single, double):
            give_grads(params, step)
        for opt in opts:
            opt.step()
    assert equal(mixed, [*single, *double])


@each_recipe
@pytest.mark.parametrize("way", ["in memory", "torch.save", "archive", "deepcopy", "pickle"])
def test_a_run_goes_on_bit_for_bit(recipe, way, tmp_path):
    straight, params = weights(), weights()
    opt = recipe([straight[:2], straight[2:]], slice(1e-3, 1e-2))
    train(opt, straight, 9, sometimes_none=True)

    begun = recipe([params[:2], params[2:]], slice(1e-3, 1e-2))
    train(begun, params, 5, sometimes_none=True)
    if way in ("deepcopy", "pickle"):
        resumed, params = (
            copy.deepcopy((begun, params)) if way == "deepcopy" else pickle.loads(pickle.dumps((begun, params)))
        )
    else:
        params = [p.detach().clone().requires_grad_() for p in params]
        resumed = recipe([params[:2], params[2:]], 3.0, wd=0.9)
        resumed.load_state_dict(stored(begun.state_dict(), way, tmp_path / "opt.layered"))
    train(resumed, params, 4, start=5, sometimes_none=True)
    assert equal(straight, params)
    assert [dict(h) for h in resumed.hypers] == [dict(h) for h in opt.hypers]


GO_ON = """
import pickle, sys
runs, grads = pickle.load(open(sys.argv[1], "rb"))
for opt, params in runs:
    for step in grads:
        for p, grad in zip(params, step):
            p.grad = grad.clone()
        opt.step()
pickle.dump([[p.detach() for p in params] for _, params in runs], open(sys.argv[1], "wb"))
"""


def test_another_process_goes_on_bit_for_bit(tmp_path):
    runs = []
    for recipe in RECIPES.values():
        params = weights()
        runs.append((recipe([params[:2], params[2:]], slice(1e-3, 1e-2)), params))
        train(*runs[-1], 5)
        runs[-1][0].zero_grad()
    grads = [[torch.full_like(p, 0.1 + step) for p in runs[0][1]] for step in range(3)]
    file = tmp_path / "runs.pickle"
    file.write_bytes(pickle.dumps((runs, grads)))
    subprocess.run([sys.executable, "-c", GO_ON, str(file)], check=True)
    there = pickle.loads(file.read_bytes())
    for (opt, params), found in zip(runs, there, strict=True):
        for step in grads:
            for p, grad in zip(params, step, strict=True):
                p.grad = grad.clone()
            opt.step()
        assert equal(params, found)


def stored(state_dict, way, file):
    if way == "torch.save":
        torch.save(state_dict, file)
        return torch.load(file, weights_only=True)
    if way == "archive":
        tensors = {}
        write_archive(file, {"opt": encode_tree(state_dict, tensors, "opt")}, tensors, kind="weights")
        archive = read_archive(file, kind="weights")
        return decode_tree(archive.manifest["opt"], archive.tensors)
    return state_dict


@each_recipe
def test_closures_schedulers_and_scalers_work(recipe):
    w = torch.tensor([3.0, -4.0], requires_grad=True)
    opt = recipe([w], 0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=4)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)

    def closure():
        opt.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss

    assert opt.step(closure).item() == 25.0
    scheduler.step()
    assert opt.hypers[0]["lr"] == pytest.approx(0.05 * (1 + 0.5**0.5))
    before = w.detach().clone()
    opt.zero_grad()
    scaler.scale((w * float("inf")).sum()).backward()
    scaler.step(opt)
    assert torch.equal(w, before)


@each_recipe
def test_a_learner_trains_with_it_and_saves_its_state(recipe, tmp_path):
    learn = synth_learner(opt_func=recipe, path=tmp_path, lr=0.1, n_train=4)
    with learn.no_bar(), learn.no_logging():
        first = learn.validate()[0]
        learn.fit_one_cycle(2)
        assert learn.validate()[0] < first
    learn.save("weights")
    other = synth_learner(opt_func=recipe, path=tmp_path).load("weights")
    assert_close(other.opt.state_dict(), learn.opt.state_dict(), rtol=0, atol=0)


@each_recipe
def test_groups_are_added_later_with_the_last_group_s_hypers(recipe):
    params = weights()
    opt = recipe([params[:1], params[1:2]], slice(1e-3, 1e-2))
    opt.add_param_group({"params": params[2:4]})
    opt.add_param_group({"params": params[4:], "lr": 0.5})
    assert [h["lr"] for h in opt.hypers] == pytest.approx([1e-3, 1e-2, 1e-2, 0.5])
    train(opt, params, 2)
    assert opt.state[params[4]]["count"] == 2


@each_recipe
def test_a_misspelt_keyword_is_refused_with_the_name_that_was_meant(recipe):
    with pytest.raises(BadArgument, match="decuple_wd") as caught:
        recipe(weights(), 0.1, decuple_wd=True)
    assert "decouple_wd" in caught.value.fix


@each_recipe
@pytest.mark.parametrize("lr", [None, "0.1", [None]])
def test_a_rate_that_is_no_number_is_refused(recipe, lr):
    with pytest.raises(ValueError, match="lr is not a number"):
        recipe(weights(), lr)


@each_recipe
def test_torch_s_distributed_tools_read_and_write_the_state(recipe):
    m = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    opt = recipe([list(part.parameters()) for part in m], slice(1e-3, 1e-2))
    for step in range(3):
        give_grads(list(m.parameters()), step)
        opt.step()
    opt.zero_grad()
    saved = copy.deepcopy(get_optimizer_state_dict(m, opt))
    assert set(saved["state"]) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    straight, again = copy.deepcopy((m, opt)), copy.deepcopy(m)
    resumed = recipe([list(part.parameters()) for part in again], 1.0)
    set_optimizer_state_dict(again, resumed, saved)
    for one, o in (straight, (again, resumed)):
        give_grads(list(one.parameters()), 9)
        o.step()
    assert equal(straight[0].parameters(), again.parameters())
