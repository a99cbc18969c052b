"""Transforms of torchvision, kornia and albumentations do to a sample what they do when they are called directly."""

from __future__ import annotations

import itertools
import random
import re

import albumentations as A
import kornia
import kornia.augmentation as K
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.testing import assert_close
from torchvision import transforms as v1, tv_tensors
from torchvision.transforms import v2

from layered.data import CategoryBlock, DataBlock, EndSplitter
from layered.files import Scope, decode_tree, encode_tree
from layered.foundation import (
    BadArgument,
    BadFile,
    BadValue,
    CannotRestore,
    LayeredError,
    NotExportable,
    TensorCategory,
    TensorImage,
    TensorMask,
    TensorMultiCategory,
    Tickets,
    UnknownName,
    draw_generator,
    drawing,
    plain,
)
from layered.loop import Callback
from layered.training import Learner, load_learner
from layered.vision import (
    BBoxBlock,
    BBoxLblBlock,
    ImageBlock,
    MaskBlock,
    PILImage,
    PILImageBW,
    PILMask,
    PointBlock,
    Resize,
    TensorBBox,
    TensorPoint,
    aug_transforms,
    image2tensor,
)
from layered.vision.albumentations_transforms import AlbumentationsTransform
from layered.vision.kornia_transforms import KorniaTransform
from layered.vision.torchvision_transforms import TorchvisionTransform

NUMBERS = list(range(12))


def picture(n: int) -> Image.Image:
    """An image whose left part is bright; its width says which it is."""
    pixels = np.random.default_rng(n).integers(0, 90, (24, 28, 3), np.uint8)
    pixels[:, : 6 + n] += 120
    return Image.fromarray(pixels)


def classes(n: int) -> np.ndarray:
    return np.arange(24 * 28).reshape(24, 28) % 5


def load(block=(ImageBlock, CategoryBlock), get_y=lambda n: n % 3, seed=1, **kwargs):
    loaders = {
        name: kwargs.pop(name) for name in ("num_workers", "persistent_workers", "before_batch") if name in kwargs
    }
    described = DataBlock(block, get_x=picture, get_y=get_y, splitter=EndSplitter(0.34), **kwargs)
    return described.dataloaders(NUMBERS, bs=4, device="cpu", seed=seed, **{"num_workers": 0, **loaders})


def segmentation(**tfms):
    return load((ImageBlock, MaskBlock(list("abcde"))), classes, **tfms)


def sample(n=3):
    return PILImage.create(picture(n)), PILMask.create(classes(n).astype(np.uint8)), TensorCategory(torch.tensor(n))


TORCHVISION = [
    v2.RandomHorizontalFlip(0.5), v2.RandomVerticalFlip(0.5), v2.RandomResizedCrop(16), v2.RandomCrop(16),
    v2.RandomRotation(30), v2.RandomAffine(10, (0.2, 0.2)), v2.RandomPerspective(p=1.0), v2.ElasticTransform(),
    v2.ColorJitter(0.4, 0.4, 0.4, 0.2), v2.RandomGrayscale(0.5), v2.GaussianBlur(3), v2.RandomPosterize(3), v2.RandomSolarize(90),
    v2.RandomAdjustSharpness(2), v2.RandomAutocontrast(), v2.RandomEqualize(), v2.RandomErasing(1.0), v2.RandomInvert(),
    v2.RandomPhotometricDistort(), v2.RandomZoomOut(p=1.0), v2.ScaleJitter((24, 24)), v2.CenterCrop(12), v2.Pad(3),
    v2.RandomChannelPermutation(), v2.JPEG((20, 80)), v2.Compose([v2.RandomHorizontalFlip(), v2.Resize(12)]),
    v2.RandomApply([v2.ColorJitter(0.5)], p=0.5), v2.RandomChoice([v2.RandomRotation(30), v2.ColorJitter(0.5)]),
]  # fmt: skip
KORNIA = [
    K.RandomHorizontalFlip(), K.RandomVerticalFlip(), K.RandomRotation(30.0), K.RandomAffine(20.0, (0.1, 0.1)),
    K.RandomResizedCrop((16, 16)), K.RandomCrop((16, 16)), K.RandomPerspective(p=1.0), K.RandomElasticTransform(p=1.0),
    K.ColorJiggle(0.2, 0.2, 0.2, 0.2), K.RandomErasing(p=1.0), K.RandomGaussianBlur((3, 3), (0.5, 1.5)), K.RandomShear(10.0),
    K.Resize((12, 12)), K.CenterCrop((12, 12)), K.auto.RandAugment(2, 10), K.auto.TrivialAugment(),
    K.AugmentationSequential(K.RandomAffine(20.0), K.ColorJitter(0.2, 0.2), data_keys=["input"], random_apply=1),
]  # fmt: skip
ALBUMENTATIONS = [
    A.HorizontalFlip(), A.D4(), A.Rotate(30, p=1), A.Affine(rotate=20, p=1), A.RandomResizedCrop((16, 16)),
    A.RandomCrop(16, 16), A.Perspective(p=1), A.ElasticTransform(p=1, alpha=5), A.GridDistortion(p=1), A.ColorJitter(p=1),
    A.GaussNoise(p=1), A.CoarseDropout(p=1), A.CLAHE(p=1), A.PadIfNeeded(32, 32), A.SquareSymmetry(), A.ToGray(p=1),
    A.Compose([A.HorizontalFlip(), A.OneOf([A.RandomGamma(p=1), A.Transpose(p=1)], p=0.9)]),
    A.ReplayCompose([A.HorizontalFlip(), A.ColorJitter()]), A.SomeOf([A.HorizontalFlip(p=1), A.Blur(p=1)], n=1),
]  # fmt: skip


