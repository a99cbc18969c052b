"""Weight files of other libraries, read without running anything from them: torch's two layouts, safetensors, vocabularies."""

from __future__ import annotations

import encodings.cp437  # noqa: F401  # the codec of old names in zip files: reading one must import nothing
import io
import math
import os
import reprlib
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from layered.files.archive import DTYPES, read_safetensors
from layered.files.bounded import (
    COPY_AGAIN,
    MAX_READ,
    PIECE,
    BoundedFile,
    check_bools,
    exactly,
    fill,
    open_bounded,
    parse_json,
    read_tensor,
    shape_fits,
)
from layered.files.pickled import CONVERT, PLAIN_NAMES, Known, read_pickle
from layered.foundation import BadFile, LayeredError, UnsafeFile, tensors_of

MAX_DIRECTORY = 8 * 2**20  # bytes of a zip archive's directory
MAX_REPEATED = 2**20  # elements of a tensor that is larger than its storage
WRAPPERS = ("model", "state_dict", "model_state_dict", "weights", "module")  # where others store a state dict
PREFIXES = ("module.", "_orig_mod.")  # what DataParallel and torch.compile prepend to every name

_LEGACY_START = (0x1950A86A20F9469CFC6C, 1001)  # magic number and version of torch's layout before 1.6


def read_weights(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Tensors and plain data of a weight file, on the CPU; the layout is recognised by content, not by suffix.

    Reads what torch.save writes (the zip layout and the one before torch 1.6), safetensors, and the archives of this
    library. The result is a state dict, or what the file wraps around one: see `state_dict_of`.

    Args:
        path: The file.

    Raises:
        NotFoundPath: There is no such file.
        UnsafeFile: Only running code from the file could read it; the message says how to convert it.
        BadFile: It is damaged, too large, or not a weight file.
    """
    try:
        with open_bounded(path) as file:
            head = file.peek(9)[:9]
            # Safetensors first: the eight bytes before its brace are a length, and may look like any other start.
            if head[8:] == b"{":
                return dict(read_safetensors(path))
            if head.startswith(b"PK"):
                data = _read_zip(file)
            elif head.startswith(b"\x80"):
                data = _read_legacy(file)
            else:
                raise BadFile(f"'{path}' is not a weight file", got=file.look(), expected="torch.save's or safetensors")
        for x in tensors_of(data):
            check_bools(x, f"'{path}'")
    except LayeredError:
        raise
    except _DAMAGE as error:
        raise BadFile(f"'{path}' is damaged", got=f"{error!s:.200}", fix=COPY_AGAIN) from error
    if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
        raise BadFile(
            f"'{path}' does not hold tensors by name",
            got=", ".join(sorted({type(name).__name__ for name in data})) + " as names"
            if isinstance(data, dict)
            else f"a {type(data).__name__}",
            fix=CONVERT,
        )
    return data


_DAMAGE = (
    *(ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, MemoryError, OSError, EOFError),
    *(struct.error, zipfile.BadZipFile),
)


def state_dict_of(data: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict in what `read_weights` read: taken out of its wrapper, without DataParallel's prefixes.

    Args:
        data: Tensors by name, or a dict that holds one of these under a usual name ("model", "state_dict", …).

    Raises:
        BadFile: There is none; the message lists the keys of `data`.

    Examples:
        >>> state_dict_of({"model": {"module.weight": torch.zeros(1)}, "epoch": 3})
        {'weight': tensor([0.])}
    """
    if data and all(isinstance(name, str) and isinstance(x, Tensor) for name, x in data.items()):
        tensors = dict(data)
        while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), ""):
            tensors = {name.removeprefix(prefix): x for name, x in tensors.items()}
        return tensors
    for name in WRAPPERS:
        if isinstance(data.get(name), Mapping):
            return state_dict_of(data[name])
    raise BadFile(
        "no state dict found",
        got=", ".join(f"{name!r}: {type(x).__name__}" for name, x in list(data.items())[:12]) or "nothing",
        expected="tensors by name, or one of " + ", ".join(WRAPPERS) + " that holds them",
        fix="pass the right part: state_dict_of(read_weights(path)[name])",
    )


