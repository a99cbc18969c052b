"""The usual augmentation, and erasing."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from layered.data import Normalize
from layered.foundation import (
    BadValue,
    Pipeline,
    TensorImage,
    TensorMask,
    Tickets,
    drawing,
    key_of,
    sample_keys,
    transforms,
)
from layered.vision import (
    AffineCoordTfm,
    Brightness,
    Contrast,
    Dihedral,
    Flip,
    Hue,
    LightingTfm,
    RandomErasing,
    RandomResizedCropGPU,
    Rotate,
    Warp,
    Zoom,
    aug_transforms,
    cutout_gaussian,
    norm_apply_denorm,
    setup_aug_tfms,
)


def images(count: int = 4, height: int = 32, width: int = 32) -> TensorImage:
    return TensorImage(torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)))


def test_the_default_is_one_motion_and_one_change_of_light():
    motion, light = aug_transforms()
    assert type(motion) is AffineCoordTfm
    assert type(light) is LightingTfm
    assert [type(t) for t in motion.tfms] == [Flip, Warp, Rotate, Zoom]
    assert [type(t) for t in light.tfms] == [Brightness, Contrast]
    assert (motion.order, light.order) == (30, 40)
    flip, warp, rotate, zoom = motion.tfms
    assert (flip.p, warp.p, rotate.p, zoom.p) == (0.5, 0.75, 0.75, 0.75)
    assert (warp.magnitude, rotate.max_deg, zoom.max_zoom) == (0.2, 10.0, 1.1)


def test_mult_scales_rotation_light_and_warp():
    motion, light = aug_transforms(mult=2)
    _, warp, rotate, zoom = motion.tfms
    assert (warp.magnitude, rotate.max_deg, zoom.max_zoom) == (0.4, 20.0, 1.1)
    assert light.tfms[0].max_lighting == 0.4


def test_parts_can_be_left_out():
    assert aug_transforms(do_flip=False, max_rotate=0, max_zoom=1.0, max_warp=0, max_lighting=0) == []
    (motion,) = aug_transforms(flip_vert=True, max_rotate=0, max_zoom=1.0, max_warp=0, max_lighting=0)
    assert [type(t) for t in motion.tfms] == [Dihedral]


def test_a_size_alone_still_resizes():
    (motion,) = aug_transforms(do_flip=False, max_rotate=0, max_zoom=1.0, max_warp=0, max_lighting=0, size=16)
    assert motion(images(), split_idx=1).shape == (4, 3, 16, 16)


@pytest.mark.parametrize("split_idx", [0, 1])
def test_a_window_of_random_area_takes_over_the_resize(split_idx):
    tfms = Pipeline(aug_transforms(size=(24, 20), min_scale=0.75), split_idx=split_idx)
    x, mask = tfms((images(), TensorMask(torch.zeros(4, 32, 32, dtype=torch.int64))))
    assert x.shape == (4, 3, 24, 20)
    assert mask.shape == (4, 24, 20)


def test_more_transforms_come_behind():
    tfms = aug_transforms(xtra_tfms=[RandomErasing(), Hue()])
    assert [type(t) for t in tfms] == [AffineCoordTfm, LightingTfm, RandomErasing, Hue]


def test_batch_treats_all_images_alike():
    x = TensorImage(images(1).expand(4, -1, -1, -1))
    out = Pipeline(aug_transforms(batch=True), split_idx=0)(x)
    assert_close(out, out[:1].expand_as(out))


def test_the_same_tickets_give_the_same_batch():
    def once() -> torch.Tensor:
        with drawing(Tickets(sample_keys(key_of(1), torch.arange(4)), 5)):
            return Pipeline([*aug_transforms(), RandomErasing()], split_idx=0)(images())

    assert torch.equal(once(), once())


def test_validation_batches_pass_untouched():
    x = images()
    assert Pipeline([*aug_transforms(), RandomErasing()], split_idx=1)(x) is x


def test_transforms_given_apart_become_one_each():
    made = setup_aug_tfms([Rotate(draw=30, p=1, size=24), Contrast(), Zoom(draw=1.2, p=1.0, size=24), Brightness()])
    assert [type(t) for t in made] == [AffineCoordTfm, LightingTfm]
    assert made[0](images(), split_idx=0).shape == (4, 3, 24, 24)


def test_composed_ones_can_be_composed_again():
    motion, light = setup_aug_tfms([*aug_transforms(), Rotate(), Brightness()])
    assert [type(t) for t in motion.tfms] == [Flip, Warp, Rotate, Zoom, Rotate]
    assert [type(t) for t in light.tfms] == [Brightness, Contrast, Brightness]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"max_lighting": 1.0}, "out of range"), ({"mult": 6}, "out of range"), ({"min_scale": 0.5}, "needs a size")],
)
def test_what_makes_no_sense_is_refused(kwargs, message):
    with pytest.raises(BadValue, match=message):
        aug_transforms(**kwargs)


EVERY = [Flip(), Dihedral(), Rotate(5.0), Zoom(), Warp(), RandomResizedCropGPU(8), Brightness(), Hue(), RandomErasing()]


@pytest.mark.parametrize("tfm", EVERY, ids=repr)
def test_each_is_registered_and_can_be_made_again(tfm):
    again = transforms.get(type(tfm).__name__).from_init_args(tfm.init_args)
    assert repr(again) == repr(tfm)

    def once(t) -> torch.Tensor:
        with drawing(Tickets(sample_keys(key_of(1), torch.arange(4)), 5)):
            return t(images(), split_idx=0)

    assert torch.equal(once(again), once(tfm))


def test_image_methods_take_the_arguments_of_their_transform():
    x = images()
    assert_close(x.flip_lr(), x.flip(-1))
    assert x.affine_coord(sz=(8, 10)).shape == (4, 3, 8, 10)
    assert x.zoom(draw=1.5, size=8).shape == (4, 3, 8, 8)
    assert_close(x.lighting(lambda z: z + 1), (x.logit() + 1).sigmoid(), atol=1e-5, rtol=0)
    assert x.dihedral(4).shape == x.shape
    with pytest.raises(TypeError):
        x.rotate(degrees=3)


def test_a_look_at_what_is_done_to_normalised_images():
    x, nrm = images(), Normalize([0.4, 0.5, 0.6], [0.2, 0.3, 0.1])
    brighter = norm_apply_denorm(x, lambda o: o + 1, nrm).as_plain()
    assert_close(brighter, (x.as_plain() + torch.tensor([0.2, 0.3, 0.1])[:, None, None]).clamp(0, 1))


class TestErasing:
    def test_noise_fills_the_given_rectangles(self):
        x = torch.full((50, 3, 20, 30), 9.0)
        with drawing(Tickets(key_of(1))):
            cut = cutout_gaussian(x, [(0, 10, 5, 30), (8, 20, 0, 6)])
        with drawing(Tickets(key_of(1))):
            assert torch.equal(cutout_gaussian(x, [(0, 10, 5, 30), (8, 20, 0, 6)]), cut)
        filled = torch.zeros(20, 30, dtype=torch.bool)
        filled[:10, 5:] = filled[8:, :6] = True
        assert torch.equal(cut == 9, ~filled.expand_as(cut))
        assert abs(float(cut[..., filled].mean())) < 0.02
        assert abs(float(cut[..., filled].std()) - 1) < 0.02
        assert x.eq(9).all()

    def test_noise_has_mean_zero_and_deviation_one_after_normalising(self):
        erased = RandomErasing(p=1.0, sl=0.25, sh=0.25)(
            Normalize(0.0, 1e-4)(TensorImage(torch.ones(50, 3, 32, 32))), split_idx=0
        )
        noise = erased[erased < 1000].as_plain()
        assert abs(len(noise) / erased.numel() - 0.25) < 0.03
        assert abs(float(noise.mean())) < 0.05
        assert abs(float(noise.std()) - 1) < 0.05

    def test_p_is_the_share_of_images(self):
        erased = RandomErasing(p=0.5, sl=0.1)(images(300), split_idx=0) != images(300)
        assert 0.4 < erased.flatten(1).any(1).float().mean() < 0.6

    def test_an_image_is_erased_alike_in_any_batch(self):
        keys = sample_keys(key_of(3), torch.arange(4))
        with drawing(Tickets(keys, 1)):
            whole = RandomErasing(max_count=3)(images(), split_idx=0)
        with drawing(Tickets(keys[2:], 2)):
            part = RandomErasing(max_count=3)(images()[2:], split_idx=0)
        assert_close(part, whole[2:])

    def test_the_batch_itself_stays_as_it_was(self):
        x = images()
        RandomErasing(p=1.0)(x, split_idx=0)
        assert_close(x, images())
