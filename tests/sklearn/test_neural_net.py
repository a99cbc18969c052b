"""Programs written for skorch run with the import changed: its documented ones, and what they lean on."""

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris, make_classification, make_regression
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  # makes the search below importable
from sklearn.inspection import permutation_importance
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, HalvingRandomSearchCV, KFold, StratifiedKFold, cross_validate
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, StepLR
from torch.utils.data import TensorDataset

from layered.callback import EarlyStoppingCallback, GradientClip, SaveModelCallback, TorchScheduler
from layered.foundation import BadFile, BadValue, CannotRestore, UnknownName
from layered.loop import Callback
from layered.sklearn import (
    NeuralNet,
    NeuralNetBinaryClassifier,
    NeuralNetClassifier,
    NeuralNetRegressor,
    SliceDataset,
    SliceDict,
    ValidSplit,
    predefined_split,
)
from layered.sklearn.skorch_habits import CALLBACKS

X, y = make_classification(200, 20, n_informative=10, random_state=0)
X, y = X.astype(np.float32), y.astype(np.int64)


class MyModule(nn.Module):
    def __init__(self, num_units=10, nonlin=nn.ReLU()):
        super().__init__()
        self.dense0, self.nonlin, self.dropout = nn.Linear(20, num_units), nonlin, nn.Dropout(0.5)
        self.dense1, self.output, self.softmax = (
            nn.Linear(num_units, num_units),
            nn.Linear(num_units, 2),
            nn.Softmax(dim=-1),
        )

    def forward(self, X, **kwargs):
        X = self.dropout(self.nonlin(self.dense0(X)))
        return self.softmax(self.output(self.nonlin(self.dense1(X))))


def classifier(**kwargs):
    return NeuralNetClassifier(MyModule, **{"max_epochs": 3, "lr": 0.1, "verbose": 0, **kwargs})


def test_the_quick_start(capsys):
    torch.manual_seed(0)
    net = NeuralNetClassifier(MyModule, max_epochs=20, lr=0.1, iterator_train__shuffle=True)
    assert net.fit(X, y) is net
    assert "valid_acc" in capsys.readouterr().out
    proba = net.predict_proba(X)
    assert proba.shape == (200, 2)
    np.testing.assert_allclose(proba.sum(1), 1, atol=1e-5)
    assert net.score(X, y) > 0.65
    assert net.get_params()["optimizer"] is torch.optim.SGD
    assert (net.batch_size, net.get_params()["iterator_train__shuffle"]) == (128, True)

    pipe = Pipeline([("scale", StandardScaler()), ("net", net.set_params(verbose=0))])
    assert pipe.fit(X, y).predict_proba(X).shape == (200, 2)

    net.set_params(train_split=False, verbose=0)
    params = {
        "lr": [0.01, 0.02],
        "max_epochs": [1, 2],
        "module__num_units": [10, 20],
        "optimizer__nesterov": [False, True],
    }
    gs = GridSearchCV(
        net.set_params(optimizer__momentum=0.9), params, refit=False, cv=3, scoring="accuracy", error_score="raise"
    )
    gs.fit(X, y)
    assert gs.best_params_.keys() == params.keys()


