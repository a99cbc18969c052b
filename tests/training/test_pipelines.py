"""Pipelines as data: what they are made of is named, never stored as code."""

import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from layered.data import CategoryMap
from layered.files import Scope, decode_tree, encode_tree
from layered.foundation import BadFile, LayeredError, NotExportable, UnknownName, functions
from layered.vision.all import (
    Categorize,
    CrossEntropyLossFlat,
    DataLoader,
    L,
    Normalize,
    PILImage,
    Pipeline,
    Resize,
    ResizeMethod,
    ToTensor,
    Transform,
    aug_transforms,
    imagenet_stats,
)


def through_a_file(value):
    tensors = {}
    return decode_tree(json.loads(json.dumps(encode_tree(value, tensors, "here", Scope.DATA))), tensors, Scope.DATA)


@pytest.mark.parametrize(
    "value", [None, True, 3, 0.1, "text", [1, [2.5]], (1, ("a", None)), {"a": (1,), "b": []}, slice(1, 2)], ids=repr
)
def test_plain_data_comes_back_as_it_was(value):
    assert through_a_file(value) == value


def test_what_transforms_fitted_comes_back():
    normalize = Normalize()
    normalize.setup(DataLoader([(torch.rand(3, 8, 8), 0) for _ in range(4)], bs=4))
    again = through_a_file(normalize)
    assert_close(again.mean, normalize.mean)
    assert_close(again.std, normalize.std)
    categorize = Categorize(add_na=True)
    categorize.setup(["b", "a", "b"])
    again = through_a_file(categorize)
    assert list(again.vocab) == ["#na#", "a", "b"]
    assert again("b") == 2
    assert again.decode(torch.tensor(1)) == "a"


def test_a_vocabulary_keeps_its_order():
    assert list(through_a_file(CategoryMap(["b", "a"], sort=False))) == ["b", "a"]


@pytest.mark.parametrize(
    "labels",
    [range(1000), [2**62 + n for n in range(1000)], [n / 3 for n in range(1000)], [f"{n}" for n in range(1000)], [True, 2]],
    ids=["numbers", "long numbers", "fractions", "texts", "two"],
)  # fmt: skip
def test_a_vocabulary_of_any_plain_labels_comes_back(labels):
    assert list(through_a_file(CategoryMap(labels, sort=False))) == list(labels)


def test_a_pipeline_comes_back_with_arguments_functions_and_enums():
    pipeline = Pipeline([PILImage.create, Resize(16, ResizeMethod.Squish), ToTensor, *aug_transforms(size=8)])
    again = through_a_file(pipeline)
    assert [type(step) for step in again] == [type(step) for step in pipeline]
    assert again[0].enc == PILImage.create
    image = PILImage.create(np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3))
    assert np.array_equal(again[1](image), pipeline[1](image))
    assert again[1].method is ResizeMethod.Squish


def test_a_loss_comes_back_with_its_weights():
    loss = CrossEntropyLossFlat(weight=torch.tensor([1.0, 3.0]), label_smoothing=0.1)
    pred, targ = torch.randn(6, 2), torch.tensor([0, 1, 1, 0, 1, 1])
    assert_close(through_a_file(loss)(pred, targ), loss(pred, targ))


def test_lists_of_ours_become_lists():
    assert through_a_file(L(1, 2)) == [1, 2]


def test_each_refusal_names_the_place_and_the_way_out():
    def own(x):
        return x

    class Own(Transform):
        def encodes(self, x: int):
            return x + 1

    cases = {"move own out": own, "move Own out": Own(), "make the lambda a def": lambda x: x}
    for way_out, value in cases.items():
        with pytest.raises(NotExportable, match=way_out) as caught:
            encode_tree(Pipeline([Normalize.from_stats(*imagenet_stats), value]), {}, "after_batch", Scope.DATA)
        assert caught.value.problem.startswith("after_batch.")
    with pytest.raises(NotExportable, match=r"decode|def"):
        encode_tree(Transform(functions.get("vision.PILImage.create"), dec=own), {}, "after_batch", Scope.DATA)
    with pytest.raises(NotExportable):
        encode_tree({"a": object()}, {}, "here", Scope.DATA)


CHOSEN = 16 * (2**61 - 1)  # Python gives all its multiples the same hash
CHOICES = [n * CHOSEN for n in range(200)]


@pytest.mark.parametrize(
    ("described", "error"),
    [
        ({"$transform": "Resiz", "args": {}, "fitted": {}}, UnknownName),
        ({"$function": "os.system"}, UnknownName),
        ({"$import": "os"}, BadFile),
        ({"$pipeline": 3}, BadFile),
        ({"$value": "vocab", "args": {"items": [[], []], "add_na": False}}, LayeredError),
        ({"$transform": "Resize", "args": {"size": "a"}, "fitted": {}}, LayeredError),
        ({"$transform": "Resize", "args": {"sise": 3}, "fitted": {}}, LayeredError),
        ({"$transform": "Resize", "args": {"size": 8}, "fitted": {"order": 1}}, BadFile),
        ({"$value": "vocab", "args": {"items": [n * CHOSEN for n in range(200)], "add_na": False}}, BadFile),
        (
            {"$value": "vocab", "args": {"items": [{"$tuple": [n * CHOSEN]} for n in range(200)], "add_na": False}},
            BadFile,
        ),
        ({"$transform": "Categorize", "args": {"vocab": CHOICES}, "fitted": {}}, BadFile),
        ({"x_given": CHOICES}, BadFile),
        ({"$pipeline": [{"$pipeline": []}] * 20_000}, BadFile),
        ({"$tensor": "missing"}, BadFile),
        ({"$tuple": 3}, BadFile),
        ({"$system": "ls"}, BadFile),
    ],
    ids=lambda part: f"{part!s:.100}",
)
def test_a_description_that_makes_no_sense_is_refused(described, error):
    with pytest.raises(error):
        decode_tree(described, {}, Scope.DATA)
