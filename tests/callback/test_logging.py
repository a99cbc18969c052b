"""Every logger gets each number once an epoch, under its own name; files hold whole lines."""

import csv
import json
import os

import pandas as pd
import pytest
import torch
from torch import nn

from layered.callback import CSVLogger, JSONLogger, LoggerCallback, RunRecord, SaveModelCallback, lr_find
from layered.files import disk
from layered.foundation import BadFile, BadValue, CannotSave, NotFoundPath
from layered.loop import Callback, CancelBatchException, CancelEpochException, Checkpoint, Loop


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
    with pytest.raises(BadValue, match="different columns"):
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


class Stop(Callback):
    """Ends the run after the line of an epoch, and before its checkpoint."""

    order = 70
    transient = ("at",)

    def __init__(self, at=None):
        self.at = at

    def after_epoch(self):
        if (self.learn.fit_ordinal, self.epoch) == self.at:
            raise KeyboardInterrupt

    def __repr__(self):
        return "Stop"


@pytest.mark.parametrize("kind", [CSVLogger, JSONLogger])
@pytest.mark.parametrize("every", ["1 epoch", "2 batches"])
@pytest.mark.parametrize("at", [(1, 1), (2, 0), (2, 1)])
def test_a_line_whose_checkpoint_was_never_written_stands_once(tmp_path, kind, every, at):
    def script(folder, stop=None):
        learn = learner([kind("log", append=True), Stop(stop)], tmp_path / folder)
        for _ in range(2):
            learn.fit(2, checkpoint=Checkpoint(tmp_path / folder, every), resume="auto")
        return (tmp_path / folder / "log").read_text()

    whole = script("whole")
    with pytest.raises(KeyboardInterrupt):
        script("cut", at)
    assert script("cut") == whole
    assert whole.count("\n") == 4 + (kind is CSVLogger)


def test_going_on_leaves_the_lines_that_another_run_has_added_meanwhile(tmp_path):
    def fit(name, stop=None):
        learn = learner([CSVLogger(tmp_path / "all.csv", append=True), Stop(stop)], tmp_path)
        learn.fit(2, checkpoint=tmp_path / name, resume="auto")

    with pytest.raises(KeyboardInterrupt):
        fit("a", (1, 1))
    fit("b")
    fit("a")
    assert CSVLogger(tmp_path / "all.csv").read_log().epoch.tolist() == [0, 0, 1, 1]


def test_a_full_disk_stops_the_fit_and_leaves_whole_lines(tmp_path, monkeypatch):
    learn, write = learner(CSVLogger(), tmp_path), disk.write
    monkeypatch.setattr(disk, "write", lambda file, data: write(file, data[:7] if bytes(data[:2]) == b"1," else data))
    with pytest.raises(CannotSave, match=r"history\.csv"):
        learn.fit(2)
    text = (tmp_path / "history.csv").read_text()
    assert [line[:2] for line in text.splitlines(keepends=True)] == ["ep", "0,"]
    assert text.endswith("\n")


# power cuts and kills


def resumed(folder, kind, stop=None, append=False, every="1 epoch", fits=1, name="log"):
    """Fits of 4 epochs that write a log beside their checkpoints; the text of the log."""
    learn = learner([kind(name, append=append), Stop(stop)], folder)
    for _ in range(fits):
        learn.fit(4, checkpoint=Checkpoint(folder / "run", every), resume="auto")
    return (folder / name).read_bytes()


