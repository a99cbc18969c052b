import copy
import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadValue
from layered.nn import (
    AdaptiveAvgPool,
    AdaptiveConcatPool1d,
    AdaptiveConcatPool2d,
    AvgPool,
    BatchNorm,
    BatchNorm1dFlat,
    ConvLayer,
    Embedding,
    Flatten,
    InstanceNorm,
    Lambda,
    LinBnDrop,
    MaxPool,
    Mish,
    Module,
    NormType,
    ParameterModule,
    PartialLambda,
    PoolFlatten,
    PoolType,
    ResizeBatch,
    SigmoidRange,
    SimpleCNN,
    Swish,
    TimeDistributed,
    View,
    adaptive_pool,
    inplace_relu,
    mish,
    module,
    sequential,
    sigmoid,
    sigmoid_,
    sigmoid_range,
    swish,
    vleaky_relu,
)


class Scaled(Module):
    def __init__(self, size, scale=2.0):
        self.inner = nn.Linear(size, size)
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, x):
        return self.inner(x) * self.scale


class Politely(Module):
    def __init__(self, size):
        super().__init__()
        self.inner = nn.Linear(size, size)


def test_a_module_needs_no_super_init():
    module = Scaled(3)
    assert sorted(module.state_dict()) == ["inner.bias", "inner.weight", "scale"]
    assert_close(module(torch.ones(1, 3)), module.inner(torch.ones(1, 3)) * 2)
    assert list(Politely(3).state_dict()) == ["inner.weight", "inner.bias"]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_module_copies_and_pickles_with_its_record(copied):
    module = Scaled(3, scale=4.0)
    again = copied(module)
    assert again.init_args == {"size": 3, "scale": 4.0}
    assert_close(again(torch.ones(1, 3)), module(torch.ones(1, 3)))


def test_concat_pooling_puts_maxima_before_means():
    x = torch.arange(8.0).view(1, 2, 2, 2)
    assert AdaptiveConcatPool2d(1)(x).flatten().tolist() == [3, 7, 1.5, 5.5]
    assert AdaptiveConcatPool1d()(x.view(1, 2, 4)).flatten().tolist() == [3, 7, 1.5, 5.5]
    assert AdaptiveConcatPool2d((1, 2))(x).shape == (1, 4, 1, 2)


@pytest.mark.parametrize(("pool_type", "wanted"), [("Avg", [1.5]), ("Max", [3.0]), ("Cat", [3.0, 1.5])])
def test_pool_types_name_their_pooling(pool_type, wanted):
    x = torch.arange(4.0).view(1, 1, 2, 2)
    assert PoolFlatten(pool_type)(x).tolist() == [wanted]
    assert getattr(PoolType, pool_type) == pool_type


def test_an_unknown_pool_type_names_the_known():
    with pytest.raises(BadValue) as caught:
        adaptive_pool("Median")
    assert "Avg, Max, Cat" in str(caught.value)


def test_shape_layers_change_the_shape_only():
    x = torch.arange(12.0).view(2, 3, 2)
    assert Flatten()(x).shape == (2, 6)
    assert Flatten(full=True)(x.transpose(0, 1)).shape == (12,)
    assert View(-1, 4)(x).shape == (3, 4)
    assert ResizeBatch(2, 3)(x).shape == (2, 2, 3)


def test_sequential_takes_plain_functions():
    model = sequential(nn.Linear(2, 2), torch.relu, Lambda(lambda x: x + 1))
    assert (model(torch.randn(5, 2, generator=torch.Generator().manual_seed(1))) >= 1).all()


def test_sigmoid_range_stays_within_its_bounds():
    x = torch.tensor([-100.0, 0.0, 100.0])
    assert_close(sigmoid_range(x, -1, 3), torch.tensor([-1.0, 1.0, 3.0]))
    assert_close(SigmoidRange(-1, 3)(x), sigmoid_range(x, -1, 3))


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_norms_start_as_fastai_starts_them(ndim):
    batch, zero = BatchNorm(4, ndim), BatchNorm(4, ndim, NormType.BatchZero)
    assert batch.weight.tolist() == [1] * 4
    assert zero.weight.tolist() == [0] * 4
    assert_close(batch.bias.data, torch.full((4,), 1e-3))
    assert type(batch) is getattr(nn, f"BatchNorm{ndim}d")
    assert InstanceNorm(4, ndim, NormType.InstanceZero).weight.tolist() == [0] * 4
    assert InstanceNorm(4, ndim, affine=False).weight is None


