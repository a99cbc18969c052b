"""A patched function is a method of the class that it names."""

from __future__ import annotations

import pytest

from layered.foundation import BadArgument, patch, patch_to


class Cat:
    def __init__(self):
        self.name = "Tom"


class Dog(Cat):
    pass


def test_methods_properties_and_setters_are_added():
    @patch
    def says(self: Cat, what="meow"):
        """What it says."""
        return f"{self.name}: {what}"

    @patch(as_prop=True)
    def loud(self: Cat):
        return self.name.upper()

    @patch(set_prop=True)
    def loud(self: Cat, name):  # noqa: F811
        self.name = name.lower()

    @patch(cls_method=True)
    def kind(cls: Cat):
        return cls.__name__

    @patch(static_method=True)
    def legs(of: Cat = None):
        return 4

    cat = Cat()
    assert (cat.says(), Dog().says("woof"), cat.loud, Dog.kind(), Cat.legs()) == (
        "Tom: meow",
        "Tom: woof",
        "TOM",
        "Dog",
        4,
    )
    cat.loud = "JIM"
    assert cat.name == "jim"
    assert Cat.says.__doc__ == "What it says."


def test_the_class_may_be_said_instead_of_annotated():
    class A: ...

    class B: ...

    @patch_to((A, B))
    def twice(self, x):
        return 2 * x

    @patch_to(A, as_prop=True)
    def kind(self):
        return "an A"

    @patch_to(A, cls_method=True)
    def named(cls):
        return cls.__name__

    assert (A().twice(2), B().twice(3), A().kind, A.named()) == (4, 6, "an A", "A")
    assert twice(None, 4) == 8


def test_several_classes_get_it():
    class Fish: ...

    class Bird: ...

    def moves(self) -> str:
        return type(self).__name__

    for given in (Fish | Bird, (Fish, Bird)):
        moves.__annotations__["self"] = given
        patch(moves)
        assert (Fish().moves(), Bird().moves()) == ("Fish", "Bird")


def test_a_function_without_a_class_is_refused():
    with pytest.raises(BadArgument, match="patch needs the class that gets 'f'"):

        @patch
        def f(self): ...

    with pytest.raises(BadArgument, match="patch needs the class"):

        @patch
        def g(): ...
