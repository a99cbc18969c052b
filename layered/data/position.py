"""The position of a loader: which pass over the data comes next, and how many batches of the current one were taken."""

from __future__ import annotations

import copy
from operator import index
from typing import Any

import torch

from layered.data.samplers import EpochKey, TicketBatch
from layered.foundation import BadValue


class Position:
    """Counts the passes of a loader; each has a key that determines its order and draws.

    Args:
        seed: The seed of all passes; None: `torch.initial_seed()`, read when a pass starts.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = None if seed is None else index(seed)
        self.epoch, self.purpose, self.epoch_is_set = -1, "train", False
        self.start = 0  # batches to skip in the next pass, which were taken before an interruption
        self.consumed = 0  # batches taken of the current pass
        self.peeks = 0  # looks at the data so far: each draws differently, and none advances the epoch
        self.running: EpochKey | None = None
        self.present: TicketBatch | None = None  # the plan of the latest batch: which items are in it
        self.stream_state: Any = None  # the state of a stateful stream after the batches consumed

    def next_pass(self) -> EpochKey:
        """The key of the pass that comes next."""
        seed = self.seed if self.seed is not None else torch.initial_seed()
        return EpochKey(seed, self.purpose, self.epoch if self.epoch_is_set else self.epoch + 1)

    @property
    def order_key(self) -> EpochKey:
        """The key of the current pass; between passes, of the next one."""
        return self.running or self.next_pass()

    def begin(self) -> EpochKey:
        """Start the next pass; returns its key."""
        self.running = self.next_pass()
        self.epoch, self.epoch_is_set = self.running.epoch, False
        self.consumed, self.start = self.start, 0
        if not self.consumed:
            self.stream_state = None
        return self.running

    def end(self) -> None:
        """Mark the current pass as complete."""
        self.running, self.consumed, self.stream_state = None, 0, None

    def set_epoch(self, epoch: int, purpose: str = "train") -> None:
        """Set the epoch and purpose of the next pass."""
        self.epoch, self.purpose, self.epoch_is_set = epoch, purpose, True

    def peek(self) -> Position:
        """A separate position for a look at the data, which does not advance this one."""
        self.peeks += 1
        look = copy.copy(self)
        look.seed = (
            self.next_pass().seed
        )  # fixed now, since the caller may reseed the global generators during the look
        look.set_epoch(self.peeks, "peek")
        look.start, look.stream_state = 0, None
        return look

    def state_dict(self) -> dict[str, Any]:
        """Seed, purpose and epoch of the current pass and the number of batches taken; between passes, of the next one."""
        stream = {} if self.stream_state is None else {"stream": self.stream_state}
        if self.running is None:
            return {**self.next_pass()._asdict(), "consumed": self.start, **stream}
        return {**self.running._asdict(), "consumed": self.consumed, **stream}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next pass resume from `state`.

        Raises:
            BadValue: `state` is not the position of a loader; nothing changes.
        """
        counts = all(isinstance(state[name], int) and state[name] >= 0 for name in ("epoch", "consumed"))
        if not counts or not isinstance(state["seed"], int) or not isinstance(state["purpose"], str):
            raise BadValue(
                "not a position of a loader",
                got=f"{state!s:.100}",
                expected="what its state_dict() returned",
                fix="load the state of the same loader",
            )
        self.seed, self.running = state["seed"], None
        self.set_epoch(state["epoch"], state["purpose"])
        self.start, self.stream_state = state["consumed"], state.get("stream")
