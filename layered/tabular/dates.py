"""Dates as columns that models can use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from layered.foundation import Array, BadValue, lazy
from layered.tabular.columns import check_columns, listed

if TYPE_CHECKING:
    from pandas import DataFrame, Series

pd = lazy("pandas")

PARTS = ("Year", "Month", "Week", "Day", "Dayofweek", "Dayofyear", "Is_month_end", "Is_month_start", "Is_quarter_end",
         "Is_quarter_start", "Is_year_end", "Is_year_start")  # fmt: skip
TIMES = ("Hour", "Minute", "Second")


def make_date(df: DataFrame, date_field: str) -> None:
    """Make the column `date_field` one of dates, if it is not yet; in place.

    Raises:
        BadValue: For text that is not a date.
    """
    check_columns(df, [date_field], "which is to be made a date")
    if df[date_field].dtype.kind != "M":
        try:
            df[date_field] = pd.to_datetime(df[date_field])
        except (ValueError, TypeError, OverflowError) as error:
            raise BadValue(
                f"the column {date_field!r} cannot be read as dates", got=error, fix="pd.to_datetime(..., format=...)"
            ) from error


def add_datepart(
    df: DataFrame, field_name: str, prefix: str | None = None, drop: bool = True, time: bool = False
) -> DataFrame:
    """Add columns with the parts of a date: `Year`, `Month`, …, `Elapsed` (seconds since 1970, UTC); in place, and returned.

    A missing date gives NaN, and False for the `Is_…` columns.

    Args:
        prefix: Precedes their names; the field's name without a trailing "date" by default.
        drop: Remove the date itself.
        time: Hour, minute and second too.

    Examples:
        >>> df = add_datepart(pd.DataFrame({"saledate": ["2011-11-16"]}), "saledate")
        >>> df.saleYear.item(), df.saleDayofweek.item(), df.saleElapsed.item()
        (2011, 2, 1321401600.0)
    """
    make_date(df, field_name)
    date = df[field_name]
    prefix = re.sub("[Dd]ate$", "", str(field_name)) if prefix is None else prefix
    week = date.dt.isocalendar().week.astype("float64" if date.isna().any() else "int64")
    for part in (*PARTS, *(TIMES if time else ())):
        attribute = {"Dayofweek": "day_of_week", "Dayofyear": "day_of_year"}.get(part, part.lower())
        df[prefix + part] = week if part == "Week" else getattr(date.dt, attribute)
    df[prefix + "Elapsed"] = seconds(date)
    if drop:
        df.pop(field_name)
    return df


def seconds(date: Series) -> Array:
    """Seconds since 1970 (UTC), whatever the resolution of the dates; NaN for missing ones: float64."""
    utc = date.dt.tz_convert("UTC").dt.tz_localize(None) if date.dt.tz is not None else date
    moments = utc.to_numpy()
    whole = moments.astype("datetime64[us]").astype(np.int64)
    return np.where(np.isnat(moments), np.nan, whole / 1e6)


def add_elapsed_times(df: DataFrame, field_names: Sequence[str] | str, date_field: str, base_field: str) -> DataFrame:
    """The table with, for each event, the days since it last happened and until it happens next, and how often lately.

    Args:
        field_names: Columns that say whether an event happened on that row's date.
        date_field: The column of dates.
        base_field: Whose events: they are counted for each of its values by itself.

    Returns:
        A copy with all `After<event>` (days since, ≥ 0), then all `Before<event>` (days until, ≤ 0), both 0 where
            there is none, then `<event>_bw` (how often in the 7 rows up to this one, by date) and `<event>_fw` (in
            the 7 rows from it on).

    Examples:
        >>> df = pd.DataFrame({"date": ["2024-01-01", "2024-01-03", "2024-01-04"], "promo": [True, False, True], "shop": 1})
        >>> res = add_elapsed_times(df, ["promo"], "date", "shop")
        >>> res.Afterpromo.tolist(), res.Beforepromo.tolist(), res.promo_bw.tolist()
        ([0, 2, 0], [0, -1, 0], [1.0, 1.0, 2.0])
    """
    names = listed(field_names)
    check_columns(df, [*names, date_field, base_field], "which the times are counted by")
    res = df.copy()
    make_date(res, date_field)
    order = res.reset_index(drop=True).sort_values([base_field, date_field], kind="stable").index.to_numpy()
    rows = res.iloc[order].reset_index(drop=True)
    base = pd.factorize(rows[base_field])[0]
    base = np.where(base < 0, base.max(initial=-1) + 1, base)  # rows of no base at the end, together
    after, before = {}, {}
    for name in names:
        event = rows[date_field].where(rows[name].eq(True).fillna(False).astype(bool))
        since = (rows[date_field] - event.groupby(base).ffill()).dt.days
        until = (rows[date_field] - event.groupby(base).bfill()).dt.days
        after["After" + name] = _back(since.fillna(0).astype("int64"), order)
        before["Before" + name] = _back(until.fillna(0).astype("int64"), order)
    for column, values in {**after, **before}.items():
        res[column] = values
    for suffix, step in (("_bw", 1), ("_fw", -1)):
        for name in names:
            counts = rows[name].eq(True).fillna(False).astype("float64")[::step].reset_index(drop=True)
            lately = counts.groupby(step * base[::step]).rolling(7, min_periods=1).sum()
            res[name + suffix] = _back(lately[::step], order)
    return res


def _back(values: Series, order: Array) -> Array:
    """Values of rows that were sorted, in the order that the rows had before."""
    stored = values.to_numpy()
    res = np.empty(len(order), dtype=stored.dtype)
    res[order] = stored
    return res
