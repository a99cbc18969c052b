"""Labellers: from an item to its label."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence, Sized
from typing import Any, Self

import numpy as np

from layered.data.encodings import is_missing
from layered.files import value_kinds
from layered.foundation import (
    BadItem,
    BadValue,
    L,
    OnAttribute,
    Transform,
    describe,
    functions,
    is_frame,
    is_named_tuple,
    transforms,
    unknown_name,
)

MAX_PATTERN = 1000  # characters of a regular expression in a file

value_kinds.add("on_attribute", OnAttribute)


@functions.register()
def parent_label(o: str | os.PathLike[str]) -> str:
    """The name of the folder that contains a file.

    Args:
        o: The path of the file.

    Examples:
        >>> parent_label("train/cat/1.jpg")
        'cat'
    """
    return os.path.basename(os.path.dirname(o))


@value_kinds.register()
class RegexLabeller:
    r"""The first group of a regular expression, found in the path of an item (with forward slashes).

    Args:
        pat: The regular expression, with a group around the label.
        match: The pattern must match at the start of the path; False searches the whole path.

    Raises:
        BadItem: The pattern does not match a path.

    Examples:
        >>> RegexLabeller(r"/([^/]+)_\d+.jpg$")("pets/great_pyrenees_173.jpg")
        'great_pyrenees'
    """

    def __init__(self, pat: str | re.Pattern[str], match: bool = False) -> None:
        self.pat, self.match = re.compile(pat), match
        self.find: Callable[[str], re.Match[str] | None] = self.pat.match if match else self.pat.search

    def __call__(self, o: str | os.PathLike[str]) -> str:
        text = o if isinstance(o, str) else os.fspath(o).replace(os.sep, "/")
        found = self.find(text)
        if found is None:
            raise BadItem(
                f"the pattern {self.pat.pattern!r} is not found",
                got=f"'{text}'",
                expected="a match that starts the path" if self.match else "a match somewhere in the path",
                fix="test it with re.search; folders are separated by / on every system",
            )
        if not self.pat.groups:
            raise BadValue(
                f"the pattern {self.pat.pattern!r} has no group",
                got=f"a match, '{found.group()}', in '{text}'",
                expected="a group for the label",
                fix="put ( ) around the label",
            )
        return str(found.group(1))

    def described(self) -> dict[str, Any]:
        """The arguments of `from_described`."""
        return {"pat": self.pat.pattern, "flags": int(self.pat.flags), "match": self.match}

    @classmethod
    def from_described(cls, state: dict[str, Any]) -> Self:
        """A labeller with the same pattern.

        Args:
            state: What `described` returned.
        """
        if len(state["pat"]) > MAX_PATTERN:
            raise BadValue(
                "the pattern is too long", got=len(state["pat"]), expected=f"at most {MAX_PATTERN} characters"
            )
        return cls(re.compile(state["pat"], state["flags"]), state["match"])

    def __repr__(self) -> str:
        return f"RegexLabeller({self.pat.pattern!r})"


@transforms.register()
class ColReader(Transform):
    """The value of one or several columns of a row.

    Args:
        cols: The name or number of a column, or a list of them.
        pref: Prepended to the value; a path gets a separator after it, and is left out before the absolute path of a file
            that exists.
        suff: Appended to the value, such as the suffix of a file name.
        label_delim: Split the value at this text into a list of labels; a list stays as it is.
    """

    def __init__(
        self,
        cols: str | int | Sequence[str | int],
        pref: str | os.PathLike[str] = "",
        suff: str = "",
        label_delim: str | None = None,
    ) -> None:
        super().__init__()
        self.cols: Any = [cols] if isinstance(cols, (str, int)) else list(cols)
        self.is_folder = isinstance(pref, os.PathLike)
        self.pref = os.fspath(pref) + os.path.sep if isinstance(pref, os.PathLike) else pref
        self.suff, self.label_delim = suff, label_delim

    def _value(self, row: object, col: str | int) -> Any:
        value = _cell(row, col)
        if self.label_delim is not None:
            if isinstance(value, (list, tuple, np.ndarray)):
                return list(value)
            return [] if is_missing(value) or str(value) in ("", "nan") else str(value).split(self.label_delim)
        if not self.pref and not self.suff:
            return value
        if self.is_folder and os.path.isabs(str(value)) and os.path.exists(whole := f"{value}{self.suff}"):
            return whole
        return f"{self.pref}{value}{self.suff}"

    def encode_row(self, row: object) -> Any:
        values = [self._value(row, col) for col in self.cols]
        return values[0] if len(values) == 1 else L(values, use_list=True)


def _cell(row: Any, col: str | int) -> Any:
    if isinstance(col, int):
        if isinstance(row, Sized) and not -len(row) <= col < len(row):
            raise BadValue(f"there is no column {col}", got=describe(row), expected=f"less than {len(row)}")
        return row.iloc[col] if is_frame(row) else row[col]
    has_fields = is_named_tuple(row)
    try:
        return getattr(row, col) if has_fields else row[col]
    except (KeyError, AttributeError) as error:
        names = row._fields if has_fields else row.keys()
        raise unknown_name("column", col, map(str, names)) from error
    except (TypeError, IndexError) as error:
        raise BadValue(
            f"cannot read column {col!r}: a {type(row).__name__} has no column names",
            got=describe(row),
            expected=f"a row of a DataFrame, a mapping or a named tuple with '{col}'",
            fix="give the number of the column, or use a DataFrame as the source",
        ) from error
