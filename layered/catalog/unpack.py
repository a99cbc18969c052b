"""Unpacking untrusted archives: nothing is written or points outside the folder, and sizes are bounded."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from layered.catalog.disk import saving
from layered.files import open_bounded
from layered.foundation import BadFile, LayeredError, UnsafeFile

MAX_FILES = 5_000_000
MAX_BYTES = 1 << 40  # all unpacked files together
MAX_RATIO = 200  # unpacked bytes per packed byte, beyond the first SMALL bytes
SMALL = 256 << 20
CHUNK = 1 << 20
MAX_PADDING = 64 << 20  # zeros after the last entry of a tar

_BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
    EOFError, OSError, ValueError, LookupError, NotImplementedError, OverflowError, RecursionError,
)  # fmt: skip
_PACKERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open,
}  # fmt: skip


@dataclass(frozen=True)
class _Member:
    """An entry of an archive: a folder, a link to another entry, or a file whose content `open` reads."""

    name: str
    open: Callable[[], IO[bytes]] | None = None  # None for a folder
    link: str | None = None  # the entry it points to, from the root of the archive

    @property
    def is_file(self) -> bool:
        return self.open is not None or self.link is not None


def unpack(archive: Path, folder: Path, *, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES) -> Path:
    """Unpack a zip or a tar (plain, gz, bz2, xz) into `folder`, which must not exist: all of it or nothing.

    An archive with a single folder at the top gives the content of that folder: `x.tgz` with `x/a.png` in it, unpacked
    into `data`, gives `data/a.png`. Links become copies of the files they point to; owners and permissions are ignored.

    Args:
        archive: The archive.
        folder: The new folder.
        max_files: The most entries.
        max_bytes: The most unpacked bytes; lower if that is over 256 MiB and over 200 times the size of the archive.

    Returns:
        `folder`.

    Raises:
        BadFile: The archive is damaged or truncated, or the file is not an archive.
        UnsafeFile: The archive would write outside the folder, contains devices, or exceeds the limits; it is a BadFile.
        CannotSave: The folder cannot be written.
    """
    with _all_or_nothing(folder) as temp:
        _write_all(_members(archive), temp, archive, _room(archive, max_bytes), max_files)
        with saving(folder):
            _only_folder(temp).rename(folder)
    return folder


def check_archive(archive: Path) -> None:
    """Read an archive from end to end, as unpacking would, and write nothing.

    Args:
        archive: The archive.

    Raises:
        BadFile: The archive is damaged, truncated or unsafe, or the file is not an archive.
    """
    room = _room(archive, MAX_BYTES)
    with _reading(archive):
        for member in _members(archive):
            _safe(archive, member.name)
            if member.open is not None:
                with member.open() as file:
                    while piece := file.read(CHUNK):
                        if (room := room - len(piece)) < 0:
                            raise _too_much(archive, member)


def _room(archive: Path, max_bytes: int) -> int:
    return min(max_bytes, max(SMALL, MAX_RATIO * archive.stat().st_size))


def copy_files(found: Iterable[Path], folder: Path) -> Path:
    """Copy files and the contents of folders into `folder`, which must not exist: all of it or nothing.

    Args:
        found: The files and folders.
        folder: The new folder.

    Raises:
        CannotSave: The folder cannot be written.
    """
    with _all_or_nothing(folder) as temp, saving(folder):
        for file, name in _plain_files(found):
            (temp / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, temp / name)
        temp.rename(folder)
    return folder


def _plain_files(found: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Files, also those inside folders, each with its path relative to its root."""
    for root in found:
        for file in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if file.is_file() and "__pycache__" not in file.parts:
                yield file, file.relative_to(root if root.is_dir() else root.parent)


def differences(origin: Path | list[Path], folder: Path) -> Iterator[str]:
    """The files of an archive that are missing or changed in the folder made from it; additional files do not matter.

    Args:
        origin: The archive, or the plain files that were copied.
        folder: The folder.

    Raises:
        BadFile: The archive is damaged.
    """
    if isinstance(origin, list):
        for file, name in _plain_files(origin):
            if not (folder / name).is_file() or not _same(file.open("rb"), folder / name):
                yield name.as_posix()
        return
    names = [PurePosixPath(_safe(origin, member.name)).parts for member in _members(origin)]
    has_top = len({parts[:1] for parts in names}) == 1 and any(len(parts) > 1 for parts in names)
    for parts, member in zip(names, _members(origin), strict=True):
        target = folder.joinpath(*parts[has_top:])
        with _reading(origin):
            same = target.is_file() if member.is_file else target.is_dir()
            same = same and (member.open is None or _same(member.open(), target))
        if not same:
            yield "/".join(parts)


