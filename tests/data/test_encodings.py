"""Labels become numbers and come back."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, strategies as st

from layered.data import (
    Categorize,
    Category,
    CategoryMap,
    EncodedMultiCategorize,
    MultiCategorize,
    MultiCategory,
    OneHotEncode,
    RegressionSetup,
    get_c,
)
from layered.foundation import BadValue, TensorCategory, TensorMultiCategory, UnknownLabel

labels = st.text(min_size=1, max_size=3).filter(lambda s: s != "#na#")


def test_a_vocabulary_is_sorted_and_each_label_stands_once():
    vocab = CategoryMap(["b", "a", "b", None, float("nan")])
    assert vocab == ["a", "b"]
    assert vocab.o2i == {"a": 0, "b": 1}
    assert CategoryMap(["b", "a"], sort=False) == ["b", "a"]
    column = pd.Series(["c", "a"], dtype=pd.CategoricalDtype(["c", "b", "a"]))
    assert CategoryMap(column) == CategoryMap(column.cat) == ["c", "b", "a"]
    assert CategoryMap(column, strict=True) == ["c", "a"]
    assert CategoryMap(["b", "a"], strict=True) == ["a", "b"]
    assert CategoryMap(["b", "a"], add_na=True) == ["#na#", "a", "b"]
    assert repr(vocab) == "['a', 'b']"


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([2, 1, 2]),
        np.array([2, 1, 2]),
        list(np.array([2, 1])),
        torch.tensor([2, 1]),
        pd.Series([2, 1]).astype("category"),
    ],
)
def test_numbers_of_any_library_are_pythons_own_in_a_vocabulary(column):
    vocab = CategoryMap(column)
    assert repr(vocab) == "[1, 2]"
    for label in (2, np.int64(2), torch.tensor(2), 2.0):
        assert vocab.index_of(label) == 1
    assert vocab.map_objs(np.array([2, 1])) == [1, 0]


@pytest.mark.parametrize("missing", [None, float("nan"), np.float64("nan"), pd.NA, pd.NaT])
def test_what_is_missing_is_no_label_but_is_known_to_be_missing(missing):
    vocab = CategoryMap(["a", missing, "b"])
    assert vocab == ["a", "b"]
    assert vocab.has_missing
    assert not CategoryMap(["a", "b"]).has_missing


def test_a_vocabulary_can_be_made_of_another():
    vocab = CategoryMap(["b", "a"], add_na=True)
    assert CategoryMap(vocab, add_na=True) == vocab


def test_a_categorical_column_keeps_its_order():
    column = pd.Series(["lo", "hi"], dtype=pd.CategoricalDtype(["lo", "mid", "hi"], ordered=True))
    assert CategoryMap(column) == ["lo", "mid", "hi"]
    assert CategoryMap(column.array) == ["lo", "mid", "hi"]


def test_a_vocabulary_is_indexed_by_numbers_tensors_and_lists():
    vocab = CategoryMap("cab")
    assert vocab[1] == vocab[torch.tensor(1)] == vocab[np.int64(1)] == "b"
    assert vocab[1:] == ["b", "c"]
    assert vocab[torch.tensor([2, 0])] == vocab[[2, 0]] == ["c", "a"]
    assert vocab.map_objs(["c", "a"]) == [2, 0]
    assert vocab.map_ids([2, 0]) == ["c", "a"]


def test_labels_of_a_mix_of_types_cannot_be_sorted():
    with pytest.raises(BadValue, match="a mix of int, str"):
        CategoryMap([1, "a"])


@given(st.lists(labels, min_size=1))
def test_decoding_undoes_categorizing(items):
    tfm = Categorize()
    tfm.setup(items)
    for item in items:
        encoded = tfm(item)
        assert type(encoded) is TensorCategory
        assert tfm.decode(encoded) == item
        assert type(tfm.decode(encoded)) is Category
    assert list(tfm.vocab) == sorted(set(items))
    assert tfm.c == len(set(items))


def test_an_unknown_label_is_an_error_that_names_it_and_the_nearest():
    tfm = Categorize(vocab=["cat", "dog"])
    with pytest.raises(UnknownLabel, match="the label 'dgo' is not in the vocabulary") as caught:
        tfm("dgo")
    assert "did you mean 'dog'?" in caught.value.fix
    with pytest.raises(KeyError):
        tfm("bird")
    assert Categorize(vocab=["cat", "dog"], add_na=True)("bird") == 0


def test_a_vocabulary_that_is_given_is_not_fitted():
    tfm = Categorize(vocab=["b", "a"], sort=False)
    tfm.setup(["x"])
    assert tfm.vocab == ["b", "a"]
    with pytest.raises(BadValue, match="no vocabulary yet"):
        Categorize()("a")


@given(st.lists(st.lists(labels, unique=True), min_size=1))
def test_decoding_undoes_several_labels(items):
    tfm = MultiCategorize()
    tfm.setup(items)
    one_hot = OneHotEncode()
    one_hot.setup(SimpleNamespace(vocab=tfm.vocab))
    for item in items:
        vector = one_hot(tfm(item))
        assert type(vector) is TensorMultiCategory
        assert vector.dtype == torch.float32
        assert vector.sum() == len(item)
        back = tfm.decode(one_hot.decode(vector))
        assert type(back) is MultiCategory
        assert sorted(back) == sorted(item)


def test_one_label_where_several_are_due_is_refused():
    tfm = MultiCategorize(["a", "b"])
    with pytest.raises(BadValue, match="takes a list of labels"):
        tfm("ab")


def test_one_hot_needs_to_know_how_many_classes_there_are():
    assert OneHotEncode(3)(TensorCategory([1])).tolist() == [0, 1, 0]
    with pytest.raises(BadValue, match="how many classes"):
        OneHotEncode()(TensorCategory([1]))


def test_labels_that_are_zeros_and_ones_already_stay_so():
    tfm = EncodedMultiCategorize(["z", "a", "m"])
    assert tfm([1, 0, 1]).tolist() == [1, 0, 1]
    assert tfm([1, 0, 1]).dtype == torch.float32
    assert tfm.decode(tfm([1, 0, 1])) == ["z", "m"]
    with pytest.raises(BadValue, match="3 values"):
        tfm([1, 0])


@pytest.mark.parametrize(("items", "c"), [([1.5, 2], 1), ([[1, 2], [3, 4]], 2), ([torch.zeros(3)], 3)])
def test_numbers_to_predict_are_counted_and_made_float(items, c):
    tfm = RegressionSetup()
    tfm.setup(items)
    assert tfm.c == c
    assert tfm(items[0]).dtype == torch.float32
    assert torch.equal(tfm.decode(tfm(items[0])).as_subclass(torch.Tensor), torch.as_tensor(items[0]).float())


def test_labels_are_shown_as_titles(capsys):
    Category("cat").show()
    MultiCategory(["cat", "dog"]).show()
    assert capsys.readouterr().out == "cat\ncat;dog\n"


def test_the_number_of_outputs_is_that_of_classes():
    assert get_c(SimpleNamespace(c=3)) == 3
    assert get_c(SimpleNamespace(vocab="ab")) == 2
    assert get_c(SimpleNamespace()) == 0


@pytest.mark.parametrize("o", [[0, 2], np.array([0, 2]), TensorMultiCategory([0, 2])], ids=lambda o: type(o).__name__)
def test_positions_of_any_kind_are_one_hot_encoded(o):
    assert OneHotEncode(c=3)(o).tolist() == [1.0, 0.0, 1.0]


def test_several_numbers_in_a_tuple_are_one_target():
    tfm = RegressionSetup()
    tfm.setup([(1, 2.5), (3, 4.5)])
    assert tfm.c == 2
    assert tfm((1, 2.5)).tolist() == [1.0, 2.5]
    several = MultiCategorize()
    several.setup([("a", "b"), ("a",)])
    assert several(("b", "a")).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("label", "vocab", "fix"),
    [
        (0.63, [0.1, 0.62], "RegressionBlock"),
        ("B\u00e4r", ["Ba\u0308r"], "'B\\xe4r' and 'Ba\\u0308r' differ in Unicode form only"),
        ("cat ", ["cat", "dog"], "'cat ' and 'cat' differ in blanks only"),
        ("Ba\u0308r\xa0", ["B\u00e4r"], "differ in blanks and Unicode form only"),
        ("dgo", ["cat", "dog"], "did you mean 'dog'?"),
    ],
)
def test_an_unknown_label_is_told_from_what_was_meant(label, vocab, fix):
    with pytest.raises(UnknownLabel) as caught:
        CategoryMap(vocab).index_of(label)
    assert fix in caught.value.fix
    assert ("did you mean" in caught.value.fix) == ("did you mean" in fix)


@pytest.mark.parametrize("twins", [["cat", "cat ", "dog"], ["B\u00e4r", "Ba\u0308r"], ["a b", "a  b"]])
def test_classes_that_look_the_same_are_named(twins):
    with pytest.warns(UserWarning, match="two classes look the same: .* only"):
        Categorize().setup(twins)
