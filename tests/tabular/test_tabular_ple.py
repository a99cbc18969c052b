"""`TabularPLE`: numbers by their quantiles, targets at their own scale, and `tabular_learner(arch=)`."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_diabetes
from torch.testing import assert_close

from layered.foundation import BadArgument, BadValue, UnknownName
from layered.nn import describe_module, rebuild_module
from layered.tabular.all import (
    PiecewiseLinear,
    TabularDataLoaders,
    TabularModel,
    TabularPLE,
    load_learner,
    rmse,
    set_seed,
    tabular_learner,
)
from layered.tabular.models.ple import bin_edges


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("LAYERED_QUIET", "1")


def loaders(**args):
    df = load_diabetes(as_frame=True, scaled=False).frame
    df["sex"] = np.where(df.sex == 1, "f", "m")
    args = {"y_names": "target", "cat_names": "sex", "cont_names": ["age", "bmi", "bp", "s1", "s5"], **args}
    return TabularDataLoaders.from_df(df, seed=0, bs=64, device="cpu", **args)


def test_positions_are_those_between_quantiles():
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    layer = PiecewiseLinear(1, 4, 10)
    layer.fit(torch.from_numpy(values)[:, None])
    edges = np.quantile(values, np.linspace(0, 1, 11))
    x = np.linspace(-5, 5, 50, dtype=np.float32)
    through = layer.positions(torch.from_numpy(x)[:, None]).sum((1, 2))
    assert_close(through.double().numpy(), np.interp(x, edges, np.arange(11)), atol=1e-3, rtol=0)


def test_a_column_with_few_values_has_an_edge_between_each_two():
    assert bin_edges(np.array([3, 1, 1, 2, 9]), 8).tolist() == [1, 1.5, 2.5, 6, 9]
    assert bin_edges(np.array([7.0, 7.0]), 8).tolist() == [7]


def test_quantiles_that_coincide_leave_their_place_to_distinct_values():
    mostly_zero = np.concatenate([np.zeros(950), np.arange(1, 51)])
    edges = bin_edges(mostly_zero, 20)
    assert len(edges) >= 20
    assert (edges[1:] > edges[:-1]).all()


@pytest.mark.parametrize("column", ["constant", "nearly constant", "whole numbers"])
def test_unusual_columns_give_finite_outputs(column):
    values = {
        "constant": np.full(50, 3.0),
        "nearly constant": 1e6 + np.arange(50) * 1e-3,
        "whole numbers": np.arange(50) % 3,
    }[column].astype(np.float32)
    layer = PiecewiseLinear(1, 4, 10)
    layer.fit(torch.from_numpy(values)[:, None])
    assert layer(torch.tensor([[0.0], [3.0], [1e30], [-1e30]])).isfinite().all()


def test_the_scale_of_a_number_does_not_matter():
    x = torch.randn(200, 1)
    one, other = PiecewiseLinear(1, 4, 10), PiecewiseLinear(1, 4, 10)
    one.fit(x)
    other.fit(x * 1000 + 7)
    assert_close(one.positions(x), other.positions(x * 1000 + 7), atol=1e-3, rtol=0)


def test_predictions_and_metrics_are_in_the_units_of_the_target():
    set_seed(0)
    dls = loaders()
    learn = tabular_learner(dls, arch="ple", metrics=rmse)
    y = dls.train.dataset.tensors[-1]
    assert_close(learn.model.mean, y.mean(0))
    assert_close(learn.model.std, y.std(0))
    learn.fit_auto()
    assert 40 < learn.validate()[1] < 65  # of 25 to 346; the standard deviation is 77
    preds, targets = learn.get_preds()
    assert learn.validate()[1] == pytest.approx(float((preds - targets).square().mean().sqrt()), rel=1e-4)


def test_it_is_better_than_the_mlp_where_a_number_acts_in_steps():
    draw = np.random.default_rng(0)
    x = draw.lognormal(0, 3, 4000)
    df = pd.DataFrame({"x": x, "y": np.where(np.floor(np.log(x)) % 2 == 0, 10.0, -10.0)})

    def error(arch):
        set_seed(0)
        dls = TabularDataLoaders.from_df(df, cont_names="x", y_names="y", seed=0, bs=128, device="cpu")
        learn = tabular_learner(dls, arch=arch, metrics=rmse)
        learn.fit_one_cycle(5, 4e-3)
        return learn.validate()[1]

    assert error("ple") < error("mlp") / 2


def test_classes_and_several_targets():
    df = load_diabetes(as_frame=True).frame
    df["high"] = np.where(df.target > 140, "yes", "no")
    dls = TabularDataLoaders.from_df(
        df, cont_names=["bmi", "s5"], y_names=["high", "target"], seed=0, bs=64, device="cpu"
    )
    model = tabular_learner(dls, arch="ple").model
    assert model.mean[:2].tolist() == [0, 0]
    assert model.std[:2].tolist() == [1, 1]
    assert 100 < model.mean[2] < 200


def test_exports_predict_the_same(tmp_path):
    dls = loaders()
    learn = tabular_learner(dls, arch="ple")
    learn.fit(1)
    row = {"age": 50, "sex": "f", "bmi": 30.0, "bp": 90, "s1": 180, "s5": 4.5}
    learn.export(tmp_path / "model.layered")
    loaded = load_learner(tmp_path / "model.layered")
    assert_close(loaded.predict(row)[2], learn.predict(row)[2])
    rebuilt = rebuild_module(describe_module(learn.model))
    assert [p.shape for p in rebuilt.parameters()] == [p.shape for p in learn.model.parameters()]


def test_numbers_only_and_categories_only():
    dls = loaders(cat_names=[])
    assert tabular_learner(dls, arch="ple").validate()[0] > 0
    dls = loaders(cont_names=[])
    assert tabular_learner(dls, arch="ple").validate()[0] > 0


def test_what_is_unknown_is_refused():
    dls = loaders()
    with pytest.raises(UnknownName, match="ple"):
        tabular_learner(dls, arch="plee")
    with pytest.raises(BadArgument, match="use_bn"):
        tabular_learner(dls, arch="ple", config={"use_bn": False})
    with pytest.raises(BadValue, match="bins"):
        TabularPLE([], 2, 1, bins=0)


def test_options_reach_the_model():
    model = tabular_learner(loaders(), [32], arch="ple", config={"bins": 12, "size": 4, "ps": 0.1}).model
    assert model.numbers.weight.shape == (5, 12, 4)
    assert type(tabular_learner(loaders(), arch="mlp").model) is TabularModel


def test_a_range_bounds_the_outputs():
    learn = tabular_learner(loaders(), arch="ple", y_range=(0, 400))
    preds = learn.get_preds()[0]
    assert (preds > 0).all()
    assert (preds < 400).all()