def test_one_step_of_the_default_is_that_of_plain_torch():
    net = classifier(max_epochs=1, lr=0.1, train_split=None, batch_size=-1, module__nonlin=nn.Tanh())
    torch.manual_seed(3)
    net.initialize()
    plain = MyModule(nonlin=nn.Tanh())
    plain.load_state_dict(net.module_.state_dict())
    plain.dropout.p = net.module_.dropout.p = 0.0
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    nn.functional.nll_loss(plain(torch.tensor(X)).log(), torch.tensor(y)).backward()
    optimizer.step()
    net.partial_fit(X, y)
    for ours, theirs in zip(net.module_.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_fifth_is_held_out_in_order_with_the_classes_in_their_shares():
    seen = []

    class Look(Callback):
        def before_fit(self):
            seen.append([dl.dataset.tensors[0].clone() for dl in self.dls.loaders])

    classifier(callbacks=[Look]).fit(X, y)
    train, valid = next(StratifiedKFold(5).split(X, y))
    np.testing.assert_array_equal(seen[0][0], X[train])
    np.testing.assert_array_equal(seen[0][1], X[valid])
    classifier(callbacks=[Look], train_split=ValidSplit(0.3), train_split__stratified=True).fit(X, y)
    assert len(seen[1][1]) == 60
    classifier(callbacks=[Look], train_split=ValidSplit(KFold(4))).fit(X, y)
    assert len(seen[2][1]) == 50
    other = TensorDataset(torch.tensor(X[:30]), torch.tensor(y[:30]))
    net = classifier(callbacks=[Look], train_split=predefined_split(other)).fit(X, y)
    np.testing.assert_array_equal(seen[3][0], X)
    np.testing.assert_array_equal(seen[3][1], X[:30])
    assert net.history[-1, "valid_acc"] == pytest.approx(net.score(X[:30], y[:30]))


def test_other_splits_are_refused():
    with pytest.raises(BadValue, match="train_split is neither"):
        classifier(train_split=KFold(4)).fit(X, y)


def test_history_by_row_and_column_goes_on_in_partial_fits():
    net = classifier().fit(X, y)
    assert net.history[:, "epoch"] == [1, 2, 3]
    assert net.history[-1, "valid_loss"] == net.history_[2]["valid_loss"]
    assert [len(pair) for pair in net.history[:, ("train_loss", "valid_acc")]] == [2, 2, 2]
    net.partial_fit(X, y)
    assert net.history[:, "epoch"] == [1, 2, 3, 4, 5, 6]
    assert len(net.fit(X, y).history) == 3


def test_regression_keeps_the_shape_of_the_targets():
    X, y = make_regression(200, 20, n_informative=10, random_state=0)
    X, y = X.astype(np.float32), (y.astype(np.float32) / 100).reshape(-1, 1)
    net = NeuralNetRegressor(lambda num_units=10: nn.Linear(20, 1), max_epochs=20, lr=0.1, verbose=0).fit(X, y)
    assert net.predict(X).shape == y.shape
    assert net.score(X, y) > 0.9
    assert NeuralNetRegressor(nn.Linear(20, 1), verbose=0).fit(X, y[:, 0]).predict(X).shape == (200,)


@pytest.mark.parametrize("shape", [1, 2])
def test_two_classes_by_one_logit(shape):
    module = nn.Linear(20, 1) if shape == 2 else nn.Sequential(nn.Linear(20, 1), nn.Flatten(0))
    net = NeuralNetBinaryClassifier(module, max_epochs=20, lr=0.1, verbose=0).fit(X, y)
    assert net.score(X, y) > 0.7
    logits = net.module_(torch.tensor(X)).detach().reshape(-1)
    np.testing.assert_allclose(net.predict_proba(X)[:, 1], logits.sigmoid(), atol=1e-6)
    assert net.history[-1, "valid_acc"] > 0.6
    with pytest.raises(BadValue, match="two classes"):
        net.fit(*load_iris(return_X_y=True))


def test_any_targets_with_the_loss_as_it_is():
    net = NeuralNet(lambda: nn.Linear(20, 5), nn.L1Loss, verbose=0, predict_nonlinearity=torch.relu).fit(X, X[:, :5])
    assert net.predict(X).shape == (200, 5)
    assert (net.predict(X) >= 0).all()
    with pytest.raises(BadValue, match="needs a loss"):
        NeuralNet(nn.Linear(20, 5)).fit(X, X[:, :5])


def test_dicts_and_data_sets_through_searches():
    class Two(nn.Module):
        def __init__(self, num_units=4):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(20, num_units), nn.ReLU(), nn.Linear(num_units, 2))

        def forward(self, left, right):
            return self.layers(torch.cat([left, right], 1))

    both = SliceDict(left=X[:, :8], right=X[:, 8:])
    net = NeuralNetClassifier(Two, nn.CrossEntropyLoss, max_epochs=10, lr=0.1, verbose=0)
    search = GridSearchCV(net, {"module__num_units": [4, 8]}, cv=3, error_score="raise").fit(both, y)
    assert search.best_score_ > 0.6
    data = TensorDataset(torch.tensor(X), torch.tensor(y))
    params = {"lr": [0.05, 0.1], "module__num_units": [5, 10]}
    for inputs, targets in ((SliceDataset(data, 0), SliceDataset(data, 1)), (SliceDataset(data), y)):
        search = GridSearchCV(classifier(), params, cv=2, error_score="raise").fit(inputs, np.asarray(targets))
        assert search.predict(inputs).shape == (200,)
    plain = classifier(random_state=0).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(classifier(random_state=0).fit(data).predict_proba(data), plain, atol=1e-6)
    with pytest.raises(BadValue, match="differ in length"):
        SliceDict(a=X, b=y[:3])


