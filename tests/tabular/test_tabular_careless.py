"""Careless calls are refused where they are made, with what was given and what to do."""

import numpy as np
import pandas as pd
import pytest
import torch

from layered.foundation import EmptySource, LayeredError
from layered.tabular.all import (
    Categorify,
    FillMissing,
    MultiTaskLoss,
    Normalize,
    TabularDataLoaders,
    TabularModel,
    TabularPandas,
    TabularResNet,
    add_datepart,
    class_weights,
    df_shrink,
    embed_features,
    get_emb_sz,
    load_learner,
    partial_dependence,
    read_table,
    tabular_config,
    tabular_learner,
)

MODEL = TabularModel([(4, 2)], 2, 1, [8])
CODES, NUMBERS = torch.zeros(3, 1, dtype=torch.int64), torch.zeros(3, 2)

CALLS = {
    "a learner of a frame": (lambda dls, df: tabular_learner(df), "not loaders of a table"),
    "a learner of a table": (lambda dls, df: tabular_learner(dls.train.dataset), "not loaders of a table"),
    "layers of text": (lambda dls, df: tabular_learner(dls, ["a"]), "width of a layer is not a whole number"),
    "layers of nothing": (lambda dls, df: tabular_learner(dls, [0]), "width of a layer is too small"),
    "a config of a number": (lambda dls, df: tabular_learner(dls, config=5), "config is not a mapping"),
    "embeddings of nothing": (lambda dls, df: get_emb_sz(dls, {"city": 0}), "too small"),
    "embeddings in a list": (lambda dls, df: get_emb_sz(dls, [3]), "emb_szs is not a mapping"),
    "a range of one number": (lambda dls, df: tabular_learner(dls, y_range=5), "y_range is not a range"),
    "a range upside down": (lambda dls, df: tabular_learner(dls, y_range=(5, 1)), "y_range is not a range"),
    "a range of a ResNet": (lambda dls, df: TabularResNet([(4, 2)], 2, 1, y_range=(5, 1)), "y_range is not a range"),
    "outputs below none": (lambda dls, df: tabular_learner(dls, n_out=-1), "number of outputs is too small"),
    "codes that are numbers": (lambda dls, df: MODEL(CODES.float(), NUMBERS), "codes: whole numbers"),
    "a frame for a batch": (lambda dls, df: tabular_learner(dls).get_preds(dl=df), "test_dl"),
    "no numbers": (lambda dls, df: MODEL(CODES), r"numbers \[batch, 2\]"),
    "too many numbers": (lambda dls, df: MODEL(CODES, torch.zeros(3, 5)), r"numbers \[batch, 2\]"),
    "embeddings of no learner": (lambda dls, df: embed_features(None, df), "not loaders of a table"),
    "class weights of a frame": (lambda dls, df: class_weights(df), "not loaders of a table"),
    "a frame that is a number": (lambda dls, df: df_shrink(5), "not a table"),
    "dates of no table": (lambda dls, df: add_datepart("df", "when"), "not a table"),
    "a strategy by name": (lambda dls, df: FillMissing(fill_strategy="median"), "fill_strategy must be a function"),
    "fills in a list": (lambda dls, df: FillMissing(fill_vals=[1]), "must map columns"),
    "shares above all": (
        lambda dls, df: tabular_learner(dls, config=tabular_config(ps=2.0)),
        "ps is not a valid probability",
    ),
    "shares of text": (lambda dls, df: tabular_learner(dls, config=tabular_config(ps="half")), "ps is not a number"),
    "shares below none": (
        lambda dls, df: tabular_learner(dls, config=tabular_config(embed_p=-1)),
        "embed_p is not a valid probability",
    ),
    "shares of a ResNet": (
        lambda dls, df: TabularResNet([(4, 2)], 2, 1, hidden_p=2),
        "hidden_p is not a valid probability",
    ),
    "an activation by name": (
        lambda dls, df: tabular_learner(dls, config={"act_cls": "relu"}),
        "act_cls is not an activ",
    ),
    "batches of text": (lambda dls, df: dls.train.dataset.dataloaders("64"), "invalid batch size"),
    "validation batches of text": (lambda dls, df: dls.from_dsets([1], [2], bs=1, val_bs="64"), "invalid batch size"),
    "categories that are none": (
        lambda dls, df: tabular_learner(TabularPandas(df.dropna(), Normalize, "city", "age", "buys").dataloaders(8)),
        "column 'city' is not encoded",
    ),
    "no losses": (lambda dls, df: MultiTaskLoss([], []), "needs one loss, one size"),
}


@pytest.mark.parametrize(("call", "message"), CALLS.values(), ids=CALLS)
def test_a_careless_call_is_refused_in_words(call, message, dls, df):
    with pytest.raises(LayeredError, match=message):
        call(dls, df)


def test_an_empty_file_is_named(tmp_path):
    (tmp_path / "empty.csv").touch()
    for read in (read_table, TabularDataLoaders.from_csv):
        with pytest.raises(EmptySource, match=r"empty\.csv' is empty"):
            read(tmp_path / "empty.csv")


RANGES = [
    torch.tensor([0, 5.0]),
    np.array([0, 5]),
    np.array([0, 5.0], np.float32),
    (np.int64(0), 5),
    [0, torch.tensor(5)],
]


@pytest.mark.parametrize("y_range", RANGES, ids=repr)
def test_options_of_any_kind_of_number_are_exported(y_range, df, tmp_path):
    to = TabularPandas(df.dropna(), [Categorify, Normalize], "city", "age", "income")
    config = tabular_config(ps=np.float32(0.1), embed_p=torch.tensor(0.1))
    learn = tabular_learner(
        to.dataloaders(32), np.array([8]), config=config, n_out=np.int64(1), y_range=y_range, path=tmp_path
    )
    learn.export()
    loaded = load_learner(tmp_path / "export.layered")
    assert str(loaded.model) == str(learn.model)
    row = df.dropna().iloc[0]
    torch.testing.assert_close(loaded.predict(row)[1], learn.predict(row)[1])
    assert 0 < loaded.predict(row)[1].item() < 5


def test_one_width_is_a_model_of_one_layer(dls):
    torch.manual_seed(0)
    model = tabular_learner(dls, 8).model
    torch.manual_seed(0)
    expected = tabular_learner(dls, [8]).model
    assert all(map(torch.equal, model.parameters(), expected.parameters()))


def test_columns_of_one_value_are_predicted_as_the_row_they_are(learn, df):
    row = df.drop(columns="buys").iloc[0].to_dict()
    columns = {name: [value] for name, value in row.items()}
    torch.testing.assert_close(learn.predict(columns)[2], learn.predict(row)[2])


def test_one_value_is_a_grid_of_one(learn, df):
    found = partial_dependence(learn, df, "city", grid="Rome")
    pd.testing.assert_frame_equal(found, partial_dependence(learn, df, "city", grid=["Rome"]))


def test_names_of_columns_and_classes_do_not_act_in_what_is_shown(capsys):
    word = "<script>\x1b[2J\u202e"
    frame = pd.DataFrame({word: [1.0, 2.0, 3.0, 4.0], "y": [word, "b"] * 2})
    dls = TabularDataLoaders.from_df(frame, y_names="y", bs=2, valid_pct=0.5, seed=0)
    dls.show_batch()
    html = [dls._repr_html_(), dls.train.dataset._repr_html_()]
    for text in (repr(dls), repr(dls.train.dataset), *html, capsys.readouterr().out):
        assert not {"\x1b", "\u202e"} & set(text)
    assert all("<script>" not in text for text in html)
