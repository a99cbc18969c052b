"""Going on from a checkpoint: finding a sound one, checking that all of it fits, and putting everything back."""

from __future__ import annotations

import os
import pathlib
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import nn

from layered.foundation.archive import read_archive
from layered.foundation.errors import BadFile, BadValue, CannotRestore
from layered.foundation.helpers import listify
from layered.foundation.ranks import rank_and_world
from layered.foundation.seeds import set_random_states
from layered.foundation.tables import text_table
from layered.loop.durations import Moment
from layered.loop.packing import unpack
from layered.loop.processes import unwrapped
from layered.loop.weights import check_fits

GRADS = "model.grads"  # among the states of a process
MARK = ".layered-run"  # what a folder has that once held a checkpoint


class Resume:
    """Where a fit goes on from, and what it may do without.

    place      "auto" (the folder of `checkpoint=`), a folder, or a file
    allow      parts that need not be restored, by the names that the error gives: "callbacks.ema", "random.cuda", …

    `resume="auto"` is `resume=Resume("auto")`.
    """

    def __init__(self, place: Any = "auto", allow: str | Iterable[str] = ()) -> None:
        self.place, self.allow = place, tuple(listify(allow))

    def __repr__(self) -> str:
        return f"Resume({str(self.place)!r}, allow={list(self.allow)})"


class Restored:
    """What was restored of a checkpoint, and how: `learn.restored` after a fit has gone on.

    rows       (part, whether it was restored, how or why not)
    """

    def __init__(self, file: pathlib.Path, where: str, rows: list[tuple[str, bool, str]]) -> None:
        self.file, self.where, self.rows = file, where, rows

    def __repr__(self) -> str:
        told = [(part, "yes" if done else "no", how) for part, done, how in self.rows]
        return "\n".join([f"going on from {self.file}: {self.where}", *text_table(["part", "restored", "how"], told)])


