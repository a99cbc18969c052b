"""Power cuts: what a folder may look like after one, given what the processes that wrote there had synced.

POSIX promises no more than this: the bytes of a file are on disk once the file was synced, its name once its folder was.
All else may be there or not, each by itself.
"""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Synced:
    """What is known to be on disk of a folder: bytes by file (its inode), and names by folder.

    It is kept in a folder beside it, so that it outlives the process, with a link to each file, so that no inode is used twice.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.kept = folder, folder.with_name(f"{folder.name} synced")

    def begin(self) -> None:
        """All that is there now is on disk."""
        shutil.rmtree(self.kept, ignore_errors=True)
        self.kept.mkdir()
        for place in self.places():
            for file in place.iterdir():
                if file.is_file():
                    self.note_file(file)
            self.note_folder(place)

    def places(self) -> Iterator[Path]:
        yield self.folder
        yield from sorted(place for place in self.folder.rglob("*") if place.is_dir())

    def note_file(self, file: Path) -> None:
        number = self._link(file)
        (self.kept / f"{number}.new").write_bytes(file.read_bytes())
        os.replace(self.kept / f"{number}.new", self.kept / f"{number}.bytes")

    def note_folder(self, place: Path) -> None:
        names = [f"{self._link(file)} {file.name}" for file in place.iterdir() if file.is_file()]
        names += [f"0 {inner.name}" for inner in place.iterdir() if inner.is_dir()]
        new = self.kept / f"{place.stat().st_ino}.new"
        new.write_text("\n".join(names))
        os.replace(new, self.kept / f"{place.stat().st_ino}.names")

    def _link(self, file: Path) -> int:
        number = file.stat().st_ino
        if not (self.kept / f"{number}.link").exists():
            os.link(file, self.kept / f"{number}.link")
        return number

    def watch(self) -> None:
        """Note what this process syncs from now on."""
        fsync = os.fsync

        def watched(handle: int) -> None:
            path = Path(os.readlink(f"/proc/self/fd/{handle}"))
            if path.is_relative_to(self.folder) and path.exists():
                (self.note_folder if path.is_dir() else self.note_file)(path)
            fsync(handle)

        os.fsync = watched  # type: ignore[assignment]

    def cut(self, dice: random.Random) -> list[str]:
        """Leave of the folder what a power cut may leave; say what was lost."""
        lost: list[str] = []
        self._cut(self.folder, dice, lost)
        return lost

    def _cut(self, place: Path, dice: random.Random, lost: list[str]) -> None:
        noted = self.kept / f"{place.stat().st_ino}.names"
        lines = noted.read_text().splitlines() if noted.exists() else []
        before = {name: int(number) for number, _, name in (line.partition(" ") for line in lines)}
        now = {file.name: 0 if file.is_dir() else file.stat().st_ino for file in place.iterdir()}
        for name in sorted(before.keys() | now.keys()):
            path, stays = place / name, before.get(name) == now.get(name) or dice.random() < 0.5
            if not stays:
                lost.append(f"{path.relative_to(self.folder)} is as before")
                if name in now:
                    (shutil.rmtree if path.is_dir() else os.unlink)(path)
                if before.get(name):
                    shutil.copyfile(self.kept / f"{before[name]}.link", path)
            if path.is_dir():
                self._cut(path, dice, lost)
            elif path.exists():
                self._cut_file(path, now[name] if stays else before[name], dice, lost)

    def _cut_file(self, path: Path, number: int, dice: random.Random, lost: list[str]) -> None:
        noted, new = self.kept / f"{number}.bytes", path.read_bytes()
        old = noted.read_bytes() if noted.exists() else b""
        if old == new:
            return
        begun = old if new.startswith(old) else b""
        torn = new[: dice.randint(len(begun), len(new))]
        left: Any = dice.choice([old, new, torn, torn + bytes(len(new) - len(torn))])
        path.write_bytes(left)
        lost.append(f"{path.relative_to(self.folder)} has {len(left)} bytes of {len(new)}, {len(torn)} of them written")
