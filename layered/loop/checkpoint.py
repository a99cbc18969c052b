"""Checkpoints: everything a fit needs to go on, in one file, written while it runs."""

from __future__ import annotations

import os
import pathlib
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from torch import Tensor, nn

from layered.foundation.archive import Archive, read_archive, write_archive
from layered.foundation.errors import BadFile, BadValue, CannotRestore, CannotSave
from layered.foundation.seeds import get_random_states, set_random_states
from layered.loop.callback import Callback
from layered.loop.durations import Duration, Every, Moment
from layered.loop.packing import pack, unpack
from layered.loop.processes import rank_and_world, unwrapped

COUNTERS = ("epoch", "train_iter", "pct_train", "epochs_started")


class Checkpoint(Callback):
    """Writes the state of the fit to `folder` every so often, and when it ends.

    folder     is made if need be; newer files have higher numbers
    every      "1 epoch", "50 batches", "10 min": see `Duration.of`
    keep       how many of the newest files stay; an old one goes only after the new one is safely on disk

    A fit with the same arguments goes on from there, bit for bit, with `resume="auto"`. The file holds model,
    optimizer, counters, random states, the loader's position, and the state of every callback
    (`Callback.state_dict`); something that it cannot hold stops the fit and is named. Of several processes the first
    writes; the others go on from its file with random states of their own.
    """

    order = 1000

    def __init__(self, folder: str | os.PathLike[str], every: str | Duration = "1 epoch", keep: int = 2) -> None:
        self.folder, self.every, self.keep = pathlib.Path(folder), Every(every), keep
        if self.every.duration.unit == "times":
            raise BadValue(
                "every says how often to write", got=repr(every), expected="'1 epoch', '50 batches', '30 sec', '10 min'"
            )
        if not isinstance(keep, int) or keep < 1:
            raise BadValue("keep is how many checkpoints stay", got=repr(keep), expected="an integer >= 1")
        self.random_at_start: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def before_train(self) -> None:
        self.random_at_start = get_random_states()

    def after_batch(self) -> None:
        learn = self.learn
        if learn.training and self.every.duration.unit != "epochs" and self.every.due(learn):
            self.write(learn.epoch, learn.iter + 1)

    def after_epoch(self) -> None:
        learn = self.learn
        if learn.fitting and self.every.duration.unit == "epochs" and self.every.due(learn):
            self.write(learn.epoch + 1, 0)

    def after_fit(self) -> None:
        if self.learn.fitting:
            self.write(self.learn.n_epoch, 0, finished=True)

    def write(self, epoch: int, batch: int, finished: bool = False) -> None:
        """Write a checkpoint from which a fit goes on with batch `batch` of epoch `epoch`."""
        if rank_and_world()[0] > 0:
            return
        learn, model = self.learn, unwrapped(self.learn.model)
        tensors: dict[str, Tensor] = {}
        state = {
            "model": model.state_dict(),
            "grads": {name: p.grad for name, p in model.named_parameters() if p.grad is not None},
            "loss_func": learn.loss_func.state_dict() if isinstance(learn.loss_func, nn.Module) else {},
            "opt": learn.opt.state_dict(),
            "frozen_idx": learn.opt.frozen_idx,
            "counters": {name: getattr(learn, name) for name in COUNTERS},
            "loader": learn.dl.state_dict() if batch and hasattr(learn.dl, "load_state_dict") else None,
            "random": get_random_states(),
            "random_at_start": self.random_at_start if batch else None,
        }
        manifest = {
            "fit": {"ordinal": learn.fit_ordinal, "arguments": learn.fit_arguments},
            "position": {"epoch": epoch, "batch": batch, "finished": finished},
            "state": pack(state, tensors, "state"),
            "callbacks": {name: pack_callback(cb, tensors, name) for name, cb in named(learn.cbs).items()},
        }
        old = checkpoint_files(self.folder)
        number = 1 + (number_of(old[-1]) if old else 0)
        write_archive(self.folder / f"checkpoint-{number:06d}.layered", manifest, tensors, kind="checkpoint")
        for file in old[: max(len(old) + 1 - self.keep, 0)]:
            file.unlink()

    def __repr__(self) -> str:
        return f"Checkpoint('{self.folder}', every='{self.every.duration}', keep={self.keep})"


def checkpoints_of(checkpoint: Any) -> list[Callback]:
    """What `checkpoint=` accepts, as callbacks: None, a `Checkpoint`, or the folder for one."""
    if checkpoint is None:
        return []
    return [checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)]


def checkpoint_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(folder.glob("checkpoint-*.layered"), key=number_of)


def number_of(file: pathlib.Path) -> int:
    """The number in a checkpoint's name."""
    digits = file.stem.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0


def named(cbs: Iterable[Callback]) -> dict[str, Callback]:
    """Callbacks by name; a second one of a name is `name#2`."""
    res: dict[str, Callback] = {}
    for cb in cbs:
        count = sum(1 for other in res.values() if other.name == cb.name)
        res[cb.name if not count else f"{cb.name}#{count + 1}"] = cb
    return res


def pack_callback(cb: Callback, tensors: dict[str, Tensor], where: str) -> dict[str, Any]:
    """The state of a callback as JSON and tensors; what it was made with and cannot be written is left out."""
    res = {}
    for name, value in cb.state_dict().items():
        part: dict[str, Tensor] = {}
        try:
            res[name] = pack(value, part, f"{where}.{name}")
        except CannotSave:
            if not cb.unchanged(name):
                raise
        tensors.update(part)
    return res


