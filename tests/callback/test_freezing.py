"""Groups unfreeze when it is their turn, and frozen batch norm neither learns nor counts."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.callback import BnFreeze, GradualUnfreezing, bn_types, set_bn_eval
from layered.foundation import BadValue
from layered.loop import Callback, Loop
from layered.optim import SGD


def batches():
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(1))
    return [(part, part.sum(1, keepdim=True)) for part in x.split(4)]


def groups(model):
    return [list(layer.parameters()) for layer in model]


def learner(cbs=None, **kwargs) -> Loop:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model = nn.Sequential(body, nn.Linear(4, 4), nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1)))
    learn = Loop((batches(), batches()), model, nn.MSELoss(), SGD, lr=0.1, cbs=cbs, splitter=groups, **kwargs)
    learn.logger = lambda row: None
    learn.create_opt()
    return learn


def moved(learn, before):
    return {
        name.rpartition(".")[0]
        for name, value in learn.model.state_dict().items()
        if not torch.equal(value, before[name])
    }


@pytest.mark.parametrize("train_bn", [True, False])
def test_frozen_batch_norm_stays_as_it_was(train_bn):
    learn = learner(BnFreeze, train_bn=train_bn)
    learn.opt.freeze_to(1)
    before = copy.deepcopy(learn.model.state_dict())
    learn.fit(2)
    assert moved(learn, before) == {"1", "2.0", "2.1"}
    assert all(p.requires_grad is train_bn for p in learn.model[0][1].parameters())


def test_without_it_batch_norm_goes_on_learning_in_frozen_groups():
    learn = learner()
    learn.opt.freeze_to(1)
    before = copy.deepcopy(learn.model.state_dict())
    learn.fit(1)
    assert "0.1" in moved(learn, before)


def test_nothing_frozen_is_nothing_kept():
    ours, plain = learner(BnFreeze), learner()
    for learn in (ours, plain):
        learn.fit(2)
    assert_close(ours.model.state_dict(), plain.model.state_dict())


def test_all_of_them_can_be_kept():
    learn = learner(BnFreeze(all_layers=True))
    before = copy.deepcopy(learn.model.state_dict())
    learn.fit(2)
    assert moved(learn, before) == {"0.0", "1", "2.1"}
    assert all(p.requires_grad for p in learn.model.parameters())


def test_a_mode_is_set_for_all_levels_of_a_model():
    model = nn.Sequential(nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.BatchNorm2d(2))), nn.BatchNorm3d(2))
    for p in model[0].parameters():
        p.requires_grad_(False)
    layers = [m for m in model.modules() if isinstance(m, bn_types)]
    model.train()
    set_bn_eval(model)
    assert [m.training for m in layers] == [False, False, True]
    set_bn_eval(model, use_eval=False)
    assert [m.training for m in layers] == [True, True, True]
    set_bn_eval(layers[0])
    assert not layers[0].training


@pytest.mark.parametrize(
    ("every", "wanted"),
    [
        ("1 epoch", [2] * 3 + [1] * 3 + [0] * 6),
        ("2 epochs", [2] * 6 + [1] * 6),
        ("2 batches", [2] * 2 + [1] * 2 + [0] * 8),
    ],
)
def test_one_more_group_learns_every_so_often(every, wanted):
    frozen = []
    note = Callback(after_step=lambda cb: frozen.append(cb.opt.frozen_idx))
    learn = learner([GradualUnfreezing(every), note])
    learn.fit(4)
    assert frozen == wanted
    assert learn.opt.frozen_idx == 0


def test_frozen_groups_do_not_move():
    learn = learner(GradualUnfreezing("9 epochs"), train_bn=False)
    before = copy.deepcopy(learn.model.state_dict())
    learn.fit(1)
    assert moved(learn, before) == {"0.1", "2.0", "2.1"}  # of 0.1 only what it counts
    assert_close(learn.model[0][1].weight.detach(), before["0.1.weight"])
    assert learn.opt.frozen_idx == 0


def test_groups_are_as_before_when_a_fit_fails():
    def fail(cb):
        raise ZeroDivisionError

    learn = learner([GradualUnfreezing(), Callback(after_step=fail)])
    with pytest.raises(ZeroDivisionError):
        learn.fit(1)
    assert learn.opt.frozen_idx == 0
    assert all(p.requires_grad for p in learn.model.parameters())


def test_one_group_alone_is_told_of():
    learn = Loop((batches(), None), nn.Linear(3, 1), nn.MSELoss(), SGD, cbs=GradualUnfreezing)
    learn.logger = lambda row: None
    with pytest.warns(UserWarning, match="one parameter group"):
        learn.fit(1)


@pytest.mark.parametrize("every", ["10 min", "soon", 0, None])
def test_every_counts_epochs_or_batches(every):
    with pytest.raises(BadValue):
        GradualUnfreezing(every)
