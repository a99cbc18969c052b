"""`collab_learner` from ratings to predictions, for those it knows and those it does not."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from films import films
from torch import nn
from torch.testing import assert_close

from layered.collab.all import (
    Checkpoint,
    CollabDataLoaders,
    CollabLearner,
    EmbeddingNN,
    Learner,
    MSELossFlat,
    SaveModelCallback,
    TabularDataLoaders,
    collab_learner,
    load_learner,
    rmse,
    tabular_config,
)
from layered.foundation import BadArgument, BadValue, CannotTrain


def test_ratings_are_learnt_better_than_by_means_of_users_and_items():
    df = films(60, 40)
    dls = CollabDataLoaders.from_df(df, seed=0, bs=32, device="cpu")
    torch.manual_seed(0)
    learn = collab_learner(dls, 3, y_range=(0, 5.5), metrics=rmse)
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(8, 5e-2, wd=0.01)
    train, valid = (df.loc[dls[i].dataset.items.index] for i in (0, 1))
    mean = train.rating.mean()
    by_user, by_item = (train.groupby(name).rating.mean() - mean for name in ("user", "title"))
    oracle = mean + valid.user.map(by_user) + valid.title.map(by_item)
    error = np.sqrt(np.mean((oracle - valid.rating) ** 2))
    preds, targets = learn.get_preds()
    found = np.sqrt(np.mean((preds.numpy().ravel() - valid.rating.to_numpy()) ** 2))
    assert_close(targets[:, 0].double(), torch.tensor(valid.rating.to_numpy()))
    assert learn.validate()[1] == pytest.approx(found, rel=1e-5)
    assert found < 0.8 * error


def test_one_row_is_predicted_as_in_a_table(learn, df):
    rows = df[["user", "title"]].iloc[:5]
    preds, targets = learn.get_preds(dl=learn.dls.test_dl(rows))
    assert targets is None
    for row, pred in zip(rows.to_dict("records"), preds, strict=True):
        shown, decision, number = learn.predict(row)
        assert_close(number, pred)
        assert shown.items.title[0] == row["title"]
        assert decision.item() == shown.items.rating[0]
    assert_close(learn.predict(rows.iloc[0])[2], preds[0])


def test_an_unseen_user_rates_as_the_average_user_does(learn):
    model, classes = learn.model, learn.dls.classes
    codes = torch.arange(1, len(classes["title"]))
    vector, bias = model.u_weight.weight[1:].mean(0), model.u_bias.weight[1:].mean()
    average = vector @ model.i_weight.weight[codes].T + bias + model.i_bias.weight[codes, 0]
    frame = pd.DataFrame({"user": "nobody", "title": list(classes["title"][1:])})
    found, _ = learn.get_preds(dl=learn.dls.test_dl(frame))
    assert_close(found, 5.5 * torch.sigmoid(average).detach())
    train = learn.dls.train.dataset.decode().items
    popular = train.groupby("title").rating.mean().loc[list(classes["title"][1:])]
    assert np.corrcoef(found, popular)[0, 1] > 0.8


def test_users_and_items_that_are_unseen_or_missing_are_the_same(learn):
    rows = [{"user": u, "title": t} for u in ("nobody", None, np.nan) for t in ("no film", None)]
    found, _ = learn.get_preds(dl=learn.dls.test_dl(rows))
    assert_close(found, found[:1].expand(len(rows)))
    assert 0 < found[0] < 5.5


def test_a_network_is_built_as_asked(dls):
    learn = collab_learner(dls, use_nn=True, emb_szs={"user": 7}, layers=[10, 5], config=tabular_config(ps=0.1))
    assert isinstance(learn.model, EmbeddingNN)
    assert learn.model.embeds[0].embedding_dim == 7
    assert [m.out_features for m in learn.model.modules() if isinstance(m, torch.nn.Linear)] == [10, 5, 1]
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(1, 1e-2)
    assert_close(learn.model.embeds[0].weight[0], learn.model.embeds[0].weight[1:].mean(0))


def test_loaders_of_other_tables_are_refused(df):
    dls = TabularDataLoaders.from_df(df, cat_names=["user"], y_names="rating", bs=16)
    with pytest.raises(CannotTrain, match="not loaders of ratings"):
        collab_learner(dls)


def test_options_of_the_network_are_refused_without_it(dls):
    with pytest.raises(BadValue, match="use_nn"):
        collab_learner(dls, layers=[10])
    with pytest.raises(BadValue, match="y_range"):
        collab_learner(dls, y_range=(5, 0))
    with pytest.raises(BadArgument, match="n_factors"):
        collab_learner(dls, n_factor=5)


@pytest.mark.parametrize("use_nn", [False, True])
def test_an_exported_learner_predicts_and_knows_the_names(dls, tmp_path, use_nn):
    learn = collab_learner(dls, 5, use_nn, y_range=(0, 5.5), path=tmp_path)
    loaded = load_learner(learn.export("ratings"))
    assert type(loaded) is CollabLearner
    for row in ({"user": 103, "title": "film 03"}, {"user": "nobody", "title": "film 03"}):
        assert_close(loaded.predict(row)[2], learn.predict(row)[2])
    assert_close(loaded.model.weight(["film 03"]), learn.model.weight(["film 03"]))


def test_a_run_that_is_resumed_gives_the_same_model(dls, tmp_path):
    def made(cbs=()):
        torch.manual_seed(0)
        return collab_learner(dls, 5, y_range=(0, 5.5), cbs=cbs, path=tmp_path)

    class Stop(Exception): ...

    whole, half = made(), made()
    with whole.no_bar(), whole.no_logging():
        whole.fit(2, 1e-2)

    def stop(*_):
        if half.epoch == 1:
            raise Stop

    half.model.register_forward_pre_hook(stop)
    with half.no_bar(), half.no_logging(), pytest.raises(Stop):
        half.fit(2, 1e-2, checkpoint=Checkpoint(tmp_path / "run", every="1 epoch"))
    again = made()
    with again.no_bar(), again.no_logging():
        again.fit(2, 1e-2, resume=tmp_path / "run")
    assert_close(again.model.state_dict(), whole.model.state_dict())


def test_a_copy_and_other_callbacks_keep_what_stands_for_the_unseen(dls, tmp_path):
    learn = collab_learner(dls, 5, y_range=(0, 5.5), path=tmp_path, cbs=SaveModelCallback())
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(2, 1e-2)
    for table in copy.deepcopy(learn.model).embeddings():
        assert_close(table.weight[0], table.weight[1:].mean(0))
    learn.show_results(max_n=2)


def test_a_plain_learner_with_a_model_of_ones_own_predicts_a_row(dls, df):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.item = nn.Embedding(len(dls.classes["title"]), 1)

        def forward(self, x):
            return self.item(x[:, 1])

    learn = Learner(dls, Own(), MSELossFlat())
    row = df.iloc[0]
    expected = learn.model.item.weight[dls.classes["title"].index(row.title)].detach()
    for form in (row, row.to_dict(), {"user": "nobody", "title": row.title}):
        rating, decision, number = learn.predict(form)
        assert_close(number, expected)
        assert_close(decision, expected)
        assert float(rating) == pytest.approx(expected.item())