@pytest.mark.parametrize("tfm", TORCHVISION, ids=repr)
def test_as_torchvision_does_it(tfm):
    image, mask, label = sample()
    for seed in range(4):
        torch.manual_seed(seed)
        got = TorchvisionTransform(tfm)((image, mask, label), split_idx=0)
        torch.manual_seed(seed)
        expected = tfm(tv_tensors.Image(image2tensor(image)), tv_tensors.Mask(image2tensor(mask)[0]))
        assert_close(image2tensor(got[0]), plain(expected[0].as_subclass(torch.Tensor)))
        assert_close(image2tensor(got[1])[0], expected[1].as_subclass(torch.Tensor))
        assert [type(o) for o in got] == [PILImage, PILMask, TensorCategory]
        assert got[2] is label


@pytest.mark.parametrize("tfm", KORNIA, ids=lambda tfm: type(tfm).__name__)
def test_as_kornia_does_it_to_batches(tfm):
    images, masks = torch.rand(6, 3, 24, 28), torch.randint(0, 5, (6, 24, 28))
    labels = TensorCategory(torch.arange(6))
    sequence = tfm if isinstance(tfm, K.AugmentationSequential) else K.AugmentationSequential(tfm, data_keys=["input"])
    for seed in range(3):
        torch.manual_seed(seed)
        got = KorniaTransform(tfm)((TensorImage(images), TensorMask(masks), labels), split_idx=0)
        torch.manual_seed(seed)
        expected = sequence(images, masks[:, None], data_keys=["input", "mask"])
        assert_close(plain(got[0]), expected[0])
        assert_close(plain(got[1]), expected[1][:, 0])
        assert [type(o) for o in got] == [TensorImage, TensorMask, TensorCategory]
        assert got[2] is labels


@pytest.mark.parametrize("tfm", KORNIA, ids=lambda tfm: type(tfm).__name__)
def test_as_kornia_does_it_to_items(tfm):
    image, mask, label = sample()
    sequence = tfm if isinstance(tfm, K.AugmentationSequential) else K.AugmentationSequential(tfm, data_keys=["input"])
    torch.manual_seed(3)
    got = KorniaTransform(tfm)((image, mask, label), split_idx=0)
    torch.manual_seed(3)
    expected = sequence(image2tensor(image)[None] / 255, image2tensor(mask)[None], data_keys=["input", "mask"])
    assert_close(image2tensor(got[0]).float() / 255, expected[0][0].clamp(0, 1), atol=0.5 / 255 + 1e-6, rtol=0)
    assert_close(image2tensor(got[1]), expected[1][0])


@pytest.mark.parametrize("tfm", ALBUMENTATIONS, ids=lambda tfm: type(tfm).__name__)
def test_as_albumentations_does_it(tfm):
    image, mask, label = sample()
    for ticket in range(5):
        with drawing(Tickets(ticket)):
            got = AlbumentationsTransform(tfm)((image, mask, label), split_idx=0)
        with drawing(Tickets(ticket)):
            seed = draw_generator().initial_seed()
        direct = A.Compose([tfm])
        direct.set_random_state(np.random.default_rng(seed), random.Random(seed))
        expected = direct(image=np.asarray(image), mask=np.asarray(mask))
        assert np.array_equal(np.asarray(got[0]), expected["image"])
        assert np.array_equal(np.asarray(got[1]), expected["mask"])
        assert [type(o) for o in got] == [PILImage, PILMask, TensorCategory]
        assert got[2] is label


def test_the_steps_of_albumentations_draw_independently():
    tfm = AlbumentationsTransform(A.Compose([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)], seed=1))
    corner = np.zeros((8, 8, 3), np.uint8)
    corner[0, 0] = 255
    seen = set()
    for ticket in range(40):
        with drawing(Tickets(ticket)):
            seen.add(tuple(np.argwhere(np.asarray(tfm(PILImage.create(corner), split_idx=0))[..., 0])[0]))
    assert seen == {(0, 0), (0, 7), (7, 0), (7, 7)}


MIXED = {
    "torchvision": {"item_tfms": [v2.RandomRotation(30), v2.ColorJitter(0.5)]},
    "kornia": {"item_tfms": [K.RandomAffine(20.0), K.RandomErasing()]},
    "albumentations": {"item_tfms": A.Compose([A.HorizontalFlip(), A.Affine(rotate=20, p=0.9), A.GaussNoise()])},
    "batches": {"batch_tfms": [v2.RandomHorizontalFlip(), K.RandomAffine(20.0), K.ColorJiggle(0.2)]},
}