def test_halving_importances_and_scores():
    search = HalvingRandomSearchCV(
        classifier(), {"lr": [0.01, 0.05, 0.1, 0.2]}, resource="max_epochs", max_resources=4, cv=2, random_state=0,
        error_score="raise",
    )  # fmt: skip
    assert search.fit(X, y).best_params_["max_epochs"] > 1
    assert permutation_importance(search.best_estimator_, X, y, n_repeats=2).importances_mean.shape == (20,)
    scores = cross_validate(classifier(), X, y, cv=3, scoring=["accuracy", "roc_auc"], error_score="raise")
    assert scores["test_roc_auc"].shape == (3,)


def test_parameters_go_to_a_file_and_come_back(tmp_path):
    net = classifier().fit(X, y)
    net.save_params(f_params=tmp_path / "net.safetensors")
    other = classifier().initialize()
    other.load_params(f_params=tmp_path / "net.safetensors")
    np.testing.assert_array_equal(other.predict_proba(X), net.predict_proba(X))
    np.testing.assert_array_equal(other.predict(X), net.predict(X))
    torch.save(net.module_.state_dict(), tmp_path / "net.pt")
    other.initialize().load_params(f_params=tmp_path / "net.pt")
    np.testing.assert_array_equal(other.predict_proba(X), net.predict_proba(X))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(net)).predict_proba(X), net.predict_proba(X))


def test_optimizer_and_history_go_on_from_their_files(tmp_path):
    files = {f"f_{name}": tmp_path / name for name in ("params", "optimizer", "criterion", "history")}
    options = {"optimizer__momentum": 0.9, "criterion": nn.CrossEntropyLoss(torch.tensor([1.0, 3.0])), "verbose": 0}

    def net():
        return NeuralNetClassifier(nn.Linear(20, 2), random_state=0, **options)

    first = net().fit(X, y)
    first.save_params(**files)
    second = net().initialize()
    assert second.initialized_
    second.load_params(**files)
    assert second.history == first.history
    for one in (first, second):
        one.partial_fit(X, y)
    np.testing.assert_array_equal(second.predict_proba(X), first.predict_proba(X))
    np.testing.assert_array_equal(second.forward(X).softmax(1), first.predict_proba(X))
    assert torch.equal(second.criterion_.weight, torch.tensor([1.0, 3.0]))


def test_files_that_do_not_belong_together_change_nothing(tmp_path):
    net = NeuralNetClassifier(nn.Linear(20, 2), nn.CrossEntropyLoss, verbose=0).fit(X, y)
    net.save_params(tmp_path / "params", f_history=tmp_path / "history")
    before = net.predict_proba(X)
    (tmp_path / "wrong").write_text('{"epoch": 1}')
    other = NeuralNetClassifier(nn.Linear(20, 3), nn.CrossEntropyLoss, verbose=0).initialize()
    with pytest.raises(CannotRestore, match="weight"):
        other.load_params(tmp_path / "params")
    for wrong in ({"f_optimizer": tmp_path / "params"}, {"f_history": tmp_path / "wrong"}):
        with pytest.raises(BadFile):
            net.load_params(tmp_path / "params", **wrong)
    with pytest.raises(BadValue, match="no file is given"):
        net.save_params()
    np.testing.assert_array_equal(net.predict_proba(X), before)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(20, 2)

    def forward(self, left, right):
        return self.layer(torch.cat([left, right], 1)).softmax(-1)


def test_parameters_of_a_module_with_inputs_by_name_come_back_too(tmp_path):
    both = {"right": X[:, 10:], "left": X[:, :10]}
    net = NeuralNetClassifier(Two, max_epochs=2, verbose=0).fit(both, y)
    net.save_params(tmp_path / "net")
    other = NeuralNetClassifier(Two, max_epochs=2, verbose=0).initialize()
    other.load_params(tmp_path / "net")
    np.testing.assert_array_equal(other.predict_proba(both), net.predict_proba(both))
    other.partial_fit(both, y)
    logits = other.module_.layer(torch.tensor(X)).detach()
    np.testing.assert_allclose(other.predict_proba(both), logits.softmax(1), atol=1e-6)


