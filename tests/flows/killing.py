"""Runs that are killed and started again: a fork server that has imported everything, and what ends a process at a moment."""

import hashlib
import json
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from layered.files import durable
from layered.foundation import leaves
from layered.loop import Callback

OPERATIONS = [name for name in vars(durable.Disk) if not name.startswith("_")]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["torch", "layered.vision.all"])


@dataclass(frozen=True)
class End:
    """How a run is ended before its time.

    after      seconds from its start to a SIGKILL from outside
    operation  the number of the file operation that it dies before (half 0), in the middle of (1) or after (2)
    batch      the batch that it gets the signal in, training and validation counted alike
    """

    after: float | None = None
    operation: int = -1
    half: int = 0
    batch: int = -1
    sent: int = signal.SIGKILL

    def strike(self) -> None:
        os.kill(os.getpid(), self.sent)


class Witness(Callback):
    """All that came by, batch by batch, kept in checkpoints."""

    order = 900  # before what writes checkpoints
    transient = ("seen",)

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.rows: list[list[Any]] = []

    def before_batch(self) -> None:
        learn = self.learn
        self.seen = [learn.training, learn.epoch, learn.iter, digest((learn.xb, learn.yb))]
        plan = getattr(learn.dl, "present", None)
        self.seen.append("" if plan is None else digest(list(plan.indices)))

    def after_batch(self) -> None:
        learn, seen, self.seen = self.learn, self.seen, []
        if learn.training and seen:  # not cancelled before it began
            opts = learn.opt.opts.values() if hasattr(learn.opt, "opts") else [learn.opt]
            hypers = [{k: v for k, v in h.items() if isinstance(v, float)} for opt in opts for h in opt.hypers]
            self.rows.append([*seen, learn.loss.item(), hypers])


class Strike(Callback):
    """Ends this process in a batch."""

    order = 100
    transient = ("count", "end")

    def __init__(self, end: End) -> None:
        self.end, self.count = end, 0

    def after_loss(self) -> None:
        self.count += 1
        if self.count == self.end.batch:
            self.end.strike()

    def __repr__(self) -> str:
        return "Strike"


def digest(value: Any) -> str:
    """A short name for tensors in any nesting."""
    parts = hashlib.sha256()
    for part in leaves(value):
        if isinstance(part, torch.Tensor):
            part = part.detach().as_subclass(torch.Tensor).contiguous().view(-1).view(torch.uint8).numpy()
        parts.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return parts.hexdigest()[:16]


def count_operations(end: End) -> Callable[[], int]:
    """Count the file operations of this process from now on, and end it at one of them."""
    count = 0

    def counted(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            nonlocal count
            count += 1
            at = count == end.operation
            if at and end.half == 0:
                end.strike()
            if at and end.half == 1 and name == "write":
                operation(args[0], args[1][: len(args[1]) // 2])
                end.strike()
            result = operation(*args)
            if at:
                end.strike()
            return result

        return call

    for name in OPERATIONS:
        setattr(durable.disk, name, counted(name, getattr(durable.disk, name)))
    return lambda: count


def run(recipe: Callable[..., dict[str, Any]], folder: Path, end: End, *args: Any) -> None:
    """In a process of its own: the recipe, and a file with what is left of it."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # for workers: a fork of a server would ask another server
    operations = count_operations(end)
    try:
        left = recipe(folder, end, *args)
    except Exception:
        (folder / "error.txt").write_text(traceback.format_exc())
        raise
    (folder / "left.json").write_text(json.dumps({"left": left, "operations": operations()}))


def start(recipe: Callable[..., dict[str, Any]], folder: Path, end: End = End(), *args: Any) -> Any:
    """Start a run in a fork of the server; `finish` waits for it."""
    folder.mkdir(exist_ok=True)
    process = SERVER.Process(target=run, args=(recipe, folder, end, *args))
    process.start()
    return process


def finish(process: Any, after: float | None = None) -> int:
    """The exit status of a run, that is killed after so many seconds if it is not over then."""
    process.join(after if after is not None else 120)
    process.kill()
    process.join()
    return int(process.exitcode)


def left_by(folder: Path) -> tuple[dict[str, Any], int]:
    """What a finished run has left, and how many file operations it took."""
    failure = folder / "error.txt"
    assert not failure.exists(), failure.read_text()
    told = json.loads((folder / "left.json").read_text())
    return told["left"], told["operations"]
