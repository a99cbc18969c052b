"""CPU time of a fresh process that imports the library, over one that imports what it stands on, and over the peer."""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks.runner import Result, compare, has_peer, in_fresh_process

FACADE, GROUND = "from layered.vision.all import *", "import torch, torchvision"
PEERS_FACADE = "from fastai.vision.all import *"


def process(code: str) -> Callable[[], float]:
    return lambda: in_fresh_process(code)[0]


def cpu_milliseconds(run: Callable[[], object]) -> float:
    return float(run())  # type: ignore[arg-type]  # a `process` returns what it cost


def over(name: str, ours: str, theirs: str, budget: float | None = None, rounds: int = 5) -> Result:
    return compare(
        name, process(ours), process(theirs), budget=budget, rounds=rounds, warmup=1, measure=cpu_milliseconds
    )


def main() -> list[Result]:
    results = [
        over("layered.vision.all over torch, torchvision", FACADE, GROUND, budget=1.10),
        over("layered.text.all over torch", "from layered.text.all import *", "import torch", budget=1.10),
        over("layered.basics over torch", "from layered.basics import *", "import torch"),
        over("layered over an empty process", "import layered", "pass"),
    ]
    if has_peer("fastai"):
        results += [
            over("layered.vision.all over fastai.vision.all", FACADE, PEERS_FACADE, rounds=3),
            over("(fastai.vision.all over torch, torchvision)", PEERS_FACADE, GROUND, rounds=3),
        ]
    return results


if __name__ == "__main__":
    sys.exit(not all(result.ok for result in main()))
