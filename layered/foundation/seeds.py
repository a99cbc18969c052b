"""Keyed randomness: a draw of the data path depends on what it is for, not on the draws before it.

A *ticket* holds the key of a sample, a hash of (run seed, purpose, epoch, position in the epoch's order). The n-th draw
under a ticket is a hash of that key and n, so it is the same in every worker and process, in any order, and in a resumed
run. A batch holds one key per row. Global generators are neither read nor advanced.

The hash is the finaliser of splitmix64 (Steele, Lea & Flood 2014). It gives the same bits for Python integers as for
int64 tensors on any device, so that samples (drawn on the CPU) and batches (drawn on the GPU) share one definition.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import lru_cache
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from layered.foundation.types import Device

P = ParamSpec("P")
R = TypeVar("R")

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = (1 << 64) - 1
_UNIT = 2.0**-24  # 24 random bits times this are exact in float32


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _mix(value: int) -> int:
    value &= _MASK
    value = ((value ^ (value >> 30)) * _FIRST) & _MASK
    value = ((value ^ (value >> 27)) * _SECOND) & _MASK
    return value ^ (value >> 31)


def _mix_tensor(value: Tensor) -> Tensor:
    # int64 wraps around as uint64 does, but `>>` copies the sign bit: the masks clear what it shifted in.
    value = (value ^ ((value >> 30) & ((1 << 34) - 1))) * _signed(_FIRST)
    value = (value ^ ((value >> 27) & ((1 << 37) - 1))) * _signed(_SECOND)
    return value ^ ((value >> 31) & ((1 << 33) - 1))


@lru_cache(maxsize=256)
def _word(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def key_of(*parts: int | str) -> int:
    """One signed 64-bit key from integers and strings; their order matters.

    Args:
        parts: What the key stands for.

    Examples:
        >>> key_of(42, "train", 0) == key_of(42, "train", 0), key_of(42, "train", 0) == key_of(42, "train", 1)
        (True, False)
    """
    key = 0
    for part in parts:
        key = _mix(key + _GOLDEN + (_word(part) if isinstance(part, str) else part))
    return _signed(key)


def sample_keys(key: int, positions: Tensor) -> Tensor:
    """The keys of samples: int64 [n].

    Args:
        key: The key of the epoch.
        positions: Their positions in the epoch's order: int64 [n].
    """
    return _mix_tensor((positions + 1) * _signed(_GOLDEN) + key)


class Tickets:
    """The keys that a sample or a batch draws with, and the count of its draws.

    Args:
        keys: An integer for one sample; int64 [batch], one key per row, for a batch.
        batch_key: The key for what a whole batch shares; by default that of the sample, or of the first row.
        stage: What draws: item transforms (0), `before_batch` (1) or `after_batch` (2); their draws are independent.
        place: The number of the sample, or of the batch, in its epoch; None outside of any loader.

    Attributes:
        drawn: The number of draws so far, counted from a different start in each stage.
    """

    __slots__ = ("batch_key", "drawn", "keys", "place")

    def __init__(self, keys: int | Tensor, batch_key: int | None = None, stage: int = 0, place: int | None = 0) -> None:
        self.keys, self.drawn, self.place = keys, stage << 32, place
        self.batch_key = batch_key if batch_key is not None else keys if isinstance(keys, int) else int(keys[0])

    def number(self) -> int:
        """The offset of the next draw from the key."""
        self.drawn += 1
        return self.drawn * _GOLDEN


_current: ContextVar[Tickets | None] = ContextVar("layered_tickets", default=None)
_by_hand = itertools.count()


def current_tickets() -> Tickets:
    """The tickets of what is being made; outside of any loader, new ones from a counter."""
    return _current.get() or Tickets(key_of(torch.initial_seed(), "by hand", next(_by_hand)), place=None)


def tickets_in_use() -> Tickets | None:
    """The tickets of what a loader is making; None outside of any loader."""
    return _current.get()


@contextmanager
def drawing(tickets: Tickets) -> Iterator[Tickets]:
    """Context manager: draws inside use `tickets`.

    Args:
        tickets: The tickets of the sample or batch that is being made.
    """
    token = _current.set(tickets)
    try:
        yield tickets
    finally:
        _current.reset(token)


def in_own_context(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: tickets, and other context variables, that are set inside are gone when the function ends, however it ends.

    A Ctrl-C that strikes while a `with drawing(…)` is being left would keep its tickets for all that is drawn later.

    Args:
        function: The function.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return copy_context().run(function, *args, **kwargs)

    return run


def draw(low: float = 0.0, high: float = 1.0) -> float:
    """A number uniform in [low, high) for the current sample, or one for the whole batch.

    Args:
        low: The smallest possible value.
        high: The upper limit, which is not reached.

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
    device: Device | None = None,
    same: bool = False,
) -> Tensor:
    """Numbers uniform in [low, high), one row for each sample of the current batch: float32 [count, *size].

    Args:
        count: The batch size.
        low: The smallest possible value.
        high: The upper limit, which is not reached.
        size: The shape of a row.
        device: Where to draw; by default where the keys are.
        same: Draw one row and repeat it for the whole batch.
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


def draw_generator(device: Device = "cpu") -> torch.Generator:
    """A generator seeded by the next draw of the current tickets, for other distributions (Beta) and permutations.

    Args:
        device: Where the generator draws.
    """
    tickets = current_tickets()
    return torch.Generator(device).manual_seed(_signed(_mix(tickets.batch_key + tickets.number())))


def permutation(count: int, key: int) -> Tensor:
    """The numbers 0 … count-1 in an order that depends only on the key: int64 [count].

    Args:
        count: How many.
        key: The key, such as one of `key_of`.
    """
    return torch.randperm(count, generator=torch.Generator().manual_seed(key))
