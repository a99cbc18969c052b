"""Checkpoints: everything a fit needs to resume, in one file, written while it runs."""

from __future__ import annotations

import os
import pathlib
import time
from collections import deque
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Tensor, nn

from layered.data import DataLoader, as_loader
from layered.files import commit, disk, encode_tree, real_path, saving, sweep, write_archive
from layered.foundation import (
    BadValue,
    CannotSave,
    has_sharded,
    is_sharded,
    local_part,
    rank_and_world,
    warn,
    whole_number,
)
from layered.loop.callback import Callback
from layered.loop.durations import Duration, Every
from layered.loop.kept import mark
from layered.loop.listeners import by_name
from layered.loop.optimizer_parts import optimizer_recipe
from layered.loop.processes import largest_of_processes, unwrapped
from layered.loop.resume.background import Writer, snapshot
from layered.loop.resume.description import describe_for_resuming
from layered.loop.resume.finding import (
    MARK,
    checkpoint_files,
    checkpoint_number,
    ended_fit,
)
from layered.loop.resume.lock import all_see, check_held
from layered.loop.resume.outside import AT_START, OUTSIDE, Outside, data_changes
from layered.loop.resume.parts import Part, begin_parts, delete_parts
from layered.loop.resume.remote import Remote, is_address
from layered.loop.resume.restoring import BUFFERS, COUNTERS, GRADS, SYNCS, prefix_of
from layered.loop.resume.resumed import ResumedFit
from layered.loop.resume.signals import EndingSignals
from layered.loop.resume.snapshot import (
    Packed,
    digest,
    own_parts,
    pack_callback,
    random_states,
    states_of_others,
    transient_buffers,
)
from layered.loop.sharding import whole_tensors

State: TypeAlias = "tuple[dict[str, Any], dict[str, Tensor], Part | None]"
"""What a checkpoint holds: the manifest, whole tensors, and the part that this process has of sharded ones."""


@runtime_checkable
class TakesEpoch(Protocol):
    """A sampler that draws from the epoch it is given; others may keep a state that cannot be restored."""

    def set_epoch(self, epoch: int, /) -> object: ...


LARGE = 1 << 31  # bytes of sharded tensors above which each process writes its own part