@pytest.mark.parametrize(
    ("args", "kinds"),
    [
        ({}, ["BatchNorm1d", "Linear"]),
        ({"p": 0.5, "act": nn.ReLU()}, ["BatchNorm1d", "Dropout", "Linear", "ReLU"]),
        ({"p": 0.5, "act": nn.ReLU(), "lin_first": True}, ["Linear", "ReLU", "BatchNorm1d", "Dropout"]),
        ({"bn": False}, ["Linear"]),
    ],
)
def test_lin_bn_drop_puts_its_layers_in_order(args, kinds):
    block = LinBnDrop(4, 3, **args)
    assert [type(layer).__name__ for layer in block] == kinds
    linear = next(layer for layer in block if isinstance(layer, nn.Linear))
    assert (linear.bias is None) == (args.get("bn", True))
    assert block(torch.zeros(2, 4)).shape == (2, 3)


@pytest.mark.parametrize(
    ("args", "kinds"),
    [
        ({}, ["Conv2d", "BatchNorm2d", "ReLU"]),
        ({"bn_1st": False}, ["Conv2d", "ReLU", "BatchNorm2d"]),
        ({"norm_type": None, "act_cls": None}, ["Conv2d"]),
        ({"norm_type": NormType.Instance}, ["Conv2d", "InstanceNorm2d", "ReLU"]),
        ({"norm_type": NormType.Weight}, ["ParametrizedConv2d", "ReLU"]),
        ({"norm_type": NormType.Spectral}, ["ParametrizedConv2d", "ReLU"]),
        ({"act_cls": nn.SiLU, "xtra": nn.MaxPool2d(2)}, ["Conv2d", "BatchNorm2d", "SiLU", "MaxPool2d"]),
    ],
)
def test_conv_layer_puts_its_layers_in_order(args, kinds):
    block = ConvLayer(3, 4, **args)
    assert [type(layer).__name__ for layer in block] == kinds
    assert (block[0].bias is None) == ("BatchNorm2d" in kinds or "InstanceNorm2d" in kinds)
    assert block(torch.zeros(2, 3, 6, 6)).shape[:2] == (2, 4)


def test_conv_layer_keeps_the_size_at_stride_one_and_takes_other_dimensions():
    assert ConvLayer(3, 4, ks=5)(torch.zeros(2, 3, 9, 9)).shape == (2, 4, 9, 9)
    assert ConvLayer(3, 4, ndim=1, stride=2)(torch.zeros(2, 3, 8)).shape == (2, 4, 4)
    assert ConvLayer(3, 4, ks=2, stride=2, transpose=True)(torch.zeros(2, 3, 4, 4)).shape == (2, 4, 8, 8)
    assert ConvLayer(4, 4, groups=4)[0].weight.shape == (4, 1, 3, 3)


def test_conv_layer_uses_the_given_initialisation():
    conv = ConvLayer(3, 4, norm_type=None, init=nn.init.ones_, bias_std=0)[0]
    assert conv.weight.unique().tolist() == [1]
    assert conv.bias.unique().tolist() == [0]


def test_a_slice_of_a_block_is_a_sequence():
    block = LinBnDrop(4, 3, p=0.1)
    assert type(block[:2]) is nn.Sequential
    assert block[:2][1] is block[1]
    assert block[-1] is list(block)[-1]


def test_embedding_starts_within_two_standard_deviations():
    weight = Embedding(2000, 10, std=0.05).weight
    assert weight.abs().max() <= 0.1
    assert 0.03 < weight.std() < 0.05


def test_an_unknown_keyword_is_refused():
    with pytest.raises(TypeError, match="dropout"):
        LinBnDrop(4, 3, dropout=0.5)


