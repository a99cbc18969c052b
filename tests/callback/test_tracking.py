"""Trackers act on the epoch at which their column stops improving."""

import operator

import numpy as np
import pytest
import sklearn.metrics as sk
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
from layered.foundation import BadArgument, BadValue, UnknownName
from layered.loop import Callback, CancelFitException, CancelValidException, Loop
from layered.metrics import AccumMetric, Metric, MetricSet, mae, mk_metric, mse, rmse, skm_to_fastai

mae_metric = mk_metric(mae)


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


def gap(pred, targ):
    return (pred - targ).abs().mean()


class Gap(Metric):
    state = ("total",)

    def update(self, pred, targ):
        self.total = self.total + (pred - targ).abs().sum()

    def compute(self):
        return self.total


class DeclaredGap(Gap):
    higher_is_better = False


class Foreign:
    """A metric in the form of torchmetrics."""

    higher_is_better = False

    def reset(self):
        self.total = 0.0

    def update(self, pred, targ):
        self.total += float((pred - targ).abs().sum())

    def compute(self):
        return self.total


def planned(outputs, metrics, *cbs, **kwargs) -> Loop:
    """A learner whose predictions are off by `outputs`, one an epoch."""
    x = torch.ones(4, 2)
    batches = [(x, torch.full((4, 1), 0.5))]
    set_output = Callback(before_validate=lambda cb: nn.init.constant_(cb.model.bias, outputs[cb.epoch] + 0.5))
    learn = Loop((batches, batches), nn.Linear(2, 1), nn.MSELoss(), metrics=metrics, cbs=[set_output, *cbs], **kwargs)
    nn.init.zeros_(learn.model.weight).requires_grad_(False)
    learn.logger = lambda row: None
    return learn


FALLING = {
    "rmse": rmse, "mae": mae, "mse": mse, "declared": DeclaredGap(), "torchmetrics": Foreign(), "minus": -(-mae_metric),
    "my_loss": gap, "msle": gap, "mean_absolute_error": skm_to_fastai(sk.mean_absolute_error, is_class=False),
}  # fmt: skip
RISING = {
    "neg_mean_absolute_error": "neg_mean_absolute_error", "neg_root_mean_squared_error": "neg_root_mean_squared_error",
    "minus": -mae_metric, "accuracy": lambda p, t: -gap(p, t),
    "scorer": sk.make_scorer(sk.mean_squared_error, greater_is_better=False),
}  # fmt: skip


@pytest.mark.parametrize(("name", "metric"), [*FALLING.items(), *RISING.items()])
def test_the_epoch_with_the_smallest_error_is_the_best(name, metric, tmp_path):
    tracker, save = TrackerCallback(name), SaveModelCallback(name, keep=2)
    learn = planned([3.0, 1.0, 2.0, 4.0], {name: metric}, tracker, save, path=tmp_path)
    learn.fit(4)
    assert tracker.best_epoch == 1
    assert [epoch for _, epoch, _ in save.kept] == [1, 2]


@pytest.mark.parametrize("metric", [gap, Gap(), 1 - mae_metric, {"fid_score": gap}, {"neg_loss": gap}])
def test_a_tracker_asks_which_way_is_better_where_it_cannot_know(metric, tmp_path):
    name = MetricSet(metric).names[0]
    learn = planned([3.0, 1.0, 2.0], metric, path=tmp_path)
    with pytest.raises(BadValue, match="cannot tell whether larger or smaller") as error:
        learn.fit(3, cbs=SaveModelCallback(name))
    fixes = error.value.fix.split(", ")
    assert len(fixes) == 4
    learn.fit(3, cbs=eval(f"{fixes[0]}, {fixes[1].partition(' if')[0]}"))
    assert learn.model.bias.item() == pytest.approx(1.5 if "1 - " in name else 3.5)


@pytest.mark.parametrize(
    "comp", ["min", min, np.less, np.less_equal, np.minimum, operator.lt, lambda new, best: new < best - 0.5]
)
def test_comp_says_which_way_is_better_in_any_usual_form(comp):
    tracker = TrackerCallback("gap", comp=comp)
    planned([3.0, 1.0, 2.0], gap, tracker).fit(3)
    assert (tracker.best, tracker.best_epoch) == (1.0, 1)


@pytest.mark.parametrize("comp", ["max", max, np.greater, np.maximum, operator.ge])
def test_comp_can_turn_the_way_of_a_metric_round(comp):
    tracker = TrackerCallback("mae", comp=comp, min_delta=0.5)
    planned([3.0, 1.0, 3.4, 3.6], mae, tracker).fit(4)
    assert tracker.best == pytest.approx(3.6)


