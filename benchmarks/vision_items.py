"""Photographs from JPEG files to cropped tensors, over fastai, on one CPU thread. The budget is 1.4 times its images a second,
and twice as many of photographs of 12 megapixels, which are decoded in part. A pass over what `cache=` has kept of
those, or of images that need no further resizing, may take a fifth of one without.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.runner import Result, compare, has_peer
from layered.foundation import Pipeline
from layered.vision import ImageDataLoaders, RandomResizedCrop, RatioResize, Resize

layered = SimpleNamespace(
    ImageDataLoaders=ImageDataLoaders, Pipeline=Pipeline, RandomResizedCrop=RandomResizedCrop, Resize=Resize
)
NUM_IMAGES, NUM_LARGE = 34, 10
LARGE = 4000, 3000


def photographs(folder: Path, count: int = NUM_IMAGES, size: tuple[int, int] | None = None) -> None:
    """Two photographs as a camera would compress them, as files of two classes.

    Args:
        folder: Where they go.
        count: The number of files.
        size: (width, height); by default their own, 640x427. Enlarged ones get the noise of a sensor.
    """
    noise = np.random.default_rng(0)
    images = [Image.fromarray(image) for image in load_sample_images().images]
    if size is not None:
        large = [np.asarray(image.resize(size, Image.Resampling.BICUBIC)) for image in images]
        noisy = [image + noise.normal(0, 4, image.shape) for image in large]
        images = [Image.fromarray(image.round().clip(0, 255).astype(np.uint8)) for image in noisy]
    for i in range(count):
        file = folder / "ab"[i % 2] / f"{i}.jpg"
        file.parent.mkdir(exist_ok=True, parents=True)
        images[i % 2].save(file, quality=90)


def epoch(library: Any, folder: Path, tfm: Any, count: int = NUM_IMAGES, **kwargs: Any) -> Callable[[], object]:
    """One pass over the batches that the library's own loader makes, in this process, without batch transforms."""
    dls = library.ImageDataLoaders.from_folder(
        folder, valid_pct=2 / count, item_tfms=tfm, bs=count - 2, num_workers=0, device=torch.device("cpu"), **kwargs
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
        large = Path(name) / "large"
        photographs(large, NUM_LARGE, LARGE)
        sides = [epoch(library, large, library.Resize(224), NUM_LARGE) for library in libraries]
        title = f"12 megapixels to Resize(224), {NUM_LARGE - 2} images"
        results.append(compare(title, sides[0], sides[1] if len(sides) > 1 else None, budget=0.5, rounds=5))
        whole = epoch(layered, large, Resize(224, reducing_gap=None), NUM_LARGE)
        results.append(compare(f"{title}, over decoding all of them", sides[0], whole, rounds=5))
        for kind, folder, count in (
            ("photographs", Path(name) / "small", NUM_IMAGES),
            ("12 megapixels", large, NUM_LARGE),
        ):
            if kind == "photographs":
                photographs(folder)
            for tfms in ([Resize(224, method="squish")], [RatioResize(288), RandomResizedCrop(224)]):
                kept, anew = (epoch(layered, folder, tfms, count, cache=cache) for cache in ("memory", None))
                names = " + ".join(type(tfm).__name__ for tfm in tfms)
                budget = (
                    0.2 if folder == large or len(tfms) == 1 else None
                )  # a crop of half a megapixel costs half of decoding it
                results.append(compare(f"{kind} to {names}, cached, over not", kept, anew, budget=budget, rounds=10))
    return results


if __name__ == "__main__":
    main()
