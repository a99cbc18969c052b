"""Trackers hold each number once, as their own readers read it; none of them can stop a fit."""

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate.tracking import GeneralTracker
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from layered.callback import CSVLogger, ExperimentLogger, JSONLogger, LoggerCallback, lr_find
from layered.foundation import BadArgument, CannotTrain, MissingDependency, OutOfRange, UnknownName
from layered.loop import Callback, CancelBatchException, Checkpoint
from layered.testing.tiny import synth_learner


class Keep(GeneralTracker):
    """A tracker that keeps what it is given; it fails from its call number `fails_at` on."""

    name = "keep"
    requires_logging_directory = False
    tracker = "a run"

    def __init__(self, fails_at=None):
        super().__init__()
        self.calls, self.configs, self.fails_at, self.tries = [], [], fails_at, 0

    def store_init_configuration(self, values):
        self.configs.append(values)

    def log(self, values, step=None, **kwargs):
        self.tries += 1
        if self.fails_at is not None and self.tries >= self.fails_at:
            raise ConnectionError("no route to https://me:hidden@host/")
        self.calls.append((step, values))

    def steps(self, name):
        return [step for step, values in self.calls if name in values]

    def values(self, name):
        return [values[name] for _, values in self.calls if name in values]


class Losses(Callback):
    """What every training batch lost, found without a logger."""

    order = 40

    def __init__(self):
        self.seen = []

    def after_batch(self):
        if self.learn.training:
            self.seen.append(self.learn.loss.item())


class FailAt(Callback):
    order = 99

    def __init__(self, batch, error):
        self.batch, self.error = batch, error

    def after_batch(self):
        if self.learn.training and self.learn.train_iter == self.batch:
            raise self.error


def fitted(loggers, *epochs, path=".", cbs=None, **args):
    learn = synth_learner(n_train=4, loggers=loggers, path=path)
    with learn.no_bar(), learn.no_logging():
        for n in epochs:
            learn.fit(n, cbs=cbs, **args)
    return learn


def test_a_tracker_gets_each_batch_and_each_row_once():
    keep, losses = Keep(), Losses()
    learn = fitted(keep, 2, cbs=losses)
    learn.validate()
    with learn.no_bar():
        lr_find(learn, show_plot=False, num_it=6)
    assert keep.steps("batch/loss") == keep.steps("batch/lr") == list(range(1, 9))
    assert keep.values("batch/loss") == losses.seen
    assert keep.values("batch/lr") == learn.recorder.lrs
    assert keep.steps("valid_loss") == keep.steps("epoch") == [4, 8]
    rows = list(zip(keep.values("epoch"), keep.values("train_loss"), keep.values("valid_loss"), strict=True))
    assert rows == [(i, *values) for i, values in enumerate(learn.recorder.values)]


def test_further_fits_continue_the_curves_and_cancelled_batches_have_no_values():
    keep = Keep()
    learn = fitted(keep, 1, 2)
    assert keep.steps("batch/loss") == list(range(1, 13))
    assert keep.steps("epoch") == [4, 8, 12]
    cancels = Callback(before_batch=lambda cb: cb.learn.emit("after_pred") if cb.iter else cancel())
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=cancels)
    assert keep.steps("batch/loss")[12:] == [13, 14, 15]


def cancel():
    raise CancelBatchException


def test_every_thins_out_the_batches_and_groups_have_rates_of_their_own():
    keep = Keep()
    split = lambda model: [[model.a], [model.b]]
    learn = synth_learner(n_train=4, splitter=split, loggers=ExperimentLogger(keep, every=3))
    with learn.no_bar(), learn.no_logging():
        learn.fit(2, lr=slice(0.1, 0.2))
    assert keep.steps("batch/loss") == [3, 6]
    assert keep.values("batch/lr_0") == [0.1, 0.1]
    assert keep.values("batch/lr_1") == [0.2, 0.2]
    assert keep.steps("epoch") == [4, 8]


def scalars(folder):
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    # files of one second are read in any order
    return {tag: sorted((e.step, e.value) for e in reader.Scalars(tag)) for tag in reader.Tags()["scalars"]}, reader


