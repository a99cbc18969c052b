"""How often and how long: durations in batches, epochs, seconds or events, and when they are due."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from layered.foundation import BadValue, whole_number

_UNITS = {
    **dict.fromkeys(("batch", "batches", "step", "steps"), ("batches", 1)),
    **dict.fromkeys(("epoch", "epochs"), ("epochs", 1)),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), ("seconds", 1)),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), ("seconds", 60)),
    **dict.fromkeys(("h", "hour", "hours"), ("seconds", 3600)),
}


class Moment(NamedTuple):
    """A point of a fit: training batches and epochs done, and the clock."""

    batches: int = 0
    epochs: int = 0
    seconds: float = 0.0


class Clock(Protocol):
    """What durations read of a loop."""

    fit_began: Moment
    train_iter: int
    epochs_done: int


@dataclass(frozen=True, slots=True)
class Duration:
    """A number of "batches" (of training), "epochs", "seconds", or "times" that an event fires.

    Args:
        count: How many; a fraction only of seconds.
        unit: "batches", "epochs", "seconds" or "times".

    Examples:
        >>> Duration.of("500 batches"), Duration.of("1.5 h").count, Duration.of(3).unit
        (Duration(count=500, unit='batches'), 5400.0, 'times')
    """

    count: float
    unit: str

    @classmethod
    def of(cls, given: object) -> Duration:
        """A duration from what users write: "500 batches", "2 epochs", "10s", "30 min", "1.5 h", or a whole number of times.

        Raises:
            BadValue: For anything else, for 0, and for fractions of a batch or an epoch.
        """
        if isinstance(given, Duration):
            return given
        if (times := whole_number(given)) is not None and times > 0:
            return cls(times, "times")
        match = re.fullmatch(r"(\d+)(\.\d+)? ?([a-z]+)", given.strip().lower()) if isinstance(given, str) else None
        if match is not None and match[3] in _UNITS:
            unit, scale = _UNITS[match[3]]
            count = scale * (float(match[1] + match[2]) if match[2] else int(match[1]))
            if count > 0 and (match[2] is None or unit == "seconds"):
                return cls(count, unit)
        raise BadValue(
            "invalid duration",
            got=repr(given),
            expected="'500 batches', '2 epochs', '10s', '30 min', '1.5 h', or a whole number of times",
        )

    def __str__(self) -> str:
        return f"{self.count:g} {self.unit}"

    def passed(self, loop: Clock, times: int) -> float:
        """How much of the unit has passed since the fit began; of "times", `times`."""
        if self.unit == "times":
            return times
        if self.unit == "seconds":
            return time.monotonic() - float(loop.fit_began.seconds)
        return float(loop.train_iter if self.unit == "batches" else loop.epochs_done)


class Every:
    """Due each time that another `every` has passed, counted from the start of the fit.

    For your own callbacks: make one in `__init__`, ask `if self.every.due(self.learn)` once in the handler of an event.
    A resumed fit is due when the uninterrupted one would have been.

    Args:
        every: A duration, as `Duration.of` reads it: "500 batches", "1 epoch", "10 min".

    Examples:
        >>> from layered.loop.state import State
        >>> state, every = State(), Every("3 batches")
        >>> due = []
        >>> for state.train_iter in range(1, 8): due.append(every.due(state))
        >>> due
        [False, False, True, False, False, True, False]
    """

    def __init__(self, every: int | str | Duration = 1) -> None:
        self.duration = Duration.of(every)
        self.heard = 0
        self._began: Moment | None = None
        self._done = 0

    def due(self, loop: Clock) -> bool:
        """Whether another duration is over; ask once each time that the event fires."""
        self.heard += 1
        count, unit = self.duration.count, self.duration.unit
        if unit == "times":
            return self.heard % count == 0
        if self._began is not loop.fit_began:
            self._began = loop.fit_began
            already = {"batches": self._began.batches, "epochs": self._began.epochs}.get(unit, 0)
            self._done = int(already // count)
        before, self._done = self._done, int(self.duration.passed(loop, 0) // count)
        return self._done > before

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint keeps."""
        return {"heard": self.heard}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore what `state_dict` returned."""
        self.heard = state["heard"]

    def __repr__(self) -> str:
        return f"Every('{self.duration}')"
