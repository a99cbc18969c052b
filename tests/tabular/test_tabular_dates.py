"""Dates as columns: every part against Python's own calendar, whatever the resolution."""

import calendar
import datetime as dt
from decimal import Decimal

import pandas as pd
import pytest

from layered.foundation import BadValue
from layered.tabular import add_datepart, add_elapsed_times, make_date

DAYS = ["2020-02-29", "2021-01-01", "2019-12-31", "2011-11-16", "2024-03-31", "2023-10-01"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parts_of_a_date_agree_with_the_calendar_at_every_resolution(unit):
    df = add_datepart(pd.DataFrame({"saledate": pd.to_datetime(DAYS).astype(f"datetime64[{unit}]")}), "saledate")
    for i, day in enumerate(map(dt.date.fromisoformat, DAYS)):
        row, (_, week, _), last = df.iloc[i], day.isocalendar(), calendar.monthrange(day.year, day.month)[1]
        assert (row.saleYear, row.saleMonth, row.saleDay, row.saleWeek) == (day.year, day.month, day.day, week)
        assert (row.saleDayofweek, row.saleDayofyear) == (day.weekday(), day.timetuple().tm_yday)
        assert (row.saleIs_month_start, row.saleIs_month_end) == (day.day == 1, day.day == last)
        assert (row.saleIs_quarter_start, row.saleIs_year_end) == (
            day.day == 1 and day.month % 3 == 1,
            (day.month, day.day) == (12, 31),
        )
        assert row.saleElapsed == calendar.timegm(day.timetuple())
    assert "saledate" not in df


def test_names_of_parts_prefix_time_and_the_date_itself():
    df = add_datepart(pd.DataFrame({"when": ["2011-11-16 07:08:09"]}), "when", prefix="w_", drop=False, time=True)
    assert list(df.columns) == [
        "when", "w_Year", "w_Month", "w_Week", "w_Day", "w_Dayofweek", "w_Dayofyear", "w_Is_month_end", "w_Is_month_start",
        "w_Is_quarter_end", "w_Is_quarter_start", "w_Is_year_end", "w_Is_year_start", "w_Hour", "w_Minute", "w_Second",
        "w_Elapsed",
    ]  # fmt: skip
    assert df[["w_Hour", "w_Minute", "w_Second"]].iloc[0].tolist() == [7, 8, 9]


def test_a_missing_date_has_missing_parts_and_a_zone_counts_in_elapsed_seconds():
    df = add_datepart(pd.DataFrame({"d": ["2011-11-16", None]}), "d")
    assert df.dYear.isna().tolist() == df.dWeek.isna().tolist() == df.dElapsed.isna().tolist() == [False, True]
    assert not df.dIs_year_end[1]
    zoned = add_datepart(pd.DataFrame({"d": pd.to_datetime(["2011-11-16"]).tz_localize("Asia/Tokyo")}), "d")
    assert zoned.dElapsed[0] == 1321401600 - 9 * 3600


def test_what_is_no_date_is_named_and_so_is_a_column_that_is_not_there():
    with pytest.raises(BadValue, match="'d' cannot be read as dates"):
        make_date(pd.DataFrame({"d": ["soon"]}), "d")
    with pytest.raises(BadValue, match="no column 'when'"):
        add_datepart(pd.DataFrame({"d": ["2020-01-01"]}), "when")


def test_elapsed_times_count_days_for_each_base_and_keep_the_rows_in_their_order():
    days = ["2019-12-04", "2019-11-29", "2019-11-15", "2019-10-24", "2019-10-30"]
    df = pd.DataFrame(
        {"date": days, "event": [False, True, False, True, False], "base": [1, 1, 2, 2, 2]}, index=list("abcde")
    )
    before = df.copy()
    res = add_elapsed_times(df, ["event"], "date", "base")
    pd.testing.assert_frame_equal(df, before)
    assert list(res.index) == list("abcde")
    assert res.Afterevent.tolist() == [5, 0, 22, 0, 6]
    assert res.Beforeevent.tolist() == [0, 0, 0, 0, 0]
    assert res.event_bw.tolist() == [1, 1, 1, 1, 1]
    assert res.event_fw.tolist() == [0, 1, 0, 1, 0]


def test_elapsed_times_stand_in_the_order_in_which_they_are_known():
    df = pd.DataFrame({"date": ["2024-01-01"], "a": [True], "b": [False], "shop": "x"})
    res = add_elapsed_times(df, pd.Index(["a", "b"]), "date", "shop")
    assert list(res)[4:] == ["Aftera", "Afterb", "Beforea", "Beforeb", "a_bw", "b_bw", "a_fw", "b_fw"]


def test_days_until_the_next_event_are_negative():
    df = pd.DataFrame(
        {"date": pd.date_range("2024-01-01", periods=10), "sale": [i == 8 for i in range(10)], "shop": "x"}
    )
    res = add_elapsed_times(df, "sale", "date", "shop")
    assert res.Beforesale.tolist() == [*range(-8, 1), 0]
    assert res.sale_fw.tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 1, 0]


