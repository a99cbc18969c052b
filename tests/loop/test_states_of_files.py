"""A state that a file gives a callback holds what the callback's class keeps, by name and kind, and nothing else."""

import pytest
import torch
from torch import nn

from layered.callback import (
    CSVLogger,
    EMACallback,
    GradientClip,
    JSONLogger,
    MixedPrecision,
    RunRecord,
    SaveModelCallback,
)
from layered.files import read_archive, write_archive
from layered.foundation import CannotRestore, noop
from layered.loop import Callback, Checkpoint, Loop
from layered.loop.resume.finding import checkpoint_files


class Boom(Exception):
    """Somebody else's failure."""


class Counts(Callback):
    """A callback that declares nothing: `seen` is state, the others are settings."""

    transient = ("cached",)

    def __init__(self, every=2, fname="counts.txt"):
        self.every, self.fname, self.seen, self.rows, self.cached = every, fname, 0, [], None

    def after_batch(self):
        self.seen += 1
        self.rows.append(self.seen)


class DieAt(Callback):
    order = 3000
    transient = ("at",)

    def __init__(self, at):
        self.at = at

    def after_batch(self):
        if self.learn.training and self.learn.train_iter == self.at:
            for cb in self.learn.cbs:
                if isinstance(cb, Checkpoint):
                    cb.writer.wait()
            raise Boom


def learner(folder, at=None, cbs=()):
    torch.manual_seed(0)
    x = torch.randn(20, 3)
    batches = [(x[i : i + 4], x[i : i + 4].sum(1, keepdim=True)) for i in range(0, 20, 4)]
    own = [CSVLogger(append=True), JSONLogger(), RunRecord(folder / "record"), SaveModelCallback(), EMACallback()]
    own += [GradientClip(0.5), MixedPrecision("bf16"), Counts(), *cbs, DieAt(at)]
    learn = Loop((batches, batches), nn.Linear(3, 1), nn.MSELoss(), lr=0.01, cbs=own, path=folder)
    learn.logger = noop
    return learn


def interrupted(folder):
    with pytest.raises(Boom):
        learner(folder, 8).fit(3, checkpoint=Checkpoint(folder / "run", "2 batches"), resume="auto")
    return checkpoint_files(folder / "run")[-1]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return interrupted(tmp_path_factory.mktemp("saved"))


def everything(learn):
    return [p.tolist() for p in learn.model.parameters()], {
        cb.name: str(vars(cb) | {"run": cb.run}) for cb in learn.cbs
    }


PLACES = [
    ("csv_logger", "fname", "/etc/passwd"), ("csv_logger", "file", "evil.txt"), ("json_logger", "file", "evil.txt"),
    ("csv_logger", "head", "evil"), ("run_record", "folder", "evil"), ("checkpoint", "place", "evil"), ("checkpoint", "keep", 1),
    ("counts", "fname", "evil.txt"), ("counts", "cached", 1),
]  # fmt: skip
SETTINGS = [
    ("csv_logger", "append", False), ("gradient_clip", "max_norm", 1e9), ("counts", "every", 3), ("save_model", "keep", -100),
    ("mixed_precision", "amp_mode", "fp16"), ("recorder", "beta", 0.5), ("train_eval", "order", 5), ("ema", "decay", 2.0),
]  # fmt: skip
INSIDES = [
    ("counts", name, {})
    for name in (
        "__dict__",
        "__class__",
        "_learn",
        "_as_made",
        "_event_functions",
        "after_batch",
        "name",
        "strange",
        "a b",
    )
]
KINDS = [
    ("csv_logger", "kept", -100), ("csv_logger", "kept", "1"), ("csv_logger", "before", -1),
    ("ema", "count", -1), ("ema", "averages", {}),
    ("recorder", "epochs", [0, 1]),
    ("recorder", "iters", [10**6]), ("recorder", "values", [["text"]]), ("recorder", "lrs", []), ("recorder", "log", ["evil"]),
    ("save_model", "best", "x"), ("save_model", "kept", [1]), ("save_model", "seen", -1),
    ("counts", "rows", 3), ("counts", "seen", {}), ("mixed_precision", "skipped", -1), ("recorder", "hps", {"lr": "x"}),
    ("save_model", "kept", {"$tuple": []}), ("recorder", "_pending", [[]]),
]  # fmt: skip


@pytest.mark.parametrize(("callback", "name", "value"), [*PLACES, *SETTINGS, *INSIDES, *KINDS])
def test_what_a_class_does_not_keep_is_refused_before_anything_changes(tmp_path, saved, callback, name, value):
    archive = read_archive(saved)
    archive.manifest["callbacks"].setdefault(callback, {})[name] = value
    file = write_archive(tmp_path / "edited.layered", archive.manifest, archive.tensors, kind="checkpoint")
    learn = learner(tmp_path)
    before = everything(learn)
    with pytest.raises(CannotRestore, match="cannot be restored completely"):
        learn.fit(3, resume=file)
    assert everything(learn) == before
    assert [file.name for file in tmp_path.iterdir()] == ["edited.layered"]


def test_a_file_does_not_choose_what_columns_are_called(tmp_path, saved):
    archive = read_archive(saved)
    archive.manifest["callbacks"]["recorder"]["metric_names"] = ["epoch", "=cmd|' /C calc'!A0"]
    file = write_archive(tmp_path / "edited.layered", archive.manifest, archive.tensors, kind="checkpoint")
    learn = learner(tmp_path)
    learn.fit(3, resume=file)
    assert learn.recorder.metric_names == ["epoch", "train_loss", "valid_loss", "time"]
    assert (tmp_path / "history.csv").read_text().startswith("epoch,train_loss,valid_loss\n")


def test_settings_that_another_callback_changes_in_the_fit_are_kept(tmp_path):
    class Tightens(Callback):
        def after_epoch(self):
            self.learn.gradient_clip.max_norm *= 0.1

    def run(folder, at=None):
        learn = learner(folder, at, [Tightens()])
        learn.fit(3, checkpoint=Checkpoint(folder / "run", "2 batches"), resume="auto")
        return learn.gradient_clip.max_norm, [p.tolist() for p in learn.model.parameters()]

    whole = run(tmp_path / "whole")
    with pytest.raises(Boom):
        run(tmp_path / "cut", 8)
    assert run(tmp_path / "cut") == whole


def test_every_callback_of_the_library_declares_its_state():
    from contracts.test_callbacks import SHIPPED

    assert [name for name, kind in SHIPPED.items() if "state_kinds" not in vars(kind)] == []
