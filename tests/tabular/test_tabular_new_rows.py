"""Rows of tomorrow: 500 frames with unseen levels, gaps, other dtypes and orders give the answer of their canonical form."""

import numpy as np
import pandas as pd
import pytest
import torch
from people import CATS, CONTS, PROCS, people
from torch.testing import assert_close

from layered.foundation import BadValue
from layered.tabular.all import Categorify, FillMissing, FillStrategy, TabularPandas, TabularProc, tabular_learner


@pytest.fixture(scope="module")
def learned():
    """A table without gaps in `income`, an untrained learner, and what the training rows say of each column."""
    df = people()
    to = TabularPandas(df, PROCS, CATS, CONTS, "buys")
    torch.manual_seed(0)
    filled = df[CONTS].fillna(df[CONTS].median())
    return (
        df,
        tabular_learner(to.dataloaders(32, device="cpu"), [8]),
        df[CONTS].median(),
        filled.mean(),
        filled.std(ddof=0),
    )


def canonical(rows, learned):
    """Codes and numbers worked out by hand, of rows whose values are of the types of training."""
    _, _, medians, means, stds = learned
    cities, rooms = ["Bonn", "Oslo", "Rome"], [1, 2, 3, 4]
    codes = [
        [
            1 + cities.index(row["city"]) if row["city"] in cities else 0,
            1 + rooms.index(row["rooms"]) if row["rooms"] in rooms else 0,
            2 if row["age"] is None else 1,
        ]
        for row in rows
    ]
    numbers = [[((medians[n] if row[n] is None else row[n]) - means[n]) / stds[n] for n in CONTS] for row in rows]
    return torch.tensor(codes), torch.tensor(numbers, dtype=torch.float32).reshape(-1, 2)


def drawn_rows(draw, df, count):
    """Rows of the table, some with a level or a gap that training did not have."""
    rows = []
    for i in draw.integers(0, len(df), count):
        row = {
            n: (None if pd.isna(v) else v.item() if hasattr(v, "item") else v) for n, v in df.iloc[i].to_dict().items()
        }
        for name, other in (("city", "Nowhere"), ("rooms", 99), ("income", None), ("age", None), ("city", None)):
            if draw.random() < 0.15:
                row[name] = other
        rows.append(row)
    return rows


WAYS = {
    "city": [
        lambda c: c.astype("category"),
        lambda c: pd.Series(
            pd.Categorical(c, categories=["Zug", "Rome", "Nowhere", "Bonn", "Oslo", "Aix"]), index=c.index
        ),
        lambda c: c.astype("string"),
    ],
    "rooms": [
        lambda c: c.astype(float),
        lambda c: c.astype(str),
        lambda c: c.astype(float).astype(str),
        lambda c: c.astype("Int64"),
        lambda c: pd.Series(pd.Categorical(c, categories=[99, 4, 3, 2, 1, 0]), index=c.index),
        lambda c: c.astype(np.int8),
    ],
    "age": [lambda c: c.astype("string"), lambda c: c.astype("Float64"), lambda c: c.astype("category")],
    "income": [
        lambda c: c.astype("Int64"),
        lambda c: c.astype("string"),
        lambda c: c.map(lambda v: None if pd.isna(v) else str(int(v))).astype(object),
        lambda c: c.fillna(np.inf),
        lambda c: c.astype(object).where(c.notna(), "unknown"),
    ],
}


def disguised(draw, rows):
    """The same rows as a frame with other dtypes, columns in another order, and columns that nobody asked for."""
    frame = pd.DataFrame(rows, columns=["city", "rooms", "age", "income", "buys"])
    frame = frame.astype({"age": float, "income": float, "city": object})
    for name, ways in WAYS.items():
        if draw.random() < 0.6:
            frame[name] = ways[draw.integers(len(ways))](frame[name])
    if draw.random() < 0.5:
        frame["age_na"], frame["extra"] = "what", pd.Timestamp("2020-01-01")
    frame = frame[list(draw.permutation(frame.columns))]
    return frame.drop(columns="buys") if draw.random() < 0.5 else frame.set_index(draw.permutation(len(frame)) + 7)


@pytest.mark.parametrize("block", range(10))
def test_500_frames_of_other_form_give_the_answer_of_their_canonical_form(learned, block):
    df, learn, *_ = learned
    draw = np.random.default_rng(block)
    for _ in range(50):
        rows = drawn_rows(draw, df, int(draw.choice([0, 1, 1, 2, 7])))
        frame = disguised(draw, rows)
        before = frame.copy()
        codes, numbers = learn.dls.train_ds.test_set(frame).tensors
        wanted = canonical(rows, learned)
        assert torch.equal(codes, wanted[0]) if rows else codes.shape == (0, 3)
        assert_close(numbers, wanted[1], atol=2e-6, rtol=1e-5)
        pd.testing.assert_frame_equal(frame, before)