@pytest.mark.parametrize("tfms", MIXED.values(), ids=MIXED)
def test_the_same_samples_for_any_number_of_workers_and_when_resumed(tfms):
    def passes(**workers):
        dl = segmentation(**tfms, **workers).train
        return [plain(o) for _ in range(2) for batch in dl for o in batch]

    alone = passes()
    assert not torch.equal(alone[0], alone[4])
    for workers in ({"num_workers": 1}, {"num_workers": 3}, {"num_workers": 3, "persistent_workers": True}):
        assert all(itertools.starmap(torch.equal, zip(alone, passes(**workers), strict=True)))
    dl, again = segmentation(**tfms).train, segmentation(**tfms).train
    batches = iter(dl)
    next(batches)
    state, rest = dl.state_dict(), list(batches)
    again.load_state_dict(state)
    for expected, got in zip(rest, again, strict=True):
        assert_close(plain(got[0]), plain(expected[0]), atol=0, rtol=0)


def test_each_image_of_a_batch_has_a_draw_of_its_own_with_kornia():
    batch = TensorImage(torch.rand(1, 3, 8, 8).expand(32, 3, 8, 8).clone())
    torch.manual_seed(0)
    made = plain(KorniaTransform(K.RandomHorizontalFlip(0.5))((batch,), split_idx=0)[0])
    flipped = (made == plain(batch).flip(-1)).flatten(1).all(1)
    assert 0 < int(flipped.sum()) < 32
    assert (made[~flipped] == plain(batch)[~flipped]).all()


IN_TRAINING_ONLY = [
    {"item_tfms": K.RandomHorizontalFlip(p=1.0)},
    {"item_tfms": A.HorizontalFlip(p=1)},
    {"item_tfms": A.Compose([A.VerticalFlip(p=1), A.Rotate(p=1)])},
    {"item_tfms": A.Compose([A.ToGray(p=1)], p=0.99)},
    {"item_tfms": A.OneOf([A.ToGray(p=1), A.Blur(p=1)], p=1)},
    {"item_tfms": K.ImageSequential(K.RandomVerticalFlip(p=1.0), K.RandomInvert(p=1.0))},
    {"batch_tfms": nn.Sequential(K.RandomHorizontalFlip(p=1.0), K.RandomErasing(p=1.0))},
    {"batch_tfms": K.auto.RandAugment(3, 10)},
    {"batch_tfms": aug_transforms(
        do_flip=False, max_rotate=0, max_zoom=1, max_warp=0, max_lighting=0, xtra_tfms=v2.RandomErasing(1.0)
    )},
]  # fmt: skip


@pytest.mark.parametrize("tfms", IN_TRAINING_ONLY, ids=repr)
def test_what_is_random_leaves_validation_alone(tfms):
    plain_dls, dls = load(), load(**tfms)
    assert not torch.equal(dls.train.one_batch()[0], plain_dls.train.one_batch()[0])
    for got, expected in zip(dls.valid.one_batch(), plain_dls.valid.one_batch(), strict=True):
        assert_close(plain(got), plain(expected))


@pytest.mark.parametrize(
    ("tfms", "size"),
    [
        ({"item_tfms": A.Compose([A.RandomResizedCrop((16, 12)), A.HorizontalFlip(), A.ColorJitter()])}, (16, 12)),
        ({"item_tfms": A.OneOf([A.RandomCrop(16, 12), A.CenterCrop(16, 12)], p=1)}, (16, 12)),
        ({"item_tfms": [A.LongestMaxSize(20), A.PadIfNeeded(20, 20), A.D4()]}, (20, 20)),
        ({"item_tfms": K.AugmentationSequential(K.Resize((16, 12)), K.RandomErasing())}, (16, 12)),
        ({"batch_tfms": [K.RandomResizedCrop((16, 12)), K.RandomHorizontalFlip()]}, (16, 12)),
    ],
    ids=repr,
)
def test_what_sets_the_size_applies_to_validation_too(tfms, size):
    dls = segmentation(**tfms)
    for dl in dls:
        x, y = dl.one_batch()
        assert (x.shape[-2:], y.shape[-2:]) == (size, size)
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert set(y.unique().tolist()) <= {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    "tfm", [A.ToGray(p=1), A.Compose([A.InvertImg(p=1)]), kornia.filters.MedianBlur((3, 3))], ids=repr
)
def test_what_draws_nothing_applies_to_validation_too(tfm):
    assert not torch.equal(load(item_tfms=tfm).valid.one_batch()[0], load().valid.one_batch()[0])


FLIPS = [TorchvisionTransform(v2.RandomHorizontalFlip(1.0)), KorniaTransform(K.RandomHorizontalFlip(p=1.0)),
         AlbumentationsTransform(A.HorizontalFlip(p=1))]  # fmt: skip


