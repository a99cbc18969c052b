"""Models of rows: the order of their layers, and their outputs against the same layers written by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadArgument, BadValue
from layered.nn import describe_module, rebuild_module
from layered.tabular.all import (
    Normalize,
    TabularModel,
    TabularPandas,
    TabularResNet,
    emb_sz_rule,
    get_emb_sz,
    tabular_config,
    tabular_learner,
)

SIZES = [(4, 3), (5, 4)]


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(0)
    return torch.stack([torch.randint(0, n, (6,), generator=draw) for n, _ in SIZES], 1), torch.randn(
        6, 2, generator=draw
    )


def kinds(model):
    return [type(m).__name__ for m in model.layers.modules() if not list(m.children())]


def test_layers_stand_in_the_known_order():
    assert kinds(TabularModel(SIZES, 2, 1, [20, 10], ps=[0.1, 0.2], y_range=(0, 1))) == [
        "Linear", "ReLU", "BatchNorm1d", "Dropout", "Linear", "ReLU", "BatchNorm1d", "Dropout", "Linear", "SigmoidRange",
    ]  # fmt: skip
    assert kinds(TabularModel(SIZES, 2, 1, [8], ps=0.5, lin_first=False, bn_final=True, act_cls=nn.GELU)) == [
        "BatchNorm1d", "Dropout", "Linear", "GELU", "BatchNorm1d", "Linear",
    ]  # fmt: skip
    assert kinds(TabularModel(SIZES, 2, 1, [8], use_bn=False)) == ["Linear", "ReLU", "Linear"]


def test_linear_layers_before_batch_norm_have_no_bias_and_the_last_has_one():
    linear = [m for m in TabularModel(SIZES, 2, 3, [8, 4]).modules() if isinstance(m, nn.Linear)]
    assert [m.bias is not None for m in linear] == [False, False, True]
    assert [(m.in_features, m.out_features) for m in linear] == [(9, 8), (8, 4), (4, 3)]


@pytest.mark.parametrize("bn_cont", [True, False])
def test_outputs_are_those_of_the_layers_by_hand(batch, bn_cont):
    model = TabularModel(SIZES, 2, 3, [8], bn_cont=bn_cont, y_range=(-1, 2)).eval()
    codes, numbers = batch
    x = torch.cat([nn.functional.embedding(codes[:, i], e.weight) for i, e in enumerate(model.embeds)], 1)
    x = torch.cat([x, numbers / (1 + 1e-5) ** 0.5 if bn_cont else numbers], 1)
    first, last = (m for m in model.modules() if isinstance(m, nn.Linear))
    norm = model.layers[0][2]
    hidden = nn.functional.relu(x @ first.weight.T) / (1 + 1e-5) ** 0.5 * norm.weight + norm.bias
    assert_close(model(codes, numbers), torch.sigmoid(hidden @ last.weight.T + last.bias) * 3 - 1)


def test_a_table_may_lack_categories_or_numbers(batch):
    codes, numbers = batch
    assert TabularModel([], 2, 1, [4])(codes[:, :0], numbers).shape == (6, 1)
    assert TabularModel(SIZES, 0, 1, [4])(codes, numbers[:, :0]).shape == (6, 1)
    assert TabularModel(SIZES, 0, 1, [4])(codes).shape == (6, 1)
    assert TabularModel(SIZES, 2, 1, [])(codes, numbers).shape == (6, 1)
    assert kinds(TabularModel(SIZES, 2, 1, 8)) == kinds(TabularModel(SIZES, 2, 1, [8]))


def test_the_residual_network_is_its_formula(batch):
    model = TabularResNet(SIZES, 2, 3, size=8, num_layers=2, factor=2.0, hidden_p=0.0).eval()
    codes, numbers = batch
    x = torch.cat([*(e(codes[:, i]) for i, e in enumerate(model.embeds)), numbers], 1)
    start, one, two, norm, _, last = model.layers
    x = start(x)
    for block in (one, two):
        bn, widen, _, _, narrow, _ = block.branch
        x = x + narrow(torch.relu(widen(bn(x))))
    assert_close(model(codes, numbers), last(torch.relu(norm(x))))


@pytest.mark.parametrize(
    "model",
    [
        TabularModel(SIZES, 2, 3, [8], ps=[0.1], embed_p=0.2, y_range=(0, 5), act_cls=nn.SiLU),
        TabularModel(SIZES, 2, 3, [8], act_cls=nn.LeakyReLU(0.2)),
        TabularResNet(SIZES, 2, 3, size=8, y_range=(0, 1)),
    ],
    ids=["mlp", "activation as a module", "resnet"],
)
def test_models_are_data(model, batch):
    twin = rebuild_module(describe_module(model))
    twin.load_state_dict(model.state_dict())
    assert_close(twin.eval()(*batch), model.eval()(*batch))


def test_sizes_of_embeddings_follow_the_rule_or_the_user(to):
    assert [emb_sz_rule(n) for n in (2, 3, 5, 10, 50, 100, 1000, 10**5)] == [2, 3, 4, 6, 14, 21, 77, 600]
    assert get_emb_sz(to) == [(4, 3), (5, 4), (3, 3)]
    assert get_emb_sz(to, {"city": 9}) == [(4, 9), (5, 4), (3, 3)]
    with pytest.raises(BadValue, match="no categorical column 'town'"):
        get_emb_sz(to, {"town": 9})


def test_options_are_checked():
    with pytest.raises(BadValue, match="no inputs"):
        TabularModel([], 0, 1, [8])
    with pytest.raises(BadValue, match="ps needs one probability for each layer"):
        TabularModel(SIZES, 2, 1, [8, 8], ps=[0.1])
    with pytest.raises(BadArgument, match="did you mean 'embed_p'"):
        tabular_config(embedp=0.1)


@pytest.mark.parametrize("bs", [1, 16])
def test_batch_norm_is_not_trained_on_a_single_row(bs):
    df = pd.DataFrame({"x": np.arange(18.0), "y": np.arange(18.0)})
    to = TabularPandas(df, [Normalize], None, "x", "y", splits=(range(17), [17]))
    learn = tabular_learner(to.dataloaders(bs, drop_last=False, device="cpu"), [8])
    with learn.no_bar(), learn.no_logging(), pytest.raises(BadValue, match="drop_last=True"):
        learn.fit(1)
