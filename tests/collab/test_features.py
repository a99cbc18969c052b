"""What is known of users and items beside their ratings is learnt from, and stands for those without ratings."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from layered.collab.all import CollabDataLoaders, collab_learner, load_learner
from layered.foundation import BadArgument, BadValue

KINDS = ["action", "drama", "romance"]


def world(seed=0):
    """Ratings of 60 people for 45 films by the kind and the year of a film, and by the group of a person; their tables."""
    draw = np.random.default_rng(seed)
    items = pd.DataFrame({"film": [f"film {i:02}" for i in range(45)], "kind": np.array(KINDS)[np.arange(45) % 3]})
    items["year"] = draw.integers(1960, 2020, 45).astype(float)
    users = pd.DataFrame({"user": range(60), "group": np.where(np.arange(60) % 2, "old", "young")})
    liked = np.where(users.group.eq("old").to_numpy()[:, None], [[-1.0, 0, 1]], [[1.0, 0, -1]])[:, np.arange(45) % 3]
    rating = 3 + liked + 0.03 * (items.year.to_numpy() - 1990) + 0.1 * draw.normal(size=(60, 45))
    user, item = np.nonzero(draw.random((60, 45)) < 0.5)
    df = pd.DataFrame({"user": user, "film": items.film.to_numpy()[item], "rating": rating[user, item]})
    return df, users, items, rating


def trained(df, use_nn=False, epochs=8, **kwargs):
    torch.manual_seed(0)
    dls = CollabDataLoaders.from_df(df, **{"seed": 0, "bs": 32, "device": "cpu", **kwargs})
    learn = collab_learner(dls, 5, use_nn)
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(epochs, 3e-2, wd=0.01)
    return learn


@pytest.mark.parametrize("use_nn", [False, True])
def test_films_and_people_without_ratings_are_predicted_by_what_is_known_of_them(use_nn):
    df, users, items, rating = world()
    new_films, new_people = items.film[::9], users.user[::7]
    known = df[~df.film.isin(new_films) & ~df.user.isin(new_people)]
    learn = trained(known, use_nn, users=users, items=items)
    rows = [(u, i) for u in new_people for i in range(0, 45, 9)]
    preds, _ = learn.get_preds(
        dl=learn.dls.test_dl(pd.DataFrame(rows, columns=["user", "film"]).assign(film=[items.film[i] for _, i in rows]))
    )
    wanted = np.array([rating[row] for row in rows])
    assert np.corrcoef(preds.flatten(), wanted)[0, 1] > 0.9
    plain = trained(known, use_nn)
    error = [float(np.sqrt(np.mean((learn_.validate()[0],)))) for learn_ in (learn, plain)]
    assert error[0] < error[1] * 1.05
    young, old = (learn.recommend(u, 5).film.map(items.set_index("film").kind) for u in (14, 7))
    assert (young == "action").sum() >= 4
    assert (old == "romance").sum() >= 4


@pytest.mark.parametrize("use_nn", [False, True])
def test_an_export_keeps_what_is_known(tmp_path, use_nn):
    df, users, items, _ = world()
    learn = trained(df[df.film != "film 04"], use_nn, 1, users=users.set_index("user"), items=items)
    learn.path = tmp_path
    loaded = load_learner(learn.export("films"))
    for row in ({"user": 3, "film": "film 04"}, {"user": "3", "film": "film 05"}, {"user": 4, "film": "nothing"}):
        assert_close(loaded.predict(row)[2], learn.predict(row)[2])
    assert_close(loaded.model.weight(["film 04"]), learn.model.weight(["film 04"]))
    pd.testing.assert_frame_equal(loaded.similar("film 04"), learn.similar("film 04"))


def test_choices_are_learnt_with_features_too():
    df, users, items, _ = world()
    liked = df[df.rating >= 3.3][["user", "film"]]
    rest = liked[liked.film != "film 03"]
    learn = trained(rest, items=items, users=users)
    found = learn.recommend(0, 50, exclude_seen=False)
    assert "film 03" in set(found.film[:20])  # action, which young people choose, and nobody has chosen this one
    assert learn.ranking_scores(5)["recall@5"] > 0.2


def test_the_unknown_stays_the_average_of_training():
    df, users, items, _ = world()
    learn = trained(df, users=users, items=items, epochs=1)
    for table in learn.model.embeddings():
        whole = table.table()
        assert_close(whole[0], whole[1:].mean(0))


def test_rows_of_the_tables_are_found_in_any_order_and_form_and_may_lack():
    df, users, items, _ = world()
    some = items.sample(frac=0.7, random_state=0).assign(stars=lambda t: t.year.where(t.index > 9))
    dls = CollabDataLoaders.from_df(
        df, splits=(range(len(df)), [0]), items=some, users=users.assign(user=users.user.astype(str))
    )
    features, films = dls.train.dataset.features["film"], list(dls.classes["film"])
    assert len(features.codes) == len(films) == 46
    kinds = dict(zip(some.film, some.kind, strict=True))
    codes = {kinds.get(name): code for name, code in zip(films, features.codes[:, 0].tolist(), strict=True)}
    assert codes == {None: 0, "action": 1, "drama": 2, "romance": 3}
    year = torch.tensor([some.set_index("film").year.get(name, np.nan) for name in films[1:]])
    is_known = ~year.isnan()
    assert_close(features.numbers[1:, 0][is_known].mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    assert np.corrcoef(features.numbers[1:, 0][is_known], year[is_known])[0, 1] == pytest.approx(1)
    assert dls.train.dataset.features["user"].codes[1:, 0].tolist() == [2, 1] * 30


CALLS = {
    "no identifiers": (lambda u, i: {"users": u.rename(columns={"user": "name"})}, "'user', which `users` needs"),
    "a film twice": (lambda u, i: {"items": pd.concat([i, i[:1]])}, "one row for each 'film'"),
    "a film without a name": (
        lambda u, i: {"items": i.assign(film=i.film.where(i.index > 0))},
        "one row for each 'film'",
    ),
    "nothing known": (lambda u, i: {"items": i[["film"]]}, "no columns beside"),
    "only strangers": (lambda u, i: {"users": u.assign(user=u.user + 1000)}, "none of those in training"),
    "dates": (lambda u, i: {"items": i.assign(day=pd.Timestamp("2024-01-01"))}, "dates"),
    "no table": (lambda u, i: {"items": 5}, "table"),
}


@pytest.mark.parametrize(("given", "message"), CALLS.values(), ids=CALLS)
def test_what_cannot_be_known_is_refused(given, message):
    df, users, items, _ = world()
    with pytest.raises((BadValue, BadArgument), match=message):
        CollabDataLoaders.from_df(df, **given(users, items))
