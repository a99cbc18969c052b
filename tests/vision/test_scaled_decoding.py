"""JPEGs that loaders decode at a part of their size: as the whole file would look, at half the cost."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from layered.data import CategoryBlock, DataBlock, Deferral, IndexSplitter, deferring
from layered.foundation import BadImage, Pipeline, Tickets, drawing, key_of
from layered.vision import (
    FlipItem,
    ImageBlock,
    MaskBlock,
    PILImage,
    PILImageBW,
    PILMask,
    PointBlock,
    RandomResizedCrop,
    RatioResize,
    Resize,
    TensorPoint,
)
from layered.vision.jpeg import _SOURCE_BOX, Jpeg


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """2561x1709: no multiple of eight."""
    return Image.fromarray(load_sample_images().images[0]).resize((2561, 1709), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, orientation: int = 1, **kwargs: object) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    image.save(file, "jpeg", quality=92, exif=exif, **kwargs)
    return file.getvalue()


def in_loader(cls: type[PILImage], data: bytes) -> PILImage:
    with deferring(Deferral.PIXELS):
        return cls.create(data)


def whole(data: bytes, box: tuple[int, int, int, int], shape: tuple[int, int]) -> torch.Tensor:
    """The window by an independent way: all pixels, turned by PIL, resized by torch."""
    with Image.open(io.BytesIO(data)) as image:
        pixels = torch.from_numpy(np.array(ImageOps.exif_transpose(image).convert("RGB").crop(box))).permute(2, 0, 1)
    return F.interpolate(pixels[None].float(), shape, mode="bilinear", antialias=True)[0]


def assert_close(made: object, expected: torch.Tensor) -> None:
    difference = (torch.from_numpy(np.array(made)).permute(2, 0, 1).float() - expected).abs()
    assert difference.mean() < 1
    assert difference.flatten().kthvalue(int(0.999 * difference.numel())).values <= 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("subsampling", [0, 2])
def test_a_window_is_that_of_the_whole_image_however_the_camera_was_held(photo, orientation, subsampling):
    data = jpeg(photo, orientation, subsampling=subsampling)
    image = in_loader(PILImage, data)
    width, height = image.size
    assert (width, height) == ((1709, 2561) if orientation >= 5 else (2561, 1709))
    box = (103, 57, width - 11, height - 401)
    assert_close(image.jpeg.resized((90, 120), Image.Resampling.BILINEAR, box, 2.0, "RGB"), whole(data, box, (90, 120)))
    assert image.jpeg is not None  # not decoded


@pytest.mark.parametrize("turn", list(Image.Transpose))
def test_turning_a_file_turns_its_windows(photo, turn):
    data = jpeg(photo, 6)
    image = in_loader(PILImage, data).transpose(turn)
    assert image.jpeg is not None
    expected = PILImage.create(data).transpose(turn)
    assert image.size == expected.size
    box = (31, 64, 1600, 1500)
    made = image.jpeg.resized((64, 64), Image.Resampling.BILINEAR, box, 2.0, "RGB")
    pixels = torch.from_numpy(np.asarray(expected.crop(box)).copy()).permute(2, 0, 1)
    assert_close(made, F.interpolate(pixels[None].float(), (64, 64), mode="bilinear", antialias=True)[0])
    assert np.array_equal(np.asarray(image), np.asarray(expected))


@pytest.mark.parametrize("turn", list(_SOURCE_BOX))
def test_a_window_of_a_turned_image_is_found_in_the_one_before(turn):
    image = Image.fromarray(np.arange(35, dtype=np.uint8).reshape(5, 7))
    box = (1, 2, 4, 5)
    before = image.crop(_SOURCE_BOX[turn](box, image.size))
    assert np.array_equal(np.asarray(before.transpose(turn)), np.asarray(image.transpose(turn).crop(box)))


@pytest.mark.parametrize(
    "tfm",
    [
        Resize(100),
        Resize((60, 100), method="squish"),
        Resize(100, method="pad"),
        RandomResizedCrop(64),
        RatioResize(90),
        Pipeline([FlipItem(1.0), Resize(80)]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("split_idx", [0, 1])
def test_transforms_make_of_it_what_they_make_of_the_whole(photo, tfm, split_idx):
    data, results = jpeg(photo), []
    for image in (in_loader(PILImage, data), PILImage.create(data)):
        with drawing(Tickets(key_of("here"))):
            made = Pipeline([tfm], split_idx=split_idx)(image)
        results.append(made)
    assert results[0].size == results[1].size
    assert_close(results[0], torch.from_numpy(np.asarray(results[1]).copy()).permute(2, 0, 1).float())


def test_the_switch_decodes_the_whole_bit_for_bit(photo):
    data = jpeg(photo)
    made = [Resize(100, reducing_gap=gap)(image, split_idx=1)
            for gap, image in ((None, in_loader(PILImage, data)), (2.0, PILImage.create(data)))]  # fmt: skip
    assert np.array_equal(*map(np.asarray, made))
    scaled = Resize(100)(in_loader(PILImage, data), split_idx=1)
    assert not np.array_equal(np.asarray(scaled), np.asarray(made[0]))


def test_small_images_are_decoded_whole(photo):
    data = jpeg(photo)
    assert (
        in_loader(PILImage, data).jpeg.resized((860, 860), Image.Resampling.BILINEAR, (0, 0, 1709, 1709), 2.0, "RGB")
        is None
    )


@pytest.mark.parametrize("cls", [PILImage, PILImageBW])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_what_needs_all_pixels_gets_them(photo, cls, mode):
    data = jpeg(photo.convert(mode).resize((64, 48)), 3)
    image = in_loader(cls, data)
    assert image.jpeg is not None
    assert np.array_equal(np.asarray(image), np.asarray(cls.create(data)))
    assert image.jpeg is None


def test_masks_and_other_formats_do_not_wait(photo):
    png = io.BytesIO()
    photo.resize((20, 10)).save(png, "png")
    assert in_loader(PILImage, png.getvalue()).jpeg is None
    assert in_loader(PILMask, jpeg(photo.convert("L"))).jpeg is None


def test_a_file_with_several_pictures_gives_the_first(photo):
    file = io.BytesIO()
    photo.save(file, "mpo", save_all=True, append_images=[photo.transpose(Image.Transpose.ROTATE_180)], quality=92)
    box = (0, 0, 1709, 1709)
    made = in_loader(PILImage, file.getvalue()).jpeg.resized((100, 100), Image.Resampling.BILINEAR, box, 2.0, "RGB")
    assert_close(made, whole(jpeg(photo), box, (100, 100)))


class Own(PILImage):
    @classmethod
    def read(cls, source: object) -> Image.Image:
        return Image.new("RGB", (8, 6), "red")


def test_a_class_that_reads_by_itself_is_asked(photo):
    assert in_loader(Own, jpeg(photo)).size == (8, 6)


def folder_of(tmp_path, data: bytes, n: int = 6):
    files = [tmp_path / f"{i}.jpg" for i in range(n)]
    for file in files:
        file.write_bytes(data)
    return files


@pytest.mark.parametrize("workers", [0, 2])
def test_targets_stay_in_the_pixels_of_the_whole_image(photo, tmp_path, workers):
    files = folder_of(tmp_path, jpeg(photo, 6))  # 1709 wide, 2561 high
    block = DataBlock(
        (ImageBlock, MaskBlock, PointBlock),
        n_inp=1,
        get_y=[lambda f: np.eye(2561, 1709, dtype=np.uint8), lambda f: TensorPoint.create((1709 / 2, 2561 / 2))],
        splitter=IndexSplitter([0, 1]),
        item_tfms=Resize(64, method="squish"),
    )
    x, mask, points = block.dataloaders(files, bs=2, num_workers=workers, device="cpu").valid.one_batch()
    assert x.shape == (2, 3, 64, 64)
    expected = PILMask.create(np.eye(2561, 1709, dtype=np.uint8)).resize((64, 64), Image.Resampling.NEAREST)
    assert np.array_equal(mask[0].numpy(), np.asarray(expected))
    assert points.abs().max() < 1e-6


def test_any_number_of_workers_and_predictions_see_the_same_pixels(photo, tmp_path):
    files = folder_of(tmp_path, jpeg(photo))
    block = DataBlock((ImageBlock, CategoryBlock), get_y=lambda f: int(f.stem) % 2, splitter=IndexSplitter([0, 1]),
                      item_tfms=RandomResizedCrop(48))  # fmt: skip
    batches = []
    for workers in (0, 2):
        dls = block.dataloaders(files, bs=2, num_workers=workers, device="cpu", seed=7)
        batches.append([x for x, _ in dls.train])
        x, _ = dls.valid.one_batch()
    assert all(map(torch.equal, *batches))
    alone = dls.test_dl([files[0]], num_workers=0).one_batch()[0]
    assert torch.equal(alone[0], x[0])


def test_a_file_that_ends_too_early_is_named(photo, tmp_path):
    files = folder_of(tmp_path, jpeg(photo))
    files[0].write_bytes(files[0].read_bytes()[:4000])
    block = DataBlock((ImageBlock, CategoryBlock), get_y=lambda f: int(f.stem) % 2, splitter=IndexSplitter([0, 1]),
                      item_tfms=Resize(48))  # fmt: skip
    with pytest.raises(BadImage, match=r"0\.jpg"):
        block.dataloaders(files, bs=2, num_workers=0, device="cpu").valid.one_batch()


def test_a_tag_that_means_nothing_turns_nothing(photo):
    assert Jpeg.opened(jpeg(photo, 9)).size == photo.size
