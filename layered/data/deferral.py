"""What a reader may leave undone while an item is made: what its transforms will need of a file, they ask for themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum


class Deferral(Enum):
    """How much of a file is read where an item is made; the rest is read once a transform asks for it."""

    NOTHING = "nothing is deferred"
    PIXELS = "decoding is deferred where it can be had for less"
    FILES = "files are not opened"


_current: ContextVar[Deferral] = ContextVar("layered_deferral", default=Deferral.NOTHING)


def deferral() -> Deferral:
    """What may be deferred by the code that runs now; nothing outside of loaders."""
    return _current.get()


@contextmanager
def deferring(what: Deferral) -> Iterator[None]:
    """Context manager: readers inside may defer this much, for whatever they return is transformed inside too.

    Args:
        what: How much.
    """
    token = _current.set(what)
    try:
        yield
    finally:
        _current.reset(token)
