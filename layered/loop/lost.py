"""Processes that are lost in the middle of common work: the others end soon, and say which is missing and why."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from torch import distributed

from layered.foundation import BadValue, CannotTrain, rank_and_world

TIMEOUT = "LAYERED_TIMEOUT"
PATIENCE = 10.0  # seconds in which processes that are there say so


class LostProcess(CannotTrain, RuntimeError):
    """Another process has failed, was killed, or does not answer, and what all do together cannot go on.

    Fix: start the same command again; with `fit(…, checkpoint="run", resume="auto")` it goes on from the last checkpoint.
    """


def timeout_of_processes() -> timedelta:
    """How long processes wait for one another: 10 minutes, or the seconds in the environment variable `LAYERED_TIMEOUT`.

    Raises:
        BadValue: It is not a number of seconds.
    """
    text = os.environ.get(TIMEOUT, "600")
    if not text.isdecimal() or int(text) == 0:
        raise BadValue(f"{TIMEOUT} must be a number of seconds", got=repr(text), expected="a whole number from 1")
    return timedelta(seconds=int(text))


@contextmanager
def naming_lost() -> Iterator[None]:
    """Inside the `with`, the error of a process that fails is left for the others; theirs, of the network, names it."""
    rank, world = rank_and_world()
    if world > 1:
        _take_back_note(rank)
    try:
        yield
    except LostProcess:
        raise
    except Exception as error:
        if world == 1 or not distributed.is_initialized():
            raise
        if not _is_of_network(error):
            _leave_note(rank, f"{type(error).__name__}: {error}".splitlines()[0])
            raise
        _leave_note(rank, "")
        missing = _missing(world)
        raise LostProcess(
            " and ".join(f"process {other}" for other in missing) + f" of {world} is lost: process {rank} cannot go on"
            if missing
            else f"process {rank} of {world} has waited in vain for the others, or lost the connection to them",
            got="; ".join(f"process {other}: {why or 'left without a word'}" for other, why in missing.items())
            or str(error).splitlines()[0],
            fix="start the same command again; fit(…, checkpoint='run', resume='auto') goes on from the last checkpoint",
        ) from error


def _is_of_network(error: Exception) -> bool:
    """Whether a collective operation has failed; gloo raises plain RuntimeErrors."""
    if isinstance(error, distributed.DistError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("gloo" in text or "onnection" in text or "imed out" in text)


_has_left_note = False  # this process


def _leave_note(rank: int, text: str) -> None:
    global _has_left_note
    with suppress(Exception):  # the process that keeps the notes may be the one that is lost
        distributed.distributed_c10d._get_default_store().set(f"layered/end/{rank}", text)
        _has_left_note = True


def _take_back_note(rank: int) -> None:
    """Of an error that the script has caught: this process is there again."""
    global _has_left_note
    if _has_left_note and distributed.is_initialized():
        with suppress(Exception):
            distributed.distributed_c10d._get_default_store().delete_key(f"layered/end/{rank}")
        _has_left_note = False


def _missing(world: int) -> dict[int, str]:
    """The processes that have failed, with their errors, and those that have not said in time that they are there."""
    found: dict[int, str | None] = dict.fromkeys(range(world))
    until = time.monotonic() + PATIENCE
    with suppress(Exception):
        store = distributed.distributed_c10d._get_default_store()
        while None in found.values() and time.monotonic() < until:
            for other, text in found.items():
                if text is None and store.check([f"layered/end/{other}"]):
                    found[other] = store.get(f"layered/end/{other}").decode()
            time.sleep(0.05)
        return {other: text or "" for other, text in found.items() if text != ""}
    return {0: "it kept the notes of the others"}
