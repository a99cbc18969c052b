"""Every logger gets each number once an epoch, under its own name; files hold whole lines."""

import csv
import json

import pandas as pd
import pytest
import torch
from torch import nn

from layered.callback.logging import CSVLogger, JSONLogger, LoggerCallback
from layered.callback.rate_finder import lr_find
from layered.foundation.errors import BadValue, CannotSave, NotFoundPath
from layered.loop.callback import Callback
from layered.loop.loop import Loop


def first(pred, targ):
    return (pred - targ).abs().mean()


def second(pred, targ):
    return (pred - targ).square().mean()


def learner(cbs, path=".") -> Loop:
    torch.manual_seed(0)
    x = torch.ones(4, 2)
    batches = [(x, x.sum(1, keepdim=True))] * 3
    learn = Loop((batches, batches), nn.Linear(2, 1), nn.MSELoss(), cbs=cbs, metrics=[first, second], path=path)
    learn.logger = lambda row: None
    return learn


class Keep:
    def __init__(self):
        self.calls = []

    def log(self, metrics, step):
        self.calls.append((dict(metrics), step))


def test_a_logger_gets_each_number_once_an_epoch_as_the_table_has_it():
    keep, rows = Keep(), []
    learn = learner(LoggerCallback(keep))
    learn.logger = rows.append
    learn.fit(2)
    learn.validate()
    lr_find(learn, show_plot=False)
    names = ["epoch", "train_loss", "valid_loss", "first", "second"]
    assert [list(metrics) for metrics, _ in keep.calls] == [names] * 2
    assert [list(metrics.values()) for metrics, _ in keep.calls] == [row[:-1] for row in rows[:2]]
    assert [step for _, step in keep.calls] == [3, 6]
    with pytest.raises(BadValue, match="log"):
        LoggerCallback(print)


def test_metrics_of_one_name_are_told_apart():
    keep = Keep()
    learn = learner(LoggerCallback(keep))
    learn.metrics = [first, lambda p, t: first(p, t) + 1]
    learn.metrics[1].func.__name__ = "first"
    learn.fit(1)
    metrics = keep.calls[0][0]
    assert metrics["first_2"] == pytest.approx(metrics["first"] + 1)


def test_a_csv_file_is_the_table(tmp_path):
    learn = learner(CSVLogger(), tmp_path)
    learn.fit(2)
    rows = list(csv.reader((tmp_path / "history.csv").open()))
    assert rows[0] == ["epoch", "train_loss", "valid_loss", "first", "second"]
    assert [[float(cell) for cell in row[1:]] for row in rows[1:]] == learn.recorder.values
    pd.testing.assert_frame_equal(learn.csv_logger.read_log(), pd.read_csv(tmp_path / "history.csv"))
    learn.fit(1)
    assert len(learn.csv_logger.read_log()) == 1


def test_json_lines_hold_an_object_an_epoch(tmp_path):
    logger = JSONLogger("logs/run.jsonl", append=True)
    learn = learner(logger, tmp_path)
    learn.fit(2)
    learn.fit(1)
    lines = [json.loads(line) for line in (tmp_path / "logs" / "run.jsonl").read_text().splitlines()]
    assert lines == logger.read_log()
    assert [(line["epoch"], line["step"]) for line in lines] == [(0, 3), (1, 6), (0, 3)]
    learn.loss_func = lambda pred, targ: (pred - targ).mean() * float("nan")
    learn.fit(1)
    assert logger.read_log()[-1]["valid_loss"] is None


def test_appending_keeps_what_is_there_but_for_a_line_that_was_cut_off(tmp_path):
    file = tmp_path / "history.csv"
    learner(CSVLogger(append=True), tmp_path).fit(2)
    before = file.read_text()
    file.write_text(before + "2,0.1")
    learner(CSVLogger(append=True), tmp_path).fit(1)
    assert file.read_text().startswith(before)
    assert file.read_text().count("\n") == 4
    assert file.read_text().count("epoch") == 1
    other = learner(CSVLogger(append=True), tmp_path)
    other.metrics = [first]
    with pytest.raises(BadValue, match="other columns"):
        other.fit(1)


@pytest.mark.parametrize("append", [False, True])
def test_a_resumed_fit_writes_each_epoch_once(tmp_path, append):
    def crash(cb):
        if cb.epoch == 2 and cb.training and cb.iter == 1:
            raise KeyboardInterrupt

    learn = learner(CSVLogger(append=append), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        learn.fit(4, checkpoint=f"{tmp_path}/kept", cbs=Callback(after_batch=crash))
    (tmp_path / "history.csv").open("a").write("2,1.0,1.0,1.0,1.0\n")
    again = learner(CSVLogger(append=append), tmp_path)
    again.fit(4, checkpoint=f"{tmp_path}/kept", resume="auto", cbs=Callback())
    rows = list(csv.reader((tmp_path / "history.csv").open()))
    assert [row[0] for row in rows] == ["epoch", "0", "1", "2", "3"]
    assert [[float(cell) for cell in row[1:]] for row in rows[1:]] == again.recorder.values


def test_a_place_that_cannot_be_written_is_told_before_training(tmp_path):
    (tmp_path / "file").touch()
    learn = learner(CSVLogger(tmp_path / "file" / "history.csv"))
    with pytest.raises(CannotSave):
        learn.fit(1)
    assert learn.train_iter == 0
    with pytest.raises(NotFoundPath):
        CSVLogger(tmp_path / "none.csv").read_log()


def test_only_the_first_of_several_processes_logs(tmp_path, monkeypatch):
    monkeypatch.setattr("layered.callback.logging.rank_and_world", lambda: (1, 2))
    keep = Keep()
    learner([LoggerCallback(keep), CSVLogger()], tmp_path).fit(1)
    assert keep.calls == []
    assert list(tmp_path.iterdir()) == []
