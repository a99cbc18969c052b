"""`cache=` of loaders: samples as they are before the first random transform, kept from one epoch to the next."""

from __future__ import annotations

import enum
import functools
import hashlib
import json
import math
import os
import shutil
import stat
import struct
import tempfile
import weakref
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from layered.data.conversions import ToTensor
from layered.foundation import BadValue, Path, Pipeline, Transform, has_drawn, warn, with_elements

Json = Any  # what JSON can say
_UNIT = 1 << 16  # bytes for which a kept sample adds one to the ledger
_START = struct.Struct("<16sQQ")  # what the file is, the sum of the words that follow, and the length of the notes
_MAGIC = b"layered items 2\n"
_WORD = 8  # bytes; notes and pixels start at multiples of it
_DTYPES = {"uint8", "uint16", "int32", "int64", "float32", "bool"}
_LONGEST_NOTES = 1 << 16  # bytes
_ROOMY = 1 << 30  # bytes that the shared memory of the system needs to have free to be used


class Keepable:
    """Base of elements of samples that are worth keeping once they are made: images.

    Attributes:
        is_lent: Whether `ToTensor` may take its pixels without copying them, because nothing else will ever see it.
    """

    is_lent: bool = False

    def kept_from(self) -> str | None:
        """What it is read from, and as what, in a text that changes with either; None if it has been read."""
        raise NotImplementedError

    def as_kept(self) -> tuple[Json, np.ndarray[Any, Any]] | None:
        """What is kept of it: notes and pixels; None if that would not be all, or is not worth it."""
        raise NotImplementedError

    def from_kept(self, note: Json, pixels: np.ndarray[Any, Any]) -> Self:
        """The element that `as_kept` described.

        Args:
            note: What it said beside the pixels.
            pixels: The pixels, which may be written to.

        Raises:
            ValueError: It did not say so: the file is damaged, and the sample is made anew.
        """
        raise NotImplementedError


class _Fixed:
    """The first steps of a pipeline that make the same of the same sample each time.

    Args:
        steps: The pipeline.

    Attributes:
        count: How many they are.
        text: A hash of what they do.
    """

    def __init__(self, steps: Pipeline) -> None:
        self.split_idx, self.settings = steps.split_idx, list[tuple[Transform, dict[str, Any]]]()
        for step in steps:
            settings = _settings(step)
            if isinstance(step, ToTensor) or step.is_foreign or step.is_random(steps.split_idx) or settings is None:
                break
            self.settings.append((step, settings))
        self.count = len(self.settings)
        words = [[type(step).__module__, type(step).__qualname__, repr(sorted(o.items()))] for step, o in self.settings]
        self.text = _digest(json.dumps([_libraries(), self.split_idx, words]).encode())

    def are_first_of(self, steps: Pipeline) -> bool:
        """Whether a pipeline still begins with them, as they were.

        Args:
            steps: The pipeline.
        """
        return (
            len(steps) >= self.count
            and steps.split_idx == self.split_idx
            and all(
                step is known and _settings(step) == settings
                for step, (known, settings) in zip(steps.fs, self.settings, strict=False)
            )
        )