@pytest.mark.parametrize("flip", FLIPS, ids=lambda tfm: tfm.whose)
@pytest.mark.parametrize(
    "pixels",
    [
        torch.randint(0, 256, (3, 6, 8), dtype=torch.uint8),
        torch.rand(1, 6, 8),
        torch.rand(4, 6, 8, dtype=torch.float64),
        torch.rand(7, 6, 8),
        torch.randint(0, 65536, (1, 6, 8)).to(torch.uint16),
    ],
    ids=lambda pixels: f"{len(pixels)} {pixels.dtype}",
)
def test_dtype_range_and_channels_are_kept(flip, pixels):
    made = flip(pixels.as_subclass(TensorImage), split_idx=0)
    assert isinstance(made, TensorImage)
    assert made.dtype == pixels.dtype
    assert_close(plain(made).to(torch.float64), pixels.to(torch.float64).flip(-1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("flip", FLIPS, ids=lambda tfm: tfm.whose)
def test_images_of_pil_keep_class_mode_and_values(flip):
    values = np.arange(48).reshape(6, 8)
    for kind in (PILImage, PILImageBW, PILMask):
        given = kind.create(Image.fromarray(values.astype(np.uint8)))
        made = flip((given, PILImage.create(given)), split_idx=0)[0]
        assert type(made) is kind
        assert np.array_equal(np.asarray(made), np.asarray(given)[:, ::-1])
    for image in (
        Image.fromarray(values.astype(np.uint16) * 1000),
        Image.fromarray(values.astype(np.uint8)).convert("RGBA"),
    ):
        made = flip(image, split_idx=0)
        assert made.mode == image.mode
        assert np.array_equal(np.asarray(made), np.asarray(image)[:, ::-1])


@pytest.mark.parametrize("flip", FLIPS, ids=lambda tfm: tfm.whose)
def test_classes_of_masks_are_never_mixed_or_scaled(flip):
    classes = torch.tensor([[0, 300], [-1, 70000]])
    image = TensorImage(torch.rand(3, 2, 2))
    made = flip((image, TensorMask(classes)), split_idx=0)[1]
    assert plain(made).tolist() == [[300, 0], [70000, -1]]


@pytest.mark.parametrize("flip", FLIPS, ids=lambda tfm: tfm.whose)
def test_images_in_a_tuple_of_their_own_move_together(flip):
    pair = PILImage.create(picture(1)), PILImage.create(picture(2))
    (left, right), label = flip((pair, TensorCategory(torch.tensor(1))), split_idx=0)
    for made, given in ((left, pair[0]), (right, pair[1])):
        assert np.array_equal(np.asarray(made), np.asarray(given)[:, ::-1])
    assert int(label) == 1


@pytest.mark.parametrize(
    ("tfms", "said", "fix"),
    [
        ({"batch_tfms": A.HorizontalFlip()}, "albumentations' HorizontalFlip .* batch_tfms", "item_tfms="),
        ({"before_batch": A.HorizontalFlip()}, "before_batch", "item_tfms="),
        ({"before_batch": K.RandomHorizontalFlip()}, "before_batch", "item_tfms=.*batch_tfms="),
        ({"before_batch": v2.RandomHorizontalFlip()}, "before_batch", "item_tfms=.*batch_tfms="),
        ({"batch_tfms": v2.JPEG(50)}, "JPEG", "item_tfms="),
        ({"item_tfms": K.RandomMosaic()}, "RandomMosaic .* item_tfms", "batch_tfms="),
        ({"batch_tfms": K.RandomCutMixV2()}, "mixes labels", r"cbs=CutMix\(\)"),
        ({"batch_tfms": K.AugmentationSequential(K.RandomMixUpV2())}, "mixes labels", r"cbs=MixUp\(\)"),
        ({"item_tfms": K.RandomHorizontalFlip3D()}, "volumes", None),
        ({"item_tfms": A.Compose([A.Normalize((0.5,), (0.2,))])}, "undo", r"Normalize.from_stats\(\[0.5\], \[0.2\]\)"),
        ({"batch_tfms": K.Normalize(0.5, 0.2)}, "undo", r"Normalize.from_stats\(\[0.5\], \[0.2\]\)"),
        ({"batch_tfms": kornia.enhance.Normalize(torch.tensor([0.5]), torch.tensor([0.2]))}, "undo", "from_stats"),
        ({"item_tfms": A.HorizontalFlip}, "class", r"HorizontalFlip\(...\)"),
    ],
)
def test_what_a_slot_cannot_take_is_refused_with_the_one_that_can(tfms, said, fix):
    with pytest.raises(BadArgument, match=said) as caught:
        load(**tfms)
    assert fix is None or re.search(fix, caught.value.fix)


@pytest.mark.parametrize(
    ("tfms", "said"),
    [
        ({"item_tfms": v2.RandAugment()}, "kornia.augmentation.auto.RandAugment"),
        ({"batch_tfms": K.RandomJigsaw(p=1.0)}, "moves them too"),
        ({"batch_tfms": kornia.geometry.transform.Hflip()}, "kornia.augmentation"),
        ({"batch_tfms": K.RandomMosaic(p=1.0)}, "moves them too"),
    ],
    ids=repr,
)
def test_what_would_leave_masks_behind_is_refused(tfms, said):
    with pytest.raises(BadValue) as caught:
        segmentation(**tfms).train.one_batch()
    assert said in caught.value.fix


def test_a_mosaic_of_images_with_labels_is_refused():
    with pytest.raises(BadValue, match="labels may differ"):
        load(batch_tfms=K.RandomMosaic()).train.one_batch()
    assert torch.equal(load(batch_tfms=K.RandomMosaic()).valid.one_batch()[0], load().valid.one_batch()[0])
    images = TensorImage(torch.rand(4, 3, 16, 16))
    assert KorniaTransform(K.RandomMosaic(p=1.0))((images,), split_idx=0)[0].shape == (4, 3, 16, 16)


@pytest.mark.parametrize(
    "tfm", [K.ColorJiggle(0.5), A.ColorJitter(p=1), A.Compose([A.D4(), A.GaussNoise(p=1)])], ids=repr
)
def test_an_export_leaves_out_what_applies_in_training_only(tfm, tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    learn = Learner(load(item_tfms=[Resize(16), tfm]), model, path=tmp_path)
    again = load_learner(learn.export("a.layered"))
    assert_close(again.predict(picture(3))[2], learn.predict(picture(3))[2])


FIXED = [
    v2.Resize((16, 16)),
    v2.Compose(
        [v2.RandomHorizontalFlip(), v2.Resize(20, v2.InterpolationMode.NEAREST), v2.CenterCrop(16), v2.Pad(2, fill=3)]
    ),
    v2.Compose(
        [v2.ToImage(), v2.Compose([v2.Grayscale(3), v2.ToDtype(torch.float32, scale=True)]), v2.Resize((18, 9))]
    ),
    v1.Compose([v1.Resize((9, 12), v1.InterpolationMode.BICUBIC), v1.Grayscale(3), v1.ToTensor()]),
    A.Resize(16, 12),
    A.Compose([A.D4(), A.LongestMaxSize(20), A.PadIfNeeded(24, 24, fill=7), A.ToGray(p=1)]),
    A.Sequential([A.SmallestMaxSize(max_size_hw=(None, 16)), A.Compose([A.CenterCrop(12, 12)])], p=1),
    K.Resize((16, 16), resample="nearest"),
    K.AugmentationSequential(K.ColorJiggle(0.1), K.PadTo((30, 30)), K.CenterCrop(8, resample="bicubic")),
]


@pytest.mark.parametrize("tfm", FIXED, ids=lambda tfm: re.sub(r"\s+", " ", repr(tfm))[:60])
def test_an_export_holds_what_applies_to_predictions_and_draws_nothing(tfm, tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    learn = Learner(load(item_tfms=[tfm, Resize(16)]), model, path=tmp_path)
    again = load_learner(learn.export("a.layered"))
    for n in (3, 7):
        assert torch.equal(again.predict(picture(n))[2], learn.predict(picture(n))[2])
    given, made = (o.dls.test_dl([picture(5)]).one_batch()[0] for o in (learn, again))
    assert torch.equal(made, given)
    assert_close(
        load_learner(again.export(tmp_path / "b.layered")).predict(picture(3))[2], learn.predict(picture(3))[2]
    )


def test_an_export_holds_what_albumentations_does_with_boxes():
    tfm = A.Compose([A.RandomCrop(4, 4), A.Crop(0, 0, 12, 24)], bbox_params=A.BboxParams("coco", min_visibility=0.5))
    tfm = AlbumentationsTransform(A.Compose(tfm.transforms[1:], bbox_params=tfm.processors["bboxes"].params))
    again = decode_tree(encode_tree(tfm, {}, "", Scope.DATA), {}, Scope.DATA)
    boxes = TensorBBox(torch.tensor([[-1.0, -1, -0.5, 0], [-0.2, -1, 1, 1]]))  # of the second, little is left
    sample = PILImage.create(picture(3)), boxes, TensorMultiCategory([1, 2])
    expected, made = tfm(sample, split_idx=1), again(sample, split_idx=1)
    assert made[1].tolist() == expected[1].tolist()
    assert made[2].tolist() == expected[2].tolist() == [1]


def changed(tfm, name, value):
    vars(tfm)[name] = value
    return tfm


@pytest.mark.parametrize(
    ("tfm", "why"),
    [
        (v2.RandomCrop(16), "draws at random"),
        (v2.Compose([v2.Resize(20), v2.RandomResizedCrop(16)]), "draws at random"),
        (v2.Lambda(torch.neg), "not among those"),
        (v2.ToDtype({tv_tensors.Image: torch.float32}, scale=True), "argument 'dtype' is not plain"),
        (changed(v2.Resize(16), "transform", lambda o, params: o), "another one"),
        (A.RandomCrop(16, 16), "draws at random"),
        (A.OneOf([A.Resize(16, 16), A.Resize(16, 12)], p=1), "draws at random"),
        (A.LongestMaxSize([16, 20]), "max_size at random"),
        (A.PadIfNeeded(40, 40, position="random"), "position at random"),
        (K.RandomCrop((16, 16)), "draws at random"),
        (K.Resize((16, 16), p=0.5), "another one"),
        (kornia.filters.MedianBlur((3, 3)), "not among those"),
    ],
    ids=lambda o: re.sub(r"\s+", " ", repr(o))[:40],
)
def test_what_applies_to_predictions_and_cannot_be_described_is_refused(tfm, why, tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    learn = Learner(load(item_tfms=[tfm, Resize(16)]), model, path=tmp_path)
    with pytest.raises(NotExportable, match=why) as caught:
        learn.export("b.layered")
    assert "Resize(224)" in caught.value.fix
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["TorchvisionTransform", "AlbumentationsTransform", "KorniaTransform"])
@pytest.mark.parametrize(
    "steps",
    [
        [{"name": "os.system", "args": {"command": "true"}}],
        [{"name": "v2.Lambda", "args": {"lambd": {"$function": "parent_label"}}}],
        [{"name": "v2.functional", "args": {}}],
        [{"name": "Lambda", "args": {"image": "x"}}],
        [{"name": "__class__", "args": {}}],
        [{"name": ["Resize"], "args": {}}],
        [{"name": "Resize", "args": ["size", 3]}],
        [{"name": "Resize"}],
        [{"name": "Resize", "args": {"nothing": 3}}],
        [{"name": "v2.Resize", "args": {"size": {"a": 3}}}],
        [{"name": "v2.SanitizeBoundingBoxes", "args": {"labels_getter": {"$function": "parent_label"}}}],
        [{"name": "BboxParams", "args": {"format": {"$tensor": "x"}}}],
        ["Resize"],
        [None],
        "Resize",
        {"name": "Resize", "args": {}},
        3,
    ],
    ids=repr,
)
def test_a_file_can_name_nothing_else(name, steps):
    node = {"$transform": name, "args": {"tfm": steps, "order": 1}}
    with pytest.raises((BadFile, UnknownName)):
        decode_tree(node, {"x": torch.zeros(1)}, Scope.DATA)


@pytest.mark.parametrize(
    ("tfm", "other"),
    [
        (v2.Resize((16, 16)), v2.Resize((16, 20))),
        (K.Resize((16, 16)), K.Resize((16, 20))),
        (A.ColorJitter((0.9, 1.1)), A.ColorJitter((0.8, 1.2))),
        (K.ColorJiggle(0.1), K.ColorJiggle(0.2)),
    ],
)
def test_a_fit_with_them_is_saved_and_goes_on_with_the_same_alone(tfm, other, tmp_path):
    def learner(tfm=tfm):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return Learner(load(item_tfms=[tfm, Resize(16)]), model)

    def stop(cb):
        if cb.learn.epoch == 1:
            raise KeyboardInterrupt

    whole, first, second = learner(), learner(), learner()
    whole.fit(2, 0.1)
    with pytest.raises(KeyboardInterrupt):
        first.fit(2, 0.1, checkpoint=tmp_path, resume="auto", cbs=Callback(before_train=stop))
    with pytest.raises(CannotRestore, match=r"train\.after_item"):
        learner(other).fit(2, 0.1, checkpoint=tmp_path, resume="auto", cbs=Callback())
    second.fit(2, 0.1, checkpoint=tmp_path, resume="auto", cbs=Callback())
    assert_close(second.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)


def test_floats_that_left_the_range_of_pixels_are_refused():
    with pytest.raises(LayeredError, match="range of pixels"):
        load(item_tfms=A.ToFloat(max_value=1.0)).one_batch()


WIDTH, HEIGHT = 60, 48
CENTRES = torch.tensor([(12, 10), (40, 8), (20, 35), (50, 30)])  # of squares of 4 pixels
COLOURS = torch.tensor([(255, 20, 20), (20, 255, 20), (20, 20, 255), (255, 255, 20)])
EDGES = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])


def squares() -> Image.Image:
    pixels = np.full((HEIGHT, WIDTH, 3), 20, np.uint8)
    for (x, y), colour in zip(CENTRES.tolist(), COLOURS, strict=True):
        pixels[y - 2 : y + 2, x - 2 : x + 2] = colour
    return Image.fromarray(pixels)


def boxes_of_squares() -> torch.Tensor:
    return torch.cat((CENTRES - 2, CENTRES + 2), 1).float()


def annotated(batched: bool) -> tuple:
    """Squares with their centres, their boxes, and the numbers of these as labels."""
    points, boxes = 2 * CENTRES / EDGES[:2] - 1, 2 * boxes_of_squares() / EDGES - 1
    labels = torch.arange(1, 5)
    if not batched:
        return PILImage.create(squares()), TensorPoint(points), TensorBBox(boxes), TensorMultiCategory(labels)
    image = TensorImage(image2tensor(squares())[None].float() / 255)
    padded = torch.cat((boxes, torch.zeros(1, 4)))
    labels = torch.cat((labels, torch.zeros(1, dtype=torch.int64)))
    return image, TensorPoint(points[None]), TensorBBox(padded[None]), TensorMultiCategory(labels[None])


def whole_squares(pixels: torch.Tensor) -> dict[int, torch.Tensor]:
    """Where the squares that lie within a picture are seen: number → (left, top, right, bottom)."""
    found = {}
    for number, colour in enumerate(COLOURS):
        rows, columns = ((pixels - colour[:, None, None]).abs().sum(0) < 120).nonzero().T
        if len(rows) < 3:
            continue
        box = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)).float()
        if box[:2].min() > 1 and box[2] < pixels.shape[2] - 1 and box[3] < pixels.shape[1] - 1:
            found[number] = box
    return found


