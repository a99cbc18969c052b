"""Measure ours and a peer in turns, in one process, and print the ratio beside its budget."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """Seconds of one run of each side (medians), and the median of the ratios ours / theirs of neighbouring runs."""

    name: str
    ours: float
    theirs: float
    ratio: float
    budget: float | None

    @property
    def ok(self) -> bool:
        return self.budget is None or self.ratio <= self.budget

    def __str__(self) -> str:
        verdict = "" if self.budget is None else f"  budget {self.budget:5.2f}  {'ok' if self.ok else 'over'}"
        return f"{self.name:<44} ours {_ms(self.ours)}  theirs {_ms(self.theirs)}  ratio {self.ratio:6.3f}{verdict}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:10.3f} ms"


def compare(
    name: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    budget: float | None = None,
    rounds: int = 30,
    warmup: int = 3,
) -> Result:
    """Run `ours` and `theirs` alternately, each `rounds` times after `warmup`, and print one line.

    budget     the largest ratio ours / theirs that is fine; None: only report
    """
    sides = (ours, theirs)
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(-warmup, rounds):
        for side in (0, 1) if turn % 2 else (1, 0):
            seconds = _seconds(sides[side])
            if turn >= 0:
                times[side].append(seconds)
    ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
    result = Result(name, statistics.median(times[0]), statistics.median(times[1]), ratio, budget)
    print(result, flush=True)
    return result


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
