"""Jobs on real small images, in the lines in which a user would type them."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from torch import nn

from layered.vision.all import (
    CategoryBlock,
    DataBlock,
    F1ScoreMulti,
    ImageBlock,
    IndexSplitter,
    Learner,
    MSELossFlat,
    MultiCategoryBlock,
    Path,
    RandomSplitter,
    Resize,
    accuracy,
    aug_transforms,
    get_image_files,
    parent_label,
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
