"""What a run depends on, as data: so that a fit does not go on with the checkpoint of another one."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from layered.data import DataLoader, as_dataset, as_loader, length_of
from layered.foundation import (
    Pipeline,
    Transform,
    assigned,
    is_frame,
    is_place_or_text,
    masked,
    own_vars,
    rank_and_world,
)
from layered.loop.batches import valid_of
from layered.loop.callback import Callback
from layered.loop.listeners import by_name
from layered.loop.processes import unwrapped
from layered.loop.sharding import as_made
from layered.loop.state import AbstractLoop

LOOKED_AT = 256  # items of a split, or rows of a table, that its fingerprint reads
SMALL = 1 << 24  # bytes of an array that it reads whole
_PLACES = re.compile(r"(?:~|\.{0,2})/[^\s'\"(),]*")


def describe_for_resuming(loop: AbstractLoop, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What the fit of a loop depends on: model, loss, metrics, data, rates, callbacks. Places and texts are left out.

    Args:
        loop: The loop, with the callbacks of the fit.
        arguments: What the fit was called with.
    """
    own = {name: repr(getattr(loop, name)) for name in ("lr", "wd") if arguments.get(name) in (None, "None")}
    metrics = loop.metric_set
    callbacks = {
        name: {"declared": "state_kinds" in vars(type(cb)), **cb.settings()}
        for name, cb in by_name(loop.cbs).items()
        if isinstance(cb, Callback) and not cb.observes
    }
    model = unwrapped(loop.model)
    with as_made(model):
        modules = _modules(model)
    description = {
        "data": describe_data(loop),
        "seed": describe_seed(loop),
        "batches": {name: _batches(dl) for name, dl in _loaders(loop).items()},
        "model": modules,
        "loss": described(loop.loss_func),
        "metrics": [[name, described(one)] for name, one in zip(metrics.names, metrics.metrics, strict=True)],
        "learner": own,
        "callbacks": {name: described(settings) for name, settings in callbacks.items()},
    }
    as_read: dict[str, Any] = json.loads(json.dumps(description))  # tuples as lists
    return as_read


def describe_data(loop: AbstractLoop) -> dict[str, str]:
    """A digest of the data of each loader: those of training and validation."""
    return {
        name: fingerprint(dl if (dataset := as_loader(dl).dataset) is None else dataset)["sha256"][:16]
        for name, dl in _loaders(loop).items()
    }


def describe_seed(loop: AbstractLoop) -> list[int | None]:
    """The seeds that tell repeats of a fit apart: torch's, and those of the loaders. A fit resumes with other ones too."""
    return [torch.initial_seed(), *(dl.seed for dl in _loaders(loop).values() if isinstance(dl, DataLoader))]


def _loaders(loop: AbstractLoop) -> dict[str, Any]:
    loaders = {"train": loop.dls.train, "valid": valid_of(loop.dls)}
    return {name: dl for name, dl in loaders.items() if dl is not None}


def _batches(dl: Any) -> dict[str, Any]:
    """How a loader makes its batches: their size in all processes, their order, and the transforms; not workers and devices."""
    world = rank_and_world()[1]
    if not isinstance(dl, DataLoader):
        sizes = {
            "batch_size": _times(getattr(dl, "batch_size", None), world),
            "drop_last": getattr(dl, "drop_last", None),
        }
        return {**sizes, "collate_fn": described(getattr(dl, "collate_fn", None))}
    columns = enumerate(as_dataset(dl.dataset).columns)
    pipelines = {name: one for name, one in vars(dl).items() if isinstance(one, Pipeline)}
    pipelines |= {f"column_{i}": column.tfms for i, column in columns}
    return {
        "bs": _times(dl.bs, world),
        "shuffle": dl.shuffle,
        "drop_last": dl.drop_last,
        **{name: [_transform(step) for step in one.fs] for name, one in pipelines.items()},
    }


def _times(size: int | None, world: int) -> int | None:
    return None if size is None else size * world


