"""Tables as pandas frames: made of whatever holds rows, read from files, split into kinds of columns, made smaller."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence, Set, Sized
from typing import Any

import numpy as np

from layered.foundation import BadArgument, BadValue, EmptySource, L, NotFoundPath, Path, in_notebook, lazy
from layered.tabular.columns import listed

pd = lazy("pandas")
display = lazy("IPython.display")


def as_frame(table: Any) -> Any:
    """`table` as a pandas frame: a frame itself; of polars, Arrow and others by their `to_pandas`; one row as a Series,
    a mapping or a named tuple; several in a list; a mapping of columns.

    Examples:
        >>> as_frame({"a": 1, "b": "x"}).shape, as_frame([{"a": 1}, {"a": 2}]).shape, as_frame({"a": [1, 2]}).shape
        ((1, 2), (2, 1), (2, 1))
    """
    if isinstance(table, pd.DataFrame):
        return table
    if isinstance(table, pd.Series):
        return pd.DataFrame([table.to_dict()])
    if hasattr(table, "to_pandas"):
        return as_frame(table.to_pandas())
    if isinstance(table, Mapping):
        return pd.DataFrame(dict(table)) if holds_columns(table) else pd.DataFrame([dict(table)])
    if hasattr(table, "_asdict"):
        return pd.DataFrame([table._asdict()])
    if isinstance(table, (list, tuple, L)) and all(map(_is_row, table)):
        return pd.DataFrame([row._asdict() if hasattr(row, "_asdict") else dict(row) for row in table])
    raise BadArgument(
        "this is no table",
        got=f"a {type(table).__module__}.{type(table).__qualname__}",
        expected="a DataFrame (of pandas, polars, Arrow), one row as a dict or Series, or a list of such rows",
        fix="read_table(path) reads a file",
    )


def holds_columns(table: Mapping[Any, Any]) -> bool:
    """Whether a mapping is of columns, and not one row."""
    return bool(table) and all(map(_is_column, table.values()))


def _is_column(values: Any) -> bool:
    return (
        isinstance(values, Sized)
        and not isinstance(values, (str, bytes, Mapping, Set))
        and getattr(values, "ndim", 1) > 0
    )


def _is_row(row: Any) -> bool:
    return isinstance(row, (Mapping, pd.Series)) or hasattr(row, "_asdict")


def read_table(path: str | os.PathLike[str], **kwargs: Any) -> Any:
    """A table from a file, by its suffix: .csv, .tsv (also compressed), .parquet, .feather.

    Args:
        kwargs: For pandas' reader of that kind of file.

    Raises:
        NotFoundPath: For an empty file, BadValue for another suffix.
        EmptySource: For an empty file, BadValue for another suffix.
    """
    if str(path).partition("://")[1] == "" and not os.path.exists(path):
        raise NotFoundPath(f"there is no table '{path}'", fix=f"check the path; the working directory is {os.getcwd()}")
    suffixes = [s.lower() for s in Path(path).suffixes]
    kind = next((s for s in reversed(suffixes) if s in (".csv", ".tsv", ".txt", ".parquet", ".feather")), None)
    try:
        match kind:
            case ".csv" | ".txt":
                return pd.read_csv(path, **kwargs)
            case ".tsv":
                return pd.read_csv(path, **{"sep": "\t", **kwargs})
            case ".parquet":
                return pd.read_parquet(path, **kwargs)
            case ".feather":
                return pd.read_feather(path, **kwargs)
    except pd.errors.EmptyDataError as error:
        raise EmptySource(
            f"the table '{path}' is empty", got=error, expected="a line of names, then the rows", fix="check the file"
        ) from error
    raise BadValue(
        f"what kind of table '{path}' is cannot be told",
        expected="a name that ends in .csv, .tsv, .parquet or .feather",
        fix="read it with pandas, and use from_df",
    )


def cont_cat_split(df: Any, max_card: int = 20, dep_var: Any = None) -> tuple[L, L]:
    """The columns of a table by how they are best taken: (continuous, categorical).

    Args:
        max_card: Whole numbers with more distinct values than this are continuous, as all floats are; dates are
            neither.
        dep_var: The target, or several, which are left out.

    Examples:
        >>> cont_cat_split(pd.DataFrame({"price": [1.5, 2.0], "rooms": [3, 4], "city": ["a", "b"]}))
        ((#1) ['price'], (#2) ['rooms','city'])
    """
    df = as_frame(df)
    left_out = set(listed(dep_var))
    cont, cat = L(), L()
    for name in df.columns:
        kind = df[name].dtype
        if name in left_out or getattr(kind, "kind", "O") in "Mm":
            continue
        is_float = pd.api.types.is_float_dtype(kind)
        is_many = pd.api.types.is_integer_dtype(kind) and df[name].nunique() > max_card
        (cont if is_float or is_many else cat).append(name)
    return cont, cat


def df_shrink_dtypes(df: Any, skip: Sequence[Any] = (), obj2cat: bool = True, int2uint: bool = False) -> dict[Any, Any]:
    """The smaller dtypes that the columns of a table fit into: name → dtype, for those that change.

    Args:
        skip: Columns to leave alone.
        obj2cat: Text becomes categories, where no cell holds a list or the like.
        int2uint: Whole numbers that are never negative become unsigned.

    Examples:
        >>> df_shrink_dtypes(pd.DataFrame({"i": [-100, 0, 100], "u": [0, 10, 254]}))
        {'i': dtype('int8'), 'u': dtype('int16')}
    """
    df = as_frame(df)
    smaller = {name: _smaller(df[name], obj2cat, int2uint) for name in df.columns if name not in set(listed(skip))}
    return {name: kind for name, kind in smaller.items() if kind is not None and kind != df[name].dtype}


def _smaller(column: Any, obj2cat: bool, int2uint: bool) -> Any:
    kind = column.dtype
    if kind is np.dtype(object) or pd.api.types.is_string_dtype(kind):
        return "category" if obj2cat and column.map(_can_be_level).all() else None
    if not isinstance(kind, np.dtype) or kind.kind not in "iuf" or not len(column):
        return None
    low, high = column.min(), column.max()
    if kind.kind == "f":
        return np.dtype(np.float32) if np.isnan(low) or max(-low, high) <= np.finfo(np.float32).max else None
    unsigned = kind.kind == "u" or (int2uint and low >= 0)
    ladder = (np.uint8, np.uint16, np.uint32, np.uint64) if unsigned else (np.int8, np.int16, np.int32, np.int64)
    return next(np.dtype(o) for o in ladder if np.iinfo(o).min <= low and high <= np.iinfo(o).max)


def _can_be_level(value: Any) -> bool:
    return isinstance(value, Hashable)


def df_shrink(df: Any, skip: Sequence[Any] = (), obj2cat: bool = True, int2uint: bool = False) -> Any:
    """A copy of the table in the smallest dtypes that hold its values: see `df_shrink_dtypes`. Floats become float32."""
    df = as_frame(df)
    return df.astype(df_shrink_dtypes(df, skip, obj2cat, int2uint))


def show_frame(frame: Any) -> None:
    """Show a frame: as a table in a notebook, else as text."""
    if in_notebook():
        display.display(display.HTML(frame.to_html()))
    else:
        print(frame.to_string())
