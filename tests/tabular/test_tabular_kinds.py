"""What the columns of a table are, whatever they are stored in."""

import datetime
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from layered.collab.all import CollabDataLoaders, collab_learner, hit_rate, leave_one_out
from layered.foundation import BadArgument, BadValue, UnknownLabel
from layered.tabular.all import (
    Categorify,
    FillMissing,
    Normalize,
    RegressionBlock,
    TabularDataLoaders,
    TabularPandas,
    add_elapsed_times,
    cont_cat_split,
    df_shrink_dtypes,
)

ROWS = 60
DAYS = [datetime.date(2020, 1, 1) + datetime.timedelta(i) for i in range(ROWS)]
KINDS = {
    "continuous": {
        "decimals": [Decimal(i) / 4 for i in range(ROWS)],
        "decimals with gaps": [None, *[Decimal(i) / 4 for i in range(1, ROWS)]],
        "decimals and floats": [Decimal(i) / 4 if i % 2 else i / 4 for i in range(ROWS)],
        "floats as objects": pd.Series(np.arange(ROWS) / 4, dtype=object),
        "whole numbers as objects": pd.Series(range(ROWS), dtype=object),
        "nullable floats": pd.Series([None, *range(1, ROWS)], dtype="Float64"),
        1: np.arange(ROWS) / 7,
        "1": np.arange(ROWS) / 9,
    },
    "categorical": {
        "truth values": [True, False] * (ROWS // 2),
        "nullable truth values": pd.Series([True, None] * (ROWS // 2), dtype="boolean"),
        "truth values as objects": [True, None] * (ROWS // 2),
        "few whole numbers": [1, 2] * (ROWS // 2),
        "identifiers": [f"{i:05d}" for i in range(ROWS)],
        "words": ["a", "b"] * (ROWS // 2),
        "few texts of numbers": ["1.5", "2.5"] * (ROWS // 2),
    },
    "neither": {
        "dates": DAYS,
        "moments": pd.to_datetime(DAYS),
        "periods": pd.period_range("2020", periods=ROWS, freq="D"),
        "spans": pd.to_timedelta(range(ROWS), unit="D"),
    },
}


def test_columns_are_sorted_by_what_they_hold():
    frame = pd.DataFrame({name: values for group in KINDS.values() for name, values in group.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cont, cat = cont_cat_split(frame)
    assert [list(cont), list(cat)] == [list(KINDS["continuous"]), list(KINDS["categorical"])]


def test_texts_that_look_like_numbers_or_dates_are_named_with_a_fix_that_works():
    texts = {"price": [f"{i / 4:.2f}".replace(".", ",") for i in range(ROWS)], "day": list(map(str, DAYS))}
    with pytest.warns(UserWarning, match="'price' holds texts of numbers: .*decimal=','; 'day' holds texts of dates"):
        cont, cat = cont_cat_split(pd.DataFrame(texts))
    assert [list(cont), list(cat)] == [[], ["price", "day"]]


def test_an_index_that_was_saved_with_the_table_is_no_input(tmp_path):
    df = pd.DataFrame({"x": np.arange(ROWS) / 7, "y": np.arange(ROWS) / 3})
    df.to_csv(tmp_path / "t.csv")
    with pytest.warns(UserWarning, match="'Unnamed: 0' is left out"):
        dls = TabularDataLoaders.from_csv(tmp_path / "t.csv", y_names="y", bs=8)
    assert list(dls.cont_names) == ["x"]
    ratings = pd.DataFrame({"user": [1, 1, 2, 2], "item": [1, 2, 1, 2], "rating": [1, 2, 3, 4]})
    ratings.to_csv(tmp_path / "r.csv")
    assert list(CollabDataLoaders.from_csv(tmp_path / "r.csv", bs=2, seed=0).cat_names) == ["user", "item"]


@pytest.mark.parametrize("name", [name for name in KINDS["continuous"] if name != "decimals with gaps"])
def test_targets_that_are_numbers_in_any_dtype_are_a_regression(name):
    target = KINDS["continuous"][name]
    df = pd.DataFrame({"x": np.arange(ROWS) / 7, "y": target})
    if name == "nullable floats":
        df = df[1:]
    to = TabularPandas(df, [Normalize], None, "x", "y", splits=(range(40), range(40, len(df))))
    assert to.target_kinds == ["regression"]
    np.testing.assert_allclose(to.items.y.to_numpy(), np.asarray(df.y.tolist(), dtype=np.float32))


def test_texts_of_numbers_for_a_target_lead_to_a_regression():
    df = pd.DataFrame({"x": np.arange(ROWS) / 7, "y": [f"{i / 4:.2f}" for i in range(ROWS)]})
    splits = (range(40), range(40, ROWS))
    with (
        pytest.warns(UserWarning, match="taken as classes, but 'y' holds texts of numbers"),
        pytest.raises(UnknownLabel) as error,
    ):
        TabularPandas(df, [Normalize], None, "x", "y", splits=splits)
    assert error.value.fix.startswith("to predict numbers, y_block=RegressionBlock(); for classes, split so")
    df["y"] = df.y.str.replace(".", ",")
    with pytest.warns(UserWarning, match="holds texts"), pytest.raises(UnknownLabel) as error:
        TabularPandas(df, [Normalize], None, "x", "y", splits=splits)
    assert "decimal=','" in error.value.fix


def test_names_that_are_equal_as_text_stay_apart_or_are_refused():
    df = pd.DataFrame({1: [1.0, None, 3.0], "1": [None, 2.0, 5.0], "y": [1.0, 2.0, 3.0]})
    to = TabularPandas(df, [FillMissing(add_col=False), Normalize], None, [1, "1"], "y")
    assert to.means == {1: pytest.approx(2), "1": pytest.approx(3.5)}
    with pytest.raises(BadValue, match="two columns '1_na'"):
        TabularPandas(df, FillMissing, None, [1, "1"], "y")
    events = pd.DataFrame({"day": ["2020-01-01", "2020-01-03"], 0: [True, False], "0": [True, True], "shop": 1})
    assert add_elapsed_times(events, [0], "day", "shop").After0.tolist() == [0, 2]
    with pytest.raises(BadValue, match="columns of the same name"):
        add_elapsed_times(events, [0, "0"], "day", "shop")


def test_ratings_without_a_header_are_recommended_under_their_numbers():
    draw = np.random.default_rng(0)
    ratings = pd.DataFrame({0: draw.integers(100, 120, 400), 1: draw.integers(0, 30, 400), 2: draw.integers(1, 6, 400)})
    learn = collab_learner(CollabDataLoaders.from_df(ratings, bs=64, seed=0), n_factors=4)
    found = learn.recommend([100, 101], n=3)
    assert list(found.columns) == [0, "rank", 1, "score"]
    assert 0 <= hit_rate(found, ratings.head(50)) <= 1


def test_instances_of_procs_have_what_they_learnt_of_their_first_table():
    df = pd.DataFrame({"city": list("aabb"), "x": [1.0, None, 3.0, 4.0], "y": [0.0, 1, 2, 3]})
    norm, fill, cat = Normalize(), FillMissing(), Categorify()
    to = TabularPandas(df, [norm, fill, cat], "city", "x", "y")
    assert norm.means == to.means == to.procs.normalize.means
    assert norm.stds == to.stds
    assert fill.na_dict == {"x": 3.0}
    assert cat.classes["city"] == ["#na#", "a", "b"]
    assert [type(step) for step in (to.procs[0], to.procs[1], to.procs[2])] == [FillMissing, Categorify, Normalize]
    before = dict(norm.means)
    again = TabularPandas(df.assign(x=9.5), list(to.procs), "city", "x", "y", do_setup=False)
    with pytest.warns(UserWarning, match="nothing can be learned"):
        again.setup()
    assert to.means == before
    assert again.means == {"x": 9.5}


def test_a_file_of_another_country_takes_the_options_of_pandas(tmp_path):
    lines = [f"{'Bonn' if i % 2 else 'Köln'};{i},5;{'j' if i % 3 else 'n'}" for i in range(ROWS)]
    (tmp_path / "eu.csv").write_text("\n".join(["stadt;preis;y", *lines]), encoding="latin-1")
    options = {"y_names": "y", "bs": 8, "encoding": "latin-1"}
    dls = TabularDataLoaders.from_csv(tmp_path / "eu.csv", decimal=",", **options)
    assert (list(dls.cont_names), dls.classes["stadt"]) == (["preis"], ["#na#", "Bonn", "Köln"])
    with pytest.warns(UserWarning, match="decimal=','"):
        TabularDataLoaders.from_csv(tmp_path / "eu.csv", sep=";", **options)
    with pytest.raises(BadArgument, match="decimal"):
        TabularDataLoaders.from_csv(tmp_path / "eu.csv", decimals=",", **options)
    (tmp_path / "r.csv").write_text("\n".join(f"{i % 5}::{i % 7}::{i % 3}" for i in range(ROWS)))
    ratings = CollabDataLoaders.from_csv(tmp_path / "r.csv", sep="::", header=None, engine="python", bs=8, seed=0)
    assert list(ratings.cat_names) == [0, 1]


def test_a_regression_of_texts_reads_them_or_says_how():
    df = pd.DataFrame({"x": np.arange(ROWS) / 7, "y": [f"{i / 4:.2f}" for i in range(ROWS)]})
    to = TabularPandas(df, [Normalize], None, "x", "y", RegressionBlock())
    np.testing.assert_allclose(to.items.y, np.arange(ROWS) / 4)
    with pytest.raises(BadValue, match="'y' contains non-numeric values, in 60 of 60 cells") as error:
        TabularPandas(df.assign(y=df.y.str.replace(".", ",")), [Normalize], None, "x", "y", RegressionBlock())
    assert "decimal=','" in error.value.fix


def test_smaller_dtypes_leave_numbers_and_dates_what_they_are():
    df = pd.DataFrame(
        {"price": [Decimal(1), Decimal("2.5")], "day": DAYS[:2], "city": ["a", "b"], "is_open": [True, None]}
    )
    assert df_shrink_dtypes(df) == {"price": np.float32, "city": "category", "is_open": "category"}


def test_the_last_rating_is_found_by_anything_that_has_an_order():
    ratings = pd.DataFrame({"user": [1, 1, 2, 2], "item": [1, 2, 1, 2], "rating": [1, 2, 3, 4]})
    for when in (DAYS[:4], [Decimal(i) for i in range(4)], pd.period_range("2020", periods=4, freq="D")):
        assert leave_one_out(ratings.assign(when=when), by="when")[1].tolist() == [1, 3]
    with pytest.raises(BadValue, match="cannot be ordered") as error:
        leave_one_out(ratings.assign(when=list(map(str, DAYS[:4]))), by="when")
    assert "pd.to_datetime(df['when'])" in error.value.fix


def test_identifiers_with_leading_zeros_stay_themselves():
    df = pd.DataFrame({"id": ["00042", "42", "00007"] * 4, "y": np.arange(12.0)})
    to = TabularPandas(df, Categorify, "id", None, "y")
    codes = {value: int(to.test_set({"id": value}).tensors[0][0, 0]) for value in ("00042", "42", 42, "00007", 7, "7")}
    vocab = to.classes["id"]
    assert [vocab[code] for code in codes.values()] == ["00042", "42", "42", "00007", "00007", "#na#"]
