"""What courses do with tables, line by line: sales with dates for a forest and a net, tables kept between sessions."""

import numpy as np
import pandas as pd
import pytest
import torch
from people import CATS, CONTS, PROCS, people
from sklearn.ensemble import RandomForestRegressor

from layered.foundation import BadValue
from layered.tabular.all import (
    Categorify,
    F,
    FillMissing,
    Normalize,
    TabularPandas,
    add_datepart,
    add_elapsed_times,
    cont_cat_split,
    df_shrink,
    load_pickle,
    save_pickle,
    tabular_learner,
)


@pytest.fixture
def sales():
    draw = np.random.default_rng(0)
    rows = 120
    df = pd.DataFrame(
        {
            "saledate": pd.date_range("2011-11-01", periods=rows).astype(str),
            "hours": np.where(draw.random(rows) < 0.4, np.nan, draw.integers(0, 9999, rows)),
            "size": draw.choice(["Large", "Small", None], rows),
            "SalePrice": np.log(draw.integers(5000, 90000, rows)),
        }
    )
    df["size"] = df["size"].astype("category").cat.set_categories(["Small", "Large"], ordered=True)
    return add_datepart(df, "saledate")


def split_by_date(df):
    is_train = (df.saleYear < 2012) | (df.saleMonth < 2)
    return list(np.where(is_train)[0]), list(np.where(~is_train)[0])


def test_a_forest_takes_the_prepared_table(sales):
    cont, cat = cont_cat_split(sales, 1, dep_var="SalePrice")
    to = TabularPandas(sales, [Categorify, FillMissing], cat, cont, y_names="SalePrice", splits=split_by_date(sales))
    assert (len(to.train), len(to.valid)) == (92, 28)
    assert list(to.classes["size"]) == ["#na#", "Small", "Large"]
    forest = RandomForestRegressor(5, random_state=0).fit(to.train.xs, to.train.y)
    to_tst = to.new(sales.drop(columns="SalePrice"))
    to_tst.process()
    wanted = forest.predict(pd.concat([to.train.xs, to.valid.xs]))
    np.testing.assert_allclose(forest.predict(to_tst.xs), wanted)


def test_a_net_predicts_the_same_table_within_a_range(sales, tmp_path):
    cont, cat = cont_cat_split(sales, max_card=9000, dep_var="SalePrice")
    procs = [Categorify, FillMissing, Normalize]
    to = TabularPandas(sales, procs, cat, cont, splits=split_by_date(sales), y_names="SalePrice")
    learn = tabular_learner(
        to.dataloaders(32), y_range=(8, 12), layers=[50, 25], n_out=1, loss_func=F.mse_loss, path=tmp_path
    )
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(1, 1e-2)
    preds, targs = learn.get_preds()
    assert preds.shape == targs.shape == (28, 1)
    assert 8 < preds.min() < preds.max() < 12


def test_a_table_may_be_kept_between_sessions(to, tmp_path):
    save_pickle(tmp_path / "to.pkl", to)
    again = load_pickle(tmp_path / "to.pkl", trust=True)
    pd.testing.assert_frame_equal(again.items, to.items)
    assert again.test_set(people(3)).tensors[0].tolist() == to.test_set(people(3)).tensors[0].tolist()


def test_rows_are_prepared_once(to):
    for again in (to.process, to.setup):
        with pytest.raises(BadValue, match="already processed"):
            again()


def test_what_cannot_be_a_table_for_a_model_is_refused(df):
    with pytest.raises(BadValue, match="no inputs"):
        tabular_learner(TabularPandas(df, PROCS, None, None, "buys").dataloaders(8))
    levels = df.set_axis(pd.MultiIndex.from_product([["a"], df.columns]), axis=1)
    with pytest.raises(BadValue, match="several levels"):
        TabularPandas(levels, PROCS, [("a", "city")], [("a", "age")], [("a", "buys")])
    double = pd.concat([df, df[["rooms"]]], axis=1)
    with pytest.raises(BadValue, match="several columns named 'rooms'"):
        TabularPandas(double, PROCS, CATS, CONTS, "buys")
    assert list(TabularPandas(double, PROCS, "city", CONTS, "buys").items.columns).count("rooms") == 1


