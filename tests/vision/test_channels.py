"""Images of any number of channels and of 16 bits: kept whole, or refused where PIL would leave something out."""

from __future__ import annotations

import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.io
from PIL import Image
from torchvision.models import resnet18

from layered.basics import load_learner
from layered.data import CategoryBlock, DataBlock, EndSplitter, Normalize, ToTensor
from layered.foundation import BadImage, BadValue, TensorImage
from layered.vision import (
    CropPad,
    DihedralItem,
    FlipItem,
    ImageBlock,
    MultiChannelImage,
    PILImage,
    PILImageBW16,
    RandomResizedCrop,
    RatioResize,
    Resize,
    aug_transforms,
    vision_learner,
)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, (40, 50, 7)).astype(np.uint16)


def png_of_16_bits(path: Path, array: np.ndarray) -> Path:
    """Write colours of 16 bits, as PIL cannot."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.tobytes() for row in array.astype(">u2"))
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


def tiff(path: Path, array: np.ndarray) -> Path:
    """Write any number of channels of 8 or 16 bits, uncompressed, the first three of them as colours."""
    height, width, channels = array.shape
    extra = struct.pack(f"<{channels - 3}H", *[0] * (channels - 3))
    value = extra.ljust(4, b"\0")
    bits, data = struct.pack(f"<{channels}H", *[8 * array.dtype.itemsize] * channels), array.tobytes()
    short = {256: width, 257: height, 259: 1, 262: 2, 277: channels, 278: height, 284: 1}
    at = 8 + 2 + 12 * (len(short) + 4) + 4
    entries = [struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in short.items()]
    entries += [
        struct.pack("<HHII", 258, 3, channels, at),
        struct.pack("<HHII", 273, 4, 1, at + len(bits) + len(extra)),
        struct.pack("<HHII", 279, 4, 1, len(data)),
        struct.pack("<HHI", 338, 3, channels - 3) + (value if len(extra) <= 4 else struct.pack("<I", at + len(bits))),
    ]  # fmt: skip
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry))
    body = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4) + bits + extra + data
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + body)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_have_all_channels_and_bits_of_the_files(tmp_path, pixels, dtype, workers):
    files = []
    for i in range(4):
        files.append(tmp_path / f"{i}.npy")
        np.save(files[-1], (pixels.astype(dtype) + dtype(i)).transpose(2, 0, 1))
    block = DataBlock(
        (ImageBlock(MultiChannelImage), CategoryBlock), get_y=lambda f: int(f.stem) % 2, splitter=EndSplitter(0.5)
    )
    x, _ = block.dataloaders(files, bs=2, num_workers=workers, device="cpu").valid.one_batch()
    assert type(x) is TensorImage
    expected = (pixels.astype(dtype) + dtype(3)).transpose(2, 0, 1).astype(np.float32)
    assert np.array_equal((x[1].numpy() * np.iinfo(dtype).max).round(), expected)


def test_a_tensor_has_its_channels_first_and_an_array_its_fewest(pixels):
    first = pixels.transpose(2, 0, 1)
    for given in (pixels, first, torch.from_numpy(first.copy()), TensorImage(torch.from_numpy(first / 65535.0))):
        assert np.array_equal(MultiChannelImage.create(given).array, pixels)
    assert MultiChannelImage.create(pixels[..., 0]).array.shape == (40, 50, 1)
    with pytest.raises(BadValue, match="which axis"):
        MultiChannelImage.create(np.zeros((9, 50, 9), np.uint8))
    with pytest.raises(BadImage, match="keep their values"):
        MultiChannelImage.create(pixels.astype(np.int32))
    with pytest.raises(BadValue, match="out of range"):
        MultiChannelImage.create(pixels.astype(np.float32))


@pytest.mark.parametrize("method", ["squish", "crop", "pad"])
def test_resizing_interpolates_every_channel(pixels, method):
    made = Resize((20, 30), method=method, pad_mode="zeros")(MultiChannelImage.create(pixels), split_idx=1)
    seen, shape = {"squish": (pixels, (20, 30)), "crop": (pixels[4:37], (20, 30)), "pad": (pixels, (20, 25))}[method]
    planes = torch.from_numpy(seen.transpose(2, 0, 1).astype(np.float32))[None]
    expected = F.interpolate(planes, shape, mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
    expected = np.pad(expected, ((0, 0), (3, 2), (0, 0))) if method == "pad" else expected
    assert made.array.dtype == np.uint16
    assert np.abs(made.array - expected).max() <= 1


@pytest.mark.parametrize(
    "tfm", [CropPad(60), CropPad(20), FlipItem(1.0), DihedralItem(), RandomResizedCrop(20), RatioResize(25)], ids=repr
)
def test_item_transforms_do_to_each_channel_what_they_do_to_a_grey_image(pixels, tfm):
    made, grey = tfm((MultiChannelImage.create(pixels), PILImageBW16.create(pixels[..., 2])), split_idx=0)
    assert type(made) is MultiChannelImage
    assert ToTensor()(made).dtype == torch.uint16
    assert made.array.shape == (*grey.shape, 7)
    # PIL lets a pixel beyond a window count at its border
    assert np.abs(made.array[..., 2].astype(int) - np.asarray(grey))[2:-2, 2:-2].max() <= 1


def test_the_eight_symmetries_are_those_of_pil(pixels):
    image, grey = MultiChannelImage.create(pixels), PILImageBW16.create(pixels[..., 2])
    for turn in Image.Transpose:
        assert np.array_equal(image.transpose(turn).array[..., 2], np.asarray(grey.transpose(turn)))


def test_copies_and_pickles_keep_it_and_methods_of_pil_are_refused(pixels):
    image = MultiChannelImage.create(pixels)
    for other in (image.copy(), pickle.loads(pickle.dumps(image))):
        assert type(other) is MultiChannelImage
        assert np.array_equal(other.array, pixels)
    with pytest.raises(BadValue, match="no form for any number of channels"):
        image.convert("RGB")
    assert image.show().images[0].get_array().shape == (40, 50, 3)


@pytest.mark.parametrize("channels", [4, 5, 6])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_of_which_pil_would_leave_out_channels_is_refused(tmp_path, pixels, channels, dtype):
    file = tiff(tmp_path / "a.tif", pixels[..., :channels].astype(dtype))
    for kind in (PILImage, PILImageBW16, MultiChannelImage):
        with pytest.raises(BadImage, match=r"a\.tif.*channels[\s\S]*MultiChannelImage"):
            kind.create(file)


@pytest.mark.parametrize("write", [png_of_16_bits, tiff])
def test_colours_of_16_bits_are_read_in_8_with_a_warning_and_refused_where_16_are_asked_for(tmp_path, pixels, write):
    file = write(tmp_path / "a.img", pixels[..., :3])
    with pytest.warns(UserWarning, match="16 bits for each colour"):
        assert PILImage.create(file).mode == "RGB"
    for kind in (PILImageBW16, MultiChannelImage):
        with pytest.raises(BadImage, match=r"16 bits for each colour[\s\S]*decode_image"):
            kind.create(file)
    if write is png_of_16_bits:
        assert np.array_equal(MultiChannelImage.create(torchvision.io.decode_image(str(file))).array, pixels[..., :3])


def test_files_that_pil_reads_whole_keep_their_channels_and_bits(tmp_path, pixels):
    for array in (pixels[..., 0], (pixels[:3, ..., :3] >> 8).astype(np.uint8), (pixels[..., :4] >> 8).astype(np.uint8)):
        Image.fromarray(array).save(tmp_path / "a.png")
        kept = MultiChannelImage.create(tmp_path / "a.png").array
        assert np.array_equal(kept, array if array.ndim == 3 else array[..., None])
        assert kept.dtype == array.dtype


def test_arrays_that_pil_cannot_hold_name_the_class_that_can(tmp_path, pixels):
    np.save(tmp_path / "a.npy", pixels)
    for given in (pixels, pixels[..., :3], tmp_path / "a.npy"):
        with pytest.raises((BadValue, BadImage), match=r"fix +ImageBlock\(MultiChannelImage\)"):
            PILImage.create(given)


def test_a_learner_takes_as_many_channels_and_is_exported(tmp_path, pixels):
    block = DataBlock(
        (ImageBlock(MultiChannelImage), CategoryBlock),
        get_x=lambda i: pixels + np.uint16(i),
        get_y=lambda i: i % 2,
        splitter=EndSplitter(0.5),
        item_tfms=Resize(32),
        batch_tfms=[*aug_transforms(), Normalize([0.5] * 7, [0.25] * 7)],
    )
    dls = block.dataloaders(range(8), bs=4, num_workers=0, device="cpu")
    with pytest.raises(BadValue, match=r"of 7 channels, and n_in=3[\s\S]*n_in=7"):
        vision_learner(dls, resnet18)
    learn = vision_learner(dls, resnet18, n_in=7, pretrained=False)
    learn.fit(1)
    dls.show_batch(max_n=2)
    expected = learn.predict(pixels)[2]
    learn.export(tmp_path / "a.layered")
    assert torch.allclose(load_learner(tmp_path / "a.layered").predict(pixels)[2], expected, atol=1e-5)
