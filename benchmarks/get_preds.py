"""`get_preds` over a million rows in memory, over a plain loop of forward passes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.runner import Result, compare
from layered.basics import DataLoader, Learner

ROWS, COLUMNS, BATCH = 1_000_000, 16, 1024


def by_hand(model: nn.Module, batches: Iterable[Sequence[Tensor]]) -> Tensor:
    """Each batch through the model, and all outputs joined."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(x) for (x,) in batches])


def main() -> list[Result]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randn(ROWS, COLUMNS)
    model = nn.Sequential(nn.Linear(COLUMNS, 64), nn.ReLU(), nn.Linear(64, 2))
    dl = DataLoader(TensorDataset(x), bs=BATCH)
    slices = [(part,) for part in x.split(BATCH)]
    learn: Any = Learner((dl, dl), model, loss_func=nn.MSELoss())
    assert torch.equal(learn.get_preds(dl=dl)[0], by_hand(model, dl)), "both sides predict the same"
    sides = {"our loader": dl, "a list of batches": slices}
    return [
        compare(
            f"get_preds of {ROWS} rows, over by hand, {name}",
            partial(learn.get_preds, dl=batches),
            partial(by_hand, model, batches),
            budget=1.25,
        )
        for name, batches in sides.items()
    ]


if __name__ == "__main__":
    sys.exit(not all(result.ok for result in main()))
