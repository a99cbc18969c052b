"""`cache=`: what is kept between epochs changes nothing but the time."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from layered.data import CategoryBlock, DataBlock, IndexSplitter, ItemCache, TransformBlock
from layered.foundation import BadImage, BadValue, NotFoundPath, draw, leaves, noop
from layered.vision import (
    BBoxBlock,
    BBoxLblBlock,
    DihedralItem,
    FlipItem,
    ImageBlock,
    MaskBlock,
    PILImage,
    PILImageBW16,
    PointBlock,
    RandomResizedCrop,
    RatioResize,
    Resize,
    aug_transforms,
)
from layered.vision.gan import generate_noise


@pytest.fixture
def files(tmp_path) -> list[Path]:
    photos = [Image.fromarray(image) for image in load_sample_images().images]
    made = []
    for i in range(8):
        made.append(tmp_path / "images" / f"{i}.{'jpg' if i % 2 else 'png'}")
        made[-1].parent.mkdir(exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6 if i == 3 else 1
        photos[i % 2].crop((0, 0, 200 + 8 * i, 150)).save(made[-1], exif=exif)
    return made


def label(file: Path) -> int:
    return int(file.stem) % 2


def mask(file: Path) -> np.ndarray:
    return np.asarray(PILImage.create(file))[..., 0] // 64


def points(file: Path) -> list[tuple[int, int]]:
    return [(10, 20), (int(file.stem), 30)]


def boxes(file: Path) -> list[tuple[int, int, int, int]]:
    return [(0, 0, 30, 40), (10, 10, 20 + int(file.stem), 60)]


def names(file: Path) -> list[str]:
    return ["a", "b"]


def loaders(files, tfms, blocks=(ImageBlock, CategoryBlock), get_y=label, **kwargs):
    block = DataBlock(
        blocks, get_y=get_y, n_inp=1, splitter=IndexSplitter([0, 1, 2]), item_tfms=tfms,
        batch_tfms=aug_transforms(size=24),
    )  # fmt: skip
    return block.dataloaders(files, bs=2, device="cpu", **{"num_workers": 0, "seed": 3, **kwargs})


def passes(dls, epochs: int = 2) -> list[torch.Tensor]:
    return [o for _ in range(epochs) for dl in dls for batch in dl for o in leaves(batch)]


TFMS = [
    Resize(32), Resize(32, method="squish"), Resize(32, method="pad"), RandomResizedCrop(32), [RatioResize(40), Resize(24)],
    [FlipItem(), Resize(32)], [Resize(32, method="squish"), DihedralItem()],
]  # fmt: skip


@pytest.mark.parametrize("tfms", TFMS, ids=repr)
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_bit_for_bit(files, tmp_path, tfms, workers):
    expected = passes(loaders(files, tfms))
    cached = loaders(files, tfms, cache=tmp_path / "cache", num_workers=workers)
    assert all(map(torch.equal, passes(cached), expected))
    assert 0 < cached.cache.used <= cached.cache.max_bytes
    again = loaders(files, tfms, cache=tmp_path / "cache")
    used = again.cache.used
    assert all(map(torch.equal, passes(again), expected))
    assert again.cache.used == used


@pytest.mark.parametrize(
    ("blocks", "get_y"),
    [
        ((ImageBlock, MaskBlock), mask),
        ((ImageBlock(PILImageBW16), CategoryBlock), label),
        ((ImageBlock, PointBlock), points),
        ((ImageBlock, BBoxBlock, BBoxLblBlock), [boxes, names]),
    ],
)
@pytest.mark.parametrize("tfms", [Resize(32, method="squish"), Resize(32)], ids=repr)
def test_targets_that_move_with_the_image_are_kept_with_it(files, tmp_path, blocks, get_y, tfms):
    expected = passes(loaders(files, tfms, blocks, get_y))
    assert all(map(torch.equal, passes(loaders(files, tfms, blocks, get_y, cache=tmp_path / "cache")), expected))


def test_a_second_pass_opens_no_image(files, tmp_path, monkeypatch):
    pass_of = loaders(files, Resize(32, method="squish"), cache="memory")
    list(pass_of.train), list(pass_of.valid)
    monkeypatch.setattr(Image, "open", None)
    monkeypatch.setattr("layered.vision.jpeg.jpeg_bytes", None)
    list(pass_of.train), list(pass_of.valid)


def test_memory_is_given_back_with_the_cache(files):
    cache = ItemCache("memory")
    list(loaders(files, Resize(32, method="squish"), cache=cache).train)
    folder = cache.folder
    assert any(folder.rglob("*"))
    del cache
    gc.collect()
    assert not folder.exists()


def test_what_has_changed_is_made_anew(files, tmp_path):
    tfms = Resize(32, method="squish")
    passes(loaders(files, tfms, cache=tmp_path / "cache"))
    Image.new("RGB", (200, 150), "red").save(files[0])
    os.utime(files[0], ns=(1, 1))
    x, _ = loaders(files, tfms, cache=tmp_path / "cache").valid.one_batch()
    red = torch.tensor([1.0, 0, 0])[:, None, None].expand(3, 24, 24)
    assert torch.allclose(x[0], red, atol=1e-5)
    other = loaders(files, Resize(28, method="squish"), cache=tmp_path / "cache")
    assert all(map(torch.equal, passes(other), passes(loaders(files, Resize(28, method="squish")))))


def test_a_setting_changed_by_hand_counts(files, tmp_path):
    dls = loaders(files, Resize(32, method="squish"), cache=tmp_path / "cache")
    passes(dls)
    for dl in dls:
        dl.after_item[Resize].resamples = (Image.Resampling.NEAREST, Image.Resampling.NEAREST)
    fresh = loaders(files, Resize(32, method="squish", resamples=(Image.Resampling.NEAREST,) * 2))
    assert torch.equal(dls.valid.one_batch()[0], fresh.valid.one_batch()[0])


def test_files_that_are_damaged_are_made_anew(files, tmp_path):
    tfms = Resize(32, method="squish")
    expected = passes(loaders(files, tfms))
    passes(loaders(files, tfms, cache=tmp_path / "cache"))
    kept = [file for file in (tmp_path / "cache").rglob("*") if file.is_file() and file.name != "ledger"]
    assert len(kept) >= 7  # an incomplete last batch is dropped
    for i, file in enumerate(kept):
        whole = bytearray(file.read_bytes())
        whole[-1] ^= 1
        file.write_bytes([b"", whole[:20], whole[:-5], whole, b"junk" * 100][i % 5])
    assert all(map(torch.equal, passes(loaders(files, tfms, cache=tmp_path / "cache")), expected))


def test_no_more_is_kept_than_allowed(files, tmp_path):
    tfms = Resize(32, method="squish")
    cache = ItemCache(tmp_path / "cache", max_bytes=3 * 65536)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        made = passes(loaders(files, tfms, cache=cache))
    assert all(map(torch.equal, made, passes(loaders(files, tfms))))
    assert cache.used == cache.max_bytes
    assert [str(o.message) for o in heard if "is full" in str(o.message)]


@pytest.mark.parametrize("where", ["item_tfms", "type_tfms"])
def test_code_of_users_ends_what_is_kept(files, tmp_path, where):
    """It may do something else each time; what comes before it is kept."""
    calls = []

    def counted(image: PILImage) -> PILImage:
        calls.append(1)
        return image

    if where == "item_tfms":
        dls = loaders(files, [counted, Resize(32, method="squish")], cache=tmp_path / "cache")
    else:
        dls = loaders(
            files, Resize(32), (TransformBlock([PILImage.create, counted]), CategoryBlock), cache=tmp_path / "cache"
        )
    for _ in range(2):
        list(dls.valid)
    assert len(calls) == 6


def noise_of_numpy(file: Path) -> torch.Tensor:
    return torch.from_numpy(np.random.randn(4))


def noise_by_ticket(file: Path) -> torch.Tensor:
    return torch.tensor([draw(), draw()])


def one_of_eight(file: Path) -> Path:
    return random.choice(sorted(file.parent.iterdir()))


def the_next(file: Path) -> Path:
    files = sorted(file.parent.iterdir())
    return files[(files.index(file) + 1) % len(files)]


@pytest.mark.parametrize(
    ("blocks", "get_x", "is_random"),
    [
        ((TransformBlock, ImageBlock), generate_noise, True),
        ((TransformBlock, ImageBlock), noise_of_numpy, True),
        ((TransformBlock, ImageBlock), noise_by_ticket, True),
        ((ImageBlock, CategoryBlock), one_of_eight, True),
        ((ImageBlock, CategoryBlock), the_next, False),
    ],
)
def test_items_that_draw_as_they_are_made_are_not_kept(files, tmp_path, blocks, get_x, is_random):
    def load(**kwargs):
        described = DataBlock(
            blocks, get_x=get_x, get_y=noop if ImageBlock is blocks[1] else label, splitter=IndexSplitter([0, 1, 2]),
            item_tfms=Resize(32, method="squish"),
        )  # fmt: skip
        return described.dataloaders(files, bs=2, device="cpu", seed=3, **{"num_workers": 0, **kwargs})

    expected, dls = passes(load()), load(cache=tmp_path / "cache")
    with pytest.warns(UserWarning, match="draw at random as they are made") if is_random else contextlib.nullcontext():
        made = passes(dls)
    assert all(map(torch.equal, made, expected))
    if get_x is generate_noise:
        assert all(map(torch.equal, passes(load(num_workers=2)), expected))
    assert any(file.is_file() for file in (tmp_path / "cache").rglob("*")) == (not is_random)


class Darker(PILImage):
    @classmethod
    def create(cls, source):
        return cls.recast(super().create(source).point(lambda o: o // 2))


@pytest.mark.parametrize("tfms", [Resize(32, method="squish"), Resize(32)], ids=repr)
def test_a_class_with_a_create_of_its_own_does_its_work_once(files, tmp_path, tfms):
    blocks = (ImageBlock(Darker), CategoryBlock)
    expected = passes(loaders(files, tfms, blocks))
    assert all(map(torch.equal, passes(loaders(files, tfms, blocks, cache=tmp_path / "cache")), expected))


def test_a_jpeg_that_nothing_has_resized_is_not_kept(tmp_path):
    photo = Image.fromarray(load_sample_images().images[0]).resize((1600, 1200))
    files = [tmp_path / f"{i}.jpg" for i in range(8)]
    for file in files:
        photo.save(file)
    dls = loaders(files, RandomResizedCrop(32), cache=tmp_path / "cache")
    assert all(map(torch.equal, passes(dls), passes(loaders(files, RandomResizedCrop(32)))))
    kept = [f for f in (tmp_path / "cache").rglob("*") if f.is_file() and f.name != "ledger"]
    assert len(kept) == 3  # of the validation, which is the same each time


def test_a_missing_and_a_broken_file_are_named(files, tmp_path):
    files[1].write_bytes(b"no image")
    dls = loaders(files, Resize(32), cache=tmp_path / "cache")
    with pytest.raises(BadImage, match=r"1\.jpg"):
        dls.valid.one_batch()
    files[0].unlink()
    with pytest.raises(NotFoundPath, match=r"making the input of item 0 .*0\.png"):
        dls.valid.one_batch()
    skipping = loaders(files, Resize(32), cache=tmp_path / "cache", on_bad="skip")
    with pytest.warns(UserWarning, match=r"0\.png"):
        assert sum(len(x) for x, _ in skipping.valid) == 1


def test_images_that_come_from_elsewhere_are_not_kept(files, tmp_path):
    data = [file.read_bytes() for file in files]
    dls = loaders(data, Resize(32), get_y=lambda o: len(o) % 2, cache=tmp_path / "cache")
    with pytest.warns(UserWarning, match=r"cache= keeps nothing of samples such as \(PILImage, TensorCategory\)"):
        list(dls.valid)
    assert dls.cache.used == 0


def test_a_fit_with_a_cache_is_resumed(files, tmp_path):
    dls = loaders(files, [RatioResize(40), Resize(24)], cache=tmp_path / "cache")
    whole = passes(dls, 3)
    dls = loaders(files, [RatioResize(40), Resize(24)], cache=tmp_path / "cache")
    passes(dls, 1)
    state = dls.train.state_dict()
    other = loaders(files, [RatioResize(40), Resize(24)], cache=tmp_path / "elsewhere")
    other.train.load_state_dict(state)
    first = [o for batch in other.train for o in leaves(batch)]
    per_pass = len(whole) // 3
    assert all(map(torch.equal, first, whole[per_pass:]))


def test_a_limit_has_to_be_positive():
    with pytest.raises(ValueError, match="max_bytes"):
        ItemCache("memory", max_bytes=0)


def hostile_caches(good: bytes) -> dict[str, bytes]:
    """Files of a cache with a right checksum, that say what none can mean."""
    magic, _, length = struct.unpack_from("<16sQQ", good)
    body = good[32:]
    (image, points), data = json.loads(body[:length]), body[-(-length // 8) * 8 :]
    note, dtype, shape = image

    def made(notes: object, more: bytes = b"") -> bytes:
        text = notes if isinstance(notes, bytes) else json.dumps(notes).encode()
        whole = b"".join(part.ljust(-(-len(part) // 8) * 8, b"\0") for part in (text, data, more))
        words = struct.unpack(f"<{len(whole) // 8}Q", whole)
        return struct.pack("<16sQQ", magic, sum(words) % 2**64, len(text)) + whole

    shapes = ["ab", [-1], [3, -1, 32], [2**70], [2**32, 2**32], [3.0, 32, 32], [], None, [2, 32, 32], [3, 0, 0]]
    names = [{"clone": 5}, {"as_subclass": 1}, "ab", [["a", 1]], None]
    return {
        "nested": made(b"[" * 30_000),
        "long": made([image, points, "x" * 10**5]),
        "a number": made(3),
        "nothing": made(None),
        "an image as it was": made([None, points]),
        "numbers": made([1, 2]),
        "an unknown type": made([[note, "object", shape], points]),
        "no type": made([[note, ["uint8"], shape], points]),
        "floats": made([[note, "float32", [3, 16, 16]], points]),
        "truth values": made([image, [{}, "bool", [2, 2]]], b"\xff"),
        "notes of an image": made([[{"exif": "x"}, dtype, shape], points]),
        "a list of notes": made([[[1, 2], dtype, shape], points]),
        "more than it says": made([image, points], b"more"),
        **{f"the shape {sides}": made([[note, dtype, sides], points]) for sides in shapes},
        **{f"the attributes {name}": made([image, [name, *points[1:]]]) for name in names},
        "cut": good[:-1],
        "empty": b"",
    }


def test_a_hostile_file_of_a_cache_is_made_anew(files, tmp_path):
    block = DataBlock(
        (ImageBlock, PointBlock), get_y=points, splitter=IndexSplitter([1]), item_tfms=Resize(32, method="squish")
    )
    dls = block.dataloaders(files[:2], bs=1, num_workers=0, cache=tmp_path / "kept")
    dl = dls.train.new(shuffle=False)
    right = dl.one_batch()
    (file,) = (found for found in (tmp_path / "kept").glob("*/*") if found.is_file())
    good = file.read_bytes()
    for name, data in hostile_caches(good).items():
        file.write_bytes(data)
        for a, b in zip(dl.one_batch(), right, strict=True):
            assert torch.equal(a, b), name
        assert file.read_bytes() == good, name
    file.unlink()
    os.mkfifo(file)
    dl.one_batch()
    assert file.read_bytes() == good


def test_the_ledger_of_a_cache_is_not_written_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "ledger").symlink_to(tmp_path / "precious")
    with pytest.raises(BadValue, match="a link or not a file"):
        ItemCache(tmp_path / "kept")
