"""A training step of a tiny model over the same step in a hand-written loop: what the loop and its callbacks cost."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stdout

import torch
from torch import nn
from torch.utils.data import DataLoader as TorchDataLoader, TensorDataset

from benchmarks.runner import Result, compare
from layered.callback import ProgressCallback
from layered.data import DataLoader
from layered.loop import ESSENTIAL_CALLBACKS, Loop
from layered.metrics import accuracy

ROWS, BATCH = 64 * 300, 64


class Screen(io.StringIO):
    """A terminal that nobody looks at: bars are drawn on it."""

    def isatty(self) -> bool:
        return True


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 1))


def by_hand(loader: object) -> Callable[[], None]:
    model, loss_func = mlp(), nn.MSELoss()
    opt = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def epoch() -> None:
        model.train()
        for xb, yb in loader:
            loss = loss_func(model(xb), yb)
            loss.backward()
            opt.step()
            opt.zero_grad()

    return epoch


def by_loop(loader: object) -> Callable[[], None]:
    loop = Loop((loader, None), mlp(), nn.MSELoss(), default_cbs=[*ESSENTIAL_CALLBACKS, ProgressCallback])

    def epoch() -> None:
        with redirect_stdout(Screen()):
            loop.fit(1)

    return epoch


def validating() -> tuple[Callable[[], object], Callable[[], object]]:
    """A validation pass with accuracy, by the loop and by hand: 200 batches of a classifier."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    batches = [(torch.randn(BATCH, 64), torch.randint(0, 10, (BATCH,))) for _ in range(200)]
    loss_func = nn.CrossEntropyLoss()

    @torch.no_grad()
    def by_hand() -> tuple[float, float]:
        model.eval()
        loss, right, rows = torch.tensor(0.0), torch.tensor(0), 0
        for xb, yb in batches:
            pred = model(xb)
            loss += loss_func(pred, yb) * len(yb)
            right += (pred.argmax(-1) == yb).sum()
            rows += len(yb)
        return float(loss / rows), float(right / rows)

    return Loop((batches, batches), model, loss_func, metrics=accuracy).validate, by_hand


def main() -> list[Result]:
    torch.set_num_threads(1)
    x = torch.randn(ROWS, 10)
    rows = TensorDataset(x, x.sum(1, keepdim=True))
    torchs, own = TorchDataLoader(rows, BATCH, shuffle=True), DataLoader(rows, bs=BATCH, shuffle=True)
    batches = [tuple(b) for b in torchs]
    hand = by_hand(torchs)
    return [
        compare("300 steps of an MLP, torch's loader", by_loop(torchs), hand, budget=1.05, rounds=15),
        compare("300 steps of an MLP, our loader", by_loop(own), hand, budget=0.70, rounds=15),
        compare("300 steps of an MLP, a list of batches", by_loop(batches), by_hand(batches), rounds=15),
        compare("validation of an MLP, with accuracy", *validating(), rounds=15),
    ]


if __name__ == "__main__":
    sys.exit(not all(result.ok for result in main()))
