"""The same values give the same classes, codes, numbers and decoded rows, whatever memory they are stored in."""

import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_array_equal

from layered.tabular.all import Categorify, FillMissing, Normalize, TabularPandas
from layered.tabular.columns import CHUNK, median_of

arrow = pytest.importorskip("pyarrow")


def own_objects(values):
    """Each text is an object of its own, as tables from a database have."""
    return pd.Series([value if value is None else "".join([*value]) for value in values], dtype=object)


def shared_objects(values):
    """Equal texts are one object, as in a CSV file read as objects."""
    known = {}
    return pd.Series([known.setdefault(value, value) for value in values], dtype=object)


def stored_as(kind):
    return lambda values: pd.Series(values, dtype=object).astype(kind)


def in_chunks(values):
    """Arrow's memory in several pieces, as its readers leave it."""
    half = len(values) // 2
    return pd.concat([stored_as("string[pyarrow]")(part) for part in (values[:half], values[half:])], ignore_index=True)


TEXTS = {
    "own objects": own_objects,
    "shared objects": shared_objects,
    "another missing value": lambda values: own_objects(values).where(pd.Series(values).notna(), pd.NA),
    "str": stored_as("str"),
    "string[python]": stored_as("string[python]"),
    "string[pyarrow]": stored_as("string[pyarrow]"),
    "Arrow": lambda values: pd.Series(values, dtype=pd.ArrowDtype(arrow.string())),
    "large Arrow": lambda values: pd.Series(values, dtype=pd.ArrowDtype(arrow.large_string())),
    "an Arrow dictionary": lambda values: pd.Series(
        arrow.array(values, arrow.string()).dictionary_encode(),
        dtype=pd.ArrowDtype(arrow.dictionary("int32", "string")),
    ),
    "chunks": in_chunks,
}
WHOLE = {
    "Int64": stored_as("Int64"),
    "Arrow": stored_as("int64[pyarrow]"),
    "floats": lambda values: pd.Series(values, dtype=float),
    "Float64": stored_as("Float64"),
    "objects": lambda values: pd.Series(values, dtype=object),
}
TRUTHS = {"boolean": stored_as("boolean"), "Arrow": stored_as("bool[pyarrow]"), "objects": WHOLE["objects"]}


def prepared(column, is_number=False):
    """A table with one input; every second row is for training."""
    df = pd.DataFrame({"x": column, "y": np.arange(len(column)) / 7})
    cats, conts = ([], ["x"]) if is_number else (["x"], [])
    splits = list(range(1, len(df), 2)), list(range(0, len(df), 2))
    return TabularPandas(df, [Categorify, FillMissing, Normalize], cats, conts, "y", splits=splits)


def seen(column, is_number=False):
    """Whatever a user sees of a column: its classes, its codes or numbers, and the rows decoded again."""
    to = prepared(column, is_number)
    classes = {name: [*vocab] for name, vocab in to.classes.items()}
    return classes, [tensor.tolist() for tensor in to.tensors], to.decode().items["x"].astype(object).tolist()


def check_alike(forms, values, is_number=False):
    (first, expected), *others = [(name, seen(form(values), is_number)) for name, form in forms.items()]
    for name, found in others:
        assert found == expected, (first, name)


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=3) | st.sampled_from(
    ["a\0b", "a\0c", "a", "\0", "é"]
)


@settings(max_examples=25, deadline=None)
@given(st.lists(words | st.none(), min_size=4, max_size=40))
def test_text(values):
    check_alike(TEXTS, values)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-5000, 5000) | st.integers(-(2**52), 2**52) | st.none(), min_size=4, max_size=40))
def test_whole_numbers_as_categories_and_as_numbers(values):
    check_alike({name: form for name, form in WHOLE.items() if name not in ("floats", "Float64")}, values)
    check_alike(WHOLE, values, is_number=True)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.booleans() | st.none(), min_size=4, max_size=20))
def test_truth_values(values):
    check_alike(TRUTHS, values)
    check_alike(TRUTHS, values, is_number=True)


def test_more_texts_than_fit_into_a_chunk():
    draw = random.Random(0)
    values = [f"level {draw.randrange(300)}" for _ in range(CHUNK + 1000)]
    check_alike({name: TEXTS[name] for name in ("own objects", "shared objects", "str")}, values)


@pytest.mark.parametrize("values", [["\ud800", repr("\ud800"), "é", "a"], [repr("\ud800"), "\ud800", None, "a"]])
def test_a_text_with_a_lone_surrogate_is_not_its_repr(values):
    to = prepared(pd.Series([*values, *values], dtype=object)[[0, 4, 1, 5, 2, 6, 3, 7]])
    known = sorted(value for value in values if value is not None)
    assert [*to.classes["x"]] == ["#na#", *known]
    expected = [0 if value is None else 1 + known.index(value) for value in values]
    assert to.tensors[0].flatten().tolist() == expected * 2


@pytest.mark.parametrize("kind", ["int8", "uint8", "uint64"])
def test_whole_numbers_at_the_ends_of_their_dtype(kind):
    ends = np.iinfo(kind)
    values = [ends.max, ends.max - 1, ends.min, ends.max] * 2
    classes, (codes, *_), _ = seen(pd.Series(np.array(values, kind)))
    assert classes["x"] == ["#na#", *sorted({int(value) for value in values[1::2]})]
    same_end, *_ = seen(pd.Series(np.array([ends.max, ends.max - 1] * 4, kind)))
    assert same_end["x"] == ["#na#", int(ends.max) - 1]
    assert len(codes) == 8


@pytest.mark.parametrize("shape", ["random", "sorted", "constant", "two values", "periodic"])
@pytest.mark.parametrize("count", [100_000, 100_001])
def test_the_median_of_many_numbers(shape, count):
    draw = np.random.default_rng(0)
    numbers = {
        "random": lambda: draw.normal(size=count),
        "sorted": lambda: np.sort(draw.normal(size=count)),
        "constant": lambda: np.full(count, 3.5),
        "two values": lambda: np.where(np.arange(count) < count // 2, 1.0, 2.0),
        "periodic": lambda: np.where(np.arange(count) % 24 == 0, 1e6, draw.normal(size=count)),  # what the sample sees
    }[shape]()
    assert_array_equal(median_of(numbers), np.median(numbers))
