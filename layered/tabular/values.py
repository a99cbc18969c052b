"""Single values of a table, of any type, read as the level of a category, as a number, or as a moment.

A value that comes in another form at prediction (text for numbers, floats for whole numbers) means what it meant in
training; one that cannot be read counts as missing.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Hashable, Sequence
from decimal import Decimal
from itertools import repeat
from typing import TypeAlias

import numpy as np
from torch import Tensor

from layered.foundation import lazy

pd = lazy("pandas")

Level: TypeAlias = str | int | float | bool
Name: TypeAlias = Hashable  # of a column

_NOISE = "%$€£ \u00a0\u202f'’"  # characters of percents, currencies and thousands
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
LARGEST = 1e30  # larger numbers count as missing, as their standard scores may not fit into float32
MANY_DIGITS = 1000  # whole numbers with more digits are never matched against text
TRUTHS = {"true": 1.0, "false": 0.0}
_WRITINGS = (  # (what is replaced to get a number, the option of pandas' readers)
    ((), ""),
    (((",", ""),), "thousands=','"),
    (((",", "."),), "decimal=','"),
    (((".", ""), (",", ".")), "thousands='.', decimal=','"),
)
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d|-?\d+ days?)(?:[ T](\S+))?")


def plain_level(value: object) -> Level:
    """A value as a level: text, a Python number or a truth value; anything else, such as a date, becomes its text.

    A whole number with too many digits for Python to print becomes the text of its hexadecimal digits.

    Examples:
        >>> plain_level(np.int8(3)), plain_level(b"x"), plain_level(np.datetime64("2020-01-01"))
        (3, 'x', '2020-01-01')
    """
    if isinstance(value, (str, float, bool)) and type(value) in (str, float, bool):  # the most frequent kinds first
        return value
    if isinstance(value, int) and type(value) is int and value.bit_length() < MANY_DIGITS:
        return value
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    elif isinstance(value, (np.generic, np.ndarray, Tensor)) and value.ndim == 0:
        value = value.item()
    if isinstance(value, datetime.timedelta):
        value = pd.Timedelta(value)
    if isinstance(value, Decimal) and value.is_finite() and value.adjusted() < MANY_DIGITS:
        value = int(value) if value == int(value) else float(value)
    if isinstance(value, int) and value.bit_length() > 4 * MANY_DIGITS:
        return hex(value)
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value).removesuffix(" 00:00:00")  # a date equals the timestamp of its first moment


def moment(text: str) -> str | None:
    """The date or time span that a text reads as, in the form of `plain_level`; None for other text.

    Examples:
        >>> moment("2020-01-01T00:00:00"), moment("2020-01-01 03:04:05"), moment("x 00:00:00")
        ('2020-01-01', '2020-01-01 03:04:05', None)
    """
    found = _MOMENT.fullmatch(text.strip())
    if found is None:
        return None
    day, time = found.groups()
    return day if time in (None, "00:00", "00:00:00") else f"{day} {time}"


def is_far(value: object) -> bool:
    """Whether a value is a number that is infinite or larger than `LARGEST`.

    Examples:
        >>> is_far(10**400), is_far(-np.inf), is_far("inf"), is_far(3), is_far("much")
        (True, True, True, False, False)
    """
    try:
        return abs(float(value)) > LARGEST  # type: ignore[arg-type]  # what cannot be converted is caught
    except OverflowError:
        return True
    except (TypeError, ValueError):
        return False


def as_number(value: object) -> int | float | None:
    """The number that a level is, or that its text reads as; None if it is not a number.

    Whole numbers are exact; others are rounded to float32, in which many tables are stored.

    Examples:
        >>> as_number(3.0), as_number("3.0"), as_number(True), as_number("x"), as_number("9007199254740993")
        (3, 3, 1, None, 9007199254740993)
    """
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        text = value.strip()
        if text.removeprefix("-").isdecimal() and text.isascii() and len(text) < MANY_DIGITS:
            return int(text)
    number = parse_number(value)
    if math.isnan(number):
        return None
    return int(number) if number.is_integer() else float(np.float32(number))


def parse_number(value: object) -> float:
    """A value as a number; NaN if it is missing, larger than `LARGEST`, or unreadable. "True" reads as 1.

    Examples:
        >>> parse_number("2.5"), parse_number("true"), parse_number("much"), parse_number(None)
        (2.5, 1.0, nan, nan)
    """
    if isinstance(value, str) and value.strip().lower() in TRUTHS:
        return TRUTHS[value.strip().lower()]
    if isinstance(value, str) and ("_" in value or not value.isascii()):  # Python would read these, pandas does not
        return math.nan
    try:
        number = float(value)  # type: ignore[arg-type]  # what cannot be converted is caught
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if abs(number) <= LARGEST else math.nan


def number_fix(name: Name, values: Sequence[object]) -> str | None:
    """What to type so that texts of a column are read as numbers: percents, thousands, decimal commas, currencies.

    Args:
        name: The column.
        values: Values of it that `parse_number` cannot read.

    Returns:
        The line of code, with hints; None if the texts are not numbers in any such form.

    Examples:
        >>> number_fix("x", ["0,92", "1,5"])
        "df['x'] = pd.to_numeric(df['x'].astype('string').str.replace(',', '.')), or read the file with decimal=','"
        >>> number_fix("x", ["12%"])
        "df['x'] = pd.to_numeric(df['x'].astype('string').str.replace('%', '')), and / 100 for shares"
    """
    texts = [value for value in values if isinstance(value, str) and any(map(str.isdigit, value))]
    noise = [(c, "") for c in _NOISE if any(c in text for text in texts)]
    bare = [_replaced(text, noise) for text in texts]
    found = [(writing, option) for writing, option in _WRITINGS if all(map(_reads_as_number, bare, repeat(writing)))]
    if not texts or not found:
        return None
    writing, option = found[0]
    is_ambiguous = found[:2] == list(_WRITINGS[1:3])
    calls = "".join(f".str.replace({old!r}, {new!r})" for old, new in (*noise, *writing))
    junk = "" if len(texts) == len(values) else ", errors='coerce'"
    return (
        f"df[{name!r}] = pd.to_numeric(df[{name!r}].astype('string'){calls}{junk})"
        + (", and / 100 for shares" if ("%", "") in noise else "")
        + (f", or read the file with {option}" if option and not noise else "")
        + ("; .str.replace(',', '.') where it is a decimal comma" if is_ambiguous else "")
    )


def _reads_as_number(text: str, writing: Sequence[tuple[str, str]]) -> bool:
    if writing == _WRITINGS[1][0] and not _THOUSANDS.fullmatch(text):
        return False
    return not math.isnan(parse_number(_replaced(text, writing)))


def _replaced(text: str, steps: Sequence[tuple[str, str]]) -> str:
    for old, new in steps:
        text = text.replace(old, new)
    return text
