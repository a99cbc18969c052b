"""Reading texts: from files, folders and the columns of tables."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from layered.data import ColReader, get_files
from layered.files import read_whole
from layered.foundation import BadArgument, BadFile, EmptySource, L, StrPath, describe, lazy, listify
from layered.text.rules import FLD

pd = lazy("pandas")


class TextReader:
    """The text of an item: a text itself, the content of a file, or columns of a row.

    Args:
        text_cols: The column or columns that hold the text of a row.
        mark_fields: Put `xxfld` and a number before the text of each column; by default if there are several.
        encoding: How the bytes of files are read.
    """

    def __init__(self, text_cols: Any = None, mark_fields: bool | None = None, encoding: str = "utf8") -> None:
        self.text_cols = listify(text_cols)
        self.mark_fields = len(self.text_cols) > 1 if mark_fields is None else mark_fields
        self.encoding = encoding
        self._columns = ColReader(self.text_cols) if self.text_cols else None

    def __call__(self, o: object) -> str:
        if isinstance(o, str) and not self.is_several:
            return o
        if isinstance(o, os.PathLike) and not self.is_several:
            return read_text(o, self.encoding)
        if self._columns is None:
            return as_text(o)
        return joined_fields(self.fields(o), self.mark_fields)

    def fields(self, o: object) -> list[str]:
        """The text of each column of a row, or of a list that has them in this order.

        Args:
            o: The row, or the list; a text alone is that of the only column.
        """
        columns = self._columns
        if columns is None or (isinstance(o, (str, os.PathLike)) and len(self.text_cols) == 1):
            return [self(o)]
        if isinstance(o, (str, os.PathLike)) or (isinstance(o, (list, L)) and len(o) != len(self.text_cols)):
            raise BadArgument(
                "the texts of several columns are needed",
                got=describe(o),
                expected=f"those of {', '.join(map(repr, self.text_cols))}: a row of the table, or a list of texts",
                fix="TextBlock.from_df(columns) without get_x=, which would read before it",
            )
        cells = o if isinstance(o, (list, L)) else columns(o)
        return [*map(as_text, cells if isinstance(cells, (list, L)) and self.is_several else [cells])]

    @property
    def is_several(self) -> bool:
        """Whether each item has several texts."""
        return len(self.text_cols) > 1

    def words(self, o: object) -> list[str]:
        """The words of an item: of a list these, of a text what stands between its spaces.

        Args:
            o: A list of words, a text, a file, or a row.
        """
        if isinstance(o, (list, L, np.ndarray)) or type(o) is tuple:
            return [*map(as_text, o)]
        if self._columns is None or isinstance(o, (str, os.PathLike)):
            return self(o).split()
        cells = self._columns(o)
        if len(self.text_cols) > 1:
            raise BadArgument(
                "words are in one column", got=f"text_cols={self.text_cols}", fix=f"text_cols={self.text_cols[0]!r}"
            )
        return self.words(cells)


def read_text(path: StrPath, encoding: str = "utf8") -> str:
    """The text of a file.

    Args:
        path: The file.
        encoding: How its bytes are read.

    Raises:
        NotFoundPath: There is no such file.
        BadFile: It is not text of that encoding, or a pipe or a device.
    """
    try:
        return io.TextIOWrapper(io.BytesIO(read_whole(path)), encoding).read()
    except UnicodeDecodeError as error:
        raise BadFile(
            f"'{path}' is not text in the encoding {error.encoding}",
            got=f"the byte 0x{error.object[error.start]:02x} at position {error.start}",
            fix='encoding="latin-1", or the one that the file was written with; or leave the file out',
        ) from error


def joined_fields(texts: Sequence[object], mark_fields: bool) -> str:
    """The texts of several columns as one.

    Args:
        texts: One for each column.
        mark_fields: Put `xxfld` and the number of the column before each.

    Examples:
        >>> joined_fields(["A film", "good"], mark_fields=True)
        'xxfld 1 A film xxfld 2 good'
    """
    parts = map(as_text, texts)
    return " ".join(f"{FLD} {i} {text}" for i, text in enumerate(parts, 1)) if mark_fields else " ".join(parts)


def as_text(o: object) -> str:
    """`o`, if it is a text.

    Args:
        o: Anything.

    Raises:
        BadArgument: It is missing, a number, bytes or anything else.
    """
    if isinstance(o, str):
        return o
    is_gap = pd.isna(o) is True
    raise BadArgument(
        "a text is missing" if is_gap else "this is not a text",
        got=describe(o),
        expected="a str; an empty one is allowed",
        fix="drop such rows (df.dropna(subset=[column])), or fill them (df[column].fillna(''))"
        if is_gap
        else "decode it (o.decode())"
        if isinstance(o, bytes)
        else "is_split=True, if these are the words of a text"
        if isinstance(o, (list, tuple, L, np.ndarray))
        else "make it one (df[column].astype(str))",
    )


def text_files(path: StrPath, extensions: str | Iterable[str] | None = None, folders: Iterable[str] | None = None) -> L:
    """The text files under a folder, sorted by path.

    Args:
        path: The folder.
        extensions: Their suffixes; ".txt" by default.
        folders: Only these direct subfolders.

    Raises:
        EmptySource: There are none.
    """
    wanted = ".txt" if extensions is None else extensions
    files = get_files(path, wanted, folders=folders)
    if not files:
        others = get_files(path, None, folders=folders)
        raise EmptySource(
            f"found no text files under '{path}'",
            got=f"{len(others)} other files, first '{others[0].name}'" if others else "an empty folder",
            expected=f"files with the suffix {', '.join(listify(wanted))}",
            fix=f'extensions="{others[0].suffix}", or check the path'
            if others and others[0].suffix
            else "check the path",
        )
    return files