def test_loaders_are_checked_for_rows_that_stand_in_both_parts(df):
    double = pd.concat([df, df.iloc[:10]], ignore_index=True)
    dls = TabularPandas(double, PROCS, CATS, CONTS, "buys", splits=[range(200), range(200, 210)]).dataloaders(8)
    assert "10 of 10 items of valid are in train too" in str(dls.check(show=False))
    dls = TabularPandas(double, PROCS, CATS, None, "buys", splits=[range(200), range(200, 210)]).dataloaders(8)
    assert "in train too" not in str(dls.check(show=False))


def test_lists_stay_as_they_are_when_a_table_is_made_small():
    df = pd.DataFrame({"tags": [["a"], ["b"]], "name": ["x", "y"]})
    assert df_shrink(df).dtypes.tolist() == [np.dtype(object), pd.CategoricalDtype(["x", "y"])]


def test_dates_of_no_rows_and_of_columns_called_by_numbers_are_taken_apart():
    assert add_datepart(pd.DataFrame({3: ["2020-02-01"]}), 3)["3Month"].tolist() == [2]
    assert add_datepart(pd.DataFrame({"day": pd.to_datetime([])}), "day").shape == (0, 13)
    empty = pd.DataFrame({"day": pd.to_datetime([]), "promo": pd.Series([], dtype=bool), "shop": []})
    assert add_elapsed_times(empty, "promo", "day", "shop").shape == (0, 7)


def test_the_inputs_of_a_shown_row_are_those_that_were_predicted(learn, df):
    inputs, row, decision, probabilities = learn.predict(df.iloc[0], with_input=True)
    again = learn.model.eval()(*inputs).softmax(1)[0]
    torch.testing.assert_close(probabilities, again.detach())
    assert row.items.city[0] == df.city[0]
    assert decision == probabilities.argmax()


def test_what_was_learnt_is_read_by_the_known_names():
    df = pd.DataFrame({"a": [1.0, 2, None, 4] * 5, "b": list("xyzx") * 5, "y": list("uvuv") * 5})
    fill, norm = FillMissing(), Normalize()
    made = TabularPandas(df, [Categorify, fill, norm], "b", "a", "y")
    to = TabularPandas(df, [Categorify, FillMissing, Normalize], "b", "a", "y")
    mean = np.mean([1, 2, 2, 4])
    assert to.procs.normalize.means["a"] == to.procs["normalize"].means["a"] == to.procs[Normalize].means["a"] == mean
    assert norm.means == made.procs[Normalize].means == to.means
    assert fill.na_dict == to.procs["fill_missing"].na_dict == to.procs[FillMissing].na_dict == to.na_dict == {"a": 2.0}
    assert list(to.procs["categorify"]["b"]) == list(to.procs.categorify.classes["b"]) == ["#na#", "x", "y", "z"]
    dls = to.dataloaders(8, device="cpu")
    assert dls.procs["normalize"].means == to.means
    assert dls.train.batch_size == dls.batch_size == 8


def same(item):
    return item


@pytest.mark.parametrize("stages", [{}, {"after_item": same}], ids=["rows as tensors", "item by item"])
def test_what_is_changed_in_the_items_of_a_loader_is_in_its_next_pass(stages):
    splits = (range(40), range(40, 60))
    dls = TabularPandas(people(60), PROCS, CATS, CONTS, "buys", splits=splits).dataloaders(bs=8, device="cpu", **stages)
    dl = dls.valid
    before = torch.cat([numbers for _, numbers, _ in dl])
    items = dl.items
    dl.items["age"] = dl.items["age"].to_numpy()[::-1].copy()
    items.loc[items.index[0], "income"] = 7.0
    batches = list(dl)
    codes, numbers = (torch.cat(column).numpy() for column in list(zip(*batches, strict=True))[:2])
    np.testing.assert_array_equal(codes, items[list(dl.cat_names)])
    np.testing.assert_array_equal(numbers, items[list(dl.cont_names)].to_numpy(np.float32))
    np.testing.assert_array_equal(numbers[:, 0], before[:, 0].flip(0))
    assert numbers[0, 1] == 7
