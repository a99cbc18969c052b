"""Operations on the files of a folder, numbered as they come; one of them fails."""

from __future__ import annotations

import _pyio
import builtins
import errno
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

BY_PATH = (
    "open", "replace", "rename", "unlink", "remove", "mkdir", "rmdir", "truncate", "link", "chmod", "scandir", "listdir", "stat",
    "lstat", "utime", "statvfs",
)  # fmt: skip
BY_HANDLE = ("read", "write", "fsync", "ftruncate", "fstat")
CODES = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EINTR)
SHORT = 0  # a write that writes a part, or a read that reads one


class Failing:
    """Context manager in which operation `at` on files below a folder fails once; without `at` they are only counted.

    Python's own files are opened by their version in Python, so that each of their system calls passes by here.

    Args:
        folder: The folder.
        at: The number of the operation, from 0.
        code: How it fails: a number of `errno`, or SHORT.
        skips: Operations that are not counted.
    """

    def __init__(self, folder: Path, at: int = -1, code: int = errno.EIO, skips: tuple[str, ...] = ("fstat",)) -> None:
        self.folder, self.at, self.code, self.skips = os.path.realpath(folder), at, code, skips
        self.done: list[str] = []
        self.handles: dict[int, str] = {}
        self.turn = threading.Lock()

    def __enter__(self) -> Failing:
        self.kept: dict[tuple[Any, str], Any] = {}
        for name in BY_PATH:
            self._put(os, name, self._by_path(name, getattr(os, name)))
        for name in BY_HANDLE:
            self._put(os, name, self._by_handle(name, getattr(os, name)))
        self._put(os, "close", self._close(os.close))
        for module in (io, builtins):
            self._put(module, "open", self._open(open))
        self._put(io, "FileIO", _pyio.FileIO)
        return self

    def __exit__(self, *error: object) -> None:
        for (module, name), value in self.kept.items():
            setattr(module, name, value)

    def _put(self, module: Any, name: str, value: Any) -> None:
        self.kept[module, name] = getattr(module, name)
        setattr(module, name, value)

    def _is_inside(self, path: Any) -> bool:
        if isinstance(path, int):
            return path in self.handles
        return isinstance(path, (str, os.PathLike)) and os.path.abspath(path).startswith(self.folder)

    def _count(self, name: str, path: Any) -> bool:
        """Whether this operation is to be cut short; raises if it fails."""
        if name in self.skips:
            return False
        with self.turn:
            self.done.append(f"{name} {os.path.relpath(self.handles.get(path, path), self.folder)}")
            is_it = len(self.done) == self.at + 1
        if is_it and self.code != SHORT:
            raise OSError(self.code, os.strerror(self.code), None if isinstance(path, int) else str(path))
        return is_it

    def _open(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, *args: Any, **kwargs: Any) -> Any:
            return (_pyio.open if self._is_inside(file) else plain)(file, *args, **kwargs)

        return opened

    def _by_path(self, name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
            if not self._is_inside(path):
                return plain(path, *args, **kwargs)
            self._count(name, path)
            res = plain(path, *args, **kwargs)
            if name == "open":
                self.handles[res] = os.path.abspath(path)
            return res

        return call

    def _by_handle(self, name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(handle: Any, *args: Any) -> Any:
            if handle not in self.handles:
                return plain(handle, *args)
            if self._count(name, handle) and args:
                args = ((args[0] + 1) // 2,) if name == "read" else (args[0][: (len(args[0]) + 1) // 2],)
            return plain(handle, *args)

        return call

    def _close(self, plain: Callable[[int], None]) -> Callable[[int], None]:
        def close(handle: int) -> None:
            self.handles.pop(handle, None)
            plain(handle)

        return close
