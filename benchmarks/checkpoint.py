"""Saving while training: how long the loop is blocked, and how much memory a checkpoint takes beyond its own size.

A model of 100 M parameters with Adam's state (1.2 GB) is trained for a minute: without checkpoints, and with one.
"""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.runner import Result, printed

MODES = ("none", "background", "loop")


def main() -> list[Result]:
    found = {}
    for mode in MODES:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.checkpoint", mode, folder]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            found[mode] = [float(part) for part in out]
    step, base, _, _ = found["none"]
    results = [Result("a step of 100 M parameters, Adam", step * 1000, None, None, None)]
    for mode, budget in (("background", 3.0), ("loop", None)):
        _, most, blocked, size = found[mode]
        results += [
            Result(f"blocked a minute, written in the {mode}", blocked, None, None, budget, "s"),
            Result(f"memory beyond base and file, in the {mode}", most - base - size, None, None, 200.0, "MiB"),
        ]
    results.append(Result("the file", size, None, None, None, "MiB"))
    return [printed(result) for result in results]


def child(mode: str, folder: str, seconds: float = 60.0) -> None:
    """Train for a minute with one checkpoint inside it; print step, memory, blocked seconds, and size."""
    import torch
    from torch import nn

    from layered.basics import Checkpoint, Learner

    class Timed(Checkpoint):
        """Adds up how long the loop waits for it, and ends the fit in time."""

        def before_fit(self) -> None:
            super().before_fit()
            self.blocked, self.steps, self.began = 0.0, 0, time.perf_counter()

        def after_batch(self) -> None:
            start = time.perf_counter()
            if mode != "none":
                super().after_batch()
            now = time.perf_counter()
            self.blocked, self.steps = self.blocked + now - start, self.steps + 1
            if now - self.began > seconds:
                raise SystemExit

    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(2236, 2236) for _ in range(20)))  # 100 M parameters
    batch = (torch.randn(8, 2236), torch.randn(8, 2236))
    learn = Learner(([batch] * 100_000, None), model, nn.MSELoss(), lr=1e-5)
    timed = Timed(folder, "50 sec", keep=1, background=mode == "background")
    with learn.no_bar(), learn.no_logging(), contextlib.suppress(SystemExit):
        learn.fit(1, cbs=timed)
    sizes = [file.stat().st_size / 2**20 for file in Path(folder).glob("checkpoint-*")]
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(seconds / timed.steps, most, timed.blocked / seconds * 60, max(sizes, default=0.0))


if __name__ == "__main__":
    child(*sys.argv[1:])
