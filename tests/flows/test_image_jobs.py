"""Jobs on real small images, in the lines in which a user would type them."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from torch import nn

from layered.vision.all import (
    CategoryBlock,
    CrossEntropyLossFlat,
    DataBlock,
    F1ScoreMulti,
    FocalLoss,
    ImageBlock,
    IndexSplitter,
    KFoldSplitter,
    Learner,
    MSELossFlat,
    MultiCategoryBlock,
    Path,
    RandomSplitter,
    RegressionBlock,
    Resize,
    accuracy,
    aug_transforms,
    error_rate,
    get_image_files,
    load_learner,
    parent_label,
    rmse,
    tensor,
    unet_learner,
    vision_learner,
)


def small_net(pretrained=False):
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
    )  # fmt: skip


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder for each of three digits, with 30 pictures of 8 × 8."""
    folder, data = tmp_path_factory.mktemp("digits"), load_digits()
    for digit in range(3):
        (folder / str(digit)).mkdir()
        for i in np.flatnonzero(data.target == digit)[:30]:
            Image.fromarray((data.images[i] * 255 / 16).astype(np.uint8)).save(folder / str(digit) / f"{i}.png")
    return Path(folder)


def digits_block(y=CategoryBlock, get_y=parent_label, **settings):
    return DataBlock(
        (ImageBlock, y), get_y=get_y,
        **{"get_items": get_image_files, "splitter": RandomSplitter(seed=1), "item_tfms": Resize(16), **settings},
    )  # fmt: skip


def loaders(block, source, **settings):
    return block.dataloaders(source, num_workers=0, device="cpu", seed=1, **{"bs": 8, **settings})


def trained(dls, epochs=5, **settings):
    torch.manual_seed(0)
    learn = vision_learner(dls, small_net, pretrained=False, **settings)
    learn.logger = lambda row: None
    with learn.no_bar():
        before = learn.validate()[0]
        learn.fit_one_cycle(epochs, 1e-2)
        assert learn.validate()[0] < before
    return learn


def test_several_labels(digits):
    def labels(file):
        digit = int(file.parent.name)
        return [name for name, has in {"even": digit % 2 == 0, "round": digit == 0, "large": digit == 2}.items() if has]

    learn = trained(loaders(digits_block(MultiCategoryBlock, labels), digits), metrics=F1ScoreMulti())
    decided, _, probabilities = learn.predict(next(iter((digits / "0").ls())))
    assert (set(decided) <= {"even", "round", "large"}, probabilities.shape) == (True, (3,))
    learn.show_results(max_n=3)


def test_an_image_for_each_image(tmp_path):
    """Super-resolution: photographs from versions of a quarter of their size."""
    for i in range(20):
        photo = load_sample_images().images[i % 2]
        piece = Image.fromarray(photo[20 * i : 20 * i + 32, 28 * i : 28 * i + 32])
        piece.save(tmp_path / f"{i}.png")

    def small(file):
        return Image.open(file).resize((8, 8)).resize((32, 32))

    block = DataBlock(
        (ImageBlock, ImageBlock), get_items=get_image_files, get_x=small, splitter=IndexSplitter([0, 1, 2, 3]),
        batch_tfms=aug_transforms(max_rotate=0, max_warp=0, max_lighting=0),
    )  # fmt: skip
    dls = loaders(block, Path(tmp_path), bs=8)
    torch.manual_seed(0)
    learn = unet_learner(dls, small_net, n_out=3, pretrained=False, loss_func=MSELossFlat(), y_range=(-0.1, 1.1))
    learn.logger = lambda row: None
    with learn.no_bar():
        before = learn.validate()[0]
        learn.fit_one_cycle(6, 1e-2)
        assert learn.validate()[0] < before
    image = learn.predict(small(tmp_path / "0.png"))[0]
    assert image.shape == (3, 32, 32)
    learn.show_results(max_n=2)


class Twins(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = small_net(), nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, a, b):
        return self.head(torch.cat([self.body(a), self.body(b)], 1))


def test_pairs_of_images(digits):
    files = get_image_files(digits)
    draw = np.random.default_rng(0)
    pairs = [(files[i], files[j]) for i, j in draw.integers(0, len(files), (150, 2))]
    block = DataBlock(
        (ImageBlock, ImageBlock, CategoryBlock), n_inp=2,
        getters=[lambda pair: pair[0], lambda pair: pair[1], lambda pair: pair[0].parent == pair[1].parent],
        splitter=RandomSplitter(seed=1), item_tfms=Resize(16),
    )  # fmt: skip
    torch.manual_seed(0)
    learn = Learner(loaders(block, pairs), Twins(), metrics=accuracy)
    learn.logger = lambda row: None
    with learn.no_bar():
        learn.fit_one_cycle(4, 1e-2)
    same, _, probabilities = learn.predict((files[0], files[1]))
    assert probabilities.shape == (2,)
    assert str(same) in ("True", "False")


