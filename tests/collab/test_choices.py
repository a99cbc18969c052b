"""Choices without ratings: what a batch holds, what is left out, and what is refused."""

import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from films import films
from torch.testing import assert_close

from layered.collab.all import (
    SGD,
    BPRLoss,
    Checkpoint,
    CollabDataLoaders,
    Negatives,
    SoftmaxRankingLoss,
    WARPLoss,
    collab_learner,
    leave_n_out,
    load_learner,
)
from layered.collab.grouped import Grouped
from layered.foundation import BadValue, EmptySource, Tickets, drawing, key_of


@pytest.fixture
def pairs():
    return films()[["user", "title"]]


def loaders(df, **kwargs):
    return CollabDataLoaders.from_df(df, **{"splits": leave_n_out(df, 3, seed=0), "bs": 8, "device": "cpu", **kwargs})


def chosen_by_user(df, rows):
    return df.iloc[rows].groupby("user").title.agg(set).to_dict()


def test_a_table_of_two_columns_is_one_of_choices(pairs):
    splits = leave_n_out(pairs, 3, seed=0)
    dls = loaders(pairs, splits=splits)
    users, titles = (dls.classes[name] for name in ("user", "title"))
    of_train, of_valid = (chosen_by_user(pairs, rows) for rows in splits)
    for dl, chosen, left_out in ((dls.train, of_train, {}), (dls.valid, of_valid, of_train)):
        seen = set()
        for codes, targets in dl:
            assert targets.shape == (len(codes), len(titles))
            for code, target in zip(codes[:, 0].tolist(), targets, strict=True):
                named = {kind: {titles[i] for i in (target == kind).nonzero()[:, 0].tolist()} for kind in (1, 0, -1)}
                assert named[1] == chosen[users[code]]
                assert named[-1] == {"#na#"} | left_out.get(users[code], set())
                seen.add(users[code])
        assert seen == set(chosen)


def test_a_third_column_is_ignored_if_asked(pairs):
    df = films()
    plain, implicit = loaders(pairs), loaders(df, implicit=True)
    assert_close(plain.valid.one_batch(), implicit.valid.one_batch())
    assert loaders(df).train.one_batch()[1].shape == (8, 1)


@pytest.mark.parametrize("num", [1, 5, 200])
def test_negatives_are_never_what_the_user_chose_in_training(pairs, num):
    dls = loaders(pairs, negatives=num)
    chosen = {tuple(pair) for pair in torch.stack([dls.train.known.keys, dls.train.known.values], 1).tolist()}
    drawn = set()
    for codes, targets in dls.train:
        assert codes.shape[1] == 2 + num
        assert_close(targets, torch.tensor([[1.0] + [0.0] * num]).expand(len(codes), -1))
        for user, item, *others in codes.tolist():
            assert (user, item) in chosen
            assert not chosen & {(user, other) for other in others}
            assert 0 not in others
            drawn |= {(user, other) for other in others}
    if num == 200:
        free = {(u, i) for u in range(1, 31) for i in range(1, 21)} - chosen
        assert drawn == free


def test_all_items_that_a_user_did_not_choose_are_drawn_equally_often():
    known = Grouped(torch.tensor([1, 1, 1, 2]), torch.tensor([1, 4, 5, 3]))
    draw = Negatives(known, 8, 7000)
    with drawing(Tickets(torch.tensor([key_of(1), key_of(2)]))):
        codes, _ = draw((torch.tensor([[1, 4], [2, 3]]), torch.ones(2, 1)))
    for row, free in zip(codes[:, 2:], ([2, 3, 6, 7], [1, 2, 4, 5, 6, 7]), strict=True):
        counts = torch.bincount(row, minlength=8)
        assert counts.nonzero()[:, 0].tolist() == free
        expected = 7000 / len(free)
        assert (counts[free] - expected).square().sum() / expected < 25  # chi-squared


def test_a_user_who_chose_everything_has_no_negatives():
    df = pd.DataFrame({"user": [1, 1, 2, 2], "item": [1, 2, 1, 2]})
    dls = CollabDataLoaders.from_df(df, splits=([0, 1, 2], [3]), bs=3, negatives=2, device="cpu")
    codes, targets = dls.one_batch()
    assert targets[codes[:, 0] == 1].tolist() == [[1, -1, -1]] * 2
    assert targets[codes[:, 0] == 2].tolist() == [[1, 0, 0]]
    learn = collab_learner(dls, 2)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, 0.1)
    assert all(p.isfinite().all() for p in learn.model.parameters())


