"""Every kind of block and learner predicts in another process, without the script that trained it, what it predicted there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from load_exports import answers
from own_pieces import Apart, BothLosses, Doubled, OpenPair, Spread, TwoInTwoOut
from PIL import Image
from torch import nn

from layered.collab.all import CollabDataLoaders, collab_learner
from layered.tabular.all import (
    Categorify,
    FillMissing,
    Normalize as NormalizeTable,
    RegressionBlock,
    TabularPandas,
    tabular_learner,
)
from layered.vision.all import (
    BCEWithLogitsLossFlat,
    CategoryBlock,
    CrossEntropyLossFlat,
    DataBlock,
    ImageBlock,
    IntToFloatTensor,
    Learner,
    MaskBlock,
    MSELossFlat,
    MultiCategoryBlock,
    Normalize,
    RandomSplitter,
    Resize,
    TransformBlock,
    imagenet_stats,
)

HERE = Path(__file__).parent


def letter(file):
    return Path(file).name[0]


def mask_of(file):
    return Path(file).with_suffix(".tif")


def net(outputs):
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, outputs))


BOTH = [IntToFloatTensor, Normalize.from_stats(*imagenet_stats)]
PICTURES = {  # blocks, get_y, model, loss
    "category": ((ImageBlock, CategoryBlock), letter, net(2), None),
    "several labels": (
        (ImageBlock, MultiCategoryBlock),
        lambda f: [letter(f), "z"],
        net(3),
        BCEWithLogitsLossFlat(thresh=0.2),
    ),
    "encoded labels": (
        (ImageBlock, MultiCategoryBlock(encoded=True, vocab=["p", "q"])),
        lambda f: [1, 0] if letter(f) == "a" else [0, 1],
        net(2),
        None,
    ),
    "a number": ((ImageBlock, RegressionBlock), lambda f: 1.5, net(1), None),
    "two numbers": ((ImageBlock, RegressionBlock(n_out=2)), lambda f: [1.5, 2.0], net(2), None),
    "weights of classes": (
        (ImageBlock, CategoryBlock),
        letter,
        net(2),
        CrossEntropyLossFlat(weight=torch.tensor([1.0, 2.0])),
    ),
    "mask": (
        (ImageBlock, MaskBlock(codes=["x", "y"])),
        mask_of,
        nn.Sequential(nn.Conv2d(3, 2, 1)),
        CrossEntropyLossFlat(axis=1),
    ),
    "own decoding": (
        (ImageBlock, TransformBlock(type_tfms=[Doubled()])),
        lambda f: 3.0,
        net(1),
        MSELossFlat(),
    ),
    "own loss": ((ImageBlock, CategoryBlock), letter, net(2), Spread(2, torch.tensor([1.0, 0.5]))),
    "own type": (
        (TransformBlock(type_tfms=[OpenPair(2)]), CategoryBlock),
        letter,
        Apart(0.5),
        CrossEntropyLossFlat(),
    ),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for i in range(8):
        Image.fromarray(draw.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(folder / f"{'ab'[i % 2]}{i}.png")
        Image.fromarray(draw.integers(0, 2, (20, 24), dtype=np.uint8)).save(folder / f"{'ab'[i % 2]}{i}.tif")
    return sorted(folder.glob("*.png"))


def picture_learner(name, files):
    blocks, get_y, model, loss = PICTURES[name]
    block = DataBlock(blocks, get_y=get_y, splitter=RandomSplitter(seed=0), item_tfms=Resize(16), batch_tfms=BOTH)
    return Learner(block.dataloaders(files, bs=2, num_workers=0, device="cpu"), model, loss)


def two_in_two_out(files):
    block = DataBlock(
        (ImageBlock, ImageBlock, CategoryBlock, RegressionBlock),
        n_inp=2,
        get_x=[lambda pair: pair[0], lambda pair: pair[1]],
        get_y=[lambda pair: letter(pair[0]), lambda pair: 1.5],
        splitter=RandomSplitter(seed=0),
        item_tfms=Resize(16),
        batch_tfms=BOTH,
    )
    pairs = list(zip(files, reversed(files), strict=True))
    return Learner(block.dataloaders(pairs, bs=2, num_workers=0, device="cpu"), TwoInTwoOut(), BothLosses())


def table():
    draw = np.random.default_rng(0)
    df = pd.DataFrame({"k": draw.choice(["a", "b"], 20), "x": draw.normal(size=20), "y": ["no", "yes"] * 10})
    df["z"] = draw.normal(size=20)
    df["w"] = df["z"] * 2
    return df


def table_learner(targets, **args):
    splits = [list(range(16)), list(range(16, 20))]
    to = TabularPandas(table(), [Categorify, FillMissing, NormalizeTable], "k", "x", targets, splits=splits, **args)
    return tabular_learner(to.dataloaders(4, device="cpu"), [8])


def ratings():
    draw = np.random.default_rng(0)
    return pd.DataFrame(
        {"user": draw.integers(0, 5, 40), "item": draw.choice(list("abcd"), 40), "rating": draw.uniform(1, 5, 40)}
    )


def ratings_learner():
    return collab_learner(
        CollabDataLoaders.from_df(ratings(), bs=8, seed=0, device="cpu"), n_factors=3, y_range=(0, 5.5)
    )


@pytest.fixture(scope="module")
def told(files, tmp_path_factory):
    """The answers here, and those of one process elsewhere, by the name of the learner."""
    folder = tmp_path_factory.mktemp("exports")
    torch.manual_seed(0)
    learners = {name: (picture_learner(name, files), [str(f) for f in files[:3]]) for name in PICTURES}
    pairs = [(str(a), str(b)) for a, b in zip(files[:3], files[3:6], strict=True)]
    learners["several inputs and targets"] = two_in_two_out(files), pairs
    rows = table()[["k", "x"]].head(3)
    learners["a table's class"] = table_learner("y"), rows
    learners["a table's number"] = table_learner("z"), rows
    learners["a table's numbers"] = table_learner(["z", "w"], y_block=RegressionBlock(n_out=2)), rows
    learners["ratings"] = ratings_learner(), ratings()[["user", "item"]].head(3)
    here = {}
    for name, (learn, items) in learners.items():
        learn.export(folder / name)
        here[name] = answers(learn, items)
    plain = {name: i.to_dict("list") if hasattr(i, "to_dict") else i for name, (_, i) in learners.items()}
    (folder / "items.json").write_text(json.dumps(plain))
    done = subprocess.run(
        [sys.executable, HERE / "load_exports.py", folder],
        cwd="/",
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return here, torch.load(folder / "answers.pt")


NAMES = [*PICTURES, "several inputs and targets", "a table's class", "a table's number", "a table's numbers", "ratings"]


@pytest.mark.parametrize("name", NAMES)
def test_another_process_elsewhere_gives_the_same_answers_bit_for_bit(told, name):
    here, there = told
    torch.testing.assert_close(numbers(there[name]), numbers(here[name]), rtol=0, atol=0)
    assert words(there[name]) == words(here[name])


def leaves(x):
    return [leaf for part in x for leaf in leaves(part)] if isinstance(x, list) else [x]


def numbers(answer):
    found = [x for x in leaves(answer) if isinstance(x, torch.Tensor)]
    assert found
    return found


def words(answer):
    return [x for x in leaves(answer) if isinstance(x, str)]
