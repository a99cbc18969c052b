"""`predict` of one photograph, from its JPEG file, over the same steps written by hand, and over the peer's `predict`."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.runner import Result, compare, has_peer
from layered.vision.all import imagenet_stats

SIZE = 224
PHOTOS = [str(files("sklearn.datasets.images") / name) for name in ("china.jpg", "flower.jpg")]


def learner(app: str) -> Any:
    """An untrained ResNet-18 for two classes of photographs, written with the names of one side."""
    names: dict[str, Any] = {}
    exec(f"from {app} import *", names)
    block = names["DataBlock"](
        blocks=(names["ImageBlock"], names["CategoryBlock"]),
        get_y=lambda path: Path(path).stem,
        splitter=names["IndexSplitter"]([2, 3]),
        item_tfms=names["Resize"](SIZE),
        batch_tfms=names["Normalize"].from_stats(*imagenet_stats),
    )
    dls = block.dataloaders(PHOTOS * 2, bs=2, num_workers=0, device="cpu")
    return names["vision_learner"](dls, names["resnet18"], pretrained=False)


def read(path: str) -> Tensor:
    """The photograph as the model sees it: float [batch, channel, height, width], normalised."""
    image = Image.open(path).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side + 1) // 2, (image.height - side + 1) // 2
    image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    mean, std = (torch.tensor(stat)[:, None, None] for stat in imagenet_stats)
    return ((pixels / 255 - mean) / std)[None]


def by_hand(model: nn.Module, path: str) -> tuple[int, Tensor]:
    with torch.inference_mode():
        probabilities = model(read(path)).softmax(1)[0]
        return int(probabilities.argmax()), probabilities


def main() -> list[Result]:
    torch.set_num_threads(1)
    path = PHOTOS[0]
    learn = learner("layered.vision.all")
    seen = learn.dls.test_dl([path]).one_batch()[0]
    assert (seen - read(path)).abs().mean() < 0.5 / 255 / min(imagenet_stats[1]), "both sides see the same pixels"
    model = learn.model.eval()
    results = [
        compare(
            "predict one photograph, over by hand",
            lambda: learn.predict(path),
            lambda: by_hand(model, path),
            budget=1.10,
        )
    ]
    if has_peer("fastai"):
        peer = learner("fastai.vision.all")
        with peer.no_bar():
            results.append(
                compare("predict one photograph, over fastai", lambda: learn.predict(path), lambda: peer.predict(path))
            )
    return results


if __name__ == "__main__":
    sys.exit(not all(result.ok for result in main()))
