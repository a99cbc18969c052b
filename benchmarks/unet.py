"""A training step of a U-Net by the learner over the same step in a hand-written loop."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.runner import Result, compare
from layered.training import Learner
from layered.vision.all import CrossEntropyLossFlat, DynamicUnet, create_body, resnet18

STEPS, BATCH, SIDE, CLASSES = 2, 4, 64, 5


def unet() -> nn.Module:
    torch.manual_seed(0)
    return DynamicUnet(create_body(resnet18, pretrained=False, cut=-2), CLASSES, (SIDE, SIDE))


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    return [(torch.randn(BATCH, 3, SIDE, SIDE), torch.randint(0, CLASSES, (BATCH, SIDE, SIDE))) for _ in range(STEPS)]


def by_hand(data: list[tuple[torch.Tensor, torch.Tensor]]) -> Callable[[], None]:
    model, loss_func = unet(), nn.CrossEntropyLoss()
    opt = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def epoch() -> None:
        model.train()
        for xb, yb in data:
            loss_func(model(xb), yb).backward()
            opt.step()
            opt.zero_grad()

    return epoch


def by_learner(data: list[tuple[torch.Tensor, torch.Tensor]]) -> Callable[[], None]:
    learn = Learner((data, None), unet(), CrossEntropyLossFlat(axis=1))

    def epoch() -> None:
        with learn.no_bar(), learn.no_logging():
            learn.fit(1, lr=1e-4)

    return epoch


def main() -> list[Result]:
    torch.set_num_threads(1)
    data = batches()
    return [
        compare(
            f"{STEPS} steps of a U-Net on ResNet-18", by_learner(data), by_hand(data), budget=1.02, rounds=8, warmup=1
        )
    ]


if __name__ == "__main__":
    sys.exit(not all(result.ok for result in main()))
