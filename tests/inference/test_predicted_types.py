"""Predictions keep the type of their target, and several inputs are predicted from a tuple of sources."""

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.basics import (
    CategoryBlock,
    DataBlock,
    IndexSplitter,
    Learner,
    MSELossFlat,
    Normalize,
    TensorImage,
    TensorMask,
)
from layered.vision.all import ImageBlock, MaskBlock, PILImage

RNG = np.random.default_rng(0)


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path in paths:
        PIL.Image.fromarray(RNG.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
    return paths


def test_a_predicted_mask_is_a_mask(files):
    dblock = DataBlock((ImageBlock, MaskBlock(["sky", "car"])), get_items=lambda x: files, splitter=IndexSplitter([4, 5]),
                       get_y=lambda path: torch.zeros(8, 8, dtype=torch.uint8))  # fmt: skip
    learn = Learner(dblock.dataloaders(None, bs=2, num_workers=0), nn.Conv2d(3, 2, 1))
    mask, decision, probabilities = learn.predict(files[0])
    assert type(mask) is TensorMask
    assert list(mask.codes) == ["sky", "car"]
    assert_close(mask.as_plain(), decision)
    assert_close(decision, probabilities.argmax(0))
    assert len(mask.show().images) == 1


def test_a_predicted_image_is_an_image_on_the_scale_of_images(files):
    dblock = DataBlock((ImageBlock, ImageBlock), get_items=lambda x: files, splitter=IndexSplitter([4, 5]),
                       batch_tfms=Normalize.from_stats([0.5] * 3, [0.25] * 3))  # fmt: skip
    learn = Learner(dblock.dataloaders(None, bs=2, num_workers=0), nn.Identity(), loss_func=MSELossFlat())
    image, _, _ = learn.predict(files[0])
    assert type(image) is TensorImage
    want = torch.from_numpy(np.asarray(PIL.Image.open(files[0]))).permute(2, 0, 1) / 255
    assert_close(image.as_plain(), want)


class Difference(nn.Module):
    def forward(self, a, b):
        return torch.stack([(a - b).mean((1, 2, 3)), (b - a).mean((1, 2, 3))], 1)


@pytest.mark.parametrize("as_images", [False, True])
def test_two_inputs_are_predicted_from_a_tuple(files, as_images):
    dblock = DataBlock((ImageBlock, ImageBlock, CategoryBlock), n_inp=2, get_items=lambda x: list(range(6)),
                       get_x=[lambda i: files[i], lambda i: files[-1 - i]], get_y=lambda i: "ab"[i % 2],
                       splitter=IndexSplitter([4, 5]))  # fmt: skip
    learn = Learner(dblock.dataloaders(None, bs=2, num_workers=0), Difference())
    one, other = files[0], files[3]
    pair = (PILImage.create(one), PILImage.create(other)) if as_images else (one, other)
    a, b = (torch.from_numpy(np.asarray(PIL.Image.open(f))).float().mean() / 255 for f in (one, other))
    want = torch.stack([a - b, b - a]).softmax(0)
    assert_close(learn.predict(pair)[2], want)
    assert_close(learn.get_preds(dl=learn.dls.test_dl([pair, pair]))[0], torch.stack([want, want]))
    assert_close(
        learn.predict(1)[2], learn.predict((files[1], files[4]))[2]
    )  # an item of the source goes through the getters
