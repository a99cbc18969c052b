"""A `DataBlock` over a million items: time beside the peer, and memory beyond the list that the caller holds."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.runner import Result, compare, has_peer, in_fresh_process, report

COUNT = 1_000_000
NAMES = {"ours": "layered.vision.all", "theirs": "fastai.vision.all"}


def items() -> list[str]:
    return [f"{i % 10}/{i}.png" for i in range(COUNT)]


def label(item):  # as most people write it
    return item.partition("/")[0]


def annotated_label(item: str) -> str:
    return item.partition("/")[0]


def loaders(side: str, get_y: Any = label) -> Callable[[list[str]], Any]:
    """A function from items to loaders, written with the names of one side. (The peer's blocks keep what they fitted.)"""
    names: dict[str, Any] = {}
    exec(f"from {NAMES[side]} import *", names)

    def make(source: list[str]) -> Any:
        block = names["DataBlock"](
            blocks=(names["TransformBlock"], names["CategoryBlock"]),
            splitter=names["RandomSplitter"](seed=42),
            get_y=get_y,
        )
        return block.dataloaders(source, bs=64, num_workers=0)

    return make


def memory(side: str) -> None:
    """Print by how many MiB this process grows while it makes loaders over a list that it holds, and what stays."""
    make = loaders(side)
    make(["a/1", "b/2"] * 100)  # imports on first use are not counted
    source = items()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the largest size so far
    before = resident("VmRSS")
    dls = make(source)
    print(resident("VmHWM") - before)
    gc.collect()
    print(resident("VmRSS") - before)
    del dls


def resident(field: str) -> float:
    """MiB of physical memory of this process: `VmRSS` now, `VmHWM` at its largest."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def main() -> list[Result]:
    source = items()
    sides = ["ours", "theirs"] if has_peer("fastai") else ["ours"]
    results = []
    for name, get_y, budget in (("", label, 1 / 8), (", annotated get_y", annotated_label, None)):
        ours, *theirs = (partial(loaders(side, get_y), source) for side in sides)
        peer = theirs[0] if theirs else None
        results.append(compare(f"a DataBlock over 1M items{name}", ours, peer, budget=budget, rounds=3, warmup=1))
    for side, who, budget in (("ours", "", 80.0), ("theirs", " (fastai)", None))[: len(sides)]:
        code = f"from benchmarks.million_items import memory; memory({side!r})"
        largest, held = map(float, in_fresh_process(code)[1].split())
        results += [
            report(f"memory over 1M items, at its largest{who}", largest, "MiB", budget),
            report(f"memory over 1M items, in the end{who}", held, "MiB"),
        ]
    return results


if __name__ == "__main__":
    sys.exit(not all(result.ok for result in main()))
