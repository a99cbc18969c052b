"""`load_learner` of a ResNet-18 over what it cannot do without: to read and hash the file, and to lay out the model."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

import torch
import torchvision

from benchmarks.predict import learner
from benchmarks.runner import Result, compare
from layered.training import load_learner


def by_hand(path: Path) -> torch.nn.Module:
    hashlib.sha256(path.read_bytes()).hexdigest()
    with torch.device("meta"):
        model: torch.nn.Module = torchvision.models.resnet18()
    return model


def main() -> list[Result]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(learner("layered.vision.all").export(Path(folder) / "resnet18.layered"))
        return [
            compare(
                "load_learner of a ResNet-18",
                lambda: load_learner(path),
                lambda: by_hand(path),
                budget=1.30,
                rounds=20,
            )
        ]


if __name__ == "__main__":
    sys.exit(not all(result.ok for result in main()))
