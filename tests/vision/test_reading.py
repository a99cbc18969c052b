"""Images load as a person sees them, and what is no image says so by name."""

from __future__ import annotations

import io
import os
import socket
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image
from torch.testing import assert_close

from layered.foundation import BadArgument, BadImage, BadValue, NotFoundPath, TensorImage, TensorMask
from layered.vision import PILImage, PILMask, decoding, image2tensor, load_image, pil
from layered.vision.reading import as_seen, load_mask

RED = (255, 0, 0)


@pytest.fixture
def photo() -> Image.Image:
    """Red above, blue below, a white upper left corner: 6 wide, 4 high."""
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:2, :, 0], pixels[2:, :, 2], pixels[0, 0] = 255, 255, 255
    return Image.fromarray(pixels)


def saved(image: Image.Image, kind: str, **how: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_photo_is_turned_upright(photo, orientation):
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # how the sensor's picture lies, as a transposition of PIL
    stored = photo if orientation == 1 else photo.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_array_equal(np.asarray(load_image(saved(stored, "png", exif=exif), "RGB")), np.asarray(photo))


def test_a_photo_with_a_damaged_orientation_tag_still_loads(photo):
    damaged = saved(photo, "jpeg", exif=b"Exif\x00\x00nonsense")
    assert load_image(damaged, "RGB").size == (6, 4)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "RGBA", "LA", "HSV"])
def test_every_mode_becomes_the_colours_it_shows(photo, mode):
    grey = photo.convert("L").point(lambda v: 255 if v > 60 else 0)
    source = grey if mode in ("1", "L", "LA") else photo
    converted = source.convert(mode)
    read = np.asarray(load_image(converted, "RGB"), dtype=int)
    assert_close(read, np.asarray(source.convert("RGB"), dtype=int), atol=3, rtol=0)


def test_cmyk_jpeg_files_come_out_in_their_colours(photo):
    file = saved(Image.new("RGB", (16, 16), RED).convert("CMYK"), "jpeg", quality=100)
    assert_close(np.asarray(load_image(file, "RGB"))[8, 8].astype(int), np.array(RED), atol=6, rtol=0)


def test_transparent_pixels_are_white(photo):
    rgba = photo.convert("RGBA")
    rgba.putpixel((5, 3), (0, 0, 0, 0))
    rgba.putpixel((4, 3), (0, 0, 0, 128))
    read = load_image(saved(rgba, "png"), "RGB")
    assert read.getpixel((5, 3)) == (255, 255, 255)
    assert read.getpixel((4, 3)) == (127, 127, 127)
    assert read.getpixel((1, 0)) == RED


def test_a_palette_with_a_transparent_colour_shows_white_there():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    read = load_image(saved(image, "png", transparency=0), "RGB")
    assert [read.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (200, 100, 50)]


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bits_are_scaled_to_eight(kind):
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    read = np.asarray(load_image(saved(Image.fromarray(values), kind), "L"))
    assert_array_equal(read, [[0, 1, 128, 255]])
    assert_array_equal(np.asarray(load_image(values, "RGB"))[..., 2], [[0, 1, 128, 255]])


@pytest.mark.parametrize(("values", "seen"), [([0.0, 0.5, 1.0], [0, 128, 255]), ([0.0, 100.0, 255.0], [0, 100, 255])])
def test_float_images_are_scaled_by_their_range(values, seen):
    assert_array_equal(np.asarray(load_image(Image.fromarray(np.array([values], np.float32)), "L")), [seen])


def test_grey_files_load_in_colour_and_colour_files_in_grey(photo):
    assert load_image(saved(photo.convert("L"), "png"), "RGB").mode == "RGB"
    assert load_image(saved(photo, "png"), "L").getpixel((3, 0)) == photo.convert("L").getpixel((3, 0))