def test_tensorboard_reads_the_curves(tmp_path):
    learn = fitted("tensorboard", 1, 1, path=tmp_path)
    (folder,) = (tmp_path / "runs/layered").iterdir()
    found, reader = scalars(folder)
    assert [step for step, _ in found["batch/loss"]] == list(range(1, 9))
    assert [step for step, _ in found["valid_loss"]] == [4, 8]
    assert found["train_loss"][1][1] == pytest.approx(learn.recorder.values[0][0])
    assert "end/text_summary" in reader.Tags()["tensors"]
    fitted("tensorboard", 1, path=tmp_path)
    assert len(list((tmp_path / "runs/layered").iterdir())) == 2


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    """MLflow on a store of files, as its small edition has it."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    import mlflow

    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    yield mlflow
    mlflow.end_run()


def test_mlflow_reads_curves_configuration_and_the_state_of_the_end(mlflow):
    client = mlflow.MlflowClient()
    config = {"dropout": 0.5, "api_key": "hidden", "note": None}
    learn = fitted(ExperimentLogger("mlflow", project="lines", config=config), 1, 1)
    run = client.get_run(learn.experiment_logger.run_id)
    history = client.get_metric_history(run.info.run_id, "batch/loss")
    assert [metric.step for metric in history] == list(range(1, 9))
    assert run.data.params["dropout"] == "0.5"
    assert run.data.params["api_key"] == "***"
    assert run.data.params["model/class"] == "RegModel"
    assert (run.data.params["fit/n_epoch"], run.data.params["fit_2/n_epoch"]) == ("1", "1")
    assert run.info.status == "FINISHED"
    assert client.get_experiment(run.info.experiment_id).name == "lines"
    for error, status, end in (
        (ValueError("no"), "FAILED", "error"),
        (KeyboardInterrupt(), "KILLED", "interrupted"),
    ):
        learn = synth_learner(n_train=4, loggers="mlflow")
        with pytest.raises(type(error)), learn.no_bar(), learn.no_logging():
            learn.fit(1, cbs=FailAt(2, error))
        run = client.get_run(learn.experiment_logger.run_id)
        assert (run.info.status, run.data.tags["end"]) == (status, end)
        assert len(client.get_metric_history(run.info.run_id, "batch/loss")) == 2


def test_a_run_of_the_script_is_used_and_left_open(mlflow):
    with mlflow.start_run() as own:
        fitted("mlflow", 1)
        mlflow.log_metric("mine", 1.0)
        assert mlflow.active_run().info.run_id == own.info.run_id
    found = mlflow.MlflowClient().get_run(own.info.run_id)
    assert {"mine", "batch/loss", "valid_loss"} <= found.data.metrics.keys()
    assert found.info.status == "FINISHED"


def wandb_records(file):
    """The records of a `.wandb` file: messages in the log format of LevelDB, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, parts = file.read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(parts)
            parts = b""


def test_wandb_offline_holds_the_curves_in_one_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    logger = ExperimentLogger("wandb", project="lines", mode="offline", tags=["tiny"])
    learn = fitted(logger, 1, 1, path=tmp_path)
    steps, runs, ends = [], [], []
    for file in sorted(tmp_path.rglob("*.wandb")):
        for record in wandb_records(file):
            if record.WhichOneof("record_type") == "history":
                items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
                steps += [int(items["_step"])] * ("batch/loss" in items)
            elif record.WhichOneof("record_type") == "run":
                runs.append((record.run.run_id, record.run.project, list(record.run.tags)))
            elif record.WhichOneof("record_type") == "exit":
                ends.append(record.exit.exit_code)
    assert steps == list(range(1, 9))
    assert {run[:2] for run in runs} == {(learn.experiment_logger.run_id, "lines")}
    assert ["tiny"] in [run[2] for run in runs]
    assert ends == [0, 0]


@pytest.mark.parametrize("fails_at", [1, 6])
def test_a_tracker_that_fails_is_named_once_and_training_goes_on(fails_at):
    alone, keep = fitted(None, 3), Keep(fails_at)
    with pytest.warns(UserWarning, match="tracker 'keep' could not be logged to; training goes on") as said:
        learn = fitted(keep, 3)
    assert len(said) == 1
    assert "hidden" not in str(said[0].message)
    assert learn.recorder.values == alone.recorder.values
    assert keep.tries == fails_at
    assert len(keep.calls) == fails_at - 1


def test_a_tracker_that_does_not_start_is_an_error_before_training(tmp_path):
    learn = synth_learner(loggers=ExperimentLogger("tensorboard", folder=tmp_path, colour="red"))
    with pytest.raises(CannotTrain, match="colour"), learn.no_bar():
        learn.fit(1)
    assert learn.train_iter == 0


