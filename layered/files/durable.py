"""Durable writes: whatever happens, a file holds either its old content or all of the new."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import platform
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from layered.foundation import BadValue, CannotSave, LayeredError, Path as NamedPath, visible, warn


class Disk:
    """The disk operations behind every written file: the seam at which tests make a disk fail."""

    def make_folder(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)

    def create(self, path: Path) -> Any:
        # Unbuffered: a process that is forked during the write would flush a buffer a second time.
        return io.FileIO(path, "xb")

    def write(self, file: Any, data: memoryview) -> int:
        return int(file.write(data))

    def sync(self, file: Any) -> None:
        os.fsync(file.fileno())

    def replace(self, path: Path, target: Path) -> None:
        os.replace(path, target)

    def sync_folder(self, folder: Path) -> None:
        if os.name != "posix":
            return None  # only POSIX systems can open a folder
        try:
            handle = os.open(folder, os.O_RDONLY)
        except PermissionError as error:  # one may write to a folder without the right to list it
            return _say_not_synced(folder, error)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in _CANNOT_SYNC:
                raise
            _say_not_synced(folder, error)
        finally:
            os.close(handle)

    def delete(self, path: Path) -> None:
        path.unlink(missing_ok=True)


disk = Disk()

# What file systems answer that cannot sync a folder, such as some of networks and of FUSE.
_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}
_not_synced: set[int] = set()  # the file systems that this has been said of
_swept: set[Path] = set()  # the folders that this process has swept
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _say_not_synced(folder: Path, error: OSError) -> None:
    system = os.stat(folder).st_dev
    if system not in _not_synced:
        _not_synced.add(system)
        warn(f"the file system of '{folder}' cannot sync folders ({error}): a power cut may lose the newest file there")


_unfinished: set[str] = set()  # the temporary files that this process is writing


class _WholeWrites(io.RawIOBase):
    """A file whose `write` writes everything it is given, where the system may write a part."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def writable(self) -> bool:
        return True

    def seek(self, place: int, whence: int = 0) -> int:
        return int(self.file.seek(place, whence))

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        count = len(rest)
        while len(rest):
            rest = rest[disk.write(self.file, rest) :]
        return count


def commit(path: str | os.PathLike[str], write: Callable[[BinaryIO], object], private: bool = False) -> Path:
    """Replace the content of a file as a whole or not at all; every file of the library is written through this function.

    A temporary file in the same folder (created if missing) is written, synced to disk and renamed, then the folder is
    synced: without the first sync the new name could point to an empty file after a power cut, without the second the
    rename itself could be lost. Whatever goes wrong before the rename, Ctrl-C included, leaves the old file as it was and
    nothing else behind; a process that is killed in between leaves a `.layered-<host>-<pid>-….tmp`, which the first write of a
    later process to the folder removes (see `sweep`). A file that is replaced keeps its permissions.

    Args:
        path: The file. A device or a pipe is written into, since it cannot be replaced.
        write: Called with an open binary file, to write the content.
        private: Only the owner may read a new file.

    Returns:
        `path`.

    Raises:
        CannotSave: The disk is full, read-only or failing; the system's error is chained.

    Examples:
        >>> import tempfile
        >>> commit(Path(tempfile.mkdtemp()) / "a.txt", lambda file: file.write(b"hello")).read_bytes()
        b'hello'
    """
    try:
        target = Path(os.path.realpath(path))
        is_device = target.exists() and not (target.is_file() or target.is_dir())
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        raise cannot_save(path, error) from error
    if is_device:
        return _write_into(target, write)
    temp = temporary(target)
    try:
        _make_folder(target.parent)
        try:
            with disk.create(temp) as file:
                _set_mode(temp, target, private)
                write(_WholeWrites(file))  # type: ignore[arg-type]  # it has what writing needs
                disk.sync(file)
            disk.replace(temp, target)
        except BaseException:
            with contextlib.suppress(OSError):
                disk.delete(temp)
            raise
        disk.sync_folder(target.parent)
        if target.parent not in _swept:
            _swept.add(target.parent)
            sweep(target.parent)
    except LayeredError:
        raise
    except OSError as error:
        raise cannot_save(path, error) from error
    finally:
        _unfinished.discard(temp.name)
    return Path(path)


def _set_mode(temp: Path, target: Path, private: bool) -> None:
    """Give what is about to be written the permissions of the file that it replaces."""
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o600 if private else None
    if mode is not None:
        with contextlib.suppress(PermissionError):  # a file system without permissions
            temp.chmod(mode)


def temporary(target: Path) -> Path:
    """A new name beside a file, for what will replace it; `sweep` removes it once this process is dead.

    Args:
        target: The file.
    """
    temp = target.with_name(f".layered-{_HOST}-{os.getpid()}-{os.urandom(6).hex()}.tmp")
    _unfinished.add(temp.name)
    return temp


