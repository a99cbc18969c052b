"""Segmentation in one line: loaders from a label function, a prediction that is a mask with names, and what does not fit."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadArgument, BadFile, BadValue, CannotTrain, NotFoundPath
from layered.vision.all import (
    AddMaskCodes,
    Brightness,
    Datasets,
    FlipItem,
    Learner,
    MaskBlock,
    OpenMask,
    Path,
    PILImage,
    PILMask,
    RandomSplitter,
    Resize,
    SegmentationDataLoaders,
    TensorFlowField,
    TensorImage,
    TensorMask,
    ToTensor,
    aug_transforms,
    get_image_files,
    resnet18,
    to_image,
    vision_learner,
)
from layered.vision.segmentation import read_codes

CODES = ["dark", "middle", "bright"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Crops of photographs, and for each pixel whether it is dark, middle or bright."""
    folder, draws = Path(tmp_path_factory.mktemp("scenes")), np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for i in range(10):
        left, top = draws.integers(0, 400), draws.integers(0, 200)
        image = Image.fromarray(load_sample_images().images[i % 2]).crop((left, top, left + 96, top + 64))
        image.save(folder / "images" / f"{i}.png")
        Image.fromarray(classes_of(np.asarray(image))).save(folder / "labels" / f"{i}.png")
    return folder


def classes_of(pixels):
    return np.digitize(pixels.mean(-1), [85, 170]).astype(np.uint8)


def loaders(path, **changes):
    args = {"codes": np.array(CODES), "seed": 0, "bs": 4, "num_workers": 0, "device": "cpu", "item_tfms": Resize(48)}
    files = get_image_files(path / "images").sorted()
    return SegmentationDataLoaders.from_label_func(
        path, files, lambda file: path / "labels" / f"{file.stem}.png", **args | changes
    )


class ByBrightness(nn.Module):
    """Scores of the three classes, as the masks were made."""

    def __init__(self):
        super().__init__()
        self.sharp = nn.Parameter(torch.tensor(100.0))

    def forward(self, x):
        grey = x.mean(1, keepdim=True) * 255
        return -self.sharp * (grey - x.new_tensor([42.5, 127.5, 212.5])[:, None, None]).abs()


def test_loaders_come_from_a_label_function(path):
    dls = loaders(path, batch_tfms=aug_transforms())
    images, masks = dls.one_batch()
    assert (type(images), type(masks)) == (TensorImage, TensorMask)
    assert (images.shape, masks.shape, masks.dtype) == ((4, 3, 48, 48), (4, 48, 48), torch.int64)
    assert (dls.vocab, dls.c, len(dls.train_ds), len(dls.valid_ds)) == (CODES, 3, 8, 2)
    with pytest.raises(BadArgument, match="from_label_func") as caught:
        loaders(path, item_tfm=Resize(32))
    assert "item_tfms" in str(caught.value)


def test_masks_move_with_their_images(path):
    dls = loaders(path, item_tfms=[Resize((32, 40), "squish", resamples=(0, 0)), FlipItem()])
    for images, masks in dls.train:
        wanted = classes_of(images.as_plain().permute(0, 2, 3, 1).numpy() * 255)
        assert (torch.from_numpy(wanted) == masks.as_plain()).float().mean() > 0.98


def test_a_prediction_is_a_mask_with_the_names_of_its_classes(path, tmp_path):
    dls = loaders(path, item_tfms=None)
    learn = Learner(dls, ByBrightness(), path=tmp_path)
    file = dls.valid_ds.items[0]
    mask, decision, probabilities = learn.predict(file)
    assert (type(mask), mask.codes) == (TensorMask, CODES)
    assert (decision.shape, probabilities.shape) == ((64, 96), (3, 64, 96))
    wanted = torch.from_numpy(np.asarray(PILMask.create(path / "labels" / f"{file.stem}.png"))).long()
    assert (mask.as_plain() == wanted).float().mean() > 0.99
    ax = mask.show()
    assert {text.get_text() for text in ax.figure.legends[0].get_texts()} <= set(CODES)
    image, again, *_ = learn.predict(file, with_input=True)
    again.show(ctx=image.show())
    learn.show_results()


def test_image_models_point_to_models_of_masks(path):
    with pytest.raises(BadValue, match="these targets are masks") as caught:
        vision_learner(loaders(path), resnet18, pretrained=False)
    assert "unet_learner" in caught.value.fix


def test_the_parts_work_in_data_sets_too(path):
    files = get_image_files(path / "images").sorted()
    label = lambda file: path / "labels" / f"{file.stem}.png"  # as users write it
    dsets = Datasets(
        files, [[PILImage.create], [label, OpenMask, AddMaskCodes(CODES)]], splits=RandomSplitter(seed=0)(files)
    )
    assert type(dsets[0][1]) is PILMask
    assert type(OpenMask(label(files[0]))) is PILMask
    dls = dsets.dataloaders(bs=2, after_item=[ToTensor], num_workers=0)
    assert type(dls.one_batch()[1]) is TensorMask
    assert dsets.target_kinds == ["mask"]