class Saved:
    """A checkpoint that was read: where it stands, and how to go on from there."""

    def __init__(self, file: pathlib.Path, archive: Archive) -> None:
        self.file, self.manifest, self.tensors = file, archive.manifest, archive.tensors
        try:
            self.ordinal: int = self.manifest["fit"]["ordinal"]
            self.arguments: dict[str, Any] = self.manifest["fit"]["arguments"]
            self.epoch: int = self.manifest["position"]["epoch"]
            self.batch: int = self.manifest["position"]["batch"]
            self.finished: bool = self.manifest["position"]["finished"]
            self.state: dict[str, Any] = unpack(self.manifest["state"], self.tensors)
        except (KeyError, TypeError) as error:
            raise BadFile(f"{file} does not have the form of a checkpoint") from error

    def restore(self, loop: Any) -> None:
        """Put everything back as it was when the file was written.

        raises     CannotRestore naming what does not fit
        """
        state, model = self.state, unwrapped(loop.model)
        try:
            model.load_state_dict(state["model"])
            if state["loss_func"]:
                loop.loss_func.load_state_dict(state["loss_func"])
            if state["frozen_idx"] != loop.opt.frozen_idx:
                loop.opt.freeze_to(state["frozen_idx"])
            loop.opt.load_state_dict(state["opt"])
            parameters = dict(model.named_parameters())
            for name, grad in state["grads"].items():
                parameters[name].grad = grad.to(parameters[name])
        except (RuntimeError, ValueError, KeyError, AttributeError) as error:
            raise CannotRestore(
                f"{self.file} is of another model or optimizer",
                got=str(error).splitlines()[0],
                fix="build the same model and optimizer, or start anew with resume=None",
            ) from error
        for name, value in state["counters"].items():
            setattr(loop, name, value)
        loop.epochs_done = self.epoch
        loop.fit_began = Moment(loop.train_iter, self.epoch, time.monotonic())
        self._restore_callbacks(loop)
        self._restore_random("random")

    def _restore_callbacks(self, loop: Any) -> None:
        cbs = named(loop.cbs)
        for name, packed in self.manifest["callbacks"].items():
            if packed and name not in cbs:
                raise CannotRestore(
                    f"{self.file} has the state of a callback that is not there now",
                    got=", ".join(cbs),
                    expected=name,
                    fix="give the learner or the fit the same callbacks",
                )
            if packed:
                cbs[name].load_state_dict(unpack(packed, self.tensors))

    def remaining(self, loader: Any) -> Iterator[Any]:
        """The batches of the interrupted pass that were not taken yet; loaders without `load_state_dict` replay."""
        if self.state["loader"] is not None:
            loader.load_state_dict(self.state["loader"])
            batches: Iterator[Any] = iter(loader)
        else:
            self._restore_random("random_at_start")
            batches = iter(loader)
            for _ in islice(batches, self.batch):
                pass
        self._restore_random("random")
        return batches

    def _restore_random(self, name: str) -> None:
        """Put back random states of the process that wrote; the others keep their own."""
        if rank_and_world()[0] == 0:
            set_random_states(self.state[name])


def find_saved(resume: Any, cbs: Iterable[Callback], ordinal: int, arguments: Mapping[str, Any]) -> Saved | None:
    """The checkpoint that fit number `ordinal` goes on from, or that says a later fit has begun; None to start.

    resume     None, "auto" (the folder of the `Checkpoint` among `cbs`), a folder, or a file
    raises     CannotRestore if there are files and none is usable, or if the fit's arguments differ
    """
    if resume is None:
        return None
    if resume == "auto":
        folder = next((cb.folder for cb in cbs if isinstance(cb, Checkpoint)), None)
        if folder is None:
            raise BadValue("resume='auto' needs a place to look", fix="add checkpoint='folder', or resume='folder'")
    else:
        folder = pathlib.Path(resume)
    saved = _newest(folder)
    if saved is None or saved.ordinal < ordinal:
        return None
    if saved.ordinal == ordinal:
        _check_arguments(saved, arguments)
    return saved


def _check_arguments(saved: Saved, arguments: Mapping[str, Any]) -> None:
    differing = [k for k in arguments if saved.arguments.get(k) != arguments[k]]
    if differing:
        raise CannotRestore(
            f"{saved.file} is of a fit with other arguments",
            got=", ".join(f"{k}={arguments[k]}" for k in differing),
            expected=", ".join(f"{k}={saved.arguments.get(k)}" for k in differing),
            fix="call the fit as before, or start anew in another folder",
        )


def _newest(place: pathlib.Path) -> Saved | None:
    """The newest usable checkpoint of a folder (or the file itself); a damaged newer one is told of."""
    if place.is_file():
        return Saved(place, read_archive(place, kind="checkpoint"))
    if not place.is_dir() or not any(not f.name.startswith(".") for f in place.iterdir()):
        return None
    failures: list[str] = []
    for file in reversed(checkpoint_files(place)):
        try:
            saved = Saved(file, read_archive(file, kind="checkpoint"))
        except (BadFile, OSError) as error:
            failures.append(f"{file.name}: {str(error).splitlines()[0]}")
            continue
        if failures:
            warnings.warn(
                f"going on from {file}, for newer checkpoints are damaged: {'; '.join(failures)}", stacklevel=3
            )
        return saved
    raise CannotRestore(
        f"no usable checkpoint in {place}",
        got="; ".join(failures) or "other files",
        fix="give another folder, or start anew with resume=None",
    )
