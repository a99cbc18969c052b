"""Sizes, crops and flips of single images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torchvision.transforms.v2.functional as tv
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from layered.foundation import BadValue, Tickets, drawing, transforms
from layered.vision import (
    CropPad,
    DihedralItem,
    FlipItem,
    OldRandomCrop,
    PILImage,
    PILMask,
    RandomCrop,
    RandomResizedCrop,
    RatioResize,
    Resize,
    ResizeMethod,
)

EVERY = [
    Resize(32), Resize((24, 40)), Resize(32, "pad"), Resize(32, ResizeMethod.Squish), RandomCrop(16), RandomCrop(70),
    CropPad(16), CropPad((99, 10), "border"), RandomResizedCrop(32), RatioResize(32), FlipItem(), DihedralItem(),
]  # fmt: skip


def picture(height: int = 60, width: int = 90, seed: int = 0) -> PILImage:
    return PILImage.create(np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8))


def gradient(height: int, width: int) -> PILImage:
    """Red grows to the right and green downwards, so that a pixel tells where it comes from."""
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return PILImage.create(np.stack((red, green, np.zeros_like(red)), -1).round().astype(np.uint8))


@pytest.mark.parametrize("tfm", EVERY, ids=repr)
@pytest.mark.parametrize("split_idx", [None, 0, 1])
def test_an_image_and_its_mask_go_the_same_way(tfm, split_idx):
    values = np.random.default_rng(1).integers(0, 2, (60, 90)).astype(np.uint8) * 255
    values = np.kron(values[::10, ::10], np.ones((10, 10), np.uint8))  # blocks, so that interpolation blurs edges only
    image, mask, label = tfm((PILImage.create(values), PILMask.create(values), "a"), split_idx=split_idx)
    assert type(image) is PILImage
    assert type(mask) is PILMask
    assert label == "a"
    assert image.size == mask.size
    assert set(np.unique(np.asarray(mask))) <= {0, 255}
    agree = (np.asarray(image)[..., 0] > 127) == (np.asarray(mask) > 127)
    assert agree.mean() > 0.9


@pytest.mark.parametrize("tfm", EVERY, ids=repr)
def test_a_ticket_decides_what_is_drawn(tfm):
    def once(key: int) -> np.ndarray:
        with drawing(Tickets(key)):
            return np.asarray(tfm(picture(), split_idx=0))

    assert_array_equal(once(5), once(5))
    is_random = type(tfm) not in (CropPad, RatioResize) and tfm.init_args.get("method") != "squish"
    assert is_random == any(once(key).tobytes() != once(5).tobytes() for key in range(20))


@pytest.mark.parametrize("tfm", EVERY, ids=repr)
def test_what_was_given_describes_the_transform(tfm):
    again = type(tfm).from_init_args(tfm.init_args)
    assert transforms.get(type(tfm).__name__) is type(tfm)
    assert_array_equal(np.asarray(again(picture(), split_idx=1)), np.asarray(tfm(picture(), split_idx=1)))


@settings(deadline=None, max_examples=50)
@given(
    height=st.integers(1, 40), width=st.integers(1, 40), size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    method=st.sampled_from(["crop", "pad", "squish"]), pad_mode=st.sampled_from(["zeros", "border", "reflection"]),
    split_idx=st.sampled_from([0, 1]),
)  # fmt: skip
def test_resize_gives_the_size_whatever_the_image(height, width, size, method, pad_mode, split_idx):
    out = Resize(size, method, pad_mode)(picture(height, width), split_idx=split_idx)
    assert out.shape == size
    assert RandomResizedCrop(size)(picture(height, width), split_idx=split_idx).shape == size
    assert RandomCrop(size)(picture(height, width), split_idx=split_idx).shape == size


@pytest.mark.parametrize("resample", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.NEAREST])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_squish_is_the_resize_of_pil(resample, mode):
    image = picture().convert(mode)
    ours = np.asarray(Resize((20, 50), "squish", resamples=(resample, Image.Resampling.NEAREST))(image)).astype(int)
    assert_allclose(ours, np.asarray(image.resize((50, 20), resample)).astype(int), atol=1)


def test_crop_for_validation_is_the_middle_at_full_height():
    ours = np.asarray(Resize(30)(picture(60, 90), split_idx=1)).astype(int)
    middle = tv.center_crop(Image.fromarray(np.asarray(picture(60, 90))), [60, 60])
    theirs = np.asarray(tv.resize(middle, [30, 30])).astype(int)
    assert_array_equal(ours[:, 1:-1], theirs[:, 1:-1])  # at the cut, our filter also sees pixels beyond it


def test_crop_in_training_slides_along_the_longer_side_only():
    lefts = set()
    for key in range(30):
        with drawing(Tickets(key)):
            out = np.asarray(Resize(50)(gradient(50, 150), split_idx=0))
        assert_allclose(out[:, 0, 1], np.linspace(0, 255, 50), atol=2)
        lefts.add(int(out[0, 0, 0]))
    assert min(lefts) < 30
    assert max(lefts) > 130


def test_padding_by_zeros_leaves_the_whole_image_in_the_middle():
    out = np.asarray(
        Resize(40, "pad", pad_mode="zeros")(PILImage.create(np.full((20, 40, 3), 200, np.uint8)), split_idx=1)
    )
    assert (out[10:30] == 200).all()
    assert (out[:10] == 0).all()
    assert (out[30:] == 0).all()


def test_padding_by_reflection_mirrors():
    out = np.asarray(Resize(40, "pad")(gradient(20, 40), split_idx=1))
    assert_array_equal(out[9::-1][:10], out[11:21])


def test_crop_pad_keeps_the_middle():
    assert_array_equal(np.asarray(CropPad(20)(picture(60, 90))), np.asarray(picture(60, 90))[20:40, 35:55])


def test_random_crop_reaches_every_corner_and_the_middle_for_validation():
    corners = set()
    for key in range(200):
        with drawing(Tickets(key)):
            out = np.asarray(RandomCrop(8)(gradient(10, 10), split_idx=0))
        corners.add(tuple(out[0, 0, :2].tolist()))
    assert len(corners) == 9
    assert_array_equal(np.asarray(RandomCrop(8)(gradient(10, 10), split_idx=1)), np.asarray(gradient(10, 10))[1:9, 1:9])


def test_what_a_fixed_window_shows_outside():
    assert OldRandomCrop is RandomCrop
    wide = np.asarray(OldRandomCrop((10, 14), pad_mode="border")(gradient(10, 10), split_idx=1))
    assert_array_equal(wide, np.pad(np.asarray(gradient(10, 10)), ((0, 0), (2, 2), (0, 0)), mode="edge"))


def test_random_resized_crop_keeps_area_and_shape_in_their_ranges():
    areas, ratios = [], []
    for key in range(300):
        with drawing(Tickets(key)):
            out = np.asarray(RandomResizedCrop(64, min_scale=0.3)(gradient(200, 200), split_idx=0)).astype(float)
        width, height = (np.ptp(out[..., i]) / 255 for i in (0, 1))
        areas.append(width * height)
        ratios.append(width / height)
    assert 0.25 < min(areas) < 0.4
    assert 0.85 < max(areas) <= 1.02
    assert 0.7 < min(ratios) < 0.85
    assert 1.2 < max(ratios) < 1.4
    assert abs(np.mean(np.log(ratios))) < 0.03


def test_random_resized_crop_takes_the_largest_window_of_an_extreme_image():
    out = np.asarray(RandomResizedCrop(32, min_scale=0.9)(gradient(20, 400), split_idx=0))
    assert np.ptp(out[..., 1]) > 230  # the whole height
    assert 10 < np.ptp(out[..., 0]) < 25  # 4/3 of it in width


def test_random_resized_crop_validates_on_the_middle_of_the_stretched_image():
    out = np.asarray(RandomResizedCrop(224)(picture(300, 400), split_idx=1)).astype(int)
    extra = math.ceil(224 * 0.14 / 8) * 8
    whole = tv.resize(Image.fromarray(np.asarray(picture(300, 400))), [224 + extra] * 2)
    assert_allclose(out, np.asarray(tv.center_crop(whole, [224, 224])).astype(int), atol=1)


def test_ratio_resize_keeps_the_shape():
    assert RatioResize(45)(picture(60, 90)).shape == (30, 45)


def test_flips_happen_in_training_only_for_their_share():
    image = picture()
    flipped = [
        not np.array_equal(np.asarray(FlipItem(p=0.25)(image, split_idx=0)), np.asarray(image)) for _ in range(400)
    ]
    assert 0.15 < np.mean(flipped) < 0.35
    assert FlipItem(p=1.0)(image, split_idx=1) is image
    assert_array_equal(np.asarray(FlipItem(p=1.0)(image, split_idx=0)), np.asarray(image)[:, ::-1])


def test_dihedral_makes_all_eight_of_a_square():
    made = {np.asarray(DihedralItem()(picture(8, 8), split_idx=0)).tobytes() for _ in range(200)}
    assert len(made) == 8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Resize(64, "crob"), "did you mean 'crop'"),
        (lambda: Resize(64, pad_mode="reflect"), "did you mean 'reflection'"),
        (lambda: Resize(0), "invalid image size"),
        (lambda: Resize((3, 4, 5)), "invalid image size"),
        (lambda: RandomCrop("32"), "invalid image size"),
    ],
)
def test_a_wrong_argument_is_refused_when_the_transform_is_made(make, message):
    with pytest.raises(BadValue, match=message):
        make()


def test_a_misspelt_keyword_is_refused():
    with pytest.raises(TypeError, match="metod"):
        Resize(64, metod="crop")
