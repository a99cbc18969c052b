"""Users and items come in whatever form: text, numbers, categories, tensors; each is found, and no two are mixed up."""

import numpy as np
import pandas as pd
import pytest
import torch
from films import films
from torch.testing import assert_close

from layered.collab.all import CollabDataLoaders, collab_learner, hit_rate, leave_one_out, ndcg
from layered.foundation import BadArgument, BadValue, UnknownLabel

FORMS = {
    "int": int,
    "str": str,
    "float": float,
    "padded": lambda number: f"{number}.0",
    "numpy": np.int16,
    "a tensor without axes": torch.tensor,
    "an array without axes": np.array,
}

each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
each_table_form = pytest.mark.parametrize("form", [int, str, float])


@pytest.fixture
def numbered():
    """Ratings whose users are numbers from 100 on and whose items are numbers from 1 on."""
    return films().assign(title=lambda df: df.title.str[-2:].astype(int) + 1)


@pytest.fixture
def learn(numbered):
    torch.manual_seed(0)
    return collab_learner(CollabDataLoaders.from_df(numbered, splits=(range(1, len(numbered)), [0]), device="cpu"), 4)


@each_form
def test_rows_of_the_model_are_found_by_a_name_in_any_form(learn, form):
    code = learn.dls.classes["title"].index(3)
    assert_close(learn.model.weight([form(3)])[0], learn.model.i_weight.weight.detach()[code])
    assert_close(learn.model.bias([form(3)])[0], learn.model.i_bias.weight.detach()[code].squeeze())
    pd.testing.assert_frame_equal(learn.similar(form(3)), learn.similar(3))
    pd.testing.assert_frame_equal(learn.similar(form(103), is_item=False), learn.similar(103, is_item=False))


def test_a_name_that_only_looks_like_another_is_refused(learn):
    for name in ("03x", "3.5", 3.5, "", None):
        with pytest.raises(UnknownLabel, match="there is no item"):
            learn.model.bias([name])


@each_form
def test_a_row_is_predicted_the_same_in_whatever_form_its_names_are(learn, form):
    expected = learn.predict({"user": 103, "title": 3})[2]
    for row in ((form(103), 3), (103, form(3)), (form(103), form(3))):
        assert_close(learn.predict(dict(zip(("user", "title"), row, strict=True)))[2], expected)


@pytest.mark.parametrize("exclude_seen", [False, True])
@each_table_form
def test_what_was_seen_is_left_out_in_whatever_form_it_is_written(learn, form, exclude_seen):
    plain = learn.recommend([103, 107], 100, exclude_seen)
    some = plain.groupby("user").head(2)[["user", "title"]]
    seen = some.assign(user=some.user.map(form), title=some.title.map(form))
    found = learn.recommend([103, 107], 100, exclude_seen, seen=seen)
    left = plain.merge(some, how="left", indicator=True).query("_merge == 'left_only'")
    assert found[["user", "title"]].to_numpy().tolist() == left[["user", "title"]].to_numpy().tolist()


@pytest.mark.parametrize("asked", [int, str, float])
@each_table_form
def test_what_was_seen_by_somebody_whom_training_lacks_is_left_out_too(learn, form, asked):
    plain = learn.recommend(asked(999), 100)
    best, other = plain.title[0], plain.title[1]
    seen = pd.DataFrame({"user": [form(999), form(998)], "title": [form(best), form(other)]})
    found = learn.recommend([asked(999), asked(103)], 100, exclude_seen=False, seen=seen)
    of_new, of_known = (found.title[found.user == user] for user in (asked(999), asked(103)))
    assert set(of_new) == set(plain.title) - {best}
    assert set(of_known) == set(learn.dls.classes["title"][1:])


def test_an_item_that_training_lacks_leaves_nothing_out(learn):
    seen = pd.DataFrame({"user": [103, 103], "title": [777, None]})
    pd.testing.assert_frame_equal(learn.recommend(103, 100, seen=seen), learn.recommend(103, 100))


