"""Photographs from JPEG files to cropped tensors, over fastai, on one CPU thread. The budget is 1.4 times its images a second."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.runner import Result, compare
from layered.data.datasets import Datasets
from layered.data.conversions import ToTensor
from layered.foundation.optional import require
from layered.vision.transforms import RandomResizedCrop, Resize
from layered.vision.types import PILImage

NUM_IMAGES = 32


def photographs(folder: Path) -> list[Path]:
    """Files of two photographs, 640x427, as a camera would compress them."""
    files = []
    for i in range(NUM_IMAGES):
        file = folder / f"{i}.jpg"
        Image.fromarray(load_sample_images().images[i % 2]).save(file, quality=90)
        files.append(file)
    return files


def loader(datasets: Any, files: list[Path], read: Any, tfms: list[Any]) -> Any:
    """One epoch of batches, made in this process, through the loader that users get."""
    dsets = datasets(files, [[read], [lambda o: 0]], splits=[range(NUM_IMAGES), range(2)])
    dls = dsets.dataloaders(bs=NUM_IMAGES, after_item=tfms, num_workers=0, device=torch.device("cpu"))
    return lambda: sum(len(batch[0]) for batch in dls.train)


def main() -> list[Result]:
    torch.set_num_threads(1)
    peer = require("fastai.vision.all", extra="bench", why="this comparison")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        files = photographs(Path(folder))
        for name, ours, theirs, budget in (
            ("RandomResizedCrop(224)", RandomResizedCrop(224), peer.RandomResizedCrop(224), 1 / 1.4),
            ("Resize(224)", Resize(224), peer.Resize(224), None),
        ):
            results.append(
                compare(
                    f"JPEG decode + {name}, {NUM_IMAGES} images",
                    loader(Datasets, files, PILImage.create, [ours, ToTensor()]),
                    loader(peer.Datasets, files, peer.PILImage.create, [theirs, peer.ToTensor()]),
                    budget=budget,
                    rounds=10,
                )
            )
    return results


if __name__ == "__main__":
    main()
