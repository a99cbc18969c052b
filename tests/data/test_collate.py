"""Samples become batches that keep what they mean."""

from __future__ import annotations

import pickle
from collections import namedtuple

import numpy as np
import pytest
import torch

from layered.data import fa_collate, fa_convert
from layered.data.collate import pack, unpack_batch
from layered.foundation import MixedSizes, TensorCategory, TensorImage, TensorMask


def test_tensors_are_stacked_and_keep_their_meaning():
    x, y = fa_collate([(TensorImage(torch.ones(3, 2, 2)), TensorCategory(i)) for i in range(4)])
    assert type(x) is TensorImage
    assert x.shape == (4, 3, 2, 2)
    assert type(y) is TensorCategory
    assert y.tolist() == [0, 1, 2, 3]
    assert type(fa_collate([torch.zeros(1), torch.zeros(1)])) is torch.Tensor


def test_containers_are_collated_element_by_element():
    point = namedtuple("point", "x y")
    batch = fa_collate([{"a": (i, [float(i), "t"]), "p": point(i, np.float32(i)), "n": np.ones(2)} for i in range(2)])
    assert batch["a"][0].tolist() == [0, 1]
    assert batch["a"][1][0].tolist() == [0, 1]
    assert batch["a"][1][1] == ["t", "t"]
    assert type(batch["p"]) is point
    assert batch["p"].y.dtype == torch.float32
    assert batch["n"].shape == (2, 2)


def test_different_sizes_are_an_error_that_names_both_and_the_fix():
    with pytest.raises(MixedSizes, match="TensorImage of different sizes") as caught:
        fa_collate([(TensorImage(torch.zeros(3, n, 2)),) for n in (2, 2, 5)])
    assert caught.value.rows == (0, 2)
    assert "(3, 2, 2) in sample 0 and (3, 5, 2) in sample 2" in caught.value.got
    assert "Resize" in caught.value.fix
    with pytest.raises(ValueError, match="differ in length"):
        fa_collate([[1], [1, 2]])


def test_what_is_a_batch_already_becomes_tensors():
    x, (n, text) = fa_convert((np.zeros((2, 3)), [np.int64(4), "a"]))
    assert x.shape == (2, 3)
    assert x.dtype == torch.float32
    assert n == 4
    assert text == "a"


def test_packing_for_the_way_out_of_a_worker_keeps_meaning_and_attributes():
    mask = TensorMask(torch.ones(2), source="a.png")
    packed = pickle.loads(pickle.dumps(pack({"m": (mask, 1)})))
    assert not isinstance(packed["m"][0], torch.Tensor)
    opened = unpack_batch(packed)["m"][0]
    assert type(opened) is TensorMask
    assert opened.source == "a.png"
    assert opened.tolist() == [1, 1]
