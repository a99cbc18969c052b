"""The global generators of Python, NumPy and torch: seeding, saving and restoring them, and imports that do not disturb them."""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from operator import index
from types import ModuleType
from typing import Any

import numpy as np
import torch

from layered.foundation.seeds import tickets_in_use


def set_seed(seed: int, reproducible: bool = False) -> None:
    """Seed the global generators of Python, NumPy and torch; run seeds of the library derive from torch's.

    Args:
        seed: The seed.
        reproducible: Also ask cuDNN for deterministic kernels.
    """
    seed = index(seed)
    random.seed(seed)
    np.random.seed(seed % (1 << 32))
    torch.manual_seed(seed)
    if reproducible:
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def get_random_states() -> dict[str, Any]:
    """The states of the global generators of Python, NumPy and torch, including CUDA's if it is in use."""
    states = {"random": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def set_random_states(states: dict[str, Any]) -> None:
    """Restore the global generators.

    Args:
        states: What `get_random_states` returned.
    """
    random.setstate(states["random"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])


_seed: int | None = None  # what `reseed` was given last, inside `seeded`


def reseed(key: int) -> None:
    """Seed the global generators; for use inside `seeded`, which restores them.

    Args:
        key: The seed, of 64 bits.
    """
    global _seed
    _seed = key
    random.seed(key)
    np.random.seed([key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF])
    torch.default_generator.manual_seed(key)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(key)


_turns: dict[int, AbstractContextManager[bool]] = {}  # by process: a fork copies a lock as it is, locked for good


def _turn() -> AbstractContextManager[bool]:
    """A lock for the length of what borrows the global generators: of two threads, each would restore the other's states."""
    return _turns.setdefault(os.getpid(), threading.RLock())


@contextmanager
def seeded(key: int) -> Iterator[None]:
    """Context manager: the global generators are seeded inside and restored afterwards.

    Code from outside the library that draws from them thus depends only on its ticket. Threads take turns.

    Args:
        key: The seed, of 64 bits.
    """
    global _seed
    with _turn():
        states, outer = get_random_states(), _seed
        try:
            reseed(key)
            with quiet_imports():
                yield
        finally:
            _seed = outer
            set_random_states(states)


def has_drawn() -> bool:
    """Whether the sample that is being made has drawn a number: by its ticket, or from a global generator seeded with that."""
    tickets = tickets_in_use()
    if tickets is None or tickets.drawn:
        return tickets is not None
    if _seed is None or _seed != tickets.keys:
        return False
    now = get_random_states()
    reseed(_seed)
    fresh = get_random_states()
    set_random_states(now)
    return _as_bytes(now) != _as_bytes(fresh)


def _as_bytes(states: dict[str, Any]) -> tuple[object, ...]:
    _, words, position, *_ = states["numpy"]
    return states["random"], words.tobytes(), position, states["torch"].numpy().tobytes()


@contextmanager
def no_random(seed: int = 42, reproducible: bool = True) -> Iterator[None]:
    """Context manager: the global generators are seeded inside; they and the flags of cuDNN are restored afterwards.

    Args:
        seed: The seed.
        reproducible: Also ask cuDNN for deterministic kernels.
    """
    states, flags = get_random_states(), (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
    try:
        set_seed(seed, reproducible)
        yield
    finally:
        set_random_states(states)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = flags


class _Finder(MetaPathFinder):
    """Finds what the finders after it find, for one thread, and puts the generators back once the module has run."""

    def __init__(self) -> None:
        self.thread, self.runs = threading.get_ident(), False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if self.runs or threading.get_ident() != self.thread:
            return None
        specs = (one.find_spec(fullname, path, target) for one in sys.meta_path if one is not self)
        spec = next((spec for spec in specs if spec is not None), None)
        loader = None if spec is None else spec.loader
        if loader is None or isinstance(loader, type):  # a namespace, or built into the interpreter
            return spec
        run = loader.exec_module

        def undisturbed(module: ModuleType) -> None:
            del loader.exec_module
            self.runs = True  # reading the states imports `numpy.random`
            states = get_random_states()
            try:
                run(module)
            finally:
                self.runs = False
                set_random_states(states)

        with suppress(AttributeError):  # a loader that takes no attributes
            loader.exec_module = undisturbed  # type: ignore[method-assign]
        return spec


class _Inside(threading.local):
    finder: _Finder | None = None


_inside = _Inside()


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Context manager: what this thread imports for the first time inside does not change the global generators.

    When that happens depends on what the process has done before, so a run that is resumed or has workers would draw
    other numbers than one that is not.
    """
    if _inside.finder is not None:
        yield
        return
    finder = _Finder()
    try:
        _inside.finder = finder
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            _leave(finder)
    finally:
        _leave(finder)  # where Ctrl-C has struck the first time


def _leave(finder: _Finder) -> None:
    _inside.finder = None
    with suppress(ValueError):
        sys.meta_path.remove(finder)
