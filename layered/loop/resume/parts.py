"""A checkpoint of a sharded model in parts: each process writes what it has, and the first one the checkpoint that lists them.

    checkpoint-000003.layered                       written last, once all parts stand; lists their hashes
    checkpoint-000003.parts/part-0-of-2.layered     the rows that process 0 has of each sharded tensor
    checkpoint-000003.parts/part-1-of-2.layered

All processes must see the folder. Whoever reads a checkpoint joins the parts, however many processes wrote them.
"""

from __future__ import annotations

import pathlib
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from layered.files import COPY_AGAIN, commit, exactly, read_archive, read_digest, write_archive
from layered.foundation import BadFile, CannotSave, rank_and_world
from layered.loop.processes import gathered

PATIENCE = 600.0  # seconds that the first process waits for the parts of the others
MAX_PARTS = 100_000


@dataclass
class Part:
    """What this process writes of a checkpoint.

    Args:
        file: The checkpoint.
        tensors: The rows that this process has, by name; they must not change any more.
    """

    file: pathlib.Path
    tensors: dict[str, Tensor]

    def write(self) -> None:
        """Write it; if that fails, the first process learns of it."""
        rank, world = rank_and_world()
        path = part_file(self.file, rank, world)
        try:
            write_archive(path, {}, self.tensors, kind="checkpoint")
        except Exception as error:
            message = str(error).encode()
            commit(path.with_suffix(".failed"), lambda file: file.write(message))
            raise

    def hashes(self) -> list[str]:
        """Those of all parts, once they stand.

        Raises:
            CannotSave: A process could not write its part, or has not done so in time.
        """
        _, world = rank_and_world()
        return [self._hash(rank, world) for rank in range(world)]

    def _hash(self, rank: int, world: int) -> str:
        path, began = part_file(self.file, rank, world), time.monotonic()
        while not path.exists():
            failure = path.with_suffix(".failed")
            if failure.exists():
                raise CannotSave(f"process {rank} could not write its part", got=failure.read_text()[:500])
            if time.monotonic() - began > PATIENCE:
                raise CannotSave(
                    f"process {rank} has not written its part",
                    got=f"no '{path}' after {PATIENCE:.0f} s",
                    fix="a folder that all processes see",
                )
            time.sleep(0.02)
        return read_digest(path)


def begin_parts(file: pathlib.Path, tensors: Mapping[str, Tensor]) -> Part:
    """The part of this process of a checkpoint of the first one. A collective call: all processes must make it.

    Args:
        file: The checkpoint; that of the first process counts.
        tensors: The rows that this process has, by name.
    """
    if rank_and_world()[0] == 0:
        delete_parts(file)  # a run that was killed may have left some of that name
    return Part(gathered(file)[0], {name: x for name, x in tensors.items() if x.numel()})


def part_file(file: pathlib.Path, rank: int, world: int) -> pathlib.Path:
    """Where the part of a process stands.

    Args:
        file: The checkpoint.
        rank: Of the process.
        world: How many there were.
    """
    return file.with_suffix(".parts") / f"part-{rank}-of-{world}.layered"


def delete_parts(file: pathlib.Path) -> None:
    """Delete the parts of a checkpoint, if it has any.

    Args:
        file: The checkpoint.
    """
    shutil.rmtree(file.with_suffix(".parts"), ignore_errors=True)


def read_parts(file: pathlib.Path, listed: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint that are in parts, as wholes.

    Args:
        file: The checkpoint.
        listed: What it says of its parts: {"hashes": […], "shapes": {name: […]}}, or None.

    Raises:
        BadFile: A part is missing, damaged, or that of another checkpoint; the error names it.
    """
    if listed is None:
        return {}
    hashes, shapes = exactly(list, listed["hashes"]), exactly(dict, listed["shapes"])
    if len(hashes) > MAX_PARTS:
        raise BadFile(f"'{file}' lists too many parts", got=len(hashes), expected=f"at most {MAX_PARTS}")
    parts = []
    for rank, digest in enumerate(hashes):
        path = part_file(file, rank, len(hashes))
        if not path.exists():
            raise BadFile(f"'{path}' is missing, a part of '{file.name}'", fix=COPY_AGAIN)
        archive = read_archive(path, kind="checkpoint")
        if archive.sha256 != digest:
            raise BadFile(
                f"'{path}' is a part of another checkpoint", got=archive.sha256, expected=digest, fix=COPY_AGAIN
            )
        parts.append(archive.tensors)
    whole = {}
    for name, shape in shapes.items():
        rows = [tensors.pop(name) for tensors in parts if name in tensors]
        whole[name] = torch.cat(rows) if rows else torch.empty(0)
        if list(whole[name].shape) != shape:
            raise BadFile(f"the parts of '{file}' do not make up '{name}'", got=list(whole[name].shape), expected=shape)
    return whole
