"""A validation pass with metrics over the same pass by hand: what metrics cost beyond the arithmetic that anyone needs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.runner import Result, compare
from layered.loop import Loop
from layered.metrics import MetricSet, accuracy

Batches = Sequence[tuple[Tensor, Tensor]]
CLASSES, BATCH, NUM = 10, 64, 200
SCORES = ["f1", "precision", "recall", "balanced_accuracy"]


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 50), nn.ReLU(), nn.Linear(50, CLASSES)).eval()


def cnn() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES)).eval()


def batches(num: int) -> Batches:
    return [(torch.randn(BATCH, 1, 28, 28), torch.randint(0, CLASSES, (BATCH,))) for _ in range(num)]


def by_hand(model: nn.Module, data: Batches) -> Callable[[], float]:
    loss_func = nn.CrossEntropyLoss()

    def validate() -> float:
        loss, right, seen = torch.tensor(0.0), torch.tensor(0), 0
        with torch.no_grad():
            for xb, yb in data:
                pred = model(xb)
                loss += loss_func(pred, yb) * len(yb)
                right += (pred.argmax(1) == yb).sum()
                seen += len(yb)
        return float(loss) / seen + float(right) / seen

    return validate


def with_metric_set(model: nn.Module, data: Batches, metrics: Any) -> Callable[[], list[Any]]:
    """The pass by hand, but for the metrics."""
    loss_func, kept = nn.CrossEntropyLoss(), MetricSet(metrics)

    def validate() -> list[Any]:
        loss, seen = torch.tensor(0.0), 0
        kept.reset()
        with torch.no_grad():
            for xb, yb in data:
                pred = model(xb)
                loss += loss_func(pred, yb) * len(yb)
                kept.update(pred, yb)
                seen += len(yb)
        return [float(loss) / seen, *kept.values]

    return validate


def by_loop(model: nn.Module, data: Batches) -> Callable[[], Any]:
    return Loop((data, data), model, nn.CrossEntropyLoss(), metrics=accuracy).validate


def main() -> list[Result]:
    torch.set_num_threads(1)
    results = []
    for name, model, data in (
        ("an MLP", mlp(), batches(NUM)),
        ("a CNN", cnn(), batches(NUM // 4)),
    ):
        hand = by_hand(model, data)
        ours = with_metric_set(model, data, accuracy)
        results += [
            compare(f"validating {name}, accuracy by MetricSet", ours, hand, budget=1.02, rounds=40),
            compare(f"validating {name}, accuracy by the loop", by_loop(model, data), hand, rounds=40),
            compare(f"validating {name}, four scores of counts", with_metric_set(model, data, SCORES), hand, rounds=20),
        ]
    return results


if __name__ == "__main__":
    sys.exit(not all(result.ok for result in main()))
