"""Photographs from JPEG files to cropped tensors, over fastai, on one CPU thread. The budget is 1.4 times its images a second."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.runner import Result, compare, has_peer
from layered.foundation import Pipeline
from layered.vision import ImageDataLoaders, RandomResizedCrop, Resize

layered = SimpleNamespace(
    ImageDataLoaders=ImageDataLoaders, Pipeline=Pipeline, RandomResizedCrop=RandomResizedCrop, Resize=Resize
)
NUM_IMAGES = 34


def photographs(folder: Path) -> None:
    """Two photographs, 640x427, as a camera would compress them, as files of two classes."""
    for i in range(NUM_IMAGES):
        file = folder / "ab"[i % 2] / f"{i}.jpg"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(load_sample_images().images[i % 2]).save(file, quality=90)


def epoch(library: Any, folder: Path, tfm: Any) -> Callable[[], object]:
    """One pass over the batches that the library's own loader makes, in this process, without batch transforms."""
    dls = library.ImageDataLoaders.from_folder(
        folder, valid_pct=2 / NUM_IMAGES, item_tfms=tfm, bs=NUM_IMAGES - 2, num_workers=0, device=torch.device("cpu")
    )
    for loader in dls.loaders:
        loader.after_batch = library.Pipeline([])
    return lambda: [len(batch) for batch in dls.train]


def main() -> list[Result]:
    torch.set_num_threads(1)
    libraries = [layered, *([importlib.import_module("fastai.vision.all")] if has_peer("fastai") else [])]
    results = []
    with tempfile.TemporaryDirectory() as name:
        photographs(Path(name))
        for tfm, budget in (("RandomResizedCrop", 1 / 1.4), ("Resize", None)):
            sides = [epoch(library, Path(name), getattr(library, tfm)(224)) for library in libraries]
            title = f"JPEG decode + {tfm}(224), {NUM_IMAGES - 2} images"
            results.append(compare(title, sides[0], sides[1] if len(sides) > 1 else None, budget=budget, rounds=20))
    return results


if __name__ == "__main__":
    main()