@pytest.mark.parametrize("batch", [6, 9])
def test_a_resumed_fit_continues_the_run_and_logs_nothing_twice(tmp_path, batch):
    whole = fitted(None, 3)
    stop, place = FailAt(batch, ValueError("stop")), {"checkpoint": tmp_path / "kept", "resume": "auto"}
    with pytest.raises(ValueError, match="stop"):
        fitted("tensorboard", 3, path=tmp_path, cbs=stop, **place)
    learn = fitted("tensorboard", 3, path=tmp_path, cbs=FailAt(99, None), **place)
    (folder,) = (tmp_path / "runs/layered").iterdir()
    found, _ = scalars(folder)
    assert [step for step, _ in found["batch/loss"]] == list(range(1, 13))
    assert [step for step, _ in found["valid_loss"]] == [4, 8, 12]
    assert learn.recorder.values == whole.recorder.values
    assert not [file for file in (tmp_path / "kept").iterdir() if file.name.startswith(".layered-log")]


def train(folder, pause):
    learn = synth_learner(n_train=40, loggers="tensorboard", path=folder)
    slow = Callback(after_batch=lambda cb: time.sleep(pause))
    with learn.no_bar(), learn.no_logging():
        learn.fit(3, cbs=slow, checkpoint=Checkpoint(Path(folder) / "kept", every="25 batches"), resume="auto")


def test_a_killed_fit_leaves_a_curve_that_the_resumed_one_completes(tmp_path):
    code = f"""if True:
        import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
        from layered.callback import experiments; experiments.SEND_EVERY = 0
        from test_experiments import train; train({str(tmp_path)!r}, 0.02)"""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    first = subprocess.Popen([sys.executable, "-c", code], env=env)
    while len(list(tmp_path.glob("kept/checkpoint-*"))) < 2 and first.poll() is None:
        time.sleep(0.02)
    time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    train(tmp_path, 0)
    (folder,) = (tmp_path / "runs/layered").iterdir()
    found, _ = scalars(folder)
    assert [step for step, _ in found["batch/loss"]] == list(range(1, 121))
    assert [step for step, _ in found["valid_loss"]] == [40, 80, 120]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"run": "../../x", "before": 0, "step": 9, "names": []}', '{"run": 1, "before": "a", "step": 0}'],
)
def test_a_note_that_says_something_else_is_left_unread(tmp_path, text):
    place = {"checkpoint": tmp_path / "kept", "resume": "auto"}
    with pytest.raises(ValueError, match="stop"):
        fitted("tensorboard", 2, path=tmp_path, cbs=FailAt(6, ValueError("stop")), **place)
    (note,) = (tmp_path / "kept").glob(".layered-log*")
    note.write_text(text)
    learn = fitted("tensorboard", 2, path=tmp_path, cbs=FailAt(99, None), **place)
    (folder,) = (tmp_path / "runs/layered").iterdir()
    assert folder.name == learn.experiment_logger.run_id
    steps = [step for step, _ in scalars(folder)[0]["batch/loss"]]
    assert sorted(set(steps)) == list(range(1, 9))


def test_names_are_checked_when_the_learner_is_made(monkeypatch):
    with pytest.raises(UnknownName, match="did you mean 'wandb'"):
        synth_learner(loggers="wanbd")
    with pytest.raises(MissingDependency, match="pip install trackio"):
        synth_learner(loggers=["csv", "trackio"])
    for wrong in (True, 3, object(), Keep):
        with pytest.raises(BadArgument, match="not a logger"):
            synth_learner(loggers=wrong)
    with pytest.raises(OutOfRange, match="every"):
        ExperimentLogger(Keep(), every=0)
    monkeypatch.setitem(sys.modules, "accelerate.tracking", None)
    with pytest.raises(MissingDependency, match="layered-learn\\[trackers\\]"):
        synth_learner(loggers="wandb")


def test_loggers_are_names_files_objects_and_callbacks():
    class Rows:
        def log(self, metrics, step):
            pass

    learn = synth_learner(loggers=["csv", "json", Rows(), Keep(), [CSVLogger("b.csv"), JSONLogger]])
    added = [cb for cb in learn.cbs if isinstance(cb, LoggerCallback)]
    kinds = [CSVLogger, JSONLogger, LoggerCallback, ExperimentLogger, CSVLogger, JSONLogger]
    assert [type(cb) for cb in added] == kinds


def test_a_copy_begins_a_run_of_its_own(tmp_path):
    import copy

    learn = fitted("tensorboard", 1, path=tmp_path)
    other = copy.copy(learn)
    with other.no_bar(), other.no_logging():
        other.fit(1)
    assert len(list((tmp_path / "runs/layered").iterdir())) == 2
    assert torch.is_tensor(other.model.a)
