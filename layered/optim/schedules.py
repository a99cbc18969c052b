"""Schedules: functions of the progress of training, in [0, 1], that give a hyper-parameter's value there."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np

from layered.foundation import BadValue, OutOfRange

Shape = Callable[[Any, Any, float], Any]
"""`shape(start, end, pos)`: the value at `pos`. `start` and `end` are numbers, or arrays with one number per group."""


def sched_lin(start: Any, end: Any, pos: float) -> Any:
    """`start + pos * (end - start)`: a straight line."""
    return start + pos * (end - start)


def sched_cos(start: Any, end: Any, pos: float) -> Any:
    """`start + (1 + cos(pi * (1 - pos))) * (end - start) / 2`: flat at both ends, steepest in the middle."""
    return start + (1 + math.cos(math.pi * (1 - pos))) * (end - start) / 2


def sched_no(start: Any, end: Any, pos: float) -> Any:
    """`start`, whatever the progress."""
    return start


def sched_exp(start: Any, end: Any, pos: float) -> Any:
    """`start * (end / start) ** pos`: a straight line on a logarithmic scale; neither end may be 0."""
    return start * (end / start) ** pos


def sched_poly(start: Any, end: Any, pos: float, power: float) -> Any:
    """`start + (end - start) * pos ** power`."""
    return start + (end - start) * pos**power


@dataclass(frozen=True)
class Schedule(ABC):
    """A value for every progress from `start` (at 0) to `end` (at 1). Plain data, so it can be shown and recorded."""

    start: Any
    end: Any

    @abstractmethod
    def __call__(self, pos: float) -> Any:
        """The value at progress `pos`, in [0, 1]."""


class SchedLin(Schedule):
    """A straight line.

    Examples:
        >>> SchedLin(0, 2), SchedLin(0, 2)(0.25)
        (SchedLin(start=0, end=2), 0.5)
    """

    def __call__(self, pos: float) -> Any:
        return sched_lin(self.start, self.end, pos)


class SchedCos(Schedule):
    """Half a cosine.

    Examples:
        >>> SchedCos(0, 2)(0.5)
        1.0
    """

    def __call__(self, pos: float) -> Any:
        return sched_cos(self.start, self.end, pos)


class SchedNo(Schedule):
    """`start` all the way; `end` is ignored.

    Examples:
        >>> SchedNo(3, 2)(0.5)
        3
    """

    def __call__(self, pos: float) -> Any:
        return sched_no(self.start, self.end, pos)


@dataclass(frozen=True)
class SchedExp(Schedule):
    """Geometric growth or decay.

    Raises:
        OutOfRange: Where an end is 0, or the ends differ in sign.

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

    def __call__(self, pos: float) -> Any:
        return sched_exp(self.start, self.end, pos)


@dataclass(frozen=True)
class SchedPoly(Schedule):
    """A power of the progress.

    Examples:
        >>> SchedPoly(0, 1, power=2)(0.5)
        0.25
    """

    power: float

    def __call__(self, pos: float) -> Any:
        return sched_poly(self.start, self.end, pos, self.power)


@dataclass(frozen=True)
class Annealer(Schedule):
    """A schedule of any shape; made by `annealer`."""

    shape: Shape

    def __call__(self, pos: float) -> Any:
        return self.shape(self.start, self.end, pos)


def annealer(shape: Shape) -> Callable[[Any, Any], Annealer]:
    """Make of `shape(start, end, pos)` a kind of schedule; a decorator.

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
    """Schedules one after another; `bounds[i]` is where schedule `i` ends. Made by `combine_scheds`."""

    bounds: tuple[float, ...]
    scheds: tuple[Callable[[float], Any], ...]

    def __call__(self, pos: float) -> Any:
        i = min(bisect_right(self.bounds, pos), len(self.scheds) - 1)
        start = self.bounds[i - 1] if i else 0.0
        return self.scheds[i]((pos - start) / (self.bounds[i] - start) if self.bounds[i] > start else 1.0)


def combine_scheds(pcts: Sequence[float], scheds: Sequence[Callable[[float], Any]]) -> CombinedSched:
    """Run each of `scheds` over its share of the progress; where one ends, the next begins.

    Args:
        pcts: Shares, each at least 0, one per schedule, that sum to 1 (within 1e-6).

    Raises:
        BadValue: If the shares do not fit.

    Examples:
        >>> up_then_flat = combine_scheds([0.5, 0.5], [SchedLin(0, 1), SchedNo(1, 1)])
        >>> up_then_flat(0.25), up_then_flat(0.75)
        (0.5, 1)
    """
    if len(pcts) != len(scheds) or min(pcts, default=-1.0) < 0 or abs(sum(pcts) - 1) > 1e-6:
        raise BadValue(
            "the shares of the combined schedules do not fit",
            got=f"{list(pcts)} for {len(scheds)} schedules",
            expected="one share per schedule, none negative, that sum to 1",
        )
    bounds = (*list(accumulate(map(float, pcts)))[:-1], 1.0)
    return CombinedSched(bounds, tuple(scheds))


def combined_cos(pct: float, start: Any, middle: Any, end: Any) -> CombinedSched:
    """A cosine from `start` to `middle` over the first `pct` of the progress, then one from `middle` to `end`.

    Examples:
        >>> [round(combined_cos(0.25, 0.04, 1.0, 0.0)(p), 3) for p in (0.0, 0.25, 1.0)]
        [0.04, 1.0, 0.0]
    """
    return combine_scheds([pct, 1 - pct], [SchedCos(start, middle), SchedCos(middle, end)])


def warm_up(pct: float, sched: Callable[[float], Any], start: float = 0.0) -> CombinedSched:
    """A straight line from `start` to where `sched` begins, over the first `pct` of the progress; then `sched`.

    Raises:
        BadValue: If `pct` is outside [0, 1].

    Examples:
        >>> [warm_up(0.5, SchedPoly(1.0, 0.0, 2))(p) for p in (0.0, 0.25, 0.5, 0.75)]
        [0.0, 0.5, 1.0, 0.75]
    """
    return combine_scheds([pct, 1 - pct], [SchedLin(start, sched(0.0)), sched])
