"""Motions of a batch: one map, one interpolation."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as tv
from hypothesis import given, settings, strategies as st
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.testing import assert_close
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import _get_perspective_coeffs

from layered.data import DataLoader
from layered.foundation import BadValue, TensorImage, TensorMask, Tickets, drawing, key_of, sample_keys
from layered.vision import (
    AffineCoordTfm,
    DeterministicDihedral,
    DeterministicDraw,
    DeterministicFlip,
    Dihedral,
    Flip,
    RandomResizedCropGPU,
    Rotate,
    Warp,
    Zoom,
    affine_coord,
    affine_grid,
    affine_mat,
    apply_perspective,
    find_coeffs,
    mask_tensor,
    warp_mat,
)
from layered.vision.maps import crop_mat

MOTIONS = [Flip(), Dihedral(), Rotate(), Zoom(), Warp(), RandomResizedCropGPU(None), Rotate(p=1, batch=True)]


def photos(count: int = 4, height: int = 48, width: int = 64) -> TensorImage:
    both = torch.tensor(load_sample_images().images[0]).permute(2, 0, 1)[None].float() / 255
    small = F.interpolate(both, (height, width), mode="bilinear", antialias=True)
    return TensorImage(torch.cat([small.roll(7 * i, -1) for i in range(count)]))


def noise(count: int = 4, size: int = 9) -> TensorImage:
    return TensorImage(torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)))


def tickets(count: int, first: int = 0) -> Tickets:
    return Tickets(sample_keys(key_of(1), torch.arange(first, first + count)), key_of(2))


@pytest.mark.parametrize("tfm", MOTIONS, ids=repr)
def test_training_moves_validation_does_not(tfm):
    x = photos()
    assert tfm(x, split_idx=1) is x
    moved = tfm(x, split_idx=0)
    assert type(moved) is TensorImage
    assert moved.shape == x.shape


@pytest.mark.parametrize("tfm", [t for t in MOTIONS if not t.__dict__.get("batch")], ids=repr)
def test_an_image_is_moved_alike_in_any_batch(tfm):
    x = photos(6)
    with drawing(tickets(6)):
        whole = tfm(x, split_idx=0)
    parts = []
    for first, last in ((0, 2), (2, 3), (3, 6)):
        with drawing(tickets(last - first, first)):
            parts.append(tfm(x[first:last], split_idx=0))
    assert_close(torch.cat(parts), whole)
    assert any(not torch.equal(whole[0].roll(7 * i, -1), whole[i]) for i in range(1, 6))


def test_batch_draws_once_for_all_images():
    x = TensorImage(photos(1).expand(5, -1, -1, -1))
    moved = Rotate(p=1.0, batch=True)(x, split_idx=0)
    assert_close(moved, moved[:1].expand_as(moved))


def test_flip_mirrors_and_twice_is_once_back():
    x = photos()
    flip = Flip(p=1.0)
    assert_close(flip(x), x.flip(-1), atol=1e-4, rtol=0)
    assert_close(flip(flip(x)), x, atol=1e-4, rtol=0)


@settings(deadline=None, max_examples=25)
@given(degrees=st.floats(-180, 180), zoom=st.floats(0.6, 2.0), tilt=st.floats(-0.3, 0.3))
def test_motions_in_one_are_their_matrices_multiplied(degrees, zoom, tilt):
    x = noise()
    parts = [
        Rotate(draw=degrees, p=1.0),
        Zoom(draw=zoom, draw_x=0.3, draw_y=0.6, p=1.0),
        Warp(draw_x=tilt, draw_y=-tilt, p=1.0),
    ]
    maps = [part.train_mat(x) for part in parts]
    composed = AffineCoordTfm(parts).train_mat(x)
    assert_close(composed, maps[0] @ maps[1] @ maps[2])
    assert_close(AffineCoordTfm(parts)(x).as_plain(), affine_coord(x.as_plain(), composed))


def test_one_interpolation_is_near_one_after_the_other():
    x = photos(1, 96, 96)
    parts = [
        Rotate(draw=8.0, p=1.0),
        Zoom(draw=1.3, draw_x=0.5, draw_y=0.5, p=1.0),
        Warp(draw_x=0.1, draw_y=0.1, p=1.0),
    ]
    at_once, in_turn = AffineCoordTfm(parts)(x), parts[2](parts[1](parts[0](x)))
    inner = (..., slice(16, -16), slice(16, -16))
    assert (at_once - in_turn)[inner].abs().mean() < 0.03
    assert (at_once - x)[inner].abs().mean() > 0.05


@pytest.mark.parametrize(
    "tfm", [Rotate(draw=0.0, p=1.0), Zoom(draw=1.0, p=1.0), Warp(draw_x=0.0, draw_y=0.0, p=1.0)], ids=repr
)
def test_no_motion_leaves_the_image(tfm):
    assert_close(tfm(photos()), photos(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("degrees", [15.0, -40.0, 90.0])
def test_rotation_is_that_of_torchvision_in_whole_pixels_of_a_wide_image(degrees):
    x = photos(2)
    ours = x.rotate(draw=degrees).as_plain()
    theirs = tv.rotate(x.as_plain(), -degrees, interpolation=InterpolationMode.BILINEAR)
    inside = tv.rotate(torch.ones_like(theirs), -degrees, interpolation=InterpolationMode.BILINEAR) > 0.999
    assert (ours - theirs)[inside].abs().mean() < 0.01


def test_zoom_is_a_crop_resized():
    x = photos(1, 65, 65)
    ours = Zoom(draw=2.0, draw_x=0.0, draw_y=1.0, p=1.0)(x)
    corner = F.interpolate(x.as_plain()[..., 32:, :33], (65, 65), mode="bilinear", align_corners=True)
    assert_close(ours.as_plain(), corner, atol=1e-4, rtol=0)


def test_warp_shows_the_corners_it_promises():
    mat = warp_mat(photos(), draw_x=0.2, draw_y=-0.1, p=1.0)[0]
    corners = torch.tensor([[-1.0, -1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, 1]])
    places = corners @ mat.T
    expected = torch.tensor([[-0.9, -1.2], [-1.1, 1.2], [0.9, -0.8], [1.1, 0.8]])
    assert_close(places[:, :2] / places[:, 2:], expected)


def test_warp_is_the_perspective_of_torchvision():
    x = photos(1, 65, 65)
    ours = Warp(draw_x=0.2, draw_y=0.1, p=1.0)(x).as_plain()
    square = [[0, 0], [64, 0], [64, 64], [0, 64]]
    shown = [[(1 + px) * 32, (1 + py) * 32] for px, py in ((-1.1, -1.2), (1.1, -0.8), (0.9, 0.8), (-0.9, 1.2))]
    theirs = tv.perspective(x.as_plain(), shown, square)
    inside = tv.perspective(torch.ones_like(theirs), shown, square) > 0.999
    assert (ours - theirs)[inside].abs().mean() < 0.01


def test_dihedral_makes_the_eight_of_a_square():
    x = noise(8)
    x = TensorImage(x[:1].expand(8, -1, -1, -1))
    made = Dihedral(p=1.0, draw=list(range(8)))(x).as_plain()
    square = x[0].as_plain()
    eight = [square.rot90(k, (1, 2)) for k in range(4)] + [square.flip(-1).rot90(k, (1, 2)) for k in range(4)]
    nearest = torch.stack([torch.stack([(a - b).abs().max() for b in eight]) for a in made])
    assert nearest.argmin(1).unique().numel() == 8
    assert nearest.amin(1).max() < 1e-4
    assert_close(made[1], square.flip(-1), atol=1e-4, rtol=0)


def test_masks_go_with_their_image_by_nearest_pixels():
    x = photos()
    mask = TensorMask((x.as_plain()[:, 0] * 4).long())
    tfm = AffineCoordTfm([Flip(), Rotate(p=1.0), Zoom(p=1.0), Warp(p=1.0)])
    moved, moved_mask, label = tfm((x, mask, torch.tensor(3)), split_idx=0)
    assert type(moved_mask) is TensorMask
    assert moved_mask.dtype == torch.int64
    assert moved_mask.shape == mask.shape
    assert set(moved_mask.unique().tolist()) <= set(mask.unique().tolist())
    assert ((moved.as_plain()[:, 0] * 4).long() == moved_mask.as_plain()).float().mean() > 0.8
    assert label == 3


def test_images_masks_and_smaller_images_of_a_batch_lie_where_torch_samples_them():
    x = photos()
    mask, small = TensorMask((x.as_plain()[:, 0] * 4).long()), TensorImage(x.as_plain()[..., ::2, ::2].contiguous())
    moved = AffineCoordTfm([Flip(p=1.0), Zoom(p=1.0, draw=1.5, draw_x=0.3, draw_y=0.6)])((x, mask, small), split_idx=0)
    theta = torch.tensor([[-1 / 1.5, 0.0, (1 - 1 / 1.5) * 0.4], [0.0, 1 / 1.5, (1 - 1 / 1.5) * 0.2]])
    for plain, made, mode in (
        (x, moved[0], "bilinear"),
        (mask[:, None], moved[1][:, None], "nearest"),
        (small, moved[2], "bilinear"),
    ):
        plain = plain.as_subclass(Tensor).float()
        grid = F.affine_grid(theta.expand(len(plain), 2, 3), list(plain.shape), align_corners=True)
        expected = F.grid_sample(plain, grid, mode=mode, padding_mode="reflection", align_corners=True)
        assert_close(made.as_subclass(Tensor).float(), expected, atol=1e-4, rtol=0)


def test_a_size_resizes_validation_batches_too():
    tfm = AffineCoordTfm([Rotate(p=1.0)], size=(24, 32))
    assert tfm(photos(), split_idx=0).shape == (4, 3, 24, 32)
    expected = F.interpolate(photos().as_plain(), (24, 32), mode="bilinear", align_corners=True)
    assert_close(tfm(photos(), split_idx=1).as_plain(), expected, atol=1e-4, rtol=0)
    mask = TensorMask(torch.zeros(4, 48, 64, dtype=torch.int64))
    assert tfm(mask, split_idx=1).shape == (4, 24, 32)


def test_bytes_and_halves_keep_their_number_type():
    x = TensorImage((photos().as_plain() * 255).byte())
    assert Rotate(p=1.0)(x).dtype == torch.uint8
    assert Rotate(p=1.0)(photos().half()).dtype == torch.float16


def test_single_images_are_moved_as_well():
    x = photos()[0]
    assert_close(x.rotate(draw=20.0), photos().rotate(draw=20.0)[0])


@pytest.mark.parametrize("align_corners", [True, False])
def test_the_grid_is_that_of_torch(align_corners):
    mat = torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(0))
    ours = affine_grid(mat, (5, 7), align_corners)
    assert_close(ours, F.affine_grid(mat, [3, 1, 5, 7], align_corners=align_corners))


def test_a_projective_grid_divides_by_the_last_coordinate():
    mat = torch.tensor([[[1.0, 0.2, 0.1], [0.0, 0.8, 0.3], [0.2, -0.1, 1.0]]])
    grid = affine_grid(mat, (3, 4))
    x, y = -1 + 2 * 2 / 3, 0.0  # row 1, column 2
    last = 0.2 * x - 0.1 * y + 1
    assert_close(grid[0, 1, 2], torch.tensor([(x + 0.2 * y + 0.1) / last, (0.8 * y + 0.3) / last]))


def test_random_windows_keep_area_and_shape_in_their_ranges():
    x = TensorImage(torch.zeros(2000, 3, 100, 150))
    mat = crop_mat(x, 0.25, 1.0, (3 / 4, 4 / 3))
    across, down = mat[:, 0, 0], mat[:, 1, 1]
    area, ratio = across * down, across * 150 / (down * 100)
    assert 0.25 - 1e-4 <= area.min() < 0.3
    assert 0.75 - 1e-4 <= ratio.min() < 0.8
    assert 1.25 < ratio.max() <= 4 / 3 + 1e-4
    assert (mat[:, 0, 2].abs() <= 1 - across + 1e-5).all()
    assert (mat[:, 1, 2].abs() <= 1 - down + 1e-5).all()


def test_the_largest_window_in_the_middle_stands_in_where_none_fits():
    mat = crop_mat(TensorImage(torch.zeros(3, 3, 10, 1000)), 0.9, 1.0, (1.0, 1.0))
    assert_close(mat, affine_mat(torch.full((3,), 0.01), 0.0, 0.0, 0.0, 1.0, 0.0))


def test_a_window_for_validation_is_the_middle():
    x = photos(1, 65, 65)
    out = RandomResizedCropGPU(33, valid_scale=0.5)(x, split_idx=1)
    assert_close(out.as_plain(), x.as_plain()[..., 16:49, 16:49], atol=1e-4, rtol=0)


def test_draw_may_be_a_number_a_list_or_a_function():
    x = photos()
    by_list = x.rotate(draw=[0.0, 10.0, 20.0, 30.0])
    assert_close(by_list[0], x[0], atol=1e-4, rtol=0)
    assert_close(by_list[2], x.rotate(draw=20.0)[2])
    assert_close(x.rotate(draw=lambda b: torch.arange(len(b)) * 10), by_list)
    with pytest.raises(BadValue, match="too few"):
        x.rotate(draw=[1.0, 2.0])


def test_p_is_the_share_of_images_that_move():
    x = TensorImage(torch.zeros(4000, 1, 2, 2))
    for tfm in (Rotate(p=0.75), Zoom(p=0.75), Warp(p=0.75)):
        still = (tfm.train_mat(x) == torch.eye(3)).all(-1).all(-1).float().mean()
        assert 0.22 < still < 0.28


def test_angles_are_drawn_evenly_in_both_directions():
    mat = Rotate(max_deg=10.0, p=1.0).train_mat(TensorImage(torch.zeros(4000, 1, 8, 8)))
    degrees = torch.atan2(mat[:, 0, 1], mat[:, 0, 0]).rad2deg()
    counts = torch.histc(degrees, 5, -10, 10)
    assert_close(counts, torch.full((5,), 800.0), atol=120, rtol=0)


def test_thin_lines_survive_a_strong_reduction():
    x = TensorImage(torch.zeros(1, 1, 256, 256))
    x[..., 100] = 1.0
    small = affine_coord(x.as_plain(), sz=32)
    assert math.isclose(float(small.sum()) * 64, float(x.sum()), rel_tol=0.3)


def test_two_sizes_cannot_become_one():
    with pytest.raises(BadValue, match="different sizes"):
        AffineCoordTfm.compose([Rotate(size=10), Zoom(size=20)])


def test_the_batch_itself_stays_as_it_was():
    x: Tensor = photos()
    before = x.clone()
    AffineCoordTfm([Flip(), Rotate(), Zoom(), Warp()])(x, split_idx=0)
    assert_close(x, before)


def test_numbers_come_in_turn():
    draw = DeterministicDraw([0, 1, 2])
    assert [draw(torch.zeros(10, 2, 3)).tolist() for _ in range(5)] == [[float(i % 3)] * 10 for i in range(5)]


def test_every_second_batch_is_mirrored():
    x, flip = photos(), DeterministicFlip()
    for mirrored in (False, True, False):
        assert_close(flip(x, split_idx=0), x.flip(-1) if mirrored else x, atol=1e-4, rtol=0)
    assert flip(x, split_idx=1) is x


def test_the_eight_symmetries_come_in_turn():
    x, turn = noise(), DeterministicDihedral()
    turned = [turn(x, split_idx=0).as_plain() for _ in range(9)]
    symmetries = [tv.rotate(o, 90.0 * k) for o in (x.as_plain(), x.as_plain().flip(-1)) for k in range(4)]
    for wanted in symmetries:
        assert sum(torch.allclose(o, wanted, atol=1e-5) for o in turned[:8]) == 1
    assert_close(turned[8], turned[0])


def test_in_a_loader_the_number_of_the_batch_decides():
    dl = DataLoader([TensorImage(torch.arange(2.0).reshape(1, 1, 2))] * 6, bs=2, after_batch=DeterministicFlip())
    for _ in range(2):
        assert [float(x[0, 0, 0, 0]) for x in dl] == [0.0, 1.0, 0.0]


def test_kept_numbers_and_neutral_ones():
    kept = mask_tensor(torch.full((4000,), 7.0), 0.25, neutral=1.0)
    assert set(kept.tolist()) == {1.0, 7.0}
    assert 0.2 < (kept == 7).float().mean() < 0.3
    assert len(mask_tensor(torch.arange(5.0) + 1, 0.5, batch=True).unique()) in (1, 5)


def test_coefficients_of_a_perspective_are_those_of_torchvision():
    here = torch.tensor([[[-1.0, -1], [-1, 1], [1, -1], [1, 1]]])
    there = here + torch.tensor([[[0.1, -0.2], [0.0, 0.3], [-0.2, 0.1], [0.05, 0.0]]])
    coeffs = find_coeffs(there, here)
    assert coeffs.shape == (1, 8, 1)
    assert_close(apply_perspective(here, coeffs), there)
    theirs = _get_perspective_coeffs(there[0].tolist(), here[0].tolist())  # from the end points back to the start
    assert_close(coeffs.flatten(), torch.tensor(theirs), atol=1e-5, rtol=1e-5)
    middle = apply_perspective(torch.zeros(1, 5, 3, 2), coeffs)
    assert_close(middle, coeffs[0, [2, 5], 0].expand(1, 5, 3, 2))


def test_warp_is_the_perspective_of_its_corners():
    here = torch.tensor([[[-1.0, -1], [-1, 1], [1, -1], [1, 1]]])
    there = torch.tensor([[[-0.9, -1.2], [-1.1, 1.2], [0.9, -0.8], [1.1, 0.8]]])
    mat = warp_mat(photos(1), draw_x=0.2, draw_y=-0.1, p=1.0)
    assert_close(mat.flatten()[:8] / mat[0, 2, 2], find_coeffs(there, here).flatten())


@pytest.mark.parametrize("tfm", [Flip(p=1.0, draw=0), Flip(draw=[1, -1, 1, 2]), Dihedral(draw=8)], ids=repr)
def test_a_given_draw_without_a_meaning_is_refused(tfm):
    with pytest.raises(BadValue, match="draw="):
        tfm(photos(), split_idx=0)
