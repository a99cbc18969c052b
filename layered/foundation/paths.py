"""`Path`: that of the standard library, with `ls` and a short repr."""

from __future__ import annotations

import errno
import os
import pathlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from layered.foundation.lists import L
from layered.foundation.optional import lazy
from layered.foundation.types import StrPath

mimetypes = lazy("mimetypes")

# Listed, since Python's table of suffixes depends on the system and on what was imported before.
IMAGE_SUFFIXES = frozenset({
    ".apng", ".avif", ".avifs", ".bmp", ".bw", ".cur", ".dcx", ".dds", ".dib", ".gif", ".heic", ".heif", ".icns",
    ".ico", ".ief", ".im", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo",
    ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".ras", ".rgb", ".rgba", ".sgi", ".svg",
    ".tga", ".tif", ".tiff", ".webp", ".xbm", ".xpm", ".xwd",
})  # fmt: skip


@contextmanager
def _nameable(path: object) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error), str(path)) from error


class Path(type(pathlib.Path())):  # type: ignore[misc]  # the concrete class for this operating system
    """A path with `ls`; everything else is `pathlib.Path`, but that names which no file can have are errors of the system.

    Attributes:
        BASE_PATH: If set, paths below it are shown relative to it.
    """

    BASE_PATH: ClassVar[StrPath | None] = None

    def ls(
        self,
        n_max: int | None = None,
        file_type: str | None = None,
        file_exts: str | Iterable[str] | None = None,
    ) -> L[Path]:
        """The contents of the folder, sorted by name.

        Args:
            n_max: The most paths to return.
            file_type: Only files of this MIME type: "image".
            file_exts: Only files with these suffixes: ".png".
        """
        wanted: set[str] | None = None
        if file_exts is not None:
            wanted = {file_exts} if isinstance(file_exts, str) else set(file_exts)
        if file_type is not None:
            known = mimetypes.MimeTypes().types_map[True]  # without those that the system or other code has added
            named = {suffix for suffix, mime in known.items() if mime.startswith(file_type)}
            named |= IMAGE_SUFFIXES if file_type.startswith("image") else set()
            wanted = named if wanted is None else wanted | named
        found = (o for o in sorted(self.iterdir()) if wanted is None or o.suffix.lower() in wanted)
        return L(list(found)[:n_max], use_list=True)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """The status of the file. A name that is too long for the system counts as a file that does not exist."""
        try:
            status: os.stat_result = super().stat(follow_symlinks=follow_symlinks)
            return status
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise FileNotFoundError(errno.ENOENT, error.strerror, str(self)) from error

    def open(self, *args: Any, **kwargs: Any) -> Any:
        """Open the file, as the builtin `open` does. A name with a NUL character is an OSError."""
        with _nameable(self):
            return super().open(*args, **kwargs)

    def mkdir(self, *args: Any, **kwargs: Any) -> None:
        """Make the folder, as `os.mkdir` does. A name with a NUL character is an OSError."""
        with _nameable(self):
            super().mkdir(*args, **kwargs)

    def touch(self, *args: Any, **kwargs: Any) -> None:
        """Make the file if it does not exist. A name with a NUL character is an OSError."""
        with _nameable(self):
            super().touch(*args, **kwargs)

    def __repr__(self) -> str:
        path: Any = pathlib.Path(self)
        if self.BASE_PATH is not None:
            try:
                path = path.relative_to(self.BASE_PATH)
            except ValueError:
                path = pathlib.Path(self)
        return f"Path({path.as_posix()!r})"
