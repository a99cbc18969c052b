"""CSV files as pandas frames: the delimiter is found, and files of another encoding or shape say what to type."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from layered.foundation import BadArgument, BadFile, EmptySource, NotFoundPath, Path, StrPath, lazy, names_of

if TYPE_CHECKING:
    import pandas as pd
    from pandas import DataFrame, Series
else:
    pd = lazy("pandas")

DELIMITERS = (",", ";", "\t", "|")
MAX_COLUMNS = 25_000  # pandas' time grows with their square where a table has no rows
_READ_AS = {"dtype", "converters", "na_values", "keep_default_na", "na_filter"}  # pandas' options of how cells are read
_WORDS = ("NA", "N/A", "n/a", "NULL", "null", "None")  # pandas reads them as missing; as labels, they are names


def read_csv(
    path: StrPath,
    sep: str | None = None,
    delimiter: str | None = None,
    *,
    max_columns: int = MAX_COLUMNS,
    **options: Any,
) -> DataFrame:
    """Read a CSV file with pandas.

    Args:
        path: The file, also compressed, or a URL that pandas reads.
        sep: The text between columns; by default a comma (a tab in a .tsv file), or else a semicolon, a tab or "|", the
            first with which the file has several columns.
        delimiter: The same as `sep`.
        max_columns: The most columns of a file; not asked where `usecols` names those to read.
        options: Of `pandas.read_csv`: `encoding`, `decimal`, `header`, ….

    Raises:
        NotFoundPath: There is no such file.
        EmptySource: The file is empty.
        BadFile: It is not text of that encoding, its lines differ in their number of columns, or there are too many.
        BadArgument: `options` ask for a reader of pieces instead of a table.
    """
    file = Path(path)
    in_pieces = next((name for name in ("chunksize", "iterator") if options.get(name)), None)
    if in_pieces is not None:
        raise BadArgument(
            "a table is read whole",
            got=f"{in_pieces}={options[in_pieces]!r}",
            fix=f"nrows=… for its first rows, or pandas.read_csv(…, {in_pieces}={options[in_pieces]!r})",
        )
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
        if file.is_file() and "usecols" not in options:
            _check_width(file, candidates, max_columns, options)
        return _read(path, candidates, options)
    except UnicodeDecodeError as error:
        is_utf16 = error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        raise BadFile(
            f"the table '{path}' is not text in the encoding {error.encoding}",
            got=f"the byte 0x{error.object[error.start]:02x}{_in_line(file, error)}",
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


_OF_TEXT = ("encoding", "encoding_errors", "compression", "skiprows", "comment")  # what a first line depends on


def _check_width(file: Path, delimiters: Sequence[str], most: int, options: Mapping[str, Any]) -> None:
    """Raise BadFile if the first record has more columns than `most`, before pandas makes a column of each."""
    quote = None if options.get("quoting") == csv.QUOTE_NONE else options.get("quotechar", '"')
    line = _lines(file, 1, options)
    for sep in delimiters:
        count = _count_cells(line, sep, quote)
        if count is None:  # the record goes on in the next line
            count = _count_cells(_lines(file, None, options), sep, quote) or 1
        if count > most:
            raise BadFile(
                f"the table '{file}' has too many columns",
                got=f"{count} in its first line",
                expected=f"at most {most}",
                fix=f"max_columns={count} if you trust the file, or usecols=[…] with those to read",
            )


def _count_cells(text: str, sep: str, quote: str | None) -> int | None:
    """The cells of the first record of a text, as pandas divides it; None if the text ends within quotes."""
    if len(sep) > 1:  # a regular expression
        return 1 + sum(1 for _ in re.finditer(sep, text.partition("\n")[0]))
    rest = f"[^{re.escape(sep)}\n]*+"
    mark = "" if quote is None else re.escape(quote)
    cell = re.compile(f"({mark}(?:[^{mark}]|{mark}{mark})*+({mark})?)?{rest}" if mark else f"()(){rest}")
    count, start = 0, 0
    while found := cell.match(text, start):
        if found[1] and not found[2]:
            return None
        count, start = count + 1, found.end() + 1
        if text[found.end() : start] != sep:
            break
    return count


def _lines(file: Path, count: int | None, options: Mapping[str, Any]) -> str:
    """The first lines of a table that is text, maybe packed, as they stand; all if `count` is None."""
    whole: dict[str, Any] = {"colspecs": [(0, None)], "compression": "infer"}
    text = {name: options[name] for name in _OF_TEXT if name in options}
    lines: Any = pd.read_fwf(file, header=None, nrows=count, delimiter="\0", dtype=str, **(whole | text))
    return "\n".join(map(str, lines[0]))


def _in_line(file: Path, error: UnicodeDecodeError) -> str:
    """Where a file has the first line that cannot be decoded; nothing if it is packed, or not there."""
    if not file.is_file() or file.suffix.lower() not in (".csv", ".tsv", ".txt"):
        return ""
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode(error.encoding)
            except UnicodeDecodeError:
                return f" in line {number}"
    return ""


def _read(path: StrPath, delimiters: Sequence[str], options: dict[str, Any]) -> DataFrame:
    """The frame by the first delimiter that gives several columns; if none does, by the first."""
    first: DataFrame | ValueError | None = None
    for sep in delimiters:
        try:
            made: DataFrame | ValueError = pd.read_csv(path, sep=sep, **options)
        except (UnicodeDecodeError, pd.errors.EmptyDataError):
            raise
        except ValueError as error:  # lines of different lengths, or `usecols` that are there with another delimiter
            made = error
        if isinstance(made, pd.DataFrame) and len(made.columns) > 1:
            return made
        first = made if first is None else first
    if isinstance(first, pd.DataFrame):
        return first
    assert first is not None  # there is a delimiter
    raise first


def csv_option_names() -> frozenset[str]:
    """The names of the options of `read_csv`, with those of pandas."""
    return names_of(pd.read_csv) | {"max_columns"}


def csv_options(arguments: dict[str, Any]) -> dict[str, Any]:
    """Take the options of `read_csv` out of `arguments`.

    Args:
        arguments: The keywords of a function that reads a CSV file; what is left is for other purposes.
    """
    return {name: arguments.pop(name) for name in csv_option_names() & arguments.keys()}


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
