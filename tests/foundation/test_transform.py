"""Transforms pick their code by type, give the meaning back, and can be undone, copied and pickled."""

from __future__ import annotations

import copy
import pickle
import random
from collections import namedtuple
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from layered.foundation import (
    BadArgument,
    DisplayedTransform,
    InplaceTransform,
    ItemTransform,
    Pipeline,
    RandTransform,
    TensorCategory,
    TensorImage,
    TensorMask,
    Tickets,
    TitledStr,
    Transform,
    drawing,
    fastuple,
    is_foreign,
    store_attr,
)
from layered.foundation.transform import mk_transform


class Add(Transform):
    def __init__(self, by=1, split_idx=None):
        super().__init__(split_idx=split_idx)
        self.by = by

    def encodes(self, x: int):
        return x + self.by

    def encodes(self, x: float):  # noqa: F811  # overloads
        return x + 10 * self.by

    def decodes(self, x: int):
        return x - self.by

    def decodes(self, x: float):  # noqa: F811
        return x - 10 * self.by


@Transform
def doubled(x: int):
    return 2 * x


def to_text(x: int) -> str:
    return str(x)


def to_number(x: str) -> int:
    return int(x)


def test_repeated_encodes_are_overloads():
    assert Add()(1) == 2
    assert Add()(1.0) == 11.0
    assert Add()("a") == "a"


@given(st.integers() | st.floats(-1e6, 1e6).map(lambda x: round(x)))
def test_decode_undoes_encode(x):
    assert Add(3).decode(Add(3)(x)) == x


def test_a_function_becomes_a_transform_for_the_type_it_names():
    assert doubled((1, 2.5, "a")) == (2, 2.5, "a")
    assert doubled.name == "doubled"
    assert repr(doubled) == "Transform(doubled)"


def test_a_function_is_undone_by_another_for_the_type_that_it_names():
    there_and_back = Transform(to_text, to_number)
    assert there_and_back(3) == "3"
    assert there_and_back.decode("3") == 3
    assert Transform(to_text).decode("3") == "3"


@pytest.mark.parametrize(("function", "given", "wanted"), [(max, [1, 3], 3), (np.sqrt, 4.0, 2.0), (int, "3", 3)])
def test_builtins_and_classes_can_be_transforms(function, given, wanted):
    assert Transform(function)(given) == wanted


def test_what_is_no_function_is_refused():
    with pytest.raises(BadArgument, match="needs a function"):
        Transform(3)


def test_a_function_can_be_added_to_a_class_as_an_overload():
    class Shout(Transform):
        def encodes(self, x: str):
            return x.upper()

    class Louder(Shout): ...

    louder = Louder()
    assert louder(1) == 1

    @Shout
    def encodes(self, x: int):
        return x * 100

    assert Shout()(1) == 100
    assert louder(1) == 100
    assert Shout()("a") == "A"


def test_the_most_specific_overload_wins_and_a_derived_class_replaces():
    class Name(Transform):
        def encodes(self, x: Tensor) -> None:
            return "tensor"

        def encodes(self, x: TensorImage) -> None:  # noqa: F811
            return "image"

    class Other(Name):
        def encodes(self, x: Tensor) -> None:
            return "other"

    assert Name()(torch.zeros(1)) == "tensor"
    assert Name()(TensorMask(torch.zeros(1))) == "tensor"
    assert Name()(TensorImage(torch.zeros(1))) == "image"
    assert Other()(torch.zeros(1)) == "other"
    assert Other()(TensorImage(torch.zeros(1))) == "image"


def test_a_named_overload_is_replaced_by_one_of_its_name_whatever_types_they_take():
    class Base(Transform):
        def encode_number(self, x: int) -> None:
            return "base"

        def encode_text(self, x: str) -> None:
            return "text"

    class Derived(Base):
        def encode_number(self, x: object) -> None:
            return "derived"

        encode_text = None

    assert Base()(1) == "base"
    assert Derived()(1) == "derived"
    assert Derived()("a") == "derived"


def test_named_kernels_get_plain_tensors_and_their_results_the_meaning_back():
    class Look(Transform):
        def encode_image(self, x: TensorImage) -> Tensor:
            assert type(x) is Tensor
            return x + 1

        def encode_mask(self, x: TensorMask) -> TensorCategory:
            return x.sum()

    image = TensorImage(torch.zeros(1, 2, 2), source="a.png")
    res = Look()(image)
    assert type(res) is TensorImage
    assert res.source == "a.png"
    assert type(Look()(TensorMask(torch.ones(2)))) is TensorCategory


def test_the_return_annotation_decides_what_the_result_is():
    def plain_result(x: TitledStr):
        return str(x) + "!"

    def left_alone(x: TitledStr) -> None:
        return str(x) + "!"

    def as_written(x: str) -> TitledStr:
        return x + "!"

    assert type(Transform(plain_result)(TitledStr("a"))) is TitledStr
    assert type(Transform(left_alone)(TitledStr("a"))) is str
    assert type(Transform(as_written)("a")) is TitledStr


def test_tuples_are_taken_apart_but_named_tuples_are_not():
    point = namedtuple("point", "x y")
    assert Add()((1, (2, 3.0))) == (2, (3, 13.0))
    assert type(Add()(fastuple(1, 2))) is fastuple
    assert Add()(point(1, 2)) == point(1, 2)


