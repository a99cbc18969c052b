"""What happens in a run stands in its record, whole lines only, each event that counts once."""

import json
import math
import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from layered.callback import RunRecord, lr_find, read_record
from layered.callback.provenance import fingerprint, git_commit
from layered.cli.main import main
from layered.files import disk
from layered.foundation import BadFile, CannotSave, NotFoundPath
from layered.loop import Callback, CancelFitException, Checkpoint, Loop
from layered.testing import synth_learner


def error(pred, targ):
    return (pred - targ).abs().mean()


def learner(cbs=None):
    torch.manual_seed(0)
    learn = synth_learner(n_train=4, cbs=cbs, metrics=[error])
    learn.logger = lambda row: None
    return learn


def strict_lines(folder: Path) -> list[dict]:
    def refuse(name: str):
        raise AssertionError(f"{name} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in (folder / "events.jsonl").read_text().splitlines()]


class Stop(Callback):
    """Raises in batch `at` of the fit."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.at, self.error = at, error

    def after_batch(self) -> None:
        if self.training and self.train_iter == self.at:
            raise self.error

    def __repr__(self) -> str:
        return "Stop"


def test_a_fit_leaves_its_epochs_its_checkpoints_and_its_end(tmp_path):
    learn = learner(RunRecord(tmp_path))
    learn.fit(2, checkpoint=Checkpoint(tmp_path, every="1 epoch"))
    events = strict_lines(tmp_path)
    assert {event["attempt"] for event in events} == {event["fit"] for event in events} == {1}
    epochs = [event for event in events if event["event"] == "epoch"]
    assert [list(event["values"].values()) for event in epochs] == learn.recorder.values
    assert list(epochs[0]["values"]) == ["train_loss", "valid_loss", "error"]
    assert [event["lr"] for event in epochs] == learn.recorder.lrs[3::4]
    assert [event["batches"] for event in epochs] == [4, 8]
    saved = [event for event in events if event["event"] == "checkpoint"]
    assert [(event["epoch"], event["batch"], event["finished"]) for event in saved] == [
        (1, 0, False),
        (2, 0, False),
        (2, 0, True),
    ]
    assert saved[-1]["bytes"] == Path(saved[-1]["file"]).stat().st_size
    assert events[0]["resumed"] is None
    assert (events[-1]["event"], events[-1]["reason"]) == ("end", "finished")


def test_looking_and_validating_are_not_on_the_record(tmp_path):
    learn = learner(RunRecord(tmp_path))
    learn.validate()
    lr_find(learn, show_plot=False)
    assert not (tmp_path / "events.jsonl").exists()


def test_the_manifest_says_what_a_run_was_made_of(tmp_path):
    learn = learner(RunRecord(tmp_path))
    learn.fit(1)
    made_of = read_record(tmp_path).manifest
    configuration = made_of["configuration"]
    assert configuration["model"] == {"class": "RegModel", "recipe": None, "parameters": 2, "trainable": 2}
    assert configuration["optimizer"]["groups"][0]["lr"] == 1e-3
    assert [loader["batches"] for loader in configuration["loaders"]] == [4, 2]
    assert "Recorder" in configuration["callbacks"]
    assert made_of["seeds"] == {"torch": 0, "loaders": [0, 0]}
    assert [split["items"] for split in made_of["data"]] == [64, 32]
    assert f"torch=={torch.__version__.split('+')[0]}" in [name.split("+")[0] for name in made_of["packages"]]
    assert made_of["hardware"]["torch"] == torch.__version__


@pytest.mark.parametrize(
    ("raised", "reason", "by", "told"),
    [
        (CancelFitException(), "cancelled", "Stop", None),
        (KeyboardInterrupt(), "interrupted", "", None),
        (SystemExit(143), "SIGTERM", "", None),
        (ValueError("too bad"), "error", "", "ValueError: too bad"),
    ],
)
def test_the_end_of_a_fit_has_a_reason(tmp_path, raised, reason, by, told):
    learn = learner(RunRecord(tmp_path))
    is_cancelled = isinstance(raised, CancelFitException)
    with nullcontext() if is_cancelled else pytest.raises(type(raised)):
        learn.fit(2, cbs=Stop(6, raised))
    last = strict_lines(tmp_path)[-1]
    assert (last["event"], last["reason"], last["by"], last["error"]) == ("end", reason, by, told)
    assert len(read_record(tmp_path).epochs) == 1
    assert reason in repr(read_record(tmp_path))


def test_a_resumed_run_has_the_final_epochs_of_an_undisturbed_one(tmp_path):
    def run(folder: Path, stop: int | None) -> None:
        cbs = [RunRecord(folder)] + ([Stop(stop, RuntimeError("killed"))] if stop else [])
        learner(cbs).fit(4, checkpoint=Checkpoint(folder, every="3 batches"), resume="auto")

    run(tmp_path / "whole", None)
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path / "cut", 11)
    events = tmp_path / "cut" / "events.jsonl"
    events.write_text(
        "".join(events.read_text().splitlines(keepends=True)[:-1]) + '{"event": "epo'
    )  # a kill tears a line
    run(tmp_path / "cut", None)
    whole, cut = read_record(tmp_path / "whole"), read_record(tmp_path / "cut")
    names = ["fit", "epoch", "train_loss", "valid_loss", "error", "lr"]
    pd.testing.assert_frame_equal(whole.epochs[names], cut.epochs[names])
    assert list(cut.epochs["attempt"]) == [1, 1, 2, 2]
    begun = [event for event in cut.events if event["event"] == "fit"]
    assert (begun[1]["resumed"]["epoch"], begun[1]["resumed"]["batch"]) == (2, 1)
    assert {row["part"] for row in begun[1]["resumed"]["audit"]} >= {"model", "optimizer", "random.torch", "loader"}
    places = [[(e["epoch"], e["batch"]) for e in run.final if e["event"] == "checkpoint"] for run in (whole, cut)]
    assert places[0] == places[1]


def test_epochs_whose_lines_were_lost_are_written_by_the_attempt_that_goes_on(tmp_path):
    with pytest.raises(RuntimeError):
        learner([RunRecord(tmp_path), Stop(11, RuntimeError())]).fit(3, checkpoint=tmp_path)
    events = tmp_path / "events.jsonl"
    events.write_text(events.read_text().splitlines(keepends=True)[0])
    learner(RunRecord(tmp_path)).fit(3, checkpoint=tmp_path, resume="auto")
    assert list(read_record(tmp_path).epochs["epoch"]) == [0, 1, 2]


def test_a_fit_that_is_begun_anew_forgets_what_it_had_done(tmp_path):
    for epochs in (3, 1):
        learn = learner(RunRecord(tmp_path))
        learn.fit(epochs)
        learn.fit(1)
    record = read_record(tmp_path)
    assert list(zip(record.epochs["fit"], record.epochs["epoch"], strict=True)) == [(1, 0), (2, 0)]
    assert len([event for event in record.events if event["event"] == "epoch"]) == 6


def test_numbers_that_are_not_finite_survive_strict_json(tmp_path):
    learn = learner(RunRecord(tmp_path))
    learn.metrics = [lambda pred, targ: torch.tensor(math.inf)]
    with torch.no_grad():
        learn.model.a.fill_(math.nan)
    learn.fit(1)
    values = next(event for event in strict_lines(tmp_path) if event["event"] == "epoch")["values"]
    assert list(values.values())[1:] == ["NaN", "Infinity"]
    row = read_record(tmp_path).epochs.iloc[0]
    assert math.isnan(row["valid_loss"])
    assert math.inf in list(row)


def test_a_full_disk_stops_the_fit_and_leaves_whole_lines(tmp_path, monkeypatch):
    learn = learner(RunRecord(tmp_path))
    write = disk.write

    def half(file, data):
        return write(file, data[: len(data) // 2] if b'"epoch"' in bytes(data)[:20] else data)

    monkeypatch.setattr(disk, "write", half)
    with pytest.raises(CannotSave, match="could not write"):
        learn.fit(1)
    assert [event["event"] for event in strict_lines(tmp_path)] == ["fit"]


class Tracker(Callback):
    def __repr__(self):
        return "Tracker(hub_token='s3cr3t')"

    def after_batch(self):
        raise ConnectionError("no route to https://ada:s3cr3t@host/runs?api_key=s3cr3t")


def test_a_record_keeps_no_secrets_and_is_the_owners(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", "--token", "s3cr3t", "--password=s3cr3t", "--bs", "64"])
    learn = learner([RunRecord(tmp_path), Tracker()])
    with pytest.raises(ConnectionError):
        learn.fit(1)
    files = [path.read_text() for path in tmp_path.iterdir()]
    assert len(files) == 2
    assert not any("s3cr3t" in text for text in files)
    assert read_record(tmp_path).manifest["code"]["command"][-2:] == ["--bs", "64"]
    assert (tmp_path / "run.json").stat().st_mode & 0o777 == 0o600


def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "events.jsonl").write_text('{"step": 1}\n')
    learn = learner(RunRecord(tmp_path))
    before = learn.model.a.item()
    with pytest.raises(BadFile, match="line 1"):
        learn.fit(1)
    with pytest.raises(BadFile, match="line 1"):
        read_record(tmp_path)
    assert learn.model.a.item() == before
    assert [path.name for path in tmp_path.iterdir()] == ["events.jsonl"]
    with pytest.raises(NotFoundPath, match="RunRecord"):
        read_record(tmp_path / "none")


@pytest.mark.parametrize("manifest", [b"\xff", b"[]", b"[" * 100_000, b"{", b'"x"', b'{"a": 1, "a": 2}'])
def test_a_damaged_manifest_is_named(tmp_path, manifest):
    (tmp_path / "events.jsonl").write_bytes(b"")
    (tmp_path / "run.json").write_bytes(manifest)
    with pytest.raises(BadFile, match=r"run\.json"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b"3",
        b'{"fit": 1, "event": "fit"}',
        b'{"fit": 1, "attempt": 1, "event": "fit", "resumed": 3}',
        b'{"fit": 1, "attempt": 1, "event": "fit", "resumed": {"file": "x"}}',
        b'{"fit": 1, "attempt": 1, "event": "epoch", "epoch": 0, "values": 3, "lr": 1, "seconds": 1}',
        b'{"fit": 1, "attempt": 1, "event": "epoch", "epoch": "0", "values": {}, "lr": 1, "seconds": 1}',
        b'{"fit": 1, "attempt": 1, "event": "checkpoint"}',
        b'{"fit": "1", "attempt": 1, "event": "end"}',
        b'{"fit": ' + b"9" * 5000 + b', "attempt": 1, "event": "end"}',
    ],
)
def test_a_damaged_line_of_a_record_is_named(tmp_path, line):
    (tmp_path / "events.jsonl").write_bytes(
        b'{"fit": 1, "attempt": 1, "event": "fit", "resumed": null}\n' + line + b"\n"
    )
    with pytest.raises(BadFile, match=r"line 2 of .*events\.jsonl") as caught:
        read_record(tmp_path)
    assert len(str(caught.value)) < 1000


def test_a_fingerprint_is_of_the_content_not_of_the_place(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    holder = type("Table", (), {"__len__": lambda self: len(self.items)})
    tables = [holder(), holder(), holder()]
    for table, items in zip(tables, (frame, frame.copy(), frame.assign(a=[1.0, 2.0])), strict=True):
        table.items = items
    first, same, other = (fingerprint(table)["sha256"] for table in tables)
    assert first == same != other
    for place in ("here", "there"):
        (tmp_path / place / "cats").mkdir(parents=True)
        (tmp_path / place / "cats" / "1.png").write_bytes(b"123")
    here, there = ([tmp_path / place / "cats" / "1.png"] for place in ("here", "there"))
    assert fingerprint(here) == fingerprint(there)
    there[0].write_bytes(b"1234")
    assert fingerprint(here) != fingerprint(there)
    assert fingerprint(iter([1]))["items"] is None


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_is_the_one_that_git_names(tmp_path):
    def git(*args: str) -> str:
        config = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(["git", *config, *args], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "one")
    (tmp_path / "below").mkdir()
    head = git("rev-parse", "HEAD").strip()
    assert git_commit(tmp_path / "below") == head
    git("pack-refs", "--all")
    assert git_commit(tmp_path) == head
    git("checkout", "-q", "--detach")
    assert git_commit(tmp_path) == head


def test_plain_loaders_and_models_are_recorded_too(tmp_path):

    batches = [(torch.ones(4, 2), torch.ones(4, 1))] * 3
    learn = Loop((batches, batches), nn.Linear(2, 1), nn.MSELoss(), cbs=RunRecord(tmp_path))
    learn.logger = lambda row: None
    learn.fit(1)
    assert read_record(tmp_path).manifest["data"][0]["items"] == 3


def test_the_command_line_shows_a_record(tmp_path, capsys):
    learner(RunRecord(tmp_path)).fit(1)
    capsys.readouterr()
    assert main(["runs", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "finished" in shown
    assert "valid_loss" in shown
    assert main(["runs", str(tmp_path / "none")]) == 1
    assert "no record" in capsys.readouterr().err


def test_a_loader_that_has_no_length_to_tell_is_recorded_without_one(tmp_path):
    class Endless:
        def __iter__(self):
            return iter([(torch.ones(2, 1), torch.ones(2, 1))] * 3)

        def __len__(self):
            raise NotImplementedError

    learn = Loop((Endless(), None), nn.Linear(1, 1), nn.MSELoss(), cbs=RunRecord(tmp_path))
    learn.logger = lambda row: None
    learn.fit(1)
    manifest = json.loads((tmp_path / "run.json").read_text())
    assert manifest["configuration"]["loaders"][0]["batches"] is None
    assert manifest["data"][0]["items"] is None
    assert [line["batches"] for line in strict_lines(tmp_path) if line["event"] == "epoch"] == [3]


def test_a_metric_hides_no_other_column_of_the_record(tmp_path):
    learn = learner(RunRecord(tmp_path))
    learn.metrics = {"lr": error, "fit": error}
    learn.fit(1)
    frame = read_record(tmp_path).epochs
    assert list(frame) == ["fit", "epoch", "attempt", "train_loss", "valid_loss", "lr_2", "fit_2", "lr", "seconds"]
    assert frame["lr"].tolist() == [learn.recorder.lrs[-1]]
    assert frame["fit"].tolist() == [1]
