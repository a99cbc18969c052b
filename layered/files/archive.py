"""The library's files: one safetensors file each, with a JSON manifest in its metadata. Data, never code.

    8 bytes    length of the header, little-endian
    header     {"__metadata__": {"sha256", "format", "kind", "layered": the manifest, "tied": alias -> name},
                name of a tensor: {"dtype", "shape", "data_offsets"}, ...}
    data       the tensors' bytes, little-endian, wide types first, without gaps

The sha256 is that of the whole file with its own 64 digits set to zero, so no byte changes unnoticed. It comes first in
the header, at a fixed offset, so that it can be filled in after the data have been written and hashed in one pass.

What a file claims (lengths, counts, depths, shapes, offsets) is checked against fixed bounds and the file's real size
before memory is spent on it. Every reader of safetensors can open these files. The reader and the writer here do not
use the package `safetensors`: it neither hashes what it reads nor bounds what a header may hold, and it writes without
the durability of `commit`.

`layered.files.codec` describes the values in a manifest, `layered.training.export` the manifest of an export.
Format 2 is written; format 1 is read through `layered.files.format_1`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import torch
from torch import Tensor

from layered.files.bounded import (
    COPY_AGAIN,
    MAX_DEPTH,
    MAX_READ,
    BoundedFile,
    check_bools,
    open_bounded,
    parse_json,
    pieces,
    read_tensor,
    shape_fits,
)
from layered.files.durable import commit
from layered.files.format_1 import upgraded_manifest
from layered.foundation import BadFile, BadValue, NewerFormat, NotExportable, full_tensor, is_sharded, local_part

FORMAT = 2  # of the files that are written; those of format 1 are read too
MAX_TENSORS = 20_000
Kind = Literal["export", "ensemble", "checkpoint", "weights"]

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_DIGEST_COMES = b'{"__metadata__":{"sha256":"'
_NO_DIGEST = b"0" * 64


@dataclass(frozen=True)
class Archive:
    """What one file holds. The tensors own their memory, so the file may be replaced or deleted at any time."""

    path: Path
    kind: str
    manifest: dict[str, Any]
    tensors: dict[str, Tensor]
    sha256: str


def write_archive(
    path: str | os.PathLike[str],
    manifest: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    kind: Kind = "weights",
    full: Callable[[Tensor], Tensor] = full_tensor,
) -> Path:
    """Write one file, durably (see `commit`).

    Args:
        path: The file, replaced as a whole; its folder is created if missing.
        manifest: Plain data: dicts with string keys, lists, strings, numbers, booleans and None. Numbers come back
            exactly, NaN and infinities too; a tuple comes back as a list.
        tensors: By name, on any device, moved one at a time; tied ones (the same view of the same memory) are stored
            once and come back tied. They must not change while they are written.
        kind: What the file is for; `read_archive` checks it.
        full: Called on each tensor as its turn comes; by default it gathers sharded ones, with all processes.

    Raises:
        NotExportable: Something is neither plain data nor a dense tensor.
        CannotSave: The file cannot be written.
    """
    if kind not in get_args(Kind):
        raise BadValue("unknown kind of archive", got=repr(kind), expected=" or ".join(get_args(Kind)))
    _check_plain(manifest, "manifest", 1)
    stored, tied = in_order({name: _dense(name, x) for name, x in tensors.items()})
    if max(len(stored), len(tied)) > MAX_TENSORS:
        raise NotExportable("too many tensors for a file", got=len(tensors), expected=f"at most {MAX_TENSORS}")
    header = _make_header({"kind": kind, "layered": json.dumps(manifest), "tied": json.dumps(tied)}, stored)

    def write(file: BinaryIO) -> None:
        digest = hashlib.sha256(header)
        file.write(header)
        for x in stored.values():
            for piece in pieces(full(x).cpu().contiguous()):
                digest.update(piece)
                file.write(piece)
        file.seek(8 + len(_DIGEST_COMES))
        file.write(digest.hexdigest().encode())

    return commit(path, write)


def _check_plain(value: object, where: str, depth: int) -> None:
    """Refuse what JSON would change or cannot hold, naming the place."""
    if depth > MAX_DEPTH:
        raise NotExportable(f"{where:.80}… is nested too deep to be stored", expected=f"at most {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise NotExportable(f"a key of {where} is not a string", got=repr(key), fix="store a list of pairs")
            _check_plain(item, f"{where}[{key!r}]", depth + 1)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            if type(item) is not str:  # vocabularies are long
                _check_plain(item, f"{where}[{i}]", depth + 1)
    elif not isinstance(value, (str, int, float, type(None))):
        raise NotExportable(
            f"{where} is not plain data",
            got=f"{type(value).__name__} {value!r:.80}",
            expected="dicts, lists, strings, numbers, booleans or None; tensors go beside the manifest",
        )


def _dense(name: str, x: Tensor) -> Tensor:
    """`x` as a plain tensor whose bytes are its values."""
    if not isinstance(x, Tensor) or x.layout is not torch.strided or x.is_meta or x.dtype not in _CODES:
        raise NotExportable(
            f"'{name}' is not a tensor that a file can hold",
            got=f"{x.dtype}, {x.layout}, on {x.device}" if isinstance(x, Tensor) else type(x).__name__,
            expected="a dense tensor with data, of " + ", ".join(str(d).removeprefix("torch.") for d in _CODES),
        )
    return x.detach() if is_sharded(x) else x.detach().as_subclass(Tensor).resolve_conj().resolve_neg()


def untied(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors to store, and which other names stand for which of them."""
    first: dict[object, str] = {}
    tied: dict[str, str] = {}
    for name, x in tensors.items():
        part = local_part(x)
        view = (x.device, part.data_ptr(), x.dtype, x.shape, x.stride()) if part.numel() else name
        if first.setdefault(view, name) != name:
            tied[name] = first[view]
    return {name: x for name, x in tensors.items() if name not in tied}, tied


