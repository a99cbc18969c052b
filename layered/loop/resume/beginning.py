"""What a fit does about checkpoints as it begins: the folders that it locks, and the checkpoint that it resumes from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from layered.files import real_path
from layered.foundation import launched, rank_and_world
from layered.loop.callback import Callback
from layered.loop.listeners import Listener
from layered.loop.processes import gathered
from layered.loop.resume.checkpoint import Checkpoint
from layered.loop.resume.description import describe_data, describe_seed
from layered.loop.resume.finding import Resuming, check_arguments, find_saved, own_place, used
from layered.loop.resume.lock import locked
from layered.loop.resume.resumed import ResumedFit
from layered.loop.state import AbstractLoop


def checkpoints_of(checkpoint: Checkpoint | str | os.PathLike[str] | None) -> list[Callback]:
    """What `checkpoint=` accepts, as callbacks: None, a `Checkpoint`, or the folder for one."""
    if checkpoint is None:
        return []
    return [checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)]


def lock_folders(loop: AbstractLoop, added: Sequence[Listener]) -> AbstractContextManager[None]:
    """A context in which no other fit may write to the folders of the checkpoints of a fit.

    Args:
        loop: The loop.
        added: The callbacks of this fit.
    """
    folders = {real_path(cb.folder): None for cb in [*added, *loop.cbs] if isinstance(cb, Checkpoint)}
    return locked(() if loop.peeking or rank_and_world()[0] > 0 else folders)


def fetch_remote(checkpoint: Checkpoint) -> None:
    """Bring what is at the address of a checkpoint to this machine: its first process does, and the others wait.

    Args:
        checkpoint: Of a fit that begins; one of a folder needs nothing.
    """
    if checkpoint.remote is not None:
        place = launched()
        if place is None or place.local_rank == 0:
            checkpoint.remote.fetch()
        gathered(None)


def resuming(
    loop: AbstractLoop, resume: Resuming, added: Sequence[Listener], arguments: Mapping[str, Any]
) -> list[ResumedFit]:
    """The callback that resumes the next fit of `loop`, if there is a checkpoint of it or of a later one.

    Args:
        loop: The loop.
        resume: What `fit` was given.
        added: The callbacks of this fit.
        arguments: What the fit was called with, to compare with those in the file.

    Raises:
        CannotRestore: If there were checkpoints and none is usable, or if the arguments differ.
        NotFoundPath: If there is nothing at a place that was named.
        BadValue: If `resume="auto"` has no folder to look in.
    """
    checkpoints = [cb for cb in [*added, *loop.cbs] if isinstance(cb, Checkpoint)]
    for checkpoint in checkpoints:
        checkpoint.place = real_path(checkpoint.folder)
        if not loop.peeking:
            fetch_remote(checkpoint)
    folder = checkpoints[0].place if checkpoints else None
    saved = find_saved(resume, folder, loop.fit_ordinal + 1)
    for part, describe in (("data", describe_data), ("seed", describe_seed)):
        if saved is not None and folder is not None and saved.asked.place == "auto":
            place = own_place(saved, folder, part, describe(loop))
            if place != folder:
                checkpoints[0].place = folder = place
                saved = find_saved(saved.asked, place, loop.fit_ordinal + 1)
    if saved is not None and saved.ordinal == loop.fit_ordinal + 1:
        check_arguments(saved, arguments)
    used.update(checkpoint.place for checkpoint in checkpoints)
    for checkpoint in checkpoints:
        checkpoint.starts_over = saved is None and resume is not None
    return [] if saved is None else [ResumedFit(saved)]
