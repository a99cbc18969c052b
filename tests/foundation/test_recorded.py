import copy
import inspect
import pickle

import pytest
from torch import nn

from layered.foundation import BadArgument, Recorded


class Base(Recorded):
    def __init__(self, size, *rest, scale=2, **extra):
        self.size, self.rest, self.scale, self.extra = size, rest, scale, extra


class Derived(Base):
    def __init__(self, width=4, flag=True):
        super().__init__(width * 2, 1, 2)
        self.flag = flag


class Inherits(Derived):
    pass


class Layer(Recorded, nn.Linear):
    pass


class Plain(Recorded):
    pass


def test_given_and_default_arguments_are_recorded():
    assert Base(3, 4, 5, colour="red").init_args == {
        "size": 3,
        "rest": (4, 5),
        "scale": 2,
        "extra": {"colour": "red"},
    }


def test_only_the_outermost_constructor_is_recorded():
    assert Derived().init_args == {"width": 4, "flag": True}
    assert Inherits(5).init_args == {"width": 5, "flag": True}


def test_a_class_without_a_constructor_records_nothing():
    assert Plain().init_args == {}


def test_the_constructor_of_a_foreign_base_is_recorded():
    layer = Layer(3, 4, bias=False)
    assert layer.init_args["in_features"] == 3
    assert layer.init_args["bias"] is False


@pytest.mark.parametrize("made", [Base(3, 4, 5, scale=1, colour="red"), Base(1), Derived(7), Plain()], ids=repr)
def test_from_init_args_builds_the_same_again(made):
    again = type(made).from_init_args(made.init_args)
    assert again.init_args == made.init_args
    assert {k: v for k, v in vars(again).items() if k != "_given"} == {
        k: v for k, v in vars(made).items() if k != "_given"
    }


def test_from_init_args_refuses_a_name_the_constructor_lacks():
    with pytest.raises(BadArgument, match="widht") as caught:
        Derived.from_init_args({"widht": 3})
    assert "width" in caught.value.fix


def test_from_init_args_without_a_needed_argument_is_a_type_error():
    with pytest.raises(TypeError, match="size"):
        Base.from_init_args({"scale": 3})


def test_the_record_survives_copy_and_pickle():
    made = Derived(9)
    for again in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert again.init_args == {"width": 9, "flag": True}
        assert again.size == 18


def test_signature_and_errors_stay_those_of_the_class():
    assert list(inspect.signature(Derived).parameters) == ["width", "flag"]
    with pytest.raises(TypeError, match="wdith"):
        Derived(wdith=3)
