"""Code is picked by type: the most specific overload wins, and a tie is an error."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import pytest

from layered.foundation import BadArgument, typedispatch, verb
from layered.foundation.dispatch import Verb, annotation, as_types, first_types, most_specific
from layered.foundation.errors import AmbiguousDispatch

T = TypeVar("T", bound=int)


class Animal: ...


class Dog(Animal): ...


@pytest.mark.parametrize(
    ("note", "types"),
    [
        (int, (int,)),
        (int | str, (int, str)),
        (None, (type(None),)),
        (Any, (object,)),
        (list[int], (list,)),
        ((int, float), (int, float)),
        (T, (int,)),
        ("not evaluated", (object,)),
    ],
)
def test_annotations_name_classes(note, types):
    assert as_types(note) == types


def test_annotations_written_as_text_are_resolved_with_what_surrounds_the_function():
    class Local: ...

    def f(x: Local) -> Dog:
        return Local  # so that the function sees it

    assert first_types(f, 0) == (Local,)
    assert annotation(f, "return") is Dog


def test_an_annotation_that_cannot_be_resolved_is_an_error_that_names_it():
    def f(x: Unicorn): ...  # noqa: F821

    with pytest.raises(BadArgument, match=r"'Unicorn' of .*f cannot be resolved"):
        first_types(f, 0)


def test_a_wrapped_function_is_read_where_it_was_written():
    def loud(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs): ...

        return wrapper

    assert first_types(loud(_paint_dog), 1) == (int,)


@pytest.mark.parametrize("function", [max, operator.itemgetter(1), str.upper, functools.partial(int, base=2)])
def test_functions_without_a_signature_take_anything(function):
    assert first_types(function, 0) == (object,)


def test_the_nearest_class_wins_and_then_the_narrowest_abstract_type():
    assert most_specific(Dog, [Animal, object]) is Animal
    assert most_specific(Dog, [Animal, Dog]) is Dog
    assert most_specific(list, [Iterable, Sequence, object]) is Sequence
    assert most_specific(bool, [int, object]) is int
    assert most_specific(str, [int]) is None


def test_a_tie_is_an_error():
    with pytest.raises(AmbiguousDispatch, match="Mapping and Sequence"):
        most_specific(_in_two_worlds(), [Mapping, Sequence])


def _in_two_worlds() -> type:
    class Both: ...

    Mapping.register(Both)
    Sequence.register(Both)
    return Both


def test_a_verb_looks_at_the_first_argument_and_then_at_the_second():
    v = Verb("greet")

    @v.register
    def _(x: object, y: object):
        return "any"

    @v.register
    def _(x: Animal, y: int | str):
        return "animal"

    @v.register
    def _(x: Dog, y: str):
        return "dog"

    assert v(Dog(), "a") == "dog"
    assert v(Dog(), 1) == "animal"
    assert v(Dog(), 1.5) == "any"
    assert v(Dog()) == "any"

    @v.register
    def _(x: Dog, y: int):
        return "a number and a dog"

    assert v(Dog(), 1) == "a number and a dog"


def test_a_verb_that_knows_no_body_says_what_to_write():
    v = Verb("paint")
    v.register(_paint_dog)
    with pytest.raises(TypeError, match=r"paint is not defined for Animal with int") as caught:
        v(Animal(), 1)
    assert "def paint(x: Animal, y: int" in caught.value.fix


def _paint_dog(x: Dog, y: int) -> str:
    return "brown"


def test_a_decorated_function_joins_the_verb_of_its_name():
    @typedispatch
    def a_verb_of_this_test(x: Dog, y: int, *, loud=False):
        return f"woof {y}{'!' if loud else ''}"

    assert a_verb_of_this_test is verb("a_verb_of_this_test")
    assert a_verb_of_this_test(Dog(), 2, loud=True) == "woof 2!"
