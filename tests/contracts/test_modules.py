"""Every registered module can be written as data, built again, compiled without a break and exported."""

import json

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import layered.vision.all  # noqa: F401  # registers the models of images
from layered.foundation import functions, modules
from layered.nn import MergeLayer, NormType, ResBlock, SequentialEx, describe_module, rebuild_module

PICTURE = (2, 16, 4, 4)
EXAMPLES = {  # an instance, and the shape of what it takes
    "AdaptiveConcatPool1d": lambda t: (t(2), (2, 3, 8)),
    "AdaptiveConcatPool2d": lambda t: (t(), PICTURE),
    "AddChannels": lambda t: (t(2), (2, 8)),
    "BatchNorm1dFlat": lambda t: (t(4), (2, 16, 4, 4)),
    "Cat": lambda t: (t([nn.ReLU(), nn.Tanh()]), PICTURE),
    "ConvLayer": lambda t: (t(16, 8, stride=2, norm_type=NormType.Instance, act_cls=nn.SiLU), PICTURE),
    "DynamicUnet": lambda t: (
        t(nn.Sequential(nn.Conv2d(16, 8, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2)), 3, (4, 4)),
        PICTURE,
    ),
    "Flatten": lambda t: (t(full=True), PICTURE),
    "Lambda": lambda t: (t(squared), PICTURE),
    "LinBnDrop": lambda t: (t(4, 3, p=0.1, act=nn.ReLU()), (2, 4)),
    "MergeLayer": lambda t: (SequentialEx(nn.ReLU(), t(dense=True)), PICTURE),
    "PartialLambda": lambda t: (t(squared), PICTURE),
    "PixelShuffle_ICNR": lambda t: (t(16, 4, blur=True), PICTURE),
    "PoolFlatten": lambda t: (t("Cat"), PICTURE),
    "PooledSelfAttention2d": lambda t: (t(16), PICTURE),
    "ProdLayer": lambda t: (SequentialEx(nn.ReLU(), t()), PICTURE),
    "ResBlock": lambda t: (t(2, 8, 12, stride=2, reduction=2, sa=True, act_cls=nn.SiLU), PICTURE),
    "ResizeBatch": lambda t: (t(4, 64), PICTURE),
    "ResizeToOrig": lambda t: (SequentialEx(nn.MaxPool2d(2), t()), PICTURE),
    "SEModule": lambda t: (t(16, 2), PICTURE),
    "SelfAttention": lambda t: (t(16), PICTURE),
    "SequentialEx": lambda t: (t(nn.ReLU(), MergeLayer()), PICTURE),
    "SigmoidRange": lambda t: (t(0, 5.5), PICTURE),
    "SimpleCNN": lambda t: (t([16, 8, 4]), PICTURE),
    "SimpleSelfAttention": lambda t: (t(16, sym=True), PICTURE),
    "TimeDistributed": lambda t: (t(nn.Linear(4, 3)), (2, 5, 4)),
    "View": lambda t: (t(-1, 8), PICTURE),
    "XResNet": lambda t: (t(ResBlock, 1, [1, 2], c_in=16, n_out=3, stem_szs=(8, 8), sa=True), PICTURE),
}
OTHERS = {"Embedding", "UnetBlock"}  # take integers; take two maps, and are part of a `DynamicUnet`


@pytest.fixture(autouse=True)
def _with_a_function(monkeypatch):
    monkeypatch.setattr(functions, "_items", dict(functions._items))
    functions.add("squared", squared)


def squared(x):
    return x**2


def shipped():
    ours = (name for name in modules if modules.get(name).__module__.startswith(("layered.nn.", "layered.vision.")))
    return sorted(set(ours) - OTHERS)


def model_and_input(name):
    torch.manual_seed(0)
    model, shape = EXAMPLES[name](modules.get(name))
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.1, 0.5)
    return model.eval(), torch.randn(shape)


@pytest.mark.parametrize("name", shipped())
def test_every_module_is_written_as_data_and_built_again(name):
    model, x = model_and_input(name)
    again = rebuild_module(json.loads(json.dumps(describe_module(model))))
    again.load_state_dict(model.state_dict())
    assert repr(again) == repr(model)
    assert_close(again.eval()(x), model(x))


@pytest.mark.parametrize("name", shipped())
def test_every_module_is_exported_as_one_graph(name):
    model, x = model_and_input(name)
    wanted = model(x)
    assert_close(torch.export.export(model, (x,)).module()(x), wanted, rtol=1e-5, atol=1e-5)