def test_small_names():
    pixels = np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    assert_close(torch.from_numpy(np.array(to_image(pixels))), torch.from_numpy(pixels))
    assert to_image(torch.zeros(1, 4, 6)).mode == "L"
    image = Image.new("L", (2, 2))
    assert to_image(image) is image
    assert type(TensorFlowField(torch.zeros(1, 2, 2, 2)) * 2) is TensorFlowField


@pytest.mark.parametrize("is_labelled", [True, False])
def test_predictions_of_turned_pictures_are_not_averaged_pixel_by_pixel(path, is_labelled):
    dls = loaders(path, item_tfms=Resize(48, method="squish"), batch_tfms=aug_transforms(flip_vert=True))
    learn = Learner(dls, nn.Conv2d(3, 3, 1))
    dl = dls.valid if is_labelled else dls.test_dl(get_image_files(path / "images"))
    with pytest.raises(CannotTrain, match="move the targets too"):
        learn.tta(dl=dl)
    (mean, plain), _ = learn.tta(dl=dl, batch_tfms=[Brightness(0.5, p=1)], beta=None)
    assert mean.shape == plain.shape
    assert not torch.allclose(mean, plain)


def test_masks_may_lie_in_a_folder_beside_the_images(path, tmp_path):
    shutil.copytree(path, tmp_path / "scenes")
    folder = tmp_path / "scenes"
    for mask in (folder / "labels").iterdir():
        mask.rename(mask.with_name(f"{mask.stem}_P.png"))
    (folder / "codes.txt").write_text("dark\nmiddle\n\nbright\n")
    args = {"bs": 4, "num_workers": 0, "device": "cpu", "seed": 0, "suff": "_P", "codes": "codes.txt"}
    dls = SegmentationDataLoaders.from_folder(folder, **args)
    assert dls.vocab == CODES
    images, masks = dls.valid.one_batch()
    for image, mask in zip(images.as_plain(), masks.as_plain(), strict=True):
        assert np.array_equal(classes_of((image * 255).round().permute(1, 2, 0).numpy()), mask.numpy())
    (folder / "images" / "a").mkdir()
    Image.new("RGB", (9, 9)).save(folder / "images" / "a" / "0.png")
    with pytest.raises(NotFoundPath, match="no mask for"):
        SegmentationDataLoaders.from_folder(folder, **args)
    (folder / "images" / "a" / "0.png").unlink()
    with pytest.raises(NotFoundPath, match="does not exist"):
        SegmentationDataLoaders.from_folder(folder, labels="masks", **args)
    (folder / "codes.txt").write_text("dark\ndark\n")
    with pytest.raises(BadValue, match="'dark' twice"):
        SegmentationDataLoaders.from_folder(folder, **args)
    with pytest.raises(BadArgument, match="item_tfm"):
        SegmentationDataLoaders.from_folder(folder, item_tfm=Resize(9), **{**args, "codes": CODES})


def test_masks_may_be_named_by_a_table(path):
    rows = [(f"{i}.png", f"labels/{i}.png", i > 6) for i in range(10)]
    df = pd.DataFrame(rows, columns=["image", "mask", "is_valid"])
    dls = SegmentationDataLoaders.from_df(
        df, path, folder="images", mask_col="mask", valid_col="is_valid", codes=CODES, bs=3, num_workers=0, device="cpu"
    )
    assert len(dls.valid_ds) == 3
    images, masks = dls.valid.one_batch()
    for image, mask in zip(images.as_plain(), masks.as_plain(), strict=True):
        assert np.array_equal(classes_of((image * 255).round().permute(1, 2, 0).numpy()), mask.numpy())


def test_a_text_is_not_taken_for_a_list_of_class_names():
    with pytest.raises(BadArgument, match=r"got +'codes\.txt'"):
        MaskBlock("codes.txt")
    assert AddMaskCodes(["sky", "road"]).c == 2


def test_a_file_of_classes_that_is_not_text_or_not_a_file_is_refused(tmp_path):
    (tmp_path / "codes.txt").write_bytes("Straße".encode("latin-1"))
    os.mkfifo(tmp_path / "pipe")
    for name in ("codes.txt", "pipe"):
        with pytest.raises(BadFile, match=name):
            read_codes(tmp_path, name)
    (tmp_path / "many.txt").write_text("\n".join(map(str, range(200_000))))
    assert len(read_codes(tmp_path, "many.txt")) == 200_000
