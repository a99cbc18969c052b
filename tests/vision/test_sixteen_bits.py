"""Grey images of 16 bits, kept at 16 bits from the file to floats in [0, 1]."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from layered.data import CategoryBlock, DataBlock, IndexSplitter, IntToFloatTensor, ToTensor
from layered.foundation import BadValue, TensorImageBW, functions
from layered.vision import (
    CropPad,
    DihedralItem,
    FlipItem,
    ImageBlock,
    PILImageBW,
    PILImageBW16,
    RandomResizedCrop,
    Resize,
)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, (40, 50)).astype(np.uint16)


@pytest.mark.parametrize("suffix", ["png", "tif", "ppm"])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_have_all_bits_of_the_files(pixels, tmp_path, suffix, workers):
    files = []
    for i in range(4):
        files.append(tmp_path / f"{i}.{suffix}")
        Image.fromarray(pixels + np.uint16(i)).save(files[-1])
    block = DataBlock(
        (ImageBlock(PILImageBW16), CategoryBlock), get_y=lambda f: int(f.stem) % 2, splitter=IndexSplitter([0, 1])
    )
    x, _ = block.dataloaders(files, bs=2, num_workers=workers, device="cpu").valid.one_batch()
    assert type(x) is TensorImageBW
    assert x.dtype == torch.float32
    assert 0 <= x.min() <= x.max() <= 1
    assert np.array_equal((x[1, 0].numpy() * 65535).round(), (pixels + np.uint16(1)).astype(np.float32))


@pytest.mark.parametrize("method", ["squish", "crop"])
def test_resizing_interpolates_all_bits(pixels, method):
    made = Resize((20, 30), method=method)(PILImageBW16.create(pixels), split_idx=1)
    assert type(made) is PILImageBW16
    seen = pixels if method == "squish" else pixels[4:37]
    expected = F.interpolate(
        torch.from_numpy(seen.astype(np.float32))[None, None], (20, 30), mode="bilinear", antialias=True
    )[0, 0]
    # PIL lets a pixel beyond a window count at its border
    assert np.abs(np.asarray(made).astype(np.float32) - expected.numpy())[1:-1].max() <= 1


@pytest.mark.parametrize("tfm", [CropPad(60), FlipItem(1.0), DihedralItem(), RandomResizedCrop(20)], ids=repr)
def test_item_transforms_keep_the_class_and_the_depth(pixels, tfm):
    made = tfm(PILImageBW16.create(pixels))
    assert type(made) is PILImageBW16
    assert made.mode == "I;16"
    assert ToTensor()(made).dtype == torch.uint16


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.array([[0, 1, 255]], np.uint8), [0, 257, 65535]),
        (np.array([[0.0, 0.25, 1.0]], np.float32), [0, 16384, 65535]),
        (torch.tensor([[0.0, 0.25, 1.0]]), [0, 16384, 65535]),
        (Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)), [0, 32768, 65535]),
        (Image.fromarray(np.array([[0, 300, 65535]], np.int32)), [0, 300, 65535]),
        (Image.new("RGB", (3, 1), "white"), [65535] * 3),
    ],
)
def test_other_depths_are_scaled_white_to_white(given, expected):
    assert np.asarray(PILImageBW16.create(given)).tolist() == [expected]


def test_floats_beyond_white_are_refused():
    with pytest.raises(BadValue, match="out of range"):
        PILImageBW16.create(np.array([[0.0, 2.0]], np.float32))


def test_eight_bits_stay_what_they_were(pixels):
    eight = PILImageBW.create(pixels)
    assert np.array_equal(np.asarray(eight), (pixels / 257).round().astype(np.uint8))
    made = IntToFloatTensor()(ToTensor()(eight))
    assert torch.equal(made, torch.from_numpy(np.array(eight)).float()[None] / 255)


def test_it_is_drawn_over_its_whole_range_and_known_to_exports(pixels):
    drawn = PILImageBW16.create(pixels).show().images[0]
    assert drawn.get_clim() == (0, 65535)
    assert functions.name_of(PILImageBW16.create) == "vision.PILImageBW16.create"
