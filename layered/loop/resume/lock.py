"""One fit at a time writes to a folder: a file in it names the process that does."""

from __future__ import annotations

import json
import os
import pathlib
import platform
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from layered.files import cannot_save, open_bounded, parse_json, temporary
from layered.foundation import CannotTrain, LayeredError, warn

LOCK = ".layered-lock"
WRITTEN_WITHIN = 3  # seconds from the creation of a lock to its content, if its process lives
_held: set[pathlib.Path] = set()  # by fits of this process
_turn = threading.Lock()


@contextmanager
def locked(folders: Iterable[pathlib.Path]) -> Iterator[None]:
    """Hold folders for a fit; those of a process of this host that is dead are taken over.

    Args:
        folders: Created if needed.

    Raises:
        CannotTrain: Another fit writes to one of them; the error names its host, process and start.
        CannotSave: A folder cannot be written to.
    """
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(_locked(folder))
        yield


@contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    own = _process()
    with _turn:
        if folder in _held:
            raise _busy(folder, own)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _take(folder, own)
        except OSError as error:
            raise cannot_save(folder, error) from error
        _held.add(folder)
    try:
        try:
            yield
        finally:
            _release(folder, own)
    finally:
        _release(folder, own)  # where Ctrl-C has struck the first time


def _release(folder: pathlib.Path, own: dict[str, Any]) -> None:
    with _turn:
        _held.discard(folder)
        if _owner(folder / LOCK) == own:
            try:
                (folder / LOCK).unlink(missing_ok=True)
            except OSError as error:
                warn(f"the lock {folder / LOCK} could not be removed: {error}")


def _take(folder: pathlib.Path, own: dict[str, Any]) -> None:
    path, patience = folder / LOCK, time.monotonic() + WRITTEN_WITHIN
    while True:
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            owner = _owner(path)
            if owner is not None and _runs(owner):
                raise _busy(folder, owner) from None
            if owner is not None or _age(path) > WRITTEN_WITHIN or time.monotonic() > patience:
                _remove(path, owner)
                patience = time.monotonic() + WRITTEN_WITHIN
            else:
                time.sleep(0.05)  # its process is about to say who it is
            continue
        try:
            with open(handle, "w", encoding="utf-8") as file:
                json.dump(own, file)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return


def _remove(path: pathlib.Path, stale: dict[str, Any] | None) -> None:
    """Remove a stale lock, unless another process has replaced it meanwhile."""
    aside = temporary(path)  # swept if this process is killed before it is deleted
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if _owner(aside) != stale and not os.path.lexists(path):
        os.rename(aside, path)
    else:
        aside.unlink(missing_ok=True)


def _owner(path: pathlib.Path) -> dict[str, Any] | None:
    """What a lock says; None if it says nothing yet, or is gone."""
    try:
        with open_bounded(path) as file:
            owner = parse_json(file.read(4096), "a lock")
    except (OSError, LayeredError):
        return None
    known = isinstance(owner, dict) and type(owner.get("process")) is int and isinstance(owner.get("host"), str)
    return owner if known and owner["process"] > 0 else None


def _age(path: pathlib.Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except OSError:
        return 0.0


def _process() -> dict[str, Any]:
    return {"host": platform.node(), "process": os.getpid(), "start": _start_of(os.getpid())}


def _start_of(process: int) -> str:
    """When a process started, in a form that no other process with its number has; "" if the system does not tell."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {pathlib.Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[19]}"
    except (OSError, IndexError):
        return ""


def _runs(owner: dict[str, Any]) -> bool:
    """Whether the process that wrote a lock may still run; of another host's, nothing is known."""
    if owner["host"] != platform.node():
        return True
    if owner["process"] == os.getpid():
        return False  # left by a fit of this process, which holds no lock on the folder any more
    try:
        os.kill(owner["process"], 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it belongs to another user
        pass
    return bool(owner.get("start") == _start_of(owner["process"]))


def _busy(folder: pathlib.Path, owner: dict[str, Any]) -> CannotTrain:
    is_here = owner["host"] == platform.node()
    return CannotTrain(
        f"another fit writes to '{folder}'",
        got=f"process {owner['process']} on host {owner['host']!r:.80}",
        expected="one fit at a time in a folder",
        fix="wait until it is over, or give this fit a folder of its own: checkpoint='another folder'"
        + ("" if is_here else f"; if that process is dead, delete '{folder / LOCK}'"),
    )
