"""Resuming every fit of a script, without saying so at each."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from layered.foundation import BadArgument
from layered.loop.durations import Duration
from layered.loop.resume.checkpoint import Checkpoint
from layered.loop.resume.finding import Resuming
from layered.loop.state import AbstractLoop

VARIABLE = "LAYERED_RUN"


@dataclass
class _Run:
    """The folder of a script, and the numbers of its learners in the order of their first fits."""

    folder: str
    every: str | Duration = "1 epoch"
    keep: int = 2
    numbers: WeakKeyDictionary[AbstractLoop, int] = field(default_factory=WeakKeyDictionary)
    count: int = 0

    def place_of(self, loop: AbstractLoop) -> str:
        if loop not in self.numbers:
            self.count += 1
            self.numbers[loop] = self.count
        return f"{self.folder}/learner-{self.numbers[loop]}"


_runs: list[_Run] = []  # of this script: none or one


def resume_all(folder: str | os.PathLike[str] | None, every: str | Duration = "1 epoch", keep: int = 2) -> None:
    """From now on, let every fit of this script write checkpoints, and go on where it was when the script is run again.

    Each learner has a folder below `folder`, numbered in the order of their first fits, so the script must make them in the same
    order each time. A fit that has its own `checkpoint=` keeps it, and goes on from there. The environment variable
    `LAYERED_RUN=folder` does the same for a script as it is.

    Args:
        folder: Where the checkpoints go: a folder, or an address such as "s3://bucket/run"; None ends it.
        every: How often they are written: "1 epoch", "50 batches", "10 min".
        keep: How many of the newest stay, of each learner.

    Raises:
        BadArgument: `folder` is empty.

    Examples:
        >>> resume_all("run", every="10 min")
        >>> resume_all(None)
    """
    if folder is not None and not os.fspath(folder):
        raise BadArgument("resume_all needs a folder for the checkpoints", got=repr(folder), fix='resume_all("run")')
    if folder is not None:
        Checkpoint(folder, every, keep)  # which refuses wrong values
    _runs[:] = [] if folder is None else [_Run(os.fspath(folder), every, keep)]


def of_script(
    loop: AbstractLoop, checkpoint: Checkpoint | str | os.PathLike[str] | None, resume: Resuming
) -> tuple[Checkpoint | str | os.PathLike[str] | None, Resuming]:
    """What a fit writes and resumes from, if the script resumes all of its fits; otherwise what the fit was given.

    Args:
        loop: The loop.
        checkpoint: What the fit was given.
        resume: What the fit was given.
    """
    if not _runs and (folder := os.environ.get(VARIABLE)):
        _runs.append(_Run(folder))
    if loop.peeking or not _runs:
        return checkpoint, resume
    run = _runs[0]
    if checkpoint is None and not any(isinstance(cb, Checkpoint) for cb in loop.cbs):
        checkpoint = Checkpoint(run.place_of(loop), run.every, run.keep)
    return checkpoint, "auto" if resume is None else resume
