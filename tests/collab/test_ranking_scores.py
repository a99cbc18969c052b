"""Metrics of the first k items, against scikit-learn and loops over users."""

import numpy as np
import pandas as pd
import pytest
import torch
from films import films
from sklearn.metrics import ndcg_score

from layered.collab import scores
from layered.collab.all import (
    CollabDataLoaders,
    HitRateAtK,
    MAPAtK,
    MRRAtK,
    NDCGAtK,
    PrecisionAtK,
    RecallAtK,
    collab_learner,
    leave_n_out,
    leave_one_out,
    recommend,
)
from layered.foundation import BadArgument, BadValue

KINDS = {
    "ndcg": NDCGAtK,
    "recall": RecallAtK,
    "precision": PrecisionAtK,
    "map": MAPAtK,
    "mrr": MRRAtK,
    "hit_rate": HitRateAtK,
}


def of_one_user(name, order, chosen, k):
    """A metric of one user, whose items come in this order."""
    hits = [item in chosen for item in order[:k]]
    precisions = [np.mean(hits[: i + 1]) for i, hit in enumerate(hits) if hit]
    return {
        "ndcg": sum(1 / np.log2(i + 2) for i, hit in enumerate(hits) if hit)
        / sum(1 / np.log2(i + 2) for i in range(min(k, len(chosen)))),
        "recall": sum(hits) / len(chosen),
        "precision": sum(hits) / k,
        "map": sum(precisions) / min(k, len(chosen)),
        "mrr": 1 / (1 + hits.index(True)) if any(hits) else 0.0,
        "hit_rate": float(any(hits)),
    }[name]


def made_up(users=12, items=9):
    draw = torch.Generator().manual_seed(0)
    pred = torch.randn(users, items, generator=draw)
    targ = torch.tensor([-1.0, 0, 0, 1, 2])[torch.randint(5, (users, items), generator=draw)]
    targ[3] = torch.where(targ[3] > 0, 0.0, targ[3])  # chose nothing
    return pred, targ


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("k", [1, 3, 50])
def test_values_are_those_of_a_loop_over_users_however_batches_are_cut(name, k):
    pred, targ = made_up()
    wanted = []
    for p, t in zip(pred.tolist(), targ.tolist(), strict=True):
        order = [i for i in np.argsort([-x for x in p]) if t[i] >= 0]
        chosen = {i for i in order if t[i] > 0}
        wanted += [of_one_user(name, order, chosen, k)] if chosen else []
    for size in (1, 5, 12):
        metric = KINDS[name](k)
        for p, t in zip(pred.split(size), targ.split(size), strict=True):
            metric.update(p, t)
        assert metric.value == pytest.approx(np.mean(wanted))
    assert metric.name == f"{name}@{k}"
    assert metric.higher_is_better


@pytest.mark.parametrize("k", [1, 4, 9])
def test_the_gain_is_that_of_scikit_learn(k):
    pred, targ = made_up()
    rows = (targ > 0).any(1)
    pred, targ = pred[rows], (targ[rows] > 0).double()
    assert NDCGAtK(k)(pred, targ) == pytest.approx(ndcg_score(targ, pred, k=k))


def test_batches_are_added_without_waiting_for_the_device():
    for kind in KINDS.values():
        metric = kind()
        metric.update(*(part.to("meta") for part in made_up()))
        assert metric.has_data


def test_what_has_no_users_is_refused():
    with pytest.raises(BadValue, match="ndcg@10 ranks the items of each user"):
        NDCGAtK()(torch.zeros(3), torch.zeros(3, 1))
    with pytest.raises(BadArgument, match="k is not a whole number"):
        RecallAtK("ten")


def scored_by_hand(learn, df, splits, k):
    """All metrics from recommendations, user by user."""
    valid = df.iloc[splits[1]]
    known = {name: set(learn.dls.classes[name]) for name in ("user", "title")}
    valid = valid[valid.user.isin(known["user"]) & valid.title.isin(known["title"])]
    by_user = valid.groupby("user").title.agg(set)
    found = recommend(learn, by_user.index, 1000).groupby("user").title.agg(list)
    values = {name: np.mean([of_one_user(name, found[u], by_user[u], k) for u in by_user.index]) for name in KINDS}
    return {**{f"{name}@{k}": value for name, value in values.items()}, "users": len(by_user)}


def trained(df, splits, **kwargs):
    torch.manual_seed(0)
    learn = collab_learner(CollabDataLoaders.from_df(df, splits=splits, bs=16, device="cpu"), 4, **kwargs)
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(6, 5e-2)
    return learn


@pytest.mark.parametrize("columns", [["user", "title"], ["user", "title", "rating"]])
@pytest.mark.parametrize("use_nn", [False, True])
def test_scores_are_those_of_recommendations_in_blocks_of_any_size(columns, use_nn, monkeypatch):
    df = films()[columns]
    if "rating" in columns:
        df["rating"] -= 3  # whatever the numbers are, what is held out counts
    splits = leave_n_out(df, 0.3, seed=0)
    learn = trained(df, splits, use_nn=use_nn)
    wanted = scored_by_hand(learn, df, splits, 3)
    assert learn.ranking_scores(3) == pytest.approx(wanted)
    assert learn.ranking_scores(3, held_out=df.iloc[splits[1]]) == pytest.approx(wanted)
    monkeypatch.setattr(scores, "SCORES_AT_ONCE", 50)
    assert learn.ranking_scores(3) == pytest.approx(wanted)
    assert learn.ranking_scores(1000)["recall@1000"] == 1


def test_only_what_was_liked_counts_if_asked():
    df = films()[["user", "title", "rating"]]
    splits = leave_n_out(df, 0.3, seed=0)
    learn = trained(df, splits)
    liked = df.iloc[splits[1]].query("rating >= 4")
    assert learn.ranking_scores(3, at_least=4) == pytest.approx(learn.ranking_scores(3, held_out=liked))
    assert learn.ranking_scores(3, df.iloc[splits[1]], at_least=4) == pytest.approx(learn.ranking_scores(3, at_least=4))


def test_a_fit_shows_metrics_of_all_items():
    df = films()[["user", "title"]]
    splits = leave_n_out(df, 3, seed=0)
    learn = trained(df, splits, metrics=[NDCGAtK(5), "recall_at_k"])
    table = dict(zip(learn.recorder.metric_names[1:-1], learn.recorder.values[-1], strict=True))
    scored = {**learn.ranking_scores(5), **learn.ranking_scores(10)}
    assert table["ndcg@5"] == pytest.approx(scored["ndcg@5"])
    assert table["recall@10"] == pytest.approx(scored["recall@10"])


def test_the_last_rows_of_each_user_are_held_out():
    df = pd.DataFrame({"user": list("aaaabbc"), "item": range(7), "when": [4, 1, 3, 2, 9, 8, 1]})
    assert leave_n_out(df, 2, by="when")[1].tolist() == [0, 2]
    assert leave_n_out(df, 1, by="when")[1].tolist() == leave_one_out(df, by="when")[1].tolist() == [0, 4]
    assert leave_n_out(df, 0.5, by="when")[1].tolist() == [0, 2, 4]
    train, valid = leave_n_out(df, 0.99, seed=0)
    assert sorted([*train, *valid]) == list(range(7))
    assert sorted(df.user.iloc[train]) == ["a", "b", "c"]
    for wrong, message in ((0, "n is too small"), (1.5, "n is not a whole number"), (0.0, "n is not a whole number")):
        with pytest.raises((BadValue, BadArgument), match=message):
            leave_n_out(df, wrong)
