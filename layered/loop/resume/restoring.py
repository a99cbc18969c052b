"""Restoring a checkpoint: checking that all of it fits, then restoring everything in order."""

from __future__ import annotations

import os
import pathlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.data import DataLoader as TorchDataLoader

from layered.data import as_loader
from layered.files import decode_tree, exactly, read_archive
from layered.foundation import BadFile, CannotRestore, Report, Table, listify, rank_and_world, shard_like, warn
from layered.loop.batches import generators_of, iter_once
from layered.loop.durations import Moment
from layered.loop.events import CancelEpochException, CancelFitException, CancelTrainException
from layered.loop.kept import Amount, Count, fits
from layered.loop.listeners import Listener, by_name
from layered.loop.optimizer_parts import optimizer_recipe
from layered.loop.processes import unwrapped
from layered.loop.resume.description import describe_for_resuming, differences
from layered.loop.resume.outside import AT_START, OUTSIDE, check_outside, restore_outside
from layered.loop.resume.parts import read_parts
from layered.loop.resume.snapshot import digest, restore_buffers, restore_random_states
from layered.loop.resume.weights import check_fits
from layered.loop.sharding import load_whole
from layered.loop.state import AbstractLoop

T = TypeVar("T")

COUNTERS = {"epoch": Count, "train_iter": Count, "pct_train": Amount, "epochs_started": Count}  # of a loop
GRADS, BUFFERS = "model.grads", "model.buffers"  # among the states of a process
CANCELS = {"": None, "train": CancelTrainException, "epoch": CancelEpochException, "fit": CancelFitException}
# An attribute of torch's DistributedDataParallel: whether it hands out buffers as a batch begins.
SYNCS = "require_forward_param_sync"


class Resume:
    """Where a fit resumes from, and what need not be restored.

    `resume="auto"` is `resume=Resume("auto")`.

    Args:
        place: "auto" (the folder of `checkpoint=`), a folder, or a file.
        allow: Parts that need not be restored, or may differ, by the names that the error gives: "callbacks.ema",
            "optimizer", "arguments.n_epoch", ….
    """

    def __init__(self, place: str | os.PathLike[str] = "auto", allow: str | Iterable[str] = ()) -> None:
        self.place, self.allow = place, tuple(listify(allow))

    def __repr__(self) -> str:
        return f"Resume({str(self.place)!r}, allow={list(self.allow)})"


class Restored(Report):
    """What was restored of a checkpoint, and how: `learn.restored` after a fit was resumed.

    Args:
        saved: The checkpoint.
        rows: (part, whether it was restored, how or why not).

    Attributes:
        file: The checkpoint's file.
        where: The position in the fit, in words.
        epoch_and_batch: The position in numbers.
    """

    def __init__(self, saved: Saved, rows: list[tuple[str, bool, str]]) -> None:
        self.file, self.where, self.rows = saved.file, saved.where, rows
        self.epoch_and_batch = saved.epoch, saved.batch

    def records(self) -> list[dict[str, Any]]:
        return [{"part": part, "restored": done, "how": how} for part, done, how in self.rows]

    def heading(self) -> str:
        return f"resuming from {self.file}: {self.where}"

    def tables(self) -> Sequence[Table]:
        rows = [(part, "yes" if done else "no", how) for part, done, how in self.rows]
        return [(("part", "restored", "how"), rows)]


