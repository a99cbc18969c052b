"""Randomness has a key: every draw of the data path is a function of who draws, not of who drew before.

A *ticket* carries the key of a sample: (run seed, purpose, epoch, position in the epoch's order), hashed. The n-th draw under
a ticket hashes the key with n, so it is the same in any worker, process, order or resumed run. A batch carries a ticket a row.
Nothing here reads or moves a global generator, except where it says so (`set_seed`, `seeded`, `no_random`).

The hash is splitmix64's finaliser (Steele, Lea & Flood 2014): the same bits from Python integers and from int64 tensors
on any device.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = (1 << 64) - 1
_UNIT = 2.0**-24  # 24 bits make a uniform float32 exactly


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _mix(value: int) -> int:
    value &= _MASK
    value = ((value ^ (value >> 30)) * _FIRST) & _MASK
    value = ((value ^ (value >> 27)) * _SECOND) & _MASK
    return value ^ (value >> 31)


def _mix_tensor(value: Tensor) -> Tensor:
    value = (value ^ ((value >> 30) & ((1 << 34) - 1))) * _signed(_FIRST)
    value = (value ^ ((value >> 27) & ((1 << 37) - 1))) * _signed(_SECOND)
    return value ^ ((value >> 31) & ((1 << 33) - 1))


@lru_cache(maxsize=256)
def _word(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def key_of(*parts: int | str) -> int:
    """One 64-bit key (signed) from numbers and words, in order.

    Examples:
        >>> key_of(42, "train", 0) == key_of(42, "train", 0), key_of(42, "train", 0) == key_of(42, "train", 1)
        (True, False)
    """
    key = 0
    for part in parts:
        key = _mix(key + _GOLDEN + (_word(part) if isinstance(part, str) else part))
    return _signed(key)


def sample_keys(key: int, positions: Tensor) -> Tensor:
    """One key for each position (int64 [n]) of an epoch's order."""
    return _mix_tensor((positions + 1) * _signed(_GOLDEN) + key)


class Tickets:
    """What a sample or a batch draws with.

    Args:
        keys: Int for one sample, int64 [batch] for a batch: one key a row.
        batch_key: The key for what a whole batch shares; the sample's own key for one sample.
        stage: What draws: item transforms (0), `before_batch` (1) and `after_batch` (2) draw apart under one key.

    Attributes:
        drawn: How many draws were made under it, counted from a number that the stage has to itself.
    """

    __slots__ = ("batch_key", "drawn", "keys")

    def __init__(self, keys: int | Tensor, batch_key: int | None = None, stage: int = 0) -> None:
        self.keys, self.drawn = keys, stage << 32
        self.batch_key = batch_key if batch_key is not None else keys if isinstance(keys, int) else int(keys[0])

    def number(self) -> int:
        """The offset of the next draw."""
        self.drawn += 1
        return self.drawn * _GOLDEN


_current: ContextVar[Tickets | None] = ContextVar("layered_tickets", default=None)
_by_hand = itertools.count()


def current_tickets() -> Tickets:
    """The tickets of what is being made now; by hand, outside any loader, a fresh key from a counter."""
    return _current.get() or Tickets(key_of(torch.initial_seed(), "by hand", next(_by_hand)))


@contextmanager
def drawing(tickets: Tickets) -> Iterator[Tickets]:
    """Everything drawn inside belongs to `tickets`."""
    token = _current.set(tickets)
    try:
        yield tickets
    finally:
        _current.reset(token)


def draw(low: float = 0.0, high: float = 1.0) -> float:
    """One number uniform in [low, high) for the current sample (or one for the whole batch).

    Examples:
        >>> with drawing(Tickets(key_of(42, "doc"))):
        ...     first = draw(), draw()
        >>> with drawing(Tickets(key_of(42, "doc"))):
        ...     first == (draw(), draw())
        True
    """
    tickets = current_tickets()
    return low + (high - low) * (_mix(tickets.batch_key + tickets.number()) >> 40) * _UNIT


def draw_batch(
    count: int,
    low: float = 0.0,
    high: float = 1.0,
    *,
    size: tuple[int, ...] = (),
    device: torch.device | str | None = None,
    same: bool = False,
) -> Tensor:
    """Uniform numbers in [low, high), one row for each sample of the current batch: float32 [count, *size].

    Args:
        same: One row for the whole batch, repeated.
    """
    tickets = current_tickets()
    if same:
        row = torch.tensor([tickets.batch_key], device=device)
    elif isinstance(tickets.keys, int) or len(tickets.keys) != count:
        row = sample_keys(tickets.batch_key, torch.arange(count, device=device))
    else:
        row = tickets.keys.to(device) if device is not None else tickets.keys
    columns = 1
    for n in size:
        columns *= n
    offsets = torch.tensor([_signed(tickets.number() & _MASK) for _ in range(columns)], device=row.device)
    bits = (_mix_tensor(row[:, None] + offsets) >> 40) & ((1 << 24) - 1)
    unit = bits.to(torch.float32).mul_(_UNIT)
    return (low + (high - low) * unit).expand(count, columns).reshape(count, *size)


def draw_generator(device: torch.device | str = "cpu") -> torch.Generator:
    """A generator seeded by the next draw of the current tickets, for what is not uniform (Beta, permutations)."""
    tickets = current_tickets()
    return torch.Generator(device).manual_seed(_signed(_mix(tickets.batch_key + tickets.number())))


def permutation(count: int, key: int) -> Tensor:
    """The numbers 0 … count-1 in an order that depends on `key` alone: int64 [count]."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(key))


def set_seed(seed: int, reproducible: bool = False) -> None:
    """Seed Python's, NumPy's and torch's global generators; every run seed of this library derives from torch's.

    Args:
        reproducible: Also ask cuDNN for deterministic kernels.
    """
    random.seed(seed)
    np.random.seed(seed % (1 << 32))
    torch.manual_seed(seed)
    if reproducible:
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def get_random_states() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's global generators."""
    states = {"random": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def set_random_states(states: dict[str, Any]) -> None:
    """Put back what `get_random_states` returned."""
    random.setstate(states["random"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])


def reseed(key: int) -> None:
    """Start Python's, NumPy's and torch's generators from `key`; for use inside `seeded`, which puts them back."""
    random.seed(key)
    np.random.seed([key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF])
    torch.default_generator.manual_seed(key)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(key)


@contextmanager
def seeded(key: int) -> Iterator[None]:
    """Python's, NumPy's and torch's generators start from `key` inside, and are put back after.

    For code that is not ours and draws from them: it then depends on its ticket alone.
    """
    states = get_random_states()
    reseed(key)
    try:
        yield
    finally:
        set_random_states(states)


@contextmanager
def no_random(seed: int = 42, reproducible: bool = True) -> Iterator[None]:
    """Global generators start from `seed` inside, and are put back after; cuDNN's flags too."""
    states, flags = get_random_states(), (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
    set_seed(seed, reproducible)
    try:
        yield
    finally:
        set_random_states(states)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = flags
