"""Hit rate and gain of recommendations, and the ratings that are held out for them."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import ndcg_score

from layered.collab.all import hit_rate, leave_one_out, ndcg
from layered.foundation import BadValue, EmptySource


def recommended(lists):
    rows = [(u, rank, item, -float(rank)) for u, items in lists.items() for rank, item in enumerate(items, 1)]
    return pd.DataFrame(rows, columns=["user", "rank", "title", "score"])


def pairs(*rows):
    return pd.DataFrame(rows, columns=["user", "title", "rating"][: len(rows[0])])


def test_the_hit_rate_is_the_share_of_users_with_a_hit_among_the_first():
    found = recommended({1: "abc", 2: "cab", 3: "bca"})
    chosen = pairs((1, "c"), (1, "z"), (2, "a"), (4, "a"))
    assert hit_rate(found, chosen) == pytest.approx(2 / 3)
    assert hit_rate(found, chosen, k=2) == pytest.approx(1 / 3)
    assert hit_rate(found, chosen, k=1) == 0


def test_the_gain_of_several_items_is_worked_by_hand():
    found = recommended({1: "abcd"})
    gained, best = 1 / np.log2(3) + 1 / np.log2(5), 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert ndcg(found, pairs((1, "b"), (1, "d"), (1, "z"))) == pytest.approx(gained / best)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_graded_gains_are_those_of_scikit_learn(k):
    draw = np.random.default_rng(0)
    relevance, scores = draw.integers(0, 6, (20, 8)), draw.permuted(np.tile(np.arange(8.0), (20, 1)), axis=1)
    found = recommended({u: list(np.argsort(-scores[u])) for u in range(20)})
    chosen = pairs(*((u, i, relevance[u, i]) for u in range(20) for i in range(8)))
    assert ndcg(found, chosen, k=k, relevance="rating") == pytest.approx(ndcg_score(relevance, scores, k=k))


def test_each_user_with_several_ratings_has_the_last_one_held_out():
    df = pd.DataFrame({"user": ["a", "b", "a", "c", "a", "b"], "title": range(6), "when": [3, 9, 1, 5, 2, 9]})
    train, valid = leave_one_out(df, by="when")
    assert valid.tolist() == [0, 5]
    assert sorted([*train, *valid]) == list(range(6))
    train, valid = leave_one_out(df, seed=1)
    assert sorted(df.user[valid]) == ["a", "b"]
    assert valid.tolist() == leave_one_out(df, seed=1)[1].tolist()


def test_what_cannot_be_scored_is_refused():
    found = recommended({1: "ab"})
    with pytest.raises(EmptySource):
        hit_rate(found, pairs((1, "a")).iloc[:0])
    with pytest.raises(BadValue, match="'title'"):
        hit_rate(found, pd.DataFrame({"user": [1]}))
    with pytest.raises(BadValue, match="recommendations"):
        ndcg(pairs((1, "a")), pairs((1, "a")))
    with pytest.raises(BadValue, match="k is too small"):
        hit_rate(found, pairs((1, "a")), k=0)
    with pytest.raises(BadValue, match="relevance"):
        ndcg(found, pairs((1, "a", -1.0)), relevance="rating")
