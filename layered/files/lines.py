"""Text files that list something, a name or an address in each line."""

from __future__ import annotations

import codecs
import os

from layered.files.bounded import open_bounded
from layered.foundation import BadFile


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a text file in UTF-8, without those that are empty and without spaces around them.

    Args:
        path: The file.

    Raises:
        NotFoundPath: The file does not exist.
        BadFile: It is not text in UTF-8, or cannot be read.
    """
    with open_bounded(path) as file:
        file.most = file.size
        data = file.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "latin-1"
        line = 1 + data.count(b"\n", 0, error.start)
        raise BadFile(
            f"the list '{path}' is not text in UTF-8",
            got=f"the byte 0x{data[error.start]:02x} in line {line}",
            fix=f"file = Path({os.fspath(path)!r}); file.write_text(file.read_text({encoding!r}), 'utf-8'), "
            "or with the encoding that it was written in",
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]
