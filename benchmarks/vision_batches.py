"""The default augmentation of a batch on one CPU thread, over fastai. The budget is 2.2 times its images a second."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from benchmarks.runner import Result, compare
from layered.data.conversions import IntToFloatTensor, Normalize
from layered.foundation.optional import require
from layered.foundation.pipeline import Pipeline
from layered.foundation.tensors import TensorImage
from layered.vision.augment import aug_transforms
from layered.vision.stats import imagenet_stats

NUM_IMAGES = 64


def main() -> list[Result]:
    torch.set_num_threads(1)
    require("fastai", extra="bench", why="this comparison")
    peer = importlib.import_module("fastai.vision.all")
    pixels = torch.randint(
        0, 256, (NUM_IMAGES, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    ours = Pipeline([IntToFloatTensor(), *aug_transforms(), Normalize.from_stats(*imagenet_stats)], split_idx=0)
    theirs = peer.Pipeline(
        [peer.IntToFloatTensor(), *peer.aug_transforms(), peer.Normalize.from_stats(*imagenet_stats, cuda=False)],
        split_idx=0,
    )
    batch, their_batch = TensorImage(pixels), peer.TensorImage(pixels)

    def both(tfms: Any, x: Any) -> Any:
        return lambda: tfms(x)

    name = f"default batch_tfms, {NUM_IMAGES} images of 224"
    return [compare(name, both(ours, batch), both(theirs, their_batch), budget=1 / 2.2, rounds=8, warmup=2)]


if __name__ == "__main__":
    main()
