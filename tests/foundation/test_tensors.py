"""Semantic tensors keep what they mean through operations, copies and processes."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA
from torch import Tensor
from torch.testing import assert_close

from layered.foundation import (
    BadValue,
    OutOfRange,
    TensorBase,
    TensorCategory,
    TensorImage,
    TensorImageBW,
    TensorMask,
    TitledFloat,
    TitledInt,
    TitledStr,
    TitledTensorScalar,
    image_methods,
    pca,
    plain,
    plain_tree,
    retype,
    tensor,
)
from layered.foundation.tensors import ImageMethod


def image(**meta):
    return TensorImage(torch.arange(12.0).reshape(3, 2, 2), **meta)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((1, 2, 3), torch.tensor([1, 2, 3])),
        (([1.5, 2],), torch.tensor([1.5, 2])),
        (((1, 2),), torch.tensor([1, 2])),
        ((np.array([1.0, 2.0]),), torch.tensor([1.0, 2.0])),
        ((np.arange(4)[::-1],), torch.tensor([3, 2, 1, 0])),
        ((np.array([1, 60000], dtype=np.uint16),), torch.tensor([1.0, 60000.0])),
        ((pd.Series([1.5, 2.5]),), torch.tensor([1.5, 2.5])),
        (([np.array([1, 2]), np.array([3, 4])],), torch.tensor([[1, 2], [3, 4]])),
        ((Image.fromarray(np.array([[1, 2]], dtype=np.uint8)),), torch.tensor([[1, 2]], dtype=torch.uint8)),
        ((np.float64(2),), torch.tensor(2.0)),
        ((3.5,), torch.tensor(3.5)),
    ],
)
def test_a_tensor_is_made_of_what_people_have(given, wanted):
    made = tensor(*given)
    assert made.dtype == wanted.dtype
    assert torch.equal(made, wanted)


def test_a_read_only_array_is_copied():
    array = np.arange(3)
    array.flags.writeable = False
    tensor(array).add_(1)
    assert array.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x + 1,
        lambda x: 1 - x,
        lambda x: x[0],
        lambda x: x.float().mean(),
        lambda x: torch.stack([x, x]),
        lambda x: torch.add(input=x, other=1),
        lambda x: x.clone(),
        lambda x: x.to(torch.float16),
        lambda x: x.split(1)[1],
        lambda x: x.max(0).values,
        lambda x: x.add_(1),
        copy.copy,
        copy.deepcopy,
        lambda x: pickle.loads(pickle.dumps(x)),
    ],
)
def test_meaning_and_attributes_survive(operation):
    res = operation(image(source="a.png"))
    assert type(res) is TensorImage
    assert res.source == "a.png"


def test_a_deep_copy_has_numbers_and_attributes_of_its_own():
    x = image(sizes=[1])
    twin, again = copy.deepcopy([x, x])
    twin += 1
    twin.sizes.append(2)
    assert twin is again
    assert x.flatten()[0] == 0
    assert x.sizes == [1]


def test_a_semantic_tensor_of_a_semantic_tensor_keeps_its_attributes():
    assert TensorMask(image(source="a.png"), seen=1).__dict__ == {"source": "a.png", "seen": 1}


def test_taking_the_meaning_off_shares_the_numbers():
    x = image()
    assert type(plain(x)) is Tensor
    assert plain(x).data_ptr() == x.data_ptr()
    assert plain("text") == "text"
    tree = plain_tree({"a": (x, [x, 1])})
    assert type(tree["a"][0]) is Tensor
    assert type(tree["a"][1][0]) is Tensor
    assert tree["a"][1][1] == 1


def test_gradients_flow_to_a_semantic_tensor():
    x = image().requires_grad_()
    (x * 2).sum().backward()
    assert torch.equal(plain(x.grad), torch.full((3, 2, 2), 2.0))


def test_a_result_takes_the_meaning_of_the_input_but_not_of_a_wider_one():
    assert type(retype(torch.zeros(2), image())) is TensorImage
    assert type(retype(TensorMask(torch.zeros(2)), image())) is TensorMask
    assert type(retype("a", TitledStr("b"))) is TitledStr
    assert retype(3, True) == 3
    assert type(retype(3, True)) is int
    assert type(retype(1.5, 2)) is float


def test_an_image_method_waits_for_the_vision_floor():
    class Lonely(TensorBase):
        turn_to_gold = ImageMethod()

    x = Lonely([1.0])
    assert not hasattr(x, "turn_to_gold")
    with pytest.raises(AttributeError, match=r"import layered.vision"):
        x.turn_to_gold()
    image_methods.add("turn_to_gold", lambda image, by: image * by)
    try:
        assert x.turn_to_gold(by=3).tolist() == [3.0]
    finally:
        del image_methods._items["turn_to_gold"]


def test_types_know_how_they_are_shown():
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    _, ax = plt.subplots()
    assert image().show(ctx=ax) is ax
    TensorMask(torch.zeros(2, 2, dtype=torch.uint8)).show(ctx=ax)
    TensorImageBW(torch.zeros(1, 2, 2)).show(ctx=ax)
    TitledStr("cat").show(ctx=ax)
    TitledInt(3).show(ctx=ax)
    assert ax.get_title() == "cat\n3"
    assert len(ax.images) == 3
    plt.close("all")


def test_titles_are_printed_without_axes(capsys):
    TitledFloat(1.5).show()
    TitledTensorScalar(torch.tensor(2.123456)).show()
    assert capsys.readouterr().out == "1.5\n2.123\n"
    assert TitledStr("a b c").truncate(2) == "a b"


def test_a_category_is_an_index():
    assert ["a", "b"][TensorCategory(1)] == "b"


@pytest.mark.parametrize("shape", [(50, 7), (4, 9), (6, 6)])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_principal_components_are_those_of_scikit_learn_up_to_their_signs(shape, kind):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=kind) + 3
    theirs = torch.from_numpy(PCA(3).fit_transform(x.numpy()))
    found = pca(x, 3)
    assert found.dtype == kind
    assert_close(found * (found * theirs).sum(0).sign(), theirs, rtol=1e-4, atol=1e-5)


def test_principal_components_are_of_anything_that_holds_rows_of_numbers():
    rows = [[1, 2, 0], [3, 5, 1], [2, 2, 2], [0, 1, 7]]
    expected = pca(torch.tensor(rows, dtype=torch.float32))
    for x in (rows, np.array(rows), pd.DataFrame(rows), torch.tensor(rows), TensorBase(rows)):
        found = pca(x)
        assert type(found) is Tensor
        assert_close(found, expected)


@pytest.mark.parametrize(
    ("x", "k", "kind"),
    [
        (torch.ones(3), 1, BadValue),
        (torch.full((3, 3), float("nan")), 1, BadValue),
        (torch.ones(3, 4), 0, OutOfRange),
        (torch.ones(3, 4), 4, OutOfRange),
    ],
)
def test_components_of_what_has_none_are_refused(x, k, kind):
    with pytest.raises(kind):
        pca(x, k)