def test_a_module_is_made_of_its_forward_function():
    @module("factor", shift=0.0)
    def Scale(self, x):
        """Scale and shift."""
        return x * self.factor + self.shift

    x = torch.ones(2)
    assert_close(Scale(3.0)(x), x * 3)
    assert_close(Scale(3.0, 1.0)(x), Scale(factor=3.0, shift=1.0)(x))
    assert repr(Scale(2.0)) == "Scale(factor=2.0, shift=0.0)"
    assert Scale.__doc__ == "Scale and shift."
    assert Scale(2.0).init_args == {"factor": 2.0, "shift": 0.0}
    with pytest.raises(TypeError, match="shfit"):
        Scale(1.0, shfit=2.0)
    with pytest.raises(TypeError, match="factor"):
        Scale()


def test_a_partial_function_is_a_layer():
    layer = PartialLambda(torch.clamp, min=0.0, max=1.0)
    assert layer(torch.tensor([-1.0, 0.5, 2.0])).tolist() == [0, 0.5, 1]
    assert repr(layer) == "PartialLambda(clamp, min=0.0, max=1.0)"


def test_a_parameter_as_a_module_passes_its_input_on():
    layer = ParameterModule(nn.Parameter(torch.ones(2)))
    assert layer(3) == 3
    assert [name for name, _ in layer.named_parameters()] == ["val"]


@pytest.mark.parametrize("low_mem", [False, True])
@pytest.mark.parametrize("tdim", [1, 2])
def test_time_distributed_applies_a_layer_to_each_step(low_mem, tdim):
    conv = nn.Conv2d(3, 4, 3)
    x = torch.randn(2, 5, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    wanted = torch.stack([conv(x[:, step]) for step in range(5)], 1)
    out = TimeDistributed(conv, low_mem=low_mem, tdim=tdim)(x.movedim(1, tdim))
    assert_close(out, wanted.movedim(1, tdim))


def test_time_distributed_passes_several_inputs():
    bilinear = nn.Bilinear(2, 3, 4)
    a, b = torch.ones(2, 5, 2), torch.ones(2, 5, 3)
    assert_close(TimeDistributed(bilinear)(a, b), bilinear(a, b))


def test_activations_are_torchs_under_their_short_names():
    x = torch.linspace(-3, 3, 7)
    assert_close(swish(x), x * x.sigmoid())
    assert_close(mish(x), x * torch.tanh(nn.functional.softplus(x)))
    assert (Swish, Mish) == (nn.SiLU, nn.Mish)
    assert vleaky_relu(torch.tensor([-1.0, 2.0])).tolist() == pytest.approx([-0.3, 2.0])
    assert inplace_relu().inplace


def test_a_bounded_sigmoid_has_a_finite_logarithm():
    x = torch.tensor([-200.0, 0.0, 200.0])
    assert_close(sigmoid(x), torch.tensor([1e-7, 0.5, 1 - 1e-7]))
    assert sigmoid_(x) is x
    assert_close(x, torch.tensor([1e-7, 0.5, 1 - 1e-7]))


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_pooling_of_any_number_of_dimensions(ndim):
    x = torch.randn(1, 2, *[5] * ndim, generator=torch.Generator().manual_seed(0))
    assert MaxPool(ndim=ndim, ceil_mode=True)(x).shape[2:] == (3,) * ndim
    assert AvgPool(ndim=ndim)(x).shape[2:] == (2,) * ndim
    assert_close(AdaptiveAvgPool(ndim=ndim)(x).flatten(1), x.flatten(2).mean(2))
    assert_close(AdaptiveAvgPool(5, ndim)(x), x)


def test_flat_batch_norm_normalises_the_last_axis():
    x = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0)) * 5 + 2
    y = BatchNorm1dFlat(3)(x)
    assert y.shape == x.shape
    assert_close(y.mean((0, 1)), torch.zeros(3), atol=1e-5, rtol=0)
    assert_close(y.var((0, 1), correction=0), torch.ones(3), atol=1e-3, rtol=0)


def test_a_simple_cnn_is_convolutions_and_a_mean():
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    cnn = SimpleCNN([3, 8, 4], kernel_szs=[5, 3], strides=[1, 2])
    assert [layer[0].kernel_size for layer in cnn[:2]] == [(5, 5), (3, 3)]
    assert_close(cnn(x), cnn[1](cnn[0](x)).mean((2, 3)))
    with pytest.raises(ValueError, match="1 filters"):
        SimpleCNN([3])
    with pytest.raises(ValueError, match="kernel size"):
        SimpleCNN([3, 4, 5], kernel_szs=[3])