class Checkpoint(Callback):
    """Writes the state of the fit to `folder` every so often, and when it ends.

    A fit with the same arguments resumes from it, bit for bit, with `resume="auto"`. The file holds the model, the
    optimizer, counters, random states, the loader's position, and the state of every callback
    (`Callback.state_dict`); and the counters, tensors and generators that models, losses, data sets and transforms hold as
    attributes, if they have changed since the fit began. Something that it cannot hold stops the fit and is named. Numbers
    that objects of installed libraries hold are not seen, and other attributes that you set on the learner are not saved.
    Whether the data is that of the interrupted fit is checked on a sample of it where it is large.

    Of several processes rank 0 writes for all, including what differs between them: random states, unfinished gradients,
    callbacks.

    A SIGTERM, SIGUSR1 or SIGUSR2 lets the current batch finish (in validation, the pass), writes a checkpoint, and ends the
    process with status 128 + the number of the signal: 143, 138 or 140. Several processes end together if one of them gets it.

    A fit that fails between two batches, because one cannot be made or by an interrupt, leaves a checkpoint of where it was. One
    that fails elsewhere before its first checkpoint leaves that of its start, which is kept in memory until then. (Several
    processes do not wait for one that has failed: they leave the last checkpoint, or that of the start.)

    Args:
        folder: Created if needed; newer files have higher numbers. Or an address that `fsspec` knows, such as "s3://bucket/run":
            each file is put there from a folder below `LAYERED_HOME`, and fetched from there on another machine.
        every: "1 epoch", "50 batches", "10 min": see `Duration.of`.
        keep: How many of the newest files stay, besides the last of each earlier fit; an old one is deleted only after the
            new one is safely on disk.
        background: Write a copy of the state while training continues; an error is raised at the next batch, epoch or end.
        parts: Each process writes its own parts of a sharded model (`strategy="fsdp"`), to a folder beside the file, which all
            must see; else the first process gathers all of it in its memory. By default, if all see the folder and the sharded
            tensors have more than 2 GiB.
    """

    order = 1000
    observes = True
    state_kinds = ()

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every: str | Duration = "1 epoch",
        keep: int = 2,
        background: bool = True,
        parts: bool | None = None,
    ) -> None:
        self.remote = Remote(os.fspath(folder)) if is_address(folder) else None
        if self.remote is not None and parts:
            raise BadValue(
                "checkpoints at an address are whole files",
                got="parts=True",
                fix="parts=False, or a folder that all processes see",
            )
        self.parts = parts
        self.folder = pathlib.Path(folder) if self.remote is None else self.remote.folder
        self.every, self.background = Every(every), background
        if self.every.duration.unit == "times":
            raise BadValue(
                "every must say how often to write",
                got=repr(every),
                expected="'1 epoch', '50 batches', '30 sec', '10 min'",
            )
        self.keep = whole_number(keep) or 0
        if self.keep < 1:
            raise BadValue("keep must be a number of checkpoints", got=repr(keep), expected="an integer >= 1")
        self.writer = Writer()
        self.written: deque[dict[str, Any]] = deque(maxlen=1000)  # files of this fit, until a record has listed them
        self.random_at_start: dict[str, Any] = {}  # of the current training pass
        self.outside: Outside | None = None
        self.outside_at_start: tuple[Packed, dict[str, Any]] = ({}, {}), {}
        self.damaged: set[str] = set()  # files that could not be read
        self.samplers: list[tuple[Any, Any]] = []  # those without set_epoch, with their marks as the fit began
        self.place = self.folder  # where the files go: below the folder, in full
        self.starts_over = False  # the fit was to be resumed, and there is no checkpoint of it
        self.run_description: dict[str, Any] = {}
        self.signals = EndingSignals()
        self.is_ended = self.is_ending = self.waits = False
        self.in_parts = parts  # of this fit; None until it is decided
        self.pending: State | None = None  # until later callbacks are done with the batch
        self.first: State | None = None  # of the start, until a file is written
        self.last: tuple[int, int] | None = None  # epoch and number of a batch, while it is the last one that was begun

    def before_fit(self) -> None:
        self.is_ended = self.is_ending = False
        self.pending = self.first = self.last = None
        self.in_parts = self.parts
        later = (cb for cb in self.learn.cbs if cb.order > self.order and cb.handler("after_batch"))
        self.waits = any(isinstance(cb, Callback) and not cb.observes for cb in later)
        self.written.clear()
        if self.learn.fitting and not self.learn.peeking:
            self.run_description = describe_for_resuming(self.learn, self.learn.fit_arguments)
            self.outside = Outside(self.learn)
        resumed = self.learn.callbacks.get(ResumedFit)
        self.damaged = {os.path.abspath(file) for file in resumed.saved.damaged} if resumed else set()
        without_epochs = [s for s in as_loader(self.learn.dls.train).samplers if not isinstance(s, TakesEpoch)]
        self.samplers = [(sampler, mark(sampler)) for sampler in without_epochs]
        self._warn_of_later()
        if self.learn.fitting:
            self.signals.listen()
            if not self.learn.peeking and resumed is None and not has_sharded(self.learn.model.parameters()):
                state = self._state(0, 0)
                self.first = None if state is None else (state[0], snapshot(state[1]), None)

    def _warn_of_later(self) -> None:
        """A callback that runs after this one changes its state after the file has been written."""
        for cb in (cb for cb in self.learn.cbs if cb.order > self.order):
            if any(cb.handler(event) for event in ("after_batch", "after_epoch")) and cb.state_dict():
                warn(
                    f"{cb!r} has the order {cb.order} and runs after the checkpoint, which misses its last change: "
                    f"use an order below {self.order}"
                )

    def before_train(self) -> None:
        self.random_at_start = random_states(self.learn)
        if self.learn.fitting and self.outside is not None:
            (packed, tensors), contents = self.outside.pack(self.learn, AT_START)
            self.outside_at_start = (packed, snapshot(tensors)), contents

    def after_batch(self) -> None:
        learn = self.learn
        if not learn.fitting or learn.nested:
            return
        self.writer.check()
        if learn.training:
            is_due = self.every.duration.unit != "epochs" and self.every.due(learn)
            if self._agree(is_due):
                self.write(learn.epoch, learn.iter + 1, waits=self.waits)
            self.last = None if self.waits else (learn.epoch, learn.iter)
        if self.signals.number and learn.training:
            self.is_ending = True
            if not self.waits:
                raise SystemExit(self.signals.status)

    def before_batch(self) -> None:
        self._release()

    def after_train(self) -> None:
        self._release()

    def after_cancel_train(self) -> None:
        self.last = None
        self._release("train")

    def after_cancel_epoch(self) -> None:
        self._release("epoch")

    def after_cancel_fit(self) -> None:
        self._release("fit")

    def _release(self, cancelled: str = "") -> None:
        """Write what was kept back until all callbacks were done with the batch, one of which may have cancelled the rest."""
        if self.pending is not None:
            (manifest, tensors, part), self.pending = self.pending, None
            manifest["position"]["cancelled"] = cancelled
            self._write_file(manifest, tensors, part)
        if self.is_ending and self.waits:
            raise SystemExit(self.signals.status)

    def after_epoch(self) -> None:
        learn = self.learn
        if not learn.fitting:
            return
        self.writer.check()
        is_due = self.every.duration.unit == "epochs" and self.every.due(learn)
        if self._agree(is_due):
            self.write(learn.epoch + 1, 0)
        if self.signals.number:
            self.is_ended = True
            raise SystemExit(self.signals.status)

    def _agree(self, is_due: bool) -> bool:
        """Whether to write now. If one process has to write, or to end, all do."""
        vote = largest_of_processes(2 * self.signals.number + is_due)
        self.signals.number = vote // 2
        return vote > 0

    def after_fit(self) -> None:
        if self.learn.fitting and not self.is_ended:
            self.write(self.learn.n_epoch, 0, finished=True)
        self.writer.wait()
        self.is_ended = True
        if self.learn.fitting:
            self._agree(False)
        if self.signals.number:
            raise SystemExit(self.signals.status)

    def on_error(self) -> None:
        learn = self.learn
        if not learn.fitting or self.is_ended or self.signals.number or isinstance(learn.error, CannotSave):
            return
        is_between = self.last == (learn.epoch, learn.iter) and learn.iter + 1 != learn.n_iter
        if learn.training and is_between and rank_and_world()[1] == 1:
            self.write(learn.epoch, learn.iter + 1)
        elif self.first is not None:
            self._write_file(*self.first)

    def on_end(self) -> None:
        self.is_ending = False
        self._release()
        self.first, self.last = None, None
        self.outside, self.outside_at_start = None, (({}, {}), {})  # it holds the model
        self.signals.stop_listening()
        self.writer.wait()
        if self.signals.number and self.learn.error is None:  # the signal came after the last checkpoint
            raise SystemExit(self.signals.status)

    def end_at(self, epoch: int, batch: int) -> None:
        """Write the last checkpoint of a fit that ends early and will be resumed."""
        self.write(epoch, batch)
        self.is_ended = True

    def write(self, epoch: int, batch: int, finished: bool = False, waits: bool = False) -> None:
        """Write a checkpoint from which a fit resumes with batch `batch` of epoch `epoch`.

        Args:
            epoch: The epoch.
            batch: The batch.
            finished: The fit is over.
            waits: Keep it back until the callbacks after this one are done with the batch.
        """
        self.pending = None
        self.writer.wait()  # so that at most one copy of the state is in memory
        state = self._state(epoch, batch, finished)
        if state is None:
            return
        manifest, tensors, part = state
        if waits:
            self.pending = manifest, snapshot(tensors), part
        else:
            self._write_file(manifest, snapshot(tensors) if self.background else tensors, part)

    def _state(self, epoch: int, batch: int, finished: bool = False) -> State | None:
        """What a checkpoint holds; None in a process that has no part in writing it. A collective call."""
        learn, model = self.learn, unwrapped(self.learn.model)
        drawn = {"random": random_states(learn), "random_at_start": self.random_at_start if batch else None}
        callbacks = {name: pack_callback(cb, name) for name, cb in by_name(learn.cbs).items()}
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        outside, loader = self._outside(batch > 0)
        others = states_of_others(
            {**own_parts({GRADS: grads, BUFFERS: dict(model.named_buffers())}), **outside, **callbacks}, drawn
        )
        is_first = rank_and_world()[0] == 0
        if not is_first and not has_sharded(model.parameters()):
            return None
        parts = [*callbacks.values(), *outside.values()]
        tensors: dict[str, Tensor] = {name: x for _, part in parts for name, x in part.items()}
        for rank, (_, part) in enumerate(others, 1):
            tensors |= {prefix_of(rank) + name: x for name, x in part.items()}
        state = {
            "model": model.state_dict(),
            "buffers": transient_buffers(model),
            "syncs": getattr(learn.model, SYNCS, None),
            "grads": grads,
            "loss_func": learn.loss_func.state_dict() if isinstance(learn.loss_func, nn.Module) else {},
            "opt": learn.opt.state_dict(),
            "opt_recipe": optimizer_recipe(learn.opt),
            "frozen_idx": learn.opt.frozen_idx,
            "sampler_changes": any(mark(sampler) != before for sampler, before in self.samplers),
            "counters": {name: getattr(learn, name) for name in COUNTERS},
            "loader": loader,
            "last_batch": digest([learn.batch]) if batch and not isinstance(learn.dls.train, DataLoader) else "",
            **drawn,
        }
        manifest = {
            "fit": {"ordinal": learn.fit_ordinal, "arguments": learn.fit_arguments},
            "run": self.run_description,
            "position": {"epoch": epoch, "batch": batch, "finished": finished},
            "state": encode_tree(state, tensors, "state"),
            "callbacks": {name: packed for name, (packed, _) in callbacks.items()},
            **{name: packed for name, (packed, _) in outside.items()},
            "others": [packed for packed, _ in others],
        }
        sharded = {name: x for name, x in tensors.items() if is_sharded(x)}
        own: Part | None = None
        if sharded and self._is_in_parts(sharded.values()):
            own = begin_parts(self._next_file(manifest), snapshot({n: local_part(x) for n, x in sharded.items()}))
            manifest["parts"] = {"shapes": {name: [*x.shape] for name, x in sharded.items()}}
            tensors = {name: x for name, x in tensors.items() if name not in sharded}
        else:
            tensors = whole_tensors(tensors)
            if not is_first:
                return None
        return manifest, tensors, own

    def _is_in_parts(self, sharded: Collection[Tensor]) -> bool:
        """Whether each process writes its own; decided at the first checkpoint of a fit. A collective call."""
        if self.in_parts is None:
            is_large = self.remote is None and sum(x.numel() * x.element_size() for x in sharded) > LARGE
            self.in_parts = is_large and all_see(real_path(self.folder))
        return self.in_parts

    def _outside(self, in_pass: bool) -> tuple[dict[str, Packed], Any]:
        """State outside `state_dict`, now and as this pass began; and the loader's position, unless the pass must be replayed."""
        loader = as_loader(self.learn.dls.train)
        if self.outside is None:
            self.outside = Outside(self.learn)
        now, contents = self.outside.pack(self.learn)
        at_start, contents_at_start = self.outside_at_start
        is_replayed = in_pass and (loader.replays or data_changes(contents_at_start, contents))
        position = loader.state_dict() if in_pass and loader.keeps_position and not is_replayed else None
        return {OUTSIDE: now, **({AT_START: at_start} if in_pass else {})}, position

    def _write_file(self, manifest: dict[str, Any], tensors: Mapping[str, Tensor], part: Part | None) -> None:
        self.first = None
        job = partial(saving(self.place)(self._store), manifest, tensors, part)
        if self.background:
            self.writer.start(job)
        else:
            job()

    def _next_file(self, manifest: Mapping[str, Any]) -> pathlib.Path:
        old = checkpoint_files(self.place)
        number = 1 + (checkpoint_number(old[-1]) if old else 0)
        ended = f"-fit{manifest['fit']['ordinal']}" if manifest["position"]["finished"] else ""
        return self.place / f"checkpoint-{number:06d}{ended}.layered"

    def _store(self, manifest: dict[str, Any], tensors: Mapping[str, Tensor], part: Part | None) -> None:
        """Write the file, then delete old ones, except those written at the end of earlier fits."""
        if rank_and_world()[0] == 0:
            check_held(real_path(self.folder))
        old, ordinal, began = checkpoint_files(self.place), manifest["fit"]["ordinal"], time.monotonic()
        path = self._next_file(manifest) if part is None else part.file
        if part is not None:
            part.write()
            if rank_and_world()[0] > 0:
                return
            manifest["parts"]["hashes"] = part.hashes()
        write_archive(path, manifest, tensors, kind="checkpoint")
        written = {"file": path, "bytes": path.stat().st_size, "seconds": time.monotonic() - began}
        position = {name: manifest["position"][name] for name in ("epoch", "batch", "finished")}
        self.written.append({**position, **written})
        if not (self.place / MARK).exists():
            commit(self.place / MARK, lambda file: file.write(b"There were checkpoints here.\n"))
        sound = [file for file in old if str(file) not in self.damaged]
        for file in sound[: max(len(sound) + 1 - self.keep, 0)]:
            if (ended_fit(file) or ordinal) >= ordinal:
                _delete(file)
        sweep(self.place)
        if self.remote is not None:
            self.remote.put(is_last=position["finished"])

    def __repr__(self) -> str:
        where = self.folder if self.remote is None else self.remote.shown
        return f"Checkpoint('{where}', every='{self.every.duration}', keep={self.keep})"


def _delete(file: pathlib.Path) -> None:
    """Delete an old checkpoint; one that stays does no harm to the run."""
    try:
        disk.delete(file)
        delete_parts(file)
    except OSError as error:
        warn(f"the old checkpoint {file} could not be deleted: {error}")
