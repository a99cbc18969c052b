"""How a `DataBlock` grows from one to ten million items, and what its forked workers copy of the list of items."""

from __future__ import annotations

import gc
import re
import sys
import time
from pathlib import Path

from benchmarks.million_items import annotated_label, resident
from benchmarks.runner import Result, in_fresh_process, report
from layered.data import CategoryBlock, DataBlock, DataLoaders, RandomSplitter, TfmdDL, TransformBlock

MILLION = 1_000_000
COUNTS = (1, 10)  # millions


def items(count: int) -> list[str]:
    return [f"{i % 10}/{i}.png" for i in range(count)]


def loaders(source: list[str]) -> DataLoaders:
    block = DataBlock(blocks=(TransformBlock, CategoryBlock), splitter=RandomSplitter(seed=42), get_y=annotated_label)
    return block.dataloaders(source, bs=64, num_workers=0)


def growth(count: int) -> None:
    """Print the seconds that loaders over `count` items take, and the MiB that this process grows by meanwhile, at its
    largest and in the end, beyond the list that it holds."""
    loaders(items(200))
    source = items(count)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the largest size so far
    before, start = resident("VmRSS"), time.perf_counter()
    dls = loaders(source)
    seconds, largest = time.perf_counter() - start, resident("VmHWM") - before
    gc.collect()
    print(seconds, largest, resident("VmRSS") - before)
    del dls


class Watched(TfmdDL):
    """Its workers say how much memory they have to themselves: now and then, in place of a batch."""

    def do_batch(self, samples: object) -> float:
        found = re.search(r"Private_Dirty:\s+(\d+) kB", Path("/proc/self/smaps_rollup").read_text())
        assert found is not None
        return int(found[1]) / 1024


def workers() -> None:
    """Print the MiB that a worker has to itself after its first and its last batch of an epoch over a million items."""
    data = loaders(items(MILLION)).train_ds
    sizes = list(Watched(data, bs=4096, shuffle=True, num_workers=1))
    print(sizes[0], sizes[-1])


def main() -> list[Result]:
    results = []
    for count in COUNTS:
        code = f"from benchmarks.many_items import growth; growth({count * MILLION})"
        seconds, largest, held = map(float, in_fresh_process(code)[1].split())
        results += [
            report(f"loaders over {count}M items", seconds * 1e3, "ms"),
            report(f"memory over {count}M items, at its largest", largest, "MiB"),
            report(f"memory over {count}M items, in the end", held, "MiB"),
        ]
    per_million = [
        (results[3 + i].ours - results[i].ours) / (COUNTS[1] - COUNTS[0]) for i in range(3)
    ]  # the slope between the two sizes
    for name, slope, unit in zip(
        ("time", "memory at its largest", "memory in the end"), per_million, ("ms", "MiB", "MiB"), strict=True
    ):
        results.append(report(f"{name} of a further million items", slope, unit))
    first, last = map(float, in_fresh_process("from benchmarks.many_items import workers; workers()")[1].split())
    results.append(report("a worker's own memory after one batch of 1M items", first, "MiB"))
    results.append(report("a worker's own memory after all of them", last, "MiB"))
    return results


if __name__ == "__main__":
    sys.exit(not all(result.ok for result in main()))
