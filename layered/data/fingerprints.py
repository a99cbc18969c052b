"""The raw content of a split, read without making its items: fingerprints of the inputs, and targets before encoding."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset as TorchSubset, TensorDataset

from layered.data.adapters import PipelineColumn, Positions, Prints, Raw, TargetColumn, as_dataset
from layered.data.encodings import Categorize, EncodedMultiCategorize, RegressionSetup
from layered.data.loader import DataLoader, as_loader
from layered.data.subset import Subset, is_indexed, pick
from layered.foundation import L, Pipeline, is_frame, lazy, unknown_name

pd = lazy("pandas")

CHUNK = 1 << 16  # rows of tensors, or bytes of a file, at a time


def raw_split(loader: Iterable[Any]) -> Raw:
    """The raw content of the data set of a loader, of this library or another."""
    raw = _raw(as_loader(loader).dataset)
    limit = loader.n if isinstance(loader, DataLoader) else None
    if raw.count is not None and limit is not None:
        raw.count = min(raw.count, limit)
    return raw


def _raw(dataset: object) -> Raw:
    declared = as_dataset(dataset)
    if (raw := declared.raw_split()) is not None:
        return raw
    if declared.columns:
        return _of_columns(declared.columns, declared.n_inp or 1)
    if type(dataset) is TorchSubset:
        return _at(_raw(dataset.dataset), np.asarray(dataset.indices, np.int64))
    if isinstance(dataset, TensorDataset) and type(dataset).__getitem__ is TensorDataset.__getitem__:
        return _of_tensors(dataset.tensors, declared.n_inp)
    if (tensors := declared.row_tensors()) is not None:
        return _of_rows(tensors, declared.n_inp or 1)
    if isinstance(dataset, (Tensor, np.ndarray)) and dataset.dtype != object:
        return _of_tensors([torch.as_tensor(dataset)])
    if isinstance(dataset, (list, tuple, L)):
        return _of_list(dataset)
    kind = type(dataset).__name__
    what = "the loader has no data set" if dataset is None else f"a {kind} makes its items by its own code"
    count = len(dataset) if is_indexed(dataset) else None
    return Raw(count, unchecked=[f"{what}, so inputs and targets cannot be read without it"])


# -- columns of items through pipelines


def _of_columns(columns: Sequence[PipelineColumn], n_inp: int) -> Raw:
    first, items = columns[0], columns[0].items
    frame = _frame_of(items)
    raw = Raw(len(first), items=items, named=lambda i: _shown(pick(items, i), i))
    found = [tl.getters for tl in columns[:n_inp]]
    if frame is not None:
        raw.named = lambda i: f"row {frame[0].index[frame[1][i]]}"
    if frame is not None and not any(found):
        raw.rough = lambda positions: _hash_rows(frame[0].iloc[frame[1][positions]])
    else:

        def inputs(positions: Positions) -> Iterator[Any]:
            made = [_through(tl, count, positions) for tl, count in zip(columns[:n_inp], found, strict=True)]
            return made[0] if len(made) == 1 or not any(found) else iter(zip(*made, strict=True))

        raw.rough = lambda positions: _hash_all(inputs(positions), len(positions), exact=False)
        raw.exact = lambda positions: _hash_all(inputs(positions), len(positions), exact=True)
    for tl in columns[n_inp:]:
        at = next((i for i, step in enumerate(tl.tfms) if isinstance(step, (Categorize, RegressionSetup))), None)
        if at is None and len(tl.tfms) > tl.getters:
            raw.unchecked.append(f"the {tl.name} is computed by transforms, so its values are not checked")
            continue
        raw.targets.append(_target(tl, at))
    return raw


def _target(tl: PipelineColumn, at: int | None) -> TargetColumn:
    step = None if at is None else tl.tfms[at]
    steps = len(tl.tfms) if at is None else at
    vocab = step.vocab if isinstance(step, Categorize) else None

    def values(positions: Positions) -> Iterable[Any]:
        made = _through(tl, steps, positions)
        if isinstance(step, EncodedMultiCategorize):
            return ([label for label, is_set in zip(step.fitted_vocab, o, strict=True) if is_set] for o in made)
        return made

    return TargetColumn(
        tl.name,
        step.target_kind if isinstance(step, (Categorize, RegressionSetup)) else None,
        values,
        vocab,
        has_na=isinstance(step, Categorize) and step.add_na,
    )


def _through(tl: PipelineColumn, steps: int, positions: Positions) -> Iterator[Any]:
    """The items of a column after its first `steps` transforms."""
    cut = copy.copy(tl)
    cut.tfms = Pipeline(split_idx=tl.split_idx)
    cut.tfms.fs = tl.tfms.fs[:steps]
    return iter(cut) if len(positions) == len(tl) else (cut[int(i)] for i in positions)


def _frame_of(items: object) -> tuple[Any, Positions] | None:
    """The DataFrame that the items are rows of, and the positions of these rows; None for other items."""
    if isinstance(items, Subset) and is_frame(items.all_items):
        return items.all_items, items.positions
    return (items, np.arange(len(items))) if is_frame(items) else None


def group_keys(raw: Raw, groups: str | Callable[[Any], Any]) -> Iterable[Any]:
    """The group of each item: the value of a column, or of a function of the raw item."""
    frame = _frame_of(raw.items)
    if isinstance(groups, str):
        if frame is None or groups not in frame[0]:
            raise unknown_name("column of the items", groups, () if frame is None else map(str, frame[0]))
        rows, positions = frame
        return rows[groups].iloc[positions[: raw.count]]  # type: ignore[no-any-return]
    return (groups(pick(raw.items, i)) for i in range(raw.count or 0))


# -- tensors and plain items


def _of_tensors(tensors: Sequence[Tensor], n_inp: int | None = None) -> Raw:
    n_inp = max(1, len(tensors) - 1) if n_inp is None else n_inp
    raw = Raw(len(tensors[0]))

    def rough(positions: Positions) -> Prints:
        parts = []
        for start in range(0, len(positions), CHUNK):
            rows = torch.from_numpy(positions[start : start + CHUNK])
            columns = [_as_bytes(t[rows.to(t.device)]) for t in tensors[:n_inp]]
            parts.append(_hash_all(map(bytes, np.concatenate(columns, 1)), len(rows), exact=True))
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    raw.rough = rough
    for i, tensor in enumerate(tensors[n_inp:]):
        name = "target" if len(tensors) == n_inp + 1 else f"target {i}"
        flat = tensor.squeeze(-1) if tensor.ndim == 2 else tensor
        if flat.ndim > 2 or (flat.ndim == 2 and not flat.is_floating_point()):
            raw.unchecked.append(f"the {name} of shape {tuple(tensor.shape)} is not checked")
        else:
            values = flat.detach().cpu().float() if flat.dtype == torch.bfloat16 else flat.detach().cpu()
            kind = "regression" if values.is_floating_point() else None
            raw.targets.append(TargetColumn(name, kind, values.numpy().__getitem__))
    return raw


def _of_rows(tensors: Sequence[Tensor], n_inp: int) -> Raw:
    """The rows of a table. With categories only, equal rows are common without being copies, so they are not compared."""
    raw = _of_tensors(tensors, n_inp)
    if not any(t.is_floating_point() and t.numel() for t in tensors[:n_inp]):
        raw.rough = None
    return raw


def _as_bytes(tensor: Tensor) -> np.ndarray[Any, Any]:
    rows = tensor.detach().cpu().as_subclass(Tensor).reshape(len(tensor), -1).contiguous()
    return rows.view(torch.uint8).numpy()


def _of_list(items: Sequence[Any]) -> Raw:
    is_pair = len(items) > 0 and isinstance(items[0], tuple) and len(items[0]) > 1

    def hashed(exact: bool) -> Callable[[Positions], Prints]:
        return lambda positions: _hash_all((inputs(items[i]) for i in positions), len(positions), exact)

    def inputs(item: Any) -> Any:
        return item[:-1] if is_pair else item

    raw = Raw(len(items), hashed(False), hashed(True), items=items)
    if is_pair:
        raw.targets.append(TargetColumn("target", None, lambda positions: (items[i][-1] for i in positions)))
    return raw


def _at(raw: Raw, indices: Positions) -> Raw:
    """The content of `raw` at some positions."""
    rough, exact, named = raw.rough, raw.exact, raw.named
    moved = Raw(len(indices), named=lambda i: named(int(indices[i])), unchecked=raw.unchecked)
    moved.rough = None if rough is None else lambda positions: rough(indices[positions])
    moved.exact = None if exact is None else lambda positions: exact(indices[positions])
    moved.items = None if raw.items is None else Subset(raw.items, indices)
    moved.targets = [replace(target, values=_moved(target.values, indices)) for target in raw.targets]
    return moved


def _moved(values: Callable[[Positions], Any], indices: Positions) -> Callable[[Positions], Any]:
    return lambda positions: values(indices[positions])


# -- fingerprints


class CannotCompare(TypeError):
    """An input whose content cannot be read."""


def _hash_rows(frame: Any) -> Prints:
    try:
        return pd.util.hash_pandas_object(frame, index=False).to_numpy().view(np.int64)  # type: ignore[no-any-return]
    except TypeError:  # cells that pandas cannot hash, such as lists
        return _hash_all(frame.itertuples(index=False, name=None), len(frame), exact=True)


def _hash_all(items: Iterable[Any], count: int, exact: bool) -> Prints:
    return np.fromiter((_hash(item, exact) for item in items), np.int64, count)


def _hash(item: object, exact: bool) -> int:
    """Of a file the size, or with `exact` the hash of its content; of anything else the hash of its value."""
    if isinstance(item, (str, os.PathLike)) and os.path.isfile(item):
        if not exact:
            return os.path.getsize(item)
        with open(item, "rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).digest()
    else:
        digest = hashlib.blake2b(_content(item, exact), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _content(o: Any, exact: bool) -> bytes:
    """The bytes of a value, prefixed by its kind so that values of different kinds never collide.

    Raises:
        CannotCompare: The content cannot be read.
    """
    if isinstance(o, bytes):
        return b"b" + o
    if isinstance(o, (str, os.PathLike)):
        is_file = os.path.isfile(o)
        return b"f%d" % _hash(o, exact) if is_file else b"s" + os.fspath(o).encode("utf-8", "surrogatepass")
    if isinstance(o, np.generic):
        o = o.item()
    if o is None or isinstance(o, (bool, int, float, complex)):
        return b"n" + repr(o).encode()
    if isinstance(o, Tensor):
        return b"t" + f"{o.dtype}{tuple(o.shape)}".encode() + _as_bytes(o[None]).tobytes()
    if isinstance(o, np.ndarray) and o.dtype != object:
        return b"a" + f"{o.dtype}{o.shape}".encode() + o.tobytes()
    if isinstance(o, Mapping):
        o = list(o.items())
    if is_frame(o):
        o = np.asarray(o)
    if isinstance(o, (tuple, list, L, np.ndarray)):
        parts = [_content(part, exact) for part in (o.tolist() if isinstance(o, np.ndarray) else o)]
        return b"l" + b"".join(b"%d:" % len(part) + part for part in parts)
    if hasattr(o, "tobytes") and hasattr(o, "size"):  # an image
        return b"i" + f"{getattr(o, 'mode', '')}{o.size}".encode() + bytes(o.tobytes())
    raise CannotCompare(f"a {type(o).__name__} cannot be compared by content")


def _shown(item: object, i: int) -> str:
    if isinstance(item, os.PathLike):
        return str(item)
    if isinstance(item, str):
        return repr(item) if len(item) <= 60 else repr(item[:57]) + "…"
    return f"item {i}"
