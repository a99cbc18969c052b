"""What is logged by name is in the table as the mean of the epoch, in the trackers at its step, and survives a crash."""

import json

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from layered.callback import CSVLogger, ExperimentLogger, JSONLogger, lr_find
from layered.callback.screens import Lines, Notebook, Terminal
from layered.foundation import BadArgument, BadValue, CannotTrain
from layered.loop import Callback, Checkpoint
from layered.testing.tiny import synth_learner


class Slope(Callback):
    """Logs the slope of the line after each batch, in the second epoch another number too."""

    def after_batch(self):
        self.learn.log("slope", self.learn.model.a)
        if self.learn.epoch == 1 and self.learn.training:
            self.learn.log("late", self.learn.iter)


class Slopes(Callback):
    """What `Slope` should have logged, found otherwise."""

    order = 49

    def __init__(self):
        self.seen = {}

    def after_batch(self):
        self.seen.setdefault((self.learn.epoch, self.learn.training), []).append(self.learn.model.a.item())


def quiet_fit(learn, *args, **kwargs):
    with learn.no_bar(), learn.no_logging():
        learn.fit(*args, **kwargs)


def test_numbers_are_columns_with_the_means_of_the_epoch(tmp_path):
    learn, slopes = synth_learner(n_train=4, lr=0.1, path=tmp_path, loggers=["csv", "json"]), Slopes()
    quiet_fit(learn, 3, cbs=[Slope, slopes])
    mean = {key: np.mean(values) for key, values in slopes.seen.items()}
    history = learn.recorder.history
    assert learn.recorder.metric_names == ["epoch", "train_loss", "valid_loss", "slope", "valid_slope", "late", "time"]
    assert [row["slope"] for row in history] == pytest.approx([mean[epoch, True] for epoch in range(3)])
    assert [row["valid_slope"] for row in history] == pytest.approx([mean[epoch, False] for epoch in range(3)])
    assert [row.get("late") for row in history] == [None, 1.5, None]
    assert list(learn.recorder.to_frame()["late"].isna()) == [True, False, True]
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [{name: line.get(name) for name in history[0]} for line in lines] == history
    assert (tmp_path / "history.csv").read_text().splitlines()[0] == "epoch,train_loss,valid_loss"
    assert len(learn.csv_logger.read_log().columns) == 3


def test_trackers_get_each_number_at_its_step(tmp_path):
    learn, slopes = synth_learner(n_train=4, lr=0.1, path=tmp_path, loggers="tensorboard"), Slopes()
    learn.on("after_epoch", lambda learn: learn.log("after", learn.epoch))
    quiet_fit(learn, 2, cbs=[Slope, slopes])
    reader = EventAccumulator(str(tmp_path / "runs/layered" / learn.experiment_logger.run_id))
    reader.Reload()
    scalars = {tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}
    values = [*slopes.seen[0, True], *slopes.seen[1, True]]
    assert dict(scalars["slope"]) == pytest.approx(dict(enumerate(values, 1)))
    assert len(scalars["slope"]) == 8
    means = {step: np.mean(slopes.seen[epoch, False]) for epoch, step in enumerate((4, 8))}
    assert dict(scalars["valid_slope"]) == pytest.approx(means)
    assert len(scalars["valid_slope"]) == 2
    assert scalars["after"] == [(4, 0.0), (8, 1.0)]
    assert "after" not in learn.recorder.history[0]


def test_a_step_of_the_user_logs_in_both_passes():
    def step(loop, batch):
        x, y = batch
        loss = (loop.model(x) - y).square().mean()
        loop.log("error", loss.sqrt())
        return loss

    learn = synth_learner(n_train=4, step=step)
    quiet_fit(learn, 1)
    row = learn.recorder.history[0]
    assert row["error"] > 0
    assert row["valid_error"] > 0
    learn.validate()
    with learn.no_bar():
        lr_find(learn, show_plot=False, num_it=6)
    assert learn.recorder.history == [row]