_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # a Path has one slash of two


def joined(*parts: str | os.PathLike[str]) -> NamedPath:
    """A path below others, as users write it: each part may begin with `~`, and one that is absolute begins anew.

    Args:
        parts: Folders, and the file.

    Raises:
        BadValue: One of them is an address, such as "s3://bucket/file": a folder `s3:` would be made.

    Examples:
        >>> joined("runs", "/data", "a.csv").as_posix()
        '/data/a.csv'
    """
    for part in parts:
        if _ADDRESS.match(os.fspath(part)):
            raise BadValue(
                "an address cannot stand where a file or folder is meant",
                got=visible(os.fspath(part)),
                fix="mount what is there, or copy the file; checkpoint= of fit takes addresses",
            )
    return NamedPath(*map(os.path.expanduser, parts))


def real_path(*parts: str | os.PathLike[str]) -> NamedPath:
    """The place that `joined` means now: with links and `..` resolved as the system does, wherever the process goes next.

    Args:
        parts: Folders, and the file.
    """
    path = joined(*parts)
    return path if "\0" in str(path) else NamedPath(os.path.realpath(path))  # what opens it names the fault


def append_line(path: str | os.PathLike[str], line: bytes, sync: bool = False, private: bool = False) -> None:
    """Append a line to a file, all of it or nothing.

    Args:
        path: The file; created if missing.
        line: The bytes to append, newline included.
        sync: Return only when the line is on disk.
        private: Only the owner may read a new file.

    Raises:
        CannotSave: The disk is full, read-only or failing.

    Examples:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.txt"
        >>> append_line(file, b"one\\n")
        >>> append_line(file, b"two\\n", sync=True)
        >>> file.read_bytes()
        b'one\\ntwo\\n'
    """
    with saving(path):
        if "\0" in os.fspath(path):
            raise OSError(errno.EINVAL, "a NUL character in the path")
        with io.FileIO(path, "ab", opener=_private if private else None) as file:
            whole = file.tell()
            if disk.write(file, memoryview(line)) < len(line):
                file.truncate(whole)
                raise OSError(errno.ENOSPC, f"no space for a line of {len(line)} bytes")
            if sync:
                disk.sync(file)
            if not whole:  # or a power cut could take a new file away, with lines that were synced
                disk.sync_folder(Path(path).parent)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write_into(device: Path, write: Callable[[BinaryIO], object]) -> Path:
    """Write into a device or a pipe: these cannot be replaced."""
    with saving(device), io.FileIO(device, "wb") as file:
        write(_WholeWrites(file))  # type: ignore[arg-type]
    return device


@contextmanager
def saving(path: str | os.PathLike[str]) -> Iterator[None]:
    """Context manager: what the system refuses inside becomes a CannotSave.

    Args:
        path: The file or folder that is written, for the message.
    """
    try:
        yield
    except LayeredError:
        raise
    except OSError as error:
        raise cannot_save(path, error) from error


def cannot_save(path: str | os.PathLike[str], error: OSError | ValueError) -> CannotSave:
    """The error for a system error in writing a file or folder.

    Args:
        path: The file or folder.
        error: The system's error.
    """
    number = error.errno if isinstance(error, OSError) else errno.EINVAL
    return CannotSave(f"could not write '{path}'", got=error, fix=remedy(number))


def remedy(number: int | None) -> str:
    """What helps against an error of the system.

    Args:
        number: Its `errno`.
    """
    return _REMEDIES.get(number or 0, "try again; if it happens again the disk, or the connection to it, is failing")


def sweep(folder: Path) -> None:
    """Delete the temporary files that killed processes of this host left in a folder.

    Args:
        folder: The folder of the files that were being written.
    """
    if os.name != "posix":
        return  # other systems do not tell whether a process is alive
    for temp in folder.glob(".layered-*-*.tmp"):
        found = re.fullmatch(r"\.layered-(?:([0-9a-f]{8})-)?(\d+)-[0-9a-f]+\.tmp", temp.name)
        if found and found[1] in (None, _HOST) and temp.name not in _unfinished and not _is_alive(int(found[2])):
            with contextlib.suppress(OSError):  # litter that stays does no harm
                disk.delete(temp)


def _is_alive(pid: int) -> bool:
    """Whether another process with this number runs."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user, so it runs
        return True
    return True


_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space, or choose a folder on another disk"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose a folder that you may write to"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a part of the path is a file: choose another folder"),
    **dict.fromkeys((errno.ENAMETOOLONG, errno.EINVAL), "choose another name"),
    errno.EISDIR: "this is a folder: add a file name",
}


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        disk.make_folder(folder)
        disk.sync_folder(folder.parent)
