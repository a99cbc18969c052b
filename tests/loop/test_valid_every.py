"""A fit validates as often as it is asked to: after so many epochs, or in the middle of them after so many batches."""

import copy

import pytest
import torch
from torch import nn

from layered.callback import (
    CSVLogger,
    EarlyStoppingCallback,
    SaveModelCallback,
    ShowGraphCallback,
    StopWhen,
    fit_one_cycle,
)
from layered.foundation import BadValue, CannotRestore
from layered.loop import Callback, Checkpoint, Loop, Recorder

X = torch.randn(20, 2, generator=torch.Generator().manual_seed(1))
BATCHES = [(x, x.sum(1, keepdim=True)) for x in X.split(2)]  # ten
VALID = BATCHES[:3]


def gap(pred, targ):
    return (pred - targ).abs().mean()


def learner(cbs=None, **kwargs) -> Loop:
    torch.manual_seed(0)
    learn = Loop((BATCHES, VALID), nn.Linear(2, 1), nn.MSELoss(), metrics=gap, cbs=cbs, lr=0.01, **kwargs)
    learn.logger = lambda row: None
    return learn


def columns(learn, *positions):
    return [[row[i] is not None for i in positions] for row in learn.recorder.values]


@pytest.mark.parametrize("every", [2, "2 epochs"])
def test_after_every_second_epoch(every):
    learn, plain = learner(), learner()
    learn.fit(5, valid_every=every)
    plain.fit(5)
    assert columns(learn, 0, 1, 2) == [[True, v, v] for v in (False, True, False, True, False)]
    assert [row for row in learn.recorder.values if row[1] is not None] == plain.recorder.values[1::2]
    assert learn.model.weight.tolist() == plain.model.weight.tolist()
    learn.fit(1)
    assert columns(learn, 1) == [[True]]


def test_after_every_so_many_batches_with_a_row_each_time():
    losses = {}

    def see(cb):
        if cb.training and cb.train_iter % 4 == 0:
            model = copy.deepcopy(cb.model).eval()
            losses[cb.train_iter] = sum(cb.loss_func(model(x), y).item() for x, y in VALID) / 3

    learn, plain = learner(Callback(after_batch=see)), learner()
    learn.fit(2, valid_every="4 batches")
    plain.fit(2)
    assert learn.recorder.epochs == [0, 0, 0, 1, 1, 1]
    assert learn.recorder.iters == [4, 8, 10, 12, 16, 20]
    values = dict(zip(learn.recorder.iters, learn.recorder.values, strict=True))
    assert {i: row[1] for i, row in values.items() if row[1] is not None} == pytest.approx(losses)
    assert values[10][1:] == [None, None]
    assert [values[10][0], values[20]] == [plain.recorder.values[0][0], plain.recorder.values[1]]
    assert learn.model.weight.tolist() == plain.model.weight.tolist()
    assert learn.recorder.lrs == plain.recorder.lrs


def test_metrics_of_the_training_pass_are_not_disturbed_by_validation_in_its_middle():
    learn, plain = (learner(default_cbs=True) for _ in range(2))
    for one in (learn, plain):
        one.remove_cb(Recorder).add_cb(Recorder(train_metrics=True))
    learn.on("after_batch", lambda learn: learn.training and learn.validate())
    learn.fit(1, valid_every="4 batches")
    plain.fit(1)
    assert learn.recorder.metric_names == ["epoch", "train_loss", "train_gap", "valid_loss", "valid_gap", "time"]
    assert [row[1] for row in learn.recorder.values] == [None, None, plain.recorder.values[0][1]]


def test_what_watches_or_logs_rows_gets_those_in_the_middle_too(tmp_path):
    log, save, rows = CSVLogger(), SaveModelCallback(keep=2), []
    learn = learner([log, save, StopWhen(rows.append)], path=tmp_path)
    learn.fit(2, valid_every="4 batches")
    frame = log.read_log()
    assert frame["epoch"].tolist() == [0, 0, 0, 1, 1, 1] == [row["epoch"] for row in rows]
    assert frame["valid_loss"].isna().tolist() == [False, False, True, False, False, False]
    assert [path.rpartition("/")[2] for _, _, path in save.kept] == ["model_1.layered", "model_1-16.layered"]
    assert len(list((tmp_path / "models").iterdir())) == 2


def test_a_fit_is_ended_in_the_middle_of_an_epoch():
    learn = learner(EarlyStoppingCallback(patience=2, min_delta=100.0))
    learn.fit(2, valid_every="3 batches")
    assert learn.recorder.iters == [3, 6, 9]
    assert learn.train_iter == 9


def test_scheduled_fits_take_it_and_what_never_validates_is_named(tmp_path):
    learn = learner(path=tmp_path)
    with pytest.warns(UserWarning, match="saw no value of 'valid_loss'"):
        fit_one_cycle(learn, 2, valid_every=3, cbs=SaveModelCallback())
    assert columns(learn, 1) == [[False], [False]]


@pytest.mark.parametrize("every", [0, -1, "10 min", "2 fits", 1.5, None])
def test_other_durations_are_refused(every):
    with pytest.raises(BadValue):
        learner().fit(1, valid_every=every)


def test_a_resumed_fit_validates_where_the_undisturbed_one_does(tmp_path):
    plain = learner(CSVLogger(append=True), path=tmp_path / "plain")
    plain.fit(2, valid_every="4 batches")

    def crash(cb):
        if cb.training and cb.train_iter == at:
            raise KeyboardInterrupt

    for at in (8, 9, 10, 16):
        checkpoint = Checkpoint(tmp_path / str(at), every="1 batch")
        crashing = learner([CSVLogger(append=True), Callback(after_loss=crash)], path=tmp_path / f"run{at}")
        with pytest.raises(KeyboardInterrupt):
            crashing.fit(2, valid_every="4 batches", checkpoint=checkpoint)
        again = learner([CSVLogger(append=True), Callback()], path=tmp_path / f"run{at}")
        again.fit(2, valid_every="4 batches", checkpoint=checkpoint, resume="auto")
        assert again.recorder.values == plain.recorder.values
        assert again.recorder.iters == plain.recorder.iters
        assert again.model.weight.tolist() == plain.model.weight.tolist()
        assert again.csv_logger.read_log().equals(plain.csv_logger.read_log())
    with pytest.raises(CannotRestore, match="other arguments"):
        learner().fit(2, valid_every=2, checkpoint=tmp_path / "16", resume="auto")


def test_predictions_between_batches_make_no_row():
    learn = learner([EarlyStoppingCallback(patience=9), ShowGraphCallback(), StopWhen(lambda row: False)])
    depth = 0

    def validate_again():
        nonlocal depth
        if depth == 0:
            depth = 1
            with learn.removed_cbs(Recorder):
                learn.validate()
            learn.validate()
            depth = 0

    learn.on("after_validate", validate_again)
    learn.on("after_batch", lambda: learn.training and learn.iter == 2 and learn.validate())
    learn.fit(1, valid_every="4 batches")
    assert learn.recorder.iters == [4, 8, 10]