class Saved:
    """A checkpoint that was read: its position in the fit, and how to resume from it."""

    def __init__(self, file: pathlib.Path, asked: Resume) -> None:
        archive = read_archive(file, kind="checkpoint")
        self.file, self.asked, self.tensors = file, asked, archive.tensors
        self.damaged: list[pathlib.Path] = []  # newer files that could not be read
        self.lost: set[str] = set()  # parts that are not restored
        try:
            self.tensors |= read_parts(file, archive.manifest.get("parts"))
            fit, position = archive.manifest["fit"], archive.manifest["position"]
            self.ordinal = _checked("ordinal", fit["ordinal"], Count)
            self.arguments = exactly(dict, fit["arguments"])
            self.epoch, self.batch = (_checked(name, position[name], Count) for name in ("epoch", "batch"))
            self.finished = exactly(bool, position["finished"])
            self.cancels = CANCELS[position.get("cancelled", "")]  # how a callback ended the pass after that batch
            self.run = exactly(dict, archive.manifest.get("run", {}))  # files of earlier versions do not describe it
            self.state = exactly(dict, decode_tree(archive.manifest["state"], self.tensors))
            self.state["counters"] = {
                name: _checked(name, self.state["counters"][name], kind) for name, kind in COUNTERS.items()
            }
            _checked("frozen_idx", self.state["frozen_idx"], int | dict[str, int])
            packed = archive.manifest["callbacks"]
            self.callbacks: dict[str, Any] = {name: decode_tree(state, self.tensors) for name, state in packed.items()}
            for name in (OUTSIDE, AT_START):  # files of earlier versions have neither
                self.state[name] = decode_tree(archive.manifest.get(name, {}), self.tensors)
            others, rank = archive.manifest.get("others", []), rank_and_world()[0]
            self.processes = 1 + len(others)
            if 0 < rank < self.processes:
                begin = prefix_of(rank)
                own = {k.removeprefix(begin): x for k, x in self.tensors.items() if k.startswith(begin)}
                own = self.tensors | own  # sharded tensors stand in the file once, for all
                part = decode_tree(others[rank - 1], own)
                self.state.update(part["random"])
                for name, key in ((GRADS, "grads"), (BUFFERS, "buffers"), (OUTSIDE, OUTSIDE), (AT_START, AT_START)):
                    self.state[key] = part["parts"].pop(name, self.state.get(key, {}))
                self.callbacks.update(part["parts"])
            needed = ["model", "grads", "loss_func", "opt", "random", OUTSIDE, AT_START]
            for name in [*needed, *(["random_at_start"] if self.batch else [])]:
                exactly(dict, self.state[name])
            for state in self.callbacks.values():
                exactly(dict, state)
        except BadFile:
            raise
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise BadFile(f"{file} does not have the form of a checkpoint") from error

    def check(self, loop: AbstractLoop) -> None:
        """Check that everything in the file has a counterpart in `loop`, and the reverse; nothing changes.

        Raises:
            CannotRestore: Naming each part that has none, and how to resume without it.
        """
        self._with_sense(self._check, loop)

    def restore(self, loop: AbstractLoop) -> None:
        """Restore everything as it was when the file was written; call `check` first.

        Raises:
            CannotRestore: For a state that turns out to be invalid; the model is then unchanged.
        """
        self._with_sense(self._restore, loop)

    def _with_sense(self, step: Callable[[AbstractLoop], T], loop: AbstractLoop) -> T:
        try:
            return step(loop)
        except (BadFile, CannotRestore):
            raise
        except Exception as error:
            raise CannotRestore(
                f"{self.file} holds a state that does not fit",
                got=f"{type(error).__name__}: {error!s:.200}",
                fix="make the learner as it was, or start from the beginning with resume=None",
            ) from error

    def _check(self, loop: AbstractLoop) -> None:
        rows = [self._model(loop), self._optimizer(loop), *self._random(loop), self._loader(loop)]
        rows += [
            *self._processes(),
            *self._callbacks(loop),
            *check_outside(loop, self.state[OUTSIDE]),
            *self._run(loop),
        ]
        lost = [(part, how) for part, done, how in rows if not done]
        refused = [part for part, _ in lost if not any(f"{part}.".startswith(f"{one}.") for one in self.asked.allow)]
        if refused:
            raise CannotRestore(
                f"{self.file} cannot be restored completely",
                got="; ".join(f"{part}: {how}" for part, how in lost),
                fix="give the learner what it had; or resume without it: "
                f"resume={Resume(self.asked.place, (*self.asked.allow, *refused))}",
            )
        self.lost = {part for part, _ in lost}
        loop.restored = Restored(self, rows)

    @property
    def where(self) -> str:
        """The position in the fit, in words."""
        if self.finished:
            return "the end of the fit"
        return f"epoch {self.epoch}, batch {self.batch}"

    def _model(self, loop: AbstractLoop) -> tuple[str, bool, str]:
        own_loss = loop.loss_func.state_dict() if isinstance(loop.loss_func, nn.Module) else {}
        for own, kept in ((unwrapped(loop.model).state_dict(), "model"), (own_loss, "loss_func")):
            try:
                check_fits(self.file, own, self.state[kept], strict=True)
            except CannotRestore as error:
                what = "model" if kept == "model" else "loss"
                raise CannotRestore(
                    f"{self.file} belongs to another {what}",
                    got=error.got,
                    expected=error.expected,
                    fix=f"build the same {what}, or start from the beginning with resume=None",
                ) from None
        return "model", True, f"{len(self.state['model'])} tensors, {len(self.state['grads'])} gradients"

    def _optimizer(self, loop: AbstractLoop) -> tuple[str, bool, str]:
        saved: Any = self.state.get("opt_recipe")
        current = optimizer_recipe(loop.opt)
        is_same = saved is None or _is_like(saved, current)
        return (
            "optimizer",
            is_same,
            type(loop.opt).__name__ if is_same else f"saved {_brief(saved)}, current {_brief(current)}",
        )

    def _random(self, loop: AbstractLoop) -> list[tuple[str, bool, str]]:
        if rank_and_world()[0] >= self.processes:
            return [("random", True, "left as they are: the file has none of this process")]
        kinds = self.state["random"]
        own = len(kinds.get("loader", ())), len(generators_of(loop.dls))
        has_cuda = torch.cuda.is_available() and len(kinds.get("cuda", ())) == torch.cuda.device_count()
        fits = {"random": True, "numpy": True, "torch": True, "cuda": has_cuda, "loader": own[0] == own[1]}
        names = [name for name in kinds if name != "loader" or any(own)]
        return [
            (f"random.{name}", fits.get(name, False), "state" if fits.get(name) else "missing now") for name in names
        ]

    def _processes(self) -> list[tuple[str, bool, str]]:
        world = rank_and_world()[1]
        if world == self.processes == 1:
            return []
        return [("processes", world == self.processes, f"written by {self.processes}, resumed by {world}")]

    def _loader(self, loop: AbstractLoop) -> tuple[str, bool, str]:
        train, has_place = loop.dls.train, as_loader(loop.dls.train).keeps_position
        if (
            isinstance(train, TorchDataLoader)
            and train.persistent_workers
            and not has_place
            and self.state["counters"]["epochs_started"] > 1
        ):
            return "loader", False, "its persistent workers keep random states that cannot be restored"
        if self.state.get("sampler_changes"):
            return (
                "loader",
                False,
                "its sampler keeps a state that cannot be restored: give it a set_epoch(epoch) to draw from",
            )
        if iter_once(train):
            return "loader", True, f"replays {self.state['counters']['train_iter']} batches"
        if not self.batch or self.finished:
            return "loader", True, "a whole pass"
        if self.state["loader"] is None:
            return "loader", True, f"replays {self.batch} batches"
        return (
            "loader",
            has_place,
            "position" if has_place else "the file has a position, which this loader cannot restore",
        )

    def _callbacks(self, loop: AbstractLoop) -> Iterator[tuple[str, bool, str]]:
        cbs = by_name(loop.cbs)
        for name, state in self.callbacks.items():
            if state:
                yield f"callbacks.{name}", *_fate(cbs.get(name), state)
        for name in cbs:
            if name not in self.callbacks and cbs[name].state_dict():
                yield f"callbacks.{name}", False, "not in the file"

    def _run(self, loop: AbstractLoop) -> Iterator[tuple[str, bool, str]]:
        """What this fit depends on that is not as it was for the one that wrote the file."""
        if not self.run:
            return
        current, saved = describe_for_resuming(loop, self.arguments), {**self.run, "seed": None}
        del current["seed"]  # the file's random states replace what it has led to
        for name in saved["callbacks"].keys() ^ current["callbacks"].keys():
            settings = saved["callbacks"].get(name) or current["callbacks"].get(name)
            if settings["declared"] and not self.callbacks.get(name):
                yield f"callbacks.{name}", False, "missing now" if name in saved["callbacks"] else "not in the file"
        for part, before, now in differences(saved, current):
            kind, _, rest = part.partition(".")
            how = f"saved {before!s:.80}, current {now!s:.80}"
            if kind != "callbacks" or current["callbacks"][rest.partition(".")[0]]["declared"]:
                yield part, False, how
            else:
                warn(f"resuming with another setting of a callback: {part}: {how}")

    def _restore(self, loop: AbstractLoop) -> None:
        state, model = self.state, unwrapped(loop.model)
        parameters = dict(model.named_parameters())
        grads = {
            name: shard_like(grad.reshape(p.shape).to(p.device, p.dtype), p)
            for name, grad in state["grads"].items()
            for p in [parameters[name]]
        }
        # Random states are restored first so that invalid ones are found before anything else changes, and again at the end
        # because what comes between (building iterators, user code in load_state_dict) may draw from the generators.
        self._restore_random(loop, "random")
        self._restore_outside(loop)
        cbs = {name: cb for name, cb in by_name(loop.cbs).items() if f"callbacks.{name}" not in self.lost}
        for name, kept in self.callbacks.items():
            if name in cbs:
                cbs[name].check_state(kept)  # again, because they have begun the fit since
        if state["frozen_idx"] != loop.opt.frozen_idx:
            loop.opt.freeze_to(state["frozen_idx"])  # before the optimizer's state, which freezing clears
        if "optimizer" not in self.lost:
            loop.opt.load_state_dict(state["opt"])
        for name, kept in self.callbacks.items():
            if name in cbs:
                cbs[name].load_state_dict(kept)
        for name, value in state["counters"].items():
            setattr(loop, name, value)
        loop.epochs_done = self.epoch
        loop.fit_began = Moment(loop.train_iter, self.epoch, time.monotonic())
        if isinstance(loop.loss_func, nn.Module) and state["loss_func"]:
            loop.loss_func.load_state_dict(state["loss_func"])
        load_whole(model, state["model"])
        restore_buffers(model, state.get("buffers", {}))
        if state.get("syncs") is not None and hasattr(loop.model, SYNCS):
            setattr(loop.model, SYNCS, bool(state["syncs"]))
        for name, grad in grads.items():
            parameters[name].grad = grad
        if iter_once(loop.dls.train):
            for _ in islice(loop.dls.train, loop.train_iter):
                pass
        self._restore_outside(loop)
        self._restore_random(loop, "random")

    def remaining(self, loop: AbstractLoop) -> Iterator[Any]:
        """The batches of the interrupted pass that are left; loaders without `load_state_dict` replay those before.

        Raises:
            CannotRestore: If the position is that of another loader.
        """
        return self._with_sense(self._remaining, loop)

    def _remaining(self, loop: AbstractLoop) -> Iterator[Any]:
        loader = loop.dl
        if self.state["loader"] is not None and "loader" not in self.lost:
            self._restore_random(loop, "random_at_start")  # for samplers that draw the order of a pass as it begins
            loader.load_state_dict(self.state["loader"])
            batches: Iterator[Any] = iter(loader)
        elif iter_once(loader):  # `restore` has replayed it already
            return iter(loader)
        else:
            self._restore_outside(loop, AT_START)
            self._restore_random(loop, "random_at_start")
            batches = iter(loader)
            self._check_replayed(deque(islice(batches, self.batch), maxlen=1))
            self._restore_outside(loop)
        self._restore_random(loop, "random")
        return batches

    def _check_replayed(self, last: deque[Any]) -> None:
        """Say it where a loader of another library has not given the same batches again."""
        wanted = self.state.get(
            "last_batch"
        )  # files of earlier versions have none, and each process but the first another
        if wanted and rank_and_world() == (0, 1) and digest([*last]) != wanted:
            warn(
                f"the loader did not give the {self.batch} batches of the interrupted pass again: the fit goes on, but with "
                "other batches than it would have had; give the loader a seed, or one with state_dict and load_state_dict, "
                "such as torchdata's StatefulDataLoader"
            )

    def _restore_outside(self, loop: AbstractLoop, name: str = OUTSIDE) -> None:
        """Restore state outside `state_dict`."""
        restore_outside(
            loop, {place: x for place, x in self.state[name].items() if f"{OUTSIDE}.{place}" not in self.lost}
        )

    def _restore_random(self, loop: AbstractLoop, name: str) -> None:
        """Restore the random states of this process; a process that the file does not know keeps its own."""
        if rank_and_world()[0] < self.processes:
            restore_random_states(loop, {k: v for k, v in self.state[name].items() if f"random.{k}" not in self.lost})