def test_a_palette_mask_gives_its_indices_whatever_their_colours():
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    assert_array_equal(np.asarray(load_mask(saved(image, "png"))), [[0, 1, 2]])
    assert_array_equal(np.asarray(load_mask(saved(Image.fromarray(np.array([[0, 7]], np.uint16)), "png"))), [[0, 7]])


def test_a_mask_of_more_than_256_classes_is_refused():
    with pytest.raises(BadImage, match="too many classes"):
        load_mask(np.array([[0, 300]], np.uint16))


CLASSES = np.repeat([[0], [1]], 6, axis=1)


@pytest.mark.parametrize(
    "given",
    [
        CLASSES > 0,
        CLASSES.astype(np.float16),
        CLASSES.astype(np.int64),
        CLASSES[..., None].astype(float),
        torch.tensor(CLASSES > 0),
        TensorMask(CLASSES.astype(np.float32))[None],
        Image.fromarray(CLASSES > 0),
        Image.fromarray(CLASSES.astype(np.float32)),
        Image.fromarray(CLASSES.astype(np.int32)),
        Image.fromarray(CLASSES.astype(np.uint8)).convert("LA"),
        saved(Image.fromarray(CLASSES > 0), "png"),
        saved(Image.fromarray(CLASSES.astype(np.float32)), "tiff"),
    ],
    ids=str,
)
def test_the_values_of_a_mask_are_classes_whatever_their_type(given):
    assert_array_equal(np.asarray(PILMask.create(given)), CLASSES)


def test_whole_floats_are_classes_and_fractions_are_refused():
    assert_array_equal(np.asarray(load_mask(CLASSES * 2.0)), CLASSES * 2)
    with pytest.raises(BadImage, match="fractions") as caught:
        load_mask(CLASSES / 2)
    assert "mask > 0.5" in caught.value.fix
    for wrong in (CLASSES * 300.0, -CLASSES, CLASSES * np.nan):
        with pytest.raises(BadImage, match="mask"):
            load_mask(wrong)


class Upload:
    """As of a web framework: `read` and nothing else."""

    def __init__(self, data):
        self.data = data

    def read(self):
        return self.data


def test_open_files_and_uploads_are_images(photo, tmp_path):
    data = saved(photo, "png")
    (tmp_path / "a.png").write_bytes(data)
    at_its_end = io.BytesIO()
    at_its_end.write(data)
    for source in (io.BytesIO(data), at_its_end, memoryview(data), Upload(data), bytearray(data)):
        assert_array_equal(np.asarray(PILImage.create(source)), np.asarray(photo))
        assert load_mask(source).size == photo.size
    with open(tmp_path / "a.png", "rb") as file:
        assert_array_equal(np.asarray(load_image(file, "RGB")), np.asarray(photo))


def test_what_gives_no_bytes_is_refused_with_the_fix(tmp_path):
    class Later:
        async def read(self):
            return b""

    with pytest.raises(BadArgument, match="asynchronously") as caught:
        PILImage.create(Later())
    assert "await" in caught.value.fix
    (tmp_path / "a.png").write_bytes(b"")
    with open(tmp_path / "a.png") as file, pytest.raises(BadArgument, match="opened as text"):
        PILImage.create(file)
    with pytest.raises(BadArgument, match="cannot be made from this"):
        PILImage.create(None)


@pytest.mark.parametrize(
    ("name", "cause", "fix"),
    [
        ("a.png ", "ends with a blank", "str.strip()"),
        (" a.png", "begins with a blank", "str.strip()"),
        ("images\\a.png", "separators of Windows", "str.replace"),
        ("a", "without its suffix: the folder has 'a.png'", "suff='.png'"),
        ("a.png.png", "a suffix too many", "suff='.png'"),
        ("a.jpg", "another suffix: the folder has 'a.png'", "'.png'"),
        ("A.PNG", "other letters", "as those of the files"),
        ("gone/a.png", "does not exist", "folder="),
        ("/gone/b.png", "the absolute path '/gone/b.png'", "relative to path="),
        ("b.png", "None", "working directory"),
    ],
)
def test_a_missing_file_says_what_its_name_has_wrong(tmp_path, photo, name, cause, fix):
    photo.save(tmp_path / "a.png")
    with pytest.raises(NotFoundPath, match="does not exist") as caught:
        PILImage.create(f"{tmp_path}/{name}")
    assert cause in str(caught.value.got)
    assert fix in caught.value.fix


