"""A training step of a detector by the learner over the same step of torchvision's model in a hand-written loop."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.runner import Result, compare
from layered.training import Learner
from layered.vision.all import TensorBBox, TensorMultiCategory
from layered.vision.detection import DetectionLoss
from layered.vision.models.detectors import create_detector

STEPS, BATCH, SIDE, CLASSES, BOXES = 2, 4, 96, 5, 6

Batch = tuple[torch.Tensor, TensorBBox, TensorMultiCategory]


def detector() -> Any:
    torch.manual_seed(0)
    return create_detector("resnet18", CLASSES, pretrained=False)


def batches() -> list[Batch]:
    torch.manual_seed(0)
    made = []
    for _ in range(STEPS):
        corner = torch.rand(BATCH, BOXES, 2) - 1
        boxes = TensorBBox(torch.cat((corner, corner + 0.2 + 0.8 * torch.rand(BATCH, BOXES, 2)), -1))
        labels = TensorMultiCategory(torch.randint(1, CLASSES, (BATCH, BOXES)))
        made.append((torch.rand(BATCH, 3, SIDE, SIDE), boxes, labels))
    return made


def by_hand(data: list[Batch]) -> Callable[[], None]:
    model = detector().detector
    opt = torch.optim.AdamW(model.parameters(), lr=1e-4)
    as_lists = [
        (
            list(images),
            [
                {"boxes": (b + 1) / 2 * SIDE, "labels": n}
                for b, n in zip(boxes.as_plain(), labels.as_plain(), strict=True)
            ],
        )
        for images, boxes, labels in data
    ]

    def epoch() -> None:
        model.train()
        for images, targets in as_lists:
            sum(model(images, targets).values()).backward()
            opt.step()
            opt.zero_grad()

    return epoch


def by_learner(data: list[Batch]) -> Callable[[], None]:
    dls: Any = ([(images, boxes, labels) for images, boxes, labels in data], None)
    learn = Learner(dls, detector(), DetectionLoss())
    learn.dls.n_inp = 1

    def epoch() -> None:
        with learn.no_bar(), learn.no_logging():
            learn.fit(1, lr=1e-4)

    return epoch


def main() -> list[Result]:
    torch.set_num_threads(1)
    data = batches()
    title = f"{STEPS} steps of an FCOS on ResNet-18"
    return [compare(title, by_learner(data), by_hand(data), budget=1.05, rounds=8, warmup=1)]


if __name__ == "__main__":
    sys.exit(not all(result.ok for result in main()))