def _transform(step: Transform) -> Any:
    """A transform with the arguments that it was made with; texts only where they are words."""
    if step.enc is not None:
        return described(step.enc)
    words = {name: value for name, value in step.init_args.items() if isinstance(value, str) and value.isidentifier()}
    return [type(step).__qualname__, described(step.init_args), words]


def differences(saved: object, current: object, part: str = "") -> Iterator[tuple[str, object, object]]:
    """Where two descriptions differ, by names joined with dots; what only one of them has is left out.

    Args:
        saved: A description from a file.
        current: One of a loop.
        part: The name of this part.

    Examples:
        >>> list(differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": 4}))
        [('a.b', 1, 3)]
    """
    if isinstance(saved, Mapping) and isinstance(current, Mapping):
        for name in saved.keys() & current.keys() if part else [n for n in saved if n in current]:
            yield from differences(saved[name], current[name], f"{part}.{name}" if part else name)
    elif saved != current:
        yield part, saved, current


def described(value: Any, depth: int = 4) -> Any:
    """A value as plain data that is the same in another process, at another place: places and texts are left out.

    Args:
        value: Anything.
        depth: How many levels of objects to look into.
    """
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value) if isinstance(value, float) else value
    if is_place_or_text(value) or depth == 0:
        return None
    if isinstance(value, np.generic):
        return described(value.item())
    if isinstance(value, (Tensor, np.ndarray)):
        return _short(_identity(value))
    if isinstance(value, nn.Module):
        return _modules(value)
    if isinstance(value, MethodType):
        value = value.__func__
    if isinstance(value, FunctionType):
        inner = [cell.cell_contents for cell in value.__closure__ or () if _is_set(cell)]
        parts = [described(part, depth - 1) for part in (*inner, *(value.__defaults__ or ()))]
        return [value.__qualname__, *(part for part in parts if part is not None)]
    if isinstance(value, type) or callable(getattr(value, "__wrapped__", None)):
        return [value.__qualname__]
    if isinstance(value, partial):
        return [described(part, depth - 1) for part in (value.func, value.args, value.keywords)]
    if isinstance(value, Mapping):
        return {str(name): described(part, depth - 1) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(part, depth - 1) for part in value[:LOOKED_AT]]
    state = assigned(type(value))
    own = {
        name: described(part, depth - 1)
        for name, part in (own_vars(value) or {}).items()
        if name[0] != "_" and name not in state
    }
    return {"class": type(value).__qualname__, **{name: part for name, part in own.items() if part is not None}}