def read_vocab(path: str | os.PathLike[str]) -> list[str]:
    """A vocabulary: a list of strings, as JSON or as a pickle.

    Args:
        path: The file.

    Raises:
        NotFoundPath: There is no such file.
        UnsafeFile: A pickle that needs code.
        BadFile: Anything but a list of strings.
    """
    with open_bounded(path) as file:
        raw = file.read()
    what, fix = f"'{path}'", "write it where it was made: json.dump(list(vocab), open('vocab.json', 'w'))"
    is_json = raw.lstrip().startswith(b"[")
    words = parse_json(raw, what) if is_json else read_pickle(io.BytesIO(raw), {}, what, convert=fix)
    if not isinstance(words, list) or not all(type(word) is str for word in words):
        kinds = {type(word).__name__ for word in words} if isinstance(words, list) else type(words).__name__
        raise BadFile(f"{what} is not a vocabulary", got=kinds, expected="a list of strings", fix=fix)
    return words


def _read_zip(file: BoundedFile) -> Any:
    """The layout of torch ≥ 1.6: one folder with `data.pkl` and a member `data/<key>` per storage, none compressed."""
    what, file.most = f"'{file.path}'", MAX_DIRECTORY
    with zipfile.ZipFile(file) as archive:
        members = {member.filename: member for member in archive.infolist()}
        stored = all(m.compress_type == zipfile.ZIP_STORED and m.file_size == m.compress_size for m in members.values())
        if not stored or sum(m.file_size for m in members.values()) > file.size:
            raise BadFile(
                f"{what} holds compressed or overlapping members", expected="stored members, as torch.save writes"
            )
        if len(members) != len(archive.infolist()):
            raise BadFile(f"{what} holds two members with the same name")
        roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise BadFile(f"{what} is a zip archive, but torch.save did not write it", got=list(members)[:5])
        (root,) = roots
        if f"{root}constants.pkl" in members:
            raise UnsafeFile(
                f"{what} is a TorchScript archive, which holds code",
                fix="where it was made: torch.save(torch.jit.load(path).state_dict(), 'weights.pth')",
            )

        def contents(name: str) -> bytes:
            if members[name].file_size > MAX_READ:
                raise BadFile(f"'{name}' in {what} is too large", expected=f"at most {MAX_READ} bytes")
            with archive.open(members[name]) as source:
                return b"".join(iter(lambda: source.read(PIECE), b""))

        if f"{root}byteorder" in members and contents(f"{root}byteorder") != b"little":
            raise BadFile(f"{what} was written on a big-endian machine", fix="write it again as safetensors there")
        storages: dict[str, Tensor] = {}

        def load(identity: object) -> _Storage:
            kind, key, size = _storage_of(identity, what)
            member = members[f"{root}data/{key}"]
            if member.file_size != size:
                raise BadFile(f"the storage '{key}' of {what} has the wrong size", got=member.file_size, expected=size)
            if key not in storages:
                with cast(zipfile.ZipExtFile, archive.open(member)) as source:
                    storages[key] = read_tensor(source, torch.uint8, (size,), what)
            return _Storage(storages[key], kind.dtype)

        return read_pickle(io.BytesIO(contents(f"{root}data.pkl")), _NAMES, what, load)


def _read_legacy(file: BoundedFile) -> Any:
    """The layout before torch 1.6: five pickles, then each storage's length and bytes in the order of the fifth."""
    what = f"'{file.path}'"
    first = read_pickle(file, PLAIN_NAMES, what)
    if first != _LEGACY_START[0]:
        raise BadFile(
            f"{what} is a pickle, but torch.save did not write it",
            got=f"a {type(first).__name__}",
            fix="read_vocab reads a vocabulary; " + CONVERT,
        )
    version, system = read_pickle(file, {}, what), read_pickle(file, {}, what)
    if version != _LEGACY_START[1] or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise BadFile(f"{what} has an unknown version or byte order", got=reprlib.repr((version, system)))
    storages: dict[str, Tensor] = {}
    widths: dict[str, int] = {}
    room = file.size

    def load(identity: object) -> _Storage:
        nonlocal room
        kind, key, size = _storage_of(identity, what)
        if key not in storages:
            room -= size
            if room < 0:
                raise BadFile(f"{what} is smaller than its tensors", fix=COPY_AGAIN)
            storages[key], widths[key] = torch.empty(size, dtype=torch.uint8), kind.dtype.itemsize
        return _Storage(storages[key], kind.dtype)

    data = read_pickle(file, _NAMES, what, load)
    keys = read_pickle(file, {}, what)
    if not isinstance(keys, list) or sorted(keys) != sorted(storages):
        raise BadFile(f"{what} does not list the storages that its tensors use")
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        if count * widths[key] != len(storages[key]):
            raise BadFile(f"the storage '{key}' of {what} has the wrong size", got=count)
        fill(storages[key], file, what)
    return data


