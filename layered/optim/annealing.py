"""Schedules: functions from the progress of training, in [0, 1], to the value of a hyperparameter."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np

from layered.foundation import BadValue, OutOfRange

Value: TypeAlias = float | np.ndarray[Any, Any]
"""The value of a hyperparameter: a number for all parameter groups, or an array with one for each."""

Shape: TypeAlias = Callable[[Any, Any, float], Value]
"""`shape(start, end, pos)`: the value at `pos`."""


def sched_lin(start: Value, end: Value, pos: float) -> Value:
    """`start + pos * (end - start)`: a straight line.

    Args:
        start: Value at 0.
        end: Value at 1.
        pos: Progress in [0, 1].
    """
    return start + pos * (end - start)


def sched_cos(start: Value, end: Value, pos: float) -> Value:
    """`start + (1 + cos(pi * (1 - pos))) * (end - start) / 2`: flat at both ends, steepest in the middle.

    Args:
        start: Value at 0.
        end: Value at 1.
        pos: Progress in [0, 1].
    """
    return start + (1 + math.cos(math.pi * (1 - pos))) * (end - start) / 2


def sched_no(start: Value, end: Value, pos: float) -> Value:
    """`start`, whatever the progress.

    Args:
        start: The value.
        end: Ignored.
        pos: Ignored.
    """
    return start


def sched_exp(start: Value, end: Value, pos: float) -> Value:
    """`start * (end / start) ** pos`: a straight line on a logarithmic scale.

    Args:
        start: Value at 0; not 0 itself.
        end: Value at 1; of the same sign.
        pos: Progress in [0, 1].
    """
    value: Value = start * (end / start) ** pos
    return value


def sched_poly(start: Value, end: Value, pos: float, power: float) -> Value:
    """`start + (end - start) * pos ** power`.

    Args:
        start: Value at 0.
        end: Value at 1.
        pos: Progress in [0, 1].
        power: Exponent.
    """
    value: Value = start + (end - start) * pos**power
    return value


@dataclass(frozen=True)
class Schedule(ABC):
    """A value for every progress from 0 to 1. Plain data, so it can be shown and recorded.

    Args:
        start: Value at 0: a number, or an array with one for each parameter group.
        end: Value at 1, likewise.
    """

    start: Value
    end: Value

    @abstractmethod
    def __call__(self, pos: float) -> Value:
        """The value at progress `pos`, in [0, 1]."""


class SchedLin(Schedule):
    """A straight line.

    Args:
        start: Value at 0: a number, or an array with one for each parameter group.
        end: Value at 1, likewise.

    Examples:
        >>> SchedLin(0, 2), SchedLin(0, 2)(0.25)
        (SchedLin(start=0, end=2), 0.5)
    """

    def __call__(self, pos: float) -> Value:
        return sched_lin(self.start, self.end, pos)


class SchedCos(Schedule):
    """Half a cosine.

    Args:
        start: Value at 0: a number, or an array with one for each parameter group.
        end: Value at 1, likewise.

    Examples:
        >>> SchedCos(0, 2)(0.5)
        1.0
    """

    def __call__(self, pos: float) -> Value:
        return sched_cos(self.start, self.end, pos)


class SchedNo(Schedule):
    """The same value throughout.

    Args:
        start: The value.
        end: Ignored.

    Examples:
        >>> SchedNo(3, 2)(0.5)
        3
    """

    def __call__(self, pos: float) -> Value:
        return sched_no(self.start, self.end, pos)


@dataclass(frozen=True)
class SchedExp(Schedule):
    """Geometric growth or decay.

    Args:
        start: Value at 0: a number, or an array with one for each parameter group.
        end: Value at 1, likewise.

    Raises:
        OutOfRange: An end is 0, or the ends differ in sign.

    Examples:
        >>> SchedExp(1, 100)(0.5)
        10.0
    """

    def __post_init__(self) -> None:
        if not np.all(np.multiply(self.start, self.end) > 0):
            raise OutOfRange(
                "a geometric schedule cannot reach or cross 0",
                got=f"{self.start} to {self.end}",
                fix="SchedLin, SchedCos",
            )

    def __call__(self, pos: float) -> Value:
        return sched_exp(self.start, self.end, pos)


@dataclass(frozen=True)
class SchedPoly(Schedule):
    """A power of the progress.

    Args:
        start: Value at 0: a number, or an array with one for each parameter group.
        end: Value at 1, likewise.
        power: Exponent.

    Examples:
        >>> SchedPoly(0, 1, power=2)(0.5)
        0.25
    """

    power: float

    def __call__(self, pos: float) -> Value:
        return sched_poly(self.start, self.end, pos, self.power)


@dataclass(frozen=True)
class Annealer(Schedule):
    """A schedule of any shape; made by `annealer`.

    Args:
        start: Value at 0: a number, or an array with one for each parameter group.
        end: Value at 1, likewise.
        shape: `shape(start, end, pos)`.
    """

    shape: Shape

    def __call__(self, pos: float) -> Value:
        return self.shape(self.start, self.end, pos)


def annealer(shape: Shape) -> Callable[[Any, Any], Annealer]:
    """Decorator: make a kind of schedule from its shape.

    Args:
        shape: `shape(start, end, pos)`.

    Examples:
        >>> @annealer
        ... def Stairs(start, end, pos):
        ...     return start if pos < 0.5 else end
        >>> Stairs(1, 2)(0.7)
        2
    """
    return partial(Annealer, shape=shape)


@dataclass(frozen=True)
class CombinedSched:
    """Several schedules in sequence; made by `combine_scheds`.

    Args:
        bounds: `bounds[i]` is the progress at which schedule `i` ends.
        scheds: The schedules.
    """

    bounds: tuple[float, ...]
    scheds: tuple[Callable[[float], Value], ...]

    def __call__(self, pos: float) -> Value:
        i = min(bisect_right(self.bounds, pos), len(self.scheds) - 1)
        start = self.bounds[i - 1] if i else 0.0
        return self.scheds[i]((pos - start) / (self.bounds[i] - start) if self.bounds[i] > start else 1.0)


def combine_scheds(pcts: Sequence[float], scheds: Sequence[Callable[[float], Value]]) -> CombinedSched:
    """Run each of `scheds` over its share of the progress, one after the other.

    Args:
        pcts: A share for each schedule, each at least 0, that sum to 1 (within 1e-6).
        scheds: Functions of a progress in [0, 1].

    Raises:
        BadValue: The shares are not as described.

    Examples:
        >>> up_then_flat = combine_scheds([0.5, 0.5], [SchedLin(0, 1), SchedNo(1, 1)])
        >>> up_then_flat(0.25), up_then_flat(0.75)
        (0.5, 1)
    """
    if len(pcts) != len(scheds) or min(pcts, default=-1.0) < 0 or abs(sum(pcts) - 1) > 1e-6:
        raise BadValue(
            "invalid shares for combined schedules",
            got=f"{list(pcts)} for {len(scheds)} schedules",
            expected="a share for each schedule, none negative, that sum to 1",
        )
    bounds = (*list(accumulate(map(float, pcts)))[:-1], 1.0)
    return CombinedSched(bounds, tuple(scheds))


def combined_cos(pct: float, start: Value, middle: Value, end: Value) -> CombinedSched:
    """A cosine from `start` to `middle` over the first `pct` of the progress, then one from `middle` to `end`.

    Args:
        pct: Share of the first cosine, in [0, 1].
        start: Value at 0: a number, or an array with one for each parameter group.
        middle: Value at `pct`, likewise.
        end: Value at 1, likewise.

    Examples:
        >>> [round(combined_cos(0.25, 0.04, 1.0, 0.0)(p), 3) for p in (0.0, 0.25, 1.0)]
        [0.04, 1.0, 0.0]
    """
    return combine_scheds([pct, 1 - pct], [SchedCos(start, middle), SchedCos(middle, end)])


def warm_up(pct: float, sched: Callable[[float], Value], start: float = 0.0) -> CombinedSched:
    """A straight line from `start` to the first value of `sched` over the first `pct` of the progress, then `sched`.

    Args:
        pct: Share of the warm-up, in [0, 1].
        sched: The schedule to warm up for.
        start: Value at 0.

    Raises:
        BadValue: `pct` is outside [0, 1].

    Examples:
        >>> [warm_up(0.5, SchedPoly(1.0, 0.0, 2))(p) for p in (0.0, 0.25, 0.5, 0.75)]
        [0.0, 0.5, 1.0, 0.75]
    """
    return combine_scheds([pct, 1 - pct], [SchedLin(start, sched(0.0)), sched])