def test_a_resumed_fit_has_the_means_of_the_undisturbed_one(tmp_path):
    whole = synth_learner(n_train=4, lr=0.1)
    quiet_fit(whole, 2, cbs=[Slope(), Callback()])

    def stop(cb):
        if cb.training and cb.train_iter == 7:
            raise ValueError("stop")

    kept = {"checkpoint": Checkpoint(tmp_path, every="3 batches"), "resume": "auto"}
    with pytest.raises(ValueError, match="stop"):
        quiet_fit(synth_learner(n_train=4, lr=0.1), 2, cbs=[Slope(), Callback(before_batch=stop)], **kept)
    resumed = synth_learner(n_train=4, lr=0.1)
    quiet_fit(resumed, 2, cbs=[Slope(), Callback()], **kept)
    assert resumed.recorder.history == whole.recorder.history
    assert resumed.recorder.metric_names == whole.recorder.metric_names


def logging(name, value):
    return Callback(after_batch=lambda cb: cb.learn.log(name, value))


def test_what_cannot_be_logged_is_refused():
    for value in (torch.ones(3), None, [1.0]):
        with pytest.raises(BadArgument, match="'norm' is not a value"):
            quiet_fit(synth_learner(), 1, cbs=logging("norm", value))
    for name in (3, ""):
        with pytest.raises(BadArgument, match="by a name"):
            quiet_fit(synth_learner(), 1, cbs=logging(name, 1.0))
    with pytest.raises(BadValue, match="column 'train_loss' already"):
        quiet_fit(synth_learner(), 1, cbs=logging("train_loss", 1))
    with pytest.raises(CannotTrain, match="no fit"):
        synth_learner().log("norm", 1)


def test_texts_and_pictures_go_to_the_trackers(tmp_path):
    figure, axes = plt.subplots()
    axes.plot([0, 1])
    image = PIL.Image.fromarray(np.full((4, 6, 3), 200, np.uint8))
    learn = synth_learner(n_train=2, path=tmp_path, loggers="tensorboard")
    quiet_fit(learn, 1, cbs=[logging("figure", figure), logging("image", image), logging("note", "two words")])
    reader = EventAccumulator(str(tmp_path / "runs/layered" / learn.experiment_logger.run_id))
    reader.Reload()
    assert {"figure", "image"} <= set(reader.Tags()["images"])
    assert (reader.Images("image")[0].height, reader.Images("image")[0].width) == (4, 6)
    assert "note/text_summary" in reader.Tags()["tensors"]
    assert "note" not in learn.recorder.history[0]


def test_a_tracker_without_a_place_for_texts_says_so_once():
    class Plain:
        name, tracker = "plain", "a run"

        def __init__(self):
            self.names = set()

        def start(self): ...
        def store_init_configuration(self, values): ...
        def finish(self): ...
        def log(self, values, step=None):
            self.names |= values.keys()

    plain = Plain()
    with pytest.warns(UserWarning, match="given no texts") as said:
        quiet_fit(synth_learner(loggers=plain), 2, cbs=logging("note", "a"))
    assert len(said) == 1
    assert "batch/loss" in plain.names
    assert "note" not in plain.names


def test_screens_show_columns_that_come_later(capsys):
    lines, terminal = Lines(["epoch", "time"]), Terminal(["epoch", "time"])
    for screen in (lines, terminal):
        screen.row([0, "00:01"])
        screen.name_columns(["epoch", "norm", "time"])
        screen.row([1, 0.5, "00:01"])
    out = capsys.readouterr().out.splitlines()
    assert out[:4] == ["epoch     time", "epoch 0  time 00:01", "epoch 1  norm 0.500000  time 00:01", "0         00:01"]
    assert [line.split() for line in out[4:]] == [["epoch", "norm", "time"], ["1", "0.500000", "00:01"]]
    notebook = Notebook.__new__(Notebook)
    notebook.columns, notebook.rows, notebook.bar = ["epoch", "time"], [["0", "00:01"]], ""
    notebook.name_columns(["epoch", "norm", "time"])
    assert notebook.rows == [["0", "", "00:01"]]


def test_the_table_shows_the_column(capsys):
    learn = synth_learner(n_train=2)
    learn.fit(1, cbs=logging("mark", 0.25))
    assert "mark 0.250000" in capsys.readouterr().out
    assert not [cb for cb in learn.cbs if isinstance(cb, (ExperimentLogger, CSVLogger, JSONLogger))]
