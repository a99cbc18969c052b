"""The cache on disk: one process at a time, and errors that say what to do when it cannot be written."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from layered.files import disk
from layered.foundation import CannotSave, LayeredError


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Context manager: an OSError inside (read-only, full, missing drive) becomes a CannotSave.

    Args:
        path: What is written, for the message.
    """
    try:
        yield
    except LayeredError:
        raise
    except OSError as error:
        raise CannotSave(
            f"cannot write '{path}'",
            got=error.strerror or error,
            fix="free some space, or set LAYERED_HOME to a folder that you may write to",
        ) from error


def open_unlinked(path: Path, mode: str) -> IO[bytes]:
    """Open a file of the cache, or create it; never what a link points to, which somebody else may have put there.

    Args:
        path: The file.
        mode: As for `open`.

    Raises:
        OSError: `path` is a link.
    """
    return open(path, mode, opener=_refuse_link)


def _refuse_link(path: str, flags: int) -> int:
    if os.path.islink(path):  # a plain message, and systems without O_NOFOLLOW
        raise OSError(errno.ELOOP, "it is a link: remove it")
    return os.open(path, flags | _NO_FOLLOW, 0o666)


def sync_all(folder: Path) -> None:
    """Return only when the files below a folder, and their names, are on disk.

    Args:
        folder: The folder.

    Raises:
        CannotSave: The disk fails.
    """
    if os.name != "posix":
        return  # other systems sync only what they write
    with saving(folder), ThreadPoolExecutor(16) as pool:  # file systems sync many files at once
        for place, _, names in os.walk(folder):
            list(pool.map(_sync_file, (Path(place, name) for name in names)))
            disk.sync_folder(Path(place))


def _sync_file(path: Path) -> None:
    if not path.is_symlink():
        with open(path, "rb") as file:
            os.fsync(file.fileno())


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Context manager: only one process at a time is inside for the same path; others wait.

    The operating system releases the lock of a process that dies, so nobody waits for the dead.

    Args:
        path: What is guarded; the lock is a file beside it.
    """
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open_unlinked(path.with_name(f".{path.name}.lock"), "ab")
    with lock:
        with saving(path):
            _wait_for(lock)
        yield


if sys.platform == "win32":
    import msvcrt

    _NO_FOLLOW = 0

    def _wait_for(lock: IO[bytes]) -> None:
        while True:
            try:
                return msvcrt.locking(lock.fileno(), msvcrt.LK_LOCK, 1)  # raises after ten seconds
            except OSError:
                continue

else:
    import fcntl

    _NO_FOLLOW = os.O_NOFOLLOW

    def _wait_for(lock: IO[bytes]) -> None:
        fcntl.flock(lock, fcntl.LOCK_EX)


def sha256_of(path: Path) -> str:
    """The sha256 of a file in hexadecimal.

    Args:
        path: The file.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
