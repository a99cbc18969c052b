"""A plain `Learner` with a model of one's own predicts rows of a table too."""

import numpy as np
import pytest
import torch
from people import CONTS
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadValue
from layered.tabular.all import (
    Category,
    CrossEntropyLossFlat,
    Learner,
    MSELossFlat,
    TabularDataLoaders,
    tabular_learner,
)


class Linear(nn.Module):
    """A linear model of the numbers alone."""

    def __init__(self, numbers, outputs):
        super().__init__()
        self.layer = nn.Linear(numbers, outputs)

    def forward(self, codes, numbers):
        return self.layer(numbers)


def test_a_row_is_predicted_as_in_a_table(df, dls):
    learn = Learner(dls, Linear(len(dls.cont_names), 2), CrossEntropyLossFlat())
    preds, _ = learn.get_preds(dl=dls.test_dl(df[:5]))
    for i, expected in enumerate(preds):
        for row in (df.iloc[i], df.iloc[i].to_dict()):
            label, decision, probabilities = learn.predict(row)
            assert_close(probabilities, expected)
            assert decision == expected.argmax()
            assert label == dls.vocab[int(decision)]
            assert isinstance(label, Category)


def test_the_decoded_row_comes_with_the_prediction(df, dls):
    learn = Learner(dls, Linear(len(dls.cont_names), 2), CrossEntropyLossFlat())
    (categories, numbers), *rest = learn.predict(df.iloc[3], with_input=True)
    assert {name: str(value) for name, value in categories.items() if name in df} == {
        name: str(df[name][3]) for name in categories if name in df
    }
    for name, value in numbers.items():
        assert value == pytest.approx(df[name][3] if df[name].notna()[3] else dls.na_dict[name], rel=1e-4)
    assert len(rest) == 3


def test_the_learner_of_tables_predicts_the_same_numbers(df, dls):
    theirs = tabular_learner(dls, [8])
    ours = Learner(dls, theirs.model, theirs.loss_func)
    row = df.iloc[0]
    for mine, other in zip(ours.predict(row)[1:], theirs.predict(row)[1:], strict=True):
        assert_close(mine, other)


@pytest.mark.parametrize("names", [["first"], ["first", "second"]])
def test_numbers_are_predicted(df, names):
    df = df.assign(first=np.arange(len(df)) / 7, second=1.0)
    dls = TabularDataLoaders.from_df(df, cont_names=CONTS, y_names=names, bs=32, device="cpu")
    learn = Learner(dls, Linear(len(CONTS), len(names)), MSELossFlat())
    number, decision, raw = learn.predict(df.iloc[0])
    assert_close(decision, raw)
    assert_close(torch.as_tensor(number).flatten(), raw)


def test_a_row_that_misses_columns_is_refused_with_their_names(dls):
    learn = Learner(dls, Linear(len(dls.cont_names), 2), CrossEntropyLossFlat())
    with pytest.raises(BadValue, match=f"'{dls.cont_names[0]}'"):
        learn.predict({"nothing": 1})
