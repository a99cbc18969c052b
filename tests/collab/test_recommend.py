"""The best items for users, against a loop over all pairs."""

import importlib

import numpy as np
import pandas as pd
import pytest
import torch
from films import films
from torch import nn

from layered.collab.all import CollabDataLoaders, Learner, collab_learner, hit_rate, leave_one_out, load_learner
from layered.foundation import BadArgument, BadValue, CannotTrain, UnknownLabel

recommending = importlib.import_module("layered.collab.recommending")  # the package gives the function of that name


def by_hand(learn, user, n, left_out):
    """Score every item through `predict`, leave some out, sort."""
    items = [title for title in learn.dls.classes["title"][1:] if title not in left_out]
    scores = {title: float(learn.predict({"user": user, "title": title})[2]) for title in items}
    return sorted(items, key=lambda title: -scores[title])[:n]


def seen_by(learn, user):
    to = learn.dls.train.dataset.decode().items
    return set(to.title[to.user == user])


@pytest.mark.parametrize("use_nn", [False, True])
def test_the_best_items_that_a_user_has_not_rated_are_recommended(dls, use_nn):
    torch.manual_seed(0)
    learn = collab_learner(dls, 5, use_nn, y_range=(0, 5.5))
    found = learn.recommend([103, 107], 4)
    assert list(found.columns) == ["user", "rank", "title", "score"]
    for user, rows in found.groupby("user"):
        assert rows.title.tolist() == by_hand(learn, user, 4, seen_by(learn, user))
        assert rows["rank"].tolist() == [1, 2, 3, 4]
        assert rows.score.tolist() == sorted(rows.score, reverse=True)


def test_many_users_at_a_time_are_recommended_what_each_is_alone(learn, monkeypatch):
    users = list(learn.dls.classes["user"][1:])
    together = learn.recommend(users, 3)
    monkeypatch.setattr(recommending, "SCORES_AT_ONCE", 50)
    alone = pd.concat([learn.recommend(user, 3) for user in users], ignore_index=True)
    pd.testing.assert_frame_equal(together, alone)
    pd.testing.assert_frame_equal(together, learn.recommend(users, 3))


def test_items_given_as_seen_are_left_out_too(learn):
    first = learn.recommend([103, "new"], 1)
    again = learn.recommend([103, "new"], 5, seen=first)
    for user in (103, "new"):
        best = first.title[first.user == user].item()
        assert best not in set(again.title[again.user == user])
    everything = learn.recommend(103, 100, exclude_seen=False)
    assert set(everything.title) == set(learn.dls.classes["title"][1:])


def test_a_user_who_has_rated_all_items_gets_none(learn, df):
    everything = pd.DataFrame({"user": 103, "title": df.title.unique()})
    assert len(learn.recommend(103, seen=everything)) == 0
    assert len(learn.recommend([])) == 0


def test_recommendations_beat_chance_on_held_out_ratings():
    df = films(60, 40)
    liked = df[df.rating >= 4]
    held = liked.iloc[leave_one_out(liked, seed=0)[1]]
    rest = df.drop(held.index)
    dls = CollabDataLoaders.from_df(rest, splits=(range(len(rest)), [0]), bs=32, device="cpu")
    torch.manual_seed(0)
    learn = collab_learner(dls, 5, y_range=(0, 5.5))
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(6, 5e-2, wd=0.01)
    unseen = 40 - len(rest) / 60
    assert hit_rate(learn.recommend(held.user, 5), held, k=5) > 1.5 * 5 / unseen


def test_similar_items_are_those_with_the_highest_cosine(learn):
    model, vocab = learn.model, list(learn.dls.classes["title"])
    code = vocab.index("film 03")
    cosines = nn.CosineSimilarity(dim=1)(model.i_weight.weight, model.i_weight.weight[code][None]).detach().numpy()
    order = [i for i in np.argsort(-cosines) if i not in (0, code)][:4]
    found = learn.similar("film 03", 4)
    assert found.title.tolist() == [vocab[i] for i in order]
    np.testing.assert_allclose(found.similarity, cosines[order], rtol=1e-5)
    assert learn.similar(103, 2, is_item=False).columns[0] == "user"
    with pytest.raises(UnknownLabel, match="film 3x"):
        learn.similar("film 3x")


def test_a_model_of_ones_own_recommends_too(dls):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.item = nn.Embedding(len(dls.classes["title"]), 1)

        def forward(self, x):
            return self.item(x[:, 1])

    learn = Learner(dls, Own())
    found = recommending.recommend(learn, 103, 2, exclude_seen=False)
    best = learn.model.item.weight.detach()[1:, 0].topk(2).indices + 1
    assert found.title.tolist() == [dls.classes["title"][i] for i in best]
    with pytest.raises(BadArgument, match="no vectors"):
        recommending.similar(learn, "film 03")


def test_what_was_seen_has_to_be_given_to_a_learner_from_a_file(learn, df):
    file = learn.export("ratings")
    loaded = load_learner(file)
    with pytest.raises(CannotTrain, match="keeps no rows"):
        loaded.recommend(103)
    rows = learn.dls.train.dataset.decode().items
    pd.testing.assert_frame_equal(loaded.recommend(103, seen=rows), learn.recommend(103))


def test_columns_that_the_result_has_too_are_refused(df):
    dls = CollabDataLoaders.from_df(df.rename(columns={"title": "rank"}), bs=32)
    with pytest.raises(BadValue, match="'rank'"):
        collab_learner(dls).recommend(103)


def test_no_items_at_all_cannot_be_asked_for(learn):
    with pytest.raises(BadValue, match="n is too small"):
        learn.recommend(103, 0)
