"""Preparing a table: 500,000 rows of 14 columns to codes and standard scores, over the peer; a wide one, over half of it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.runner import Result, compare, has_peer

ROWS, CATS, CONTS = 500_000, 7, 7


def table(rows: int = ROWS, cats: int = CATS, conts: int = CONTS, text: bool = True) -> pd.DataFrame:
    """Columns of categories with up to some hundred levels, and of numbers, every second of which misses some.

    text       the categories are text; else whole numbers
    """
    draw = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    for i in range(cats):
        levels = np.array([f"level {k}" for k in range(5 * 2**i if i < 7 else 20)], dtype=object)
        codes = draw.integers(0, len(levels), rows)
        columns[f"cat{i}"] = levels[codes] if text else codes
    for i in range(conts):
        numbers = draw.normal(100 * i, 10, rows)
        if i % 2:
            numbers[draw.integers(0, rows, rows // 50)] = np.nan
        columns[f"cont{i}"] = numbers
    columns["y"] = np.array(["no", "yes"], dtype=object)[draw.integers(0, 2, rows)]
    return pd.DataFrame(columns)


def prepared(app: str, df: pd.DataFrame) -> Any:
    """The table, prepared with the names of one side; a fifth of the rows, drawn at random, validates."""
    names: dict[str, Any] = {}
    exec(f"from {app} import *", names)
    return names["TabularPandas"](
        df,
        procs=[names["Categorify"], names["FillMissing"], names["Normalize"]],
        cat_names=[name for name in df.columns if name.startswith("cat")],
        cont_names=[name for name in df.columns if name.startswith("cont")],
        y_names="y",
        splits=names["RandomSplitter"](seed=0)(df),
    )


def main() -> list[Result]:
    torch.set_num_threads(1)
    results = []
    there = has_peer("fastai")
    for text in (False, True):
        df = table(text=text)
        theirs = (lambda df=df: prepared("fastai.tabular.all", df)) if there else None
        results.append(
            compare(
                f"prepare {ROWS} rows of {CATS + CONTS}, {'text' if text else 'numbers'} as categories, over fastai",
                lambda df=df: prepared("layered.tabular.all", df),
                theirs,
                budget=0.333,
                rounds=5,
                warmup=1,
            )
        )
    for cats, conts in ((1000, 0), (0, 1000), (500, 500)):
        half, whole = table(2000, cats, conts), table(2000, 2 * cats, 2 * conts)
        results.append(
            compare(
                f"prepare {2 * cats} + {2 * conts} columns, over half of them",
                lambda whole=whole: prepared("layered.tabular.all", whole),
                lambda half=half: prepared("layered.tabular.all", half),
                budget=2.3,
                rounds=5,
                warmup=1,
            )
        )
    return results


if __name__ == "__main__":
    sys.exit(not all(result.ok for result in main()))
