"""Data sets on this machine: where they are, whether they are complete, and how to remove them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from layered.catalog.catalog import FOLDERS, archive_name, at_hand, layered_home, overridden
from layered.catalog.disk import alone, saving
from layered.catalog.download import check_download, record, recorded
from layered.catalog.entries import Dataset, Source
from layered.catalog.unpack import check_archive, differences
from layered.foundation import BadFile, BadValue, LayeredError, NotFoundPath


@dataclass(frozen=True)
class Place:
    """Where a data set is on this machine; None or empty where it is not.

    Args:
        elsewhere: Its folder in one of those that `LAYERED_DATA` names.
        folder: Its unpacked folder in the cache.
        archives: Its downloaded archives.
        packaged: A source in an installed package.
    """

    elsewhere: Path | None
    folder: Path | None
    archives: list[Path]
    packaged: Source | None

    @property
    def state(self) -> str:
        """One word: "elsewhere", "here", "archive", "package" or "no"."""
        states = {"elsewhere": self.elsewhere, "here": self.folder, "archive": self.archives, "package": self.packaged}
        return next((name for name, found in states.items() if found), "no")


def place_of(entry: Dataset) -> Place:
    """Find a data set on this machine.

    Args:
        entry: The entry of the index.
    """
    folder = _cached(entry)
    return Place(
        overridden(entry),
        folder if folder.is_dir() else None,
        [file for file in _archives(entry) if file.is_file()],
        next((source for source in entry.source if _is_at_hand(source)), None),
    )


def size_of(entry: Dataset) -> int | None:
    """The size of the archive in bytes, by the entry or else by the downloaded file; None if unknown.

    Args:
        entry: The entry of the index.
    """
    known = [source.size for source in entry.source if source.size is not None]
    return next(iter([*known, *(file.stat().st_size for file in _archives(entry) if file.is_file())]), None)


def verify(entry: Dataset) -> list[str]:
    """Compare archives with their recorded sha256, and the unpacked folder with its archive.

    Args:
        entry: The entry of the index.

    Returns:
        A line for each comparison.

    Raises:
        NotFoundPath: Nothing of the data set is in the cache.
        BadFile: An archive differs from its record, or a folder lacks files or has changed ones.
    """
    folder, done = _cached(entry), []
    origin: Path | list[Path] | None = None
    for source in entry.source:
        if source.url is not None and (file := _archive(source)).is_file():
            is_known = source.sha256 is not None or recorded(file) is not None
            seen = check_download(file, str(file), file, source.sha256, source.size)
            if not is_known:
                check_archive(file)
                record(file, seen)
            done.append(
                f"{file} matches its recorded sha256" if is_known else f"the sha256 of {file} is recorded from now on"
            )
            origin = origin or file
        elif folder.is_dir():
            origin = origin or at_hand(source)
    if not folder.is_dir() and not done:
        raise NotFoundPath(f"nothing of '{entry.name}' is in the cache", got=layered_home(), fix="fetch it")
    if folder.is_dir() and origin is None:
        done.append(f"{folder} exists, but cannot be verified without its archive")
    elif folder.is_dir() and origin is not None:
        wrong = list(differences(origin, folder))
        if wrong:
            raise BadFile(
                f"'{folder}' differs from its archive",
                got=f"{len(wrong)} files are missing or changed, first '{wrong[0]}'",
                fix=f"untar_data(URLs.{entry.name}, force_download=True), or remove and fetch it",
            )
        done.append(f"{folder} matches its archive")
    return done


def removable(entry: Dataset) -> list[Path]:
    """The files of a data set in the cache: its folder, archives and unfinished downloads.

    Args:
        entry: The entry of the index.

    Raises:
        BadValue: For what is not the cache's own: a folder of `LAYERED_DATA`, or a link to elsewhere.
        NotFoundPath: Where there is nothing.
    """
    existing = [path for path in (_cached(entry), *_leftovers(entry)) if path.exists() or path.is_symlink()]
    if not existing and (elsewhere := overridden(entry)) is not None:
        raise BadValue(f"'{elsewhere}' is not in the cache", got="a folder of LAYERED_DATA", fix="remove it by hand")
    if not existing:
        raise NotFoundPath(f"nothing of '{entry.name}' is in the cache", got=layered_home())
    home = layered_home().resolve()
    for path in existing:
        if path.is_symlink() or home not in path.resolve().parents:
            raise BadValue(f"'{path}' points outside the cache", got=path.resolve(), fix="remove it by hand")
    return existing


def remove(entry: Dataset) -> list[Path]:
    """Remove a data set from the cache: its folder, archives and unfinished downloads. Recorded sha256 sums stay.

    Args:
        entry: The entry of the index.

    Raises:
        BadArgument: As `removable`.
        CannotSave: The disk refuses.

    Returns:
        What was removed.
    """
    with alone(_cached(entry)):
        existing = removable(entry)
        for path in existing:
            with saving(path):
                if path.is_dir():
                    doomed = path.with_name(
                        f".{path.name}.old"
                    )  # a folder that is half removed must not pass for the data set
                    shutil.rmtree(doomed, ignore_errors=True)
                    path.rename(doomed)
                    shutil.rmtree(doomed)
                else:
                    path.unlink()
    return existing


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