DAMAGES = {
    "empty": lambda text: b"",
    "a line short": lambda text: b"".join(text.splitlines(keepends=True)[:-1]),
    "torn": lambda text: text[:-9],
    "torn early": lambda text: text[: len(text) // 2],
    "zeros": lambda text: text[: len(text) // 2] + bytes(len(text) - len(text) // 2),
    "a line missing": lambda text: b"".join(text.splitlines(keepends=True)[:1] + text.splitlines(keepends=True)[2:]),
    "edited": lambda text: text.replace(b".", b".7"),
    "whole": lambda text: text,
}


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("kind", [CSVLogger, JSONLogger])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("at", [(1, 2), None], ids=["in a fit", "after it"])
def test_lines_that_a_power_cut_has_taken_are_written_anew(tmp_path, at, damage, kind, append):
    (tmp_path / "whole").mkdir()
    whole = resumed(tmp_path / "whole", kind, append=append)
    folder = tmp_path / "cut"
    folder.mkdir()
    if at is None:
        resumed(folder, kind, append=append)
    else:
        with pytest.raises(KeyboardInterrupt):
            resumed(folder, kind, at, append)
    (folder / "log").write_bytes(DAMAGES[damage]((folder / "log").read_bytes()))
    assert resumed(folder, kind, append=append) == whole


def killed(folder, kind, append, epoch):
    """A process of its own is killed after the line of an epoch."""
    process = os.fork()
    if process == 0:
        Stop.after_epoch = lambda self: os._exit(9) if self.epoch == epoch else None
        resumed(folder, kind, None, append, "9 epochs")
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("kind", [CSVLogger, JSONLogger])
@pytest.mark.parametrize("before", ["nothing", "lines", "a torn line"])
def test_a_fit_that_is_killed_before_its_first_checkpoint_has_each_line_once(tmp_path, kind, append, before):
    def begin(folder):
        folder.mkdir()
        if before != "nothing":
            learner([kind("log")], folder).fit(2)
        if before == "a torn line":
            (folder / "log").open("ab").write(b"3,")
        return folder

    whole = resumed(begin(tmp_path / "whole"), kind, append=append, every="9 epochs")
    folder = begin(tmp_path / "cut")
    for epoch in (1, 2):
        killed(folder, kind, append, epoch)
    assert resumed(folder, kind, append=append, every="9 epochs") == whole
    assert not list((folder / "run").glob(".layered-log-*"))


def test_a_new_fit_in_the_folder_of_a_killed_one_keeps_its_lines(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        resumed(tmp_path, CSVLogger, (1, 1), append=True, every="9 epochs")
    learn = learner(CSVLogger("log", append=True), tmp_path)
    learn.fit(1, checkpoint=tmp_path / "run")
    assert learn.csv_logger.read_log().epoch.tolist() == [0, 1, 0]


def test_lines_are_on_disk_before_the_checkpoint_that_counts_them(tmp_path, monkeypatch):
    synced, sync = [], disk.sync
    monkeypatch.setattr(disk, "sync", lambda file: (synced.append(os.path.basename(file.name) == "log"), sync(file)))
    resumed(tmp_path, CSVLogger)
    assert synced.count(True) == 4
    assert not synced[-1]


def test_files_stay_where_they_were_when_the_fit_began(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "link").symlink_to("work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "link")
    away = Callback(before_epoch=lambda cb: monkeypatch.chdir(tmp_path))
    files = [CSVLogger("~/a.csv"), JSONLogger("../b.jsonl"), SaveModelCallback(fname="~/best"), RunRecord("record")]
    learn = learner([*files, away], ".")
    learn.fit(2, checkpoint="run")
    assert len(learn.csv_logger.read_log()) == 2
    left = [
        file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.name[0] != "." and file.is_file()
    ]
    runs = [name for name in left if name.startswith("work/run/checkpoint-")]
    wanted = ["b.jsonl", "home/a.csv", "home/best.layered", "work/record/events.jsonl", "work/record/run.json"]
    assert sorted(set(left) - set(runs)) == wanted
    assert len(runs) == 2


@pytest.mark.parametrize(
    "text",
    [b"\xff\n", b"[" * 5000 + b"\n", b"{}\n", b"[]\n", b'{"epoch": "x"}\n', b"no\n"],
    ids=lambda text: repr(text[:9]),
)
def test_a_file_that_no_logger_wrote_is_refused_by_name_and_line(tmp_path, text):
    logger = JSONLogger(tmp_path / "log.jsonl")
    (tmp_path / "log.jsonl").write_bytes(b'{"epoch": 0}\n' + text)
    with pytest.raises(BadFile, match=r"line 2 of .*log\.jsonl"):
        logger.read_log()
    (tmp_path / "log.csv").write_bytes(b"epoch,loss\n0,1\n\xff,2\n")
    with pytest.raises(BadFile, match="in line 3"):
        CSVLogger(tmp_path / "log.csv").read_log()


@pytest.mark.parametrize("error", [CancelBatchException, CancelEpochException])
def test_the_step_of_a_line_is_the_same_when_it_is_written_anew(tmp_path, error):
    class CancelSecond(Callback):
        def before_batch(self):
            if self.training and self.learn.epoch == 0 and self.learn.iter == 1:
                raise error

    logger = JSONLogger()
    learn = learner([logger, CancelSecond()], path=tmp_path)
    learn.fit(2)
    live = (tmp_path / "history.jsonl").read_text()
    assert [json.loads(line)["step"] for line in live.splitlines()] == learn.recorder.iters
    (tmp_path / "history.jsonl").unlink()
    logger.catch_up()
    assert (tmp_path / "history.jsonl").read_text() == live