MOTIONS = {
    TorchvisionTransform: [
        v2.RandomHorizontalFlip(1.0), v2.RandomVerticalFlip(1.0), v2.RandomRotation(20, expand=True),
        v2.RandomAffine(10, (0.1, 0.1), (0.8, 1.2)), v2.Resize((96, 120)), v2.RandomCrop(40), v2.Pad(5), v2.CenterCrop(36),
        v2.RandomResizedCrop(48, (0.5, 1.0)), v2.RandomPerspective(0.3, p=1.0), v2.RandomZoomOut(p=1.0), v2.RandomIoUCrop(),
        v2.Compose([v2.RandomIoUCrop(), v2.SanitizeBoundingBoxes()]), v2.ColorJitter(0.1),
    ],
    KorniaTransform: [
        K.RandomHorizontalFlip(p=1.0), K.RandomVerticalFlip(p=1.0), K.RandomRotation(20.0, p=1.0),
        K.RandomAffine(10.0, (0.1, 0.1), (0.8, 1.2), p=1.0), K.Resize((96, 120)), K.RandomCrop((40, 40)),
        K.RandomResizedCrop((48, 48), (0.5, 1.0)), K.RandomPerspective(0.3, p=1.0), K.CenterCrop((36, 36)),
        K.ColorJiggle(0.05), K.AugmentationSequential(K.RandomHorizontalFlip(), K.RandomRotation(10.0)),
    ],
    AlbumentationsTransform: [
        A.HorizontalFlip(p=1), A.VerticalFlip(p=1), A.D4(), A.Rotate(20, p=1), A.Affine(rotate=10, scale=(0.8, 1.2), p=1),
        A.Resize(96, 120), A.RandomCrop(40, 40), A.RandomResizedCrop((48, 48), (0.5, 1.0)), A.Perspective(p=1),
        A.PadIfNeeded(70, 70), A.BBoxSafeRandomCrop(), A.ReplayCompose([A.Transpose(p=1), A.Blur(3, p=0.0)]),
        A.Compose([A.HorizontalFlip()], A.BboxParams("coco", ["names"]), A.KeypointParams("yx")),
    ],
}  # fmt: skip


