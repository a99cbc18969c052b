"""`L` is a list that can be indexed by lists and masks, and mapped and filtered in a line."""

from __future__ import annotations

import itertools
import operator
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, strategies as st

from layered.foundation import L, coll_repr, mask2idxs, seeded

words = L("b", "a", "c", "a")


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (L(), []),
        (L(None), []),
        (L(1), [1]),
        (L("ab"), ["ab"]),
        (L([1, 2]), [1, 2]),
        (L(range(3)), [0, 1, 2]),
        (L(i for i in (1, 2)), [1, 2]),
        (L(1, 2), [1, 2]),
        (L({"a": 1}), [{"a": 1}]),
        (L(np.arange(2), use_list=True), [0, 1]),
        (L(L(1, 2)), [1, 2]),
        (L(7, match=[1, 2, 3]), [7, 7, 7]),
    ],
)
def test_what_an_l_is_made_of(made, wanted):
    assert list(made) == wanted
    assert len(made) == len(wanted)


def test_an_array_is_one_item_unless_asked():
    array = np.arange(3)
    assert L(array)[0] is array
    assert L(torch.arange(3))[0].tolist() == [0, 1, 2]
    assert L(array, use_list=None).items is array


@pytest.mark.parametrize(
    ("index", "wanted"),
    [
        (0, "b"),
        (-1, "a"),
        (torch.tensor(2), "c"),
        (np.int64(1), "a"),
        (slice(1, 3), ["a", "c"]),
        ([0, 2], ["b", "c"]),
        (L(2, 0), ["c", "b"]),
        (np.array([3, 3]), ["a", "a"]),
        (torch.tensor([1]), ["a"]),
        ([True, False, False, True], ["b", "a"]),
        (torch.tensor([False, True, False, False]), ["a"]),
        (L(True, False, True, False), ["b", "c"]),
    ],
)
def test_indexing_takes_positions_and_masks(index, wanted):
    assert words[index] == wanted


def test_a_mask_can_be_inverted():
    mask = words.map(lambda w: w == "a")
    assert words[mask] == ["a", "a"]
    assert words[~mask] == ["b", "c"]


def test_rows_of_a_frame_are_its_items():
    frame = L(pd.DataFrame({"x": [1, 2, 3]}), use_list=None)
    assert frame[1].x == 2
    assert [row.x for row in frame] == [1, 2, 3]
    assert [row.x for row in frame[[0, 2]]] == [1, 3]
    assert len(frame[1:]) == 2


def test_items_can_be_set_added_and_removed():
    l = L(range(5))
    l[0] = 9
    l[[1, 2]] = 0
    l[[3, 4]] = [7, 8]
    l.append(1)
    l.extend([2, 3])
    del l[0]
    assert l == [0, 0, 7, 8, 1, 2, 3]
    assert l.pop() == 3
    assert l.index(7) == 2
    assert 8 in l


def test_lists_are_joined_and_repeated():
    assert L(1) + [2] + 3 == [1, 2, 3]
    joined = operator.add([0], L(1))
    assert joined == [0, 1]
    assert isinstance(joined, L)
    assert L(1, 2) * 2 == [1, 2, 1, 2]


def test_equality_is_by_item():
    assert L(1, 2) == (1, 2)
    assert L(1, 2) != [1, 3]
    assert L(1, 2) != [1]
    assert L("a") != "a"
    assert L(np.arange(2)) == [np.arange(2)]


def test_it_prints_as_books_show_it():
    assert repr(L(range(3))) == "(#3) [0,1,2]"
    assert repr(L(range(12))) == "(#12) [0,1,2,3,4,5,6,7,8,9...]"
    assert repr(L("a", L(1))) == "(#2) ['a',(#1) [1]]"
    assert coll_repr([1, 2, 3], 1) == "(#3) [1...]"


def test_mapping_takes_functions_formats_and_tables():
    assert words.map(str.upper) == ["B", "A", "C", "A"]
    assert L(1, 2).map("<{}>") == ["<1>", "<2>"]
    assert L("a", "b").map({"a": 1, "b": 2}) == [1, 2]
    assert L(1, 0).map(["x", "y"]) == ["y", "x"]
    assert L(1, 2).map(operator.add, 10) == [11, 12]


