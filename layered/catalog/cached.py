"""What of the index is on this machine: where it stands, whether it is whole, and taking it away again."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from layered.catalog.catalog import FOLDERS, archive_name, at_hand, layered_home, overridden
from layered.catalog.disk import alone, saving
from layered.catalog.download import check, record_of
from layered.catalog.entries import Dataset, Source
from layered.catalog.unpack import differences
from layered.foundation import BadFile, BadValue, LayeredError, NotFoundPath


@dataclass(frozen=True)
class Place:
    """Where a set stands.

    Args:
        elsewhere: Its folder below one of `LAYERED_DATA`.
        folder: Its unpacked folder in the cache.
        archives: Its downloaded archives.
        packaged: A source that this machine has without the network.
    """

    elsewhere: Path | None
    folder: Path | None
    archives: list[Path]
    packaged: Source | None

    @property
    def state(self) -> str:
        """One word: "elsewhere", "here", "archive", "package" or "no"."""
        states = {"elsewhere": self.elsewhere, "here": self.folder, "archive": self.archives, "package": self.packaged}
        return next((name for name, there in states.items() if there), "no")


def place_of(entry: Dataset) -> Place:
    """Where a set of the index stands on this machine."""
    folder = _cached(entry)
    return Place(
        overridden(entry),
        folder if folder.is_dir() else None,
        [file for file in _archives(entry) if file.is_file()],
        next((source for source in entry.source if _is_at_hand(source)), None),
    )


def size_of(entry: Dataset) -> int | None:
    """The size of the archive in bytes, as the entry says or as it lies here; None where nobody knows."""
    known = [source.size for source in entry.source if source.size is not None]
    return next(iter([*known, *(file.stat().st_size for file in _archives(entry) if file.is_file())]), None)


def verify(entry: Dataset) -> list[str]:
    """What was compared: the archives with what is recorded of them, and the unpacked folder with the archive.

    Raises:
        NotFoundPath: Where nothing of the set is in the cache.
        BadFile: For an archive that is not the recorded one, or a folder that lacks files or has them changed.
    """
    folder, done = _cached(entry), []
    origin: Path | list[Path] | None = None
    for source in entry.source:
        if source.url is not None and (file := _archive(source)).is_file():
            is_known = source.sha256 is not None or record_of(file).exists()
            check(file, str(file), file, source.sha256, source.size)
            done.append(f"{file} is the file that was recorded" if is_known else f"{file} is recorded from now on")
            origin = origin or file
        elif folder.is_dir():
            origin = origin or at_hand(source)
    if not folder.is_dir() and not done:
        raise NotFoundPath(f"nothing of '{entry.name}' is in the cache", got=layered_home(), fix="fetch it")
    if folder.is_dir() and origin is None:
        done.append(f"{folder} is here; without its archive nobody knows whether it is whole")
    elif folder.is_dir() and origin is not None:
        wrong = list(differences(origin, folder))
        if wrong:
            raise BadFile(
                f"'{folder}' is not as it was unpacked",
                got=f"{len(wrong)} files are missing or changed, first '{wrong[0]}'",
                fix=f"untar_data(URLs.{entry.name}, force_download=True), or remove and fetch it",
            )
        done.append(f"{folder} is whole")
    return done


def removable(entry: Dataset) -> list[Path]:
    """The folder and the archives of a set in the cache.

    Raises:
        BadValue: For what is not the cache's own: a folder of `LAYERED_DATA`, or a link to elsewhere.
        NotFoundPath: Where there is nothing.
    """
    there = [path for path in (_cached(entry), *_leftovers(entry)) if path.exists() or path.is_symlink()]
    if not there and (elsewhere := overridden(entry)) is not None:
        raise BadValue(
            f"'{elsewhere}' is no part of the cache", got="a folder of LAYERED_DATA", fix="remove it by hand"
        )
    if not there:
        raise NotFoundPath(f"nothing of '{entry.name}' is in the cache", got=layered_home())
    home = layered_home().resolve()
    for path in there:
        if path.is_symlink() or home not in path.resolve().parents:
            raise BadValue(f"'{path}' leads out of the cache", got=path.resolve(), fix="remove it by hand")
    return there


def remove(entry: Dataset) -> list[Path]:
    """Take away the unpacked folder, the archives and half downloads of a set; what was recorded of the archives stays.

    Raises:
        BadArgument: As `removable`.
        CannotSave: The disk refuses.

    Returns:
        What was removed.
    """
    with alone(_cached(entry)):
        there = removable(entry)
        for path in there:
            with saving(path):
                if path.is_dir():
                    doomed = path.with_name(f".{path.name}.old")  # half a folder never counts as the set
                    shutil.rmtree(doomed, ignore_errors=True)
                    path.rename(doomed)
                    shutil.rmtree(doomed)
                else:
                    path.unlink()
    return there


def _cached(entry: Dataset) -> Path:
    return layered_home() / FOLDERS[entry.c_key] / entry.folder


def _archive(source: Source) -> Path:
    return layered_home() / FOLDERS["archive"] / archive_name(str(source.url))


def _archives(entry: Dataset) -> list[Path]:
    return [_archive(source) for source in entry.source if source.url is not None]


def _leftovers(entry: Dataset) -> list[Path]:
    return [file.with_name(file.name + end) for file in _archives(entry) for end in ("", ".part", ".part.tag")]


def _is_at_hand(source: Source) -> bool:
    try:
        return at_hand(source) is not None
    except LayeredError:
        return False