def _fate(cb: Listener | None, state: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether a state can be restored, and how or why not."""
    if cb is None:
        return False, "missing now"
    try:
        cb.check_state(state)
    except BadFile as error:
        return False, f"{error.problem}: {error.got}"
    left = [one for one in cb.state_dict() if one not in state]
    return True, f"{len(state)} attributes" + (f"; left as made: {', '.join(left)}" if left else "")


def _checked(name: str, value: Any, kind: Any) -> Any:
    """A value read from a file, if it is of a kind."""
    if not fits(value, kind):
        raise ValueError(f"{name} = {value!r:.100}")
    return value


def _is_like(saved: object, current: object) -> bool:
    """Whether two recipes agree on everything that both contain: another release of torch may have more options."""
    if isinstance(saved, dict) and isinstance(current, dict):
        is_several = "kind" not in current and saved.keys() != current.keys()
        return not is_several and all(_is_like(saved[name], current[name]) for name in saved.keys() & current.keys())
    return bool(saved == current)


def _brief(recipe: Mapping[str, Any]) -> str:
    if "kind" not in recipe:
        return "; ".join(f"{name}: {_brief(one)}" for name, one in recipe.items())
    hypers = [f"{name}={value}" for name, value in recipe["hypers"].items()]
    return f"{recipe['kind']}({', '.join([*recipe['steps'], *hypers])}) of {'+'.join(map(str, recipe['sizes']))} parameters"


def prefix_of(rank: int) -> str:
    """The prefix of the names of tensors saved by a rank other than 0."""
    return f"process{rank}/"
