"""Cells of new rows that mean nothing: said once, with the fix that works, or refused."""

import warnings

import numpy as np
import pandas as pd
import pytest

from layered.foundation import BadValue
from layered.tabular.all import Categorify, FillMissing, Normalize, TabularPandas, tabular_learner
from layered.tabular.values import number_fix

ROWS = 60


@pytest.fixture(scope="module")
def learned():
    draw = np.random.default_rng(0)
    df = pd.DataFrame({"city": draw.choice(["a", "b"], ROWS), "x": draw.normal(size=ROWS).round(2)}).assign(
        y=lambda d: d.x
    )
    to = TabularPandas(
        df, [Categorify, FillMissing, Normalize], ["city"], ["x"], "y", splits=(range(50), range(50, ROWS))
    )
    return df.drop(columns="y"), tabular_learner(to.dataloaders(16, device="cpu"), [4])


WAYS = {
    "decimal commas": lambda x: f"{x:.2f}".replace(".", ","),
    "percents": lambda x: f"{x:.1f}%",
    "thousands": lambda x: f"{abs(x) * 1e5 + 1e4:,.0f}",
    "dates": lambda x: pd.Timestamp("2020-01-01"),
    "texts of dates": lambda x: "2020-01-01",
    "words": lambda x: "abc",
}


@pytest.mark.parametrize("way", WAYS)
def test_numbers_in_another_form_are_said_or_refused(learned, way):
    df, learn = learned
    rows = df.assign(x=df.x.map(WAYS[way]))
    with pytest.warns(UserWarning, match=f"'x' has {ROWS} of {ROWS} cells that cannot be read as numbers") as heard:
        learn.dls.test_dl(rows)
    assert len(heard) == 1
    with pytest.raises(BadValue, match="cannot be read as numbers"):
        learn.dls.test_dl(rows, strict=True)
    with pytest.warns(UserWarning, match="'x' has a value that cannot be read"):
        learn.predict(rows.iloc[0])
    with pytest.raises(BadValue, match="'x'"):
        learn.predict(rows.iloc[0], strict=True)
    with pytest.raises(BadValue, match="'x'"):
        learn.dls.train_ds.new(rows).process(strict=True)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e31, -1e300, "inf", "1e400", np.float32("inf")])
def test_numbers_that_are_too_large_are_said_or_refused(learned, value):
    df, learn = learned
    rows = df.assign(x=df.x.astype(object).mask(df.index < 3, value))
    rows = rows if isinstance(value, str) else rows.astype({"x": float})
    with pytest.warns(UserWarning, match=rf"'x' has 3 of {ROWS} cells that are infinite or beyond 1e\+30") as heard:
        dl = learn.dls.test_dl(rows)
    assert len(heard) == 1
    assert "counted as missing" in str(heard[0].message)
    gaps = learn.dls.test_dl(df.assign(x=df.x.mask(df.index < 3)))
    assert dl.dataset.tensors[1].equal(gaps.dataset.tensors[1])
    with pytest.raises(BadValue, match="infinite or beyond") as caught:
        learn.dls.test_dl(rows, strict=True)
    if not isinstance(value, str):
        exec(caught.value.fix.removesuffix(" makes them missing"), {"df": rows, "pd": pd})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            learn.dls.test_dl(rows, strict=True)
    one = {"city": "a", "x": value}
    with pytest.warns(UserWarning, match="'x' has a value that is infinite or beyond"):
        learn.predict(one)
    with pytest.raises(BadValue, match="infinite or beyond"):
        learn.predict(one, strict=True)


@pytest.mark.parametrize(("first", "where"), [(0, "training"), (55, "validation")])
def test_too_large_numbers_of_the_table_itself_are_said_once(first, where):
    x = np.arange(ROWS, dtype=float)
    x[first : first + 2] = np.inf, 1e40
    df = pd.DataFrame({"x": x, "y": x})[["x"]].assign(y=range(ROWS))
    splits = (range(50), range(50, ROWS))
    with pytest.warns(UserWarning, match="infinite or beyond") as heard:
        to = TabularPandas(df, [FillMissing, Normalize], None, "x", "y", splits=splits)
    assert [str(w.message).splitlines()[0] for w in heard] == [
        f"in the {where} rows, 'x' has 2 of {len(splits[where == 'validation'])} cells that are infinite or beyond 1e+30: "
        "counted as missing"
    ]
    assert np.isfinite(to.tensors[1].numpy()).all()


def test_text_and_too_large_numbers_of_a_column_are_told_apart(learned):
    df, learn = learned
    rows = df.assign(x=["abc", np.inf, None, *df.x[3:]])
    with pytest.warns(UserWarning, match="counted as missing") as heard:
        learn.dls.test_dl(rows)
    text = str(heard[0].message)
    assert f"'x' has 1 of {ROWS - 1} cells that cannot be read as numbers" in text
    assert f"'x' has 1 of {ROWS - 1} cells that are infinite" in text


def test_a_column_without_any_level_of_training_is_said_and_new_levels_are_refused_on_request(learned):
    df, learn = learned
    with pytest.warns(UserWarning, match=f"'city' has {ROWS} of {ROWS} cells that did not occur in training"):
        learn.dls.test_dl(df.assign(city="z"))
    one = df.assign(city=["z", *df.city[1:]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learn.dls.test_dl(one)
        learn.dls.test_dl(df, strict=True)
        learn.dls.test_dl(df.assign(x=None, city=None), strict=True)  # missing is not unreadable
        learn.predict({"city": "z", "x": None})
    for refused in (lambda: learn.dls.test_dl(one, strict=True), lambda: learn.predict(one.iloc[0], strict=True)):
        with pytest.raises(BadValue, match="'city'") as error:
            refused()
        assert "'z'" in str(error.value)


def test_validation_rows_are_read_as_strictly_as_new_ones():
    df = pd.DataFrame({"x": ["1", "2", "3", "4,5"], "y": [0.0, 1, 2, 3]})
    with pytest.warns(UserWarning, match=r"in the validation rows, 'x' has a value.*\n.*'4,5'"):
        TabularPandas(df, [FillMissing], None, "x", "y", splits=([0, 1, 2], [3]))
    with pytest.raises(BadValue, match="in 1 of 3 cells") as error:
        TabularPandas(df, [FillMissing], None, "x", "y", splits=([0, 1, 3], [2]))
    assert ".str.replace(',', '.')" in str(error.value)


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["0,92", "1,5"], [0.92, 1.5]),
        (["0,503"], [0.503]),
        (["12%", "3.5 %"], [12, 3.5]),
        (["1,234", "-2,345,678.5"], [1234, -2345678.5]),
        (["1.234,56 €", "12,00 €"], [1234.56, 12]),
        (["$1,234.50"], [1234.5]),
        (["1 234,5", "2\u00a0345"], [1234.5, 2345]),
        (["0,92", "n/a"], [0.92, np.nan]),
    ],
)
def test_the_fix_that_is_shown_reads_the_numbers(texts, numbers):
    df = pd.DataFrame({"my x": pd.Series([*texts, None], dtype=object)})
    fix = number_fix("my x", texts)
    exec(fix.partition(", and")[0].partition(", or")[0].partition("; ")[0], {"pd": pd, "df": df})
    np.testing.assert_array_equal(df["my x"].to_numpy(float, na_value=np.nan), [*numbers, np.nan])


def test_the_fix_says_where_a_comma_may_be_either():
    assert "where it is a decimal comma" in number_fix("x", ["1,234"])
    assert [number_fix("x", texts) for texts in (["abc"], ["12 kg"], ["", None])] == [None] * 3