def test_an_item_transform_gets_the_whole_tuple():
    class Swap(ItemTransform):
        def encodes(self, xy):
            x, y = xy
            return y, x

        def decodes(self, xy):
            return self.encodes(xy)

    assert Swap()((1, 2)) == (2, 1)
    assert Swap().decode((1, 2)) == (2, 1)
    assert type(Swap()(fastuple(1, 2))) is fastuple


def test_an_inplace_transform_returns_its_input():
    class Append(InplaceTransform):
        def encodes(self, x: list):
            x.append(1)

    items = []
    assert Append()(items) is items
    assert items == [1]


@pytest.mark.parametrize(
    ("own", "asked", "applied"), [(None, None, 1), (None, 1, 1), (0, 0, 1), (0, 1, 0), (0, None, 0), (1, 1, 1)]
)
def test_a_transform_for_one_split_leaves_the_others_alone(own, asked, applied):
    assert Add(split_idx=own)(1, split_idx=asked) == 1 + applied
    assert Add(split_idx=own).decode(1, split_idx=asked) == 1 - applied


def test_setup_fits_to_the_items_and_to_the_training_items_where_asked():
    class Mean(Transform):
        def setups(self, items: Iterable):
            self.mean = sum(items) / len(items)

    class Items(list):
        train = (1, 2)

    for train_setup, wanted in ((False, 4), (True, 1.5)):
        tfm = Mean()
        tfm.setup(Items([1, 2, 9]), train_setup=train_setup)
        assert tfm.mean == wanted


def test_an_error_in_a_setup_is_heard():
    class Broken(Transform):
        def setups(self, items):
            return items.no_such_thing

    with pytest.raises(AttributeError, match="no_such_thing"):
        Broken().setup([1])


def test_a_class_whose_constructor_does_not_call_ours_works():
    class Siamese(Transform):
        def __init__(self, files):
            self.files = files

        def encodes(self, x: int):
            return self.files[x]

    tfm = Siamese(["a", "b"])
    assert tfm(1) == "b"
    assert tfm.name == "Siamese"
    assert repr(tfm) == "Siamese(files=['a', 'b'])"
    assert Pipeline([tfm, str.upper])(0) == "A"
    assert copy.copy(tfm)(1) == "b"


def test_a_transform_shows_the_arguments_that_are_not_defaults():
    class Scale(DisplayedTransform):
        def __init__(self, by=1, shift=0):
            super().__init__()

    assert repr(Scale(shift=2)) == "Scale(shift=2)"
    assert repr(Add()) == "Add()"


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
@pytest.mark.parametrize("tfm", [Add(5), Transform(to_text, to_number), doubled, Pipeline([Add(2), doubled])], ids=repr)
def test_copies_and_pickled_twins_do_the_same(duplicate, tfm):
    twin = duplicate(tfm)
    assert twin(3) == tfm(3)
    assert twin.decode(twin(3)) == tfm.decode(tfm(3))
    assert repr(twin) == repr(tfm)


def test_a_class_or_a_function_is_made_a_transform():
    assert isinstance(mk_transform(Add), Add)
    assert mk_transform(str.upper)("a") == "A"
    assert mk_transform(doubled) is doubled


class OwnConstructor(RandTransform):
    """As the wrappers of albumentations are taught: neither the constructor nor `before_call` calls those of the base."""

    split_idx, order = None, 2

    def __init__(self, train, valid):
        store_attr()

    def before_call(self, b, split_idx):
        self.idx = split_idx

    def encodes(self, x: int):
        return (self.train if self.idx == 0 else self.valid)(x)


def test_a_random_transform_needs_no_constructor_of_the_base():
    tfm = OwnConstructor(lambda x: x + 1, lambda x: -x)
    assert [tfm((5, "label"), split_idx=split) for split in (0, 1)] == [(6, "label"), (-5, "label")]


class Jitter(RandTransform):
    def before_call(self, x, split_idx):
        super().before_call(x, split_idx)
        self.by = self.draw()

    def encodes(self, x: float):
        return x + self.by


def test_a_random_transform_draws_once_for_all_elements_and_only_in_training():
    tfm = Jitter()
    with drawing(Tickets(3)):
        a, b = tfm((0.0, 1.0), split_idx=0)
        again, _ = tfm((0.0, 1.0), split_idx=0)
    assert b == pytest.approx(a + 1)
    assert again != a
    assert tfm((0.0, 1.0), split_idx=1) == (0.0, 1.0)
    assert not hasattr(tfm, "by")


def test_a_random_transform_is_applied_in_its_share_of_calls():
    tfm = Jitter(p=0.25)
    with drawing(Tickets(3)):
        applied = sum(tfm(0.0, split_idx=0) != 0.0 for _ in range(2000))
    assert 430 < applied < 570
    assert Jitter(p=0.0)(1.0, split_idx=0) == 1.0


def test_code_of_others_is_told_from_ours():
    class Inherits(RandTransform):
        def before_call(self, x, split_idx):
            self.by = random.random()

    assert is_foreign(lambda x: x)
    assert is_foreign(Jitter())
    assert is_foreign(Inherits())
    assert is_foreign(Pipeline([str.upper, doubled]))
    assert not is_foreign(RandTransform())
    assert not is_foreign(Pipeline([str.upper]))
    assert not is_foreign(len)
