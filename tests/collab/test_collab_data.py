"""Loaders of ratings: which columns, which codes, and what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from films import films

from layered.collab.all import CollabDataLoaders, TabularCollab
from layered.foundation import BadArgument, BadValue, EmptySource


def test_the_first_three_columns_are_users_items_and_ratings(df):
    dls = CollabDataLoaders.from_df(df, seed=42, bs=16, device="cpu")
    codes, ratings = dls.one_batch()
    assert (codes.dtype, codes.shape) == (torch.int64, (16, 2))
    assert (ratings.dtype, ratings.shape) == (torch.float32, (16, 1))
    assert dls.n_inp == 1
    assert isinstance(dls.train.dataset, TabularCollab)
    assert dls.classes["user"] == ["#na#", *sorted(df.user.iloc[list(dls.train.dataset.items.index)].unique())]


def test_a_batch_holds_the_rows_of_the_table(df):
    dls = CollabDataLoaders.from_df(df, seed=42, bs=16, val_bs=len(df), device="cpu")
    codes, ratings = next(iter(dls.valid))
    rows = df.loc[dls.valid.dataset.items.index]
    for column, name in enumerate(("user", "title")):
        vocab = list(dls.classes[name])
        expected = [vocab.index(o) if o in vocab else 0 for o in rows[name]]
        assert codes[:, column].tolist() == expected
    assert ratings.flatten().tolist() == rows.rating.tolist()


def test_columns_are_named_and_the_frame_stays_as_it_was(df):
    df = df[["when", "rating", "title", "user"]]
    before = df.copy()
    dls = CollabDataLoaders.from_df(df, user_name="user", item_name="title", rating_name="rating", seed=1)
    assert list(dls.classes) == ["user", "title"]
    pd.testing.assert_frame_equal(df, before)


def test_a_file_of_ratings_is_read(df, tmp_path):
    df.to_csv(tmp_path / "ratings.csv", index=False)
    dls = CollabDataLoaders.from_csv(tmp_path / "ratings.csv", seed=42)
    assert dls.classes == CollabDataLoaders.from_df(df, seed=42).classes


@pytest.mark.parametrize("ids", [[3, 1, 2], ["c", "a", "b"], [1, "a", 2.5], list(pd.Categorical(["x", "y", "z"]))])
def test_ids_of_any_type_are_told_apart(ids):
    df = pd.DataFrame({"user": ids * 3, "item": [i for i in ids for _ in range(3)], "rating": range(9)})
    dls = CollabDataLoaders.from_df(df, splits=(range(9), [0]), bs=9, device="cpu")
    codes = next(iter(dls.train.new(shuffle=False)))[0]
    assert sorted(map(tuple, codes.tolist())) == [(u, i) for u in (1, 2, 3) for i in (1, 2, 3)]


def test_declared_categories_that_no_rating_has_get_no_row():
    df = films()
    df["user"] = pd.Categorical(df.user, categories=[*sorted(df.user.unique()), 777])
    assert 777 not in CollabDataLoaders.from_df(df, splits=(range(len(df)), [0])).classes["user"]


def test_batches_are_shown_with_names(dls, capsys):
    dls.show_batch(max_n=2)
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("user", "title", "rating", "film"))


def test_what_is_no_table_of_ratings_is_refused(df):
    make = CollabDataLoaders.from_df
    for wrong, message in (
        (df[["user"]], "at least three columns"),
        (pd.DataFrame(), "at least three columns"),
        (df.assign(rating="good"), "non-numeric"),
        (df.assign(rating=df.rating.where(df.index > 3)), "rating"),
        (df.assign(user=df.user.where(df.index > 3)), "'user' is missing in 4 of"),
    ):
        with pytest.raises(BadValue, match=message):
            make(wrong)
    with pytest.raises(BadValue, match="'titel'"):
        make(df, item_name="titel")
    with pytest.raises(BadValue, match="two roles"):
        make(df, item_name="user")
    with pytest.raises(EmptySource, match="no ratings"):
        make(df.iloc[:0])
    with pytest.raises(BadArgument, match="did you mean 'bs'"):
        make(df, bss=4)


def test_ratings_that_are_text_of_numbers_are_numbers(df):
    dls = CollabDataLoaders.from_df(df.assign(rating=df.rating.astype(str)), splits=(range(len(df)), [0]))
    np.testing.assert_array_equal(dls.train.dataset.tensors[1][:, 0], df.rating)
