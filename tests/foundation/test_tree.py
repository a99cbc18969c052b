"""Nested tuples, lists and mappings of tensors are taken as one thing."""

from __future__ import annotations

from collections import UserDict, namedtuple

import numpy as np
import torch
from hypothesis import given, strategies as st

from layered.foundation import (
    L,
    TensorImage,
    default_device,
    find_bs,
    find_device,
    leaves,
    map_tree,
    tensors_of,
    to_cpu,
    to_detach,
    to_device,
    to_np,
)

pair = namedtuple("pair", "a b")
trees = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | st.builds(pair, inner, inner)
        | st.lists(inner, max_size=3).map(L)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3).map(UserDict)
    ),
    max_leaves=8,
)


class Boxed:
    def __init__(self, leaf):
        self.leaf = leaf


@given(trees)
def test_mapping_there_and_back_gives_the_same_tree(tree):
    there = map_tree(lambda box: box.leaf, map_tree(Boxed, tree))
    assert there == tree
    assert type(there) is type(tree)


@given(trees)
def test_mapping_reaches_every_leaf_once_in_order(tree):
    seen = []
    map_tree(seen.append, tree)
    assert seen == list(leaves(tree))


def test_tensors_are_found_wherever_they_are():
    batch = {"x": (torch.zeros(3, 2), "text"), "y": [torch.ones(3), L(torch.ones(1))]}
    assert [len(t) for t in tensors_of(batch)] == [3, 3, 1]
    assert find_bs(batch) == 3
    assert find_bs(("a", torch.tensor(1), np.zeros(4))) == 4
    assert find_bs("nothing") == 1
    assert find_device(batch) == torch.device("cpu")
    assert find_device(()) == torch.device("cpu")


def test_moving_keeps_meaning_and_leaves_what_is_there_already():
    image = TensorImage(torch.zeros(1, 2, 2), name="a")
    moved = to_device((image, "text"), "meta")
    assert moved[0].device.type == "meta"
    assert type(moved[0]) is TensorImage
    assert moved[1] == "text"
    assert to_cpu([image])[0] is image
    assert to_device(image, "cpu") is image


def test_history_and_torch_can_be_left_behind():
    x = torch.ones(2, requires_grad=True) * 2
    assert not to_detach((x, 1))[0].requires_grad
    assert to_detach(x, cpu=False).grad_fn is None
    assert isinstance(to_np({"x": x})["x"], np.ndarray)


def test_the_default_device_can_be_the_cpu_by_request():
    assert default_device(use=False) == torch.device("cpu")
    assert isinstance(default_device(), torch.device)