def test_a_very_large_image_says_how_to_allow_it(tmp_path, monkeypatch, photo):
    photo.save(tmp_path / "map.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(BadImage, match=r"map\.png") as caught:
        PILImage.create(tmp_path / "map.png")
    assert "at most 20 pixels" in caught.value.expected
    assert caught.value.fix.startswith("import PIL.Image; PIL.Image.MAX_IMAGE_PIXELS = None")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert PILImage.create(tmp_path / "map.png").size == (6, 4)


@pytest.mark.parametrize("channels_first", [True, False])
def test_tensors_and_arrays_of_any_layout_are_images(photo, channels_first):
    pixels = np.asarray(photo)
    given = TensorImage(pixels.transpose(2, 0, 1).copy()) if channels_first else pixels
    assert_array_equal(np.asarray(load_image(given, "RGB")), pixels)
    floats = torch.as_tensor(given.numpy() if channels_first else given.copy()) / 255
    assert_array_equal(np.asarray(load_image(TensorImage(floats) if channels_first else floats, "RGB")), pixels)


def test_normalised_tensors_are_refused_with_the_fix():
    with pytest.raises(BadValue, match="normalisation"):
        load_image(torch.randn(3, 8, 8))
    with pytest.raises(BadValue, match="invalid image shape"):
        load_image(torch.zeros(5, 7, 9))


def test_image2tensor_is_bytes_with_channels_first(photo):
    pixels = image2tensor(photo)
    assert pixels.shape == (3, 4, 6)
    assert pixels.dtype == torch.uint8
    assert_array_equal(pixels.numpy().transpose(1, 2, 0), np.asarray(photo))
    assert image2tensor(photo.convert("L")).shape == (1, 4, 6)


def test_the_pixels_of_a_tensor_may_be_written(photo):
    image2tensor(photo).zero_()
    assert photo.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "bmp", "tiff", "webp"])
def test_a_truncated_file_is_named(tmp_path, kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    whole = saved(noise, kind)
    file = tmp_path / f"cut.{kind}"
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadImage, match=f"cut.{kind}") as error:
        load_image(file, "RGB")
    assert "on_bad='skip'" in str(error.value.fix)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x89PNG\r\n\x1a\n" + b"\0" * 64])
def test_what_is_no_image_is_named(tmp_path, content):
    file = tmp_path / "page.jpg"
    file.write_bytes(content)
    with pytest.raises(BadImage, match=r"page\.jpg"):
        load_image(file, "RGB")


POSTSCRIPT = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(%pipe%touch ran) (w) file\nshowpage\n%%EOF\n"
)
DOS_EPS = struct.pack("<IIIIIIIH", 0xC6D3D0C5, 30, len(POSTSCRIPT), 0, 0, 0, 0, 0xFFFF) + POSTSCRIPT


@pytest.mark.parametrize("data", [POSTSCRIPT, DOS_EPS])
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.eps", "x.tif"])
def test_a_picture_starts_no_program(tmp_path, monkeypatch, data, name):
    monkeypatch.setattr("subprocess.Popen", lambda *args, **kwargs: pytest.fail("a program was started"))
    monkeypatch.setattr("os.system", lambda command: pytest.fail("a program was started"))
    (tmp_path / name).write_bytes(data)
    for source in (tmp_path / name, data):
        for read in (load_image, load_mask, PILImage.create, PILMask.create, pil.open):
            with pytest.raises(BadImage, match="is in the format EPS"):
                read(source if isinstance(source, Path) or read is not pil.open else io.BytesIO(source))


