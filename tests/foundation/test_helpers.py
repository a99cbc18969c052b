"""Small functions under the names that course material uses."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from layered.foundation.helpers import fastuple, first, ifnone, listify, noop, range_of, true, using_attr
from layered.foundation.lists import L


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