def test_negatives_are_the_same_in_workers_and_new_each_epoch(pairs):
    def epochs(**kwargs):
        dl = loaders(pairs, negatives=3, seed=5, **kwargs).train
        dl.seed = 7
        return [torch.cat([codes for codes, _ in dl]) for _ in range(2)]

    first, second = epochs()
    assert not torch.equal(first, second)
    assert_close(epochs(num_workers=2), [first, second])
    half = [loaders(pairs, negatives=3, seed=5, share=(rank, 2)).train for rank in (0, 1)]
    for dl in half:
        dl.seed, dl.bs = 7, 4
    batches = [torch.cat([a[0], b[0]]) for a, b in zip(*half, strict=True)]
    assert sorted(torch.cat(batches).tolist()) == sorted(first.tolist())


def test_a_choice_that_occurs_often_counts_once_and_weights_are_added():
    df = pd.DataFrame({"user": [1, 1, 1, 2, 2], "song": list("aabab"), "plays": [2, 3, 4, 1, 1]})
    splits = ([0, 1, 2, 3], [4])
    once = CollabDataLoaders.from_df(df[["user", "song"]], splits=splits, bs=2, shuffle=False, device="cpu")
    assert once.train.one_batch()[1].tolist() == [[-1, 1, 1], [-1, 1, 0]]
    counted = CollabDataLoaders.from_df(df, splits=splits, bs=2, weight_name="plays", shuffle=False, device="cpu")
    assert counted.train.one_batch()[1].tolist() == [[-1, 5, 4], [-1, 1, 0]]
    drawn = CollabDataLoaders.from_df(
        df, splits=splits, bs=3, weight_name="plays", negatives=1, shuffle=False, device="cpu"
    )
    assert drawn.train.one_batch()[1][:, 0].tolist() == [5, 4, 1]


def test_what_training_lacks_and_what_it_has_already_is_not_validated():
    df = pd.DataFrame({"user": [1, 1, 2, 3, 1, 2, 2], "item": list("abacbzb")})
    dls = CollabDataLoaders.from_df(df, splits=([0, 1, 2], [3, 4, 5, 6]), bs=2, device="cpu")
    (codes, targets), *others = dls.valid
    assert not others
    assert codes.tolist() == [[2]]
    assert targets.tolist() == [[-1, -1, 1]]
    with pytest.raises(EmptySource, match="no choices to validate on"):
        CollabDataLoaders.from_df(df, splits=([0, 1, 2], [3, 4, 5]), bs=2)


def by_hand(kind, scores, targets):
    """The losses of rows, by loops."""
    res = []
    for s, t in zip(scores.tolist(), targets.tolist(), strict=True):
        total, others = 0.0, [a for a, b in zip(s, t, strict=True) if b == 0]
        compared = np.array([a for a, b in zip(s, t, strict=True) if b >= 0])
        for score, weight in ((a, b) for a, b in zip(s, t, strict=True) if b > 0):
            if kind is SoftmaxRankingLoss:
                total -= weight * np.log(np.exp(score) / np.exp(compared).sum())
            elif kind is BPRLoss:
                total -= weight * np.mean([np.log(1 / (1 + np.exp(o - score))) for o in others])
            else:
                missing = [1 - score + o for o in others if 1 - score + o > 0]
                total += weight * np.log1p(len(missing)) * (np.mean(missing) if missing else 0)
        res.append(total)
    return res


@pytest.mark.parametrize("kind", [SoftmaxRankingLoss, BPRLoss, WARPLoss])
def test_losses_are_those_worked_by_hand(kind):
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(6, 9, generator=draw)
    targets = torch.tensor([-1.0, 0, 0, 0, 1, 2.5])[torch.randint(6, (6, 9), generator=draw)]
    wanted = torch.tensor(by_hand(kind, scores, targets), dtype=torch.float32)
    assert_close(kind("none")(scores, targets), wanted)
    assert_close(kind()(scores, targets), wanted.mean())
    assert_close(kind("sum")(scores, targets), wanted.sum())
    with pytest.raises(BadValue, match="scores of several items"):
        kind()(scores[:, 0], targets[:, :1])
    with pytest.raises(BadValue, match="unknown reduction"):
        kind("men")


