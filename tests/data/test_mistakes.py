"""What is likely to go wrong while data is built: each message names the stage and the item, what came and what to do."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from layered.data import (
    CategoryBlock,
    ColReader,
    DataBlock,
    Datasets,
    EndSplitter,
    GrandparentSplitter,
    IndexSplitter,
    MultiCategoryBlock,
    RandomSplitter,
    RegexLabeller,
    RegressionBlock,
    TransformBlock,
    get_image_files,
    parent_label,
)
from layered.foundation import LayeredError, TensorImage, Transform
from layered.vision import ImageBlock, Resize

NUMBERS = list(range(10))
FRAME = pd.DataFrame({"name": [f"{i}.png" for i in range(6)], "label": list("ababab"), "y": [1.0, 2, 3, 4, 5, 6]})


def parity(n: int) -> str:
    return "even" if n % 2 == 0 else "odd"


def picture(n: int) -> TensorImage:
    return TensorImage(torch.full((1, 2, 2), float(n)))


def block(**kwargs: Any) -> DataBlock:
    given = {"blocks": (TransformBlock, CategoryBlock), "get_x": picture, "get_y": parity, "splitter": EndSplitter()}
    return DataBlock(**{**given, **kwargs})


def rows(**kwargs: Any) -> DataBlock:
    given = {"get_x": ColReader("y"), "get_y": ColReader("label"), "splitter": EndSplitter()}
    return DataBlock((TransformBlock, CategoryBlock), **{**given, **kwargs})


def load(block: DataBlock, source: Any = NUMBERS, workers: int = 0, **kwargs: Any) -> None:
    given = {"bs": 4, "shuffle": False, "drop_last": False, "num_workers": workers, "device": "cpu", **kwargs}
    for dl in block.dataloaders(source, **given):
        list(dl)


def images(path: Path, **sizes: int) -> Path:
    """Files train/a/0.png, … of these sizes; 0 stands for one that is broken."""
    from PIL import Image

    for name, size in sizes.items():
        file = path / ("valid" if name.startswith("v") else "train") / name[-1] / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        if size:
            Image.new("RGB", (size, size)).save(file)
        else:
            file.write_bytes(b"no image")
    return path


def folders(**kwargs: Any) -> DataBlock:
    given = {"get_items": get_image_files, "splitter": GrandparentSplitter(), "get_y": parent_label}
    return DataBlock((ImageBlock, CategoryBlock), **{**given, **kwargs})


class Fails(Transform):
    """Fails on one item, wherever it runs."""

    def encodes(self, x: TensorImage) -> Any:
        if x.max() == 3:
            raise ValueError("three is not to be had")
        return x


class Unfit(Transform):
    """Its fitting fails."""

    def setups(self, items: Any) -> None:
        self.mean = items.no_such_thing


def nothing(x: TensorImage) -> None:
    return None


def used_up() -> Any:
    iterator = iter(NUMBERS)
    list(iterator)
    return iterator


class Mistake(NamedTuple):
    make: Any  # a function of a path and the number of workers
    says: tuple[str, ...]  # what the message says, stage and item first
    fix: str
    kind: type[Exception]  # what people catch
    cause: type[Exception] | None = None  # what is chained
    in_workers: bool = False  # whether it happens while batches are made


MISTAKES = {
    # where the items come from
    "an empty folder": Mistake(
        lambda p, w: load(folders(), p), ("no images under", "an empty folder"), "check the path", ValueError
    ),
    "no folder": Mistake(
        lambda p, w: load(folders(), p / "pets"), ("does not exist", "pets"), "working directory", FileNotFoundError
    ),
    "a path without a way to list it": Mistake(
        lambda p, w: load(block(), "data/pets"), ("the items are a path", "data/pets"), "get_items", TypeError
    ),
    "get_items is no function": Mistake(
        lambda p, w: block(get_items="pets/*.jpg"), ("get_items", "'pets/*.jpg'"), "lambda o", TypeError
    ),
    "get_items forgets to return": Mistake(
        lambda p, w: load(block(get_items=lambda source: None)),
        ("returned no items", "getting the items of [int 0", "None"),
        "add a return statement",
        TypeError,
    ),
    "get_items fails": Mistake(
        lambda p, w: load(block(get_items=lambda source: source["train"])),
        ("getting the items of [int 0", "list indices"),
        "the cause is shown above",
        RuntimeError,
        TypeError,
    ),
    "a mapping of columns": Mistake(
        lambda p, w: load(block(), {"x": [1, 2], "y": [3, 4]}),
        ("the items are a mapping", "'x', 'y'"),
        "DataFrame",
        TypeError,
    ),
    "an iterator that is used up": Mistake(
        lambda p, w: load(block(), used_up()),
        ("an exhausted iterator", "only once"),
        "list(iterator)",
        ValueError,
    ),
    # how they are split
    "a splitter that fails": Mistake(
        lambda p, w: load(block(splitter=lambda items: items.sample(0.2))),
        ("splitting 10 items by <lambda>", "no attribute 'sample'"),
        "by hand",
        RuntimeError,
        AttributeError,
    ),
    "a splitter that was not called": Mistake(
        lambda p, w: load(block(splitter=RandomSplitter)),
        ("RandomSplitter returns a splitter",),
        "RandomSplitter()",
        TypeError,
    ),
    "a share too small for one item": Mistake(
        lambda p, w: load(block(splitter=RandomSplitter(0.01))),
        ("'valid' split is empty", "splitting 10 items", "10, 0"),
        "0.100",
        ValueError,
    ),
    "folders of other names": Mistake(
        lambda p, w: load(folders(), images(p, a=4, b=4)),
        ("'valid' split is empty", "valid_name='valid'"),
        "folder name",
        ValueError,
    ),
    "an item on both sides": Mistake(
        lambda p, w: load(block(splitter=lambda items: ([0, 1, 2, 3], [3, 4]))),
        ("is in two splits", "splitting 10 items", "item 3 (int 3)"),
        "remove the validation items",
        ValueError,
    ),
    "a position that is not there": Mistake(
        lambda p, w: load(block(splitter=IndexSplitter([3, 10]))),
        ("the validation split has a position that is out of range", "10"),
        "splitter(items)",
        ValueError,
    ),
    "a negative position that is not there": Mistake(
        lambda p, w: load(block(splitter=IndexSplitter([-11]))),
        ("a position that is out of range", "-11"),
        "splitter(items)",
        ValueError,
    ),
    "one list in place of two": Mistake(
        lambda p, w: load(block(splitter=lambda items: [1, 2, 3])),
        ("not lists of positions", "[1, 2, 3]"),
        "RandomSplitter",
        TypeError,
    ),
    # how they are labelled
    "the name of a column in place of a getter": Mistake(
        lambda p, w: rows(get_y="label"), ("get_y is not a function", "'label'"), "ColReader('label')", TypeError
    ),
    "a column that is not there": Mistake(
        lambda p, w: load(rows(get_y=ColReader("lable")), FRAME),
        ("setting up the target", "making the target of item 0 of the training items", "'lable'", "label, name, y"),
        "did you mean 'label'?",
        KeyError,
    ),
    "a pattern that does not fit": Mistake(
        lambda p, w: load(
            rows(get_x=ColReader("y"), get_y=lambda row: RegexLabeller(r"(\d+)\.jpg$")(row["name"])), FRAME
        ),
        ("making the target of item 0", "'0.png'", r"(\\d+)\\.jpg$"),
        "re.search",
        RuntimeError,
    ),
    "a function of no arguments": Mistake(
        lambda p, w: load(block(get_y=lambda: "a")), ("<lambda>()", "one item"), "one parameter", TypeError, TypeError
    ),
    "too many getters": Mistake(
        lambda p, w: block(get_y=[parity, parity]),
        ("get_y", "2 functions", "1, with 2 blocks"),
        "Pipeline([f, g])",
        ValueError,
    ),
    "a getter that fails": Mistake(
        lambda p, w: load(block(get_y=lambda n: 1 // (n - 3))),
        ("making the target of item 3 of the training items (int 3)", "step 1 of 1", "ZeroDivisionError"),
        "by hand",
        RuntimeError,
        ZeroDivisionError,
    ),
    "a label that only validation items have": Mistake(
        lambda p, w: load(block(get_y=lambda n: "new" if n == 9 else parity(n))),
        ("'new' is not in the vocabulary", "validation items", "even, odd"),
        "unseen='drop'",
        KeyError,
    ),
    "labels of mixed types": Mistake(
        lambda p, w: load(block(get_y=lambda n: n % 2 if n < 5 else parity(n))),
        ("setting up the target on 8 items", "Categorize()", "a mix of int, str"),
        "Pipeline([get_y, str])",
        ValueError,
    ),
    "a list where one label is due": Mistake(
        lambda p, w: load(block(get_y=lambda n: [parity(n)])),
        ("setting up the target on 8 items", "list ['even']"),
        "MultiCategoryBlock",
        ValueError,
    ),
    "one label where a list is due": Mistake(
        lambda p, w: load(block(blocks=(TransformBlock, MultiCategoryBlock))),
        ("setting up the target on 8 items", "'even'"),
        "label_delim",
        ValueError,
    ),
    "a label that is missing": Mistake(
        lambda p, w: load(rows(), FRAME.assign(label=["a", None, "b", "a", "b", "a"])),
        ("1 training item has no label", "making the target of item 1 of the training items", "nan"),
        "dropna",
        ValueError,
    ),
    "no label at all": Mistake(
        lambda p, w: load(block(get_y=lambda n: None)),
        ("the target has no labels", "8 training items"),
        "get_y",
        ValueError,
    ),
    "a number that is missing": Mistake(
        lambda p, w: load(
            DataBlock(
                (TransformBlock, RegressionBlock), get_x=ColReader("y"), get_y=ColReader("y"), splitter=EndSplitter()
            ),
            FRAME.assign(y=[1.0, 2, np.nan, 4, 5, 6]),
            w,
        ),
        ("making the target of item 2 of the training items", "step 2 of 2, RegressionSetup()", "nan"),
        "dropna",
        ValueError,
        in_workers=True,
    ),
    "text where a number is due": Mistake(
        lambda p, w: load(block(blocks=(TransformBlock, RegressionBlock)), NUMBERS, w),
        ("making the target of item 0 of the training items (int 0)", "is not a number", "str 'even'"),
        "CategoryBlock",
        ValueError,
        ValueError,
        in_workers=True,
    ),
    # how they are described
    "a block in quotes": Mistake(
        lambda p, w: DataBlock(blocks=("ImageBlock", CategoryBlock)), ("'ImageBlock'",), "without quotes", TypeError
    ),
    "a misspelt argument": Mistake(
        lambda p, w: DataBlock(blocks=TransformBlock, spliter=EndSplitter()),
        ("'spliter'",),
        "did you mean 'splitter'?",
        TypeError,
    ),
    "more inputs than blocks": Mistake(lambda p, w: block(n_inp=3), ("n_inp=3 with 2 columns",), "omit it", ValueError),
    "a class that needs arguments": Mistake(
        lambda p, w: folders(item_tfms=Resize), ("Resize is a class", "size"), "Resize(...)", TypeError, TypeError
    ),
    "fitting fails": Mistake(
        lambda p, w: Datasets(NUMBERS, [[Unfit()]], splits=[[0, 1], [2]]),
        ("setting up the input on 2 items", "Unfit()", "no_such_thing"),
        "by hand",
        RuntimeError,
        AttributeError,
    ),
    # how they are loaded
    "a misspelt argument of the loaders": Mistake(
        lambda p, w: load(block(), num_wrokers=0), ("'num_wrokers'",), "did you mean 'num_workers'?", TypeError
    ),
    "batches of nothing": Mistake(lambda p, w: load(block(), bs=0), ("invalid batch size", "bs=0"), "bs=1", ValueError),
    "batches of more than there is": Mistake(
        lambda p, w: block().dataloaders(NUMBERS, bs=64, num_workers=0),
        ("bs=64", "8 training items"),
        "drop_last=False",
        ValueError,
    ),
    "a file that is gone": Mistake(
        lambda p, w: load(
            DataBlock(
                (ImageBlock, CategoryBlock), get_x=lambda n: p / f"{n}.png", get_y=parity, splitter=EndSplitter()
            ),
            NUMBERS,
            w,
        ),
        ("making the input of item 0 of the training items (int 0)", "step 2 of 2", "0.png"),
        "working directory",
        FileNotFoundError,
        FileNotFoundError,
        in_workers=True,
    ),
    "a file that is no image": Mistake(
        lambda p, w: load(folders(item_tfms=Resize(4)), images(p, a=4, b=0, va=4), w, bs=1),
        ("making the input of item 1 of the training items", "b.png"),
        "on_bad='skip'",
        OSError,
        in_workers=True,
    ),
    "images of different sizes": Mistake(
        lambda p, w: load(folders(), images(p, a=4, b=5, va=4), w),
        ("collating item 0 of the training items", "item 1 of the training items", "b.png", "(3, 4, 4)"),
        "Resize(224)",
        ValueError,
        in_workers=True,
    ),
    "a transform that fails": Mistake(
        lambda p, w: load(block(item_tfms=Fails()), NUMBERS, w),
        ("transforming item 3 of the training items (int 3)", "Fails()", "three is not to be had"),
        "by hand",
        RuntimeError,
        in_workers=True,
    ),
    "a transform that forgets to return": Mistake(
        lambda p, w: load(block(item_tfms=nothing), NUMBERS, w),
        ("collating item 0 of the training items", "NoneType"),
        "return a value",
        ValueError,
        TypeError,
        in_workers=True,
    ),
    "lists of different lengths": Mistake(
        lambda p, w: load(block(get_x=lambda n: list(range(n + 1))), NUMBERS, w),
        (
            "collating item 0 of the training items (int 0) and item 1 of the training items (int 1)",
            "differ in length",
            "1 in sample 0",
        ),
        "before_batch",
        ValueError,
        in_workers=True,
    ),
    "inputs without a number": Mistake(
        lambda p, w: load(block(get_x=lambda n: object()), NUMBERS, w),
        ("collating item 0 of the training items", "object"),
        "item_tfms",
        ValueError,
        TypeError,
        in_workers=True,
    ),
}


def causes(error: BaseException) -> list[BaseException]:
    """What it was raised from, and what that was raised from."""
    return [] if error.__cause__ is None else [error.__cause__, *causes(error.__cause__)]


CASES = [(name, 0) for name in MISTAKES] + [(name, 1) for name, mistake in MISTAKES.items() if mistake.in_workers]


@pytest.mark.parametrize(("name", "workers"), CASES)
def test_a_mistake_is_told_with_its_stage_its_item_and_its_fix(name, workers, tmp_path):
    mistake = MISTAKES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(mistake.kind) as caught:
            mistake.make(tmp_path, workers)
    error = caught.value
    assert isinstance(error, LayeredError)
    text = str(error)
    for part in mistake.says:
        assert part in text
    assert error.got is not None or error.expected is not None
    assert error.fix
    assert mistake.fix in str(error.fix)
    if workers:
        assert "Traceback" in str(error.__cause__)
    elif mistake.cause is not None:
        assert any(isinstance(cause, mistake.cause) for cause in causes(error))
