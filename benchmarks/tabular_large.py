"""A table of ten million rows and twenty columns: how long preparing it, its tensors and a pass take, and how much memory.

It is reported for a million rows too, for the memory and the time of each further million.
"""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path

import torch

from benchmarks.million_items import resident
from benchmarks.runner import Result, in_fresh_process, report
from benchmarks.tabular_prepare import prepared, table

MILLION = 1_000_000
COUNTS = (1, 10)  # millions
STEPS = ("prepare", "loaders", "pass")


def growth(count: int) -> None:
    """Print the MiB of a frame of 10 columns of categories and 10 of numbers; then for each step its seconds and by how
    many MiB the process has grown beyond that frame, at its largest and in the end."""
    torch.set_num_threads(1)
    prepared("layered.tabular.all", table(200, 9, 10, text=False)).dataloaders(64)
    gc.collect()
    empty = resident("VmRSS")
    df = table(count, 9, 10, text=False)
    gc.collect()
    before = resident("VmRSS")
    print(before - empty)
    held = None
    for step in STEPS:
        Path("/proc/self/clear_refs").write_text("5")  # forget the largest size so far
        start = time.perf_counter()
        if step == "prepare":
            held = prepared("layered.tabular.all", df)
        elif step == "loaders":
            held = held.dataloaders(4096, device="cpu")
            held.train.one_batch()
        else:
            for _ in held.train:
                pass
        seconds, largest = time.perf_counter() - start, resident("VmHWM") - before
        gc.collect()
        print(seconds, largest, resident("VmRSS") - before)


def main() -> list[Result]:
    results = []
    for count in COUNTS:
        code = f"from benchmarks.tabular_large import growth; growth({count * MILLION})"
        frame, *lines = in_fresh_process(code)[1].splitlines()
        results.append(report(f"a frame of {count}M rows of 20 columns", float(frame), "MiB"))
        for step, line in zip(STEPS, lines, strict=True):
            seconds, largest, held = map(float, line.split())
            results += [
                report(f"{step}: {count}M rows", seconds * 1e3, "ms"),
                report(f"{step}: memory beyond the frame, at its largest", largest, "MiB"),
                report(f"{step}: memory beyond the frame, in the end", held, "MiB"),
            ]
    return results


if __name__ == "__main__":
    sys.exit(not all(result.ok for result in main()))
