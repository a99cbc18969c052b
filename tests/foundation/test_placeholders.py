"""`Self` writes a function of one object."""

from __future__ import annotations

from pathlib import Path

import pytest

from layered.foundation import L, Self


@pytest.mark.parametrize(
    ("chain", "given", "wanted"),
    [
        (Self.parent.name(), Path("a/b.jpg"), "a"),
        (Self.name(), Path("a/b.jpg"), "b.jpg"),
        (~Self.parent.name, Path("a/b.jpg"), "a"),
        (Self.upper(), "a", "A"),
        (Self.split("_")[0].upper(), "a_b", "A"),
        (Self[1], [3, 4], 4),
        (Self.get("x", 5), {}, 5),
        (Self.replace("a", "b").strip(), " a ", "b"),
    ],
)
def test_a_chain_does_what_it_says(chain, given, wanted):
    assert chain(given) == wanted
    assert L([given, given]).map(chain) == [wanted, wanted]


def test_a_chain_is_not_changed_by_what_is_built_on_it():
    parent = Self.parent
    name, suffix = parent.name(), parent.suffix()
    assert (name(Path("a.b/c")), suffix(Path("a.b/c"))) == ("a.b", ".b")


def test_it_pretends_to_be_nothing_else():
    assert not hasattr(Self, "__array__")
    assert not hasattr(Self, "__len__")
