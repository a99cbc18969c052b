"""Packed state comes back exactly, through JSON too."""

import json
import math
from collections import Counter, defaultdict, namedtuple

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from layered.files import decode_tree, encode_tree
from layered.foundation import CannotSave

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
trees = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(-(2**63), 2**63), inner)
    ),
    max_leaves=20,
)


def there_and_back(tree):
    tensors = {}
    return decode_tree(json.loads(json.dumps(encode_tree(tree, tensors, "x"))), tensors)


@given(trees)
def test_plain_trees_come_back(tree):
    assert there_and_back(tree) == tree


def test_tensors_arrays_and_odd_numbers_come_back():
    floats = [0.1 * i for i in range(1000)]
    tree = {
        "a.b": torch.ones(2),
        "a": {"b": torch.zeros(3, dtype=torch.int64)},
        "f": floats,
        "s": {1, 2},
        "r": slice(1, None),
    }
    tree |= {"n": np.arange(6, dtype=np.uint32).reshape(2, 3), "one": np.float32(0.5), "inf": math.inf}
    back = there_and_back(tree)
    assert torch.equal(back.pop("a.b"), tree.pop("a.b"))
    assert torch.equal(back["a"].pop("b"), tree["a"].pop("b"))
    array, expected = back.pop("n"), tree.pop("n")
    assert array.dtype == expected.dtype
    assert (array == expected).all()
    assert back == tree


def test_counters_and_tables_with_a_beginning_come_back_as_what_they_are():
    tree = {
        "c": Counter("aab"),
        "d": defaultdict(list, {1: [2]}),
        "n": defaultdict(int),
        "e": defaultdict(None, {"a": 1}),
    }
    back = there_and_back(tree)
    assert back == tree
    assert [type(value) for value in back.values()] == [Counter, defaultdict, defaultdict, defaultdict]
    assert [back[name].default_factory for name in "dne"] == [list, int, None]


def test_a_long_list_of_tensors_of_one_form_is_one_tensor_in_the_file():
    losses, tensors = [torch.tensor(float(i)) for i in range(100)], {}
    packed = encode_tree({"losses": losses, "mixed": [*losses, None]}, tensors, "x")
    back = decode_tree(json.loads(json.dumps(packed)), tensors)
    assert len(tensors) == 1 + 100
    assert back == {"losses": losses, "mixed": [*losses, None]}
    back["losses"][0] += 1  # each has its own memory
    assert back["losses"][1] == 1


@pytest.mark.parametrize(
    "tree", [torch.eye(2).to_sparse(), defaultdict(lambda: 0), type("Own", (dict,), {})(), namedtuple("P", "x")(1)]
)
def test_what_would_come_back_as_something_else_is_refused(tree):
    with pytest.raises(CannotSave, match=r"x cannot be written"):
        encode_tree(tree, {}, "x")


def test_anything_else_is_named():
    with pytest.raises(CannotSave, match=r"x\.deep\.1 cannot"):
        encode_tree({"deep": [1, object()]}, {}, "x")
