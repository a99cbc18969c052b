"""`predict` of one row of a table, beside the peer."""

from __future__ import annotations

import sys
from typing import Any

import torch

from benchmarks.runner import Result, compare, has_peer, milliseconds, report
from benchmarks.tabular_prepare import prepared, table


def learner(app: str, df: Any) -> Any:
    """An untrained model for the table, with the names of one side."""
    names: dict[str, Any] = {}
    exec(f"from {app} import *", names)
    return names["tabular_learner"](prepared(app, df).dataloaders(64, device="cpu"))


def main() -> list[Result]:
    torch.set_num_threads(1)
    df = table(2000)
    learn, row = learner("layered.tabular.all", df), df.iloc[0]
    for _ in range(20):
        learn.predict(row)
    times = sorted(milliseconds(lambda: learn.predict(row)) for _ in range(200))
    results = [report("predict one row", times[100], "ms", budget=1.5)]
    if has_peer("fastai"):
        peer = learner("fastai.tabular.all", df)
        with peer.no_bar():
            results.append(compare("the same, over fastai", lambda: learn.predict(row), lambda: peer.predict(row)))
    return results


if __name__ == "__main__":
    sys.exit(not all(result.ok for result in main()))
