"""Transforms of torchvision work unwrapped: on images and masks by one draw, never on labels, seeded by the ticket."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.transforms as v1
from PIL import Image
from torch import nn
from torch.testing import assert_close
from torchvision.transforms import v2

from layered.data import CategoryBlock, DataBlock, EndSplitter, TransformBlock
from layered.foundation import BadArgument, BadItem, BadValue, LayeredError, plain
from layered.training import Learner, load_learner
from layered.vision import ImageBlock, MaskBlock, PILImage, PILImageBW, PILMask, Resize, aug_transforms

NUMBERS = list(range(12))


def picture(n: int) -> Image.Image:
    """An image whose left part is bright; its width says which it is."""
    pixels = np.zeros((24, 24, 3), np.uint8)
    pixels[:, : 6 + n] = 200
    return Image.fromarray(pixels)


def classes(n: int) -> np.ndarray:
    return np.asarray(picture(n))[..., 0] > 100


def load(block=(ImageBlock, CategoryBlock), get_y=lambda n: n % 3, workers=0, **tfms):
    described = DataBlock(block, get_x=picture, get_y=get_y, splitter=EndSplitter(0.34), **tfms)
    return described.dataloaders(NUMBERS, bs=4, num_workers=workers, device="cpu", seed=1)


def segmentation(**tfms):
    return load((ImageBlock, MaskBlock(["dark", "bright"])), classes, **tfms)


RANDOM = [
    v2.RandomHorizontalFlip(0.5),
    v2.RandomResizedCrop(16),
    v2.RandomCrop(16),
    v2.RandomRotation(30),
    v2.RandomAffine(10, (0.2, 0.2)),
    v2.RandomPerspective(p=1.0),
    v2.Compose([v2.Resize((20, 20)), v2.RandomVerticalFlip(), v2.RandomHorizontalFlip()]),
    nn.Sequential(v2.RandomHorizontalFlip(), v2.ColorJitter(0.1)),
    v2.RandomApply([v2.RandomHorizontalFlip(1.0)], p=0.5),
]


@pytest.mark.parametrize("slot", ["item_tfms", "batch_tfms"])
@pytest.mark.parametrize("tfm", RANDOM, ids=repr)
def test_images_and_masks_move_together(tfm, slot):
    x, y = segmentation(**{slot: tfm}).train.one_batch()
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert 0 <= float(x.min()) <= float(x.max()) <= 1
    bright = plain(x).mean(1) > 0.39
    assert (bright == (plain(y) == 1)).float().mean() > 0.93


@pytest.mark.parametrize(
    "tfms",
    [
        {"item_tfms": [Resize(16), v2.ColorJitter(0.5)]},
        {"item_tfms": v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)])},
        {"item_tfms": v1.Compose([v1.ColorJitter(0.5), v1.ToTensor()])},
        {"item_tfms": [v1.RandomRotation(10), v2.Grayscale(1)]},
        {"batch_tfms": [*aug_transforms(), v2.GaussianBlur(3), v2.RandomErasing()]},
        {"batch_tfms": v1.GaussianBlur(3)},
    ],
    ids=repr,
)
def test_labels_are_left_alone_and_pixels_keep_their_range(tfms):
    dls = load(**tfms)
    for dl in dls:
        x, y = dl.one_batch()
        assert x.shape[:2] == (4, 3)
        assert 0.3 < float(x.max()) <= 1
        assert float(x.min()) >= 0
        assert set(y.tolist()) <= {0, 1, 2}
    expected = [n % 3 for n in NUMBERS[-4:]]
    assert dls.valid.one_batch()[1].tolist() == expected


def test_the_same_samples_for_any_number_of_workers():
    tfms = [v2.RandomHorizontalFlip(), v2.ColorJitter(0.5)]
    (a, _), (b, _) = (load(item_tfms=tfms, workers=workers).train.one_batch() for workers in (0, 2))
    assert_close(a, b)


def test_random_ones_apply_in_training_only_and_the_others_everywhere():
    plain_dls, dls = load(), load(item_tfms=v2.Compose([v2.CenterCrop(20), v2.ColorJitter((3.0, 3.0))]))
    assert_close(dls.valid.one_batch()[0], plain_dls.valid.one_batch()[0][..., 2:22, 2:22])
    assert float(dls.train.one_batch()[0].max()) > float(plain_dls.train.one_batch()[0].max())
    assert load(item_tfms=v2.RandomCrop(16)).valid.one_batch()[0].shape[-2:] == (16, 16)


def test_results_agree_with_torchvision():
    tfm = v2.Compose([v2.Resize((10, 10)), v2.CenterCrop(8)])
    x, _ = load(item_tfms=tfm).valid.one_batch()
    direct = tfm(v2.functional.to_image(picture(NUMBERS[-4])))
    assert_close(plain(x[0]), direct / 255)


def test_steps_run_in_the_order_given():
    assert load(item_tfms=[Resize(16), v2.CenterCrop(8)]).one_batch()[0].shape[-1] == 8
    assert load(item_tfms=[v2.CenterCrop(8), Resize(16)]).one_batch()[0].shape[-1] == 16


def test_grey_images_stay_grey():
    x, _ = load((ImageBlock(PILImageBW), CategoryBlock), item_tfms=v2.RandomHorizontalFlip(1.0)).train.one_batch()
    assert x.shape[1] == 1
    assert float(x[..., -1].min()) > 0.5


@pytest.mark.parametrize(
    ("tfms", "said", "fix"),
    [
        ({"item_tfms": v2.Normalize([0.5], [0.2])}, "torchvision", "Normalize.from_stats([0.5], [0.2])"),
        ({"batch_tfms": v1.Compose([v1.Normalize([0.5], [0.2])])}, "torchvision", "Normalize.from_stats([0.5], [0.2])"),
        ({"batch_tfms": v2.MixUp(num_classes=3)}, "torchvision", "cbs=MixUp()"),
        ({"item_tfms": v2.RandomHorizontalFlip}, "RandomHorizontalFlip", "RandomHorizontalFlip(...)"),
    ],
)
def test_what_cannot_be_adapted_is_refused_with_the_fix(tfms, said, fix):
    with pytest.raises(BadArgument, match=said) as caught:
        load(**tfms)
    assert fix in caught.value.fix


def test_the_first_version_is_refused_where_it_would_draw_twice():
    with pytest.raises(LayeredError, match="one image at a time") as caught:
        segmentation(item_tfms=v1.RandomHorizontalFlip()).train.one_batch()
    assert "v2.RandomHorizontalFlip" in caught.value.fix


def test_pixels_that_were_normalised_and_tensors_without_a_meaning_are_refused():
    with pytest.raises(LayeredError, match="Normalize"):
        load(item_tfms=v2.Lambda(lambda x: x.float() - 1)).one_batch()
    block = DataBlock(
        (TransformBlock, CategoryBlock),
        get_x=lambda n: torch.rand(3, 8, 8),
        get_y=lambda n: n % 3,
        item_tfms=v2.Resize(4),
    )
    with pytest.raises((BadItem, BadValue), match="found no image") as caught:
        block.dataloaders(NUMBERS, bs=2, num_workers=0).one_batch()
    assert "TensorImage" in caught.value.fix


def test_an_export_leaves_out_what_applies_in_training_only(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    learn = Learner(load(item_tfms=[Resize(16), v2.ColorJitter(0.5)]), model, path=tmp_path)
    again = load_learner(learn.export("a.layered"))
    assert_close(again.predict(picture(3))[2], learn.predict(picture(3))[2])


def test_single_images_and_pil_images_keep_their_class():
    from layered.vision.torchvision_transforms import TorchvisionTransform

    flip = TorchvisionTransform(v2.RandomHorizontalFlip(1.0))
    for kind in (PILImage, PILImageBW, PILMask):
        assert type(flip(kind.create(picture(1)), split_idx=0)) is kind
    assert flip(picture(1).convert("L"), split_idx=0).mode == "L"