@dataclass(frozen=True)
class _StorageKind:
    """Stands for `torch.FloatStorage` and the like."""

    name: str
    dtype: torch.dtype


@dataclass(frozen=True)
class _Storage:
    raw: Tensor  # [bytes], uint8
    dtype: torch.dtype


def _storage_of(identity: object, what: str) -> tuple[_StorageKind, str, int]:
    """The kind, key and size in bytes of the storage that a persistent id names."""
    match identity:
        case ("storage", _StorageKind() as kind, str(key), str(), int(count), *view) if count >= 0 and not any(view):
            return kind, key, count * kind.dtype.itemsize
    raise BadFile(f"{what} names a storage in an unknown way", got=reprlib.repr(identity))


def _rebuild(storage: _Storage, offset: int, size: object, stride: object, dtype: torch.dtype) -> Tensor:
    """A tensor of `size` and `stride`, in elements, `offset` elements into its storage, and never outside of it."""
    flat: Tensor = exactly(_Storage, storage).raw.view(exactly(torch.dtype, dtype))
    shape, steps = exactly(tuple, size), exactly(tuple, stride)
    if not shape_fits(shape, max(len(flat), MAX_REPEATED)) or len(steps) != len(shape):
        raise ValueError("a tensor with invalid shape or strides")
    if math.prod(shape) == 0:
        return torch.empty(shape, dtype=dtype)
    last = offset + sum((d - 1) * s for d, s in zip(shape, steps, strict=True))
    if min(offset, *steps, 0) < 0 or last >= len(flat):
        raise ValueError(f"a tensor of shape {shape} that exceeds its storage of {len(flat)} elements")
    return flat.as_strided(shape, steps, offset)


def _rebuild_tensor(
    storage: _Storage,
    offset: int,
    size: object,
    stride: object,
    grad: object = None,
    hooks: object = None,
    *marks: object,
) -> Tensor:
    return _rebuild_tensor_v3(storage, offset, size, stride, grad, hooks, exactly(_Storage, storage).dtype, *marks)


def _rebuild_tensor_v3(
    storage: _Storage,
    offset: int,
    size: object,
    stride: object,
    grad: object,
    hooks: object,
    dtype: torch.dtype,
    *marks: object,
) -> Tensor:
    if any(marks):
        raise ValueError(f"a tensor that is {reprlib.repr(marks)}")  # lazily conjugated or negated
    return _rebuild(storage, offset, size, stride, dtype)


def _rebuild_from_type(build: Known, kind: Known, arguments: tuple[Any, ...], state: object) -> Any:
    """A tensor with attributes, without these."""
    if exactly(Known, kind).name not in ("Tensor", "Parameter") or exactly(Known, build) not in _BUILDERS:
        raise ValueError("a tensor of another type")
    return build.call(*arguments)  # type: ignore[misc]  # builders can be called


_TENSOR, _TENSOR_3 = Known("_rebuild_tensor", _rebuild_tensor), Known("_rebuild_tensor_v3", _rebuild_tensor_v3)
_PARAMETER = Known("_rebuild_parameter", lambda data, *rest: data)
_BUILDERS = (_TENSOR, _TENSOR_3, _PARAMETER)
_STORAGES: dict[str, torch.dtype] = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}
_NAMES: dict[str, Any] = {
    **PLAIN_NAMES,
    "torch._utils _rebuild_tensor": _TENSOR,
    "torch._utils _rebuild_tensor_v2": _TENSOR,
    "torch._utils _rebuild_tensor_v3": _TENSOR_3,
    "torch._utils _rebuild_parameter": _PARAMETER,
    "torch._utils _rebuild_parameter_with_state": _PARAMETER,
    "torch._tensor _rebuild_from_type_v2": Known("_rebuild_from_type_v2", _rebuild_from_type),
    "torch Tensor": Known("Tensor"),
    "torch.nn.parameter Parameter": Known("Parameter"),
    "torch Size": Known("Size", lambda shape: exactly(tuple, shape)),
    "torch device": Known("device", lambda kind, *index: ":".join([exactly(str, kind), *(f"{i:d}" for i in index)])),
    "torch.storage UntypedStorage": _StorageKind("UntypedStorage", torch.uint8),
    **{
        f"{module} {name}Storage": _StorageKind(name, x)
        for module in ("torch", "torch.cuda")
        for name, x in _STORAGES.items()
    },
    **{str(x).replace(".", " "): x for x in (*DTYPES.values(), torch.complex128)},
}