class ItemCache:
    """Samples as they are before the first random transform, in files of a folder: what `cache=` of a loader makes.

    Kept are the decoded images of a sample and whatever transforms made of its other parts; results are the same bit for
    bit. A sample is made anew where one of its files has changed (by time or size), or a transform, its labels or the
    libraries that decode. Transforms that draw random numbers, and those of users and of other libraries, end what is kept,
    since they may make something else each time; items that draw as they are made, such as noise or random pairs, are not kept.
    A JPEG that none has resized before is not kept, for decoding a file costs
    no more than reading all of its pixels: in training `[RatioResize(288), RandomResizedCrop(224)]` keeps images of 288 pixels,
    `Resize(224)` alone, which crops at random, keeps none, and `Resize(224, method="squish")` those of 224.

    Any number of workers and processes may share a folder, at the same time too; files hold pixels and numbers only, and a
    sample whose file is damaged is made again. Old entries are never deleted: delete the folder to reclaim the space.

    Args:
        place: A folder, created if missing; or "memory", for a folder in the memory of the machine (on disk where that has
            less than 1 GiB to spare), which is deleted with the cache.
        max_bytes: No more is kept; by default half of what is free.

    Raises:
        BadValue: `max_bytes` is not positive, or the folder's ledger, which is written to, is a link or not a file.

    Examples:
        >>> ItemCache("memory", max_bytes=1_000_000).used
        0
    """

    def __init__(self, place: str | os.PathLike[str], max_bytes: int | None = None) -> None:
        if max_bytes is not None and not max_bytes > 0:
            raise BadValue("invalid max_bytes", got=repr(max_bytes), expected="a positive number of bytes")
        self.place = place
        if place == "memory":
            shared = "/dev/shm"
            in_memory = os.path.isdir(shared) and shutil.disk_usage(shared).free >= _ROOMY
            self.folder = Path(tempfile.mkdtemp(prefix="layered-items-", dir=shared if in_memory else None))
            weakref.finalize(self, _delete, str(self.folder), os.getpid())
        else:
            self.folder = Path(os.path.expanduser(place)).absolute()
            self.folder.mkdir(parents=True, exist_ok=True)
            ledger = self.folder / "ledger"
            if os.path.lexists(ledger) and not _is_regular(ledger):
                raise BadValue(
                    f"'{ledger}' is not a cache's ledger", got="a link or not a file", fix="delete the folder"
                )
        self.max_bytes = shutil.disk_usage(self.folder).free // 2 if max_bytes is None else max_bytes
        self._is_full = self._has_warned = False
        self._fixed: _Fixed | None = None

    @property
    def used(self) -> int:
        """Bytes that are kept, in whole units of 64 KiB."""
        try:
            return os.stat(self.folder / "ledger").st_size * _UNIT
        except FileNotFoundError:
            return 0

    def transformed(self, steps: Pipeline, sample: Any) -> Any:
        """The sample through its item transforms, from what is kept of it or keeping it.

        Args:
            steps: The item transforms.
            sample: The sample, whose files have not been read yet.
        """
        elements = sample if type(sample) is tuple else (sample,)
        if self._fixed is None or not self._fixed.are_first_of(steps):
            self._fixed = _Fixed(steps)
        count = self._fixed.count
        key = _key(self._fixed.text, elements)
        file = None if key is None else self.folder / key[:2] / key
        if file is None:
            kinds = ", ".join(type(o).__name__ for o in elements)
            self._say_once(
                f"cache= keeps nothing of samples such as ({kinds}): it keeps images that are opened from files and not read "
                "before their first transform"
            )
        kept = None if file is None else _read(file, elements)
        if kept is not None:
            if count < len(steps) and isinstance(steps.fs[count], ToTensor):
                for o in kept:
                    if isinstance(o, Keepable):
                        o.is_lent = True
            sample = with_elements(sample, kept) if type(sample) is tuple else kept[0]
        else:
            for i in range(count):
                sample = steps.step(i, sample)
            if file is not None:
                self._keep(file, elements, sample if type(sample) is tuple else (sample,))
        for i in range(count, len(steps)):
            sample = steps.step(i, sample)
        return sample

    def _keep(self, file: Path, given: Sequence[Any], made: Sequence[Any]) -> None:
        if self._is_full:
            return
        if has_drawn():
            self._say_once(
                f"items that draw at random as they are made are others in each epoch, and not kept in '{self.folder}'"
            )
            return
        data = _written(given, made)
        if data is None:
            return
        units = -(-len(data) // _UNIT)
        if self.used + units * _UNIT > self.max_bytes:
            self._stop(f"the cache in '{self.folder}' is full: the other items are made anew in each epoch")
            return
        temp = file.with_name(f"{file.name}-{os.getpid()}-{os.urandom(6).hex()}.tmp")
        try:
            temp.parent.mkdir(exist_ok=True)
            temp.write_bytes(data)
            os.replace(temp, file)
            with open(self.folder / "ledger", "ab", buffering=0) as ledger:
                ledger.write(bytes(units))  # appending is atomic, so that processes count together
        except OSError as error:
            temp.unlink(missing_ok=True)
            self._stop(f"items are no longer kept in '{self.folder}': {error}")

    def _say_once(self, why: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warn(why)

    def _stop(self, why: str) -> None:
        self._is_full = True
        warn(why)

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __repr__(self) -> str:
        return f"ItemCache({str(self.place)!r}, max_bytes={self.max_bytes})"


def as_cache(cache: str | os.PathLike[str] | ItemCache | None) -> ItemCache | None:
    """The cache that the argument of a loader means.

    Args:
        cache: "memory", a folder, a cache, or None for none.
    """
    return cache if cache is None or isinstance(cache, ItemCache) else ItemCache(cache)


def _delete(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # and not a worker that has inherited the cache
        shutil.rmtree(folder, ignore_errors=True)


def _settings(step: Transform) -> dict[str, Any] | None:
    """What distinguishes a step from others of its class; None if that cannot be said."""
    settings = {name: value for name, value in vars(step).items() if name != "_given"}
    return settings if step.enc is None and all(map(_is_plain, settings.values())) else None


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, enum.Enum))


@functools.cache
def _libraries() -> str:
    return " ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "pillow", "numpy"))


def _key(fixed: str, sample: Sequence[Any]) -> str | None:
    """The name of what is kept of a sample: a hash of all that it is made of; None if nothing is worth keeping."""
    sources = [o.kept_from() if isinstance(o, Keepable) else _said(o) for o in sample]
    if None in sources or not any(isinstance(o, Keepable) for o in sample):
        return None
    return _digest(json.dumps([fixed, sources]).encode(errors="surrogateescape"))


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=20).hexdigest()


