"""Features made of dates: their parts, and the time since and until events."""

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
    """Convert a column to dates in place, unless it holds dates already.

    Args:
        df: The table.
        date_field: The column: dates, or anything that `pandas.to_datetime` reads.

    Raises:
        BadValue: If there is no such column, or it holds a value that cannot be read as a date.
    """
    check_columns(df, [date_field], "which is to be converted to dates")
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
    """Add columns with the parts of a date: `Year`, `Month`, …, `Elapsed` (seconds since 1970, UTC).

    A missing date gives NaN, and False in the `Is_…` columns.

    Args:
        df: The table, which is changed in place.
        field_name: The column of dates, in any form that `make_date` reads.
        prefix: What the names of the new columns begin with; `field_name` without a trailing "date" by default.
        drop: Whether to remove the column of dates.
        time: Whether to add `Hour`, `Minute` and `Second` too.

    Returns:
        `df` itself.

    Raises:
        BadValue: If there is no such column, or it cannot be read as dates.

    Examples:
        >>> df = add_datepart(pd.DataFrame({"saledate": ["2011-11-16"]}), "saledate")
        >>> df.saleYear.item(), df.saleDayofweek.item(), df.saleElapsed.item()
        (2011, 2, 1321401600.0)
    """
    make_date(df, field_name)
    date = df[field_name]
    prefix = re.sub("[Dd]ate$", "", str(field_name)) if prefix is None else prefix
    # isocalendar gives pandas' nullable integers; models and other code expect NumPy's, which need floats for NaN.
    week = date.dt.isocalendar().week.astype("float64" if date.isna().any() else "int64")
    for part in (*PARTS, *(TIMES if time else ())):
        attribute = {"Dayofweek": "day_of_week", "Dayofyear": "day_of_year"}.get(part, part.lower())
        df[prefix + part] = week if part == "Week" else getattr(date.dt, attribute)
    df[prefix + "Elapsed"] = seconds(date)
    if drop:
        df.pop(field_name)
    return df


def seconds(date: Series) -> Array:
    """Seconds since 1970 (UTC), float64 [row], for dates of any resolution; NaN for missing ones."""
    utc = date.dt.tz_convert("UTC").dt.tz_localize(None) if date.dt.tz is not None else date
    moments = utc.to_numpy()
    whole = moments.astype("datetime64[us]").astype(np.int64)
    return np.where(np.isnat(moments), np.nan, whole / 1e6)


def add_elapsed_times(df: DataFrame, field_names: Sequence[str] | str, date_field: str, base_field: str) -> DataFrame:
    """Add, for each event, the days since it last happened, the days until it happens next, and recent counts.

    Args:
        df: The table, which is not changed.
        field_names: The event columns: truth values, whether the event happened on that row's date.
        date_field: The column of dates.
        base_field: The column that groups the rows, such as a shop: each of its values has its own events.

    Returns:
        A copy of the table with these columns added: all `After<event>` (days since, ≥ 0), then all `Before<event>`
            (minus the days until, ≤ 0), both 0 if there is no such event; then `<event>_bw` (events in the 7 rows of
            the group up to this one, by date) and `<event>_fw` (in the 7 rows from this one on).

    Raises:
        BadValue: If a column is missing, or `date_field` cannot be read as dates.

    Examples:
        >>> df = pd.DataFrame({"date": ["2024-01-01", "2024-01-03", "2024-01-04"], "promo": [True, False, True], "shop": 1})
        >>> res = add_elapsed_times(df, ["promo"], "date", "shop")
        >>> res.Afterpromo.tolist(), res.Beforepromo.tolist(), res.promo_bw.tolist()
        ([0, 2, 0], [0, -1, 0], [1.0, 1.0, 2.0])
    """
    names = listed(field_names)
    check_columns(df, [*names, date_field, base_field], "which the elapsed times are computed from")
    res = df.copy()
    make_date(res, date_field)
    order = res.reset_index(drop=True).sort_values([base_field, date_field], kind="stable").index.to_numpy()
    rows = res.iloc[order].reset_index(drop=True)
    base = pd.factorize(rows[base_field])[0]
    base = np.where(base < 0, base.max(initial=-1) + 1, base)  # rows without a base form one group, the last
    after, before = {}, {}
    for name in names:
        event = rows[date_field].where(rows[name].eq(True).fillna(False).astype(bool))
        since = (rows[date_field] - event.groupby(base).ffill()).dt.days
        until = (rows[date_field] - event.groupby(base).bfill()).dt.days
        after["After" + name] = _in_original_order(since.fillna(0).astype("int64"), order)
        before["Before" + name] = _in_original_order(until.fillna(0).astype("int64"), order)
    for column, values in {**after, **before}.items():
        res[column] = values
    for suffix, step in (("_bw", 1), ("_fw", -1)):
        for name in names:
            counts = rows[name].eq(True).fillna(False).astype("float64")[::step].reset_index(drop=True)
            recent = counts.groupby(step * base[::step]).rolling(7, min_periods=1).sum()
            res[name + suffix] = _in_original_order(recent[::step], order)
    return res


def _in_original_order(values: Series, order: Array) -> Array:
    """Undo a sort: the values of rows that were taken in `order`, in the order they had before."""
    stored = values.to_numpy()
    res = np.empty(len(order), dtype=stored.dtype)
    res[order] = stored
    return res
