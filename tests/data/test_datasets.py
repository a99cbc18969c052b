"""Collections are transformed on demand, fitted on the training items, and failures name the item."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st

from layered.data import Categorize, Datasets, RegressionSetup, SkipItemException, TfmdLists
from layered.data.subset import as_positions
from layered.foundation import BadItem, BadValue, L, RandTransform, Transform, UnknownLabel


def last(s):
    return s[-1]


names = ["1.x", "2.y", "3.x", "4.y", "5.x"]
splits = [[0, 1, 3], [4, 2]]


def columns(**kwargs):
    return Datasets(names, [[str.upper], [last, Categorize]], splits=splits, **kwargs)


def test_items_are_made_on_demand():
    made = []
    tl = TfmdLists([1, 2, 3], lambda x: made.append(x) or 2 * x, splits=[[2, 0], [1]])
    assert made == []
    assert tl[1] == 4
    assert tl[-1] == 6
    assert tl[0:2] == [2, 4]
    assert tl[[0, 2]] == [2, 6]
    assert tl[[True, False, True]] == [2, 6]
    assert list(tl.train) == [6, 2]
    assert tl.valid[0] == 4
    assert (len(tl), len(tl.train)) == (3, 2)
    with pytest.raises(IndexError):
        tl[3]


@pytest.mark.parametrize("items", [[1, 2], L(1, 2), np.array([1, 2]), (1, 2), range(1, 3), torch.tensor([1, 2])])
def test_items_may_come_in_any_collection(items):
    assert [int(o) for o in TfmdLists(items, [lambda x: x])] == [1, 2]
    assert int(TfmdLists(items)[1]) == 2
    assert list(TfmdLists((i for i in (1, 2)), [])) == [1, 2]


def test_rows_of_a_frame_are_items():
    frame = pd.DataFrame({"a": [1, 2, 3]}, index=[7, 8, 9])
    tl = TfmdLists(frame, lambda row: row.a, splits=[[2, 0], [1]])
    assert tl[0] == 1
    assert list(tl) == [1, 2, 3]
    assert list(tl.train) == [3, 1]
    assert tl.train.items[0].a == 3
    assert [row.a for row in tl.train.items] == [3, 1]


@settings(deadline=None)
@given(st.lists(st.integers() | st.tuples(st.integers(), st.integers()), max_size=5))
def test_iterating_gives_what_indexing_gives(items):
    tl = TfmdLists(items, [lambda x: x + 1, lambda x: (x, -x), lambda x: 2 * x])
    assert list(tl) == [tl[i] for i in range(len(tl))]


def test_transforms_are_fitted_on_what_the_ones_before_make_of_the_training_items():
    class Centre(Transform):
        def setups(self, items):
            self.mean = sum(items) / len(items)

        def encodes(self, x: int) -> None:
            return x - self.mean

        def decodes(self, x: float) -> None:
            return x + self.mean

    tl = TfmdLists([1, 2, 3, 100], [lambda x: 10 * x, Centre], splits=[[0, 1, 2], [3]])
    assert tl.tfms.mean == 20
    assert tl[3] == 980
    assert tl.decode(980.0) == 1000
    assert TfmdLists([1, 3], Centre, do_setup=True).tfms.mean == 2
    assert not hasattr(TfmdLists([1, 3], Centre, do_setup=False).tfms, "mean")


def test_random_transforms_know_their_split():
    class Plus(RandTransform):
        def encodes(self, x: int):
            return x + 1

    tl = TfmdLists([1, 2], Plus, splits=[[0], [1]])
    assert (tl.train[0], tl.valid[0]) == (2, 2)
    dsets = Datasets([1, 2], [Plus], splits=[[0], [1]])
    valid = dsets.valid
    with valid.set_split_idx(0) as augmented:
        assert augmented[0] == (3,)
    assert valid[0] == (2,)


@pytest.mark.parametrize(("split", "wanted"), [([2, 0], [2, 0]), (np.array([True, False, True]), [0, 2]), ([], [])])
def test_a_split_is_positions_or_a_mask(split, wanted):
    assert as_positions(split, 3).tolist() == wanted
    assert as_positions(torch.tensor(wanted, dtype=torch.int64), 3).tolist() == wanted


@pytest.mark.parametrize("split", [[3], [-4]])
def test_a_split_that_names_an_item_that_is_not_there_is_an_error(split):
    with pytest.raises(BadValue, match=str(split[0])):
        TfmdLists([1, 2, 3], splits=[split, [0]])


def test_overlapping_splits_are_noticed():
    assert TfmdLists([1, 2], splits=[[0], [0, 1]]).overlapping_splits()
    assert not TfmdLists([1, 2], splits=[[0], [1]]).overlapping_splits()


def test_items_that_are_not_split_are_all_for_training():
    dsets = Datasets([1, 2], [None, None])
    assert list(dsets.subset(0)) == list(dsets.train) == [(1, 1), (2, 2)]
    assert dsets.train.split_idx == 0
    with pytest.raises(BadValue, match="the items are not split, so there is no subset 1"):
        _ = TfmdLists([1]).valid


@pytest.mark.parametrize("read", [lambda tl: tl[1], list])
def test_a_failure_names_item_and_step(read):
    with pytest.raises(BadItem) as caught:
        read(TfmdLists(["1", "x", "3"], [str.strip, int, lambda n: n + 1]))
    assert caught.value.problem == (
        "failed making the item of item 1 (str 'x'), in step 2 of 3, Transform(int), given str 'x'"
    )
    assert caught.value.got == "ValueError: invalid literal for int() with base 10: 'x'"
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_failure_far_down_a_column_is_named_though_steps_run_ahead():
    items = list(range(3000))
    with pytest.raises(BadItem, match=r"item 1500 \(int 1500\), in step 1 of 2"):
        list(TfmdLists(items, [lambda i: 1 // (i - 1500), lambda i: i]))


def test_an_item_may_ask_to_be_left_out():
    def skip(x):
        raise SkipItemException

    with pytest.raises(SkipItemException):
        TfmdLists([1], skip)[0]


def test_samples_are_tuples_of_columns():
    dsets = columns()
    assert dsets[0] == ("1.X", 0)
    assert dsets.train[[0, 2]] == [("1.X", 0), ("4.Y", 1)]
    assert [int(y) for _, y in dsets.valid] == [0, 0]
    assert dsets.decode(dsets[1]) == ("2.Y", "y")
    assert (dsets.vocab, dsets.c, dsets.n_inp, dsets.n_subsets) == (["x", "y"], 2, 1, 2)
    assert dsets.target_kinds == ["category"]
    assert (dsets.split_idx, dsets.valid.split_idx) == (None, 1)
    assert list(dsets.valid.items) == ["5.x", "3.x"]
    assert len(dsets.new_empty()) == 0


def test_shown_samples_show_every_column(capsys):
    columns().show(columns()[1])
    assert capsys.readouterr().out == "y\n"


def test_several_targets_have_several_vocabularies_and_an_input_may_have_the_only_one():
    two = Datasets(names, [[], [last, Categorize], [lambda s: s[0], Categorize]], n_inp=1)
    assert list(two.vocab) == [["x", "y"], list("12345")]
    assert two.c == 7
    read = Datasets(names, [[last, Categorize], [lambda s: float(s[0]), RegressionSetup]])
    assert read.vocab == ["x", "y"]
    assert read.c == 1
    with pytest.raises(AttributeError, match="vocabulary"):
        _ = Datasets(names, [[], []]).vocab


def test_ready_columns_can_be_joined():
    tl = TfmdLists([1, 2], lambda x: -x)
    assert Datasets(tls=[tl, tl], n_inp=1)[1] == (-2, -2)
    assert Datasets([3, 4])[0] == (3,)


def test_labels_that_only_validation_items_have_are_named():
    dsets = Datasets(["a", "b", "zz"], [[], [Categorize]], splits=[[0, 1], [2]])
    with pytest.raises(UnknownLabel, match=r"'zz' is not in the vocabulary .* among the validation items"):
        dsets.check_labels()
    Datasets(["a", "zz"], [[], [Categorize(add_na=True)]], splits=[[0], [1]]).check_labels()
    columns().check_labels()


def test_looking_at_the_items_moves_no_generator_though_code_of_others_draws():
    def noisy(x):
        return f"{x}{random.random() + float(torch.rand(())) + np.random.rand() > 9}"

    before = random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()
    Datasets([1, 2, 3], [[], [noisy, Categorize]], splits=[[0, 1, 2], [2]]).check_labels()
    assert (random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()) == before


def test_items_for_prediction_skip_the_steps_they_have_behind_them():
    tl = TfmdLists(names, [last, str.upper], splits=splits, getters=1)
    assert list(tl.test_set(["7.z"])) == ["Z"]
    assert list(tl.test_set(["q"], rm_tfms=2)) == ["q"]
    rows = TfmdLists(pd.DataFrame({"name": ["a"]}), [lambda row: row["name"], str.upper], getters=1)
    assert list(rows.test_set(["b"])) == ["B"]
    assert list(rows.test_set(pd.DataFrame({"name": ["c"]}))) == ["C"]
    assert columns().test_set(["7.x"])[0] == ("7.X",)
    assert columns().test_set(["7.y"], with_labels=True)[0] == ("7.Y", 1)


def test_data_sets_survive_pickling():
    dsets = pickle.loads(pickle.dumps(columns()))
    assert dsets[1] == ("2.Y", 1)
    assert repr(dsets).split("\n")[1].split() == ["input", "Transform(upper)"]
    assert "TfmdLists of 5 items" in repr(dsets.tls[0])
    assert "first str '1.x'" in repr(dsets.tls[0])
