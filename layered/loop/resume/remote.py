"""Checkpoints at an address such as `s3://bucket/run`: a folder of this machine, whose files `fsspec` carries there and back.

A ledger in the folder says what was at the address when this machine last looked. As long as that is there, the folder may be
ahead; what another machine, or its user, has changed there replaces what the folder holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

from layered.catalog import layered_home
from layered.files import commit, open_bounded, parse_json, real_path
from layered.foundation import (
    BadValue,
    CannotSave,
    LayeredError,
    MissingDependency,
    NotFoundPath,
    Offline,
    lazy,
    masked,
    visible,
    warn,
)

fsspec = lazy("fsspec")

LEDGER = ".layered-remote"
HEAD = 1024  # bytes of a file, with the hash of all of it if it is a checkpoint
TRIES = 3
PAUSE = 1.0  # seconds before the second try, and twice as many before each further one
_OF_RUN = re.compile(r"(?:(?:data|seed)-[0-9a-f]{12}/)*(?:checkpoint-\d+(?:-fit\d+)?\.layered|\.layered-run)", re.ASCII)


def is_address(place: str | os.PathLike[str]) -> bool:
    """Whether a place is an address, not a path.

    Args:
        place: As users write it.

    Examples:
        >>> is_address("s3://bucket/run"), is_address("run")
        (True, False)
    """
    return "://" in os.fspath(place)


class Remote:
    """The checkpoints of a run at an address. They are written to a folder of this machine, and put there from it.

    Options and secrets are `fsspec`'s own: its configuration, or the environment variables of the service.

    Args:
        address: Of a folder, such as "s3://bucket/run".

    Attributes:
        shown: The address without the secrets in it.
        folder: That of this machine, below `LAYERED_HOME`.

    Raises:
        BadValue: Nothing is known about such addresses.
        MissingDependency: Their package is not installed.
    """

    def __init__(self, address: str) -> None:
        self.address, self.shown = address.rstrip("/"), visible(masked(address))
        if re.match(r"https?:", address):
            raise BadValue(
                "nothing can be written to an address of the web",
                got=self.shown,
                fix="checkpoint='run', or 's3://…'",
            )
        try:
            self.system, root = fsspec.core.url_to_fs(self.address)
        except ImportError as error:
            raise MissingDependency(f"checkpoints at '{self.shown}' need a package", got=masked(str(error))) from error
        except ValueError as error:
            raise BadValue(
                "invalid address for checkpoints",
                got=self.shown,
                expected="a folder, or an address that fsspec knows, such as 's3://bucket/run'",
            ) from error
        self.root = str(root).rstrip("/")
        self.local = fsspec.filesystem("file")
        name = re.sub(r"[^\w-]", "-", re.split("[?#]", self.address)[0].rpartition("/")[2])[:40]
        self.folder = (
            layered_home() / "checkpoints" / f"{name}-{hashlib.sha256(self.address.encode()).hexdigest()[:12]}"
        )
        self.seen: dict[str, str | None] = {}  # what is there, as this run knows; None for what is just being put

    def fetch(self) -> None:
        """Bring what is there to the folder of this machine, if it is not what this machine has left there.

        Raises:
            Offline: The service does not answer, or refuses.
            CannotSave: The folder cannot be written to.
        """
        try:
            existing, ledger = self._marks(), self._ledger()
            if not _is_as_left(existing, ledger):
                for file in self._files().values():
                    file.unlink()
                for name in existing:
                    with self.system.open(f"{self.root}/{name}", "rb") as source:
                        commit(self.folder / name, partial(shutil.copyfileobj, source, length=1 << 20))
                self.seen = dict(existing)
                self._note()
            else:
                self.seen = ledger
        except LayeredError:
            raise
        except Exception as error:
            raise Offline(
                f"cannot read the checkpoints at '{self.shown}'",
                got=masked(f"{type(error).__name__}: {error}"),
                fix="check the address, the network and the rights; or write to a folder: checkpoint='run'",
            ) from error

    def put(self, is_last: bool) -> None:
        """Bring what is here, and not there, to the address; and delete there what was deleted here.

        Args:
            is_last: Whether this is the last time; before that, what cannot be put is put the next time.

        Raises:
            CannotSave: Another run writes to the address; or nothing can be written the last time.
        """
        for i in range(TRIES):
            try:
                return self._put()
            except LayeredError:
                raise
            except Exception as error:
                failure = masked(f"{type(error).__name__}: {error}")
                if i + 1 < TRIES:
                    time.sleep(PAUSE * 2**i)
        words = f"checkpoints cannot be put at '{self.shown}'"
        if is_last:
            raise CannotSave(
                words, got=failure, fix=f"they are in '{self.folder}'; start again, and fit puts them there"
            )
        return warn(f"{words}: {failure}; they are in '{self.folder}', and the next one takes them along")

    def _put(self) -> None:
        existing, files = self._marks(), self._files()
        strangers = [name for name in existing if self.seen.get(name, "") not in (existing[name], None)]
        if strangers:
            raise CannotSave(
                f"another run writes to '{self.shown}'",
                got=f"{min(strangers)}, which is not of this run",
                expected="one run at a time at an address",
                fix="an address for each, or end one of them and start the other again",
            )
        marks = {name: self._mark(str(file), file.stat().st_size, self.local) for name, file in files.items()}
        due = [name for name in marks if existing.get(name) != marks[name]]
        self.seen |= dict.fromkeys(due)
        self._note()
        for name in due:
            self.system.makedirs(f"{self.root}/{name}".rpartition("/")[0], exist_ok=True)
            self.system.put_file(str(files[name]), f"{self.root}/{name}")
        for name in existing.keys() - marks.keys():
            self.system.rm_file(f"{self.root}/{name}")
        self.seen = dict(marks)
        self._note()

    def _files(self) -> dict[str, Path]:
        """The files of the run in the folder, by name below it, in order."""
        files = {path.relative_to(self.folder).as_posix(): path for path in sorted(self.folder.rglob("*"))}
        return {name: path for name, path in files.items() if _OF_RUN.fullmatch(name)}

    def _marks(self) -> dict[str, str]:
        """The files of the run that are there, by name below the address, each with what tells it from others."""
        self.system.invalidate_cache()
        try:
            self.system.info(self.root)  # which raises where there is no answer, while `find` finds nothing
        except FileNotFoundError:
            return {}
        found = self.system.find(self.root, detail=True)
        sizes = {path: entry["size"] for path, entry in found.items() if _OF_RUN.fullmatch(path[len(self.root) + 1 :])}
        return {path[len(self.root) + 1 :]: self._mark(path, size, self.system) for path, size in sizes.items()}

    def _mark(self, path: str, size: int, system: Any) -> str:
        """The size of a file and a hash of its beginning."""
        return f"{size} {hashlib.sha256(system.cat_file(path, start=0, end=min(size, HEAD))).hexdigest()}"

    def _ledger(self) -> dict[str, Any]:
        try:
            with open_bounded(self.folder / LEDGER) as file:
                return dict(parse_json(file.read(1 << 24), "a ledger"))
        except (OSError, LayeredError, TypeError, ValueError):
            return {}

    def _note(self) -> None:
        commit(self.folder / LEDGER, lambda file: file.write(json.dumps(self.seen).encode()))


def _is_as_left(existing: dict[str, str], ledger: dict[str, str | None]) -> bool:
    """Whether what is at an address is what a ledger says, but for what was just being put."""
    finished = {name: mark for name, mark in ledger.items() if mark is not None}
    return finished == {name: mark for name, mark in existing.items() if ledger.get(name, "") is not None}


def place_here(place: str | os.PathLike[str]) -> Path:
    """Where a fit resumes from: a path as it is, or the copy of what is at an address.

    Args:
        place: A folder or a file.

    Raises:
        NotFoundPath: There is nothing at the address.
    """
    if not is_address(place):
        return real_path(place)
    folder, _, name = os.fspath(place).rpartition("/") if os.fspath(place).endswith(".layered") else (place, "", "")
    remote = Remote(os.fspath(folder))
    remote.fetch()
    if not remote.seen or (name and name not in remote.seen):
        raise NotFoundPath(f"there is no checkpoint at '{remote.shown}'", fix="check the address")
    return remote.folder / name if name else remote.folder