def test_a_loaded_classifier_of_two_classes_has_a_probability_for_each(tmp_path):
    net = NeuralNetBinaryClassifier(nn.Linear(20, 1), verbose=0).fit(X, y)
    net.save_params(tmp_path / "net")
    other = NeuralNetBinaryClassifier(nn.Linear(20, 1), verbose=0).initialize()
    other.load_params(tmp_path / "net")
    np.testing.assert_array_equal(other.predict_proba(X), net.predict_proba(X))


@pytest.mark.parametrize("kind", [nn.NLLLoss, nn.CrossEntropyLoss, nn.BCELoss, nn.BCEWithLogitsLoss])
def test_metrics_read_outputs_as_the_loss_does(kind):
    layers = {
        nn.NLLLoss: [nn.Linear(20, 2), nn.Softmax(-1)],
        nn.CrossEntropyLoss: [nn.Linear(20, 2)],
        nn.BCELoss: [nn.Linear(20, 1), nn.Sigmoid()],
        nn.BCEWithLogitsLoss: [nn.Linear(20, 1)],
    }[kind]
    estimator = NeuralNetClassifier if kind in (nn.NLLLoss, nn.CrossEntropyLoss) else NeuralNetBinaryClassifier
    metrics = ["accuracy", "neg_log_loss"]
    net = estimator(nn.Sequential(*layers), kind, lr=0.1, verbose=0, metrics=metrics).fit(X, y)
    _, valid = next(StratifiedKFold(5).split(X, y))
    assert net.history[-1, "accuracy"] == pytest.approx(net.score(X[valid], y[valid]))
    assert net.history[-1, "neg_log_loss"] == pytest.approx(-log_loss(y[valid], net.predict_proba(X[valid])), rel=1e-4)


def test_scores_for_a_loss_of_probabilities_are_refused():
    with pytest.raises(BadValue, match="returns scores") as error:
        NeuralNetClassifier(nn.Linear(20, 2), verbose=0).fit(X, y)
    assert "criterion=nn.CrossEntropyLoss" in str(error.value)
    net = NeuralNetClassifier(nn.Sequential(nn.Linear(20, 2), nn.LogSoftmax(-1)), verbose=0).fit(X, y)
    np.testing.assert_allclose(net.predict_proba(X).sum(1), 1, atol=1e-5)


def test_parts_that_were_changed_are_made_anew_where_training_goes_on():
    net = classifier(warm_start=True).fit(X, y)
    weight = net.module_.dense0.weight.clone()
    net.set_params(optimizer__momentum=0.9, lr=0.0).partial_fit(X, y)
    assert net.learner_.opt.param_groups[0]["momentum"] == 0.9
    torch.testing.assert_close(net.module_.dense0.weight, weight)
    assert net.history[:, "epoch"] == [1, 2, 3, 4, 5, 6]
    net.set_params(module__num_units=7).fit(X, y)
    assert net.module_.dense0.out_features == 7


def test_a_fit_that_fails_changes_nothing():
    names = np.array(["no", "yes"])[y]
    net = NeuralNetBinaryClassifier(nn.Linear(20, 1), lr=0.1, verbose=0).fit(X, names)
    before = net.predict(X)
    for wrong in (np.arange(200) % 3, names[:9]):
        with pytest.raises(BadValue):
            net.fit(X, wrong)
        np.testing.assert_array_equal(net.predict(X), before)


def test_batches_without_any_weight_teach_nothing():
    weights, other = np.repeat([0.0, 1.0], [130, 70]), TensorDataset(torch.tensor(X[:30]), torch.tensor(y[:30]))
    for split in (None, predefined_split(other)):
        net = classifier(train_split=split, batch_size=64).fit(X, y, sample_weight=weights)
        assert np.isfinite(net.predict_proba(X)).all()


