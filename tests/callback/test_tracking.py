"""Trackers act on the epoch at which their column stops improving."""

import operator

import pytest
import torch
from torch import nn

from layered.callback import (
    EarlyStoppingCallback,
    ReduceLROnPlateau,
    SaveModelCallback,
    TerminateOnNaNCallback,
    TrackerCallback,
    lr_find,
)
from layered.foundation import BadValue, UnknownName
from layered.loop import Callback, Loop


class Script(Callback):
    """Writes what the validation loss of each epoch shall be."""

    order = 51

    def __init__(self, values):
        self.values = values

    def after_epoch(self):
        if self.fitting and self.recorder.values:
            self.recorder.values[-1][1] = self.values[self.epoch]


def learner(values, cbs, path=".", valid=True) -> Loop:
    x = torch.ones(4, 2)
    batches = [(x, x.sum(1, keepdim=True))]
    learn = Loop(
        (batches, batches if valid else None), nn.Linear(2, 1), nn.MSELoss(), cbs=[Script(values), cbs], path=path
    )
    learn.logger = lambda row: None
    return learn


@pytest.mark.parametrize(
    ("kwargs", "best"),
    [({}, [3, 2, 2, 1]), ({"min_delta": 1.5}, [3, 3, 3, 1]), ({"comp": operator.gt}, [3, 3, 5, 5])],
)
def test_the_best_value_is_tracked(kwargs, best):
    tracker, seen = TrackerCallback(**kwargs), []
    learn = learner([3.0, 2.0, 5.0, 1.0], tracker)
    learn.on("after_epoch")(lambda: None)
    learn.add_cb(type("See", (Callback,), {"order": 99, "after_epoch": lambda self: seen.append(tracker.best)})())
    learn.fit(4)
    assert seen == best


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 4), (3, 6)])
def test_early_stopping_waits_for_its_patience(patience, epochs, capsys):
    learn = learner([3.0, 2.0, 2.5, 2.5, 1.0, 1.5, 1.0], EarlyStoppingCallback(patience=patience))
    learn.fit(6)
    assert len(learn.recorder.values) == epochs
    assert ("early stopping" in capsys.readouterr().out) == (epochs < 6)


def test_the_rate_falls_on_a_plateau_and_not_below_its_least():
    learn = learner([3.0, 3.0, 3.0, 3.0], ReduceLROnPlateau(min_lr=1e-3))
    learn.fit(4, lr=0.1)
    assert learn.recorder.lrs == pytest.approx([0.1, 0.1, 0.01, 0.001])


def test_the_best_model_is_saved_and_back_at_the_end(tmp_path, capsys):
    learn = learner([3.0, 1.0, 2.0], SaveModelCallback(fname="best"), tmp_path)
    kept = []
    learn.on("after_epoch")(lambda: kept.append(learn.model.weight.tolist()))
    learn.fit(3)
    assert learn.model.weight.tolist() == kept[1]
    assert (tmp_path / "models" / "best.layered").exists()
    assert capsys.readouterr().out.count("Better model found") == 2


def test_every_epoch_or_the_end_can_be_saved_instead(tmp_path):
    learner([3.0, 1.0, 2.0], SaveModelCallback(every_epoch=2), tmp_path).fit(3)
    assert sorted(f.name for f in (tmp_path / "models").iterdir()) == ["model_0.layered", "model_2.layered"]
    learner([3.0, 1.0, 2.0], SaveModelCallback(every_epoch=5, at_end=True, fname="end"), tmp_path).fit(3)
    assert (tmp_path / "models" / "end.layered").exists()


def test_a_loss_that_is_not_finite_ends_the_fit():
    learn = learner([1.0, 1.0], TerminateOnNaNCallback())
    learn.loss_func = lambda pred, targ: (pred - targ).mean() * float("inf")
    with pytest.warns(UserWarning, match="epoch 0, batch 0"):
        learn.fit(2)
    assert learn.train_iter == 1


def test_unknown_columns_and_missing_values_are_named():
    with pytest.raises(UnknownName, match="valid_loss"):
        learner([1.0], TrackerCallback("valid_los")).fit(1)
    with pytest.raises(BadValue, match="no value"):
        learner([None], TrackerCallback(), valid=False).fit(1)


def test_trackers_look_away_while_a_rate_is_sought(tmp_path):
    learn = learner([1.0] * 200, SaveModelCallback(), tmp_path)
    learn.remove_cb(Script)
    lr_find(learn, show_plot=False)
    learn.validate()
    assert list(tmp_path.iterdir()) == []


def test_skipped_epochs_and_values_that_are_no_numbers_do_not_count(tmp_path):
    nan = float("nan")
    learn = learner([9.0, 9.0, 3.0, 2.0, 1.0], EarlyStoppingCallback(patience=1))
    learn.fit(5, start_epoch=2)
    assert len(learn.recorder.values) == 3
    tracker = TrackerCallback()
    learner([nan, 3.0, nan], tracker).fit(3)
    assert tracker.best == 3.0
    for made in (EarlyStoppingCallback, ReduceLROnPlateau):
        with pytest.raises(BadValue, match="patience"):
            made(patience=0)


def test_the_best_epochs_stay_and_the_best_of_them_is_back_at_the_end(tmp_path):
    save = SaveModelCallback(keep=2)
    learn = learner([3.0, 5.0, 1.0, 2.0, 4.0, float("nan")], save, tmp_path)
    weights = []
    learn.on("after_epoch")(lambda: weights.append(learn.model.weight.tolist()))
    learn.fit(6)
    assert sorted(f.name for f in (tmp_path / "models").iterdir()) == ["model_2.layered", "model_3.layered"]
    assert [(value, epoch) for value, epoch, _ in save.kept] == [(1.0, 2), (2.0, 3)]
    assert learn.model.weight.tolist() == weights[2]
    learn.load("model_3")
    assert learn.model.weight.tolist() == weights[3]
    with pytest.raises(BadValue, match="keep"):
        SaveModelCallback(keep=2, every_epoch=True)


@pytest.mark.parametrize("keep", [None, 2])
def test_a_resumed_fit_goes_on_comparing_with_what_was_best(tmp_path, keep):
    values = [3.0, 1.0, 4.0, 2.0, 5.0]

    def fresh():
        torch.manual_seed(0)
        return learner(values, SaveModelCallback(keep=keep, with_opt=True), tmp_path)

    plain = fresh()
    plain.fit(5)
    expected = plain.model.weight.tolist()

    def crash(cb):
        if cb.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fresh().fit(5, checkpoint=tmp_path / "kept", cbs=Callback(before_train=crash))
    again = fresh()
    again.fit(5, checkpoint=tmp_path / "kept", resume="auto", cbs=Callback())
    assert again.save_model.best == 1.0
    assert again.model.weight.tolist() == expected


def test_no_logging_silences_trackers_too(tmp_path, capsys):
    learn = learner([1.0, 2.0], [SaveModelCallback(), EarlyStoppingCallback()], tmp_path)
    with learn.no_logging():
        learn.fit(3)
    assert capsys.readouterr().out == ""
