"""What all tests share. Its being here lets them import `counts`."""

import functools

import numpy as np
import pytest
import torch
from counts import LONG, SEED
from PIL import Image
from torch import nn

from layered.vision.all import ImageDataLoaders, Path, Resize, accuracy, vision_learner


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "soak: tries more where LAYERED_SOAK=1; `make soak` runs these alone")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if LONG:
        terminalreporter.write_line(
            f"LAYERED_SEED={SEED} repeats these tests of chance; their numbers are in their names"
        )


COLOURS = {"blue": (40, 60, 220), "green": (30, 200, 60), "red": (220, 40, 50)}


def small_net(pretrained: bool = False) -> nn.Module:
    """What a body is cut from, with batch norm and dropout: all that telling training from predicting could get wrong."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout2d(0.2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 3),
    )  # fmt: skip


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder for each colour, with 8 noisy pictures of 32×32 each."""
    folder, noise = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        for i in range(8):
            pixels = np.clip(np.array(colour) + noise.normal(0, 25, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{name}_{i}.png")
    return Path(folder)


@pytest.fixture
def dls(pictures):
    return ImageDataLoaders.from_folder(
        pictures, valid_pct=0.25, seed=0, item_tfms=Resize(32), bs=4, num_workers=0, device="cpu"
    )


@pytest.fixture
def learn(dls, tmp_path):
    torch.manual_seed(0)
    return vision_learner(dls, small_net, pretrained=False, metrics=accuracy, path=tmp_path)


@pytest.fixture
def known_operators(monkeypatch):
    """The exporter reads the sources of all its operators anew for each file, which takes half of the time of a test."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    monkeypatch.setattr(ONNXRegistry, "from_torchlib", staticmethod(_operators()))


@functools.cache
def _operators():
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    return functools.cache(ONNXRegistry.from_torchlib)
