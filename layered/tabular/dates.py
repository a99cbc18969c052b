"""Features made of dates: their parts, and the time since and until events."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from layered.foundation import Array, BadValue, lazy
from layered.tabular.columns import Names, check_columns, listed
from layered.tabular.kinds import column_kind
from layered.tabular.values import Name, plain_level

if TYPE_CHECKING:
    from pandas import DataFrame, Series

pd = lazy("pandas")

PARTS = ("Year", "Month", "Week", "Day", "Dayofweek", "Dayofyear", "Is_month_end", "Is_month_start", "Is_quarter_end",
         "Is_quarter_start", "Is_year_end", "Is_year_start")  # fmt: skip
TIMES = ("Hour", "Minute", "Second")
FIRST_YEAR = 1000  # text without a year is read as a date of the year 1


_TODAY = re.compile(
    r"\s*(now|today|T?\d{1,2}(:\d{2}){1,2}(\.\d+)?\s*([ap]\.?m\.?)?)\s*", re.IGNORECASE
)  # as pandas reads it
_NUMBERS = (  # (smallest, largest, what such numbers usually are, the options that read them)
    (1000, 2999, "years", "format='%Y'"),
    (10_000, 80_000, "days of a spreadsheet", "unit='D', origin='1899-12-30'"),
    (100_001, 299_912, "year and month", "format='%Y%m'"),
    (10_000_101, 29_991_231, "year, month and day", "format='%Y%m%d'"),
    (10**8, 10**10, "seconds since 1970", "unit='s'"),
    (10**11, 10**13, "milliseconds since 1970", "unit='ms'"),
    (10**13, 3 * 10**13, "year to second", "format='%Y%m%d%H%M%S'"),
    (10**14, 10**16, "microseconds since 1970", "unit='us'"),
    (10**17, 10**19, "nanoseconds since 1970", "unit='ns'"),
)


def make_date(df: DataFrame, date_field: Name) -> None:
    """Convert a column to dates in place, unless it holds dates already.

    Args:
        df: The table.
        date_field: The column: dates of any kind (also `datetime.date`, periods, Arrow's), or text that
            `pandas.to_datetime` reads. Numbers may be dates in several ways, so they are refused with the way that fits.

    Raises:
        BadValue: If there is no such column, or it holds a value that cannot be read as a date.
    """
    check_columns(df, [date_field], "which is to be converted to dates")
    column = df[date_field]
    is_stored = isinstance(column.dtype, (np.dtype, pd.DatetimeTZDtype)) and column.dtype.kind == "M"
    if not is_stored:
        df[date_field] = read_dates(date_field, column)


def read_dates(name: Name, column: Series) -> Series:
    """A column as dates.

    Raises:
        BadValue: If a value cannot be read as a date, or only as a time of day.
    """
    res: Series
    kind, first = column_kind(column), _first_present(column)
    if first is None:
        res = pd.to_datetime(column.astype(object))
        return res
    if kind in ("number", "whole", "truth"):
        raise _no_dates(name, column, f"it holds {'truth values' if kind == 'truth' else 'numbers'}", first)
    if isinstance(first, pd.Period):
        res = pd.Series(pd.PeriodIndex(column).to_timestamp(), index=column.index, name=column.name)
        return res
    texts = [value for value in column.dropna().unique().tolist() if isinstance(value, str)]
    for text in filter(_TODAY.fullmatch, texts):  # which pandas would put on the day of today
        raise _no_dates(name, column, "it holds a time of day without a date", text)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    try:
        res = pd.to_datetime(column)
    except (ValueError, TypeError, OverflowError) as error:
        raise _no_dates(name, column, str(error).splitlines()[0], first) from error
    without_year = (res.dt.year < FIRST_YEAR).to_numpy(bool)
    if texts and without_year.any():
        raise _no_dates(name, column, "it holds text without a year", column[without_year].iloc[0])
    return res


def _first_present(column: Series) -> object:
    present = column.dropna()
    return present.iloc[0] if len(present) else None


def _no_dates(name: Name, column: Series, why: str, example: object) -> BadValue:
    """The error for a column that is not read as dates, with the call that reads it if there is one."""
    expected, fix = "dates, or text that pandas.to_datetime reads", None
    numbers = pd.to_numeric(column.astype(object), errors="coerce").astype(float).dropna()
    is_numeric = len(numbers) == int(column.notna().sum()) and column_kind(column) != "truth"
    forms = [form for form in _NUMBERS if is_numeric and form[0] <= numbers.min() and numbers.max() <= form[1]]
    if forms:
        _, _, what, options = forms[0]
        expected = f"dates; these numbers look like {what}"
        values = f"df[{name!r}]" if column.dtype.kind in "iuf" else f"pd.to_numeric(df[{name!r}])"
        values += ".astype('Int64').astype('string')" if "format" in options else ""
        fix = f"df[{name!r}] = pd.to_datetime({values}, {options})"
    elif column.dtype.kind == "m":
        fix = f"df[{name!r}].dt.total_seconds() makes numbers of spans of time"
    elif "without" in why or isinstance(example, datetime.time):
        fix = "put the date before the time: pd.to_datetime(df['day'].astype(str) + ' ' + df['time'].astype(str))"
    elif not is_numeric:
        ways = ({"utc": True}, {"dayfirst": True}, {"format": "mixed"}, {"errors": "coerce"})
        way = next((way for way in ways if _reads_dates(column, way)), None)
        options = ", ".join(f"{option}={value!r}" for option, value in (way or {}).items())
        fix = f"df[{name!r}] = pd.to_datetime(df[{name!r}], {options})" if way else None
    return BadValue(
        f"the column {name!r} cannot be read as dates: {why}",
        got=repr(plain_level(example)),
        expected=expected,
        fix=fix,
    )


def _reads_dates(column: Series, way: Mapping[str, Any]) -> bool:
    try:
        return bool(pd.to_datetime(column, **way).notna().any())
    except (ValueError, TypeError, OverflowError):
        return False


def add_datepart(
    df: DataFrame, field_name: Name, prefix: str | None = None, drop: bool = True, time: bool = False
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
        del df[field_name]
    return df


def seconds(date: Series) -> Array:
    """Seconds since 1970 (UTC), float64 [row], for dates of any resolution; NaN for missing ones."""
    utc = date.dt.tz_convert("UTC").dt.tz_localize(None) if date.dt.tz is not None else date
    moments = utc.to_numpy()
    whole = moments.astype("datetime64[us]").astype(np.int64)
    return np.where(np.isnat(moments), np.nan, whole / 1e6)


def add_elapsed_times(df: DataFrame, field_names: Names, date_field: Name, base_field: Name) -> DataFrame:
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
    if len(set(map(str, names))) < len(names):
        raise BadValue(
            "two events would have columns of the same name",
            got=", ".join(map(repr, names)),
            fix="rename one of them: df.rename(columns={...})",
        )
    check_columns(df, [*names, date_field, base_field], "which the elapsed times are computed from")
    res = df.copy()
    make_date(res, date_field)
    keys: list[Any] = [base_field, date_field]
    order = res.reset_index(drop=True).sort_values(keys, kind="stable").index.to_numpy()
    rows = res.iloc[order].reset_index(drop=True)
    base = pd.factorize(rows[base_field])[0]
    base = np.where(base < 0, base.max(initial=-1) + 1, base)  # rows without a base form one group, the last
    after, before = {}, {}
    for name in names:
        event = rows[date_field].where(rows[name].eq(True).fillna(False).astype(bool))
        since = (rows[date_field] - event.groupby(base).ffill()).dt.days
        until = (rows[date_field] - event.groupby(base).bfill()).dt.days
        after[f"After{name}"] = _in_original_order(since.fillna(0).astype("int64"), order)
        before[f"Before{name}"] = _in_original_order(until.fillna(0).astype("int64"), order)
    for column, values in {**after, **before}.items():
        res[column] = values
    for suffix, step in (("_bw", 1), ("_fw", -1)):
        for name in names:
            counts = rows[name].eq(True).fillna(False).astype("float64")[::step].reset_index(drop=True)
            recent = counts.groupby(step * base[::step]).rolling(7, min_periods=1).sum()
            res[f"{name}{suffix}"] = _in_original_order(recent[::step], order)
    return res


def _in_original_order(values: Series, order: Array) -> Array:
    """Undo a sort: the values of rows that were taken in `order`, in the order they had before."""
    stored = values.to_numpy()
    res = np.empty(len(order), dtype=stored.dtype)
    res[order] = stored
    return res
