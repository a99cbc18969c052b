import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadFile, NotExportable, UnknownName, functions, modules
from layered.nn import (
    AdaptiveConcatPool2d,
    ConvLayer,
    Embedding,
    Flatten,
    Lambda,
    LinBnDrop,
    Module,
    NormType,
    describe_module,
    rebuild_module,
)


@pytest.fixture
def registries(monkeypatch):
    for registry in (modules, functions):
        monkeypatch.setattr(registry, "_items", dict(registry._items))


def again(model):
    return rebuild_module(json.loads(json.dumps(describe_module(model))))


def test_a_rebuilt_model_with_the_old_weights_predicts_the_same():
    model = nn.Sequential(
        nn.Sequential(ConvLayer(3, 8, stride=2), nn.Conv2d(8, 8, 3, padding="same", bias=False), nn.GroupNorm(2, 8)),
        nn.Sequential(AdaptiveConcatPool2d(1), Flatten(), LinBnDrop(16, 4, p=0.5, act=nn.ReLU(inplace=True))),
    ).eval()
    copy = again(model).eval()
    copy.load_state_dict(model.state_dict())
    x = torch.rand(2, 3, 8, 8)
    assert_close(copy(x), model(x))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(2, 3, bias=False),
        nn.Conv2d(2, 4, (3, 1), stride=2, padding=1, dilation=2, groups=2, padding_mode="reflect"),
        nn.ConvTranspose2d(2, 3, 2, stride=2, output_padding=1),
        nn.BatchNorm1d(3, momentum=None, affine=False),
        nn.BatchNorm2d(3, track_running_stats=False),
        nn.LayerNorm((2, 3), bias=False),
        nn.Embedding(4, 2, padding_idx=0),
        nn.LSTM(2, 3, num_layers=2, bidirectional=True, batch_first=True),
        nn.GRU(2, 3, bias=False),
        nn.RNN(2, 3, nonlinearity="relu"),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        nn.AvgPool2d(2, count_include_pad=False),
        nn.AdaptiveAvgPool2d((None, 2)),
        nn.PReLU(3),
        nn.Hardtanh(-2, 2),
        nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=True),
        nn.Identity(),
        nn.ModuleDict({"a": nn.Linear(1, 2), "b": nn.ModuleList([nn.ReLU()])}),
        Embedding(3, 2),
        ConvLayer(3, 4, norm_type=NormType.Spectral, act_cls=nn.SiLU, xtra=nn.MaxPool2d(2)),
    ],
    ids=lambda m: type(m).__name__,
)
def test_common_layers_come_back_with_their_arguments(layer):
    copy = again(layer)
    assert repr(copy) == repr(layer)
    copy.load_state_dict(layer.state_dict())


def test_defaults_are_left_out_of_torch_layers():
    assert describe_module(nn.Linear(2, 3))["args"] == {"in_features": 2, "out_features": 3}


def test_describing_draws_nothing_and_changes_nothing():
    model = nn.Sequential(nn.Linear(2, 3))
    random = torch.get_rng_state()
    describe_module(model)
    assert torch.equal(torch.get_rng_state(), random)


def test_a_module_at_two_places_stays_one():
    shared = nn.Linear(2, 2)
    copy = again(nn.Sequential(shared, nn.Sequential(nn.ReLU(), shared)))
    assert copy[1][1] is copy[0]


def test_functions_are_stored_by_registered_name(registries):
    functions.add("tests.double", lambda x: 2 * x)
    assert again(nn.Sequential(Lambda(functions.get("tests.double"))))(torch.ones(1)).item() == 2
    with pytest.raises(NotExportable, match="registered") as caught:
        describe_module(nn.Sequential(Lambda(F.relu)))
    assert "0.func" in caught.value.problem


def test_a_registered_class_of_the_user_takes_part(registries):
    @modules.register("tests.Mixer")
    class Mixer(Module):
        def __init__(self, sizes, inner, act=nn.ReLU):
            self.inner, self.act = inner, act()
            self.steps = [x.item() for x in torch.linspace(0, 1, len(sizes))]  # what a meta tensor cannot do

    copy = again(Mixer((1, 2), nn.Linear(2, 3), act=nn.GELU))
    assert copy.init_args["sizes"] == (1, 2)
    assert isinstance(copy.act, nn.GELU)
    assert copy.inner.out_features == 3


class Unregistered(nn.Module):
    pass


def test_an_unregistered_class_is_refused_with_its_place_and_a_fix():
    with pytest.raises(NotExportable) as caught:
        describe_module(nn.Sequential(nn.ReLU(), nn.Sequential(Unregistered())))
    assert "Unregistered at '1.0'" in caught.value.problem
    assert "model=build()" in caught.value.fix


def test_a_model_changed_after_construction_is_refused():
    block = LinBnDrop(4, 3, act=nn.ReLU())
    block[-1] = nn.Sigmoid()
    with pytest.raises(NotExportable, match="changed after it was built"):
        describe_module(nn.Sequential(block))


def test_a_replaced_forward_is_refused():
    layer = nn.ReLU()
    layer.forward = lambda x: x
    with pytest.raises(NotExportable, match="forward method set on the object"):
        describe_module(layer)


def test_a_kind_that_is_not_registered_here_is_an_unknown_name():
    with pytest.raises(UnknownName, match="Linaer") as caught:
        rebuild_module({"$module": "torch.Linaer", "args": {}})
    assert "torch.Linear" in caught.value.fix


@pytest.mark.parametrize(
    "node",
    [
        {},
        {"$module": "torch.Linear"},
        {"$module": "torch.Linear", "args": {"in_features": "x", "out_features": 2}},
        {"$module": "torch.Linear", "args": {"nonsense": 2}},
        {"$module": "torch.Sequential", "args": {}, "children": {"0": []}},
        {"$module": "LinBnDrop", "args": {"n_in": 2, "n_out": 2, "act": {"$code": "import os"}}},
        {"$module": ["torch.Linear"], "args": {}},
        {"$same": "nowhere"},
    ],
    ids=str,
)
def test_what_is_no_description_is_a_bad_file(node):
    with pytest.raises(BadFile):
        rebuild_module(node)


def test_shapes_are_checked_before_memory_is_taken():
    model = nn.Linear(2, 3)
    shapes = {name: list(x.shape) for name, x in model.state_dict().items()}
    assert rebuild_module(describe_module(model), shapes).weight.device.type == "cpu"
    huge = {"$module": "torch.Linear", "args": {"in_features": 10**7, "out_features": 10**7}}
    with pytest.raises(BadFile, match="does not fit"):
        rebuild_module(huge, shapes)


class Scaled(nn.Module):
    """One of a user's own, which records nothing."""

    def __init__(self, by=2.0, twice=False):
        super().__init__()
        self.by, self.twice = 2 * by if twice else by, twice

    def forward(self, x):
        return self.by * x


class Forgetful(nn.Module):
    def __init__(self, by=2.0):
        super().__init__()
        self.factor = by


def test_a_plain_module_is_described_by_its_attributes_or_not_at_all(registries):
    modules.add("tests.Scaled", Scaled)
    modules.add("tests.Forgetful", Forgetful)
    assert again(nn.Sequential(Scaled(3.0)))(torch.ones(1)).item() == 3
    with pytest.raises(NotExportable, match="does not keep its argument 'by'"):
        describe_module(nn.Sequential(Forgetful(3.0)))
    with pytest.raises(NotExportable, match="attributes that differ from those its constructor sets"):
        describe_module(nn.Sequential(Scaled(3.0, twice=True)))
