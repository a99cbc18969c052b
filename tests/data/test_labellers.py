"""Labellers read the label off an item."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from layered.data import ColReader, RegexLabeller, parent_label
from layered.foundation import BadItem, BadValue, UnknownName


def test_the_folder_is_the_label():
    assert parent_label("a/cat/1.jpg") == parent_label(Path("a/cat/1.jpg")) == "cat"


def test_a_pattern_finds_the_label():
    label = RegexLabeller(r"([^/]+)_\d+\.jpg$")
    assert label("pets/great_dane_12.jpg") == label(Path("pets/great_dane_12.jpg")) == "great_dane"
    assert RegexLabeller(r"(\w+)/", match=True)("cat/dog/1.jpg") == "cat"
    assert "great" not in repr(label)


def test_a_path_that_the_pattern_does_not_fit_is_named():
    with pytest.raises(BadItem, match=r"'pets/x.png'"):
        RegexLabeller(r"(\d+)\.jpg$")("pets/x.png")
    with pytest.raises(BadValue, match="has no group"):
        RegexLabeller(r"\d+")("1")


@pytest.fixture
def row():
    return pd.DataFrame({"name": ["a"], "labels": ["x y"], "n": [3]}).iloc[0]


def test_columns_are_read_by_name_and_by_number(row):
    assert ColReader("name")(row) == "a"
    assert ColReader(2)(row) == 3
    assert ColReader(["name", "n"])(row) == ["a", 3]
    assert ColReader("name", pref="images/", suff=".png")(row) == "images/a.png"
    assert Path(ColReader("name", pref=Path("images"))(row)) == Path("images/a")
    assert ColReader("labels", label_delim=" ")(row) == ["x", "y"]


def test_an_absolute_path_of_a_file_stands_alone_and_any_other_value_after_the_folder(tmp_path):
    (tmp_path / "a.png").touch()
    read = ColReader("f", pref=Path("images"), suff=".png")
    assert read({"f": str(tmp_path / "a")}) == str(tmp_path / "a.png")
    assert Path(read({"f": "/of/the/table"})) == Path("images/of/the/table.png")


def test_rows_may_be_mappings_and_named_tuples():
    point = namedtuple("point", "x y")
    assert ColReader("x")({"x": 1}) == 1
    assert ColReader("y")(point(1, 2)) == 2


def test_a_missing_label_is_an_empty_list():
    assert ColReader("a", label_delim=";")({"a": float("nan")}) == []
    assert ColReader("a", label_delim=";")({"a": ""}) == []


def test_a_column_that_is_not_there_is_an_error_with_the_nearest(row):
    with pytest.raises(UnknownName, match="no column named 'lables'") as caught:
        ColReader("lables")(row)
    assert "'labels'" in caught.value.fix


def test_a_missing_cell_has_no_labels():
    rows = pd.DataFrame({"tags": ["a b", None, float("nan"), pd.NA, "", "NA"]})
    read = ColReader("tags", label_delim=" ")
    assert [read(rows.iloc[i]) for i in range(len(rows))] == [["a", "b"], [], [], [], [], ["NA"]]


def test_a_column_number_that_is_not_there_is_named():
    with pytest.raises(BadValue, match="there is no column 7"):
        ColReader(7)(pd.Series({"a": 1}))


@pytest.mark.parametrize("value", [3, np.int64(3), np.int8(3), np.str_("3"), "3"], ids=lambda o: type(o).__name__)
def test_a_single_number_is_a_label_of_several(value):
    assert ColReader("tags", label_delim=" ")({"tags": value}) == ["3"]


@pytest.mark.parametrize("value", [None, float("nan"), np.float64("nan"), pd.NA, pd.NaT, ""], ids=repr)
def test_a_missing_value_is_no_label_of_several(value):
    assert ColReader("tags", label_delim=" ")({"tags": value}) == []


@pytest.mark.parametrize("value", [["a b", "c"], ("a b", "c"), np.array(["a b", "c"])], ids=lambda o: type(o).__name__)
def test_a_list_of_labels_is_not_split(value):
    assert ColReader("tags", label_delim=" ")({"tags": value}) == ["a b", "c"]
