"""The index of data sets: one validated entry a file, `datasets_index/<name>.toml`."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from layered.foundation import BadFile, BadValue, lazy, refuse_unknown, unknown_name

tomllib = lazy("tomllib")  # only reading an entry needs it

_FORMS: dict[str, tuple[set[str], ...]] = {
    "bundled": ({"file", "sha256", "size"},),
    "package": ({"distribution", "file"}, {"distribution", "files"}),
    "debian": ({"distribution", "files"},),
    "https": ({"url"},),
}


@dataclass(frozen=True)
class Source:
    """One place to get the content of a data set from.

    Args:
        kind: "bundled", "package", "debian" or "https".
        file: An archive; bundled: beside the entry; package: path inside site-packages.
        files: Files and folders that are copied as they are; package: inside site-packages; debian: from the root.
        distribution: Of package and debian: its name in the registry.
        url: Of https: the address of an archive.
        sha256: Of the archive, if it was computed from the file itself.
        size: Bytes of the archive, if they were counted on the file itself.
    """

    kind: str
    file: str | None = None
    files: tuple[str, ...] | None = None
    distribution: str | None = None
    url: str | None = None
    sha256: str | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in _FORMS:
            raise unknown_name("kind of source", self.kind, _FORMS)
        given = {f.name for f in fields(self) if getattr(self, f.name) is not None} - {"kind"}
        forms = _FORMS[self.kind]
        if not any(form <= given <= (form if "files" in form else form | {"sha256", "size"}) for form in forms):
            expected = " or ".join(", ".join(sorted(form)) for form in forms)
            raise BadValue(f"a source of kind '{self.kind}' has the wrong fields", got=sorted(given), expected=expected)
        if self.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise BadValue("invalid sha256", got=self.sha256, expected="64 hexadecimal digits in lower case")
        if self.size is not None and not (type(self.size) is int and self.size > 0):
            raise BadValue("invalid size of an archive", got=repr(self.size), expected="a positive integer of bytes")


@dataclass(frozen=True)
class Dataset:
    """One entry of the index.

    Args:
        name: Its name, an attribute of `URLs`.
        title: What it is, in a few words.
        licence: Of the content, or "not stated".
        homepage: The address of its page.
        folder: The name of the unpacked folder.
        source: Where to get the content from; tried in this order.
        citation: The publication to cite.
        notes: Remarks.
        splits: The number of items in each published split.
        c_key: The folder of `LAYERED_HOME` it belongs in: "data" or "model".
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
    c_key: str = "data"

    @property
    def url(self) -> str:
        """Its value in `URLs`: its first address, or its name if it has none."""
        return next((source.url for source in self.source if source.url), self.name)

    @property
    def checked(self) -> str:
        """Against what its content is checked: a published sha256, a package, or only the first download."""
        if any(source.sha256 is not None for source in self.source):
            return "by the sha256 of the index"
        if any(source.kind != "https" for source in self.source):
            return "by the manager of its package"
        return "against the first download: its publisher gives no sha256"

    @classmethod
    def from_toml(cls, text: str) -> Dataset:
        """Read one entry.

        Raises:
            BadArgument: A field is unknown.
            BadValue: A field is missing or has an invalid value.
            UnknownName: The kind of a source or folder is unknown.
        """
        raw = tomllib.loads(text)
        refuse_unknown(raw, (f.name for f in fields(cls)), "an entry of the index")
        sources = raw.pop("source", [])
        for source in sources:
            refuse_unknown(source, (f.name for f in fields(Source)), "a source of the index")
            if "files" in source:
                source["files"] = tuple(source["files"])
        needed = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING} - {"source"}
        if missing := sorted(needed - raw.keys()):
            raise BadValue(f"the entry '{raw.get('name')}' lacks {', '.join(missing)}")
        entry = cls(source=tuple(Source(**{"kind": "", **source}) for source in sources), **raw)
        entry.check()
        return entry

    def check(self) -> None:
        """Raise BadValue for a field that is empty, has the wrong type, or cannot be used by the cache."""
        texts: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self) if f.type == "str"}
        for name, text in texts.items():
            if not isinstance(text, str) or not (text.strip() or name in ("citation", "notes")):
                raise BadValue(f"'{name}' of the entry '{self.name}' is not a non-empty string", got=repr(text))
        if not re.fullmatch(r"[A-Za-z0-9_]+", self.name):
            raise BadValue("invalid name of an entry", got=self.name, expected="letters, digits and _")
        if not re.fullmatch(r"\w[\w.-]*", self.folder):
            raise BadValue(f"the folder of '{self.name}' is not a plain name", got=self.folder)
        if not self.homepage.startswith(("https://", "http://")):
            raise BadValue(f"the homepage of '{self.name}' is not an address", got=self.homepage)
        if self.c_key not in ("data", "model"):
            raise unknown_name("kind of folder", self.c_key, ("data", "model"))
        if not self.source:
            raise BadValue(f"the entry '{self.name}' has no source")
        if wrong := {k: v for k, v in self.splits.items() if type(v) is not int or v < 1}:
            raise BadValue(f"the splits of '{self.name}' are not counts of items", got=wrong)
        if insecure := [s.url for s in self.source if s.url is not None and not s.url.startswith("https://")]:
            raise BadValue(f"an address of '{self.name}' is not https", got=insecure[0])


def index_folder() -> Path:
    """The folder of the index: inside the installed package, or beside it in a checkout."""
    package = resources.files("layered")
    inside = Path(str(package / "datasets_index"))
    return inside if inside.is_dir() else Path(str(package)).parent / "datasets_index"


def _read_entry(file: Path) -> Dataset:
    try:
        return Dataset.from_toml(file.read_text("utf-8"))
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError) as error:  # AttributeError: not a table
        raise BadFile(
            f"'{file}' is not an entry of the index of data sets",
            got=error,
            fix="correct it, or install the package again",
        ) from error


@cache
def datasets() -> Mapping[str, Dataset]:
    """All entries of the index, by name."""
    entries = map(_read_entry, sorted(index_folder().glob("*.toml")))
    return types.MappingProxyType({entry.name: entry for entry in entries})
