"""Small functions under the names that course material uses."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import numpy as np
import pytest

from layered.files import load_pickle, save_pickle
from layered.foundation import (
    GetAttr,
    Inf,
    L,
    UnsafeFile,
    delegates,
    explode_types,
    fastuple,
    first,
    ifnone,
    listify,
    noop,
    range_of,
    store_attr,
    true,
    using_attr,
)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [(None, []), ("ab", ["ab"]), ((1, 2), [1, 2]), (L(1), [1]), (3, [3]), ({"a": 1}, [{"a": 1}]), (range(2), [0, 1])],
)
def test_anything_is_made_a_list(given, wanted):
    assert listify(given) == wanted


def test_an_array_is_one_item():
    assert len(listify(np.arange(3))) == 1


def test_small_functions_do_what_their_names_say():
    assert noop(3, 4, a=5) == 3
    assert noop() is None
    assert true(0) is True
    assert ifnone(None, 2) == 2
    assert ifnone(0, 2) == 0
    assert first([]) is None
    assert first([1, 2, 3], lambda n: n > 1) == 2
    assert range_of("abc") == [0, 1, 2] == range_of(3)
    assert using_attr(str.upper, "name")(SimpleNamespace(name="a")) == "A"


def test_a_fastuple_counts_element_by_element():
    size = fastuple(4, 6)
    assert size + 1 == (5, 7)
    assert size - (1, 2) == (3, 4)
    assert size * 2 == (8, 12)
    assert size / 4 == (1.0, 1.5)
    assert size // (3, 4) == (1, 1)
    assert isinstance(size * 2, fastuple)
    assert fastuple() == ()
    assert fastuple([1, 2]) == (1, 2)
    with pytest.raises(ValueError, match="zip"):
        size * (1, 2, 3)


def test_arguments_are_kept_as_attributes():
    class Learner:
        def __init__(self, model, lr=0.1, *, cbs=()):
            store_attr()

    class Some:
        def __init__(self, a, b):
            local = a + b  # noqa: F841  # not an argument
            store_attr("b", c=3)

    assert vars(Learner("m", cbs=[1])) == {"model": "m", "lr": 0.1, "cbs": [1]}
    assert vars(Some(1, 2)) == {"b": 2, "c": 3}


def test_missing_attributes_are_looked_up_elsewhere():
    class Callback(GetAttr):
        _default = "learner"

    cb = Callback()
    with pytest.raises(AttributeError, match="learner"):
        _ = cb.model
    cb.learner = SimpleNamespace(model=3)
    assert cb.model == 3
    with pytest.raises(AttributeError, match="modle"):
        _ = cb.modle


def test_a_signature_shows_what_is_handed_on():
    def base(x, lr=0.1, wd=0.0): ...

    @delegates(base, but=["wd"])
    def fit(n, **kwargs):
        return kwargs

    class Child(type("Base", (), {"__init__": lambda self, a=1: None})):
        def __init__(self, b, **kwargs): ...

    assert str(inspect.signature(fit)) == "(n, *, lr=0.1)"
    assert fit(1, lr=2) == {"lr": 2}
    assert str(inspect.signature(delegates()(Child))) == "(b, *, a=1)"
    assert str(inspect.signature(delegates(base, keep=True)(lambda **kwargs: 0))) == "(*, lr=0.1, wd=0.0, **kwargs)"


def test_endless_iterators_and_nested_types():
    assert list(zip("ab", Inf.count, Inf.ones, Inf.nones, strict=False)) == [("a", 0, 1, None), ("b", 1, 1, None)]
    assert explode_types({"a": (1, [2.0])}) == {dict: {"a": {tuple: [int, {list: [float]}]}}}


def test_a_pickle_of_plain_data_is_read_without_running_anything(tmp_path):
    save_pickle(tmp_path / "a.pkl", {"lr": [0.1, None]})
    assert load_pickle(tmp_path / "a.pkl") == {"lr": [0.1, None]}


def test_a_pickle_of_objects_needs_trust(tmp_path):
    save_pickle(tmp_path / "a.pkl", SimpleNamespace(a=1))
    with pytest.raises(UnsafeFile, match="trust=True"):
        load_pickle(tmp_path / "a.pkl")
    assert load_pickle(tmp_path / "a.pkl", trust=True) == SimpleNamespace(a=1)
