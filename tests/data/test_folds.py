"""Folds share the items out; groups stay together; the future stays out of training. scikit-learn is the oracle."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.model_selection import GroupKFold, KFold

from layered.data import GroupKFoldSplitter, GroupSplitter, KFoldSplitter, StratifiedKFoldSplitter, TimeSplitter
from layered.foundation import BadValue, EmptySplit, UnknownName, seeded

items = list(range(20))
people = [f"p{i % 7}" for i in items]


@pytest.mark.parametrize("seed", [0, 42])
def test_folds_are_those_of_scikit_learn_and_move_no_generator(seed):
    before = np.random.get_state()[1].tolist()
    wanted = list(KFold(5, shuffle=True, random_state=seed).split(items))
    for fold in range(5):
        train, valid = KFoldSplitter(fold, seed=seed)(items)
        assert train.tolist() == wanted[fold][0].tolist()
        assert valid.tolist() == wanted[fold][1].tolist()
    assert np.random.get_state()[1].tolist() == before


def test_folds_without_a_seed_share_the_items_out_all_the_same():
    with seeded(3):
        valid = np.concatenate([KFoldSplitter(fold, n=3)(items)[1] for fold in range(3)])
    assert sorted(valid) == items


def test_stratified_folds_keep_the_share_of_each_label():
    labels = ["a"] * 15 + ["b"] * 5
    frame = pd.DataFrame({"label": labels})
    for source, by in ((items, labels), (frame, "label"), (items, lambda i: labels[i])):
        for fold in range(5):
            _, valid = StratifiedKFoldSplitter(by, fold, seed=1)(source)
            assert sorted(labels[i] for i in valid) == ["a", "a", "a", "b"]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.floats(0.1, 0.6))
def test_no_group_stands_on_both_sides(seed, share):
    train, valid = GroupSplitter(people, share, seed=seed)(items)
    assert not {people[i] for i in train} & {people[i] for i in valid}
    assert sorted([*train, *valid]) == items


def test_group_folds_are_those_of_scikit_learn():
    wanted = list(GroupKFold(3).split(items, groups=people))
    for fold in range(3):
        train, valid = GroupKFoldSplitter(people, fold, n=3)(items)
        assert (train.tolist(), valid.tolist()) == (wanted[fold][0].tolist(), wanted[fold][1].tolist())


def test_the_latest_items_are_for_validation():
    train, valid = TimeSplitter(lambda i: -i, valid_pct=0.25)(items)
    assert valid.tolist() == [4, 3, 2, 1, 0]
    assert train.tolist() == list(range(19, 4, -1))


def test_items_of_one_moment_stay_on_one_side():
    train, valid = TimeSplitter([1, 2, 2, 2, 3], valid_pct=0.4)(range(5))
    assert (train.tolist(), sorted(valid)) == ([0], [1, 2, 3, 4])


@pytest.mark.parametrize("gap", ["2 days", datetime.timedelta(days=2), pd.Timedelta(days=2), np.timedelta64(2, "D")])
@pytest.mark.parametrize("kind", [list, "datetime64[ns]", str])
def test_a_gap_keeps_training_items_away_from_validation(gap, kind):
    days = pd.date_range("2024-01-01", periods=10)
    frame = pd.DataFrame({"day": list(days) if kind is list else days.astype(kind)})
    train, valid = TimeSplitter("day", valid_pct=0.2, gap=gap)(frame)
    assert valid.tolist() == [8, 9]
    assert train.tolist() == list(range(7))


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: KFoldSplitter(5), BadValue, "invalid fold"),
        (lambda: KFoldSplitter(0, n=1), BadValue, "invalid fold"),
        (lambda: KFoldSplitter()([1, 2, 3]), BadValue, "more folds than items"),
        (lambda: GroupSplitter(["a"] * 20)(items), BadValue, "not enough groups"),
        (lambda: GroupSplitter(["a"])(items), BadValue, "groups needs exactly one value per item"),
        (lambda: GroupKFoldSplitter("who")(pd.DataFrame({"whom": [1]})), UnknownName, "who"),
        (lambda: GroupSplitter(people, 1.0), BadValue, "share"),
        (lambda: TimeSplitter([1.0, float("nan")], 0.5)([1, 2]), BadValue, "time of an item is missing"),
        (lambda: TimeSplitter([1, 2], 0.2)([1, 2]), EmptySplit, "'valid'"),
        (lambda: TimeSplitter([1, 2], 2)([1, 2]), BadValue, "share"),
    ],
)
def test_what_cannot_be_split_is_told(make, kind, message):
    with pytest.raises(kind, match=message):
        make()
