"""What the columns of a table hold, whatever they are stored in: numbers, whole numbers, truth values, dates, levels."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, TypeAlias

from layered.foundation import lazy
from layered.tabular.values import Name, as_number, moment, number_fix

if TYPE_CHECKING:
    from pandas import Series

pd = lazy("pandas")

Kind: TypeAlias = Literal["number", "whole", "truth", "date", "level"]

_KINDS: dict[str, Kind] = {  # of objects, as pandas infers them
    "decimal": "number", "floating": "number", "mixed-integer-float": "number", "integer": "whole", "boolean": "truth",
    "date": "date", "datetime": "date", "datetime64": "date", "period": "date", "timedelta": "date", "timedelta64": "date",
}  # fmt: skip
_SAVED_INDEX = re.compile(r"Unnamed: \d+(\.\d+)?")
LOOKED_AT = 1000  # rows in which texts are looked at


def column_kind(column: Series) -> Kind:
    """What a column holds: numbers (of floats or decimals), whole numbers, truth values, dates or spans of time, or levels.

    Args:
        column: A column of any dtype: NumPy's, pandas' own, Arrow's, or Python objects.

    Examples:
        >>> [column_kind(pd.Series(v, dtype=object)) for v in ([Decimal(1), None], [1, 2], [True], ["a"], [pd.Timestamp(0)])]
        ['number', 'whole', 'truth', 'level', 'date']
    """
    kind = column.dtype
    if isinstance(kind, pd.CategoricalDtype) or kind.kind == "c":
        return "level"
    if pd.api.types.is_bool_dtype(kind):
        return "truth"
    if pd.api.types.is_integer_dtype(kind):
        return "whole"
    if pd.api.types.is_numeric_dtype(kind):  # floats, and Arrow's decimals
        return "number"
    if kind.kind in "Mm" or isinstance(kind, pd.PeriodDtype):
        return "date"
    if kind.kind != "O":
        return "level"
    inferred = pd.api.types.infer_dtype(column, skipna=True)
    if inferred == "mixed" and set(map(type, column.dropna())) <= {Decimal, float, int}:
        return "number"
    return _KINDS.get(inferred, "level")


def is_saved_index(name: Name, column: Series) -> bool:
    """Whether a column is an index that was saved with the table: "Unnamed: 0" with a whole number for each row."""
    is_unnamed = _SAVED_INDEX.fullmatch(str(name)) is not None
    return is_unnamed and column_kind(column) == "whole" and bool(column.is_unique)


def text_hint(name: Name, column: Series, max_card: int) -> str | None:
    """What to say of a column of texts that may be numbers or dates; None for other columns, and for few distinct texts.

    Args:
        name: The column.
        column: Its values, of which the first ones are looked at.
        max_card: Up to so many distinct texts are levels, whatever they say. Whole numbers with leading zeros are, too.
    """
    texts = [value for value in column.iloc[:LOOKED_AT].dropna().unique().tolist() if isinstance(value, str)]
    if len(texts) <= max_card:
        return None
    if all(moment(text) is not None for text in texts):
        return f"{name!r} holds texts of dates: add_datepart(df, {name!r})"
    if any(re.match(r"0\d", text.strip()) for text in texts):
        return None
    if all(as_number(text) is not None for text in texts):
        return f"{name!r} holds texts of numbers: df[{name!r}] = pd.to_numeric(df[{name!r}])"
    fix = number_fix(name, texts) if all(re.search(r"\d", text) for text in texts) else None
    return f"{name!r} holds texts of numbers: {fix}" if fix else None
