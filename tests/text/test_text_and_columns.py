"""Texts with columns of their rows beside them: the block, and a model that reads both."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadValue
from layered.tabular.all import RowBlock, TabularDataLoaders, TabularModel
from layered.text.all import (
    AWD_LSTM,
    BaseTokenizer,
    CategoryBlock,
    ColReader,
    DataBlock,
    IndexSplitter,
    Learner,
    TextBlock,
    accuracy,
    get_text_classifier,
    load_learner,
)

VALID = range(60, 80)


@pytest.fixture(scope="module")
def df():
    """Rows whose label depends on a word and a number together."""
    rng = np.random.default_rng(0)
    word, price = rng.choice(["good", "bad"], 80), rng.choice([1.0, 9.0], 80)
    label = np.where((word == "good") & (price > 5), "yes", "no")
    price = np.where((word == "bad") & (np.arange(80) % 5 == 3), np.nan, price)
    return pd.DataFrame(
        {"text": [f"a {w} film" for w in word], "kind": rng.choice(["x", "y"], 80), "price": price, "label": label}
    )


def loaders(df):
    block = DataBlock(
        (TextBlock.from_df("text", tok=BaseTokenizer(), min_freq=1), RowBlock("kind", "price"), CategoryBlock),
        n_inp=2,
        get_y=ColReader("label"),
        splitter=IndexSplitter(VALID),
    )
    return block.dataloaders(df, bs=10, device="cpu", seed=1)


class Both(nn.Module):
    """Vectors of the text and of the columns, then a layer for both."""

    def __init__(self, dls):
        super().__init__()
        words = len(dls.vocab[0])
        self.text = get_text_classifier(AWD_LSTM, words, 8, seq_len=8, config={"emb_sz": 8, "n_hid": 8, "n_layers": 1})
        self.columns = TabularModel([(4, 3)], 1, 8, [16])
        self.head = nn.Linear(16, 2)

    def forward(self, text, row):
        return self.head(torch.cat([self.text(text).logits, self.columns(*row)], 1).relu())


def as_in_tables(df):
    """The tensors of the validation rows, as loaders of a table make them."""
    dls = TabularDataLoaders.from_df(
        df, cat_names="kind", cont_names="price", y_names="label", valid_idx=list(VALID), device="cpu", bs=10
    )
    return [torch.cat(part) for part in zip(*dls.valid, strict=True)]


def test_columns_beside_a_text_are_those_of_a_table(df):
    dls = loaders(df)
    codes, numbers, labels = as_in_tables(df)
    order = np.argsort([-len(x) for x, *_ in dls.valid_ds], kind="stable")
    found = [(row, label) for _, row, label in dls.valid]
    assert_close(torch.cat([row[0] for row, _ in found]), codes[order])
    assert_close(torch.cat([row[1] for row, _ in found]), numbers[order])
    assert torch.cat([label for _, label in found]).tolist() == labels.flatten()[order].tolist()
    text, row, _ = dls.one_batch()
    assert text.ndim == 2
    assert [tuple(part.shape) for part in row] == [(10, 2), (10, 1)]  # the kind, and whether the price was missing


def test_a_model_of_both_learns_what_neither_shows_alone(df, tmp_path, capsys):
    torch.manual_seed(0)
    dls = loaders(df)
    dls.show_batch(max_n=1)
    shown = capsys.readouterr().out
    assert "price" in shown
    assert "film" in shown
    model = Both(dls)
    model.columns = TabularModel([(4, 3), (4, 3)], 1, 8, [16])
    learn = Learner(dls, model, metrics=accuracy, path=tmp_path, seed=1)
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(12, 2e-2)
    assert learn.validate()[1] > 0.9
    label, _, _ = learn.predict(df.iloc[60])
    preds, _ = learn.get_preds()
    assert label == dls.vocab[-1][preds[0].argmax()]
    again, _ = learn.get_preds(dl=dls.test_dl(df.iloc[60:]))
    assert_close(again, preds)


def test_an_export_knows_the_columns(df, tmp_path):
    dls = loaders(df)
    learn = Learner(dls, Both(dls), path=tmp_path)
    learn.model.columns = TabularModel([(4, 3), (4, 3)], 1, 8, [16])
    with pytest.warns(UserWarning, match="not how to build the model"):
        learn.export(tmp_path / "both.layered")
    again = load_learner(tmp_path / "both.layered", model=learn.model)
    wanted, _ = learn.get_preds(dl=dls.test_dl(df))
    assert_close(again.get_preds(dl=again.dls.test_dl(df))[0], wanted)


def test_a_row_needs_columns():
    with pytest.raises(BadValue, match="RowBlock"):
        RowBlock()
