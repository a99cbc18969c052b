"""Loads every export of a folder, as the process that serves it would, and writes down what it predicts."""

import json
import sys
from pathlib import Path

import own_pieces  # noqa: F401  # registers what the exports name
import torch

import layered.collab.all
import layered.tabular.all  # noqa: F401
from layered.vision.all import load_learner


def plainly(x):
    """Nested tensors as plain ones, and all else as its text."""
    if isinstance(x, (tuple, list)):
        return [plainly(part) for part in x]
    return x.as_subclass(torch.Tensor) if isinstance(x, torch.Tensor) else str(x)


def answers(learn, items):
    """What `predict` says of the first item and `get_preds` of all."""
    dl = learn.dls.test_dl(items, num_workers=0)
    return [
        plainly(learn.predict(items.iloc[0] if hasattr(items, "iloc") else items[0])),
        plainly(learn.get_preds(dl=dl)[0]),
    ]


if __name__ == "__main__":
    import pandas as pd

    folder, found = Path(sys.argv[1]), {}
    for name, items in json.loads((folder / "items.json").read_text()).items():
        items = (
            pd.DataFrame(items) if isinstance(items, dict) else [tuple(i) if isinstance(i, list) else i for i in items]
        )
        found[name] = answers(load_learner(folder / f"{name}.layered"), items)
    torch.save(found, folder / "answers.pt")