def _same(packed: IO[bytes], file: Path) -> bool:
    with packed, open(file, "rb") as unpacked:
        while piece := packed.read(CHUNK):
            if unpacked.read(len(piece)) != piece:
                return False
        return not unpacked.read(1)


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, to be renamed when it is complete; what is left of it is removed."""
    temp = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(temp, ignore_errors=True)  # of a process that was killed
    try:
        with saving(temp):
            temp.mkdir(parents=True)
        yield temp
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _members(archive: Path) -> Iterator[_Member]:
    """The entries in order."""
    with _reading(archive):
        with open(archive, "rb") as file:
            is_zip = file.read(2) == b"PK"
        yield from _zip_members(archive) if is_zip else _tar_members(archive)


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Context manager: whatever a damaged archive raises becomes a BadFile."""
    try:
        yield
    except LayeredError:
        raise
    except _BROKEN as error:
        raise BadFile(
            f"'{archive}' cannot be unpacked",
            got=f"{error!s:.200}; it starts as {open_bounded(archive).look()}",
            expected="a complete zip, tar, tar.gz, tar.bz2 or tar.xz",
            fix="delete it and fetch it again: it is damaged, truncated, or a web page instead of an archive",
        ) from error


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _unsafe(archive, info.filename, "is a link or a device")
            if info.flag_bits & 1:
                raise BadFile(f"'{archive}' is encrypted", got=info.filename, fix="unpack it by hand")
            yield _Member(info.filename, None if info.is_dir() else partial(packed.open, info))


class _Bounded:
    """The bytes of a tar in pieces of at most CHUNK: tarfile would read a header of any claimed length into memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self.seek, self.tell, self._read = file.seek, file.tell, file.read

    def read(self, size: int) -> bytes:
        if not 0 <= size <= CHUNK:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._read(size)


def _unpacked(archive: Path) -> IO[bytes]:
    with open(archive, "rb") as file:
        start = file.read(6)
    opener: Callable[..., IO[bytes]] = next((o for magic, o in _PACKERS.items() if start.startswith(magic)), open)
    return opener(archive, "rb")


def _tar_members(archive: Path) -> Iterator[_Member]:
    with _unpacked(archive) as file, tarfile.TarFile(fileobj=_Bounded(file)) as packed:  # type: ignore[arg-type]
        while info := packed.next():
            packed.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every entry in memory otherwise
            if info.isdir():
                yield _Member(info.name)
            elif info.isreg():
                yield _Member(info.name, partial(_contents, packed, info))
            elif info.islnk():
                yield _Member(info.name, link=info.linkname)
            elif info.issym():
                yield _Member(info.name, link=_resolved(info.name, info.linkname))
            else:
                raise _unsafe(archive, info.name, "is a device or a pipe")
        _check_end(packed)


def _contents(packed: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = packed.extractfile(info)
    if file is None:
        raise tarfile.ReadError(f"'{info.name}' has no content")
    return file


def _resolved(name: str, link: str) -> str:
    """The target of a symbolic link, from the root of the archive; one outside keeps a leading '..'."""
    if link.startswith("/"):
        return link
    parts: list[str] = []
    for part in (PurePosixPath(name).parent / link).parts:
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def _check_end(packed: tarfile.TarFile) -> None:
    """Only zeros may follow the last entry: tarfile mistakes a damaged header for the end of the archive."""
    rest: IO[bytes] = packed.fileobj  # type: ignore[assignment]
    padding = 0
    while piece := rest.read(CHUNK):
        padding += len(piece)
        if piece.strip(b"\0") or padding > MAX_PADDING:
            raise tarfile.ReadError("the archive continues after a damaged entry, or after its end")


def _write_all(members: Iterable[_Member], root: Path, archive: Path, room: int, max_files: int) -> None:
    for count, member in enumerate(members, 1):
        if count > max_files:
            raise _unsafe(archive, member.name, f"is beyond the limit of {max_files} entries")
        target = root / _safe(archive, member.name)
        with _reading(archive):
            if target.exists() and (member.is_file or not target.is_dir()):
                raise _unsafe(archive, member.name, "occurs twice")
            with saving(target):
                _make_folder(target.parent if member.is_file else target, archive, member.name)
            if member.link is not None:
                source = root / _safe(archive, member.link)
                if not source.is_file():
                    raise _unsafe(archive, member.name, f"links to '{member.link}', which is not an earlier file")
                room -= _copy(source.open("rb"), target, room)
            elif member.open is not None:
                room -= _copy(member.open(), target, room)
            if room < 0:
                raise _too_much(archive, member)


def _make_folder(folder: Path, archive: Path, name: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise _unsafe(archive, name, "is inside what another entry declares to be a file") from None


def _copy(source: IO[bytes], target: Path, room: int) -> int:
    """Copy `source` to `target`, up to the first piece that exceeds `room`, and return the number of bytes."""
    written = 0
    with source:
        with saving(target):
            file = open(target, "wb")  # noqa: SIM115  # closed by the `with` below
        with file:
            while piece := source.read(CHUNK):
                written += len(piece)
                if written > room:
                    break
                with saving(target):
                    file.write(piece)
                    file.flush()
    return written


def _safe(archive: Path, name: str) -> str:
    """The name of an entry as a path inside the folder; raises UnsafeFile for any other."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.search(r"^\w:|[\x00-\x1f]", str(path)):
        raise _unsafe(archive, name, "reaches outside the folder")
    return str(path)


def _too_much(archive: Path, member: _Member) -> UnsafeFile:
    return _unsafe(archive, member.name, "exceeds the limit on the unpacked size")


def _unsafe(archive: Path, name: str, why: str) -> UnsafeFile:
    return UnsafeFile(
        f"'{archive}' is not safe to unpack: its entry '{name}' {why}",
        fix="if you trust its origin, unpack it by hand into a new folder and use that",
    )


def _only_folder(root: Path) -> Path:
    """The folder in `root` if it contains nothing else, or else `root`."""
    inside = list(root.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else root