def in_order(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What `untied` returns, the tensors in the order of a file."""
    stored, tied = untied(tensors)
    return dict(sorted(stored.items(), key=lambda item: -item[1].itemsize)), tied


def _make_header(metadata: dict[str, str], stored: Mapping[str, Tensor]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"sha256": _NO_DIGEST.decode(), "format": str(FORMAT), **metadata}}
    end = 0
    for name, x in stored.items():
        if name in entries:
            raise NotExportable(f"no tensor may be named '{name}'")
        begin, end = end, end + x.numel() * x.itemsize
        entries[name] = {"dtype": _CODES[x.dtype], "shape": list(x.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    raw = text + b" " * (-len(text) % 8)
    try:
        parse_json(metadata["layered"], "the manifest")
        _parse_header(raw, end, "the archive")
    except BadFile as error:
        raise NotExportable("this is more than a single file may hold", got=error) from None
    return len(raw).to_bytes(8, "little") + raw


def read_archive(path: str | os.PathLike[str], *, kind: Kind | None = None) -> Archive:
    """Read a file that `write_archive` wrote, whole and checked; nothing that it names is imported or run.

    The bytes that are hashed are the bytes that become tensors: they are read once, into memory of their own. (A
    file mapped into memory could change after the check, or kill the process when somebody shortens it.)

    Args:
        path: The file.
        kind: What the file must be for; None accepts every kind.

    Raises:
        NotFoundPath: There is no such file.
        NewerFormat: A later version of the library wrote it.
        BadFile: It is truncated, edited, of another kind, or not a file of this library.
    """
    with open_bounded(path) as file:
        raw, header = _read_header(file)
        found = _check_ours(header.metadata, file.path, kind)
        blank = _DIGEST_COMES + _NO_DIGEST
        digest = hashlib.sha256(len(raw).to_bytes(8, "little") + blank + raw[len(blank) :])
        tensors = _read_tensors(file, header, digest.update)
    if digest.hexdigest() != header.metadata["sha256"]:
        raise BadFile(
            f"'{path}' has changed since it was written: its bytes no longer match their sha256",
            got=digest.hexdigest(),
            expected=header.metadata["sha256"],
            fix=COPY_AGAIN,
        )
    manifest = parse_json(header.metadata["layered"], f"the manifest of '{path}'")
    tied = parse_json(header.metadata["tied"], f"the list of tied tensors of '{path}'")
    if not isinstance(manifest, dict) or not isinstance(tied, dict) or not set(map(str, tied.values())) <= set(tensors):
        raise BadFile(f"the manifest of '{path}' has an unknown form")
    if len(tied) > MAX_TENSORS:
        raise BadFile(f"'{path}' lists too many names of tensors", got=len(tied), expected=f"at most {MAX_TENSORS}")
    tensors.update({alias: tensors[str(name)] for alias, name in tied.items()})
    if header.metadata["format"] == "1":
        manifest = upgraded_manifest(manifest, found)
    return Archive(Path(path), found, manifest, tensors, digest.hexdigest())


def read_digest(path: str | os.PathLike[str]) -> str:
    """The sha256 that a file of `write_archive` says it has; `read_archive` checks it.

    Args:
        path: The file.
    """
    with open_bounded(path) as file:
        file.read(8)
        file.read(len(_DIGEST_COMES))
        return file.read(len(_NO_DIGEST)).decode("ascii", "replace")


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of any safetensors file, within the same bounds; `read_archive` checks a file of this library.

    Args:
        path: The file.

    Raises:
        NotFoundPath: There is no such file.
        BadFile: It is truncated, edited or not a safetensors file.
    """
    with open_bounded(path) as file:
        header = _read_header(file)[1]
        if "layered" not in header.metadata:
            return _read_tensors(file, header, lambda piece: None)
    return read_archive(path).tensors


def _check_ours(metadata: dict[str, str], path: str, kind: str | None) -> str:
    """The kind of the file, if the library wrote it, in a known format and as the kind that was asked for."""
    if "layered" not in metadata:
        raise BadFile(
            f"'{path}' is a safetensors file without the manifest of this library",
            fix="if it holds weights, pass it as weights=, or read it with read_weights",
        )
    form = metadata.get("format", "")
    if form.isdecimal() and int(form[:9]) > FORMAT:
        raise NewerFormat(
            f"'{path}' was written by a newer version of the library",
            got=f"format {form[:9]}",
            expected=f"format {FORMAT}",
            fix="pip install -U layered-learn",
        )
    found = metadata.get("kind", "")
    if form not in ("1", str(FORMAT)) or found not in _OPENED_BY or not {"sha256", "tied"} <= set(metadata):
        raise BadFile(f"the metadata of '{path}' has an unknown form", fix=COPY_AGAIN)
    if kind is not None and found != kind:
        raise BadFile(f"'{path}' is for something else", got=found, expected=kind, fix=_OPENED_BY[found])
    return found


_OPENED_BY = {
    "export": "load_learner opens an export",
    "ensemble": "load_ensemble opens an ensemble",
    "checkpoint": "fit(..., resume=file) resumes from a checkpoint",
    "weights": "learn.load(file) loads the weights of a learner; read_weights reads any weights",
}


@dataclass(frozen=True)
class _Slot:
    begin: int
    end: int
    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Header:
    metadata: dict[str, str]
    slots: dict[str, _Slot]  # in the order of the data


def _read_tensors(file: BoundedFile, header: _Header, see: Callable[[memoryview], object]) -> dict[str, Tensor]:
    what = f"'{file.path}'"
    return {
        name: check_bools(read_tensor(file, slot.dtype, slot.shape, what, see), what)
        for name, slot in header.slots.items()
    }


def _read_header(file: BoundedFile) -> tuple[bytes, _Header]:
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(MAX_READ, file.remaining) or file.peek(1)[:1] != b"{":
        raise BadFile(
            f"'{file.path}' is not a safetensors file",
            got=file.look(),
            fix="weights of other libraries go in as weights=; an export of this library ends in .layered",
        )
    raw = file.read(length)
    return raw, _parse_header(raw, file.remaining, f"'{file.path}'")


def _parse_header(raw: bytes, room: int, what: str) -> _Header:
    """The header's claims, each checked against the bounds and the `room` bytes of data that really follow."""
    entries = parse_json(raw, f"the header of {what}")
    if not isinstance(entries, dict):
        raise BadFile(f"the header of {what} is not a table of tensors")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise BadFile(f"the metadata of {what} is not a table of strings")
    if len(entries) > MAX_TENSORS:
        raise BadFile(f"{what} lists too many tensors", got=len(entries), expected=f"at most {MAX_TENSORS}")
    slots = {name: _slot(entry, f"the tensor '{name}' of {what}") for name, entry in entries.items()}
    slots = dict(sorted(slots.items(), key=lambda item: (item[1].begin, item[1].end)))
    end = 0
    for name, slot in slots.items():
        if slot.begin != end:
            raise BadFile(f"the tensor '{name}' of {what} does not start where the one before it ends")
        end = slot.end
    if end != room:
        raise BadFile(
            f"{what} is truncated" if end > room else f"{what} is longer than its header says",
            got=f"{room} bytes of data",
            expected=f"{end} bytes",
            fix=COPY_AGAIN,
        )
    return _Header(metadata, slots)


def _slot(entry: object, what: str) -> _Slot:
    match entry:
        case {"dtype": str(code), "shape": list(shape), "data_offsets": [int(begin), int(end)]} if code in DTYPES:
            count, rest = divmod(end - begin, DTYPES[code].itemsize)
            if not rest and shape_fits(shape, count) and math.prod(shape) == count:
                return _Slot(begin, end, DTYPES[code], tuple(shape))
    raise BadFile(
        f"the entry of {what} is invalid", got=reprlib.repr(entry), expected="a known dtype, a shape and an offset"
    )