@pytest.mark.parametrize("comp", ["smaller", 1, lambda new, best: True, lambda new: new, abs, []])
def test_a_comp_that_tells_nothing_is_refused(comp):
    with pytest.raises(BadArgument, match="comp does not tell"):
        EarlyStoppingCallback(comp=comp)


def test_early_stopping_names_the_best_epoch_and_a_loss_that_was_never_a_number(capsys):
    learner([2.0, 1.0, 3.0, 4.0, 5.0], EarlyStoppingCallback(patience=2)).fit(5)
    learner([float("nan")] * 3, EarlyStoppingCallback(patience=2)).fit(3)
    assert capsys.readouterr().out.splitlines() == [
        "No improvement since epoch 1: early stopping", "valid_loss was NaN from the start: early stopping"
    ]  # fmt: skip


def test_epochs_without_validation_do_not_count():
    def skip(cb):
        if cb.epoch % 2:
            raise CancelValidException

    seen = []
    stop = EarlyStoppingCallback(patience=2)
    learn = planned([3.0, 0.0, 2.0, 0.0, 2.5, 0.0, 2.5, 0.0, 2.5], mae, stop, Callback(before_validate=skip))
    learn.on("after_epoch", lambda: seen.append(learn.recorder.values[-1][1:]))
    learn.fit(9)
    assert [row[1] for row in seen] == pytest.approx([3.0, None, 2.0, None, 2.5, None, 2.5])
    assert seen[1] == [None, None]


def test_without_validation_data_a_tracker_says_so_before_the_fit(tmp_path):
    for valid in (None, []):
        batches = [(torch.ones(4, 2), torch.zeros(4, 1))]
        learn = Loop((batches, valid), nn.Linear(2, 1), nn.MSELoss(), path=tmp_path)
        learn.logger = lambda row: None
        with pytest.raises(BadValue, match="no value without validation data"):
            learn.fit(1, cbs=SaveModelCallback())
        assert learn.train_iter == 0
        learn.fit(2, cbs=[SaveModelCallback(monitor="train_loss"), SaveModelCallback(every_epoch=True, fname="each")])
        assert {file.name for file in (tmp_path / "models").iterdir()} == {
            "model.layered", "each_0.layered", "each_1.layered"
        }  # fmt: skip


def test_a_metric_of_several_numbers_cannot_be_watched():
    each = AccumMetric(lambda p, t: torch.stack([p.mean(), t.mean()]), name="each")
    each.higher_is_better = True
    with pytest.raises(BadValue, match="not one number"):
        planned([1.0], each, TrackerCallback("each")).fit(1)


def test_a_fit_that_is_cancelled_before_it_begins_loads_nothing(tmp_path):
    learn = learner([2.0, 1.0, 3.0], SaveModelCallback(), tmp_path)
    learn.fit(2)
    nn.init.zeros_(learn.model.weight)

    def cancel(cb):
        raise CancelFitException

    learn.fit(1, cbs=Callback(before_fit=cancel))
    assert not learn.model.weight.any()


def test_a_look_at_results_leaves_the_list_of_the_best_epochs(tmp_path):
    save = SaveModelCallback(keep=2)
    learn = learner([2.0, 1.0, 3.0], save, tmp_path)
    learn.fit(3)
    kept = list(save.kept)
    learn.remove_cb(Script)
    learn.validate()
    assert save.kept == kept
    assert len(kept) == 2


@pytest.mark.parametrize(
    ("first", "second", "share"),
    [
        ({}, {"monitor": "train_loss"}, True),
        ({}, {"every_epoch": True, "at_end": True}, True),
        ({"keep": 2}, {"every_epoch": True}, True),
        ({}, {"every_epoch": True}, False),
        ({}, {"fname": "other"}, False),
        ({"keep": 2}, {"fname": "other", "keep": 2}, False),
    ],
)
def test_two_that_would_write_to_the_same_files_are_refused(tmp_path, first, second, share):
    learn = learner([3.0, 2.0], [SaveModelCallback(**first), SaveModelCallback(**second)], tmp_path)
    if share:
        with pytest.raises(BadValue, match=r"two SaveModelCallbacks.*(\n.*)*fname='other'"):
            learn.fit(2)
        assert not (tmp_path / "models").exists()
    else:
        learn.fit(2)
        assert len(list((tmp_path / "models").iterdir())) >= 2
