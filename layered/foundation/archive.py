"""Our files: one safetensors file each, with a JSON manifest in its metadata. Data, never code.

    8 bytes    length of the header, little-endian
    header     {"__metadata__": {"sha256", "format", "kind", "layered": the manifest, "tied": alias -> name},
                tensor name: {"dtype", "shape", "data_offsets"}, ...}
    data       the tensors' bytes, little-endian, wide types first, without holes

The sha256 is that of the whole file with its own 64 digits set to zero, so no byte can change unnoticed. Everything
that a file claims (lengths, counts, depths, shapes, offsets) is held against fixed bounds and the file's real size
before memory is spent on it. Any reader of safetensors can open these files.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from layered.foundation.errors import (
    BadFile,
    BadValue,
    CannotSave,
    LayeredError,
    NewerFormat,
    NotExportable,
    NotFoundPath,
)

FORMAT = 1
Kind = Literal["export", "checkpoint", "weights"]

MAX_HEADER = 64 * 2**20  # bytes
MAX_VALUES = 4 * 2**20  # JSON values in one header or manifest
MAX_DEPTH = 100  # of nesting
MAX_TENSORS = 100_000
PIECE = 2**20  # bytes hashed and moved at a time

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_DIGEST_AT = '{"__metadata__":{"sha256":"'
_NO_DIGEST = "0" * 64


@dataclass(frozen=True)
class Archive:
    """What one file holds. The tensors own their memory: the file may be replaced or deleted at any time."""

    path: Path
    kind: str
    manifest: dict[str, Any]
    tensors: dict[str, Tensor]


def commit(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> Path:
    """Make `path` hold what `write(file)` writes, all of it or nothing; the one seam that every written file passes.

    A temporary file in the same folder (made if missing) is written, synced to disk and renamed, then the folder is
    synced. Whatever goes wrong before the rename, Ctrl-C included, leaves the old file as it was and no litter.

    raises     CannotSave (an OSError) for a full or read-only disk and its kin, the cause chained

    >>> import tempfile
    >>> commit(Path(tempfile.mkdtemp()) / "a.txt", lambda file: file.write(b"hello")).read_bytes()
    b'hello'
    """
    target = Path(os.path.realpath(path))
    temp = target.with_name(f".layered-{os.getpid()}-{os.urandom(6).hex()}.tmp")
    try:
        _make_folder(target.parent)
        try:
            with open(temp, "xb", buffering=PIECE) as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temp, target)
        except BaseException:
            with contextlib.suppress(OSError):
                temp.unlink()
            raise
        _sync_folder(target.parent)
    except LayeredError:
        raise
    except OSError as error:
        raise CannotSave(f"could not write '{path}'", got=error, fix=_REMEDIES.get(error.errno or 0)) from error
    return Path(path)


_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space, or choose a folder on another disk"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose a folder that you may write to"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a part of the path is a file: choose another folder"),
    **dict.fromkeys((errno.EISDIR,), "this is a folder: add a file name"),
}


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # elsewhere a folder cannot be opened, and the rename is durable by itself
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems without folder sync
            raise
    finally:
        os.close(handle)


def write_archive(
    path: str | os.PathLike[str], manifest: Mapping[str, Any], tensors: Mapping[str, Tensor], *, kind: Kind = "weights"
) -> Path:
    """Write one file of ours, durably (see `commit`).

    manifest   plain data: dicts with string keys, lists, strings, numbers, booleans and None. Numbers come back
               exactly, NaN and infinities too; a tuple comes back as a list
    tensors    by name, on any device, moved one at a time; tied ones (the same view of the same memory) are stored
               once. They must not change while they are written
    kind       what the file is for; `read_archive` checks it
    raises     NotExportable for what is not plain data or no dense tensor, CannotSave if the disk refuses
    """
    if kind not in get_args(Kind):
        raise BadValue("an archive of unknown kind", got=repr(kind), expected=" or ".join(get_args(Kind)))
    _check_plain(manifest, "manifest", 0)
    stored, tied = _untie({name: _dense(name, x) for name, x in tensors.items()})
    ordered = dict(sorted(stored.items(), key=lambda item: -item[1].itemsize))
    header = _make_header({"kind": kind, "layered": json.dumps(manifest), "tied": json.dumps(tied)}, ordered)

    def write(file: BinaryIO) -> None:
        digest = hashlib.sha256(header)
        file.write(header)
        for x in ordered.values():
            for piece in pieces(_bytes_of(x.cpu().contiguous())):
                digest.update(piece)
                file.write(piece)
        file.seek(8 + len(_DIGEST_AT))
        file.write(digest.hexdigest().encode())

    return commit(path, write)


def _check_plain(value: Any, where: str, depth: int) -> None:
    """Refuse what JSON would change or could not hold, naming the place."""
    if depth > MAX_DEPTH:
        raise NotExportable(f"{where} is nested too deep to be stored", expected=f"at most {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise NotExportable(f"a key of {where} is no string", got=repr(key), fix="store a list of pairs")
            _check_plain(item, f"{where}[{key!r}]", depth + 1)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            if type(item) is not str:  # a vocabulary is a long list of strings
                _check_plain(item, f"{where}[{i}]", depth + 1)
    elif not isinstance(value, (str, int, float, type(None))):
        raise NotExportable(
            f"{where} cannot be stored as data",
            got=f"{type(value).__name__} {value!r:.80}",
            expected="dicts, lists, strings, numbers, booleans or None; tensors go beside the manifest",
        )


def _dense(name: str, x: Tensor) -> Tensor:
    if not isinstance(x, Tensor):
        raise NotExportable(f"'{name}' is no tensor", got=type(x).__name__)
    if x.layout is not torch.strided or x.is_meta or x.dtype not in _CODES:
        raise NotExportable(
            f"the tensor '{name}' cannot be stored",
            got=f"{x.dtype}, {x.layout}, on {x.device}",
            expected="a dense tensor with data, of one of " + ", ".join(str(d).removeprefix("torch.") for d in _CODES),
        )
    return x.detach().as_subclass(Tensor).resolve_conj().resolve_neg()


def _untie(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors to store, and which other names stand for which of them."""
    stored: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    first: dict[object, str] = {}
    for name, x in tensors.items():
        view = (x.device, x.data_ptr(), x.dtype, x.shape, x.stride()) if x.numel() else name
        if first.setdefault(view, name) == name:
            stored[name] = x
        else:
            tied[name] = first[view]
    return stored, tied