@pytest.mark.parametrize(
    "kind", ["PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "TGA", "ICO", "JPEG2000", "SGI", "PCX", "DDS"]
)
def test_the_other_formats_of_pictures_are_read(tmp_path, kind):
    Image.new("RGB", (32, 32), "white").save(tmp_path / "x", kind)
    assert load_image(tmp_path / "x", "RGB").getpixel((16, 16)) == (255, 255, 255)


def test_a_format_that_the_user_has_registered_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "OPEN", {**Image.OPEN}), monkeypatch.setattr(Image, "ID", [*Image.ID])
    Image.register_open("MINE", lambda fp, filename: Image.new("RGB", (2, 3), RED), lambda start: start[:4] == b"mine")
    (tmp_path / "x.mine").write_bytes(b"mine")
    assert load_image(tmp_path / "x.mine").size == (2, 3)


@pytest.mark.skipif(os.name != "posix", reason="pipes and links")
@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "dangling", "circle", "NUL", "long"])
def test_what_is_not_a_file_is_not_opened(tmp_path, kind):
    path = tmp_path / "x.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        path = Path(tempfile.mkdtemp()) / "x.png"
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind in ("dangling", "circle"):
        path.symlink_to(tmp_path / "nothing.png" if kind == "dangling" else path)
    else:
        path = tmp_path / ("x\0.png" if kind == "NUL" else "x" * 5000 + ".png")
    for read in (load_image, load_mask, PILImage.create):
        with pytest.raises(NotFoundPath if kind == "dangling" else BadImage):
            read(path)


@pytest.mark.skipif(sys.platform != "linux", reason="measures with /proc")
@pytest.mark.parametrize("mode", ["I;16", "RGBA"])
def test_a_large_picture_is_held_in_one_copy_beside_the_result(tmp_path, mode):
    side = 6000
    Image.new(mode, (side, side)).save(tmp_path / "x.png")
    code = (
        "import sys, resource; from PIL import Image; from layered.vision import load_image\n"
        "load_image(sys.argv[2], 'RGB'); peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); load_image(sys.argv[1], 'RGB'); print((peak() - before) * 1024)"
    )
    Image.new(mode, (5, 5)).save(tmp_path / "small.png")
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "x.png", tmp_path / "small.png"],
        capture_output=True,
        check=True,
        text=True,
    )
    # the file's own pixels, those of the result (RGB has four bytes in PIL), grey in between, and strips
    assert int(done.stdout) < side * side * (10 if mode == "RGBA" else 9)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I", "F", "I;16"])
def test_strips_give_the_same_pixels_as_the_whole(monkeypatch, mode):
    numbers = np.random.default_rng(0).integers(0, 256, (37, 11, 4), dtype=np.uint8)
    whole = Image.fromarray(numbers, "RGBA").convert("L" if mode in ("I", "F", "I;16") else "RGBA").convert(mode)
    if mode == "P":
        whole.info["transparency"] = 3
    expected = [np.asarray(as_seen(whole, target)) for target in ("RGB", "L")]
    monkeypatch.setattr(decoding, "STRIP", 50)
    for target, pixels in zip(("RGB", "L"), expected, strict=True):
        assert_array_equal(np.asarray(as_seen(whole, target)), pixels)


def test_a_decompression_bomb_is_refused(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    file = tmp_path / "bomb.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")))
    with pytest.raises(BadImage, match=r"bomb\.png") as error:
        load_image(file, "RGB")
    assert "DecompressionBombError" in error.value.got


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(NotFoundPath, match=r"gone\.png"):
        load_image(tmp_path / "gone.png", "RGB")
    with pytest.raises(FileNotFoundError):
        load_image(str(tmp_path / "gone.png"), "RGB")
    with pytest.raises(BadImage, match="is a folder"):
        load_image(tmp_path, "RGB")


def test_bad_images_are_also_the_errors_that_people_catch(tmp_path):
    with pytest.raises(OSError, match="the given bytes"):
        load_image(b"abc", "RGB")
