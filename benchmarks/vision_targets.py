"""Photographs with boxes, points or masks over the same photographs with a label, from JPEG files to augmented batches.

Budgets, on one CPU thread: 1.3 times for boxes, 1.45 times for masks, of which decoding the PNG files alone is 1.25.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.runner import Result, compare
from layered.data import CategoryBlock, DataBlock, DataLoaders, EndSplitter
from layered.vision import BBoxBlock, BBoxLblBlock, ImageBlock, MaskBlock, PointBlock, Resize, aug_transforms

NUM_IMAGES, BOXES = 32, 8
BUDGETS = {"boxes": 1.3, "points": None, "masks": 1.45}


def photographs(folder: Path) -> list[Path]:
    """Photographs of 480x360, and beside each a mask of 11 classes with the same name."""
    files = [folder / f"{i}.jpg" for i in range(NUM_IMAGES)]
    for i, file in enumerate(files):
        photo = Image.fromarray(load_sample_images().images[i % 2]).resize((480, 360))
        photo.save(file, quality=90)
        photo.convert("L").point(lambda value: value // 24).save(file.with_suffix(".png"))
    return files


def loaders(kind: str, files: list[Path]) -> DataLoaders:
    """Loaders of one kind of target, made in this process."""
    draws = np.random.default_rng(0)
    corners = draws.uniform(0, 250, (BOXES, 2))
    boxes = np.concatenate((corners, corners + draws.uniform(20, 100, (BOXES, 2))), 1).tolist()
    blocks, get_y = {
        "labels": ([CategoryBlock], [lambda file: int(file.stem) % 2]),
        "boxes": ([BBoxBlock, BBoxLblBlock], [lambda file: boxes, lambda file: ["cat"] * BOXES]),
        "points": ([PointBlock], [lambda file: corners]),
        "masks": ([MaskBlock], [lambda file: file.with_suffix(".png")]),
    }[kind]
    block: Any = DataBlock(
        (ImageBlock, *blocks),
        get_y=get_y,
        n_inp=1,
        splitter=EndSplitter(2 / NUM_IMAGES),
        item_tfms=Resize(224),
        batch_tfms=aug_transforms(),
    )
    return block.dataloaders(files, bs=NUM_IMAGES - 2, num_workers=0, device="cpu")  # type: ignore[no-any-return]


def main() -> list[Result]:
    torch.set_num_threads(1)
    results = []
    with tempfile.TemporaryDirectory() as name:
        files = photographs(Path(name))
        made = {kind: loaders(kind, files).train for kind in ("labels", *BUDGETS)}
        for kind, budget in BUDGETS.items():
            ours, theirs = (lambda kind=kind: made[kind].one_batch()), made["labels"].one_batch
            title = f"{kind} over labels, {NUM_IMAGES - 2} images"
            results.append(compare(title, ours, theirs, budget=budget, rounds=12))
    return results


if __name__ == "__main__":
    main()
