"""One fit at a time writes to a folder: a file in it names the process that does, which touches it every few seconds.

A lock of a process of this machine is taken over as soon as that process is dead. Of another machine only the touches say that
it lives: its lock is taken over once it has not been touched for a minute, by whatever clock.
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from layered.files import cannot_save, open_bounded, parse_json, temporary
from layered.foundation import CannotSave, CannotTrain, LayeredError, warn
from layered.loop.processes import gathered

LOCK = ".layered-lock"
WRITTEN_WITHIN = 3  # seconds from the creation of a lock to its content, if its process lives
BEAT = 10.0  # seconds from one touch of a lock to the next
LEASE = 60.0  # seconds without a touch after which the process of another machine is taken for dead
_held: dict[pathlib.Path, object] = {}  # by fits of this process, with a mark of each


@contextmanager
def locked(folders: Iterable[pathlib.Path]) -> Iterator[None]:
    """Hold folders for a fit; those of a process that is dead are taken over.

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
    own, mine, is_over = _process(), object(), threading.Event()
    beat = threading.Thread(target=_beat, args=(folder / LOCK, own, is_over), name="layered-lock", daemon=True)
    try:
        try:
            if _held.setdefault(folder, mine) is not mine:
                raise _busy(folder, own)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                _take(folder, own)
            except OSError as error:
                raise cannot_save(folder, error) from error
            beat.start()
            yield
        finally:
            _release(folder, own, mine, beat, is_over)
    finally:
        _release(folder, own, mine, beat, is_over)  # where Ctrl-C has struck the first time


def _beat(path: pathlib.Path, own: dict[str, Any], is_over: threading.Event) -> None:
    while not is_over.wait(BEAT):
        if _owner(path) == own:
            with suppress(OSError):  # a file system that does not answer may answer again
                os.utime(path)


def check_held(folder: pathlib.Path) -> None:
    """Refuse to write to a folder that another process has taken over, as it does where this one was suspended for long.

    Args:
        folder: As it was given to `locked`.

    Raises:
        CannotSave: The lock is that of another process.
    """
    owner = _owner(folder / LOCK)
    if owner is not None and owner != _process():
        raise CannotSave(
            f"another fit has taken over '{folder}'",
            got=f"the lock of {_name(owner)}",
            expected=f"that of {_name(_process())}, which has not touched it for {LEASE:.0f} seconds",
            fix="when the other one is over, start this one again with resume='auto'",
        )


def all_see(folder: pathlib.Path) -> bool:
    """Whether all processes of a fit see a folder that the first one has locked. A collective call: all of them must make it.

    Args:
        folder: As it was given to `locked`.
    """
    owners = gathered(_owner(folder / LOCK))
    return owners[0] is not None and all(owner == owners[0] for owner in owners)


def _release(
    folder: pathlib.Path, own: dict[str, Any], mine: object, beat: threading.Thread, is_over: threading.Event
) -> None:
    is_over.set()
    if beat.is_alive():
        beat.join(BEAT)
    if _held.get(folder) is mine:
        if _owner(folder / LOCK) == own:
            try:
                (folder / LOCK).unlink(missing_ok=True)
            except OSError as error:
                warn(f"the lock {folder / LOCK} could not be removed: {error}")
        del _held[folder]


def _take(folder: pathlib.Path, own: dict[str, Any]) -> None:
    path, patience = folder / LOCK, time.monotonic() + WRITTEN_WITHIN
    while True:
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            owner = _owner(path)
            if owner is not None and (_is_touched(path, owner) if _is_elsewhere(owner) else _runs(owner)):
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
    own = os.getpid()
    return {"host": platform.node(), "space": _space(), "process": own, "start": _start_of(own)}


def _space() -> str:
    """Where the number of a process names it: this run of this machine, or a container on it. "" if the system does not tell."""
    try:
        return f"{_boot()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _boot() -> str:
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _start_of(process: int) -> str:
    """When a process started, in a form that no other process with its number has; "" if the system does not tell."""
    try:
        return f"{_boot()} {pathlib.Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[19]}"
    except (OSError, IndexError):
        return ""


def _is_elsewhere(owner: dict[str, Any]) -> bool:
    """Whether the number of a process says nothing here: it ran on another machine, in another container, or before a restart."""
    return bool(owner["host"] != platform.node() or owner.get("space", _space()) != _space())


def _is_touched(path: pathlib.Path, owner: dict[str, Any]) -> bool:
    """Whether a lock is touched, or gone, within the time in which a process that lives touches it."""
    before, began = _touched(path), time.monotonic()
    print(f"{path} is that of {_name(owner)}: looking for {LEASE:.0f} seconds whether it lives")
    while time.monotonic() - began < LEASE:
        time.sleep(min(1.0, LEASE / 10))
        if _touched(path) != before:
            return _owner(path) == owner
    return False


def _touched(path: pathlib.Path) -> int:
    """When a lock was last touched, by the clock of its disk; it is opened, for networks then look at the disk."""
    try:
        with open(path, "rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return 0


def _runs(owner: dict[str, Any]) -> bool:
    """Whether the process of this machine that wrote a lock may still run."""
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
    return CannotTrain(
        f"another fit writes to '{folder}'",
        got=_name(owner),
        expected="one fit at a time in a folder",
        fix="wait until it is over, or give this fit a folder of its own: checkpoint='another folder'",
    )


def _name(owner: dict[str, Any]) -> str:
    return f"process {owner['process']} on host {owner['host']!r:.80}"