def trained(df, use_nn=False, loss_func=None, fits=4, **kwargs):
    torch.manual_seed(0)
    learn = collab_learner(loaders(df, **kwargs), 8, use_nn=use_nn, loss_func=loss_func)
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(fits, 3e-2)
    return learn


def clubs():
    """People of two clubs, who each chose most of the ten films of theirs, and no other."""
    draw = np.random.default_rng(0)
    user, item = np.nonzero(draw.random((40, 20)) < 0.8)
    same = user % 2 == item % 2
    return pd.DataFrame({"user": user[same], "title": [f"film {i}" for i in item[same]]})


@pytest.mark.parametrize(
    ("loss", "negatives", "use_nn"),
    [(None, None, False), (None, 4, False), (BPRLoss(), 4, False), (WARPLoss(), 4, False), (BPRLoss(), None, False),
     (WARPLoss(), None, False), (None, 4, True), (None, None, True)],
)  # fmt: skip
def test_taste_is_learnt_from_choices_alone(loss, negatives, use_nn):
    learn = trained(clubs(), use_nn, loss, 8 if negatives else 30, negatives=negatives)
    assert learn.ranking_scores(k=5)["recall@5"] > 0.7
    found = learn.recommend([0, 1], 2)
    assert [int(title[5:]) % 2 for title in found.title] == [0, 0, 1, 1]
    own, other = (learn.predict({"user": 0, "title": f"film {i}"})[2] for i in (2, 3))
    assert own > other


@pytest.mark.parametrize("negatives", [None, 2])
def test_the_penalty_is_that_of_each_choice_and_not_reported(negatives):
    dls = loaders(clubs(), negatives=negatives, bs=1000, shuffle=False)  # a single batch
    learn = collab_learner(dls, 3, l2=0.7, opt_func=partial(SGD, mom=0.0))
    start = {name: p.detach().clone().requires_grad_() for name, p in learn.model.named_parameters()}
    batches = []
    learn.model.register_forward_pre_hook(lambda _, args: batches.append(args[0]))
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, 0.1, wd=0.0)
    codes, targets = batches[0], dls.one_batch()[1]
    loss = penalty = SoftmaxRankingLoss()(torch.func.functional_call(learn.model, start, codes), targets)
    for row, target in zip(codes, targets, strict=True):
        items = row[1:] if negatives else range(len(target))
        for item, weight in zip(items, target.tolist(), strict=True):
            if weight > 0:
                vectors = start["u_weight.weight"][row[0]], start["i_weight.weight"][item]
                penalty = penalty + 0.7 * sum(vector.square().sum() for vector in vectors) / len(codes)
    penalty.backward()
    assert learn.recorder.losses[-1] == pytest.approx(float(loss))
    for name in ("u_weight.weight", "i_weight.weight"):
        wanted = (start[name] - 0.1 * start[name].grad).detach()
        assert_close(learn.model.get_parameter(name)[1:], wanted[1:])


def test_an_export_predicts_and_recommends(tmp_path):
    df = clubs()
    learn = trained(df)
    learn.path = tmp_path
    loaded = load_learner(learn.export("choices"))
    row = {"user": 3, "title": "film 4"}
    assert_close(loaded.predict(row)[2], learn.predict(row)[2])
    known = df.iloc[leave_n_out(df, 3, seed=0)[0]]
    pd.testing.assert_frame_equal(loaded.recommend(3, seen=known), learn.recommend(3))
    scores = loaded.ranking_scores(held_out=df.iloc[leave_n_out(df, 3, seed=0)[1]], exclude_seen=False)
    assert scores == learn.ranking_scores(exclude_seen=False)
    with pytest.raises(EmptySource, match="nothing is held out"):
        loaded.ranking_scores()


@pytest.mark.parametrize("negatives", [None, 2])
def test_a_resumed_run_draws_the_same_negatives(tmp_path, negatives):
    def made():
        torch.manual_seed(0)
        return collab_learner(loaders(clubs(), negatives=negatives, seed=1), 4, path=tmp_path)

    class Stop(Exception): ...

    whole, half, again = made(), made(), made()
    steps = []

    def stop(*_):
        steps.append(1)
        if len(steps) == 7:
            raise Stop

    half.model.register_forward_pre_hook(stop)
    with whole.no_bar(), whole.no_logging(), half.no_bar(), half.no_logging(), again.no_bar(), again.no_logging():
        whole.fit(2, 1e-2)
        with pytest.raises(Stop):
            half.fit(2, 1e-2, checkpoint=Checkpoint(tmp_path / "run", every="2 steps"))
        again.fit(2, 1e-2, resume=tmp_path / "run")
    assert_close(again.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)


