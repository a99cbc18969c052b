"""The same values in whatever form they come: dtypes, kinds of objects, indexes, containers."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from layered.data import CategoryMap
from layered.foundation import BadValue
from layered.tabular import Levels, numbers_of
from layered.tabular.all import Categorify, FillMissing, Normalize, TabularPandas, load_learner, tabular_learner
from layered.tabular.values import parse_number, plain_level

DAYS = [pd.Timestamp("2020-01-01"), pd.Timestamp("2021-05-06")]
NEAR_IDS = [9007199254740992, 9007199254740993]  # as floats they are the same number
ROWS = {  # per column: values that training had, one it did not have, none
    "text": ["a", "007", "b", "7", None],
    "whole": [1, 4, 2, 99, None],
    "part": [0.1, 3.0, 0.25, 0.3, None],
    "flag": [True, False, True, False, None],
    "day": [*DAYS, DAYS[0], pd.Timestamp("1999-01-01"), None],
    "id": [*NEAR_IDS, 5, 7, None],
    "size": [40.5, 41.25, 39.0, 12.0, None],
}
CODES = [  # worked out by hand: place among the sorted levels, behind '#na#'
    [2, 1, 1, 2, 1, 2],
    [1, 4, 3, 1, 2, 3],
    [3, 2, 2, 2, 1, 1],
    [0, 0, 0, 1, 0, 0],
    [0, 0, 0, 0, 0, 0],
]
SIZES = [40.5, 41.25, 39.0, 12.0, 40.0]


def plain():
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in ROWS.items()})


@pytest.fixture(scope="module")
def learn():
    df = pd.DataFrame(
        {
            "text": ["a", "007", "b", "a"],
            "whole": [1, 2, 3, 4],
            "part": [0.1, 0.25, 3.0, 0.1],
            "flag": [True, False, True, False],
            "day": [*DAYS, *DAYS],
            "id": [5, *NEAR_IDS, 5],
            "size": [39.0, 40.0, 40.0, 41.0],
            "y": ["no", "yes", "no", "yes"],
        }
    )
    cats = [name for name in ROWS if name != "size"]
    torch.manual_seed(0)
    return tabular_learner(TabularPandas(df, [Categorify, FillMissing], cats, "size", "y").dataloaders(2), [4])


def each(change):
    return lambda column: pd.Series([None if o is None else change(o) for o in column], dtype=object)


def as_dtype(kind):
    return lambda column: column.astype(kind)


FORMS = {
    "text": {
        "string": as_dtype("string"),
        "category": as_dtype("category"),
        "other categories": lambda c: pd.Series(pd.Categorical(c, ["z", "7", "b", "a", "007"])),
        "bytes": each(str.encode),
        "numpy": each(np.str_),
        "lists": each(lambda o: ["l"] if o == "7" else o),
        "arrays": each(np.array),
    },
    "whole": {
        "float": as_dtype(float),
        "nullable": as_dtype("Int64"),
        "text": each(str),
        "text of floats": each(lambda o: f" {o}.0 "),
        "decimal": each(Decimal),
        "huge": each(lambda o: 10**400 if o == 99 else o),
        "beyond what is printed": each(lambda o: 10**5000 if o == 99 else o),
        "beyond what is printed, decimal": each(lambda o: Decimal("1e99999999") if o == 99 else Decimal(o)),
        "tensors": lambda c: pd.Series([torch.tensor(np.nan if o is None else o) for o in c], dtype=object),
        "infinite": lambda c: c.astype(float).replace(99, np.inf),
        "sparse": lambda c: pd.Series(pd.arrays.SparseArray(c.astype(float))),
        "dicts": each(lambda o: {} if o == 99 else o),
    },
    "part": {
        "float32": as_dtype("float32"),
        "text": each(str),
        "decimal": each(lambda o: Decimal(str(o))),
        "nullable": as_dtype("Float64"),
    },
    "flag": {
        "nullable": as_dtype("boolean"),
        "number": as_dtype(float),
        "text": each(str),
        "lower case": each(lambda o: str(o).lower()),
        "digit": each(lambda o: str(int(o))),
    },
    "day": {
        "nanoseconds": as_dtype("datetime64[ns]"),
        "seconds": as_dtype("datetime64[s]"),
        "text": each(lambda o: str(o)[:10]),
        "text with midnight": each(str),
        "ISO text": each(pd.Timestamp.isoformat),
        "date": each(pd.Timestamp.date),
        "datetime": each(pd.Timestamp.to_pydatetime),
        "numpy": each(lambda o: np.datetime64(o.date())),
    },
    "id": {"nullable": as_dtype("Int64"), "text": each(str), "decimal": each(Decimal)},
    "size": {
        "nullable": as_dtype("Float64"),
        "text": each(str),
        "bytes": each(lambda o: str(o).encode()),
        "decimal": each(lambda o: Decimal(str(o))),
        "category": as_dtype("category"),
        "infinite": lambda c: c.astype(float).fillna(np.inf),
        "out of range": lambda c: c.astype(float).fillna(-1e300),
        "huge": lambda c: c.where(c.notna(), 10**400),
        "complex": lambda c: c.where(c.notna(), 1j),
        "lists": lambda c: pd.Series([[1] if o is None else o for o in c], dtype=object),
        "dates": lambda c: c.where(c.notna(), datetime.datetime(2020, 1, 1)),
        "empty text": lambda c: pd.Series(["" if o is None else str(o) for o in c], dtype=object),
        "underscores": lambda c: c.where(c.notna(), "1_0"),
        "tensors": each(torch.tensor),
        "arrays": each(np.array),
        "beyond what is printed": lambda c: c.where(c.notna(), 10**5000),
    },
}


def check(learn, frame):
    """Codes and numbers of the frame, and of each of its rows by itself, are those worked out by hand."""
    codes, numbers = learn.dls.test_dl(frame).dataset.tensors
    assert codes.tolist() == CODES
    assert numbers[:, 0].tolist() == SIZES
    for i in range(len(frame)):
        for form in (frame.iloc[i], frame.iloc[i].to_dict(), frame.iloc[[i]]):
            found = learn.predict(form, with_input=True)[0]
            assert (found[0].tolist(), found[1].tolist()) == ([codes[i].tolist()], [numbers[i].tolist()])


@pytest.mark.parametrize(("name", "form"), [(name, form) for name in FORMS for form in FORMS[name]])
def test_a_value_is_the_same_in_any_form(learn, name, form):
    frame = plain()
    frame[name] = FORMS[name][form](frame[name])
    before = frame.copy()
    check(learn, frame)
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    "index",
    [[5] * 5, [None] * 5, pd.MultiIndex.from_product([["q"], range(5)]), pd.date_range("2020", periods=5)],
    ids=["equal", "none", "several levels", "dates"],
)
def test_rows_may_be_called_whatever_they_like(learn, index):
    check(learn, plain().set_index(pd.Index(index)))


def test_columns_that_nobody_needs_may_be_anything(learn):
    frame = plain().assign(size_na="what", more=[[1]] * 5)
    frame[[17, ("t", 1)]] = None
    check(learn, pd.concat([frame, frame[["more", "more"]]], axis=1))
    with pytest.raises(BadValue, match="several columns named 'whole'"):
        learn.dls.test_dl(pd.concat([frame, frame[["whole"]]], axis=1))


def test_one_way_leads_from_any_container_to_a_frame(learn):
    columns = {name: values[:4] for name, values in ROWS.items()}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for table in (rows, columns, [pd.Series(row) for row in rows], {n: pd.Index(v) for n, v in columns.items()}):
        assert learn.dls.test_dl(table).dataset.tensors[0].tolist() == CODES[:4]


def test_tables_of_arrow_and_polars_are_frames_too(learn):
    pa = pytest.importorskip("pyarrow")
    columns = {name: values[:4] for name, values in ROWS.items()}  # Arrow makes floats of numbers with gaps
    table = pa.table(columns)
    polars = pytest.importorskip("polars")
    for form in (table, table.to_pandas(types_mapper=pd.ArrowDtype), polars.from_arrow(table)):
        assert learn.dls.test_dl(form).dataset.tensors[0].tolist() == CODES[:4]


def test_numbers_too_large_for_a_model_count_as_missing():
    column = [1e300, -np.inf, 10.0**31, 5.0]
    found = numbers_of(pd.DataFrame({"x": column}), ["x"])[:, 0]
    np.testing.assert_array_equal(found, [np.nan, np.nan, np.nan, 5.0])
    np.testing.assert_array_equal(found, [parse_number(o) for o in column])


@pytest.mark.parametrize(
    "value", ["1_000", " 2.5 ", "0x10", b"2.5", "1e3", "１２", "1e400", 10**400, 1j, [1], "-5.", ""]
)
def test_a_value_is_the_same_number_alone_and_in_a_column(value):
    frame = pd.DataFrame({"x": pd.Series([value, "1"], dtype=object)})
    np.testing.assert_array_equal(numbers_of(frame, ["x"])[0, 0], parse_number(value))


@pytest.mark.parametrize("trained", ["2020-01-01 00:00:00", "2020-01-01T00:00:00", pd.Timestamp("2020-01-01")])
def test_a_day_is_the_same_level_with_and_without_midnight(trained):
    levels = Levels(CategoryMap(map(plain_level, [trained, "2020-01-01 03:00:00"]), sort=False, add_na=True))
    midnight = ["2020-01-01", "2020-01-01 00:00:00", "2020-01-01T00:00:00", datetime.date(2020, 1, 1)]
    assert [levels.code(o) for o in midnight] == [1, 1, 1, 1]
    assert [levels.code(o) for o in ("2020-01-01T03:00:00", "2020-01-02", "x 00:00:00")] == [2, 0, 0]


def test_a_time_span_is_the_same_level_whoever_says_it():
    levels = Levels(CategoryMap([plain_level(pd.Timedelta(days=1))], add_na=True))
    spans = [datetime.timedelta(1), np.timedelta64(24, "h"), pd.Timedelta(hours=24), "1 days", "1 days 00:00:00"]
    assert [levels.code(o) for o in spans] == [1] * 5


def test_text_of_truth_values_is_one_and_zero_in_a_column_of_truth_values():
    df = pd.DataFrame({"b": [True, False, True, True], "y": [1.0, 2.0, 3.0, 4.0]})
    learn = tabular_learner(TabularPandas(df, Normalize, None, "b", "y").dataloaders(2), [4])
    wanted = (np.array([1, 0, 1, 0]) - df.b.mean()) / df.b.std(ddof=0)
    texts = pd.DataFrame({"b": ["True", "False", "true", " FALSE "]})
    assert_close(learn.dls.test_dl(texts).dataset.tensors[1][:, 0], torch.tensor(wanted, dtype=torch.float32))
    for text, number in zip(texts.b, wanted, strict=True):
        assert learn.predict({"b": text}, with_input=True)[0][1].item() == pytest.approx(number)


@pytest.mark.parametrize("form", [np.array, torch.tensor])
def test_a_row_may_hold_nothing_but_arrays_of_no_axes(form):
    df = pd.DataFrame({"k": [1, 2, 3, 1], "x": [1.0, 2.0, 3.0, 4.0], "y": list("abab")})
    learn = tabular_learner(TabularPandas(df, [Categorify, Normalize], "k", "x", "y").dataloaders(2), [4])
    row = {"k": form(2), "x": form(3.0)}
    wanted = learn.predict({"k": 2, "x": 3.0}, with_input=True)[0]
    assert_close(learn.predict(row, with_input=True)[0], wanted)
    assert_close(learn.dls.test_dl(row).dataset.tensors, wanted)


def test_a_level_of_more_digits_than_are_printed_is_trained_and_exported(tmp_path):
    df = pd.DataFrame({"k": pd.Series([10**5000, 1] * 4, dtype=object), "x": range(8), "y": list("ab") * 4})
    learn = tabular_learner(
        TabularPandas(df, [Categorify, Normalize], "k", "x", "y").dataloaders(2), [4], path=tmp_path
    )
    learn.export()
    loaded = load_learner(tmp_path / "export.layered")
    assert [loaded.predict({"k": k, "x": 0}, with_input=True)[0][0].item() for k in (1, 10**5000, 10**6000)] == [
        1,
        2,
        0,
    ]
    with pytest.raises(BadValue, match="'k' contains non-numeric values"):
        TabularPandas(df, Normalize, None, "k", "y")


def test_a_text_is_no_other_text_that_says_the_same_number():
    levels = Levels(CategoryMap(["007", "7", "8.0"], sort=False, add_na=True))
    assert [levels.code(o) for o in ("7", "007", "07", 7, 7.0, 8, "8")] == [2, 1, 0, 2, 2, 3, 0]
    assert Levels(CategoryMap(["007"], add_na=True)).code(7) == 1
    assert Levels(CategoryMap([np.inf, 1.0], sort=False, add_na=True)).code("x") == 0


@pytest.mark.parametrize("names", [[0, 1, 2], [("a", 1), ("b", 2), 3.5]])
def test_columns_may_have_names_that_are_no_texts(names, shown):
    df = pd.DataFrame(
        {"k": ["a", "b", "a", "b"], "x": [1.0, 2.0, np.nan, 4.0], "y": ["no", "yes", "no", "yes"]}, dtype=object
    )
    df.columns = pd.Index(names, tupleize_cols=False)
    to = TabularPandas(df, [Categorify, FillMissing, Normalize], [names[0]], [names[1]], [names[2]])
    learn = tabular_learner(to.dataloaders(2), [4])
    assert_close(learn.predict(df.iloc[0])[2], learn.get_preds(dl=learn.dls.test_dl(df))[0][0])
    learn.dls.show_batch()
    assert shown[0].shape == (2, 4)