def _is_set(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # not assigned yet
        return False


def _modules(model: nn.Module) -> dict[str, Any]:
    """The layers of a model, with what they show of their settings, and numbers that their methods do not change."""
    res: dict[str, Any] = {}
    for name, m in model.named_modules():
        state = assigned(type(m))
        numbers = {
            k: v for k, v in vars(m).items() if isinstance(v, (bool, int, float)) and k not in state and k != "training"
        }
        is_leaf = next(m.children(), None) is None
        shown = _PLACES.sub("…", m.extra_repr() or _own_repr(m)) if is_leaf else ""
        res[name or "itself"] = f"{type(m).__name__}({shown}) {numbers or ''}".strip()
    return res


def _own_repr(m: nn.Module) -> str:
    """What a module of another library shows of its settings by a `__repr__` of its own, as those of kornia do."""
    is_known = type(m).__repr__ is nn.Module.__repr__ or type(m).__module__.partition(".")[0] in ("layered", "torch")
    return "" if is_known else plain_text(m)


def plain_text(value: object) -> str:
    """The repr of a value without the addresses in it."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def impersonal(text: object) -> object:
    """A text without the addresses, places and secrets in it; anything else as it is.

    Args:
        text: Such as the repr of callbacks.

    Examples:
        >>> impersonal("[Log('/tmp/run/a.csv', token='abc'), <function f at 0x7f12>]")
        "[Log('…', token='***'), <function f>]"
    """
    return masked(_PLACES.sub("…", re.sub(r" at 0x[0-9a-f]+", "", text))) if isinstance(text, str) else text


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint(dataset: Any) -> dict[str, Any]:
    """The number of items of a data set, and a digest that tells whether it is still the same.

    It is quick, and not a proof. It covers the vocabulary, the types, names and shapes of a table or arrays, and `LOOKED_AT` of
    the rows or items, evenly spread. For an item that is a file it covers the names of file and folder, and the size. For data
    sets that make items only on request it covers the class, the length, and the tensors, arrays, lists and data sets that they
    hold as attributes (`looked_at` is then 0).

    Args:
        dataset: Any data set, or a list of batches.

    Examples:
        >>> same, other = torch.arange(4.0), torch.tensor([0.0, 1.0, 2.0, 4.0])
        >>> fingerprint(same)["sha256"] == fingerprint(same.clone())["sha256"] != fingerprint(other)["sha256"]
        True
    """
    count, looked_at = length_of(dataset), 0
    facts = [type(dataset).__name__, str(count), _identity(getattr(dataset, "vocab", None))]
    source = getattr(dataset, "items", None)
    if source is None or callable(source):
        source = dataset if isinstance(dataset, (Tensor, np.ndarray, list, tuple)) else None
    columns = getattr(dataset, "tensors", ()) if source is None else [source]
    if not len(columns):
        facts += _held(dataset)
    for column in columns:
        is_table = is_frame(column)
        rows, kind = _some_rows(column)
        looked_at = max(looked_at, len(rows))
        facts += [kind, rows.to_csv() if is_table else _identity(rows)]
    return {"items": count, "looked_at": looked_at, "sha256": hashlib.sha256("\n".join(facts).encode()).hexdigest()}


def _some_rows(column: Any) -> tuple[Any, str]:
    """Some rows of a table, an array or a list, evenly spread; and what describes all of them."""
    total = len(column)
    looks_at_some = total > LOOKED_AT and getattr(column, "nbytes", SMALL) >= SMALL
    chosen = [i * total // LOOKED_AT for i in range(LOOKED_AT)] if looks_at_some else list(range(total))
    is_table = is_frame(column)
    if is_table:
        return column.iloc[chosen], str([(str(name), str(kind)) for name, kind in column.dtypes.items()])
    if isinstance(column, (Tensor, np.ndarray)):
        return column[chosen], f"{column.dtype} {tuple(column.shape)}"
    return [column[i] for i in chosen], ""


def _held(dataset: object, depth: int = 3) -> list[str]:
    """What a data set of another library holds as attributes, and the data sets that it takes items from."""
    facts = []
    for name, value in sorted((own_vars(dataset) or {}).items()):
        if length_of(value) is None and isinstance(value, (Tensor, np.ndarray)):
            continue  # a number in a tensor is a count, as of epochs
        if isinstance(value, (Tensor, np.ndarray, list, tuple, range)) or is_frame(value):
            facts.append(f"{name} {fingerprint(value)['sha256']}")
        elif isinstance(value, Dataset) and depth:
            facts += [f"{name}.{fact}" for fact in (fingerprint(value)["sha256"], *_held(value, depth - 1))]
    return facts


def _identity(value: object) -> str:
    """A text that is the same for the same value in another process."""
    if isinstance(value, str) and os.path.isabs(value):
        value = Path(value)
    if isinstance(value, Dataset):
        return str(_held(value))
    if isinstance(value, os.PathLike):
        path = Path(value)
        return f"{path.parent.name}/{path.name} {path.stat().st_size if path.is_file() else None}"
    if isinstance(value, np.ndarray) and value.dtype != object:
        return f"{value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    if isinstance(value, Tensor):
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(raw.tobytes()).hexdigest()}"
    if isinstance(value, Mapping):
        return str([(str(name), _identity(part)) for name, part in value.items()])
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) and length_of(value) is not None:
        return str([_identity(part) for part in value])
    return plain_text(value)