def test_a_number_for_each_image(digits):
    """A range little wider than the targets and a small head: a wide one takes many more epochs to settle."""

    def brightness(file):
        return float(np.asarray(Image.open(file)).mean() / 10)

    dls = loaders(digits_block(RegressionBlock, brightness), digits)
    learn = trained(dls, epochs=8, metrics=rmse, y_range=(5, 12), lin_ftrs=[32], ps=0.1)
    predicted, actual = learn.get_preds()
    error = (predicted.flatten() - actual.flatten()).square().mean().sqrt()
    assert learn.validate()[1] == pytest.approx(error.item())
    assert error < 0.8 * actual.std()
    assert predicted.flatten()[0] == pytest.approx(learn.predict(dls.valid.items[0])[2].item(), abs=1e-4)
    learn.show_results(max_n=3)


def test_larger_images_in_the_same_learner(digits):
    learn = trained(loaders(digits_block(item_tfms=Resize(8)), digits), metrics=error_rate)
    learned = [p.clone() for p in learn.model.parameters()]
    learn.dls = loaders(digits_block(item_tfms=Resize(24), batch_tfms=aug_transforms(do_flip=False)), digits)
    assert learn.dls.one_batch()[0].shape[-2:] == (24, 24)
    assert all(torch.equal(before, now) for before, now in zip(learned, learn.model.parameters(), strict=True))
    with learn.no_bar():
        learn.fit_one_cycle(3, 1e-2)
    plain, targets = learn.get_preds()
    several, same_targets = learn.tta(n=2)
    assert torch.equal(targets, same_targets)
    assert torch.equal(learn.tta(n=2, beta=1)[0], plain)
    for predictions in (plain, several):
        assert (predictions.argmax(1) != targets).float().mean() < 0.4


def test_a_rare_class(digits):
    """Drawn more often, weighted in the loss, or with a loss of its own: each is enough to find it."""
    files = get_image_files(digits)
    few = files.filter(lambda file: file.parent.name != "2" or int(file.stem) % 3 == 0)
    block = digits_block(get_items=None)
    plain = loaders(block, few)
    share = np.mean([file.parent.name == "2" for file in plain.train.items])
    weights = [5.0 if file.parent.name == "2" else 1.0 for file in few]
    drawn = loaders(block, few, weights=weights)
    labels = torch.cat([y for _ in range(10) for _, y in drawn.train])
    assert np.mean((labels == 2).tolist()) == pytest.approx(5 * share / (5 * share + 1 - share), abs=0.1)
    weighted = CrossEntropyLossFlat(weight=tensor([1.0, 1.0, 4.0]))
    for dls, loss in ((drawn, None), (plain, weighted), (plain, FocalLoss())):
        learn = trained(dls, loss_func=loss, lin_ftrs=[32], ps=0.1)
        predictions, targets = learn.get_preds(dl=learn.dls.test_dl(files, with_labels=True))
        assert (predictions.argmax(1) == 2)[targets == 2].float().mean() > 0.5
        assert (predictions.argmax(1) == targets).float().mean() > 0.5


def test_folds_and_pseudo_labels(digits, tmp_path):
    files = get_image_files(digits)
    unknown = files[::3]
    known = files.filter(lambda file: file not in unknown)
    small = {"epochs": 6, "lin_ftrs": [32], "ps": 0.1}
    predictions, held_out = [], []
    for fold in range(3):
        learn = trained(loaders(digits_block(get_items=None, splitter=KFoldSplitter(fold, 3, seed=1)), known), **small)
        held_out += learn.dls.valid.items
        predictions.append(learn.get_preds(dl=learn.dls.test_dl(unknown))[0])
    assert sorted(held_out) == sorted(known)
    mean = torch.stack(predictions).mean(0)
    right = mean.argmax(1) == tensor([int(file.parent.name) for file in unknown])
    assert right.float().mean() > 0.6

    sure = mean.amax(1) > 0.6
    assert right[sure].float().mean() >= right.float().mean()
    found = dict(zip(unknown[sure], mean[sure].argmax(1).tolist(), strict=True))
    block = digits_block(
        get_items=None,
        get_y=lambda file: str(found.get(file, file.parent.name)),
        splitter=IndexSplitter(range(0, 60, 6)),
    )
    learn = trained(loaders(block, [*known, *found]), path=tmp_path, **small)
    assert len(learn.dls.train_ds) == len(known) + len(found) - 10
    again = load_learner(learn.export("digits"))
    assert torch.equal(again.predict(files[0])[2], learn.predict(files[0])[2])
