"""Labels that only validation items have: refused, dropped or added, as asked, and never silently."""

from __future__ import annotations

import warnings

import pytest

from layered.data import CategoryBlock, DataBlock, EndSplitter, MultiCategoryBlock, TransformBlock
from layered.foundation import BadValue, UnknownLabel

LABELS = ["a", "b", "a", "b", "a", "c", "d", "a"]


def dsets(block, labels=LABELS):
    made = DataBlock((TransformBlock, block), get_y=labels.__getitem__, splitter=EndSplitter(0.4))
    return made.datasets(list(range(len(labels))))


def test_they_are_refused_by_default():
    with pytest.raises(UnknownLabel, match="'c', 'd' are not in the vocabulary") as caught:
        dsets(CategoryBlock)
    assert "unseen='drop'" in caught.value.fix


def test_dropped_items_are_counted_and_gone_from_every_column():
    with pytest.warns(UserWarning, match="dropped, with 2 items: 'c', 'd'"):
        made = dsets(CategoryBlock(unseen="drop"))
    assert made.vocab == ["a", "b"]
    assert list(made.valid) == [(7, 0)]
    assert len(made.train) == 5


def test_an_extended_vocabulary_has_them_in_their_place():
    with pytest.warns(UserWarning, match="'c', 'd'"):
        made = dsets(CategoryBlock(unseen="extend"))
    assert (made.vocab, made.c) == (["a", "b", "c", "d"], 4)
    assert [int(y) for _, y in made.valid] == [2, 3, 0]


def test_several_labels_an_item():
    labels = [["a"], ["b", "a"], [], ["b", "c"], ["a"]]
    with pytest.raises(UnknownLabel, match="'c'"):
        dsets(MultiCategoryBlock, labels)
    with pytest.warns(UserWarning, match="dropped, with the item"):
        dropped = dsets(MultiCategoryBlock(unseen="drop"), labels)
    assert list(dropped.valid.items) == [4]
    with pytest.warns(UserWarning, match="'c'"):
        extended = dsets(MultiCategoryBlock(unseen="extend"), labels)
    assert extended[3][1].tolist() == [0, 1, 1]
    assert extended.c == 3


@pytest.mark.parametrize("block", [CategoryBlock(unseen="drop"), CategoryBlock(unseen="extend"), CategoryBlock()])
def test_nothing_is_said_where_there_are_none(block):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(dsets(block, ["a", "b", "a", "b", "a"]).valid) == 2


def test_a_policy_that_does_not_exist_is_refused():
    with pytest.raises(BadValue, match="unseen") as caught:
        CategoryBlock(unseen="ignore")
    assert "'drop'" in caught.value.expected


@pytest.mark.parametrize("where", [1, 4])
def test_a_missing_label_is_named_on_either_side(where):
    labels = ["a", "b", "a", "b", "a", "b"]
    labels[where] = float("nan")
    with pytest.raises(BadValue, match=f"item {where} of the {'training' if where == 1 else 'validation'} items"):
        dsets(CategoryBlock, labels)
    assert dsets(CategoryBlock(add_na=True), labels)[where][1] == 0
