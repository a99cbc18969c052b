"""Careless calls are refused where they are made, with what was given and what to do; close ones do what was meant."""

import numpy as np
import pandas as pd
import pytest
import torch

from layered.collab.all import EmbeddingDotBias, collab_learner, hit_rate, ndcg
from layered.foundation import LayeredError

CALLS = {
    "a learner of a frame": (lambda learn, df: collab_learner(df), "not loaders of ratings"),
    "no factors": (lambda learn, df: collab_learner(learn.dls, 0), "n_factors is too small"),
    "half a factor": (lambda learn, df: collab_learner(learn.dls, 2.5), "n_factors is not a whole number"),
    "a range of one number": (lambda learn, df: collab_learner(learn.dls, y_range=5), "y_range is not a range"),
    "a range of text": (lambda learn, df: collab_learner(learn.dls, y_range="ab"), "y_range is not a range"),
    "all ratings as users": (lambda learn, df: learn.recommend(df), "users must be names"),
    "a row as a user": (lambda learn, df: learn.recommend({"user": 103}), "users must be names"),
    "a list as a user": (lambda learn, df: learn.recommend([[103]]), "users must be names"),
    "n in words": (lambda learn, df: learn.recommend(103, n="ten"), "n is not a whole number"),
    "like several": (lambda learn, df: learn.similar(["film 03"]), "there is no item"),
    "the bias of a list": (lambda learn, df: learn.model.bias([["film 03"]]), "there is no item"),
    "codes that are numbers": (lambda learn, df: learn.model(torch.zeros(3, 2)), "codes: whole numbers"),
    "codes in a row": (lambda learn, df: learn.model(torch.zeros(3).long()), r"\[batch, 2\]"),
    "users without items": (lambda learn, df: EmbeddingDotBias.from_classes(5, {"user": [1]}), "do not include both"),
    "a list of classes": (lambda learn, df: EmbeddingDotBias.from_classes(5, [1, 2]), "do not include both"),
    "a user column astray": (lambda learn, df: EmbeddingDotBias.from_classes(5, learn.dls.classes, "usr"), "'usr'"),
    "no recommendations": (lambda learn, df: hit_rate(5, df), "not a table of recommendations"),
    "k in words": (lambda learn, df: hit_rate(learn.recommend(103), df, k="ten"), "k is not a whole number"),
    "relevance in words": (
        lambda learn, df: ndcg(learn.recommend(103), df.assign(good="very"), relevance="good"),
        "'good' contains non-numeric",
    ),
}


@pytest.mark.parametrize(("call", "message"), CALLS.values(), ids=CALLS)
def test_a_careless_call_is_refused_in_words(call, message, learn, df):
    with pytest.raises(LayeredError, match=message):
        call(learn, df)


@pytest.mark.parametrize("users", [torch.tensor([103, 104]), np.array([103, 104]), pd.Series([103, 104]), (103, 104)])
def test_users_in_any_container_get_their_own_recommendations(users, learn):
    pd.testing.assert_frame_equal(learn.recommend(users), learn.recommend([103, 104]))


def test_layers_may_be_one_number(learn):
    model = collab_learner(learn.dls, use_nn=True, layers=7).model
    assert [m.out_features for m in model.modules() if isinstance(m, torch.nn.Linear)] == [7, 1]
