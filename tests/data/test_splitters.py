"""Splitters share the items out as asked, the same on every machine, and draw from no global generator."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st

from layered.data import (
    ColSplitter,
    EndSplitter,
    FileSplitter,
    FuncSplitter,
    GrandparentSplitter,
    IndexSplitter,
    MaskSplitter,
    RandomSplitter,
    RandomSubsetSplitter,
    TrainTestSplitter,
)
from layered.data.splitters import check_not_empty
from layered.foundation import BadValue, EmptySplit, NotFoundPath, seeded

items = list(range(10))


def lists(split):
    return [np.asarray(side).tolist() for side in split]


@pytest.mark.parametrize("seed", [0, 42, 123456789])
def test_a_seeded_split_is_the_published_one_and_moves_no_generator(seed):
    with seeded(0):
        torch.manual_seed(seed)
        order = torch.randperm(37).tolist()
    before = torch.get_rng_state()
    train, valid = lists(RandomSplitter(valid_pct=0.3, seed=seed)(range(37)))
    assert valid == order[:11]
    assert train == order[11:]
    assert torch.equal(torch.get_rng_state(), before)


@settings(deadline=None)
@given(st.integers(2, 200), st.floats(0.01, 0.99), st.none() | st.integers(0, 1000))
def test_a_random_split_takes_every_item_once(count, share, seed):
    train, valid = lists(RandomSplitter(share, seed)(range(count)))
    assert sorted(train + valid) == list(range(count))
    assert len(valid) == int(share * count)


def test_without_a_seed_the_seed_of_the_run_decides():
    with seeded(1):
        first = lists(RandomSplitter()(items))
        assert lists(RandomSplitter()(items)) == first
    with seeded(2):
        assert lists(RandomSplitter()(items)) != first


@pytest.mark.parametrize(
    ("splitter", "wanted"),
    [
        (IndexSplitter([1, 3]), ([0, 2, 4, 5, 6, 7, 8, 9], [1, 3])),
        (EndSplitter(0.3), ([0, 1, 2, 3, 4, 5, 6], [7, 8, 9])),
        (EndSplitter(0.3, valid_last=False), ([3, 4, 5, 6, 7, 8, 9], [0, 1, 2])),
        (FuncSplitter(lambda i: i > 7), ([0, 1, 2, 3, 4, 5, 6, 7], [8, 9])),
        (MaskSplitter([i == 2 for i in items]), ([0, 1, 3, 4, 5, 6, 7, 8, 9], [2])),
        (MaskSplitter(torch.arange(10) < 1), ([1, 2, 3, 4, 5, 6, 7, 8, 9], [0])),
    ],
)
def test_items_go_where_they_are_told(splitter, wanted):
    assert lists(splitter(items)) == [*wanted]


def test_files_are_split_by_the_folder_two_levels_up():
    files = ["d/train/cat/1.jpg", "d/valid/cat/2.jpg", "d/test/cat/3.jpg", "d/val/cat/4.jpg"]
    assert lists(GrandparentSplitter()(files)) == [[0], [1]]
    assert lists(GrandparentSplitter(train_name=["train", "test"], valid_name="val")(files)) == [[0, 2], [3]]


def test_files_are_split_by_a_list_of_names(tmp_path):
    (tmp_path / "valid.txt").write_text("b.jpg\nc.jpg\n")
    assert lists(FileSplitter(tmp_path / "valid.txt")(["x/a.jpg", "x/b.jpg"])) == [[0], [1]]
    with pytest.raises(NotFoundPath, match=r"nowhere.txt"):
        FileSplitter(tmp_path / "nowhere.txt")


def test_rows_are_split_by_a_column():
    frame = pd.DataFrame({"is_valid": [False, True, False], "fold": ["a", "b", "c"]})
    assert lists(ColSplitter()(frame)) == [[0, 2], [1]]
    assert lists(ColSplitter(0)(frame)) == [[0, 2], [1]]
    assert lists(ColSplitter("fold", on="c")(frame)) == [[0, 1], [2]]
    assert lists(ColSplitter("fold", on=["a", "b"])(frame)) == [[2], [0, 1]]
    with pytest.raises(BadValue, match="no column 'is_valid'"):
        ColSplitter()(items)


def test_a_stratified_split_keeps_the_shares_of_labels():
    labels = [0] * 80 + [1] * 20
    train, valid = TrainTestSplitter(test_size=0.5, random_state=1, stratify=labels)(range(100))
    assert sum(labels[i] for i in valid) == 10
    assert sorted([*train, *valid]) == list(range(100))
    before = np.random.get_state()[1].tolist()
    TrainTestSplitter()(items)
    assert np.random.get_state()[1].tolist() == before


def test_a_random_subset_leaves_the_rest_out():
    train, valid = lists(RandomSubsetSplitter(0.5, 0.2, seed=1)(items))
    assert (len(train), len(valid)) == (5, 2)
    assert not set(train) & set(valid)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomSplitter(-0.1), "share"),
        (lambda: RandomSplitter(1.5), "share"),
        (lambda: RandomSubsetSplitter(0.9, 0.2), "shares"),
        (lambda: IndexSplitter([10])(items), "out of range"),
        (lambda: MaskSplitter([True])(items), "differ in length"),
    ],
)
def test_a_share_or_place_that_makes_no_sense_is_refused(make, message):
    with pytest.raises(BadValue, match=message):
        make()


def test_an_empty_side_is_an_error_that_names_it_and_the_share_that_would_do():
    split = RandomSplitter(0.01)
    with pytest.raises(EmptySplit, match="the 'valid' split is empty") as caught:
        check_not_empty(split(items), asked=split.description, total=10)
    assert "RandomSplitter(valid_pct=0.01) over 10 items gives 10, 0" in caught.value.got
    assert "0.100" in caught.value.fix


def test_the_rows_of_a_frame_are_named_by_label_or_refused():
    df = pd.DataFrame({"x": range(10)}).sample(frac=1, random_state=0)
    late = df.index[df.x >= 7]
    for rows in (late, df.x >= 7, (df.x >= 7).sort_index(), (df.x >= 7).astype("boolean"), (df.x >= 7).to_numpy()):
        train, valid = IndexSplitter(rows)(df)
        assert (sorted(df.x.iloc[valid]), len(train)) == ([7, 8, 9], 7)
    for rows, message in (
        (pd.Series([1, 2]), "positions or labels"),
        (pd.Index([1, 77]), "77"),
        (pd.Series([True, False]), "whose labels are not those"),
    ):
        with pytest.raises(BadValue, match=message):
            IndexSplitter(rows)(df)
    double = pd.concat([df, df])
    assert IndexSplitter(double.x >= 7)(double)[1].tolist() == np.flatnonzero(double.x >= 7).tolist()
    with pytest.raises(BadValue, match="reset_index"):
        IndexSplitter(late)(double)
    assert IndexSplitter(pd.Series([1, 2], index=[5, 6]))(list("abc"))[1].tolist() == [1, 2]


COLUMNS = {
    "booleans": ([False, True, False, True], [1, 3]),
    "numbers": ([0, 1.0, 0, 1], [1, 3]),
    "texts": (["False", "TRUE ", "false", "True"], [1, 3]),
    "names": (["train", "valid", "train", "val"], [1, 3]),
    "nullable": (pd.array([False, True, False, True], dtype="boolean"), [1, 3]),
    "arrow": (pd.array([False, True, False, True], dtype="object"), [1, 3]),
    "missing": ([False, True, None, True], None),
    "NaN": ([0, 1, np.nan, 1], None),
    "NA": (pd.array([False, True, pd.NA, True], dtype="boolean"), None),
    "counts": ([0, 1, 2, 3], None),
    "other texts": (["train", "valid", "test", "valid"], None),
}


@pytest.mark.parametrize(("column", "valid"), COLUMNS.values(), ids=COLUMNS)
def test_a_column_says_of_each_row_whether_it_is_for_validation_or_is_refused(column, valid):
    df = pd.DataFrame({"v": column})
    splits = (ColSplitter("v"), ColSplitter(0), FuncSplitter(lambda row: row.v), MaskSplitter(df["v"]))
    for split in splits[:2] if valid is None else splits:
        if valid is not None:
            assert lists(split(df)) == [[i for i in range(4) if i not in valid], valid]
            continue
        with pytest.raises(BadValue, match="whether it is for validation") as caught:
            split(df)
        typed = caught.value.fix.removesuffix(" trains on all others")
        scope = {"df": df.copy()}
        exec(typed, scope)  # the fix as the user types it
        assert 1 in ColSplitter("v")(scope["df"])[1]


def test_what_is_neither_true_nor_false_is_refused_in_masks_and_functions_too():
    for mask in ([0.0, np.nan], [0, 2], ["a", "b"]):
        with pytest.raises(BadValue, match="the mask does not say"):
            MaskSplitter(mask)([1, 2])
    for func in (lambda o: float("nan"), lambda o: "folder"):
        with pytest.raises(BadValue, match="the function of FuncSplitter does not say"):
            FuncSplitter(func)([1, 2])
    assert lists(FuncSplitter(lambda o: [None, "x"][o] and o)([0, 1])) == [[0], [1]]


def test_a_mask_with_labels_is_that_of_the_rows_it_names():
    df = pd.DataFrame({"x": range(6)}, index=[30, 10, 20, 50, 40, 60])
    mask = pd.Series([True, False, False, False, False, True], index=[10, 20, 30, 40, 50, 60])
    assert MaskSplitter(mask)(df)[1].tolist() == [1, 5]
    with pytest.raises(BadValue, match="whose labels are not those of the items"):
        MaskSplitter(mask)(df.reset_index())
    assert MaskSplitter(mask.reset_index(drop=True))(list("abcdef"))[1].tolist() == [0, 5]


@pytest.mark.parametrize(
    "split",
    [
        RandomSplitter(np.float32(0.25), seed=np.int64(3)),
        RandomSubsetSplitter(np.float32(0.5), np.float32(0.25), seed=np.uint8(3)),
        TrainTestSplitter(np.float32(0.25), random_state=np.int32(3)),
        EndSplitter(np.float32(0.25)),
        IndexSplitter(np.array([1, 2], dtype=np.uint8)),
    ],
    ids=repr,
)
def test_numbers_of_numpy_are_numbers(split):
    assert len(split(list(range(8)))[1]) == 2
