"""A misspelt keyword is refused with the name that was meant."""

from __future__ import annotations

import pytest

from layered.foundation import BadArgument, checked, names_of


@checked
def greet(name, /, *, punctuation="!", **more):
    return name + punctuation


class Greeter:
    @checked
    def __init__(self, name, loud=False):
        self.name = name


def test_a_call_that_is_right_goes_through():
    assert greet("a", punctuation="?") == "a?"
    assert Greeter("a", loud=True).name == "a"
    assert greet.__name__ == "greet"


def test_a_misspelt_keyword_is_refused_before_anything_runs():
    with pytest.raises(BadArgument, match="Greeter got an unknown argument 'lod'") as caught:
        Greeter("a", lod=True)
    assert caught.value.fix == "did you mean 'loud'?"
    assert caught.value.expected == "loud, name"
    with pytest.raises(TypeError, match="punctation"):
        greet("a", punctation="?")


def test_only_what_can_be_given_by_keyword_has_a_name():
    assert names_of(greet) == {"punctuation"}
