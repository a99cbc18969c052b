from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from layered.foundation import BadArgument, BadValue, L, OutOfRange
from layered.optim import (
    SGD,
    Adam,
    Optimizer,
    discriminative,
    force_train,
    mark_no_decay,
    norm_bias_params,
    params,
    trainable_params,
)
from layered.optim.groups import as_groups


def model():
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    return nn.Sequential(body, nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), nn.Linear(4, 2))


def optimizer(m):
    return Adam([list(part.parameters()) for part in m], lr=0.1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1, [0.1, 0.1, 0.1]),
        (slice(1e-2), [1e-3, 1e-3, 1e-2]),
        (slice(1e-5, 1e-3), [1e-5, 1e-4, 1e-3]),
        ([1, 2, 3], [1, 2, 3]),
        ([4], [4, 4, 4]),
        (np.array([1.0, 2.0, 3.0]), [1.0, 2.0, 3.0]),
        (np.float64(0.5), [0.5, 0.5, 0.5]),
        (torch.tensor(0.5), [0.5, 0.5, 0.5]),
    ],
    ids=str,
)
def test_a_value_is_spread_over_three_groups(value, expected):
    spread = discriminative(value, 3)
    assert spread == pytest.approx(expected)
    assert {type(one) for one in spread} <= {int, float}


@pytest.mark.parametrize("value", [slice(1e-2), slice(1e-5, 1e-2)])
def test_one_group_gets_the_end_of_a_slice(value):
    assert discriminative(value, 1) == [1e-2]


@pytest.mark.parametrize("value", [[1, 2], [], np.ones(4), slice(None), slice(1e-3, None)], ids=str)
def test_values_that_do_not_fit_are_refused(value):
    with pytest.raises(BadValue):
        discriminative(value, 3)


def test_hypers_are_set_per_group_and_seen_by_torch():
    opt = optimizer(model())
    opt.set_hypers(lr=slice(1e-5, 1e-3), mom=0.8)
    opt.set_hyper("nobody_reads_this", 1)
    assert [h["lr"] for h in opt.hypers] == pytest.approx([1e-5, 1e-4, 1e-3])
    assert [g["mom"] for g in opt.param_groups] == [0.8] * 3
    opt.param_groups[0]["lr"] = 5.0
    assert opt.hypers[0]["lr"] == 5.0
    assert set(opt.hypers[0]) == {"lr", "mom", "sqr_mom", "eps", "wd", "nobody_reads_this"}


@pytest.mark.parametrize("wrong", [None, "0.9", [0.9, None, 0.9], [1, 2]], ids=str)
def test_one_wrong_hyper_leaves_all_as_they_were(wrong):
    opt = optimizer(model())
    before = [dict(h) for h in opt.hypers]
    with pytest.raises(BadValue, match=r"mom|number of values"):
        opt.set_hypers(lr=0.5, mom=wrong)
    assert [dict(h) for h in opt.hypers] == before


def test_groups_come_in_many_forms():
    a, b = (torch.zeros(1, requires_grad=True) for _ in range(2))
    forms = [[a, b], (p for p in (a, b)), L(a, b), [L(a), L(b)], [[a], [b]], iter([(a,), iter([b])])]
    sizes = [[len(plist) for plist in Optimizer(form).param_lists] for form in forms]
    assert sizes == [[2], [2], [2], [1, 1], [1, 1], [1, 1]]
    opt = SGD([{"params": [a], "lr": 7.0}, {"params": [b]}], lr=0.1)
    assert [h["lr"] for h in opt.hypers] == [7.0, 0.1]
    assert as_groups(a) == [{"params": [a]}]


def test_groups_without_parameters_are_fine_but_none_at_all_is_not():
    Optimizer([[]], lr=0.1).step()
    used_up = iter(())
    with pytest.raises(BadValue, match="no parameters"):
        Optimizer(used_up)


def test_a_model_a_mixture_or_nothing_is_refused():
    a = torch.zeros(1, requires_grad=True)
    with pytest.raises(BadArgument, match="not a model"):
        SGD(model(), lr=0.1)
    with pytest.raises(BadArgument, match="takes parameters"):
        SGD(None, lr=0.1)
    with pytest.raises(BadValue, match="mixed"):
        SGD([a, [a]], lr=0.1)