def test_picking_out():
    assert words.filter(lambda w: w > "a") == ["b", "c"]
    assert words.filter(lambda w: w > "a", negate=True) == ["a", "a"]
    assert words.argwhere(lambda w: w == "a") == [1, 3]
    assert words.unique() == ["b", "a", "c"]
    assert words.unique(sort=True) == ["a", "b", "c"]
    assert words.val2idx()["c"] == 2
    assert words.first() == "b"
    assert words.first(lambda w: w > "b") == "c"
    assert words.first(lambda w: w > "z") is None


def test_sorting_by_function_attribute_or_place():
    assert words.sorted() == ["a", "a", "b", "c"]
    assert L((1, "b"), (2, "a")).sorted(1) == [(2, "a"), (1, "b")]
    assert L(3 + 1j, 1 + 2j).sorted("real") == [1 + 2j, 3 + 1j]
    assert L(1, 3, 2).sorted(reverse=True) == [3, 2, 1]


def test_looking_into_items():
    assert L((1, 2), (3, 4)).itemgot(1) == [2, 4]
    assert L([(1, 2)], [(3, 4)]).itemgot(0, 1) == [2, 4]
    assert L({"a": 1}, {}).attrgot("a", 0) == [1, 0]
    assert L(1 + 2j).attrgot("imag") == [2.0]


def test_zipping_and_folding():
    assert L((1, 2), (3, 4)).zip() == [(1, 3), (2, 4)]
    assert L(1, 2).zipwith("ab") == [(1, "a"), (2, "b")]
    assert L("a", "b").enumerate() == [(0, "a"), (1, "b")]
    assert L((1, 2), (3, 4)).starmap(operator.mul) == [2, 12]
    assert L([1, 2], [3]).concat() == [1, 2, 3]
    assert L(1, 2, 3).sum() == 6
    assert L().sum() == 0
    assert L(1, 2, 3).reduce(operator.mul, 10) == 60
    assert L().reduce(operator.mul, 10) == 10


def test_grouping_and_looking_for_the_first_and_the_last():
    numbers = L(1, 2, 3, 4)
    assert numbers.groupby(lambda n: n % 2) == {1: [1, 3], 0: [2, 4]}
    assert L(("a", 1), ("b", 2), ("a", 3)).groupby(0, 1) == {"a": [1, 3], "b": [2]}
    assert numbers.map_dict(str) == {1: "1", 2: "2", 3: "3", 4: "4"}
    assert numbers.flatmap(lambda n: [n] * (n - 2)) == [3, 4, 4]
    assert (numbers.last(), numbers.last(lambda n: n < 3), L().last()) == (4, 2, None)
    assert (numbers.argfirst(lambda n: n > 2), numbers.argfirst(lambda n: n > 9)) == (2, None)
    assert numbers.product() == 24
    assert L("b", "a").renumerate() == [("b", 0), ("a", 1)]
    found, positions = L("b", "a", "b").unique(start="#", bidir=True)
    assert (found, positions) == (["#", "b", "a"], {"#": 0, "b": 1, "a": 2})
    assert list(itertools.islice(L(1, 2).cycle(), 3)) == [1, 2, 1]
    things = L(SimpleNamespace(), SimpleNamespace())
    things.setattrs("x", 3)
    assert things.attrgot("x") == [3, 3]


def test_texts_are_split_and_tensors_joined():
    assert L.split("a b") == ["a", "b"]
    assert L.splitlines("a\nb") == ["a", "b"]
    assert torch.equal(L([1, 2], [3, 4]).stack(), torch.tensor([[1, 2], [3, 4]]))
    assert torch.equal(L(torch.ones(1), torch.zeros(2)).cat(), torch.tensor([1.0, 0, 0]))


def test_ranges_and_shuffles():
    assert L.range(3) == [0, 1, 2]
    assert L.range("abcd") == [0, 1, 2, 3]
    assert L.range(1, 6, 2) == [1, 3, 5]
    with seeded(1):
        assert sorted(words.shuffle()) == sorted(words)
    twin = words.copy()
    twin.append("z")
    assert len(words) == 4


@given(st.lists(st.booleans(), min_size=1))
def test_a_mask_and_its_positions_pick_the_same(mask):
    items = L(range(len(mask)))
    assert items[mask] == items[mask2idxs(mask)] if any(mask) else items[mask] == []
    assert items[np.array(mask)] == items[mask]
