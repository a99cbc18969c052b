"""Images of PIL with a class of their own."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image

from layered.data import ToTensor
from layered.foundation import TensorImage, TensorImageBW, TensorMask, functions, tensor
from layered.vision import PILBase, PILImage, PILImageBW, PILMask, pil, reading


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)


@pytest.mark.parametrize(
    ("kind", "mode", "meaning", "shape"),
    [
        (PILImage, "RGB", TensorImage, (3, 20, 30)),
        (PILImageBW, "L", TensorImageBW, (1, 20, 30)),
        (PILMask, "L", TensorMask, (20, 30)),
    ],
)
def test_each_class_has_its_mode_and_its_tensor(pixels, kind, mode, meaning, shape):
    image = kind.create(pixels)
    assert type(image) is kind
    assert image.mode == mode
    made = ToTensor()(image)
    assert type(made) is meaning
    assert made.shape == shape
    assert made.dtype == torch.uint8


def test_a_class_of_ones_own_needs_two_lines(pixels):
    class WithAlpha(PILBase):
        tensor_type, read_mode = TensorImage, "RGBA"

    assert ToTensor()(WithAlpha.create(pixels)).shape == (4, 20, 30)


def test_size_is_width_first_and_shape_height_first(pixels):
    image = PILImage.create(pixels)
    assert image.size == (30, 20)
    assert image.shape == (20, 30)
    assert image.n_px == 600
    assert image.aspect == 1.5
    assert repr(image) == "PILImage mode=RGB size=30x20"


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_and_pickles_keep_class_and_pixels(pixels, how):
    again = how(PILImage.create(pixels))
    assert type(again) is PILImage
    assert_array_equal(np.asarray(again), pixels)


def test_create_gives_back_what_is_one_already_and_reads_what_tensors_hold(pixels):
    image = PILImage.create(pixels)
    assert PILImage.create(image) is image
    assert_array_equal(np.asarray(PILImage.create(ToTensor()(image))), pixels)
    file = io.BytesIO()
    image.save(file, "png")
    assert_array_equal(np.asarray(PILImage.create(file.getvalue())), pixels)


def test_images_of_one_file_share_pixels_until_one_is_changed(pixels):
    source = Image.fromarray(pixels.copy())
    image = PILImage.recast(source)
    image.putpixel((0, 0), (1, 2, 3))
    source.putpixel((1, 0), (4, 5, 6))
    assert source.getpixel((0, 0)) == tuple(pixels[0, 0])
    assert image.getpixel((1, 0)) == tuple(pixels[0, 1])


@pytest.fixture(params=[(0, True), (1, False), (2, True)], ids=["4:4:4 progressive", "4:2:2", "4:2:0 progressive"])
def jpeg(request, pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).resize((301, 203)).save(
        file, "jpeg", subsampling=request.param[0], progressive=request.param[1]
    )
    return file.getvalue()


def test_a_jpeg_has_the_pixels_that_pil_reads_whoever_asks_first(jpeg):
    expected = np.asarray(Image.open(io.BytesIO(jpeg)))
    image = PILImage.create(jpeg)
    assert image.pixels is not None
    assert image.size == (301, 203)
    assert_array_equal(ToTensor()(image).permute(1, 2, 0).numpy(), expected)
    assert_array_equal(np.asarray(image), expected)
    assert image.pixels is None
    assert_array_equal(ToTensor()(image).permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize(
    "use",
    [
        lambda o: o.crop((1, 2, 30, 40)), lambda o: o.transpose(Image.Transpose.ROTATE_90), lambda o: o.convert("L"),
        lambda o: o.to_thumb(20), lambda o: o.copy(), lambda o: pickle.loads(pickle.dumps(o)), lambda o: o.rotate(10),
        lambda o: o.split()[1], lambda o: Image.blend(o, o, 0.5), lambda o: PILImageBW.create(o), copy.deepcopy,
        lambda o: PILBase.recast(o), lambda o: o.resize((5, 6)), lambda o: Image.open(io.BytesIO(o.to_bytes_format())),
    ],
)  # fmt: skip
def test_pil_works_on_a_jpeg_as_on_any_image(jpeg, use):
    plain = PILImage.recast(Image.open(io.BytesIO(jpeg)))
    assert_array_equal(np.asarray(use(PILImage.create(jpeg))), np.asarray(use(plain)))


def test_without_the_fast_decoder_pil_reads_the_same_pixels(jpeg, monkeypatch):
    fast = ToTensor()(PILImage.create(jpeg))
    monkeypatch.setattr(reading, "_jpeg_decoder", lambda: None)
    slow = PILImage.create(jpeg)
    assert slow.pixels is None
    assert torch.equal(ToTensor()(slow), fast)


def test_drawing_on_a_jpeg_shows_in_its_tensor(jpeg):
    image = PILImage.create(jpeg)
    image.putpixel((0, 0), (9, 8, 7))
    assert ToTensor()(image)[:, 0, 0].tolist() == [9, 8, 7]


def test_a_tensor_does_not_share_memory_with_its_image(jpeg):
    image = PILImage.create(jpeg)
    before = ToTensor()(image).clone()
    ToTensor()(image).zero_()
    assert torch.equal(ToTensor()(image), before)


def test_thumbs_and_limits_keep_proportions_and_the_original(pixels):
    image = PILImage.create(pixels)
    assert image.to_thumb(10).size == (10, 7)
    assert image.to_thumb(10, 30).size == (15, 10)
    assert image.resize_max(max_h=10).size == (15, 10)
    assert image.resize_max(max_px=150).size == (15, 10)
    assert image.resize_max(max_w=100) is image
    assert image.reshape(5, 7).shape == (5, 7)
    assert image.size == (30, 20)
    assert type(image.to_thumb(4)) is PILImage


def test_to_bytes_format_writes_a_file(pixels):
    assert_array_equal(np.asarray(Image.open(io.BytesIO(PILImage.create(pixels).to_bytes_format()))), pixels)


def test_an_image_is_a_tensor_of_its_pixels(pixels):
    assert_array_equal(tensor(PILImage.create(pixels)).numpy(), pixels)


def test_readers_have_names_that_files_may_mention():
    assert functions.name_of(PILImage.create) == "vision.PILImage.create"
    assert functions.name_of(PILImageBW.create) == "vision.PILImageBW.create"
    assert functions.get("vision.PILMask.create") == PILMask.create


def test_pil_is_not_patched():
    assert not hasattr(Image.Image, "to_thumb")
    assert "PILImage" not in repr(Image.new("RGB", (1, 1)))


def test_the_image_module_opens_our_class_and_forwards_the_rest(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert type(pil.open(tmp_path / "a.png")) is PILBase
    with open(tmp_path / "a.png", "rb") as file:
        assert pil.open(file).shape == (20, 30)
    assert pil.Image is Image.Image
    assert pil.BILINEAR == Image.Resampling.BILINEAR
    with pytest.raises(AttributeError):
        pil.nonsense
