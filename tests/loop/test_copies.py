"""A copy of a learner trains, validates and predicts by itself, and goes on where the learner was."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from layered.callback import EarlyStoppingCallback, GradientAccumulation, SaveModelCallback
from layered.data import DataLoaders
from layered.loop import Callback
from layered.metrics import mae
from layered.optim import SGD, Adam
from layered.training import Learner

joblib = pytest.importorskip("joblib")
sklearn_base = pytest.importorskip("sklearn.base")


def through_joblib(learn, folder):
    joblib.dump(learn, folder / "learner")
    return joblib.load(folder / "learner")


def through_torch(learn, folder):
    torch.save(learn, folder / "learner")
    return torch.load(folder / "learner", weights_only=False)


WAYS = {
    "copy": lambda learn, folder: copy.copy(learn),
    "deepcopy": lambda learn, folder: copy.deepcopy(learn),
    "pickle": lambda learn, folder: pickle.loads(pickle.dumps(learn)),
    "joblib": through_joblib,
    "torch": through_torch,
    "clone": lambda learn, folder: sklearn_base.clone(learn, safe=False),
}
KINDS = {
    "plain": {},
    "torch's optimizer": {"opt_func": torch.optim.AdamW},
    "two optimizers": {"opt_func": {"0": SGD, "1": SGD, "2": Adam}},
    "callbacks": {"cbs": [EarlyStoppingCallback, SaveModelCallback, GradientAccumulation(16)]},
}


def dataset(count):
    x = torch.randn(count, 3, generator=torch.Generator().manual_seed(count))
    return TensorDataset(x, x.sum(1, keepdim=True))


def learner(folder, ours=True, **kwargs) -> Learner:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    sets = dataset(32), dataset(16)
    dls = DataLoaders.from_dsets(*sets, bs=8) if ours else tuple(DataLoader(s, 8, shuffle=True) for s in sets)
    return Learner(dls, model, nn.MSELoss(), metrics=mae, path=folder, **kwargs)


def fit(learn):
    torch.manual_seed(7)
    with learn.no_bar(), learn.no_logging():
        learn.fit(2, 1e-2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_a_copy_goes_on_as_the_learner_and_leaves_it_alone(tmp_path, way, ours, kind):
    learn = learner(tmp_path, ours, **KINDS[kind])
    fit(learn)
    again = WAYS[way](learn, tmp_path)
    before, values = copy.deepcopy(learn.model.state_dict()), list(learn.recorder.values)
    assert again.recorder.values == values
    fit(again)
    assert_close(learn.model.state_dict(), before, rtol=0, atol=0)
    assert learn.recorder.values == values
    assert learn.recorder.learn is learn
    assert again.recorder.learn is again
    fit(learn)
    assert_close(again.model.state_dict(), learn.model.state_dict(), rtol=0, atol=0)
    assert again.recorder.values == learn.recorder.values
    assert again.validate() == pytest.approx(learn.validate())
    assert_close(again.get_preds(), learn.get_preds())


def test_copy_shares_the_loaders_and_deepcopy_does_not(tmp_path):
    learn = learner(tmp_path)
    assert copy.copy(learn).dls is learn.dls
    assert copy.deepcopy(learn).dls is not learn.dls


def test_a_copy_made_during_a_fit_has_the_callbacks_that_stay(tmp_path):
    copies = []

    class Snapshot(Callback):
        def after_epoch(self):
            copies.append(copy.copy(self.learn))

    learn = learner(tmp_path)
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(2, 1e-2, cbs=Snapshot)
    assert [type(cb).__name__ for cb in copies[0].cbs] == ["TrainEvalCallback", "Recorder", "CastToTensor"]
    assert not copies[0].fitting
    fit(copies[0])
    assert copies[0].opt.hypers[0]["lr"] == 1e-2


def test_folds_are_trained_by_copies_of_one_learner(tmp_path):
    learn, scores = learner(tmp_path), []
    for fold in (16, 24):
        one = copy.copy(learn)
        one.dls = DataLoaders.from_dsets(dataset(fold), dataset(16), bs=8)
        fit(one)
        scores.append(one.validate()[0])
    assert scores[0] != scores[1]
    assert learn.opt is None