def test_predict_of_any_row_is_that_of_the_frame_it_stands_in(learned):
    df, learn, *_ = learned
    draw = np.random.default_rng(99)
    rows = drawn_rows(draw, df, 40)
    frame = disguised(draw, rows)
    preds = learn.get_preds(dl=learn.dls.test_dl(frame, with_labels=False))[0]
    for i, wanted in enumerate(preds):
        for form in (frame.iloc[i], frame.iloc[i].to_dict(), frame.iloc[[i]], [frame.iloc[i].to_dict()], rows[i]):
            row, decision, found = learn.predict(form)
            assert_close(found, wanted, atol=1e-6, rtol=1e-6)
            assert decision == wanted.argmax()
            assert row.items.buys[0] == learn.dls.vocab[int(decision)]


def test_a_row_is_shown_as_it_was_understood(learned):
    row, *_ = learned[1].predict({"city": "Nowhere", "rooms": "3.0", "age": None, "income": "12"})
    shown = row.items.iloc[0].to_dict()
    assert {n: shown[n] for n in (*CATS, "age_na", "income")} == {
        "city": "#na#",
        "rooms": 3,
        "age_na": True,
        "income": 12.0,
    }
    assert shown["age"] == learned[2]["age"]
    row.show()


def test_all_columns_that_are_missing_are_named_in_one_error(learned):
    learn = learned[1]
    for predict in (learn.predict, learn.dls.test_dl):
        with pytest.raises(BadValue, match=r"'rooms', 'income'") as error:
            predict({"city": "Rome", "age": 3.0})
        assert "which the model was trained on" in str(error.value)
    with pytest.raises(BadValue, match="takes one row"):
        learn.predict(learned[0].iloc[:2])


def test_a_test_loader_without_rows_gives_predictions_without_rows(learned):
    df, learn, *_ = learned
    for rows in (df.iloc[:0], df.iloc[:0].drop(columns="buys"), []):
        assert learn.get_preds(dl=learn.dls.test_dl(rows))[0].shape == (0, 2)


def test_targets_of_new_rows_are_made_where_they_can_be(learned):
    df, learn, *_ = learned
    targets = learn.get_preds(dl=learn.dls.test_dl(df.iloc[:5]))[1]
    assert targets[:, 0].tolist() == [["no", "yes"].index(v) for v in df.buys[:5]]
    assert learn.get_preds(dl=learn.dls.test_dl(df.iloc[:5], with_labels=False))[1] is None
    with pytest.warns(UserWarning, match=r"left out.*'maybe'"):
        assert learn.get_preds(dl=learn.dls.test_dl(df.iloc[:5].assign(buys="maybe")))[1] is None
    with pytest.raises(BadValue, match="holds the targets"):
        learn.dls.test_dl(df.drop(columns="buys"), with_labels=True)


@pytest.mark.parametrize(
    "procs", [[Categorify], [Categorify, FillMissing(add_col=False)], [Categorify, FillMissing(FillStrategy.mode)]]
)
def test_a_gap_that_training_did_not_have_is_filled_whatever_the_procs(procs):
    df = people().assign(age=lambda d: d.age.fillna(40.0))
    to = TabularPandas(df, procs, CATS, CONTS, "buys")
    numbers = to.test_set({"city": "Rome", "rooms": 1, "age": None, "income": np.nan}).tensors[1][0]
    wanted = (
        df[CONTS].mode().iloc[0] if isinstance(procs[-1], FillMissing) and procs[-1].add_col else df[CONTS].median()
    )
    assert_close(numbers, torch.tensor(wanted.to_numpy(np.float32)))


class Doubled(TabularProc):
    """A proc of somebody's own."""

    def encodes(self, to):
        to["income"] = to["income"].astype(float) * 2

    def decodes(self, to):
        to["income"] = to["income"] / 2


def test_rows_go_through_procs_of_ones_own_too():
    df = people()
    dls = TabularPandas(df, [*PROCS, Doubled], CATS, CONTS, "buys").dataloaders(32, device="cpu")
    learn = tabular_learner(dls, [8])
    wanted = learn.get_preds(dl=dls.test_dl(df.iloc[:3]))[0]
    for i in range(3):
        row, _, found = learn.predict(df.iloc[i])
        assert_close(found, wanted[i])
        assert row.items.income[0] == pytest.approx(df.income[i], abs=0.1)