def _make_header(metadata: dict[str, str], ordered: Mapping[str, Tensor]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"sha256": _NO_DIGEST, "format": str(FORMAT), **metadata}}
    end = 0
    for name, x in ordered.items():
        if name in entries:
            raise NotExportable(f"no tensor may be named '{name}'")
        begin, end = end, end + x.numel() * x.itemsize
        entries[name] = {"dtype": _CODES[x.dtype], "shape": list(x.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    raw = text + b" " * (-len(text) % 8)
    try:
        parse_json(metadata["layered"].encode(), "the manifest")
        _parse_header(raw, end)
    except BadFile as error:
        raise NotExportable("this is more than one file can hold", got=error.problem, expected=error.expected) from None
    return len(raw).to_bytes(8, "little") + raw


def read_archive(path: str | os.PathLike[str], *, kind: Kind | None = None) -> Archive:
    """Read a file of ours, whole and checked; nothing that it names is imported or run.

    The bytes that are hashed are the bytes that become tensors: they are read once into memory of their own. A file
    mapped into memory would be quicker to open, and would kill the process, or change under a checked hash, if
    somebody wrote over it.

    kind       refuse a file that is for something else
    raises     NotFoundPath; NewerFormat for a file of a later format; BadFile for one that is truncated, edited,
               of another kind or not ours
    """
    with open_regular(path) as file:
        raw = _read_header(file)
        header = _parse_header(raw, file.remaining)
        found = _check_ours(header.metadata, path, kind)
        start = (_DIGEST_AT + _NO_DIGEST).encode()
        digest = hashlib.sha256(len(raw).to_bytes(8, "little") + start + raw[len(start) :])
        tensors = _read_tensors(file, header, digest.update)
    if digest.hexdigest() != header.metadata["sha256"]:
        raise BadFile(
            f"'{path}' was changed after it was written: its bytes no longer match their sha256",
            got=digest.hexdigest(),
            expected=header.metadata["sha256"],
            fix="copy it again from where it came",
        )
    manifest = parse_json(header.metadata["layered"].encode(), f"the manifest of '{path}'")
    tied = parse_json(header.metadata["tied"].encode(), f"the tied names of '{path}'")
    if not isinstance(manifest, dict) or not isinstance(tied, dict) or not set(tied.values()) <= set(tensors):
        raise BadFile(f"the manifest of '{path}' does not have the form of ours")
    tensors.update({alias: tensors[name] for alias, name in tied.items()})
    return Archive(Path(path), found, manifest, tensors)


def read_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of any safetensors file, bounded, without looking for a manifest or a hash.

    raises     NotFoundPath, BadFile
    """
    with open_regular(path) as file:
        header = _parse_header(_read_header(file), file.remaining)
        return header.metadata, _read_tensors(file, header, lambda piece: None)


def _check_ours(metadata: dict[str, str], path: str | os.PathLike[str], kind: str | None) -> str:
    if "layered" not in metadata:
        raise BadFile(
            f"'{path}' is a safetensors file without a manifest of ours",
            fix="if these are weights, pass the file as weights=, or read it with read_weights",
        )
    form = metadata.get("format", "")
    if form.isdecimal() and int(form[:9]) > FORMAT:
        raise NewerFormat(
            f"'{path}' was written by a newer version of the library",
            got=f"format {form[:9]}",
            expected=f"format {FORMAT} or older",
            fix="pip install -U layered-learn",
        )
    found = metadata.get("kind", "")
    if form != str(FORMAT) or found not in get_args(Kind) or not {"sha256", "tied"} <= set(metadata):
        raise BadFile(f"the metadata of '{path}' does not have the form of ours", fix="copy it again from its source")
    if kind is not None and found != kind:
        raise BadFile(f"'{path}' is for something else", got=found, expected=kind, fix=_OPENED_BY[found])
    return found


_OPENED_BY = {
    "export": "load_learner opens an export",
    "checkpoint": "learn.load and fit(resume=...) open a checkpoint",
    "weights": "pass weights as weights=, or read them with read_weights",
}


class BoundedFile(io.BufferedReader):
    """A file for reading that gives out no more than it holds, and never `MAX_HEADER` bytes or more in one piece.

    So no length that the file claims can become an allocation.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(io.FileIO(path))
        self.path = path
        self.size = os.fstat(self.fileno()).st_size

    @property
    def remaining(self) -> int:
        return max(self.size - self.tell(), 0)

    def read(self, size: int | None = -1) -> bytes:
        want = self.remaining if size is None or size < 0 else min(size, self.remaining)
        if want > MAX_HEADER:
            raise BadFile(f"'{self.path}' asks for {want} bytes at once", expected=f"at most {MAX_HEADER}")
        return super().read(want)

    def readline(self, size: int | None = -1) -> bytes:
        return super().readline(MAX_HEADER if size is None or size < 0 else min(size, MAX_HEADER))

    def fill(self, into: memoryview[int]) -> None:
        """Read exactly `len(into)` bytes."""
        if self.readinto(into) != len(into):
            raise BadFile(f"'{self.path}' ends too early", fix="copy it again: the copy may have been cut off")


def open_regular(path: str | os.PathLike[str]) -> BoundedFile:
    """Open a regular file for bounded reading.

    raises     NotFoundPath if there is nothing, BadFile for a folder, a pipe or a device, or a file one may not read
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise BadFile(f"'{path}' is no regular file", got="a folder" if os.path.isdir(path) else "a device")
        return BoundedFile(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundPath(f"there is no file '{path}'", got=f"working folder {os.getcwd()}") from error
    except (OSError, ValueError) as error:
        if isinstance(error, LayeredError):
            raise
        raise BadFile(f"'{path}' cannot be opened", got=error) from error


def pieces(raw: memoryview[int]) -> Iterator[memoryview[int]]:
    """Consecutive parts of at most `PIECE` bytes."""
    return (raw[i : i + PIECE] for i in range(0, len(raw), PIECE))


def _bytes_of(x: Tensor) -> memoryview[int]:
    """The memory of a contiguous tensor of the CPU, shared."""
    return memoryview(x.reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]  # arrays are buffers


def read_tensor(
    file: Any, dtype: torch.dtype, shape: tuple[int, ...], see: Callable[[memoryview[int]], object]
) -> Tensor:
    """The next bytes of `file` (anything with `fill`) as a tensor that owns its memory; `see` gets them piece by piece.

    raises     BadFile if they end too early, do not fit in memory, or are no booleans where booleans should be
    """
    try:
        x = torch.empty(shape, dtype=dtype)
    except (RuntimeError, MemoryError) as error:
        raise BadFile("a tensor does not fit in memory", got=f"{dtype} of shape {list(shape)}") from error
    for piece in pieces(_bytes_of(x)):
        file.fill(piece)
        see(piece)
    if dtype is torch.bool and x.numel() and int(x.view(torch.uint8).max()) > 1:
        raise BadFile("a tensor of booleans holds other bytes than 0 and 1")
    return x


@dataclass(frozen=True)
class _Slot:
    begin: int
    end: int
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Header:
    metadata: dict[str, str]
    slots: list[_Slot]  # in the order of their names in the header


def _read_tensors(file: BoundedFile, header: _Header, see: Callable[[memoryview[int]], object]) -> dict[str, Tensor]:
    in_order = sorted(header.slots, key=lambda slot: (slot.begin, slot.end))
    read = {slot.name: read_tensor(file, slot.dtype, slot.shape, see) for slot in in_order}
    return {slot.name: read[slot.name] for slot in header.slots}


def _read_header(file: BoundedFile) -> bytes:
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 2 <= length <= min(MAX_HEADER, file.remaining) or file.peek(1)[:1] != b"{":
        raise BadFile(f"'{file.path}' is no file of this format", got=look_of(start + file.peek(8)[:8], file.size))
    return file.read(length)


def look_of(head: bytes, size: int) -> str:
    """What a file that starts like this seems to be, in words.

    >>> look_of(b"PK\\x03\\x04", 1000)
    'a zip archive, such as torch.save writes'
    """
    for start, name in _LOOKS.items():
        if head.startswith(start):
            return name
    return f"{size} bytes that start with {head[:8]!r}" if size else "an empty file"


_LOOKS = {
    b"PK": "a zip archive, such as torch.save writes",
    b"\x80": "a pickle (this library does not run pickles; export again with learn.export)",
    b"\x1f\x8b": "a gzip archive",
    b"\x89HDF": "an HDF5 file",
    b"<": "a web page or XML: perhaps the download failed",
    b"version https:": "a pointer of git-lfs: fetch the real file with `git lfs pull`",
    b"{": "JSON text",
}


def _parse_header(raw: bytes, room: int) -> _Header:
    """The header's claims, each held against the bounds and the `room` bytes of data that really follow."""
    entries = parse_json(raw, "the header")
    if not isinstance(entries, dict):
        raise BadFile("the header is no table of tensors")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise BadFile("the metadata of the header is no table of strings")
    if len(entries) > MAX_TENSORS:
        raise BadFile("the header lists too many tensors", got=len(entries), expected=f"at most {MAX_TENSORS}")
    slots = [_slot(name, entry) for name, entry in entries.items()]
    end = 0
    for slot in sorted(slots, key=lambda slot: (slot.begin, slot.end)):
        if slot.begin != end:
            raise BadFile(f"the tensor '{slot.name}' does not start where the one before it ends")
        end = slot.end
    if end != room:
        raise BadFile(
            "the file is truncated" if end > room else "the file is longer than its header says",
            got=f"{room} bytes of data",
            expected=f"{end} bytes",
            fix="copy it again: the copy may have been cut off" if end > room else None,
        )
    return _Header(metadata, slots)


def _slot(name: str, entry: Any) -> _Slot:
    match entry:
        case {"dtype": str(code), "shape": list(shape), "data_offsets": [int(begin), int(end)]} if code in DTYPES:
            dtype = DTYPES[code]
            if all(type(d) is int for d in shape) and shape_fits(shape, (end - begin) // dtype.itemsize):
                if math.prod(shape) * dtype.itemsize == end - begin:
                    return _Slot(begin, end, name, dtype, tuple(shape))
    raise BadFile(f"the entry of the tensor '{name}' makes no sense", got=f"{entry!r:.200}")


def shape_fits(shape: list[int] | tuple[int, ...], count: int) -> bool:
    """Whether a tensor of this shape has at most `count` elements and can be addressed at all.

    >>> shape_fits((2, 3), 6), shape_fits((2, -3), 6), shape_fits((0, 2**60, 2**60), 6)
    (True, False, False)
    """
    small = len(shape) <= 32 and all(0 <= d < 2**48 for d in shape)
    return small and math.prod(shape) <= count and math.prod(max(d, 1) for d in shape) < 2**56


_JSON_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_JSON_STEP = bytes.maketrans(b"[{,]}", b"\x01\x01\x00\xff\xff")
_NO_STEP = bytes(set(range(256)) - set(b"[{,]}"))


def parse_json(text: bytes, what: str) -> Any:
    """JSON whose size and depth are checked before anything is built; names may stand only once in an object.

    raises     BadFile, naming `what`

    >>> parse_json(b'{"lr": 0.1, "best": Infinity}', "the manifest")
    {'lr': 0.1, 'best': inf}
    """
    steps = np.frombuffer(_JSON_STRING.sub(b"", text).translate(_JSON_STEP, _NO_STEP), np.int8)
    depth = int(steps.cumsum(dtype=np.int32).max(initial=0)) if len(steps) <= MAX_VALUES else 0
    if len(steps) > MAX_VALUES or depth > MAX_DEPTH + 2:
        raise BadFile(
            f"{what} holds too much",
            got=f"{len(steps)} values, nested {depth} deep",
            expected=f"at most {MAX_VALUES} values, nested {MAX_DEPTH} deep",
        )
    try:
        return json.loads(text, object_pairs_hook=_no_twins)
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{what} is no valid JSON", got=f"{error!s:.200}") from error


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return table
