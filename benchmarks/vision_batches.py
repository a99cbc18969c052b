"""The default augmentation of a batch on one CPU thread, over fastai. The budget is 2.2 times its images a second."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch

from benchmarks.runner import Result, compare, has_peer
from layered.data import IntToFloatTensor, Normalize
from layered.foundation import Pipeline, TensorImage
from layered.vision import aug_transforms, imagenet_stats

NUM_IMAGES = 64


def main() -> list[Result]:
    torch.set_num_threads(1)
    pixels = torch.randint(
        0, 256, (NUM_IMAGES, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    ours = Pipeline([IntToFloatTensor(), *aug_transforms(), Normalize.from_stats(*imagenet_stats)], split_idx=0)
    batch = TensorImage(pixels)
    theirs = of_peer(pixels) if has_peer("fastai") else None
    name = f"default batch_tfms, {NUM_IMAGES} images of 224"
    return [compare(name, lambda: ours(batch), theirs, budget=1 / 2.2, rounds=8, warmup=2)]


def of_peer(pixels: torch.Tensor) -> Callable[[], object]:
    """The same transforms of the peer, over the same pixels."""
    peer = importlib.import_module("fastai.vision.all")
    normalize = peer.Normalize.from_stats(*imagenet_stats, cuda=False)
    tfms = peer.Pipeline([peer.IntToFloatTensor(), *peer.aug_transforms(), normalize], split_idx=0)
    batch = peer.TensorImage(pixels)
    return lambda: tfms(batch)


if __name__ == "__main__":
    main()