def test_freezing_trains_the_last_group_only_and_unfreezing_all():
    m = model()
    opt = optimizer(m)
    opt.freeze()
    assert opt.frozen_idx == 2
    assert [all(p.requires_grad for p in part.parameters()) for part in m] == [False, False, True]
    opt.freeze_to(1)
    assert [all(p.requires_grad for p in part.parameters()) for part in m] == [False, True, True]
    opt.unfreeze()
    assert opt.frozen_idx == 0
    assert all(p.requires_grad for p in m.parameters())


def test_freezing_drops_stale_gradients_and_statistics_but_keeps_flags():
    m = model()
    opt = optimizer(m)
    mark_no_decay(opt, m)
    force_train(opt, m)
    for p in m.parameters():
        p.grad = torch.ones_like(p)
    opt.step()
    opt.freeze()
    assert m[0][0].weight.grad is None
    assert opt.state[m[0][1].weight] == {"do_wd": False, "force_train": True}
    assert m[0][0].weight not in opt.state
    before = m[0][0].weight.detach().clone()
    opt.step()
    assert torch.equal(m[0][0].weight, before)


@pytest.mark.parametrize("train_bn", [True, False])
def test_norm_layers_train_in_frozen_groups_if_asked(train_bn):
    m = model()
    opt = Optimizer([list(part.parameters()) for part in m], lr=0.1, train_bn=train_bn)
    force_train(opt, m)
    opt.freeze()
    assert m[0][1].weight.requires_grad is train_bn
    assert m[1][1].bias.requires_grad is train_bn
    assert not m[0][0].weight.requires_grad


def test_freezing_everything_warns_and_beyond_that_is_an_error():
    opt = optimizer(model())
    with pytest.warns(UserWarning, match="nothing will train"):
        opt.freeze_to(3)
    for n in (4, -4):
        with pytest.raises(OutOfRange):
            opt.freeze_to(n)


def test_freezing_a_single_group_trains_it():
    m = nn.Linear(2, 2)
    opt = SGD(m.parameters(), lr=0.1)
    opt.freeze()
    assert all(p.requires_grad for p in m.parameters())


def test_all_params_lists_parameters_with_state_and_hypers():
    m = model()
    opt = optimizer(m)
    m[2].weight.grad = torch.ones_like(m[2].weight)
    ((p, plist, state, hyper),) = opt.all_params(with_grad=True)
    assert p is m[2].weight
    assert plist is opt.param_lists[2]
    assert state is opt.state[p]
    assert hyper["lr"] == 0.1
    assert len(opt.all_params(slice(1, None))) == 6
    assert len(opt.all_params(0)) == 4


def test_norms_and_biases_of_all_kinds_are_found():
    m = nn.ModuleDict(
        {
            "conv": nn.Conv1d(4, 4, 1),
            "batch": nn.BatchNorm1d(4),
            "sync": nn.SyncBatchNorm(4),
            "instance": nn.InstanceNorm1d(4, affine=True),
            "group": nn.GroupNorm(2, 4),
            "layer": nn.LayerNorm(4),
            "rms": nn.RMSNorm(4),
            "lstm": nn.LSTM(4, 4),
            "attention": nn.MultiheadAttention(4, 2),
        }
    )
    names = {p: name for name, p in m.named_parameters()}
    norms = {names[p] for p in norm_bias_params(m, with_bias=False)}
    kinds = ("batch", "sync", "instance", "group", "layer")
    assert norms == {f"{kind}.{part}" for kind in kinds for part in ("weight", "bias")} | {"rms.weight"}
    assert {names[p] for p in norm_bias_params(m)} - norms == {
        "conv.bias",
        "lstm.bias_ih_l0",
        "lstm.bias_hh_l0",
        "attention.in_proj_bias",
        "attention.out_proj.bias",
    }


def test_no_decay_leaves_norms_and_biases_where_they_are():
    m = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    opt = SGD(m.parameters(), lr=0.5, wd=1.0)
    mark_no_decay(opt, m)
    before = {name: p.detach().clone() for name, p in m.named_parameters()}
    for p in m.parameters():
        p.grad = torch.zeros_like(p)
    opt.step()
    moved = {name for name, p in m.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"0.weight"}


def test_parameters_are_listed_by_whether_they_train():
    m = model()
    m[0].requires_grad_(False)
    assert len(params(m)) == 10
    assert len(trainable_params(m)) == 6