NUMBERS = {
    "day": ([20240131, 20230201], ["2024-01-31", "2023-02-01"]),
    "day with a gap": ([20240131.0, None], ["2024-01-31", None]),
    "day as decimals": ([Decimal(20240131)], ["2024-01-31"]),
    "year": ([2019, 2024], ["2019-01-01", "2024-01-01"]),
    "month": ([202401, 202312], ["2024-01-01", "2023-12-01"]),
    "spreadsheet": ([45000, 45001], ["2023-03-15", "2023-03-16"]),
    "spreadsheet as text": (["45000"], ["2023-03-15"]),
    "seconds": ([1706659200], ["2024-01-31"]),
    "seconds as text": (["1706659200"], ["2024-01-31"]),
    "milliseconds": ([1706659200000], ["2024-01-31"]),
    "microseconds": ([1706659200000000], ["2024-01-31"]),
    "nanoseconds": ([1706659200000000000], ["2024-01-31"]),
    "to the second": ([20240131000000], ["2024-01-31"]),
    "offsets": (["2024-01-31T01:00+01:00", "2024-06-01T02:00+02:00"], ["2024-01-31", "2024-06-01"]),
    "day first": (["01/02/2024", "13/02/2024"], ["2024-02-01", "2024-02-13"]),
    "with junk": (["2024-01-31", "unknown"], ["2024-01-31", None]),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_what_may_be_dates_in_several_ways_is_refused_with_the_line_that_reads_it(case):
    values, wanted = NUMBERS[case]
    df = pd.DataFrame({"d": values})
    with pytest.raises(BadValue, match="'d' cannot be read as dates") as error:
        make_date(df, "d")
    exec(error.value.fix, {"pd": pd, "df": df})
    make_date(df, "d")
    found = df.d.dt.tz_localize(None) if df.d.dt.tz is not None else df.d
    assert found.tolist() == pd.to_datetime(pd.Series(wanted)).tolist()


@pytest.mark.parametrize("value", ["10:30", "10:30:15", "5 pm", "now", "today", "March", dt.time(10, 30), True, 7])
def test_what_is_no_date_never_becomes_one(value):
    with pytest.raises(BadValue, match="cannot be read as dates"):
        add_datepart(pd.DataFrame({"d": pd.Series([value, None], dtype=object)}), "d")


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([dt.date(2024, 1, 31), None], dtype=object),
        pd.Series(pd.PeriodIndex(["2024-01-31", None], freq="D")),
        pd.Series(pd.PeriodIndex(["2024-01-31", None], freq="D"), dtype=object),
        pd.Series(["20240131", None]),
        pd.Series(["2024-01-31", None], dtype="category"),
        pd.Series([pd.Timestamp("2024-01-31", tz="Asia/Tokyo"), None]),
    ],
)
def test_dates_of_any_type_are_read(values):
    df = add_datepart(pd.DataFrame({"d": values}), "d")
    assert df[["dYear", "dMonth", "dDay"]].iloc[0].tolist() == [2024, 1, 31]
    assert df.iloc[1][["dYear", "dElapsed"]].isna().all()


@pytest.mark.parametrize(
    ("kind", "hours"),
    [("date32[day]", 0), ("date64[ms]", 0), ("timestamp[ms]", 3), ("timestamp[us, tz=Europe/Berlin]", 3)],
)
@pytest.mark.parametrize("as_arrow", [True, False], ids=["kept", "converted"])
def test_dates_of_arrow_are_read(kind, hours, as_arrow):
    pa = pytest.importorskip("pyarrow")
    moments = [dt.datetime(2020, 1, 1, hours), dt.datetime(2024, 2, 29, hours)]
    kinds = [pa.date32(), pa.date64(), pa.timestamp("ms"), pa.timestamp("us", tz="Europe/Berlin")]
    (arrow,) = [one for one in kinds if str(one) == kind]
    table = pa.table({"day": pa.array([*moments, None], arrow)})
    df = table.to_pandas(types_mapper=pd.ArrowDtype) if as_arrow else table.to_pandas()
    made = add_datepart(df, "day", time=True)
    assert made.dayYear.tolist()[:2] == [2020, 2024]
    assert made.dayIs_month_end.tolist() == [False, True, False]
    assert made.dayHour.tolist()[:2] == [hours + ("tz" in kind)] * 2
    utc = [moment.replace(tzinfo=dt.UTC).timestamp() for moment in moments]
    assert made.dayElapsed.tolist()[:2] == utc
    assert made.dayElapsed.isna().tolist() == [False, False, True]