@pytest.mark.parametrize("batched", [False, True], ids=["item", "batch"])
@pytest.mark.parametrize(
    ("adapter", "tfm"),
    [(adapter, tfm) for adapter, tfms in MOTIONS.items() for tfm in tfms],
    ids=lambda o: o.__name__[:4] if isinstance(o, type) else type(o).__name__,
)
def test_points_and_boxes_lie_where_the_squares_are_seen(adapter, tfm, batched):
    if batched and adapter is AlbumentationsTransform:
        pytest.skip("for items")
    seen = 0
    for ticket in range(4):
        torch.manual_seed(ticket)
        with drawing(Tickets(ticket)):
            made = adapter(tfm)(annotated(batched), split_idx=0)
        assert [type(o) for o in made[1:]] == [TensorPoint, TensorBBox, TensorMultiCategory]
        image, points, boxes, labels = made if not batched else (o[0] for o in made)
        pixels = image2tensor(image).float() if not batched else plain(image) * 255
        edges = torch.tensor([pixels.shape[2], pixels.shape[1]] * 2)
        points, boxes = (plain(points) + 1) / 2 * edges[:2], (plain(boxes) + 1) / 2 * edges
        assert boxes.min() >= 0
        assert len(points) == 4
        for number, box in whole_squares(pixels).items():
            seen += 1
            assert_close(points[number], (box[:2] + box[2:]) / 2, atol=1.0, rtol=0)
            assert_close(boxes[plain(labels).tolist().index(number + 1)], box, atol=1.4, rtol=0)
    assert seen


