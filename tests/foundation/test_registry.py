"""A registry is a two-way table between names and objects."""

from __future__ import annotations

import pytest

from layered.foundation import BadValue, Registry, UnknownName


def test_names_lead_to_items_and_back():
    colours = Registry("colour")
    colours.add("red", 1)
    assert colours.get("red") == 1
    assert colours.name_of(2) is None
    red = object()
    colours.add("deep red", red)
    assert colours.name_of(red) == "deep red"
    assert colours.names() == ["deep red", "red"]
    assert "red" in colours
    assert list(colours) == ["red", "deep red"]


def test_an_unknown_name_is_an_error_with_the_nearest():
    colours = Registry("colour")
    colours.add("crimson", 1)
    with pytest.raises(UnknownName, match="no colour named 'crimsen'") as caught:
        colours.get("crimsen")
    assert caught.value.fix == "did you mean 'crimson'?"
    with pytest.raises(KeyError):
        colours.get("blue")


def test_a_taken_name_is_refused_but_a_cell_may_run_again():
    table = Registry("thing")

    def make():
        @table.register()
        def thing():
            return 1

        return thing

    make()
    again = make()
    assert table.get("thing") is again
    with pytest.raises(BadValue, match="'thing' is taken"):
        table.add("thing", len)
