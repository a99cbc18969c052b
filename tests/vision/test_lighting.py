"""Changes of light and colour."""

from __future__ import annotations

import pytest
import torch
import torchvision.transforms.v2.functional as tv
from hypothesis import given, settings, strategies as st
from sklearn.datasets import load_sample_images
from torch.testing import assert_close

from layered.foundation import BadValue, TensorImage, TensorImageBW, TensorMask, Tickets, drawing, key_of, sample_keys
from layered.vision import (
    Brightness,
    Contrast,
    HSVTfm,
    Hue,
    LightingTfm,
    Saturation,
    SpaceTfm,
    grayscale,
    hsv2rgb,
    lighting,
    rgb2hsv,
)

CHANGES = [Brightness(), Contrast(), Saturation(), Hue(), LightingTfm([Brightness(), Contrast(), Saturation()])]


def photos(count: int = 4) -> TensorImage:
    both = torch.tensor(load_sample_images().images[1]).permute(2, 0, 1)[None].float() / 255
    return TensorImage(both[..., ::8, ::8].repeat(count, 1, 1, 1))


@pytest.mark.parametrize("tfm", CHANGES, ids=repr)
def test_light_changes_in_training_only_and_stays_in_range(tfm):
    x = photos()
    before = x.clone()
    lit = tfm(x, split_idx=0)
    assert type(lit) is TensorImage
    assert tfm(x, split_idx=1) is x
    assert_close(x, before)
    assert lit.min() >= 0
    assert lit.max() <= 1
    assert not torch.equal(lit, x)
    assert torch.isfinite(lit).all()


@pytest.mark.parametrize("tfm", CHANGES, ids=repr)
def test_masks_and_labels_stay_as_they_are(tfm):
    mask = TensorMask(torch.ones(4, 5, 5, dtype=torch.int64))
    _, same, label = tfm((photos(), mask, 3), split_idx=0)
    assert same is mask
    assert label == 3


@pytest.mark.parametrize("tfm", CHANGES, ids=repr)
def test_an_image_is_lit_alike_in_any_batch(tfm):
    keys = sample_keys(key_of(3), torch.arange(6))
    with drawing(Tickets(keys, 1)):
        whole = tfm(photos(6), split_idx=0)
    parts = []
    for rows in (slice(0, 4), slice(4, 6)):
        with drawing(Tickets(keys[rows], 2)):
            parts.append(tfm(photos(6)[rows], split_idx=0))
    assert_close(torch.cat(parts), whole)


@pytest.mark.parametrize(
    "tfm", [Brightness(draw=0.5), Contrast(draw=1.0), Saturation(draw=1.0), Hue(draw=0.0), Hue(draw=1.0)], ids=repr
)
def test_the_neutral_draw_leaves_the_image(tfm):
    assert_close(tfm(photos(), split_idx=0), photos(), atol=2e-6, rtol=0)


def test_brightness_is_what_becomes_of_a_middle_grey():
    grey = TensorImage(torch.full((2, 3, 4, 4), 0.5))
    lit = Brightness(p=1.0, draw=[0.3, 0.8])(grey, split_idx=0)
    assert_close(lit[:, 0, 0, 0].as_plain(), torch.tensor([0.3, 0.8]))


@settings(deadline=None, max_examples=30)
@given(value=st.floats(0.01, 0.99), bright=st.floats(0.3, 0.7), factor=st.floats(0.5, 2.0))
def test_light_in_one_pass_is_the_formula(value, bright, factor):
    x = TensorImage(torch.full((1, 3, 1, 1), value))
    lit = LightingTfm([Brightness(p=1.0, draw=bright), Contrast(p=1.0, draw=factor)])(x, split_idx=0)
    odds = (value / (1 - value) * bright / (1 - bright)) ** factor
    assert_close(float(lit[0, 0, 0, 0]), odds / (1 + odds), atol=1e-5, rtol=1e-4)


def test_black_and_white_stay_what_they_are():
    x = TensorImage(torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2).expand(1, 3, 1, 2))
    lit = LightingTfm([Brightness(p=1.0, draw=0.6), Contrast(p=1.0, draw=0.8)])(x, split_idx=0)
    assert_close(lit, x, atol=1e-4, rtol=0)


def test_full_desaturation_is_grey_and_grey_images_are_left():
    lit = photos().saturation(draw=0.0)
    assert_close(lit[:, 0], lit[:, 1])
    assert_close(lit[:, 0], lit[:, 2])
    grey = TensorImageBW(grayscale(photos().as_plain()))
    assert_close(grey.saturation(draw=0.3), grey, atol=2e-6, rtol=0)
    assert_close(grey.hue(draw=0.3), grey)
    assert type(grey.hue(draw=0.3)) is TensorImageBW


@pytest.mark.parametrize("turns", [-0.3, 0.1, 0.5])
def test_hue_is_that_of_torchvision(turns):
    assert_close(photos().hue(draw=turns).as_plain(), tv.adjust_hue(photos().as_plain(), turns))


def test_colours_come_back_from_hue_saturation_and_value():
    x = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    x[0], x[1, :, 0] = 0.0, 1.0
    assert_close(hsv2rgb(rgb2hsv(x)), x, atol=2e-6, rtol=0)


def test_contrast_is_drawn_evenly_on_a_log_scale():
    factor = Contrast(max_lighting=0.2, p=1.0).draw_factor(torch.zeros(4000, 3, 1, 1))
    assert abs(float(factor.log().mean())) < 0.01
    assert 0.8 <= factor.min() < 0.81
    assert 1.24 < factor.max() <= 1.25


def test_bytes_are_refused_with_the_fix():
    with pytest.raises(BadValue, match="IntToFloatTensor"):
        Brightness()(TensorImage(torch.zeros(1, 3, 2, 2, dtype=torch.uint8)), split_idx=0)


def test_batch_draws_once_for_all_images():
    lit = LightingTfm([Brightness(batch=True), Contrast(batch=True)])(photos(), split_idx=0)
    assert_close(lit, lit[:1].expand_as(lit))


def test_hues_in_one_pass_are_those_of_torchvision_added():
    both = HSVTfm([Hue(p=1.0, draw=0.3), Hue(p=1.0, draw=-0.1)])(photos(), split_idx=0)
    assert_close(both.as_plain(), tv.adjust_hue(photos().as_plain(), 0.2))
    paler = HSVTfm([lambda o: o * torch.tensor([1.0, 0.0, 1.0])[:, None, None]])(photos(), split_idx=0)
    assert_close(paler.as_plain(), photos().as_plain().amax(1, keepdim=True).expand(-1, 3, -1, -1))


def test_functions_work_in_the_space_they_are_given():
    squared = SpaceTfm([lambda o: o + 1, lambda o: o * o], lambda x, change: change(x + 1))
    assert_close(squared(photos(), split_idx=0).as_plain(), (photos().as_plain() + 2) ** 2)
    lit = SpaceTfm([Contrast(p=1.0, draw=2.0), lambda logits: logits + 1], lighting)(photos(), split_idx=0)
    assert_close(lit.as_plain(), torch.sigmoid(2 * torch.logit(photos().as_plain(), 1e-7) + 1), atol=1e-5, rtol=1e-4)


def test_a_change_of_another_space_is_refused():
    with pytest.raises(BadValue, match="Hue changes colours in another space"):
        LightingTfm([Brightness(), Hue()])
