import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torchvision.models.resnet import BasicBlock, Bottleneck

from layered.nn import (
    Cat,
    Lambda,
    MaxPool,
    MergeLayer,
    ProdLayer,
    ResBlock,
    SEBlock,
    SEModule,
    SeparableBlock,
    SequentialEx,
    SEResNeXtBlock,
    SimpleSelfAttention,
)


def numbers(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_layers_of_a_sequential_ex_see_its_input():
    x = numbers(2, 3)
    layer = nn.Linear(3, 3)
    assert_close(SequentialEx(layer, nn.ReLU(), MergeLayer())(x), layer(x).relu() + x)
    assert_close(SequentialEx(layer, MergeLayer(dense=True))(x), torch.cat([layer(x), x], 1))
    assert_close(SequentialEx(layer, ProdLayer())(x), layer(x) * x)
    assert x.orig is None


def test_sequential_ex_can_be_extended_and_nested():
    layers = SequentialEx(nn.ReLU())
    layers.append(MergeLayer())
    layers.insert(0, SequentialEx(Lambda(torch.exp), MergeLayer()))
    layers.extend([nn.Tanh()])
    x = numbers(2, 3)
    assert_close(layers(x), ((x.exp() + x).relu() + x).tanh())
    assert [type(layer) for layer in layers.layers] == [SequentialEx, nn.ReLU, MergeLayer, nn.Tanh]


def test_cat_puts_outputs_side_by_side():
    x = numbers(2, 3, 4)
    assert_close(Cat([nn.ReLU(), nn.Tanh()], dim=2)(x), torch.cat([x.relu(), x.tanh()], 2))


def test_a_residual_layer_starts_as_its_short_cut():
    x = numbers(2, 8, 6, 6)
    block = ResBlock(1, 8, 8)
    assert_close(block(x), F.relu(x + block.convpath[1][1].bias.detach()[:, None, None]))


def test_a_residual_layer_is_activation_of_path_plus_short_cut():
    x, block = numbers(2, 8, 7, 7), ResBlock(2, 4, 6, stride=2, act_cls=nn.SiLU).eval()
    norm = [nn.init.uniform_(m.weight) for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norm) == 4
    one, two, three = block.convpath
    path = three[1](three[0](F.silu(two[1](two[0](F.silu(one[1](one[0](x))))))))
    short_cut = block.idpath[1][1](block.idpath[1][0](F.avg_pool2d(x, 2, ceil_mode=True)))
    assert_close(block(x), F.silu(path + short_cut))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ResBlock(1, 16, 16), BasicBlock(16, 16)),
        (ResBlock(4, 16, 16), Bottleneck(64, 16)),
        (ResBlock(4, 16, 16, groups=4, nh1=32, nh2=32), Bottleneck(64, 16, groups=4, base_width=32)),
    ],
    ids=["basic", "bottleneck", "resnext"],
)
def test_residual_layers_have_as_many_weights_as_torchvisions(ours, theirs):
    assert count(ours) == count(theirs)


def test_squeeze_and_excitation_scales_channels_by_their_means():
    x, layer = numbers(2, 16, 5, 5), SEModule(16, 2)
    inner = F.relu(F.conv2d(x.mean((2, 3), keepdim=True), layer[1][0].weight, layer[1][0].bias))
    assert inner.shape[1] == 8
    assert_close(layer(x), x * torch.sigmoid(F.conv2d(inner, layer[2][0].weight, layer[2][0].bias)))


def test_the_named_residual_layers_differ_in_widths_and_groups():
    assert SEBlock(4, 8, 16).convpath[1][0].weight.shape == (64, 32, 3, 3)
    assert SEResNeXtBlock(4, 64, 64).convpath[1][0].weight.shape == (128, 4, 3, 3)
    separable = SeparableBlock(4, 8, 16).convpath[1][0]
    assert separable.groups == separable.in_channels == 32
    assert all(isinstance(b(4, 8, 16).convpath[3], SEModule) for b in (SEBlock, SeparableBlock))


def test_options_of_a_residual_layer():
    block = ResBlock(1, 8, 16, stride=2, ndim=1, ks=5, sa=True, dw=True, pool=MaxPool, pool_first=False)
    assert block(numbers(2, 8, 9)).shape == (2, 16, 5)
    assert isinstance(block.convpath[2], SimpleSelfAttention)
    assert [type(layer).__name__ for layer in block.idpath] == ["ConvLayer", "MaxPool1d"]
    assert block.convpath[0][0].groups == 8


def test_a_misspelt_argument_of_a_convolution_is_refused():
    with pytest.raises(TypeError, match="dilaton"):
        ResBlock(1, 8, 8, dilaton=2)
