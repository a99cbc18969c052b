"""Which pass over the data is next, and where the one that runs stands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch

from layered.data.samplers import EpochKey, TicketBatch
from layered.foundation import BadValue

_PLACE = ("seed", "_epoch", "_purpose", "_epoch_is_set", "_start", "_stream_state", "consumed", "_running")


class Passes:
    """The passes that a loader makes, each with a key of its own: what is next, and how far the present one is.

    Attributes:
        seed: What all of them draw with; None: `torch.initial_seed()`, read when a pass starts.
        consumed: Batches taken of the present pass.
        present: The plan of the batch taken last: which items are in it.
    """

    seed: int | None = None

    def _from_the_start(self) -> None:
        """No pass was made yet."""
        self._epoch, self._purpose, self._epoch_is_set = -1, "train", False
        self._start, self.consumed, self._peeks = 0, 0, 0
        self._running: EpochKey | None = None
        self.present: TicketBatch | None = None
        self._stream_state: Any = None  # where a stream that can say so stood after the batches consumed

    def _next_epoch(self) -> EpochKey:
        seed = self.seed if self.seed is not None else torch.initial_seed()
        return EpochKey(seed, self._purpose, self._epoch if self._epoch_is_set else self._epoch + 1)

    def _begin(self) -> EpochKey:
        """The pass that was next is the present one."""
        self._running = self._next_epoch()
        self._epoch, self._epoch_is_set = self._running.epoch, False
        self.consumed, self._start = self._start, 0
        if not self.consumed:
            self._stream_state = None
        return self._running

    def _end(self) -> None:
        self._running, self.consumed, self._stream_state = None, 0, None

    def set_epoch(self, epoch: int, purpose: str = "train") -> None:
        """Fix what the next pass draws with: the same epoch and purpose give the same batches."""
        self._epoch, self._purpose, self._epoch_is_set = epoch, purpose, True

    def randomize(self) -> None:
        """Move on to the next epoch's order and draws, without a pass."""
        self.set_epoch(self._next_epoch().epoch + 1, self._purpose)

    @contextmanager
    def peeking(self) -> Iterator[Self]:
        """Passes made inside look at the data without moving anything on: the next epoch is as if they had not been."""
        place = {name: getattr(self, name) for name in _PLACE}
        self.seed = self._next_epoch().seed  # also where the global generators are seeded anew inside
        self._peeks += 1
        self.set_epoch(self._peeks, "peek")
        self._start, self._stream_state = 0, None
        try:
            yield self
        finally:
            self.__dict__.update(place)

    def state_dict(self) -> dict[str, Any]:
        """Where it stands: seed, purpose and epoch of the pass that runs, and how many batches were taken; between passes,
        of the next one. Of a stream that has a `state_dict`, where it stood after those batches."""
        stream = {} if self._stream_state is None else {"stream": self._stream_state}
        if self._running is None:
            return {**self._next_epoch()._asdict(), "consumed": self._start, **stream}
        return {**self._running._asdict(), "consumed": self.consumed, **stream}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next pass goes on where `state` was taken: the same epoch, from the batch after those consumed.

        Raises:
            BadValue: For what is no such state.
        """
        counts = all(isinstance(state[name], int) and state[name] >= 0 for name in ("epoch", "consumed"))
        if not counts or not isinstance(state["seed"], int) or not isinstance(state["purpose"], str):
            raise BadValue("this is no position of a loader", got=f"{state!s:.100}")
        self.seed, self._running = state["seed"], None
        self.set_epoch(state["epoch"], state["purpose"])
        self._start, self._stream_state = state["consumed"], state.get("stream")
