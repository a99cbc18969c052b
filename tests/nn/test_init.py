import pytest
import torch
from torch import nn

from layered.nn import apply_init, cond_init, init_default, init_linear, norm_types, trunc_normal_
from layered.nn.init import init_for


def test_apply_init_leaves_norms_and_vectors_alone():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Sequential(nn.Linear(4, 2)))
    apply_init(model, lambda w: nn.init.constant_(w, 7))
    assert model[0].weight.unique().tolist() == [7]
    assert model[0].bias.unique().tolist() == [0]
    assert model[3][0].weight.unique().tolist() == [7]
    assert model[1].weight.unique().tolist() == [1]
    assert model[2].weight.unique().tolist() == [0.25]


def test_frozen_layers_keep_their_weights():
    layer = nn.Linear(2, 2).requires_grad_(False)
    before = layer.weight.clone()
    cond_init(layer, nn.init.zeros_)
    assert torch.equal(layer.weight, before)


def test_init_default_without_a_function_only_clears_the_bias():
    layer = nn.Linear(3, 3)
    before = layer.weight.clone()
    assert init_default(layer, None) is layer
    assert torch.equal(layer.weight, before)
    assert not layer.bias.any()
    assert isinstance(init_default(nn.ReLU()), nn.ReLU)


def test_truncated_normal_numbers_stay_within_two_deviations():
    x = trunc_normal_(torch.empty(5000), mean=1.0, std=0.5)
    assert x.min() >= 0
    assert x.max() <= 2
    assert abs(x.mean() - 1) < 0.05


@pytest.mark.parametrize(
    "norm",
    [nn.BatchNorm1d(2), nn.SyncBatchNorm(2), nn.InstanceNorm2d(2), nn.LayerNorm(2), nn.GroupNorm(1, 2), nn.RMSNorm(2)],
    ids=repr,
)
def test_every_kind_of_normalisation_is_known(norm):
    assert isinstance(norm, norm_types)


def test_the_activation_decides_the_initialisation():
    assert init_for(nn.ReLU()) is init_for(nn.LeakyReLU) is init_for(torch.nn.functional.relu)
    assert init_for(nn.ReLU()) is nn.init.kaiming_uniform_
    assert init_for(nn.Sigmoid()) is nn.init.xavier_uniform_
    assert init_for(None) is None
    layer = nn.Linear(50, 50)
    init_linear(layer, nn.Sigmoid(), bias_std=0)
    assert layer.weight.abs().max() <= (6 / 100) ** 0.5 + 1e-6
    assert layer.weight.abs().max() > (1 / 50) ** 0.5
    assert not layer.bias.any()
