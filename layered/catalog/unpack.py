"""Unpacking archives that somebody else made: nothing lands outside the folder, nothing points out, nothing explodes."""

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
from layered.foundation import BadFile, LayeredError, UnsafeFile

MAX_FILES = 5_000_000
MAX_BYTES = 1 << 40  # of the unpacked files together
MAX_RATIO = 200  # unpacked bytes for one packed byte, beyond the first SMALL bytes
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
    """One entry of an archive: a folder, a link to another entry, or a file whose bytes `open` reads."""

    name: str
    open: Callable[[], IO[bytes]] | None = None  # None for a folder
    link: str | None = None  # the entry meant, from the archive's root

    @property
    def is_file(self) -> bool:
        return self.open is not None or self.link is not None


def unpack(archive: Path, folder: Path, *, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES) -> Path:
    """Unpack a zip or a tar (plain, gz, bz2, xz) into `folder`, which must not exist: all of it or nothing.

    An archive whose only top entry is a folder gives that folder's content: `x.tgz` with `x/a.png` in it, unpacked
    into `here`, gives `here/a.png`. Links become copies of the files they mean, so nothing on the disk points
    anywhere; owners and permissions are not taken over.

    Args:
        max_files: Most entries.
        max_bytes: Most bytes unpacked; less where that would be over 200 times the archive's size and over 256 MiB.

    Returns:
        `folder`.

    Raises:
        BadFile: For an archive that is damaged, cut off or none at all.
        UnsafeFile: (a BadFile) for one that reaches outside, holds devices or passes the bounds.
        CannotSave: When the disk refuses.
    """
    room = min(max_bytes, max(SMALL, MAX_RATIO * archive.stat().st_size))
    with _all_or_nothing(folder) as temp:
        _write_all(_members(archive), temp, archive, room, max_files)
        with saving(folder):
            _only_folder(temp).rename(folder)
    return folder


def copy_files(found: Iterable[Path], folder: Path) -> Path:
    """Copy files, and what is in folders, into `folder`, which must not exist: all of it or nothing.

    Raises:
        CannotSave: When the disk refuses.
    """
    with _all_or_nothing(folder) as temp, saving(folder):
        for file, name in _plain_files(found):
            (temp / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, temp / name)
        temp.rename(folder)
    return folder


def _plain_files(found: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Files, and those below folders, with their names from there on."""
    for root in found:
        for file in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if file.is_file() and "__pycache__" not in file.parts:
                yield file, file.relative_to(root if root.is_dir() else root.parent)


def differences(origin: Path | list[Path], folder: Path) -> Iterator[str]:
    """The files of an archive (or plain files) that `folder`, made from it, lacks or has otherwise; more are no matter.

    Raises:
        BadFile: For an archive that is damaged.
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
        is_there = target.is_file() if member.is_file else target.is_dir()
        if not is_there or (member.open is not None and not _same(member.open(), target)):
            yield "/".join(parts)


def _same(packed: IO[bytes], file: Path) -> bool:
    with packed, open(file, "rb") as unpacked:
        while piece := packed.read(CHUNK):
            if unpacked.read(len(piece)) != piece:
                return False
        return not unpacked.read(1)


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, to be renamed when it is complete; whatever is left of it goes."""
    temp = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(temp, ignore_errors=True)  # of a process that was killed
    try:
        with saving(temp):
            temp.mkdir(parents=True)
        yield temp
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _members(archive: Path) -> Iterator[_Member]:
    """The entries, in order; whatever is wrong with the archive itself is a BadFile, here or while reading."""
    try:
        with open(archive, "rb") as file:
            is_zip = file.read(2) == b"PK"
        yield from _zip_members(archive) if is_zip else _tar_members(archive)
    except LayeredError:
        raise
    except _BROKEN as error:
        raise _bad(archive, error) from error


def _bad(archive: Path, error: BaseException) -> BadFile:
    return BadFile(
        f"'{archive}' cannot be unpacked",
        got=error,
        expected="a whole zip, tar, tar.gz, tar.bz2 or tar.xz",
        fix="delete it and get it again: it is damaged, cut off, or a web page in the archive's place",
    )


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
    """The bytes of a tar, in pieces of at most CHUNK: a header that claims to be longer would all go into memory."""

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
            packed.members.clear()  # type: ignore[attr-defined]  # it would grow with every entry
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
    """What a symbolic link means, from the archive's root; what leads out keeps a '..' in front."""
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
    """Nothing but zeros may follow the last entry: tarfile takes a damaged header for the end."""
    rest: IO[bytes] = packed.fileobj  # type: ignore[assignment]
    padding = 0
    while piece := rest.read(CHUNK):
        padding += len(piece)
        if piece.strip(b"\0") or padding > MAX_PADDING:
            raise tarfile.ReadError("the archive goes on after a damaged entry, or the last one")


def _write_all(members: Iterable[_Member], root: Path, archive: Path, room: int, max_files: int) -> None:
    for count, member in enumerate(members, 1):
        if count > max_files:
            raise _unsafe(archive, member.name, f"is one of more than {max_files} entries")
        target = root / _safe(archive, member.name)
        try:
            if target.exists() and (member.is_file or not target.is_dir()):
                raise _unsafe(archive, member.name, "stands in it twice")
            with saving(target):
                _make_folder(target.parent if member.is_file else target, archive, member.name)
            if member.link is not None:
                source = root / _safe(archive, member.link)
                if not source.is_file():
                    raise _unsafe(archive, member.name, f"links to '{member.link}', which is no file before it")
                room -= _copy(source.open("rb"), target, room)
            elif member.open is not None:
                room -= _copy(member.open(), target, room)
        except _TooMuch:
            raise _unsafe(archive, member.name, "passes the bound on the unpacked size") from None
        except LayeredError:
            raise
        except _BROKEN as error:
            raise _bad(archive, error) from error


def _make_folder(folder: Path, archive: Path, name: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise _unsafe(archive, name, "lies in what another entry says is a file") from None


class _TooMuch(Exception):
    """More bytes than there is room for."""


def _copy(source: IO[bytes], target: Path, room: int) -> int:
    """Write what `source` gives to `target`, and say how much it was."""
    written = 0
    with source:
        with saving(target):
            file = open(target, "wb")  # noqa: SIM115  # closed by the `with` below
        with file:
            while piece := source.read(CHUNK):
                written += len(piece)
                if written > room:
                    raise _TooMuch
                with saving(target):
                    file.write(piece)
                    file.flush()
    return written


def _safe(archive: Path, name: str) -> str:
    """`name` as a path below the folder, or UnsafeFile."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.search(r"^\w:|[\x00-\x1f]", str(path)):
        raise _unsafe(archive, name, "reaches outside the folder")
    return str(path)


def _unsafe(archive: Path, name: str, why: str) -> UnsafeFile:
    return UnsafeFile(
        f"'{archive}' is not safe to unpack: its entry '{name}' {why}",
        fix="if you trust who made it, unpack it by hand into a folder of its own and use that folder",
    )


def _only_folder(root: Path) -> Path:
    """The one folder that `root` holds and nothing beside it, or else `root`."""
    inside = list(root.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else root