@pytest.mark.parametrize("is_item", [False, True])
def test_categories_that_only_validation_holds_are_unseen_and_never_similar(numbered, is_item):
    name = ("user", "title")[is_item]
    late = numbered[name].unique()[:2]
    is_late = numbered[name].isin(late)
    df = numbered.astype({"user": "category", "title": "category"})
    splits = np.flatnonzero(~is_late), np.flatnonzero(is_late)
    dls = CollabDataLoaders.from_df(df, splits=splits, val_bs=len(df), device="cpu")
    assert set(dls.classes[name]) == {"#na#", *numbered[name][~is_late]}
    codes = next(iter(dls.valid))[0]
    assert codes[:, int(is_item)].tolist() == [0] * is_late.sum()
    assert (codes[:, 1 - int(is_item)] > 0).all()
    learn = collab_learner(dls, 4)
    known = dls.classes[name][1:]
    found = learn.similar(known[0], 100, is_item)
    assert set(found[name]) == set(known[1:])
    if is_item:
        assert set(learn.recommend(103, 100, exclude_seen=False).title) == set(known)


@pytest.fixture
def judged():
    """Recommendations to nine users, and what they chose, with grades."""
    draw = np.random.default_rng(0)
    ranks = [(user, rank, item) for user in range(1, 10) for rank, item in enumerate(draw.permutation(8), 1)]
    recommended = pd.DataFrame(ranks, columns=["user", "rank", "item"]).assign(score=1.0)
    held_out = recommended.sample(20, random_state=1)[["user", "item"]].assign(grade=range(20))
    return recommended, held_out


@pytest.mark.parametrize("form", [int, str, float, "category"])
def test_scores_do_not_depend_on_the_form_of_the_names(judged, form):
    recommended, held_out = judged
    kind = {"user": form, "item": form}
    for k in (1, 3, 8):
        for other in ((recommended.astype(kind), held_out), (recommended, held_out.astype(kind))):
            assert hit_rate(*other, k=k) == hit_rate(recommended, held_out, k=k)
            assert ndcg(*other, k=k, relevance="grade") == ndcg(recommended, held_out, k=k, relevance="grade")
    assert 0 < hit_rate(recommended, held_out, k=1) < 1


@pytest.mark.parametrize(("user", "item"), [("gained", "ideal"), ("gain", "user"), ("ideal", "gain"), ("item", "user")])
def test_scores_do_not_depend_on_what_the_columns_are_called(judged, user, item):
    recommended, held_out = judged
    renamed = [frame.rename(columns={"user": user, "item": item}) for frame in judged]
    assert hit_rate(*renamed, k=3) == hit_rate(recommended, held_out, k=3)
    assert ndcg(*renamed, k=3, relevance="grade") == ndcg(recommended, held_out, k=3, relevance="grade")
    assert ndcg(*renamed, k=3) == ndcg(recommended, held_out, k=3)


@pytest.mark.parametrize("name", ["user", "item"])
@pytest.mark.parametrize("score", [hit_rate, ndcg])
def test_a_held_out_row_without_user_or_item_is_refused(judged, score, name):
    recommended, held_out = judged
    with pytest.raises(BadValue, match=f"'{name}' is missing in 1 of"):
        score(recommended, held_out.assign(**{name: held_out[name].where(held_out.grade != 5)}))


@pytest.mark.parametrize("name", ["user", "title"])
def test_the_name_of_the_unseen_is_no_name(name):
    df = films().astype({"user": object})
    df.loc[5, name] = "#na#"
    with pytest.raises(BadValue, match=f"'{name}' contains '#na#'"):
        CollabDataLoaders.from_df(df)
    with pytest.raises(BadValue, match="'#na#'"):
        CollabDataLoaders.from_df(df.astype({name: "category"}))


@pytest.mark.parametrize("by", ["title", "day"])
def test_text_is_no_order_in_which_ratings_were_given(by):
    df = films().assign(day="2024-01-01")
    with pytest.raises(BadValue, match=f"'{by}' cannot be ordered"):
        leave_one_out(df, by=by)
    dated = df.assign(day=pd.to_datetime("2024-01-01") + pd.to_timedelta(df.when, "D"))
    np.testing.assert_array_equal(leave_one_out(dated, by="day")[1], leave_one_out(df, by="when")[1])


def test_a_misspelt_keyword_of_the_loaders_is_refused_with_the_nearest():
    for wrong, right in (("bss", "bs"), ("user_nam", "user_name"), ("valid_pc", "valid_pct"), ("shufle", "shuffle")):
        with pytest.raises(BadArgument, match=rf"CollabDataLoaders.from_df got .* '{wrong}'(.|\n)*mean '{right}'"):
            CollabDataLoaders.from_df(films(), **{wrong: 4})