def test_callbacks_are_left_out_and_replaced_by_name():
    def patience(**kwargs):
        net = classifier(callbacks=[("stop", EarlyStoppingCallback)], max_epochs=1, **kwargs).fit(X, y)
        return [cb.patience for cb in net.learner_.cbs if isinstance(cb, EarlyStoppingCallback)]

    assert patience(callbacks__stop__patience=9) == [9]
    assert patience(callbacks__stop=EarlyStoppingCallback(patience=7)) == [7]
    assert patience(callbacks__stop=None) == []
    classifier(callbacks="disable", max_epochs=1).fit(X, y)


def test_what_would_never_be_called_or_found_is_refused():
    with pytest.raises(BadValue, match="get_loss"):
        type("Own", (NeuralNetClassifier,), {"get_loss": lambda *args: None})
    net = classifier(predict_nonlinearity="softmax").fit(X, y)
    with pytest.raises(BadValue, match="predict_nonlinearity"):
        net.predict(X)
    with pytest.raises(BadValue, match="rows of epochs"):
        net.history[-1, "batches", -1, "train_loss"]
    with pytest.raises(UnknownName, match="valid_acc"):
        net.history[:, "valid_accuracy"]


def skorch_callback(name):
    """A class of skorch's callbacks, as it is seen without skorch."""
    return type(name, (), {"__module__": "skorch.callbacks.training"})


def test_a_callback_of_skorch_is_refused_with_what_does_its_job():
    with pytest.raises(
        BadValue, match=r"EarlyStopping is a callback of skorch[\s\S]*EarlyStoppingCallback\(patience=5\)"
    ):
        classifier(callbacks=[("stopper", skorch_callback("EarlyStopping")())]).fit(X, y)
    mine = type("Mine", (skorch_callback("EpochScoring"),), {"__module__": "mine"})
    with pytest.raises(BadValue, match=r"Mine is a callback of skorch[\s\S]*metrics="):
        classifier(callbacks=[mine]).fit(X, y)


def test_the_page_names_what_does_the_job_of_each_callback_of_skorch_and_it_does(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "sklearn.md").read_text()
    assert all(f"`{name}" in page for name in CALLBACKS)
    monkeypatch.chdir(tmp_path)
    lines = {
        "EarlyStoppingCallback(patience=5)": EarlyStoppingCallback(patience=5),
        "SaveModelCallback()": SaveModelCallback(),
        "GradientClip(1.0)": GradientClip(1.0),
        "TorchScheduler(partial(StepLR, step_size=5), each='epoch')": TorchScheduler(
            partial(StepLR, step_size=5), each="epoch"
        ),
        "TorchScheduler(partial(CosineAnnealingWarmRestarts, T_0=10), each='epoch')": TorchScheduler(
            partial(CosineAnnealingWarmRestarts, T_0=10), each="epoch"
        ),
    }
    for line, callback in lines.items():
        assert any(named.startswith(line) for named in CALLBACKS.values())
        classifier(callbacks=[callback]).fit(X, y)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_a_threshold_decides_and_is_what_accuracy_counts_by(threshold):
    net = NeuralNetBinaryClassifier(nn.Linear(20, 1), threshold=threshold, max_epochs=2, verbose=0, random_state=0)
    net = clone(net).fit(X, y)
    np.testing.assert_array_equal(net.predict(X), (net.predict_proba(X)[:, 1] > threshold).astype(int))
    _, valid = next(StratifiedKFold(5).split(X, y))
    assert net.history[-1, "valid_acc"] == pytest.approx(net.score(X[valid], y[valid]))
    assert pickle.loads(pickle.dumps(net)).get_params()["threshold"] == threshold
    with pytest.raises(BadValue, match="threshold is not a probability"):
        net.set_params(threshold=2).predict(X)


def test_classes_that_a_fit_does_not_see_are_named():
    module = nn.Sequential(nn.Linear(20, 3), nn.Softmax(dim=-1))
    net = NeuralNetClassifier(module, classes=["a", "b", "c"], max_epochs=1, verbose=0)
    net = clone(net).fit(X, np.where(y, "a", "c"))
    assert net.classes_.tolist() == ["a", "b", "c"]
    assert net.predict_proba(X).shape == (200, 3)
    for classes, match in ((["b", "a"], "sorted order"), (["a"], "does not know")):
        with pytest.raises(BadValue, match=match):
            clone(net).set_params(classes=classes).fit(X, np.where(y, "a", "c"))
    assert clone(net).set_params(classes=[]).fit(X, y).classes_.tolist() == [0, 1]
