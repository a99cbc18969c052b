"""What a model relies on, against scikit-learn's functions over the same predictions."""

import numpy as np
import pandas as pd
import pytest
import torch
from people import CATS, CONTS, PROCS, people
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import (
    partial_dependence as sk_partial_dependence,
    permutation_importance as sk_permutation_importance,
)
from torch import nn

from layered.foundation import BadArgument, BadValue
from layered.tabular.all import (
    TabularLearner,
    TabularPandas,
    embed_features,
    partial_dependence,
    permutation_importance,
    tabular_learner,
)


class Sum(nn.Module):
    """3 * the first number + the second."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([3.0, 1.0, 0.0]))

    def forward(self, codes, numbers):
        return (numbers @ self.weight)[:, None]


class AsEstimator(RegressorMixin, BaseEstimator):
    def fit(self, x, y):
        self.fitted_ = True
        return self

    def predict(self, x):
        return 3 * x["a"].to_numpy() + x["b"].to_numpy()


@pytest.fixture(scope="module")
def linear():
    draw = np.random.default_rng(0)
    df = pd.DataFrame(draw.normal(size=(300, 3)), columns=list("abc"))
    df["y"] = 3 * df.a + df.b
    dls = TabularPandas(df, None, None, ["a", "b", "c"], "y").dataloaders(32, device="cpu")
    return df, TabularLearner(dls, Sum())


def test_importance_is_scikit_learns(linear):
    df, learn = linear
    res = permutation_importance(learn, df, n_repeats=20).set_index("feature")
    oracle = sk_permutation_importance(
        AsEstimator().fit(None, None), df[["a", "b", "c"]], df.y, n_repeats=20, random_state=1
    )
    assert list(res.index) == ["a", "b", "c"]
    np.testing.assert_allclose(res.importance_mean, oracle.importances_mean, rtol=0.05, atol=1e-4)
    assert res.importance_mean["c"] == pytest.approx(0, abs=1e-6)
    assert permutation_importance(learn, df, lambda y, p: -np.abs(y - p).mean(), features=["b"]).feature.tolist() == [
        "b"
    ]


def test_partial_dependence_is_scikit_learns(linear):
    df, learn = linear
    res = partial_dependence(learn, df, "a", grid_resolution=7)
    oracle = sk_partial_dependence(
        AsEstimator().fit(None, None), df[["a", "b", "c"]], ["a"], grid_resolution=7, kind="average"
    )
    np.testing.assert_allclose(res["value"], oracle["grid_values"][0], rtol=1e-6)
    np.testing.assert_allclose(res["y"], oracle["average"][0], rtol=1e-4, atol=1e-5)
    with pytest.raises(BadValue, match="'d' is not an input"):
        partial_dependence(learn, df, "d")
    again = partial_dependence(learn, df, "a", grid=oracle["grid_values"][0])
    pd.testing.assert_frame_equal(again, res, rtol=1e-6)


@pytest.mark.parametrize("rows", [0, 1])
def test_importance_needs_rows_to_shuffle(linear, rows):
    df, learn = linear
    with pytest.raises(BadValue, match="nothing to shuffle"):
        permutation_importance(learn, df.head(rows))


def test_only_inputs_have_importance_and_only_known_values_are_set(linear):
    df, learn = linear
    with pytest.raises(BadValue, match="'y' is not an input"):
        permutation_importance(learn, df, features=["y"])
    with pytest.raises(BadValue, match="no column 'y'"):
        permutation_importance(learn, df.drop(columns="y"))
    for rows, grid in ((df.head(0), [1.0]), (df, []), (df.assign(a=np.nan), None)):
        with pytest.raises(BadValue, match="no value of 'a' to set"):
            partial_dependence(learn, rows, "a", grid)


def test_dependence_on_a_category_has_a_row_for_each_level_and_a_column_for_each_class(learn):
    res = partial_dependence(learn, people(), "city")
    assert res["value"].tolist() == ["Bonn", "Oslo", "Rome"]
    np.testing.assert_allclose(res[["no", "yes"]].sum(axis=1), 1.0, rtol=1e-5)


def test_embeddings_are_features_for_other_models(learn, splits):
    df = people()
    features = embed_features(learn, df)
    assert list(features.columns[:3]) == ["city_emb0", "city_emb1", "city_emb2"]
    assert features.index.equals(df.index)
    rome = learn.model.embeds[0].weight[list(learn.dls.classes["city"]).index("Rome")]
    np.testing.assert_allclose(features[df.city == "Rome"].iloc[0, :3], rome.detach().numpy())
    forest = RandomForestClassifier(30, random_state=0).fit(features.iloc[splits[0]], df.buys.iloc[splits[0]])
    assert forest.score(features.iloc[splits[1]], df.buys.iloc[splits[1]]) > 0.8


def test_prepared_inputs_and_targets_go_straight_into_a_forest(to):
    forest = RandomForestClassifier(30, random_state=0).fit(to.train.xs, to.train.y)
    assert forest.score(to.valid.xs, to.valid.y) > 0.8


def test_a_model_without_embeddings_and_a_learner_without_a_table_are_refused(linear):
    df, learn = linear
    with pytest.raises(BadArgument, match="no embeddings"):
        embed_features(learn, df)


def test_several_targets_have_no_single_importance():
    df = people().assign(score=1.0)
    learn = tabular_learner(TabularPandas(df, PROCS, CATS, CONTS, ["buys", "score"]).dataloaders(32, device="cpu"), [8])
    with pytest.raises(BadValue, match="single target"):
        permutation_importance(learn, df)