def _said(o: object) -> str | None:
    """A part of a sample that is not worth keeping, in words; None if that cannot be said."""
    if isinstance(o, Tensor):
        attributes, values = vars(o), o.as_subclass(Tensor).detach()
        if values.device.type != "cpu" or not all(map(_is_plain, attributes.values())):
            return None
        array = values.numpy()
        said = sorted(attributes.items())
        return f"{type(o).__name__} {array.dtype.str} {array.shape} {said} {_digest(array.tobytes())}"
    return repr(o) if _is_plain(o) else None


def _written(given: Sequence[Any], made: Sequence[Any]) -> bytes | None:
    """The content of a file; None if the sample cannot be kept."""
    notes: list[Json] = []
    arrays = []
    for before, after in zip(given, made, strict=True):
        if isinstance(after, Keepable) and type(after) is type(before):
            kept = after.as_kept()
            if kept is None:
                return None
            note, array = kept
        elif after is before:
            notes.append(None)
            continue
        elif isinstance(after, Tensor) and type(after) is type(before) and after.device.type == "cpu":
            note, array = dict(vars(after)), after.detach().numpy()
            if note.keys() != vars(before).keys():
                return None
            if not all(value is None or isinstance(value, (bool, int, float, str)) for value in note.values()):
                return None
        else:
            return None
        if array.dtype.name not in _DTYPES:
            return None
        notes.append([note, array.dtype.name, list(array.shape)])
        arrays.append(np.ascontiguousarray(array).tobytes())
    text = json.dumps(notes).encode()
    if len(text) > _LONGEST_NOTES:
        return None
    body = b"".join(part.ljust(_whole_words(len(part)), b"\0") for part in (text, *arrays))
    return _START.pack(_MAGIC, _sum_of_words(body), len(text)) + body


def _whole_words(size: int) -> int:
    """A number of bytes, rounded up to words."""
    return -(-size // _WORD) * _WORD


def _sum_of_words(data: bytes) -> int:
    """A checksum that costs no more than reading memory does."""
    return int(np.frombuffer(data, "<u8").sum(dtype=np.uint64))


def _read(file: Path, given: Sequence[Any]) -> list[Any] | None:
    """The sample that a file keeps; None if there is none, or the file is damaged or was not written here."""
    try:
        found = os.lstat(file)
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
            return None
        with open(file, "rb", buffering=0) as opened:
            data: Any = np.empty(found.st_size, np.uint8)  # unlike a bytearray, not filled with zeros first
            opened.readinto(data)
        (magic, checksum, length), body = _START.unpack_from(data), data[_START.size :]
        if magic != _MAGIC or length > _LONGEST_NOTES or _sum_of_words(body) != checksum:
            return None
        at, made = _whole_words(length), []
        for before, note in zip(given, json.loads(body[:length].tobytes()), strict=True):
            if note is None and not isinstance(before, Keepable):
                made.append(before)
                continue
            said, dtype, shape = note
            if dtype not in _DTYPES or not all(type(side) is int and side >= 0 for side in shape):
                return None
            array = np.frombuffer(body, dtype, count=math.prod(shape), offset=at).reshape(shape)
            at += _whole_words(array.nbytes)
            made.append(before.from_kept(said, array) if isinstance(before, Keepable) else _tensor(before, said, array))
        return made if at == len(body) else None
    except Exception:  # a damaged file can raise anything, and costs no more than making its sample anew
        return None


def _is_regular(file: Path) -> bool:
    return stat.S_ISREG(os.lstat(file).st_mode)


def _tensor(before: Tensor, attributes: dict[str, Any], array: np.ndarray[Any, Any]) -> Tensor:
    if attributes.keys() != vars(before).keys():
        raise ValueError("other attributes")
    if (
        array.dtype == np.bool_ and array.view(np.uint8).max(initial=0) > 1
    ):  # what torch computes with these is undefined
        raise ValueError("a truth value other than 0 and 1")
    made = torch.from_numpy(array).as_subclass(type(before))
    vars(made).update(attributes)
    return made
