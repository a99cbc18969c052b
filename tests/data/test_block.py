"""A `DataBlock` describes; what it is given is checked before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from layered.data import (
    CategoryBlock,
    ColReader,
    ColSplitter,
    DataBlock,
    EndSplitter,
    GrandparentSplitter,
    IndexSplitter,
    ItemGetter,
    MaskSplitter,
    MultiCategoryBlock,
    Normalize,
    RandomSplitter,
    RegressionBlock,
    TfmdDL,
    ToTensor,
    TransformBlock,
    get_image_files,
    parent_label,
)
from layered.data.block import merge_tfms
from layered.foundation import (
    BadArgument,
    BadItem,
    BadValue,
    EmptySource,
    EmptySplit,
    MixedSizes,
    NotFoundPath,
    Pipeline,
    TensorImage,
    Transform,
    UnknownLabel,
    plain,
    seeded,
)

HERE = {"num_workers": 0, "device": "cpu"}


def parity(n):
    return "even" if n % 2 == 0 else "odd"


def picture(n):
    return TensorImage(torch.full((1, 2, 2), float(n)))


def block(**kwargs):
    given = {"blocks": (TransformBlock, CategoryBlock), "get_y": parity, "splitter": EndSplitter(), **kwargs}
    return DataBlock(**given)


def test_a_block_makes_batches_of_a_source():
    dls = block(get_items=range, get_x=picture).dataloaders(10, bs=4, **HERE)
    x, y = dls.one_batch()
    assert x.shape == (4, 1, 2, 2)
    assert torch.equal(plain(y), (plain(x)[:, 0, 0, 0] % 2).long())
    assert dls.vocab == ["even", "odd"]
    assert (len(dls.train), len(dls.valid)) == (2, 1)


def test_an_empty_block_gives_each_row_twice():
    frame = pd.DataFrame({"a": [1, 2, 3, 4, 5]})
    with seeded(3):
        dsets = DataBlock().datasets(frame)
    x, y = dsets[2]
    assert x.a == y.a == 3
    assert (len(dsets.train), len(dsets.valid)) == (4, 1)


def test_blocks_are_classes_functions_or_instances():
    for given in (
        (TransformBlock, CategoryBlock),
        (TransformBlock(), CategoryBlock()),
        [TransformBlock, CategoryBlock],
    ):
        assert block(blocks=given).datasets([1, 2, 3, 4, 5]).vocab == ["even", "odd"]
    with pytest.raises(BadArgument, match="not a block"):
        DataBlock(blocks=(TransformBlock, "CategoryBlock"))


def test_every_kind_of_target():
    frame = pd.DataFrame(
        {"x": [1.0, 2, 3, 4], "tags": ["a b", "b", "c", "a"], "y": [1, 2, 3, 4], "is_valid": [0, 0, 0, 1]}
    )

    def labels(target, get_y):
        made = DataBlock((TransformBlock, target), get_x=ColReader("x"), get_y=get_y, splitter=ColSplitter())
        return made.dataloaders(frame, bs=3, shuffle=False, **HERE)

    tags = labels(MultiCategoryBlock, ColReader("tags", label_delim=" "))
    assert tags.one_batch()[1].tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert [s[1] for s in tags.train.decode_batch(tags.one_batch())] == [["a", "b"], ["b"], ["c"]]
    assert (tags.c, tags.vocab) == (3, ["a", "b", "c"])
    encoded = labels(MultiCategoryBlock(encoded=True, vocab=["u", "v"]), lambda row: [1, 0])
    assert encoded.train.decode_batch(encoded.one_batch())[0][1] == ["u"]
    number = labels(RegressionBlock, ColReader("y"))
    assert number.one_batch()[1].tolist() == [1, 2, 3]
    assert number.c == 1
    assert labels(RegressionBlock(2), lambda row: (row.y, row.x)).c == 2
    with pytest.raises(BadValue, match="need a vocabulary"):
        MultiCategoryBlock(encoded=True)


def test_items_that_are_tuples_are_told_apart_by_getters():
    made = DataBlock(
        (TransformBlock, CategoryBlock), get_x=ItemGetter(0), get_y=ItemGetter(1), splitter=EndSplitter(0.4)
    )
    dsets = made.datasets([(1, "a"), (2, "b"), (3, "a"), (4, "a"), (5, "b")])
    assert dsets[1] == (2, 1)


def test_sources_of_columns_go_to_a_block_each():
    made = DataBlock.from_columns((TransformBlock, CategoryBlock), splitter=EndSplitter(0.34))
    assert made.datasets(([1, 2, 3], ["a", "b", "a"]))[2] == (3, 0)
    upper = DataBlock.from_columns(
        (TransformBlock, TransformBlock), getters=[str, str.upper], splitter=EndSplitter(0.34)
    )
    assert upper.datasets(([1, 2, 3], ["a", "b", "a"]))[1] == ("2", "B")


def test_getters_are_one_for_each_block_or_several_in_a_pipeline():
    made = DataBlock(
        (TransformBlock,) * 3, n_inp=2, get_x=[str, float], get_y=Pipeline([str, len]), splitter=EndSplitter()
    )
    assert made.datasets([10, 200, 3, 4, 5])[1] == ("200", 200.0, 3)
    with pytest.raises(BadValue, match="get_x needs one function for each of its blocks"):
        DataBlock((TransformBlock,) * 3, n_inp=2, get_x=str)
    with pytest.raises(BadValue, match="expected one getter for each block"):
        DataBlock(getters=[str])


def test_a_new_block_is_a_copy():
    class A(Transform): ...

    class B(Transform): ...

    first = block(item_tfms=A, batch_tfms=A)
    second = first.new(item_tfms=B)
    assert [type(t) for t in first.item_tfms] == [ToTensor, A]
    assert [type(t) for t in second.item_tfms] == [ToTensor, B]
    assert [type(t) for t in second.batch_tfms] == [A]


def test_the_last_transform_of_a_class_replaces_the_others_but_functions_stay():
    class Times(Transform):
        def __init__(self, by=1):
            self.by = by

    merged = merge_tfms([Times(2), ToTensor], [Times(3), str.upper, str.lower])
    assert [repr(t) for t in merged[:2]] == ["Times(by=3)", "ToTensor()"]
    assert merged[2:] == [str.upper, str.lower]


def test_one_description_serves_several_sources_and_remembers_none():
    made = block(get_x=picture, batch_tfms=Normalize())
    first = made.dataloaders([0, 1, 2, 3, 4], bs=4, **HERE)
    second = made.dataloaders([10, 21, 30, 41, 50], bs=4, **HERE)
    assert first.train.after_batch.mean.item() == 1.5
    assert second.train.after_batch.mean.item() == 25.5
    assert made.batch_tfms[0].mean is None


def test_a_block_chooses_the_loader_and_its_arguments():
    class Mine(TfmdDL): ...

    kind = TransformBlock(dl_type=Mine, dls_kwargs={"before_batch": lambda samples: samples[:1]})
    dls = block(blocks=(kind, CategoryBlock)).dataloaders([1, 2, 3, 4, 5], bs=4, **HERE)
    assert type(dls.train) is type(dls.valid) is Mine
    assert len(dls.one_batch()[0]) == 1
    assert type(block(dl_type=Mine).dataloaders([1, 2, 3, 4, 5], bs=4, **HERE).train) is Mine


# -- what bad input gets


def folder_block(**kwargs):
    settings = {"get_items": get_image_files, "splitter": GrandparentSplitter(), "get_y": parent_label, **kwargs}
    return DataBlock((TransformBlock, CategoryBlock), **settings)


def folder(path, *files):
    for name in files:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).touch()
    return path


def test_a_missing_and_an_empty_folder(tmp_path):
    with pytest.raises(NotFoundPath, match="nowhere"):
        folder_block().dataloaders(tmp_path / "nowhere")
    with pytest.raises(EmptySource, match="no images under"):
        folder_block().dataloaders(tmp_path)
    with pytest.raises(EmptySource, match="found no items"):
        DataBlock().datasets([])


@pytest.mark.parametrize("source", ["data/pets", Path("data/pets")])
def test_a_path_without_a_way_to_list_it(source):
    with pytest.raises(BadArgument, match="the items are a path") as caught:
        block().dataloaders(source)
    assert "get_items" in caught.value.fix


def test_one_class_only(tmp_path):
    files = folder(tmp_path, "train/cat/1.jpg", "train/cat/2.jpg", "valid/cat/3.jpg")
    with pytest.warns(UserWarning, match="only one class, 'cat', for all 2 training items"):
        dls = folder_block().dataloaders(files, bs=1)
    assert dls.vocab == ["cat"]
    with pytest.raises(BadValue, match="the target has no labels"):
        block(get_y=lambda n: None).datasets([1, 2, 3, 4, 5])


def test_a_label_that_only_validation_items_have(tmp_path):
    files = folder(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", "valid/dgo/3.jpg")
    with pytest.raises(UnknownLabel, match="'dgo' is not in the vocabulary") as caught:
        folder_block().dataloaders(files, bs=1)
    assert "did you mean 'dog'" in caught.value.fix


def test_a_split_that_leaves_a_side_empty(tmp_path):
    files = folder(tmp_path, "training/cat/1.jpg", "valid/dog/2.jpg")
    with pytest.raises(EmptySplit, match="'train' split is empty") as caught:
        folder_block().dataloaders(files)
    assert "GrandparentSplitter(train_name='train', valid_name='valid')" in caught.value.got
    with pytest.raises(EmptySplit, match="'valid' split is empty"):
        block(splitter=RandomSplitter(0.1)).datasets([1, 2, 3])
    with pytest.raises(EmptySplit, match="'valid'"):
        block(splitter=MaskSplitter([False] * 3)).datasets([1, 2, 3])


@pytest.mark.parametrize("splitter", [RandomSplitter(0), IndexSplitter([]), EndSplitter(0)], ids=repr)
def test_training_on_everything_is_asked_for_by_a_share_of_0(splitter):
    dls = block(splitter=splitter).dataloaders([1, 2, 3], bs=2, **HERE)
    assert (len(dls.train_ds), len(dls.valid_ds), len(dls.valid)) == (3, 0, 0)
    assert len(dls.test_dl([4, 5])) == 1


def test_a_function_that_holds_out_nothing_is_noticed():
    with pytest.warns(UserWarning, match="holds out no items: training without validation"):
        dls = block(splitter=lambda items: (range(len(items)), [])).dataloaders([1, 2, 3], bs=2, **HERE)
    assert len(dls.train_ds) == 3


def test_fractions_that_hardly_repeat_are_no_classes():
    with pytest.raises(BadValue, match="numbers with fractions") as caught:
        block(get_y=lambda n: n / 7).datasets(list(range(1, 20)))
    assert "RegressionBlock" in caught.value.fix
    assert block(get_y=lambda n: n % 2 / 2).datasets(list(range(20))).vocab == [0.0, 0.5]


def test_more_items_a_batch_than_items():
    with pytest.raises(BadValue, match="bs=64 exceeds the 4 training items"):
        block().dataloaders([1, 2, 3, 4, 5], **HERE)


@pytest.mark.parametrize("workers", [0, 2])
def test_different_sizes_name_two_items_and_the_transform_to_add(workers):
    dls = block(get_x=lambda n: TensorImage(torch.zeros(3, n, n))).dataloaders(
        [1, 2, 3, 4, 5], bs=2, shuffle=False, num_workers=workers, device="cpu"
    )
    with pytest.raises(MixedSizes, match=r"item 0 of the training items \(int 1\) and item 1 .*\(int 2\)") as caught:
        next(iter(dls.train))
    assert "Resize" in caught.value.fix


def test_a_getter_that_fails_names_the_item():
    with pytest.raises(BadItem, match=r"making the target of item 2 of the training items \(int 3\)"):
        block(get_y=lambda n: 1 / (n - 3)).datasets([1, 2, 3, 4, 5])


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda: DataBlock(get_itmes=get_image_files), "get_items"),
        (lambda: DataBlock(splitr=None), "splitter"),
        (lambda: block().dataloaders([1, 2, 3, 4, 5], shufle=False), "shuffle"),
        (lambda: block().dataloaders([1, 2, 3, 4, 5], bs=2, vl_bs=2), "val_bs"),
    ],
)
def test_a_misspelt_keyword_is_refused_with_the_name_that_was_meant(call, meant):
    with pytest.raises(TypeError, match="unknown argument") as caught:
        call()
    assert meant in caught.value.fix
