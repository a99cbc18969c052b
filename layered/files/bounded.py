"""Bounded reading of untrusted files: no number in a file turns into memory or time before it has been checked."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from layered.files.durable import remedy
from layered.foundation import BadFile, LayeredError, NotFoundPath

T = TypeVar("T")

MAX_READ = 64 * 2**20  # bytes read in one piece, so also the longest header
MAX_VALUES = 4 * 2**20  # values in one JSON text or pickle
MAX_DEPTH = 100  # levels of nesting
PIECE = 2**20  # bytes moved and hashed at a time

COPY_AGAIN = "copy or download it again: it may have been cut off or damaged on the way"


class BoundedFile(io.BufferedReader):
    """A file for reading that never returns more than `most` bytes in one piece, whatever size is asked for."""

    most = MAX_READ

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(io.FileIO(path))
        self.path = os.fspath(path)
        self.size = os.fstat(self.fileno()).st_size

    @property
    def remaining(self) -> int:
        """Bytes from the current position to the end."""
        return max(self.size - self.tell(), 0)

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= PIECE:
            size = self.remaining if size is None or size < 0 else min(size, self.remaining)
            if size > self.most:
                raise BadFile(f"'{self.path}' wants {size} bytes read at once", expected=f"at most {self.most}")
        try:
            return super().read(size)
        except OSError as error:
            raise unreadable(self.path, error) from error

    def readinto(self, buffer: Any, /) -> int:
        try:
            return super().readinto(buffer)
        except OSError as error:
            raise unreadable(self.path, error) from error

    def readline(self, size: int | None = -1) -> bytes:
        try:
            return super().readline(self.most if size is None or size < 0 else min(size, self.most))
        except OSError as error:
            raise unreadable(self.path, error) from error

    def look(self) -> str:
        """What the file seems to be, by its first bytes, in words."""
        self.seek(0)
        head = self.read(16)
        for start, name in _LOOKS.items():
            if head.startswith(start):
                return name
        return f"{self.size} bytes that start with {head[:8]!r}" if head else "an empty file"


_LOOKS = {
    b"PK": "a zip archive, as torch.save writes",
    b"\x80": "a pickle, which this library does not run",
    b"\x1f\x8b": "a gzip archive",
    b"\x89HDF": "an HDF5 file",
    b"<": "a web page or XML: perhaps the download failed",
    b"version https:": "a pointer of git-lfs: `git lfs pull` fetches the file",
    b"{": "JSON text",
}


def open_bounded(path: str | os.PathLike[str]) -> BoundedFile:
    """Open a regular file.

    Args:
        path: The file.

    Raises:
        NotFoundPath: The file does not exist.
        BadFile: It is a folder, a pipe or a device, or may not be read.
    """
    with reading(path):
        _check_regular(path)
        return BoundedFile(path)


def _check_regular(path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever, and a device may have no end
        raise BadFile(f"'{path}' is not a file", got="a folder" if os.path.isdir(path) else "a pipe or a device")


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Context manager: what the system refuses inside becomes an error that names the file.

    Args:
        path: The file or folder that is read, for the message.

    Raises:
        NotFoundPath: The file does not exist.
        BadFile: It may not be read, or the disk fails.
    """
    try:
        yield
    except LayeredError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        if "\0" not in os.fspath(path):
            raise
        raise BadFile(f"'{path}' cannot be opened", got="a NUL character in the path") from error


def unreadable(path: str | os.PathLike[str], error: OSError) -> LayeredError:
    """The error for what the system refuses when a file or folder is read.

    Args:
        path: The file or folder.
        error: The system's error.
    """
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return NotFoundPath(f"there is no file '{path}'", got=f"the working folder is '{os.getcwd()}'")
    may_not = error.errno in (errno.EACCES, errno.EPERM)
    fix = "allow this user to read it, or leave it out" if may_not else remedy(error.errno)
    return BadFile(f"'{path}' cannot be read", got=error, fix=fix)


