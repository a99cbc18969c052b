"""Tables as pandas frames: converted from other forms, read from files, split into kinds of columns, shrunk."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence, Set, Sized
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from torch import Tensor

from layered.catalog import is_offline
from layered.data import read_csv
from layered.foundation import (
    BadArgument,
    BadFile,
    BadValue,
    L,
    LayeredError,
    MissingDependency,
    NotFoundPath,
    Offline,
    Path,
    StrPath,
    in_notebook,
    is_named_tuple,
    lazy,
    visible,
    warn,
)
from layered.tabular.columns import Names, listed
from layered.tabular.kinds import column_kind, is_saved_index, text_hint

if TYPE_CHECKING:
    import pandas as pd
    from pandas import DataFrame, Series
else:
    pd = lazy("pandas")

display = lazy("IPython.display")


@runtime_checkable
class ToPandas(Protocol):
    """A table of another library, such as polars or Arrow."""

    def to_pandas(self) -> Any:
        """The table as a pandas frame."""


@runtime_checkable
class NamedRow(Protocol):
    """A row as a named tuple, such as `frame.itertuples()` gives."""

    def _asdict(self) -> dict[Any, Any]: ...


Row: TypeAlias = "Mapping[Any, Any] | Series[Any] | NamedRow"
TableLike: TypeAlias = "DataFrame | ToPandas | Row | Sequence[Row] | L"


def as_frame(table: object) -> DataFrame:
    """A table of any form as a pandas frame.

    Args:
        table: A pandas frame, which is returned as it is; a table of polars, Arrow or another library with a method
            `to_pandas`; one row as a Series, a mapping or a named tuple; a list of such rows; a mapping of columns.

    Raises:
        BadArgument: For anything else.

    Examples:
        >>> as_frame({"a": 1, "b": "x"}).shape, as_frame([{"a": 1}, {"a": 2}]).shape, as_frame({"a": [1, 2]}).shape
        ((1, 2), (2, 1), (2, 1))
    """
    if isinstance(table, pd.DataFrame):
        return table
    if isinstance(table, ToPandas):
        return as_frame(table.to_pandas())
    if isinstance(table, Mapping) and holds_columns(table):
        return pd.DataFrame(dict(table))
    rows = list(table) if isinstance(table, (list, tuple, L)) and not is_named_tuple(table) else [table]
    made = [_row(row) for row in rows]
    found = [row for row in made if row is not None]
    if len(found) == len(rows):
        return pd.DataFrame(found)
    raise BadArgument(
        "not a table",
        got=f"a {type(table).__module__}.{type(table).__qualname__}",
        expected="a DataFrame (of pandas, polars, Arrow), one row as a dict or Series, or a list of such rows",
        fix="read_table(path) reads a file",
    )


def _row(row: object) -> dict[Any, Any] | None:
    """One row as a mapping from column to value; None if it is something else."""
    if isinstance(row, pd.Series):
        return dict(row.to_dict())
    if isinstance(row, Mapping):
        return dict(row)
    return row._asdict() if isinstance(row, NamedRow) else None


def holds_columns(table: Mapping[Any, object]) -> bool:
    """Whether a mapping holds columns (list-like values), rather than one row."""
    return bool(table) and all(map(_is_column, table.values()))


def _is_column(values: object) -> bool:
    if isinstance(values, (np.ndarray, Tensor)):
        return values.ndim > 0
    return isinstance(values, Sized) and not isinstance(values, (str, bytes, Mapping, Set))


def read_table(path: StrPath, **kwargs: Any) -> DataFrame:
    """Read a table from a file, by its suffix: .csv, .tsv (also compressed), .parquet, .feather.

    Args:
        path: The file, or a URL that pandas reads.
        **kwargs: Arguments of pandas' reader for that kind of file.

    Raises:
        NotFoundPath: If there is no such file.
        EmptySource: For an empty file.
        BadFile: For text in another encoding, lines that differ in their number of columns, and damaged files.
        MissingDependency: For .parquet and .feather without pyarrow.
        Offline: For a URL that cannot be read, also while LAYERED_OFFLINE is set.
        BadValue: For any other suffix.
    """
    scheme, is_address, _ = str(path).partition("://")
    if is_address and scheme != "file" and is_offline():
        raise Offline(
            f"the table '{path}' needs the network", got="LAYERED_OFFLINE is set", fix="unset it, or download it"
        )
    if not is_address and not os.path.exists(path):
        raise NotFoundPath(f"there is no table '{path}'", fix=f"check the path; the working directory is {os.getcwd()}")
    suffixes = [s.lower() for s in Path(path).suffixes]
    kind = next((s for s in reversed(suffixes) if s in (".csv", ".tsv", ".txt", ".parquet", ".feather")), None)
    try:
        match kind:
            case ".csv" | ".txt" | ".tsv":
                return read_csv(path, **kwargs)
            case ".parquet":
                return pd.read_parquet(path, **kwargs)
            case ".feather":
                return pd.read_feather(path, **kwargs)
    except (LayeredError, TypeError):  # TypeError: an argument that the reader does not have
        raise
    except ImportError as error:
        fix = "pip install zstandard" if suffixes[-1:] == [".zst"] else "pip install pyarrow"
        raise MissingDependency(
            f"the table '{path}' needs a package that is not installed", got=error, fix=fix
        ) from error
    except Exception as error:  # unpackers and decoders raise almost anything on a damaged file
        if is_address and isinstance(error, OSError):
            raise Offline(f"the table '{path}' cannot be fetched", got=error, fix="download it by hand") from error
        raise BadFile(
            f"the table '{path}' cannot be read",
            got=f"{type(error).__name__}: {error}",
            expected=f"a complete file of the kind {''.join(suffixes[-2:])}",
            fix="copy or download it again, or read it with pandas and use from_df",
        ) from error
    raise BadValue(
        f"unknown kind of table: '{path}'",
        expected="a name that ends in .csv, .tsv, .parquet or .feather",
        fix="read it with pandas, and use from_df",
    )


def cont_cat_split(df: TableLike, max_card: int = 20, dep_var: Names = None) -> tuple[L, L]:
    """Sort the columns of a table into (continuous, categorical). Columns of dates are neither.

    An index that was saved with the table ("Unnamed: 0") is left out, with a warning; another warns of text that looks like
    numbers or dates, which is categorical.

    Args:
        df: The table.
        max_card: Whole numbers with more distinct values than this are continuous, as floats and decimals always are.
        dep_var: The target column, or several, which are left out.

    Examples:
        >>> cont_cat_split(pd.DataFrame({"price": [1.5, 2.0], "rooms": [3, 4], "city": ["a", "b"]}))
        ((#1) ['price'], (#2) ['rooms','city'])
    """
    frame = as_frame(df)
    left_out = set(listed(dep_var))
    cont, cat = L(), L()
    hints: list[str | None] = []
    for name in frame.columns:
        column = frame[name]
        kind = column_kind(column)
        if name in left_out or kind == "date":
            continue
        if is_saved_index(name, column):
            warn(
                f"{name!r} is left out: it numbers the rows, as an index saved with the table; pd.read_csv(..., index_col=0)"
            )
            continue
        hints.append(text_hint(name, column, max_card) if kind == "level" else None)
        is_continuous = kind == "number" or (kind == "whole" and column.nunique() > max_card)
        (cont if is_continuous else cat).append(name)
    found = [hint for hint in hints if hint is not None]
    if found:
        warn(f"taken as categories: {'; '.join(found[:10])}")
    return cont, cat


def df_shrink_dtypes(
    df: TableLike, skip: Names = (), obj2cat: bool = True, int2uint: bool = False
) -> dict[Any, np.dtype[Any] | str]:
    """The smaller dtypes that the columns of a table fit into.

    Args:
        df: The table.
        skip: Columns to leave alone.
        obj2cat: Text becomes categories, unless a cell holds a list or the like.
        int2uint: Whole numbers that are never negative become unsigned.

    Returns:
        {column: dtype}, for the columns that change.

    Examples:
        >>> df_shrink_dtypes(pd.DataFrame({"i": [-100, 0, 100], "u": [0, 10, 254]}))
        {'i': dtype('int8'), 'u': dtype('int16')}
    """
    frame = as_frame(df)
    names = [name for name in frame.columns if name not in set(listed(skip))]
    smaller = {name: _smaller(frame[name], obj2cat, int2uint) for name in names}
    return {name: kind for name, kind in smaller.items() if kind is not None and kind != frame[name].dtype}


def _smaller(column: Series, obj2cat: bool, int2uint: bool) -> np.dtype[Any] | str | None:
    kind: Any = column.dtype
    if kind is np.dtype(object) or pd.api.types.is_string_dtype(kind):
        held = column_kind(column)
        if held == "number":  # decimals, and floats among objects
            return np.dtype(np.float32)
        is_level = held in ("level", "truth") and column.map(_can_be_level).all()
        return "category" if obj2cat and is_level else None
    if not isinstance(kind, np.dtype) or kind.kind not in "iuf" or not len(column):
        return None
    low, high = column.min(), column.max()
    if kind.kind == "f":
        return np.dtype(np.float32) if np.isnan(low) or max(-low, high) <= np.finfo(np.float32).max else None
    signs = "u" if kind.kind == "u" or (int2uint and low >= 0) else "i"
    ladder = [np.dtype(f"{signs}{size}") for size in (1, 2, 4, 8)]
    return next(o for o in ladder if np.iinfo(o).min <= low and high <= np.iinfo(o).max)


def _can_be_level(value: object) -> bool:
    return isinstance(value, Hashable)


def df_shrink(df: TableLike, skip: Names = (), obj2cat: bool = True, int2uint: bool = False) -> DataFrame:
    """A copy of the table in the smallest dtypes that hold its values; floats become float32.

    Args:
        df: The table.
        skip: Columns to leave alone.
        obj2cat: Text becomes categories, unless a cell holds a list or the like.
        int2uint: Whole numbers that are never negative become unsigned.
    """
    return as_frame(df).astype(df_shrink_dtypes(df, skip, obj2cat, int2uint))


def show_frame(frame: DataFrame) -> None:
    """Show a frame, as a table in a notebook, else as text. Returns nothing, so that a notebook does not show it twice."""
    if in_notebook():
        display.display(display.HTML(visible(frame.to_html(), None)))
    else:
        print(visible(frame.to_string(), None))
