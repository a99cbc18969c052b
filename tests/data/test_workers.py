"""Packed text is the same text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from layered.data import Datasets, TfmdLists, workers as module
from layered.data.workers import PackedText, packed


@given(st.lists(st.text(), min_size=1))
def test_it_holds_any_text(items):
    held = PackedText(items)
    assert list(held) == items
    assert held[-1] == items[-1]
    assert held[:2] == items[:2]
    assert len(held) == len(items)
    with pytest.raises(IndexError):
        held[len(items)]


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(module, "WORTH", 1)


def test_data_sets_give_what_they_gave(always):
    items = [Path(f"a/{i}.png") for i in range(5)]
    dsets = Datasets(items, [[str], [lambda p: p.stem]], splits=[[3, 1], [0]]).train
    other = packed(dsets)
    assert list(other) == list(dsets)
    assert type(other.tls[0]._all_items) is PackedText
    assert other.tls[0]._all_items is other.tls[1]._all_items
    assert dsets.tls[0]._all_items is items
    column = TfmdLists(["a", "b"], str.upper)
    assert list(packed(column)) == ["A", "B"]
    assert list(packed(["a", "b"])) == ["a", "b"]


def test_what_is_not_all_text_stays_as_it_is(always):
    for dataset in ([1, 2], ["a", 1], [("a", 1)], Datasets([1, 2], [[], []]), {"a": 1}, []):
        assert packed(dataset) is dataset