def test_a_box_that_has_left_the_image_goes_with_its_label():
    for tfm in (TorchvisionTransform(v2.CenterCrop(24)), KorniaTransform(K.CenterCrop((24, 24))),
                AlbumentationsTransform(A.CenterCrop(24, 24))):  # fmt: skip
        _, points, boxes, labels = tfm(annotated(False), split_idx=0)
        assert (len(points), len(boxes), plain(labels).tolist()) == (4, 1, [3])
    for tfm in (TorchvisionTransform(v2.CenterCrop(24)), KorniaTransform(K.CenterCrop((24, 24)))):
        _, _, boxes, labels = tfm(annotated(True), split_idx=0)
        assert plain(labels).tolist() == [[0, 0, 3, 0, 0]]
        assert (plain(boxes)[0, [0, 1, 3, 4]] == 0).all()


def test_what_albumentations_is_told_of_boxes_is_kept():
    told = A.BboxParams("yolo", label_fields=["names"], min_area=20)
    _, _, boxes, labels = AlbumentationsTransform(A.Compose([A.NoOp()], bbox_params=told))(
        annotated(False), split_idx=0
    )
    assert len(boxes) == len(labels) == 0
    direct = A.Compose([A.RandomCrop(40, 40)], bbox_params=A.BboxParams("pascal_voc", ["names"], min_visibility=0.9))
    with drawing(Tickets(5)):
        seed = draw_generator().initial_seed()
    with drawing(Tickets(5)):
        image, _, boxes, labels = AlbumentationsTransform(direct)(annotated(False), split_idx=0)
    again = A.Compose([A.RandomCrop(40, 40)], bbox_params=A.BboxParams("pascal_voc", min_visibility=0.9))
    nested = A.Compose([again], bbox_params=A.BboxParams("pascal_voc", min_visibility=0.9))
    nested.set_random_state(np.random.default_rng(seed), random.Random(seed))
    numbered = np.column_stack((boxes_of_squares().numpy(), np.arange(1, 5)))
    expected = nested(image=np.asarray(squares()), bboxes=numbered)
    assert np.array_equal(np.asarray(image), expected["image"])
    assert_close((plain(boxes) + 1) * 20, torch.tensor(expected["bboxes"][:, :4]).float())
    assert plain(labels).tolist() == expected["bboxes"][:, 4].tolist()


