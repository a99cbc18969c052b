"""What a loader, a data set or a block shows of itself: a few lines, as text and as HTML."""

from __future__ import annotations

import matplotlib.pyplot
import pytest
import torch
from torch.utils.data import DataLoader as TorchDataLoader, IterableDataset

from layered.data import (
    CategoryBlock,
    ColSplitter,
    DataBlock,
    DataLoader,
    DataLoaders,
    Datasets,
    FileSplitter,
    GroupSplitter,
    RandomSplitter,
    TfmdDL,
    TfmdLists,
    TransformBlock,
    parent_label,
)
from layered.foundation import TensorImage

matplotlib.use("Agg")


class Numbers(IterableDataset):
    def __iter__(self):
        return iter(range(3))


def double(n):
    return 2 * n


@pytest.fixture
def dls():
    block = DataBlock(
        (TransformBlock, CategoryBlock), get_y=lambda n: "odd" if n % 2 else "even", splitter=RandomSplitter(seed=1)
    )
    return block.dataloaders(list(range(10)), bs=4, num_workers=0, device="cpu", path="models")


def test_loaders_say_their_sizes_classes_and_path(dls):
    assert repr(dls).split("\n") == [
        "DataLoaders",
        "  train    8 items in 2 batches of 4, shuffled, to cpu",
        "  valid    2 items in 1 batch of 4, to cpu",
        "  classes  2: 'even', 'odd'",
        "  path     models",
    ]


def test_loaders_of_other_libraries_are_shown_too():
    shown = repr(DataLoaders(TorchDataLoader([1, 2, 3], batch_size=2), (i for i in range(2))))
    assert "train  DataLoader of 2 batches" in shown
    assert "valid  generator" in shown


@pytest.mark.parametrize(
    ("loader", "text"),
    [
        (lambda: DataLoader(Numbers(), bs=2), "DataLoader over Numbers: a stream in batches of 2"),
        (lambda: DataLoader([torch.ones(2)]), "DataLoader over list: 1 batch, as the items are"),
        (lambda: DataLoader(list(range(5)), bs=2, num_workers=1), "5 items in 3 batches of 2, 1 worker"),
        (lambda: TfmdDL([1, 2], bs=2, after_item=double), "after_item  Transform(double)"),
    ],
)
def test_a_loader_says_what_it_loads(loader, text):
    assert text in repr(loader())


def test_data_sets_say_their_splits_and_pipelines(dls):
    dsets = Datasets([1, 2, 3], [[double], [double]], splits=[[0, 1], [2]])
    assert repr(dsets).startswith("Datasets of 3 items: 2 training, 1 validation\n  input   Transform(double)")
    assert repr(dsets.train).startswith("Datasets of 2 training items\n")
    assert repr(TfmdLists([], double)) == "TfmdLists of 0 items\n  Transform(double)"


def test_a_block_says_how_it_makes_each_column():
    block = DataBlock((TransformBlock, CategoryBlock), get_items=sorted, get_y=parent_label, batch_tfms=double)
    lines = dict(line.split(None, 1) for line in repr(block).split("\n")[1:])
    assert lines == {
        "source": "sorted",
        "input": "the item itself",
        "target": "ItemTransform(parent_label) → Categorize()",
        "splitter": "RandomSplitter(valid_pct=0.2)",
        "item_tfms": "ToTensor()",
        "batch_tfms": "double",
    }
    assert repr(CategoryBlock()) == "TransformBlock(type_tfms=[Categorize()])"


def test_splitters_say_what_they_are(tmp_path):
    (tmp_path / "valid.txt").write_text("a\n")
    shown = [repr(s) for s in (ColSplitter("fold"), FileSplitter(tmp_path / "valid.txt"), GroupSplitter("patient"))]
    assert shown == ["ColSplitter('fold')", "FileSplitter('valid.txt')", "GroupSplitter(valid_pct=0.2)"]


def test_a_notebook_shows_a_table(dls):
    for shown in (dls, dls.train, dls.train_ds, DataBlock()):
        html = shown._repr_html_()
        assert html.startswith(f"<p>{type(shown).__name__}")
        assert "<table>" in html


def test_only_a_caller_who_gives_axes_gets_them_back():
    dl = TfmdDL([(TensorImage(torch.zeros(1, 4, 4)), 1)], bs=1)
    dsets = Datasets([torch.zeros(1, 4, 4)], [[TensorImage]])
    ax = matplotlib.pyplot.figure().subplots()
    assert dsets.show(dsets[0]) is None
    assert dsets.tls[0].show(dsets[0][0]) is None
    assert dsets.show(dsets[0], ctx=ax) is ax
    import layered.vision.show  # noqa: F401  # bodies of show_batch

    assert dl.show_batch() is None
    assert dl.show_batch(ctxs=[ax]) == [ax]
    matplotlib.pyplot.close("all")