def read_whole(path: str | os.PathLike[str], missing_ok: bool = False) -> bytes:
    """All bytes of a file that is known to be small.

    Args:
        path: The file.
        missing_ok: A file that does not exist is read as an empty one.

    Raises:
        NotFoundPath: The file does not exist.
        BadFile: It is a folder, a pipe or a device, may not be read, or the disk fails.
    """
    with reading(path):
        try:
            _check_regular(path)
            with open(path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            if missing_ok:
                return b""
            raise


class Readable(Protocol):
    """Where bytes come from: a file, or a member of a zip archive."""

    def readinto(self, buffer: memoryview, /) -> int: ...  # as many as there are, up to the buffer's length


def read_tensor(
    source: Readable,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    what: str,
    see: Callable[[memoryview], object] = lambda piece: None,
) -> Tensor:
    """Read the next bytes of a source into a new tensor.

    Args:
        source: Where the bytes come from.
        dtype: The dtype of the tensor.
        shape: Its shape, checked by the caller against the size of the file.
        what: The name of the tensor, for messages.
        see: Called with each piece that was read, to hash it.

    Raises:
        BadFile: The bytes end too early, or the tensor does not fit in memory.
    """
    try:
        x = torch.empty(shape, dtype=dtype)
    except (RuntimeError, MemoryError) as error:
        raise BadFile(f"{what} does not fit in memory", got=f"{dtype} of shape {list(shape)}") from error
    fill(x, source, what, see)
    return x


def fill(x: Tensor, source: Readable, what: str, see: Callable[[memoryview], object] = lambda piece: None) -> None:
    """Read the next bytes of `source` into the memory of `x`, a contiguous CPU tensor."""
    for piece in pieces(x):
        if source.readinto(piece) != len(piece):
            raise BadFile(f"{what} ends too early", fix=COPY_AGAIN)
        see(piece)


def pieces(x: Tensor) -> Iterator[memoryview]:
    """The memory of a contiguous CPU tensor, shared, in consecutive parts of at most `PIECE` bytes."""
    raw = x.reshape(-1).view(torch.uint8).numpy().data
    return (raw[i : i + PIECE] for i in range(0, len(raw), PIECE))


def check_bools(x: Tensor, what: str) -> Tensor:
    """`x`, unless it is a boolean tensor with bytes other than 0 and 1: what torch computes with these is undefined."""
    if x.dtype is torch.bool and x.numel() and int(x.view(torch.uint8).max()) > 1:
        raise BadFile(f"{what} is damaged: a boolean tensor holds bytes other than 0 and 1", fix=COPY_AGAIN)
    return x


def shape_fits(shape: list[int] | tuple[int, ...], count: int) -> bool:
    """Whether a tensor of this shape has at most `count` elements and can be addressed at all.

    Examples:
        >>> shape_fits((2, 3), 6), shape_fits((2, -3), 6), shape_fits((0, 2**60, 2**60), 6)
        (True, False, False)
    """
    small = len(shape) <= 32 and all(type(d) is int and 0 <= d < 2**48 for d in shape)
    return small and math.prod(shape) <= count and math.prod(max(d, 1) for d in shape) < 2**56


def exactly(kind: type[T], value: object) -> T:
    """`value`, if its class is exactly `kind`: anything else from a file is not unpacked, copied or printed.

    Args:
        kind: The class.
        value: What a file gave.

    Raises:
        TypeError: Its class is another one, or a subclass.

    Examples:
        >>> exactly(int, 3)
        3
    """
    if type(value) is not kind:
        raise TypeError(f"{type(value).__name__} where a {kind.__name__} should be")
    return value


def plain_key(key: Any) -> Any:
    """`key`, if its hash cannot be made to collide on purpose, so that a dict or a set of such keys stays fast.

    These are strings, bytes, floats, booleans, None and integers of 64 bits; tuples of at most eight strings, booleans,
    None and integers with 64 bits in all. (Python hashes strings with a secret, but an integer by its remainder modulo
    2**61 - 1, so a file could list thousands of large integers with one hash.)

    Args:
        key: What a file gives as a key.

    Raises:
        TypeError: Any other key.

    Examples:
        >>> plain_key(("lr", 3)), plain_key(2**63)
        (('lr', 3), 9223372036854775808)
    """
    kind = type(key)
    if kind in _FEW_ALIKE or (kind is int and key.bit_length() <= 64):
        return key
    parts = key if kind is tuple and len(key) <= 8 else (key,)
    bits = sum(part.bit_length() + 1 for part in parts if type(part) is int)
    if bits <= 65 and all(type(part) is int or type(part) in _IN_TUPLES for part in parts):
        return key
    raise TypeError(f"a key of type {kind.__name__}{f' and {bits} bits' if bits else ''}")


_IN_TUPLES = {str, bytes, bool, type(None)}
_FEW_ALIKE = {float, *_IN_TUPLES}

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_STEP = bytes.maketrans(b"[{,]}", b"\x01\x01\x00\xff\xff")
_NO_STEP = bytes(set(range(256)) - set(b"[{,]}"))


def parse_json(text: str | bytes, what: str) -> Any:
    """Parse JSON after checking its size and depth; a name may occur only once in an object.

    Args:
        text: The JSON text.
        what: Its name, for messages.

    Raises:
        BadFile: It is not JSON, too large or nested too deep.

    Examples:
        >>> parse_json('{"lr": 0.1, "best": Infinity}', "the manifest")
        {'lr': 0.1, 'best': inf}
    """
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    steps = np.frombuffer(_STRING.sub(b"", raw).translate(_STEP, _NO_STEP), np.int8)
    if len(steps) > MAX_VALUES:
        raise BadFile(f"{what} holds too much", got=f"{len(steps)} commas and brackets", expected=f"<= {MAX_VALUES}")
    depth = int(steps.cumsum(dtype=np.int32).max(initial=0))
    if depth > MAX_DEPTH:
        raise BadFile(f"{what} is nested too deep", got=f"{depth} levels", expected=f"at most {MAX_DEPTH}")
    try:
        return json.loads(raw.decode(), object_pairs_hook=_no_twins)
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{what} is not valid JSON", got=f"{error!s:.200}", fix=COPY_AGAIN) from error


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return table
