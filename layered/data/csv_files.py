"""CSV files as pandas frames: the delimiter is found, and files of another encoding or shape say what to type."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from layered.foundation import BadFile, EmptySource, NotFoundPath, Path, StrPath, lazy, names_of

if TYPE_CHECKING:
    import pandas as pd
    from pandas import DataFrame, Series
else:
    pd = lazy("pandas")

DELIMITERS = (",", ";", "\t", "|")
_READ_AS = {"dtype", "converters", "na_values", "keep_default_na", "na_filter"}  # pandas' options of how cells are read
_WORDS = ("NA", "N/A", "n/a", "NULL", "null", "None")  # pandas reads them as missing; as labels, they are names


def read_csv(path: StrPath, sep: str | None = None, delimiter: str | None = None, **options: Any) -> DataFrame:
    """Read a CSV file with pandas.

    Args:
        path: The file, also compressed, or a URL that pandas reads.
        sep: The text between columns; by default a comma (a tab in a .tsv file), or else a semicolon, a tab or "|", the
            first with which the file has several columns.
        delimiter: The same as `sep`.
        options: Of `pandas.read_csv`: `encoding`, `decimal`, `header`, ….

    Raises:
        NotFoundPath: There is no such file.
        EmptySource: The file is empty.
        BadFile: It is not text of that encoding, or its lines differ in their number of columns.
    """
    file = Path(path)
    if "://" not in str(path) and not file.is_file():
        raise NotFoundPath(
            f"table '{file}' does not exist",
            got="a folder" if file.is_dir() else None,
            fix=f"check the path; the working directory is {Path.cwd()}",
        )
    given = sep if sep is not None else delimiter
    is_tsv = ".tsv" in file.suffixes
    candidates = sorted(DELIMITERS, key=lambda mark: is_tsv and mark != "\t") if given is None else [given]
    try:
        return _read(path, candidates, options)
    except UnicodeDecodeError as error:
        is_utf16 = error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        raise BadFile(
            f"the table '{path}' is not text in the encoding {error.encoding}",
            got=f"the byte 0x{error.object[error.start]:02x}",
            fix=f'encoding="{"utf-16" if is_utf16 else "latin-1"}", or the one that the table was written with',
        ) from error
    except pd.errors.EmptyDataError as error:
        raise EmptySource(
            f"the table '{path}' is empty", got=error, expected="a header line, then rows", fix="check the file"
        ) from error
    except pd.errors.ParserError as error:
        raise BadFile(
            f"the lines of the table '{path}' differ in their number of columns",
            got=str(error).strip(),
            expected="the same columns in every line",
            fix='name the delimiter, sep=";", or put cells that hold it in quotes',
        ) from error


def _read(path: StrPath, delimiters: Sequence[str], options: dict[str, Any]) -> DataFrame:
    """The frame by the first delimiter that gives several columns; if none does, by the first."""
    first: DataFrame | pd.errors.ParserError | None = None
    for sep in delimiters:
        try:
            made: DataFrame | pd.errors.ParserError = pd.read_csv(path, sep=sep, **options)
        except pd.errors.ParserError as error:
            made = error
        if isinstance(made, pd.DataFrame) and len(made.columns) > 1:
            return made
        first = made if first is None else first
    if isinstance(first, pd.DataFrame):
        return first
    assert first is not None  # there is a delimiter
    raise first


def csv_options(arguments: dict[str, Any]) -> dict[str, Any]:
    """Take the options of `pandas.read_csv` out of `arguments`.

    Args:
        arguments: The keywords of a function that reads a CSV file; what is left is for other purposes.
    """
    return {name: arguments.pop(name) for name in names_of(pd.read_csv) & arguments.keys()}


def read_labels(
    path: StrPath, names: str | int, labels: Sequence[str | int], is_text: bool, is_number: bool, **options: Any
) -> DataFrame:
    """A CSV file of names and labels, as `read_csv`, where both stay as they are written: "00042" is not 42, and a class may be
    called "NA" or "None". Other labels are read as numbers where all are.

    Args:
        path: The file.
        names: The column of file names, by name or position.
        labels: The columns of labels.
        is_text: Labels are always text.
        is_number: Labels may be numbers to predict, so that "NA" among numbers is a missing one.
        options: As for `read_csv`; those of how cells are read take precedence.
    """
    frame = read_csv(path, **options)
    if _READ_AS & options.keys():
        return frame
    text = read_csv(path, **options, dtype=str, keep_default_na=False)
    for column in (names, *labels):
        i = column_position(frame, column)
        if i is None:
            continue
        values, written = frame.iloc[:, i], text.iloc[:, i]
        if column == names or is_text or _loses(values, written, is_number):
            is_word = written.isin(_WORDS) if column != names else written != ""
            frame.isetitem(i, written.where(values.notna() | is_word, None).array)
    return frame


def column_position(frame: Any, column: str | int) -> int | None:
    """The position of a column that is given by name or position; None if there is none."""
    if isinstance(column, int):
        return column if -len(frame.columns) <= column < len(frame.columns) else None
    return frame.columns.get_loc(column) if column in frame.columns else None


def _loses(values: Series, written: Series, is_number: bool) -> bool:
    """Whether pandas' reading of labels lost what tells them apart: leading zeros, or words such as "NA"."""
    if written.str.fullmatch(r"[+-]?0\d+").any():
        return True
    has_words = bool(written[values.isna()].isin(_WORDS).any())
    return has_words and not (is_number and pd.api.types.is_numeric_dtype(values))
