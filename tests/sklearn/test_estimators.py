"""Networks among scikit-learn's tools: parameters of parts, searches, pipelines, kinds of inputs, weights, pickles."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from layered.callback import EarlyStoppingCallback
from layered.foundation import BadValue
from layered.loop import Callback
from layered.sklearn import LayeredClassifier, LayeredRegressor

IRIS = load_iris(return_X_y=True)


class Mlp(nn.Module):
    def __init__(self, num_units=8, softmax=False):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, num_units), nn.ReLU(), nn.Linear(num_units, 3))
        self.softmax = softmax

    def forward(self, X):
        scores = self.layers(X)
        return scores.softmax(1) if self.softmax else scores


class Steps(Callback):
    def __init__(self, at_most=10**6):
        self.at_most, self.seen = at_most, 0

    def before_batch(self):
        self.seen += 1


def small(**parameters):
    return LayeredClassifier(Mlp, max_epochs=5, random_state=0, **parameters)


def test_a_clone_has_the_parameters_of_parts():
    given = small(module__num_units=5, optimizer="sgd", optimizer__momentum=0.5)
    assert clone(given).get_params() == given.get_params()
    assert clone(given).fit(*IRIS).module_.layers[0].out_features == 5


def test_unknown_parameters_are_refused_with_the_nearest():
    with pytest.raises(BadValue, match="did you mean 'max_epochs'"):
        LayeredClassifier().set_params(max_epoch=3)
    with pytest.raises(BadValue, match="no parameter 'modul__num_units'"):
        LayeredClassifier(modul__num_units=3)
    with pytest.raises(TypeError, match="units"):
        small(module__units=3).fit(*IRIS)


def test_a_search_reaches_module_optimizer_loss_loader_and_callbacks():
    grid = {
        "module__num_units": [3, 6],
        "optimizer__momentum": [0.6],
        "criterion__label_smoothing": [0.1],
        "iterator_train__shuffle": [False],
        "callbacks__steps__at_most": [7],
    }
    net = small(optimizer=torch.optim.SGD, callbacks=[("steps", Steps)], criterion=nn.CrossEntropyLoss)
    best = GridSearchCV(net, grid, cv=2, error_score="raise").fit(*IRIS).best_estimator_
    assert best.module_.layers[0].out_features in (3, 6)
    assert best.learner_.opt.hypers[0]["mom"] == 0.6
    assert best.learner_.loss_func.loss.label_smoothing == 0.1
    assert not best.learner_.dls.train.shuffle
    assert [cb.at_most for cb in best.learner_.cbs if isinstance(cb, Steps)] == [7]


def test_callbacks_are_fresh_for_each_fit_and_their_names_are_checked():
    steps = Steps()
    net = small(callbacks=[steps])
    net.fit(*IRIS)
    assert steps.seen == 0
    assert next(cb for cb in net.learner_.cbs if isinstance(cb, Steps)).seen > 0
    with pytest.raises(BadValue, match="no callback 'step'"):
        net.set_params(callbacks__step__at_most=3).fit(*IRIS)


def test_scores_of_a_pipeline_in_cross_validation_and_importances():
    pipe = make_pipeline(StandardScaler(), LayeredClassifier(Mlp, random_state=0))
    scores = cross_validate(pipe, *IRIS, cv=3, scoring=["accuracy", "neg_log_loss", "roc_auc_ovr"])
    assert scores["test_accuracy"].mean() > 0.9
    importances = permutation_importance(pipe.fit(*IRIS), *IRIS, n_repeats=3, random_state=0).importances_mean
    assert importances[2:].max() > importances[:2].max()  # petals tell the irises apart


@pytest.mark.parametrize("criterion", [nn.NLLLoss, nn.CrossEntropyLoss])
def test_probabilities_are_those_of_the_plain_module(criterion):
    net = small(criterion=criterion, module__softmax=criterion is nn.NLLLoss).fit(*IRIS)
    with torch.no_grad():
        output = net.module_.eval()(torch.tensor(IRIS[0], dtype=torch.float32))
    expected = output if criterion is nn.NLLLoss else output.softmax(1)
    np.testing.assert_allclose(net.predict_proba(IRIS[0]), expected, atol=1e-6)
    assert net.score(*IRIS) > 0.6


def test_two_classes_by_one_score():
    X, y = IRIS[0][:100], np.array(["no", "yes"])[IRIS[1][:100]]
    net = LayeredClassifier(lambda: nn.Linear(4, 1), criterion=nn.BCEWithLogitsLoss, random_state=0).fit(X, y)
    assert net.score(X, y) == 1
    np.testing.assert_allclose(net.predict_proba(X).sum(1), 1, atol=1e-6)


def as_frame(X):
    return pd.DataFrame(X, columns=list("abcd"))


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, as_frame, sparse.csr_matrix, list])
def test_every_kind_of_input_predicts_the_same(kind):
    X = IRIS[0].astype(np.float32)
    expected = small().fit(X, IRIS[1]).predict_proba(X)
    np.testing.assert_allclose(small().fit(kind(X), IRIS[1]).predict_proba(kind(X)), expected, atol=1e-5)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.sepal, self.petal = nn.Linear(2, 3), nn.Linear(2, 3)

    def forward(self, petal, sepal):
        return self.petal(petal) + self.sepal(sepal)


def test_parts_of_a_dict_come_by_name():
    X = {"sepal": IRIS[0][:, :2], "petal": IRIS[0][:, 2:]}
    net = LayeredClassifier(TwoInputs, random_state=0).fit(X, IRIS[1])
    assert net.score(X, IRIS[1]) > 0.9
    assert isinstance(net.module_, TwoInputs)
    with pytest.raises(BadValue, match="lacks parts"):
        net.predict({"sepal": X["sepal"]})


def test_columns_of_text_and_missing_numbers():
    frame = as_frame(IRIS[0]).assign(kind=np.array(["x", "y", "z"])[IRIS[1]]).drop(columns=["c", "d"])
    frame.loc[3, "a"] = np.nan
    net = LayeredClassifier(random_state=0).fit(frame, IRIS[1])
    assert net.score(frame, IRIS[1]) > 0.95
    assert list(net.feature_names_in_) == ["a", "b", "kind"]
    with pytest.raises(ValueError, match="feature names"):
        net.predict(frame.rename(columns={"a": "e"}))


def test_dates_and_unknown_schedules_are_refused():
    frame = as_frame(IRIS[0]).assign(day=pd.Timestamp("2024-01-31"))
    with pytest.raises(BadValue, match="'day' holds dates"):
        LayeredClassifier().fit(frame, IRIS[1])
    with pytest.raises(BadValue, match="the schedule is unknown"):
        small(schedule="onecycle").fit(*IRIS)


def test_weights_count_as_in_the_weighted_mean():
    X = np.array([[0.0], [0.0], [1.0], [1.0]])
    y, weights = np.array([0.0, 10.0, 5.0, 5.0]), np.array([3.0, 1.0, 1.0, 1.0])
    line = LinearRegression().fit(X, y, weights)
    net = LayeredRegressor(
        lambda: nn.Linear(1, 1), optimizer="sgd", optimizer__mom=0.0, lr=0.2, max_epochs=300, schedule=None
    )
    net.set_params(batch_size=4).fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(net.predict(X), line.predict(X), atol=1e-2)
    with pytest.raises(ValueError, match="egative"):
        net.fit(X, y, sample_weight=-weights)


def test_numbers_are_not_broadcast():
    X, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()
    net = LayeredRegressor(lambda: nn.Linear(10, 1), random_state=0, lr=0.1, criterion=nn.MSELoss).fit(X, y)
    assert net.score(X, y) == pytest.approx(LinearRegression().fit(X, y).score(X, y), abs=0.02)
    with pytest.raises(BadValue, match="differ in shape"):
        LayeredRegressor(lambda: nn.Linear(10, 2)).fit(X, y)


def test_targets_far_from_zero_are_learnt_by_the_default():
    X, y = load_diabetes(return_X_y=True)
    assert LayeredRegressor(random_state=0).fit(X, 1e6 + 1e3 * y).score(X, 1e6 + 1e3 * y) > 0.5


def test_partial_fits_go_on_and_a_fit_begins_anew():
    X, y = IRIS
    net = LayeredClassifier(Mlp, random_state=0).partial_fit(X[:60], y[:60], classes=[0, 1, 2])
    first = net.module_.layers[0].weight.clone()
    assert net.partial_fit(X, y).classes_.tolist() == [0, 1, 2]
    assert not torch.equal(first, net.module_.layers[0].weight)
    with pytest.raises(BadValue, match="classes that the estimator does not know"):
        net.partial_fit(X, y + 5 * (y == 2))
    fresh = LayeredClassifier(Mlp, random_state=0).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(net.fit(X, y).predict_proba(X), fresh)


def test_warm_starts_keep_the_weights():
    net = small(warm_start=True, lr=1e-9).fit(*IRIS)
    before = net.predict_proba(IRIS[0])
    np.testing.assert_allclose(net.fit(*IRIS).predict_proba(IRIS[0]), before, atol=1e-4)


def test_stopping_early_holds_out_whole_groups():
    seen = []

    class Look(Callback):
        def before_fit(self):
            seen.append([len(dl.dataset) for dl in self.dls.loaders])

    groups = np.arange(150) // 15
    net = LayeredClassifier(
        Mlp, early_stopping=True, n_iter_no_change=1, max_epochs=60, lr=0.5, callbacks=[Look], schedule=None
    )
    net.fit(*IRIS, groups=groups)
    assert seen == [[135, 15]]
    assert len(net.history_) < 60
    assert net.history_[0]["valid_loss"] is not None
    assert any(isinstance(cb, EarlyStoppingCallback) for cb in net.learner_.cbs)


def test_a_pickle_predicts_the_same_and_leaves_the_data_behind():
    X, y = np.tile(IRIS[0], (40, 1)), np.tile(IRIS[1], 40)
    net = small().fit(X, y)
    pickled = pickle.dumps(net)
    assert len(pickled) < X.nbytes / 4
    np.testing.assert_array_equal(pickle.loads(pickled).predict_proba(X), net.predict_proba(X))
    assert pickle.loads(pickled).partial_fit(*IRIS).score(*IRIS) > 0.3


def test_fits_do_not_touch_the_global_generators_nor_the_given_module():
    module, state = Mlp(), torch.get_rng_state()
    before = module.layers[0].weight.clone()
    LayeredClassifier(module, random_state=0).fit(*IRIS)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(before, module.layers[0].weight)
    with pytest.raises(BadValue, match="pass its class"):
        LayeredClassifier(module, module__num_units=3).fit(*IRIS)


@pytest.mark.parametrize("metrics", ["accuracy", {"f1": "f1_macro", "auc": "roc_auc"}, ["accuracy", "neg_log_loss"]])
def test_metrics_beside_weights_are_those_of_the_items(metrics):
    X, y = IRIS
    weights = np.linspace(0.1, 2, len(y))
    kwargs = {"metrics": metrics, "early_stopping": True, "validation_fraction": 0.3, "lr": 0.0}
    plain = small(**kwargs).fit(X, y).history_[-1]
    weighted = small(**kwargs).fit(X, y, sample_weight=weights).history_[-1]
    assert len(plain) > 3
    for name in plain.keys() - {"epoch", "train_loss", "valid_loss"}:
        assert weighted[name] == pytest.approx(plain[name])
    assert weighted["valid_loss"] != pytest.approx(plain["valid_loss"])


def test_metrics_of_a_regression_are_in_the_units_of_the_targets():
    X, y = load_diabetes(return_X_y=True)
    for targets in (y, np.c_[y, 10 * y]):
        net = LayeredRegressor(metrics="mae", early_stopping=True, max_epochs=2, random_state=0).fit(X, targets)
        error = np.abs(net.predict(X) - targets).mean()
        assert net.history_[-1]["mae"] == pytest.approx(error, rel=0.3)


def test_one_epoch_is_a_cycle_too_and_a_partial_fit_is_not():
    net = LayeredClassifier(Mlp, max_epochs=1, batch_size=10, lr=0.1, random_state=0).fit(*IRIS)
    rates = net.learner_.recorder.lrs
    assert max(rates) == pytest.approx(0.1, rel=0.1)
    assert rates[0] < 0.01 > rates[-1]
    net.partial_fit(*IRIS)
    assert set(net.learner_.recorder.lrs) == {0.1}


def test_weights_and_groups_are_routed_through_pipelines():
    X, y = IRIS
    seen = []

    class Noting(LayeredClassifier):
        def fit(self, X, y, sample_weight=None, groups=None):
            seen.append((sample_weight, groups))
            return super().fit(X, y, sample_weight, groups)

    weights, groups = np.linspace(0.1, 2, len(y)), np.arange(len(y)) // 5
    with sklearn.config_context(enable_metadata_routing=True):
        net = Noting(Mlp, max_epochs=1, early_stopping=True).set_fit_request(sample_weight=True, groups=True)
        scoring = get_scorer("accuracy").set_score_request(sample_weight=True)
        folds = GroupKFold(3).set_split_request(groups=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        params = {"sample_weight": weights, "groups": groups}
        cross_validate(make_pipeline(scaler, net), X, y, cv=folds, scoring=scoring, params=params, error_score="raise")
    for (train, _), (given, whose) in zip(GroupKFold(3).split(X, y, groups), seen, strict=True):
        np.testing.assert_array_equal(given, weights[train])
        np.testing.assert_array_equal(whose, groups[train])
