"""An error says problem, got, expected and fix, and is what people catch."""

from __future__ import annotations

import inspect
import pickle

import pytest

from layered.foundation import (
    BadArgument,
    BadItem,
    LayeredError,
    UnknownLabel,
    errors,
    failed,
    nearest,
    refuse_unknown,
    unknown_name,
)

KINDS = [k for _, k in inspect.getmembers(errors, inspect.isclass) if issubclass(k, LayeredError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_every_error_keeps_its_parts_in_text_attributes_and_pickles(kind):
    error = kind("it broke", got=3, expected="4", fix="mend it")
    for twin in (error, pickle.loads(pickle.dumps(error))):
        assert type(twin) is kind
        assert str(twin) == "it broke\n  got      3\n  expected 4\n  fix      mend it"
        assert (twin.problem, twin.got, twin.expected, twin.fix) == ("it broke", 3, "4", "mend it")


@pytest.mark.parametrize("kind", [k for k in KINDS if k is not LayeredError], ids=lambda k: k.__name__)
def test_every_error_is_also_a_built_in_that_people_catch(kind):
    assert any(base.__module__ == "builtins" and base is not Exception for base in kind.__mro__[:-3])


def test_parts_that_were_not_given_are_not_shown():
    assert str(BadItem("it broke")) == "it broke"


def test_a_failure_keeps_our_class_and_names_stage_and_step():
    error = UnknownLabel("the label 'x' is unknown", fix="add it")
    error.add_note("in step 2 of 3, Categorize()")
    error.add_note("in step 1 of 1, outer")
    told = failed(error, "making item 3")
    assert type(told) is UnknownLabel
    assert told.problem == "the label 'x' is unknown, when making item 3, in step 2 of 3, Categorize()"
    assert told.fix == "add it"


def test_a_failure_of_other_code_becomes_a_bad_item():
    told = failed(ZeroDivisionError("division by zero"), "making item 3")
    assert type(told) is BadItem
    assert told.problem == "failed making item 3"
    assert told.got == "ZeroDivisionError: division by zero"


def test_names_that_look_alike_are_found():
    assert nearest("resnt18", ["resnet18", "resnet34", "vgg16"], 1) == ["resnet18"]
    assert nearest("zzz", ["resnet18"]) == []
    assert unknown_name("colour", "blu", ["red", "blue"]).expected == "one of blue, red"
    assert unknown_name("colour", "zzz", ["red"], fix="import paint").fix == "import paint"


def test_unknown_keywords_are_refused_with_the_nearest():
    refuse_unknown({"a": 1}, ["a", "b"], "f")
    with pytest.raises(BadArgument, match="f got an unknown argument 'shufle'") as caught:
        refuse_unknown({"shufle": 1}, ["shuffle"], "f")
    assert caught.value.fix == "did you mean 'shuffle'?"
    with pytest.raises(TypeError, match="no keyword arguments"):
        refuse_unknown(["a"], [], "f")
