"""Packed state comes back exactly, through JSON too."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from layered.foundation.errors import CannotSave
from layered.loop.packing import pack, unpack

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
trees = st.recursive(
    plain,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


def there_and_back(tree):
    tensors = {}
    return unpack(json.loads(json.dumps(pack(tree, tensors, "x"))), tensors)


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


def test_anything_else_is_named():
    with pytest.raises(CannotSave, match=r"x\.deep\.1 cannot"):
        pack({"deep": [1, object()]}, {}, "x")
