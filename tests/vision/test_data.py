"""Loaders of real images in one line, and what bad folders get."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from layered.catalog import URLs, untar_data
from layered.data import CategoryBlock, DataBlock, GrandparentSplitter, RandomSplitter, get_image_files
from layered.foundation import (
    BadArgument,
    BadImage,
    BadValue,
    EmptySource,
    LayeredError,
    MixedSizes,
    NotFoundPath,
    TensorCategory,
    TensorImage,
    TensorImageBW,
    TensorMask,
    UnknownLabel,
)
from layered.vision import (
    FlipItem,
    ImageBlock,
    ImageDataLoaders,
    MaskBlock,
    PILImage,
    PILImageBW,
    RandomErasing,
    RandomResizedCrop,
    Resize,
    aug_transforms,
)


@pytest.fixture(scope="module")
def fashion(tmp_path_factory) -> Path:
    """Real images: 6 of each of 3 classes for training, 3 for validation."""
    source, root = Path(untar_data(URLs.FASHION_TINY)), tmp_path_factory.mktemp("fashion")
    for split, count in (("train", 6), ("valid", 3)):
        for folder in sorted((source / split).iterdir())[:3]:
            for file in sorted(folder.iterdir())[:count]:
                (root / split / folder.name).mkdir(parents=True, exist_ok=True)
                shutil.copy(file, root / split / folder.name)
    return root


@pytest.fixture
def folder(fashion, tmp_path) -> Path:
    return Path(shutil.copytree(fashion, tmp_path / "images"))


FEW = {"bs": 4, "num_workers": 0, "device": "cpu"}


def test_a_folder_of_folders_gives_batches_of_images_and_labels(fashion):
    dls = ImageDataLoaders.from_folder(fashion, item_tfms=Resize(32), batch_tfms=aug_transforms(), **FEW)
    x, y = dls.one_batch()
    assert type(x) is TensorImage
    assert type(y) is TensorCategory
    assert x.shape == (4, 3, 32, 32)
    assert 0 <= x.min() <= x.max() <= 1
    assert (len(dls.train_ds), len(dls.valid_ds), dls.c) == (18, 9, 3)
    assert list(dls.vocab) == sorted(o.name for o in (fashion / "train").iterdir())


def test_every_recipe_finds_the_same_images(fashion):
    files = get_image_files(fashion)
    labels = [Path(f).parent.name for f in files]
    names = [str(Path(f).relative_to(fashion)) for f in files]
    df = pd.DataFrame({"name": names, "label": labels, "is_valid": ["valid/" in n for n in names]})
    df.to_csv(fashion / "labels.csv", index=False)
    kwargs = {"seed": 42, "item_tfms": Resize(28), **FEW}
    made = [
        ImageDataLoaders.from_folder(fashion, valid_pct=0.2, **kwargs),
        ImageDataLoaders.from_path_func(fashion, files, lambda o: Path(o).parent.name, **kwargs),
        ImageDataLoaders.from_path_re(fashion, files, r"/([^/]+)/[^/]+$", **kwargs),
        ImageDataLoaders.from_df(df, fashion, **kwargs),
        ImageDataLoaders.from_csv(fashion, **kwargs),
        ImageDataLoaders.from_lists(fashion, files, labels, **kwargs),
    ]
    for dls in made:
        for (x, y), (first_x, first_y) in zip(dls.valid, made[0].valid, strict=True):
            assert torch.equal(x, first_x)
            assert torch.equal(y, first_y)
    assert len(ImageDataLoaders.from_df(df, fashion, valid_col="is_valid", **kwargs).valid_ds) == 9


def test_labels_from_names(tmp_path):
    for i in range(10):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{'Cat' if i % 2 else 'dog'}_{i}.png")
    files = get_image_files(tmp_path)
    by_func = ImageDataLoaders.from_name_func(tmp_path, files, lambda n: n[0].isupper(), valid_pct=0.2, seed=1, **FEW)
    assert list(by_func.vocab) == [False, True]
    by_re = ImageDataLoaders.from_name_re(tmp_path, files, r"^(.*)_\d+.png$", seed=1, **FEW)
    assert list(by_re.vocab) == ["Cat", "dog"]


def test_several_labels_and_numbers_choose_their_block(fashion):
    files = get_image_files(fashion)
    tags = pd.DataFrame({"f": [str(Path(f).relative_to(fashion)) for f in files], "t": ["a b", "b", "a"] * 9})
    dls = ImageDataLoaders.from_df(tags, fashion, label_delim=" ", item_tfms=Resize(8), **FEW)
    assert dls.one_batch()[1].shape == (4, 2)
    numbers = ImageDataLoaders.from_lists(fashion, files, [float(i) for i in range(27)], item_tfms=Resize(8), **FEW)
    assert numbers.one_batch()[1].dtype == torch.float32


def test_grey_images_and_masks_have_their_own_tensors(fashion):
    grey = ImageDataLoaders.from_folder(fashion, img_cls=PILImageBW, item_tfms=Resize(16), **FEW).one_batch()[0]
    assert type(grey) is TensorImageBW
    assert grey.shape == (4, 1, 16, 16)
    block = DataBlock((ImageBlock, MaskBlock(["dark", "light"])), get_y=_brightness, splitter=RandomSplitter(seed=1))
    dls = block.dataloaders(get_image_files(fashion), **FEW)
    x, mask = dls.one_batch()
    assert type(mask) is TensorMask
    assert mask.dtype == torch.int64
    assert mask.shape == (4, 28, 28)
    assert (dls.vocab, dls.c) == (["dark", "light"], 2)
    assert ((x.as_plain().mean(1) > 0.5) == mask.as_plain().bool()).float().mean() > 0.99


def _brightness(file) -> np.ndarray:
    return (np.asarray(PILImageBW.create(file)) > 127).astype(np.uint8)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_a_single_pixel(fashion, workers):
    def batches(num_workers: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        dls = ImageDataLoaders.from_folder(
            fashion,
            item_tfms=[RandomResizedCrop(24), FlipItem()],
            batch_tfms=[*aug_transforms(), RandomErasing()],
            **{**FEW, "num_workers": num_workers},
        )
        dls.train.seed = 7
        return [batch for _ in range(2) for batch in dls.train]

    for (x, y), (other_x, other_y) in zip(batches(0), batches(workers), strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)


def test_a_new_epoch_sees_new_augmentation(fashion):
    dls = ImageDataLoaders.from_folder(fashion, item_tfms=RandomResizedCrop(24), **FEW)
    dls.train.shuffle = False
    (first, _), (again, _) = next(iter(dls.train)), next(iter(dls.train))
    assert not torch.equal(first, again)
    (first, _), (again, _) = next(iter(dls.valid)), next(iter(dls.valid))
    assert torch.equal(first, again)


def test_a_test_loader_takes_paths_images_and_bytes(fashion):
    dls = ImageDataLoaders.from_folder(fashion, item_tfms=Resize(24), **FEW)
    file = get_image_files(fashion / "valid")[0]
    given = [file, str(file), Path(file).read_bytes(), PILImage.create(file)]
    batches = [dls.test_dl([o]).one_batch()[0] for o in given]
    for batch in batches[1:]:
        assert torch.equal(batch, batches[0])


class TestBadInput:
    def test_a_missing_or_empty_folder(self, tmp_path):
        with pytest.raises(NotFoundPath, match="folder"):
            ImageDataLoaders.from_folder(tmp_path / "gone", valid_pct=0.2)
        with pytest.raises(EmptySource, match="no images"):
            ImageDataLoaders.from_folder(tmp_path, valid_pct=0.2)

    def test_no_train_and_valid_folders(self, fashion):
        with pytest.raises(NotFoundPath, match="'train'") as error:
            ImageDataLoaders.from_folder(fashion / "train")
        assert "valid_pct=0.2" in error.value.fix

    def test_one_class_only(self, fashion):
        with pytest.warns(UserWarning, match="only one class"):
            ImageDataLoaders.from_path_func(
                fashion, get_image_files(fashion), lambda o: "same", item_tfms=Resize(8), bs=2
            ).show_batch(unique=True)

    def test_a_label_that_only_validation_images_have(self, folder):
        next((folder / "valid").iterdir()).rename(folder / "valid" / "gown")
        with pytest.raises(UnknownLabel, match="gown"):
            ImageDataLoaders.from_folder(folder)

    def test_more_batch_than_images(self, fashion):
        with pytest.raises(BadValue, match="bs=64"):
            ImageDataLoaders.from_folder(fashion, item_tfms=Resize(8))

    def test_images_of_different_sizes_without_a_resize(self, folder):
        for i, file in enumerate(get_image_files(folder / "train")):
            Image.new("RGB", (8 + i, 8)).save(file)
        dls = ImageDataLoaders.from_folder(folder, **FEW)
        with pytest.raises(MixedSizes) as error:
            dls.one_batch()
        assert "Resize" in error.value.fix

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_truncated_image_is_named_or_left_out(self, folder, workers):
        victim = get_image_files(folder / "train")[7]
        victim.write_bytes(victim.read_bytes()[:200])
        kwargs = {**FEW, "num_workers": workers, "item_tfms": Resize(8), "bs": 18}
        with pytest.raises(BadImage, match=victim.name):
            list(ImageDataLoaders.from_folder(folder, **kwargs).train)
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            ((x, _),) = ImageDataLoaders.from_folder(folder, on_bad="skip", **kwargs).train
        assert len(x) == 17
        assert any(victim.name in str(w.message) for w in heard)

    def test_a_missing_table_and_lists_of_different_length(self, tmp_path):
        with pytest.raises(NotFoundPath, match=r"labels\.csv"):
            ImageDataLoaders.from_csv(tmp_path)
        with pytest.raises(BadValue, match="files and labels differ in number"):
            ImageDataLoaders.from_lists(tmp_path, ["a.png"], [])

    @pytest.mark.parametrize(
        ("recipe", "given", "meant"),
        [
            ("from_folder", {"itm_tfms": Resize(8)}, "item_tfms"),
            ("from_folder", {"num_worker": 0}, "num_workers"),
            ("from_name_func", {"vald_pct": 0.3}, "valid_pct"),
            ("from_csv", {"lable_col": 1}, "label_col"),
        ],
    )
    def test_a_misspelt_keyword_names_the_right_one(self, fashion, recipe, given, meant):
        pd.DataFrame({"f": ["a"], "l": ["b"]}).to_csv(fashion / "labels.csv")
        needed = {"from_name_func": (["a.png"], len)}.get(recipe, ())
        with pytest.raises(BadArgument, match=f"did you mean '{meant}'"):
            getattr(ImageDataLoaders, recipe)(fashion, *needed, **given)

    def test_all_of_them_are_errors_of_the_library(self):
        assert all(issubclass(e, LayeredError) for e in (BadImage, BadValue, EmptySource, MixedSizes, UnknownLabel))


def test_the_block_of_the_tutorial_gives_the_batches_of_the_recipe(fashion):
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_items=get_image_files,
        splitter=GrandparentSplitter(),
        get_y=lambda o: Path(o).parent.name,
        item_tfms=[Resize(24, method="squish")],
    )
    ours = block.dataloaders(fashion, **FEW).valid.one_batch()
    theirs = ImageDataLoaders.from_folder(fashion, item_tfms=Resize(24, method="squish"), **FEW).valid.one_batch()
    assert torch.equal(ours[0], theirs[0])


def test_a_csv_of_other_habits_gives_the_same_loaders(fashion):
    files = [f.relative_to(fashion).as_posix() for f in get_image_files(fashion)]
    names = [("NA", "None", "Köln", "007")[i % 4] for i in range(len(files))]
    for mark, encoding, options in ((";", "utf-8", {}), ("\t", "latin-1", {"encoding": "latin-1"})):
        lines = [f"{file}{mark}{name}" for file, name in zip(files, names, strict=True)]
        (fashion / "habits.csv").write_text("\n".join([f"file{mark}class", *lines]), encoding=encoding)
        dls = ImageDataLoaders.from_csv(fashion, "habits.csv", valid_pct=0.5, seed=1, bs=2, num_workers=0, **options)
        assert dls.vocab == ["007", "Köln", "NA", "None"]
        assert [dls.vocab[int(y)] for y in dls.train_ds.tls[1]] == [
            names[i] for i in dls.train_ds.tls[1].items.positions
        ]
    with pytest.raises(BadArgument, match="encoding"):
        ImageDataLoaders.from_csv(fashion, "habits.csv", encodin="latin-1")


NUMBERS = np.linspace(0, 1, 27)


@pytest.mark.parametrize(
    "labels",
    [
        NUMBERS.tolist(), NUMBERS.astype(np.float32), list(NUMBERS.astype(np.float32)), pd.Series(NUMBERS, index=range(50, 77)),
        torch.tensor(NUMBERS), [0, *NUMBERS[1:]], [(n, 1 - n) for n in NUMBERS], np.stack([NUMBERS, NUMBERS], 1),
    ],
    ids=["floats", "float32", "scalars", "Series", "tensor", "mixed", "pairs", "rows"],
)  # fmt: skip
def test_fractions_of_any_library_are_numbers_to_predict(fashion, labels):
    files = get_image_files(fashion)
    y = ImageDataLoaders.from_lists(fashion, files, labels, seed=1, bs=4, num_workers=0).one_batch()[1]
    assert y.dtype == torch.float32
    assert y.shape == (4, *np.shape(labels)[1:])


def test_columns_of_many_fractions_are_numbers_to_predict(fashion):
    files = [f.relative_to(fashion).as_posix() for f in get_image_files(fashion)]
    df = pd.DataFrame({"f": files, "u": NUMBERS, "v": 1 - NUMBERS, "c": [1.5, 2.0, 2.5] * 9}, index=range(50, 77))
    for column, shape in (("u", (4,)), (["u", "v"], (4, 2))):
        dls = ImageDataLoaders.from_df(df, fashion, label_col=column, seed=1, bs=4, num_workers=0)
        assert dls.one_batch()[1].shape == shape
    assert ImageDataLoaders.from_df(df, fashion, label_col="c", seed=1, bs=4).vocab == [1.5, 2.0, 2.5]


def test_labels_of_a_series_need_not_start_at_0(fashion):
    files = get_image_files(fashion)
    names = pd.Series([f.parent.name for f in files], index=range(9, 36))
    dls = ImageDataLoaders.from_lists(fashion, pd.Series(list(files), index=names.index), names, seed=1, bs=4)
    assert [dls.vocab[int(y)] for y in dls.train_ds.tls[1]] == [file.parent.name for file, _ in dls.train_ds.items]


def test_a_share_of_0_trains_on_every_image(fashion):
    dls = ImageDataLoaders.from_folder(fashion, valid_pct=0, bs=4, num_workers=0)
    assert (len(dls.train_ds), len(dls.valid_ds)) == (27, 0)