def test_the_boxes_of_a_mosaic_keep_their_labels():
    batch = TensorImage(torch.stack([torch.full((3, 32, 32), float(n)) for n in range(1, 7)]) / 10)
    boxes = TensorBBox(torch.tensor([[[-0.5, -0.5, 0.5, 0.5], [0, 0, 0, 0]]]).repeat(6, 1, 1))
    labels = TensorMultiCategory(torch.tensor([[n, 0] for n in range(1, 7)]))
    torch.manual_seed(0)
    images, boxes, labels = KorniaTransform(K.RandomMosaic(p=0.7))((batch, boxes, labels), split_idx=0)
    assert boxes.shape[1] == labels.shape[1] == 8
    seen = 0
    for image, own_boxes, own_labels in zip(plain(images), plain(boxes), plain(labels), strict=True):
        for box, label in zip(((own_boxes + 1) * 16).round().long().tolist(), own_labels.tolist(), strict=True):
            if box[2] > box[0] and box[3] > box[1]:
                seen += 1
                middle = image[0, (box[1] + box[3]) // 2, (box[0] + box[2]) // 2]
                assert round(float(middle) * 10) == label
            else:
                assert label == 0
    assert seen > 8


def test_a_mosaic_in_training_leaves_the_labels_of_validation_alone():
    tfm = KorniaTransform(K.AugmentationSequential(K.Resize((24, 24)), K.RandomMosaic(p=1.0)))
    batch = TensorImage(torch.rand(4, 3, 32, 32))
    boxes = TensorBBox(torch.tensor([[-0.5, -0.5, 0.5, 0.5]]).repeat(4, 1, 1))
    labels = TensorMultiCategory(torch.tensor([[n] for n in range(1, 5)]))
    assert tfm((batch, boxes, labels), split_idx=0)[2].shape == (4, 4)
    images, _, kept = tfm((batch, boxes, labels), split_idx=1)
    assert images.shape[-1] == 24
    assert plain(kept).tolist() == plain(labels).tolist()


@pytest.mark.parametrize(
    "tfm", [K.RandomElasticTransform(p=1.0), K.RandomThinPlateSpline(p=1.0), v2.RandAugment()], ids=repr
)
def test_what_would_leave_points_behind_is_refused(tfm):
    adapter = TorchvisionTransform if isinstance(tfm, v2.Transform) else KorniaTransform
    with pytest.raises(BadValue) as caught:
        adapter(tfm)(annotated(False), split_idx=0)
    assert "kornia.augmentation" in caught.value.fix


@pytest.mark.parametrize(
    "tfms",
    [
        {"item_tfms": [v2.RandomHorizontalFlip(), Resize(32), A.Affine(rotate=10)], "batch_tfms": K.RandomHorizontalFlip()},
        {"item_tfms": [A.RandomResizedCrop((32, 32)), K.RandomVerticalFlip()], "batch_tfms": v2.RandomRotation(9)},
    ],
    ids=["first", "second"],
)  # fmt: skip
def test_loaders_of_points_and_boxes(tfms):
    names = list("abcd")

    def batch(workers, split=0):
        block = DataBlock(
            (ImageBlock, BBoxBlock, BBoxLblBlock, PointBlock), get_x=lambda n: squares(), n_inp=1, splitter=EndSplitter(0.5),
            get_y=[lambda n: boxes_of_squares()[: n % 4 + 1], lambda n: names[: n % 4 + 1], lambda n: CENTRES], **tfms
        )  # fmt: skip
        return block.dataloaders(list(range(8)), bs=4, num_workers=workers, device="cpu", seed=3)[split].one_batch()

    alone = batch(0)
    assert [o.shape[0] for o in alone] == [4] * 4
    assert alone[1].shape[1] == alone[2].shape[1]
    assert ((plain(alone[1])[..., 2] > plain(alone[1])[..., 0]) == (plain(alone[2]) > 0)).all()
    for got, expected in zip(batch(2), alone, strict=True):
        assert torch.equal(plain(got), plain(expected))
    assert_close(batch(0, 1)[2], batch(0, 1)[2])
