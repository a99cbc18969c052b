"""A pipeline is its transforms in order, forwards and backwards."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, strategies as st

from layered.foundation import L, Pipeline, TensorImage, TitledStr, Transform, UnknownName, describe
from layered.foundation.pipeline import is_showable


class Times(Transform):
    order = 2

    def __init__(self, by=3):
        super().__init__()
        self.by = by

    def encodes(self, x: int):
        return x * self.by

    def decodes(self, x: int):
        return x // self.by


class AddMean(Transform):
    order = 1

    def setups(self, items):
        self.mean = sum(items) // len(items)

    def encodes(self, x: int):
        return x + self.mean

    def decodes(self, x: int):
        return x - self.mean


def fitted():
    pipeline = Pipeline([Times, AddMean])
    pipeline.setup([1, 2, 6])
    return pipeline


def test_members_are_sorted_by_order_and_classes_are_made_instances():
    assert [type(f) for f in Pipeline([Times, AddMean()])] == [AddMean, Times]
    assert [f.name for f in Pipeline([str.upper, str.lower])] == ["upper", "lower"]


@given(st.integers(-1000, 1000))
def test_decode_undoes_the_whole_pipeline(x):
    assert fitted().decode(fitted()(x)) == x
    assert fitted()(x) == (x + 3) * 3


def test_one_function_none_and_another_pipeline_are_pipelines():
    assert Pipeline(str.upper)("a") == "A"
    assert Pipeline()(3) == 3
    assert len(Pipeline(None)) == 0
    assert Pipeline(L(str.upper, str.strip))(" a ") == "A"
    assert Pipeline(Pipeline([Times]))[0].by == 3


def test_an_unknown_attribute_is_looked_up_in_the_members():
    pipeline = fitted()
    assert pipeline.by == 3
    assert pipeline.mean == 3
    assert pipeline.add_mean is pipeline[0]
    assert isinstance(pipeline.times, Times)
    with pytest.raises(AttributeError, match=r"no step of .* has an attribute 'vocab'"):
        _ = pipeline.vocab


def test_a_pipeline_for_another_split_shares_its_members():
    class TrainOnly(Times):
        split_idx = 0

    pipeline = Pipeline([TrainOnly], split_idx=0)
    assert pipeline(1) == 3
    assert pipeline.for_split(1)(1) == 1
    assert pipeline.for_split(1)[0] is pipeline[0]


def test_steps_are_found_by_position_name_and_class():
    times = Times(3)
    pipeline = Pipeline([times, lambda x: x])
    assert pipeline["times"] is pipeline[Times] is pipeline.times is pipeline[1] is times
    with pytest.raises(UnknownName, match="no step named 'tims'") as caught:
        pipeline["tims"]
    assert "times" in caught.value.fix
    with pytest.raises(UnknownName, match="no step named 'path'"):
        pipeline[Path]


def test_an_error_says_which_step_was_given_what():
    with pytest.raises(ValueError, match="invalid literal") as caught:
        Pipeline([str.strip, int])("x ")
    assert caught.value.__notes__ == ["in step 2 of 2, Transform(int), given str 'x'"]


def test_an_error_in_a_setup_says_in_which():
    with pytest.raises(TypeError) as caught:
        Pipeline([AddMean]).setup(3)
    assert "AddMean" in caught.value.__notes__[0]


def test_showing_decodes_only_as_far_as_needed(capsys):
    class Title(Transform):
        def decodes(self, x: int):
            return TitledStr(f"number {x}")

    class TooFar(Transform):
        def decodes(self, x: str):
            raise AssertionError("already showable")

    Pipeline([TooFar(order=0), Title(order=1), Times]).show(6)
    assert capsys.readouterr().out == "number 2\n"
    assert is_showable((TitledStr("a"), TensorImage([1])))
    assert not is_showable((TitledStr("a"), 1))


def test_a_pipeline_survives_pickling():
    assert pickle.loads(pickle.dumps(fitted()))(1) == 12


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (1, "int 1"),
        (torch.zeros(2, 3), "Tensor 2×3 float32"),
        (torch.tensor(1), "Tensor scalar int64"),
        ((1, "a"), "(int 1, str 'a')"),
        ([1] * 9, "[int 1, int 1, int 1, int 1, …]"),
        ("x" * 100, "str '" + "x" * 19 + "…" + "x" * 38 + "'"),
        (Path("/data/very/long") / ("n" * 40) / "cat/12.jpg", "PosixPath('/data/ver…" + "n" * 26 + "/cat/12.jpg')"),
        (pd.Series({"name": "a.png", "n": 1, "x": 2.5, "y": 0}), "row name='a.png', n=1, x=2.5, …"),
        (np.float32(1.5), "float32 1.5"),
    ],
)
def test_anything_is_described_in_a_few_words(given, wanted):
    assert describe(given) == wanted
