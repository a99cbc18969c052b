"""The folder of a run: its checkpoints by name, and the one that a fit resumes from."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeAlias

from layered.files import reading
from layered.foundation import BadFile, BadValue, CannotRestore, NotFoundPath, warn
from layered.loop.resume.description import impersonal
from layered.loop.resume.remote import place_here
from layered.loop.resume.restoring import Resume, Saved

Resuming: TypeAlias = "str | os.PathLike[str] | Resume | None"
"""What `resume=` accepts."""

MARK = ".layered-run"  # a file in every folder that ever held a checkpoint
_NAME = re.compile(r"checkpoint-(\d+)(?:-fit(\d+))?", re.ASCII)


def checkpoint_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The checkpoints in a folder, oldest first; other files, and folders, are ignored."""
    found = (file for file in folder.glob("checkpoint-*.layered") if checkpoint_number(file) and not file.is_dir())
    return sorted(found, key=checkpoint_number)


def checkpoint_number(file: pathlib.Path) -> int:
    """The number in a checkpoint's name, from 1; 0 if it has none."""
    found = _NAME.fullmatch(file.stem)
    return int(found[1]) if found else 0


def ended_fit(file: pathlib.Path) -> int | None:
    """The number of the fit at whose end a checkpoint was written, by its name; None if it was written during a fit."""
    found = _NAME.fullmatch(file.stem)
    return int(found[2]) if found and found[2] else None


used: set[pathlib.Path] = set()  # the folders that fits of this process have written to


def own_place(saved: Saved, folder: pathlib.Path, part: str, current: object) -> pathlib.Path:
    """Where a fit keeps its checkpoints: the folder, or below it if the folder holds a finished fit of this script on other data.

    So the fits of a loop over folds or seeds share a folder, and each resumes from its own checkpoints.

    Args:
        saved: What was found in the folder.
        folder: The folder of the `Checkpoint`.
        part: What tells the fits apart, of the description of a run: "data" or "seed".
        current: Its description for this fit.
    """
    theirs = saved.run.get(part)
    if theirs is None or theirs == current:
        return folder
    parts = sorted(current.items()) if isinstance(current, dict) else current
    place = folder / f"{part}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:12]}"
    is_of_script = saved.finished and folder in used
    return place if is_of_script or (place / MARK).exists() or checkpoint_files(place) else folder


def find_saved(resume: Resuming, folder: pathlib.Path | None, ordinal: int) -> Saved | None:
    """The checkpoint that fit number `ordinal` resumes from, or that of a later fit; None to start from the beginning.

    Args:
        resume: None, "auto" (look in `folder`), a folder, a file, or a `Resume`.
        folder: Of the `Checkpoint` of the fit, if there is one.
        ordinal: The number of the fit.

    Raises:
        CannotRestore: If there were checkpoints and none is usable.
        NotFoundPath: If there is nothing at a place that was named.
    """
    if resume is None:
        return None
    asked = resume if isinstance(resume, Resume) else Resume(resume)
    if asked.place == "auto" and folder is None:
        raise BadValue("resume='auto' needs a place to look", fix="add checkpoint='folder', or resume='folder'")
    place = folder if asked.place == "auto" else place_here(asked.place)
    assert place is not None
    with reading(place):
        saved = _newest(place, asked)
    if saved is not None and saved.ordinal < ordinal and place.is_file():
        raise CannotRestore(
            f"{saved.file} belongs to an earlier fit",
            got=f"of fit {saved.ordinal} of a learner, and this is fit {ordinal}",
            fix="call the fits in the same order, with a new learner; learn.load(…) loads only the weights",
        )
    if saved is None or saved.ordinal < ordinal:
        return None
    if saved.ordinal > ordinal:
        saved = _end_of(ordinal, place.parent if place.is_file() else place, asked) or saved
    return saved


def _end_of(ordinal: int, folder: pathlib.Path, asked: Resume) -> Saved | None:
    """The checkpoint at the end of an earlier fit of the script, if it exists and can be read."""
    for file in (file for file in reversed(checkpoint_files(folder)) if ended_fit(file) == ordinal):
        with suppress(BadFile, OSError):
            return Saved(file, asked)
    return None


def check_arguments(saved: Saved, arguments: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of a fit that was called with other arguments; addresses, places and secrets in them do not count.

    Raises:
        CannotRestore: Naming those that differ.
    """
    allowed = saved.asked.allow
    differing = [k for k in arguments if impersonal(saved.arguments.get(k)) != impersonal(arguments[k])]
    differing = [k for k in differing if not {"arguments", f"arguments.{k}"} & set(allowed)]
    if differing:
        allowing = Resume(saved.asked.place, (*allowed, *(f"arguments.{k}" for k in differing)))
        raise CannotRestore(
            f"{saved.file} was written by a fit with other arguments",
            got=", ".join(f"{k}={arguments[k]}" for k in differing),
            expected=", ".join(f"{k}={saved.arguments.get(k)}" for k in differing),
            fix=f"call fit as before, or start in another folder; or resume with these arguments: resume={allowing}",
        )


def _newest(place: pathlib.Path, asked: Resume) -> Saved | None:
    """The newest readable checkpoint of a folder (or the file itself), with a warning about damaged newer ones."""
    if place.is_file():
        return Saved(place, asked)
    files = checkpoint_files(place)
    if not files and not (place / MARK).exists():
        if asked.place == "auto":
            return None
        raise NotFoundPath(
            f"there is no checkpoint at '{place}'",
            got=f"the working folder is '{os.getcwd()}'",
            fix="resume='auto' starts from the beginning if there is none; resume=None always does",
        )
    failures: list[str] = []
    damaged: list[pathlib.Path] = []
    for file in reversed(files):
        try:
            saved = Saved(file, asked)
        except (BadFile, OSError) as error:
            damaged.append(file)
            failures.append(f"{file.name}: {str(error).splitlines()[0]}")
            continue
        if failures:
            warn(f"resuming from {file} because newer checkpoints are damaged: {'; '.join(failures)}")
        saved.damaged = damaged
        return saved
    raise CannotRestore(
        f"no usable checkpoint in {place}",
        got="; ".join(failures) or "its checkpoints are gone",
        fix="give another folder; to start from the beginning delete this one, or use resume=None",
    )
