"""Choices without ratings: MovieLens 100k taken as who watched (or liked) what; how well each side ranks, and its CPU seconds.

The peer is `implicit`: alternating least squares (ALS) and Bayesian personalised ranking (BPR). For each job both sides choose
their settings on two parts of the training rows, ours among 5, ALS among 36, BPR among 16; then they are fitted with several
seeds, which also draw the split unless it is by time. ALS is fitted once more with as many iterations as take our seconds.
One function scores all of them, with the training items left out. The ratings are found as in `benchmarks.collab`.

`python -m benchmarks.ranking JOB` runs one job and prints a line for each side and seed.
"""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.collab import ratings
from benchmarks.runner import Result, has_peer, printed

SEEDS = (1, 2, 3, 4, 5)
JOBS = {  # the lowest rating that counts as a choice, and what is held out
    "all": (0, {"n": 0.2}),
    "liked": (4, {"n": 0.2}),
    "the last five": (0, {"n": 5, "by": "timestamp"}),
}
EPOCHS = 12
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "popularity": {},
    "ours": {"l2": (0.04, 0.05, 0.06, 0.08, 0.1)},
    "ALS": {"factors": (32, 64, 128), "regularization": (3, 10, 20, 30), "alpha": (1, 2, 4), "iterations": (15,)},
    "BPR": {
        "factors": (32, 64),
        "learning_rate": (0.02, 0.05),
        "regularization": (0.03, 0.1),
        "iterations": (100, 200),
    },
}
BUDGETS = {"ndcg@10": 1.0, "recall@10": 1.0}  # theirs / ours, of ALS with as many seconds as ours


def matrix(df: Any, shape: tuple[int, int]) -> Any:
    """Who chose what, as a sparse matrix [user, movie]."""
    import numpy as np
    from scipy.sparse import csr_matrix

    return csr_matrix((np.ones(len(df), "float32"), (df.user, df.movie)), shape)


def ours(df: Any, splits: Any, seed: int, l2: float) -> Any:
    from layered.collab.all import CollabDataLoaders, collab_learner, set_seed
    from layered.collab.recommending import score_items

    set_seed(seed)
    dls = CollabDataLoaders.from_df(df[["user", "movie"]], splits=splits, bs=32, device="cpu")
    learn = collab_learner(dls, n_factors=160, l2=l2)
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(EPOCHS, valid_every=EPOCHS)
    return lambda users: _in_columns(learn, users, score_items)


def _in_columns(learn: Any, users: Any, score_items: Callable[..., Any]) -> Any:
    """The scores of all movies, in the columns of `matrix`; the worst for those that training lacks."""
    import numpy as np
    import torch

    known = [learn.dls.classes[name] for name in ("user", "movie")]
    code = {user: i for i, user in enumerate(known[0])}
    codes = torch.tensor([code.get(user, 0) for user in users.tolist()])
    scores = score_items(learn, codes, len(known[1])).numpy()
    found = np.full((len(users), int(max(known[1][1:])) + 1), -np.inf, "float32")
    found[:, np.array(known[1][1:])] = scores[:, 1:]
    return found


def of_implicit(kind: str, df: Any, splits: Any, seed: int, **settings: Any) -> Any:
    import implicit

    shape = (int(df.user.max()) + 1, int(df.movie.max()) + 1)
    kinds = {"ALS": implicit.als.AlternatingLeastSquares, "BPR": implicit.bpr.BayesianPersonalizedRanking}
    model = kinds[kind](num_threads=1, random_state=seed, **settings)
    model.fit(matrix(df.iloc[splits[0]], shape), show_progress=False)
    return lambda users: model.user_factors[users] @ model.item_factors.T


def popularity(df: Any, splits: Any, seed: int) -> Any:
    import numpy as np

    counts = np.bincount(df.movie.iloc[splits[0]], minlength=int(df.movie.max()) + 1)
    return lambda users: np.tile(counts.astype("float32"), (len(users), 1))