class Saved:
    """A checkpoint that was read: where it stands, and how to go on from there."""

    def __init__(self, file: pathlib.Path, asked: Resume) -> None:
        archive = read_archive(file, kind="checkpoint")
        self.file, self.asked, self.tensors = file, asked, archive.tensors
        self.lost: set[str] = set()  # parts that are left as they are
        try:
            fit, position = archive.manifest["fit"], archive.manifest["position"]
            self.ordinal: int = fit["ordinal"]
            self.arguments: dict[str, Any] = fit["arguments"]
            self.epoch: int = position["epoch"]
            self.batch: int = position["batch"]
            self.validating: bool = position.get("validating", False)
            self.finished: bool = position["finished"]
            self.state: dict[str, Any] = unpack(archive.manifest["state"], self.tensors)
            packed = archive.manifest["callbacks"]
            self.callbacks: dict[str, Any] = {name: unpack(state, self.tensors) for name, state in packed.items()}
            others, rank = archive.manifest.get("others", []), rank_and_world()[0]
            self.processes = 1 + len(others)
            if 0 < rank < self.processes:
                begin = prefix_of(rank)
                own = {k.removeprefix(begin): x for k, x in self.tensors.items() if k.startswith(begin)}
                part = unpack(others[rank - 1], own)
                self.state.update(part["random"])
                self.state["grads"] = part["parts"].pop(GRADS, self.state["grads"])
                self.callbacks.update(part["parts"])
        except (KeyError, TypeError, AttributeError) as error:
            raise BadFile(f"{file} does not have the form of a checkpoint") from error

    def check(self, loop: Any) -> None:
        """See that everything in the file has its place in `loop`, and the other way round; nothing changes here.

        raises     CannotRestore naming each part that has not, and how to go on without it
        """
        rows = [self._model(loop), ("optimizer", True, type(loop.opt).__name__), *self._random(), self._loader(loop)]
        rows += [*self._processes(), *self._callbacks(loop)]
        lost = [(part, how) for part, done, how in rows if not done]
        refused = [part for part, _ in lost if not {part, part.partition(".")[0]} & set(self.asked.allow)]
        if refused:
            raise CannotRestore(
                f"{self.file} cannot be restored as a whole",
                got="; ".join(f"{part}: {how}" for part, how in lost),
                fix="give the learner what it had; or do without, "
                f"resume={Resume(self.asked.place, (*self.asked.allow, *refused))}",
            )
        self.lost = {part for part, _ in lost}
        loop.restored = Restored(self.file, self.where, rows)

    @property
    def where(self) -> str:
        """The place in the fit, in words."""
        if self.finished:
            return "the end of the fit"
        return f"epoch {self.epoch}, " + ("validation" if self.validating else f"batch {self.batch}")

    def _model(self, loop: Any) -> tuple[str, bool, str]:
        own_loss = loop.loss_func.state_dict() if isinstance(loop.loss_func, nn.Module) else {}
        for own, kept in ((unwrapped(loop.model).state_dict(), "model"), (own_loss, "loss_func")):
            try:
                check_fits(self.file, own, self.state[kept], strict=True)
            except CannotRestore as error:
                what = "model" if kept == "model" else "loss"
                raise CannotRestore(
                    f"{self.file} is of another {what}",
                    got=error.got,
                    expected=error.expected,
                    fix=f"build the same {what}, or start anew with resume=None",
                ) from None
        return "model", True, f"{len(self.state['model'])} tensors, {len(self.state['grads'])} gradients"

    def _random(self) -> list[tuple[str, bool, str]]:
        if rank_and_world()[0] >= self.processes:
            return [("random", True, "of this process, as they are")]
        here = {"random", "numpy", "torch"} | ({"cuda"} if torch.cuda.is_available() else set())
        count = len(self.state["random"].get("cuda", ()))
        fits = {name: name != "cuda" or count == torch.cuda.device_count() for name in here}
        kinds = self.state["random"]
        return [(f"random.{name}", fits.get(name, False), "state" if fits.get(name) else "not here") for name in kinds]

    def _processes(self) -> list[tuple[str, bool, str]]:
        world = rank_and_world()[1]
        if world == self.processes == 1:
            return []
        return [("processes", world == self.processes, f"written by {self.processes}, {world} go on")]

    def _loader(self, loop: Any) -> tuple[str, bool, str]:
        has_place = hasattr(loop.dls.train, "load_state_dict")
        if not self.batch or self.validating or self.finished:
            return "loader", True, "a whole pass"
        if self.state["loader"] is None:
            return "loader", True, f"takes {self.batch} batches again"
        return "loader", has_place, "position" if has_place else "the file has a position, this loader takes none"

    def _callbacks(self, loop: Any) -> Iterator[tuple[str, bool, str]]:
        cbs = named(loop.cbs)
        for name, state in self.callbacks.items():
            if state:
                yield (
                    f"callbacks.{name}",
                    name in cbs,
                    f"{len(state)} attributes" if name in cbs else "it is not there now",
                )
        for name in cbs:
            if name not in self.callbacks and cbs[name].state_dict():
                yield f"callbacks.{name}", False, "it was not there then"

    def restore(self, loop: Any) -> None:
        """Put everything back as it was when the file was written; `check` has seen that it fits.

        raises     CannotRestore for the state of another optimizer
        """
        state, model = self.state, unwrapped(loop.model)
        if state["frozen_idx"] != loop.opt.frozen_idx:
            loop.opt.freeze_to(state["frozen_idx"])  # clears the optimizer's state, which comes next
        try:
            loop.opt.load_state_dict(state["opt"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CannotRestore(
                f"{self.file} is of another optimizer",
                got=str(error).splitlines()[0],
                fix="make the same optimizer, or start anew with resume=None",
            ) from error
        model.load_state_dict(state["model"])
        if state["loss_func"]:
            loop.loss_func.load_state_dict(state["loss_func"])
        parameters = dict(model.named_parameters())
        for name, grad in state["grads"].items():
            parameters[name].grad = grad.to(parameters[name])
        for name, value in state["counters"].items():
            setattr(loop, name, value)
        loop.epochs_done = self.epoch
        loop.fit_began = Moment(loop.train_iter, self.epoch, time.monotonic())
        cbs = named(loop.cbs)
        for name, kept in self.callbacks.items():
            if kept and f"callbacks.{name}" not in self.lost:
                cbs[name].load_state_dict(kept)
        self._restore_random("random")

    def remaining(self, loader: Any) -> Iterator[Any]:
        """The batches of the interrupted pass that were not taken yet; loaders without `load_state_dict` replay."""
        if self.state["loader"] is not None and "loader" not in self.lost:
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
        """Put back the random states of this process; one that was not there then keeps its own."""
        if rank_and_world()[0] < self.processes:
            set_random_states({k: v for k, v in self.state[name].items() if f"random.{k}" not in self.lost})


def prefix_of(rank: int) -> str:
    """How the names of the tensors begin that a process other than the first has to itself."""
    return f"process{rank}/"


def named(cbs: Iterable[Any]) -> dict[str, Any]:
    """Callbacks by name; a second one of a name is `name#2`."""
    res: dict[str, Any] = {}
    for cb in cbs:
        count = sum(1 for other in res.values() if other.name == cb.name)
        res[cb.name if not count else f"{cb.name}#{count + 1}"] = cb
    return res


def find_saved(resume: Any, folder: pathlib.Path | None, ordinal: int, arguments: Mapping[str, Any]) -> Saved | None:
    """The checkpoint that fit number `ordinal` goes on from, or that says a later fit has begun; None to start.

    resume     None, "auto" (look in `folder`), a folder, a file, or a `Resume`
    folder     of the `Checkpoint` of the fit, if there is one
    raises     CannotRestore if there were checkpoints and none is usable, or if the fit's arguments differ
    """
    if resume is None:
        return None
    asked = resume if isinstance(resume, Resume) else Resume(resume)
    if asked.place == "auto" and folder is None:
        raise BadValue("resume='auto' needs a place to look", fix="add checkpoint='folder', or resume='folder'")
    saved = _newest(folder if asked.place == "auto" else pathlib.Path(asked.place), asked)  # type: ignore[arg-type]
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


def _newest(place: pathlib.Path, asked: Resume) -> Saved | None:
    """The newest usable checkpoint of a folder (or the file itself); a damaged newer one is told of."""
    if place.is_file():
        return Saved(place, asked)
    files = checkpoint_files(place)
    others = [] if asked.place == "auto" or not place.is_dir() else [f for f in os.listdir(place) if f[0] != "."]
    if not files and not others and not (place / MARK).exists():
        return None
    failures: list[str] = []
    for file in reversed(files):
        try:
            saved = Saved(file, asked)
        except (BadFile, OSError) as error:
            failures.append(f"{file.name}: {str(error).splitlines()[0]}")
            continue
        if failures:
            warnings.warn(
                f"going on from {file}, for newer checkpoints are damaged: {'; '.join(failures)}", stacklevel=4
            )
        return saved
    raise CannotRestore(
        f"no usable checkpoint in {place}",
        got="; ".join(failures) or "its checkpoints are gone",
        fix="give another folder, or start anew: delete this one, or resume=None",
    )


def checkpoint_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The checkpoints in a folder, oldest first; files of other names, and folders, are not ours."""
    found = (file for file in folder.glob("checkpoint-*.layered") if number_of(file) and not file.is_dir())
    return sorted(found, key=number_of)


def number_of(file: pathlib.Path) -> int:
    """The number in a checkpoint's name, from 1; 0 if it has none."""
    digits = file.stem.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0
