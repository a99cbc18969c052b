"""A small mixed table with gaps."""

import numpy as np
import pandas as pd

from layered.tabular.all import Categorify, FillMissing, Normalize

PROCS = [Normalize, Categorify, FillMissing]  # any order: they sort themselves
CATS, CONTS = ["city", "rooms"], ["age", "income"]


def people(rows=200, seed=0):
    """Text with gaps, small whole numbers, floats with gaps, large whole numbers; `buys` follows from age and city."""
    draw = np.random.default_rng(seed)
    df = pd.DataFrame(
        {
            "income": draw.integers(0, 10**6, rows),
            "city": draw.choice(["Bonn", "Rome", "Oslo"], rows),
            "age": draw.normal(40, 10, rows).round(3),
            "rooms": draw.integers(1, 5, rows),
        }
    )
    df["buys"] = np.where((df.age > 40) ^ (df.city == "Rome"), "yes", "no")
    df.loc[draw.choice(rows, rows // 20, replace=False), "age"] = np.nan
    df.loc[draw.choice(rows, rows // 20, replace=False), "city"] = None
    return df