def fitted(side: str, df: Any, splits: Any, seed: int, settings: dict[str, Any]) -> Any:
    """A function from users to the scores of all movies."""
    sides = {"ours": ours, "popularity": popularity}
    return (
        sides[side](df, splits, seed, **settings) if side in sides else of_implicit(side, df, splits, seed, **settings)
    )


def scored(scores_of: Any, df: Any, splits: Any, k: int = 10) -> dict[str, float]:
    """NDCG and recall of the first k movies, by NumPy alone."""
    import numpy as np

    width = int(df.movie.max()) + 1
    train, test = (matrix(df.iloc[rows], (int(df.user.max()) + 1, width)) for rows in splits)
    users = np.flatnonzero(test.getnnz(1))
    scores = np.full((len(users), width), -np.inf, "float32")
    given = scores_of(users)
    scores[:, : given.shape[1]] = given
    scores[train[users].nonzero()] = -np.inf
    best = np.argsort(-scores, axis=1)[:, :k]
    hits = np.take_along_axis(test[users].toarray() > 0, best, 1)
    counts, gains = test[users].getnnz(1), 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(gains)[np.minimum(counts, k) - 1]
    return {"ndcg@10": float(((hits * gains).sum(1) / ideal).mean()), "recall@10": float((hits.sum(1) / counts).mean())}


def one_job(job: str) -> None:
    from layered.collab.all import leave_n_out

    least, held = JOBS[job]
    df = ratings()
    df = df[df.rating >= least].reset_index(drop=True)
    seeded = [leave_n_out(df, **held, seed=seed) for seed in SEEDS]
    inside = df.iloc[seeded[0][0]].reset_index(drop=True)
    inner = [leave_n_out(inside, **held, seed=seed) for seed in (1, 2)]
    spent: dict[str, float] = {}
    for side, grid in GRIDS.items():
        if side in ("ALS", "BPR") and not has_peer("implicit"):
            continue
        tried = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        best = max(tried, key=lambda settings: _tuned(side, inside, inner, settings))
        spent[side] = final(side, side, df, seeded, best)
        if side == "ALS":
            longer = round(best["iterations"] * spent["ours"] / spent["ALS"])
            final("ALS, as long as ours", side, df, seeded, {**best, "iterations": longer})


def _tuned(side: str, df: Any, inner: list[Any], settings: dict[str, Any]) -> float:
    """The mean NDCG of some settings on parts of the training rows."""
    return statistics.mean(scored(fitted(side, df, splits, 0, settings), df, splits)["ndcg@10"] for splits in inner)


def final(title: str, side: str, df: Any, seeded: list[Any], settings: dict[str, Any]) -> float:
    """Fit with each seed, and print a line for each; the mean of the seconds."""
    spent = []
    for seed, splits in zip(SEEDS, seeded, strict=True):
        began = time.process_time()
        model = fitted(side, df, splits, seed, settings)
        spent.append(time.process_time() - began)
        found = scored(model, df, splits)
        print(title, found["ndcg@10"], found["recall@10"], spent[-1], settings, sep="\t", flush=True)
    return statistics.mean(spent)


def main() -> list[Result]:
    results = []
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for job in JOBS:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.ranking", job]
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env).stdout
        runs: dict[str, list[list[float]]] = {}
        for line in text.splitlines():
            side, *numbers, best = line.split("\t")
            runs.setdefault(side, []).append([float(number) for number in numbers])
            if len(runs[side]) == 1:
                print(f"  {job}, {side}: {best}")
        means = {side: [statistics.mean(column) for column in zip(*rows, strict=True)] for side, rows in runs.items()}
        for i, name in enumerate(("ndcg@10", "recall@10", "seconds")):
            print(f"  {job}, {name}: " + ", ".join(f"{side} {values[i]:.4f}" for side, values in means.items()))
            mine, theirs = means["ours"][i], means.get("ALS, as long as ours", [None] * 3)[i]
            ratio = None if theirs is None else mine / theirs if name == "seconds" else theirs / mine
            budget = BUDGETS.get(name) if ratio is not None else None
            results.append(printed(Result(f"who chose what, {job}: {name}", mine, theirs, ratio, budget, "  ")))
    return results


if __name__ == "__main__":
    one_job(sys.argv[1])
