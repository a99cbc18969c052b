"""Measure ours and a peer in turns, in one process or in fresh ones, and print the ratio beside its budget."""

from __future__ import annotations

import importlib.util
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

Run = Callable[[], object]


@dataclass(frozen=True)
class Result:
    """What a run of each side costs (medians), and the median of the ratios ours / theirs of neighbouring runs.

    budget     the largest ratio that is fine; of `ours` itself where there are no `theirs`; None: only reported
    """

    name: str
    ours: float
    theirs: float | None
    ratio: float | None
    budget: float | None
    unit: str = "ms"

    @property
    def ok(self) -> bool:
        return self.budget is None or (self.ours if self.ratio is None else self.ratio) <= self.budget

    def __str__(self) -> str:
        text = f"{self.name:<52} "
        if self.theirs is None:
            text += f"{self.ours:10.3f} {self.unit}"
        else:
            text += (
                f"ours {self.ours:10.3f} {self.unit}  theirs {self.theirs:10.3f} {self.unit}  ratio {self.ratio:6.3f}"
            )
        return text if self.budget is None else f"{text}  budget {self.budget:6.3f}  {'ok' if self.ok else 'over'}"


def milliseconds(run: Run) -> float:
    """How long one run takes."""
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def compare(
    name: str,
    ours: Run,
    theirs: Run | None,
    *,
    budget: float | None = None,
    rounds: int = 30,
    warmup: int = 3,
    measure: Callable[[Run], float] = milliseconds,
    unit: str = "ms",
) -> Result:
    """Run `ours` and `theirs` alternately, each `rounds` times after `warmup`, and print one line.

    theirs     None, where the peer is missing: ours alone is measured, against no budget
    budget     the largest ratio ours / theirs that is fine; None: only report
    measure    from a side to what one run of it costs, in `unit`
    """
    sides = [ours] if theirs is None else [ours, theirs]
    costs: list[list[float]] = [[] for _ in sides]
    for turn in range(-warmup, rounds):
        for i in range(len(sides)) if turn % 2 else reversed(range(len(sides))):
            cost = measure(sides[i])
            if turn >= 0:
                costs[i].append(cost)
    medians = [statistics.median(side) for side in costs]
    if theirs is None:
        return printed(Result(name, medians[0], None, None, None, unit))
    ratio = statistics.median(a / b for a, b in zip(*costs, strict=True))
    return printed(Result(name, medians[0], medians[1], ratio, budget, unit))


def report(name: str, figure: float, unit: str, budget: float | None = None) -> Result:
    """Print a figure that needs no peer.

    budget     the largest that is fine, in `unit`
    """
    return printed(Result(name, figure, None, None, budget, unit))


def printed(result: Result) -> Result:
    """Print a result and give it back."""
    print(result, flush=True)
    return result


def has_peer(package: str) -> bool:
    """Whether the peer is installed; if not, one line says how to get it."""
    if importlib.util.find_spec(package) is not None:
        return True
    print(f"{package} is not installed, so ours stands alone here; to compare: pip install -e .[bench]", flush=True)
    return False


def in_fresh_process(code: str) -> tuple[float, str]:
    """CPU milliseconds of a new Python process that runs `code`, its start included, and what it printed."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}  # what is installed is compiled once
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=env, check=True, stdout=subprocess.PIPE, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3, done.stdout
