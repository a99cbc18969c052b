"""Methods of tensors: points and boxes go where the pixels of their image go."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from torch.testing import assert_close

from layered.foundation import BadValue
from layered.vision.all import (
    Dihedral,
    Flip,
    Rotate,
    TensorBBox,
    TensorImage,
    TensorMask,
    TensorPoint,
    TensorTypes,
    Warp,
    Zoom,
    affine_mat,
    hsv2rgb,
    rgb2hsv,
)

SIZE = (60, 40)
MOTIONS = {
    "flip_batch": (Flip, {"draw": -1.0}),
    "dihedral_batch": (Dihedral, {"draw": 4}),
    "rotate": (Rotate, {"draw": 30.0}),
    "zoom": (Zoom, {"draw": 1.5, "draw_x": 0.2, "draw_y": 0.9}),
    "warp": (Warp, {"draw_x": 0.1, "draw_y": -0.2}),
}


def images(count: int = 2) -> TensorImage:
    return TensorImage(torch.rand(count, 3, SIZE[1], SIZE[0], generator=torch.Generator().manual_seed(0)))


def targets() -> tuple[TensorPoint, TensorBBox]:
    draws = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(1))
    boxes = torch.cat((draws[..., :2] * 0.5 - 0.7, draws[..., 2:] * 0.5 + 0.1), -1)
    return TensorPoint(draws[..., :2] - 0.5), TensorBBox(boxes)


def test_what_moves_together_is_named():
    assert TensorTypes == (TensorImage, TensorMask, TensorPoint, TensorBBox)


@pytest.mark.parametrize("size", [None, (30, 50)], ids=["same size", "resized"])
@pytest.mark.parametrize("name", MOTIONS)
def test_points_and_boxes_move_as_they_do_beside_their_image(name, size):
    kind, how = MOTIONS[name]
    points, boxes = targets()
    _, *beside = kind(p=1.0, size=size, **how)((images(), points, boxes), split_idx=0)
    for target, wanted in zip((points, boxes), beside, strict=True):
        alone = getattr(target, name)(p=1.0, size=size, img_size=SIZE, **how)
        assert type(alone) is type(target)
        assert_close(alone, wanted)


@pytest.mark.parametrize("name", MOTIONS)
def test_points_in_pixels_stay_in_pixels(name):
    points, _ = targets()
    pixels = TensorPoint((points.as_plain() + 1) / 2 * torch.tensor(SIZE), img_size=SIZE)
    moved = getattr(pixels, name)(p=1.0, size=(30, 50), **MOTIONS[name][1])
    wanted = getattr(points, name)(p=1.0, size=(30, 50), img_size=SIZE, **MOTIONS[name][1])
    assert moved.img_size == (50, 30)
    assert_close(moved.as_plain() / torch.tensor((50, 30)) * 2 - 1, wanted.as_plain())


def test_points_turn_as_the_formula_says():
    turned = TensorPoint.create([40, 20], img_size=SIZE).rotate(draw=90.0, align_corners=False)
    assert_close(turned.as_plain(), torch.tensor([[30.0, 30.0]]))  # clockwise, about the middle
    assert_close(TensorPoint([[0.5, 0.2]]).zoom(draw=2.0, draw_x=0.5, draw_y=0.5), TensorPoint([[1.0, 0.4]]))


def test_mirrored_points_and_boxes():
    points, boxes = targets()
    x, y = points.as_plain().unbind(-1)
    assert_close(points.flip_lr().as_plain(), torch.stack((-x, y), -1))
    left, top, right, bottom = boxes.as_plain().unbind(-1)
    assert_close(boxes.flip_lr().as_plain(), torch.stack((-right, top, -left, bottom), -1))
    assert_close(points.dihedral(4, img_size=(40, 40)).as_plain(), torch.stack((y, x), -1))


def test_points_under_a_map_of_the_user():
    points, _ = targets()
    halves = affine_mat(torch.tensor([0.5, 1.0]), 0.0, 0.0, 0.0, 1.0, 0.0)
    moved = points.affine_coord(halves, align_corners=False)
    assert_close(moved[0, :, 0].as_plain(), 2 * points[0, :, 0].as_plain())
    assert_close(moved[1], points[1])
    assert points.affine_coord(sz=7) is points


@pytest.mark.parametrize("name", ["rotate", "dihedral_batch"])
def test_what_needs_the_size_of_the_image_says_so(name):
    with pytest.raises(BadValue, match="img_size"):
        getattr(targets()[0], name)(draw=1)


def test_flip_batch_mirrors_half_of_the_images():
    x = images(1).expand(400, -1, -1, -1)[..., :8, :8]
    mirrored = (x.flip_batch() - x).abs().flatten(1).amax(1) > 0.1
    assert 150 < mirrored.sum() < 250
    mask = TensorMask(torch.arange(8).expand(400, 8, 8))
    assert set(mask.flip_batch()[:, 0, 0].tolist()) == {0, 7}
    assert len({tuple(o.flatten().tolist()) for o in x.dihedral_batch()}) > 6


def test_a_class_names_its_methods_as_functions():
    assert_close(TensorImage.flip_lr(images()), images().flip(-1))


def test_hue_saturation_and_value_are_those_of_torchvision():
    def paler(pixels):
        return pixels * torch.tensor([1.0, 0.5, 1.0])[:, None, None]

    assert_close(images().hsv(paler).as_plain(), hsv2rgb(paler(rgb2hsv(images().as_plain()))))
    assert_close(images().hsv(lambda o: o).as_plain(), images().as_plain(), atol=2e-6, rtol=0)
    shifted = images().hsv(lambda o: torch.cat(((o[:, :1] + 0.2) % 1, o[:, 1:]), 1))
    assert_close(shifted.as_plain(), tv.adjust_hue(images().as_plain(), 0.2))
    grey = TensorImage(np.full((1, 1, 2, 2), 0.5, np.float32))
    assert grey.hsv(paler) is not None
    assert_close(grey.hsv(paler), grey)