def test_choices_and_results_are_shown_by_name(pairs, capsys):
    learn = trained(pairs, fits=1)
    learn.dls.show_batch(max_n=2)
    learn.show_results(max_n=2)
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("user", "title", "best", "'film", "and"))
    pair = learn.dls.test_dl(pairs.head(3))
    assert [part.shape for part in pair.one_batch()] == [(3, 2)]
    preds, _ = learn.get_preds(dl=pair)
    assert_close(preds[0], learn.predict(pairs.iloc[0])[2])


CALLS = {
    "a rating for choices": (lambda df: {"implicit": True, "rating_name": "rating"}, r"choices have no rating(.|\n)*>= 4"),
    "negatives for ratings": (lambda df: {"negatives": 4, "rating_name": "rating"}, "choices have no rating|for choices"),
    "weights of rows": (lambda df: {"implicit": True, "weights": [1.0] * len(df)}, "weight_name="),
    "weights below 0": (lambda df: {"weight_name": "when"}, "weights must be above 0, and 1 of"),
    "half a negative": (lambda df: {"negatives": 1.5}, "negatives is not a whole number"),
    "no negatives": (lambda df: {"negatives": 0}, "negatives is too small"),
    "a column astray": (lambda df: {"implicit": True, "item_name": "titel"}, "'titel'"),
    "one column twice": (lambda df: {"implicit": True, "item_name": "user"}, "two roles"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "message"), CALLS.values(), ids=CALLS)
def test_what_does_not_fit_choices_is_refused(given, message):
    df = films()
    with pytest.raises(Exception, match=message):
        CollabDataLoaders.from_df(df, **given(df))


def test_two_columns_are_too_few_for_ratings(pairs):
    with pytest.raises(BadValue, match=r"three columns(.|\n)*implicit=True"):
        CollabDataLoaders.from_df(pairs, implicit=False)
    with pytest.raises(BadValue, match="needs two columns"):
        CollabDataLoaders.from_df(pairs[["user"]], implicit=True)
    with pytest.raises(BadValue, match="'score' is reserved"):
        CollabDataLoaders.from_df(pairs.rename(columns={"title": "score"}))
    with pytest.raises(BadValue, match="l2 is for choices"):
        collab_learner(loaders(films()), l2=0.1)
    with pytest.raises(BadValue, match="must not be negative"):
        collab_learner(loaders(pairs), l2=-1)
    with pytest.raises(BadValue, match="choices have no range"):
        collab_learner(loaders(pairs), y_range=(0, 5.5))


def test_a_graph_scores_pairs_as_predict_does(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    learn = trained(clubs())
    learn.to_onnx(tmp_path / "choices.onnx")
    pairs = pd.DataFrame({"user": [0, 3], "title": ["film 4", "film 7"]})
    codes = learn.dls.test_dl(pairs).one_batch()[0]
    session = runtime.InferenceSession(tmp_path / "choices.onnx")
    found = session.run(None, {session.get_inputs()[0].name: codes.numpy()})[0]
    assert_close(torch.from_numpy(found), learn.get_preds(dl=learn.dls.test_dl(pairs))[0])


def test_who_and_what_is_unknown_is_said():
    learn = trained(clubs())
    known = {"user": 3, "title": "film 7"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learn.predict(known)
        learn.recommend(3)
        learn.dls.test_dl([known])
    with pytest.warns(UserWarning, match=r"unknown in training, so predicted as the average: 1 of 1 in 'user'$"):
        learn.predict({**known, "user": "nobody"})
    with pytest.warns(UserWarning, match="1 of 2 in 'title'"):
        learn.dls.test_dl([known, {**known, "title": None}])
    with pytest.warns(UserWarning, match="what the average user likes: 'nobody'"):
        learn.recommend([3, "nobody"])
    with pytest.raises(BadValue, match="did not occur in training"):
        learn.predict({**known, "user": "nobody"}, strict=True)
