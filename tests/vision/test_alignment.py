"""Masks lie on the pixels of their images, whatever sizes and sides up the files have, or are refused with both sizes."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from layered.data import DataBlock, Datasets, ItemGetter, RandomSplitter, ToTensor
from layered.foundation import BadItem, BadValue, TensorImage, TensorMask, noop, plain
from layered.vision import (
    BILINEAR,
    NEAREST,
    CropPad,
    DihedralItem,
    FlipItem,
    ImageBlock,
    MaskBlock,
    PILImage,
    PILMask,
    RandomCrop,
    RandomResizedCrop,
    RatioResize,
    Resize,
    aug_transforms,
)

TFMS = {
    "squish": Resize(32, method="squish"),
    "crop": Resize(32),
    "pad": Resize(32, method="pad", pad_mode="zeros"),
    "random window": RandomResizedCrop(32, min_scale=0.5),
    "fixed window": RandomCrop(40),
    "ratio": RatioResize(32),
    "crop or pad": CropPad(48),
    "flip": FlipItem(),
    "dihedral": DihedralItem(),
}


def drawn(width: int, height: int) -> tuple[Image.Image, Image.Image]:
    """An image, bright at the upper left, and a mask of class 1 there."""
    pixels, classes = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
    pixels[: height // 2, : width // 3], classes[: height // 2, : width // 3] = 255, 1
    return Image.fromarray(pixels), Image.fromarray(classes)


def stored(image: Image.Image, orientation: int) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    image.save(file, "png", exif=exif)
    return file.getvalue()


def lies_on(image: Image.Image, mask: Image.Image) -> bool:
    """Whether class 1 is where the image is bright, but for the pixels at the edge."""
    assert image.size == mask.size
    bright, inside = np.asarray(image)[..., 0] > 127, np.asarray(mask) == 1
    return float((bright == inside).mean()) > 0.9


@pytest.mark.parametrize("tfm", TFMS.values(), ids=TFMS)
@pytest.mark.parametrize("scale", [1, 0.5])
@pytest.mark.parametrize("orientation", [1, 5, 6, 7, 8])
def test_a_mask_of_the_stored_pixels_is_turned_and_scaled_with_its_image(orientation, scale, tfm):
    image, mask = drawn(96, 64)
    mask = mask.resize((round(96 * scale), round(64 * scale)), NEAREST)
    for split in (0, 0, 0, 1):
        pair = PILImage.create(stored(image, orientation)), PILMask.create(mask)
        moved = tfm(pair, split_idx=split)
        assert [type(o) for o in moved] == [PILImage, PILMask]
        assert lies_on(*moved)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_mask_of_the_upright_image_stays_as_it_is(orientation):
    image, mask = drawn(96, 64)
    file = stored(image, orientation)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(stored(mask, orientation))))
    if orientation >= 5:  # the sizes tell
        assert lies_on(*Resize(32)((PILImage.create(file), PILMask.create(upright)), split_idx=1))
    tagged = PILMask.create(stored(mask, orientation))  # the tag tells
    assert lies_on(*Resize(32)((PILImage.create(file), tagged), split_idx=1))


@pytest.mark.parametrize(("orientation", "size"), [(2, (96, 64)), (3, (96, 64)), (4, (96, 64)), (6, (64, 64))])
def test_where_the_sizes_do_not_tell_the_mask_is_refused(tmp_path, orientation, size):
    image, mask = drawn(*size)
    file = tmp_path / "a.png"
    file.write_bytes(stored(image, orientation))
    with pytest.raises(BadValue, match="whether to turn the mask") as caught:
        FlipItem()((PILImage.create(file), PILMask.create(mask)), split_idx=1)
    assert "96×64" in caught.value.got or "64×64" in caught.value.got
    Image.open(file).save(file)  # the second fix
    assert lies_on(*FlipItem()((PILImage.create(file), PILMask.create(mask)), split_idx=1))
    file.write_bytes(stored(image, orientation))
    ImageOps.exif_transpose(Image.open(file)).save(file)  # the first
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(stored(mask, orientation))))
    assert lies_on(*FlipItem()((PILImage.create(file), PILMask.create(upright)), split_idx=1))


def test_a_mask_of_another_aspect_ratio_is_refused_with_both_sizes():
    image, mask = drawn(96, 64)
    with pytest.raises(BadValue, match="does not fit its image") as caught:
        Resize(32)((PILImage.create(image), PILMask.create(mask.resize((64, 64)))))
    assert "96×64" in caught.value.got
    assert "64×64" in caught.value.got
    assert lies_on(
        *Resize(32)((PILImage.create(image), PILMask.create(mask.resize((64, 64)).resize((96, 64), NEAREST))))
    )


def pair_of_files(folder, orientations: tuple[int, int], size=(96, 64), scale=(1, 1)):
    """Two files of the same stored pixels, each with its tag, and a data set that has the one as input, the other as target."""
    image, _ = drawn(*size)
    for name, orientation, s in zip("xy", orientations, scale, strict=True):
        data = stored(image.resize((size[0] * s, size[1] * s), NEAREST), orientation)
        (folder / f"{name}.png").write_bytes(data)
    return Datasets(
        [(folder / "x.png", folder / "y.png")], [[ItemGetter(0), PILImage.create], [ItemGetter(1), PILImage.create]]
    )


@pytest.mark.parametrize("scale", [(1, 1), (1, 2), (2, 1)])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_of_two_pictures_that_belong_together_the_one_without_a_tag_is_turned_too(tmp_path, orientation, scale):
    for tags in ((orientation, 1), (1, orientation), (orientation, orientation)):
        x, y = pair_of_files(tmp_path, tags, scale=scale)[0]
        assert y.size == (x.width * scale[1] // scale[0], x.height * scale[1] // scale[0])
        small = Image.fromarray(np.asarray(y)).resize(x.size, NEAREST)
        assert np.abs(np.asarray(x, int) - np.asarray(small, int)).mean() < 5
        assert x.height > x.width


def test_where_sizes_do_not_tell_pictures_are_refused_and_pairs_of_photographs_are_not_touched(tmp_path):
    with pytest.raises(BadValue, match=r"(?s)whether to turn the target.*sample of item 0"):
        pair_of_files(tmp_path, (3, 1))[0]
    with pytest.raises(BadValue, match="whether to turn the other image"):
        pair_of_files(tmp_path, (1, 6), size=(64, 64))[0]
    dsets = pair_of_files(tmp_path, (6, 1))
    two_inputs = Datasets(tls=[*dsets.tls, *Datasets([0], [[noop]]).tls], n_inp=2)
    assert [image.size for image in two_inputs[0][:2]] == [(64, 96), (96, 64)]


def test_images_that_were_turned_are_not_changed_for_the_next_sample():
    image, mask = drawn(96, 64)
    pair = PILImage.create(stored(image, 6)), PILMask.create(mask)  # as items that are kept in memory
    for _ in range(2):
        assert lies_on(*Resize(32)(pair, split_idx=1))
        assert lies_on(*FlipItem(p=1)(FlipItem(p=1)(pair, split_idx=0), split_idx=0))


def test_a_random_window_shows_the_same_part_of_images_of_different_sizes():
    image, _ = drawn(96, 64)
    pair = PILImage.create(image), PILImage.create(image.resize((24, 16), BILINEAR))
    tfm = RandomResizedCrop(32, min_scale=0.3)
    for _ in range(10):
        large, small = (np.asarray(o).astype(int) for o in tfm(pair, split_idx=0))
        assert np.abs(large - small).mean() < 30


def test_blocks_and_data_sets_alike_and_errors_that_name_the_item(tmp_path):
    image, mask = drawn(96, 64)
    for i in range(10):
        (tmp_path / f"{i}.png").write_bytes(stored(image, 6))
    files = sorted(tmp_path.iterdir())
    block = DataBlock((ImageBlock, MaskBlock(["a", "b"])), get_y=lambda o: mask, item_tfms=Resize(32))
    dsets = Datasets(files, [[PILImage.create], [lambda o: mask, PILMask.create]], splits=RandomSplitter(0.5)(files))
    low = dsets.dataloaders(after_item=[Resize(32), ToTensor], bs=2, num_workers=0)
    for dls in (block.dataloaders(files, bs=2, num_workers=0), low):
        x, y = dls.train.one_batch()
        bright = plain(x).float().mean(1) > (0.5 if x.is_floating_point() else 127)
        assert (bright == (plain(y) == 1)).float().mean() > 0.9
    half = mask.resize((48, 32), NEAREST)
    bare = DataBlock((ImageBlock, MaskBlock(["a", "b"])), get_y=lambda o: half).dataloaders(files, bs=2, num_workers=0)
    assert [o.shape[-2:] for o in bare.one_batch()] == [(96, 64), (96, 64)]
    mask = mask.resize((10, 64))
    with pytest.raises((BadItem, BadValue), match=r"does not fit its image, when transforming item .*png"):
        block.dataloaders(files, bs=2, num_workers=0).one_batch()


def test_batches_move_only_with_targets_that_move_too():
    images = TensorImage(torch.rand(2, 3, 32, 32))
    (move, *_) = aug_transforms(max_lighting=0, size=16)
    with pytest.raises(BadValue, match="do not fit their images"):
        move((images, TensorMask(torch.zeros(2, 16, 16))), split_idx=0)
    with pytest.raises(BadValue, match="would not move with its image") as caught:
        move((images, torch.zeros(2, 32, 32)), split_idx=0)
    assert "TensorMask" in caught.value.fix
    x, y = move((images, TensorMask(torch.zeros(2, 32, 32, dtype=torch.int64))), split_idx=0)
    assert (x.shape, y.shape) == ((2, 3, 16, 16), (2, 16, 16))
    move((images, torch.zeros(2, 5)), split_idx=0)
