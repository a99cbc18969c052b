"""Provenance of a run: its settings, data, packages, hardware and code, as JSON."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layered.data import DataLoader, as_dataset, as_loader
from layered.foundation import MASK, Pipeline, is_frame, is_secret_name, masked, masked_command
from layered.loop import AbstractLoop, length_of, unwrapped
from layered.version import __version__

LOOKED_AT = 256  # items of a split, or rows of a table, that its fingerprint reads
_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}


def as_json(value: object) -> Any:
    """A value as strict JSON: non-finite numbers become "NaN", "Infinity", "-Infinity"; unknown objects their repr.

    Secrets are masked.

    Args:
        value: Anything.

    Examples:
        >>> as_json({"loss": float("nan"), "lr": torch.tensor([0.5, 1.0]), "path": Path("a")})
        {'loss': 'NaN', 'lr': [0.5, 1.0], 'path': 'a'}
    """
    if isinstance(value, str):
        return masked(value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _NOT_FINITE.get(value, "NaN")
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return as_json(value.tolist())
    if isinstance(value, dict):
        return {
            str(name): MASK if isinstance(part, str) and is_secret_name(str(name)) else as_json(part)
            for name, part in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [as_json(part) for part in value]
    return masked(str(value) if isinstance(value, os.PathLike) else _text(value))


def describe_run(learn: AbstractLoop) -> dict[str, Any]:
    """The manifest of a fit that begins: its settings, its data, and where it runs.

    Args:
        learn: The learner that fits.
    """
    loaders = list(learn.dls)
    return {
        "layered": __version__,
        "configuration": {
            "fit": as_json(dict(learn.fit_arguments)),
            "model": _model(learn),
            "loss": masked(_text(learn.loss_func)),
            "optimizer": {
                "class": type(learn.opt).__name__,
                "recipe": masked(_text(learn.opt_func)),
                "groups": [as_json(dict(hypers)) for hypers in learn.opt.hypers],
            },
            "callbacks": [masked(_text(cb)) for cb in learn.ordered_cbs()],
            "metrics": [masked(_text(metric)) for metric in learn.metric_set.metrics],
            "loaders": [_loader(dl) for dl in loaders],
        },
        "seeds": {
            "torch": torch.initial_seed(),
            "loaders": [dl.seed if isinstance(dl, DataLoader) else None for dl in loaders],
        },
        "data": [fingerprint(dl if (dataset := as_loader(dl).dataset) is None else dataset) for dl in loaders],
        "code": {"command": masked_command(sys.argv), "folder": os.getcwd(), "git": git_commit(Path.cwd())},
        "hardware": hardware(),
        "packages": sorted({f"{d.name}=={d.version}" for d in metadata.distributions()}, key=str.lower),
    }


def _model(learn: AbstractLoop) -> dict[str, Any]:
    model = unwrapped(learn.model)
    parameters = list(model.parameters())
    return {
        "class": type(model).__qualname__,
        "recipe": as_json(getattr(learn, "recipe", None)),
        "parameters": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
    }


def _loader(dl: Any) -> dict[str, Any]:
    settings = {
        name: getattr(dl, name, None) for name in ("bs", "batch_size", "num_workers", "shuffle", "drop_last", "n")
    }
    stages = {name: getattr(dl, name, None) for name in ("after_item", "before_batch", "after_batch")}
    return {
        "class": type(dl).__name__,
        "batches": length_of(dl),
        **{name: value for name, value in settings.items() if isinstance(value, (bool, int))},
        "columns": [as_json(column.tfms) for column in as_dataset(as_loader(dl).dataset).columns],
        "transforms": {name: as_json(stage) for name, stage in stages.items() if isinstance(stage, Pipeline)},
    }


def fingerprint(dataset: Any) -> dict[str, Any]:
    """The number of items of a data set, and a digest that tells whether it is still the same.

    It is quick, and not a proof. It covers the vocabulary, the types, names and shapes of a table or arrays, and `LOOKED_AT` of
    the rows or items, evenly spread. For an item that is a file it covers the names of file and folder, and the size. For data
    sets that make items only on request it covers the class and the length (`looked_at` is then 0).

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
    for column in getattr(dataset, "tensors", ()) if source is None else [source]:
        is_table = is_frame(column)
        rows, kind = _some_rows(column)
        looked_at = max(looked_at, len(rows))
        facts += [kind, rows.to_csv() if is_table else _identity(rows)]
    return {"items": count, "looked_at": looked_at, "sha256": hashlib.sha256("\n".join(facts).encode()).hexdigest()}


def _some_rows(column: Any) -> tuple[Any, str]:
    """Some rows of a table, an array or a list, evenly spread; and what describes all of them."""
    total = len(column)
    chosen = [i * total // LOOKED_AT for i in range(LOOKED_AT)] if total > LOOKED_AT else list(range(total))
    is_table = is_frame(column)
    if is_table:
        return column.iloc[chosen], str([(str(name), str(kind)) for name, kind in column.dtypes.items()])
    if isinstance(column, (Tensor, np.ndarray)):
        return column[chosen], f"{column.dtype} {tuple(column.shape)}"
    return [column[i] for i in chosen], ""


def _identity(value: object) -> str:
    """A text that is the same for the same value in another process."""
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
    return _text(value)


def _text(value: object) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def hardware() -> dict[str, Any]:
    """The machine, its system, and the settings of torch that numbers and speed depend on."""
    cuda, flags = torch.cuda, torch.backends.cudnn
    is_used = cuda.is_initialized()  # type: ignore[no-untyped-call]  # asking for device names would initialise CUDA
    return {
        "cpu": _line_of("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None,
        "gpus": cuda.device_count(),
        "gpu_names": [cuda.get_device_name(i) for i in range(cuda.device_count() if is_used else 0)],
        "gpu_driver": _line_of("/proc/driver/nvidia/version", "NVRM version"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": {"deterministic": flags.deterministic, "benchmark": flags.benchmark},
        "matmul_precision": torch.get_float32_matmul_precision(),
    }


def _line_of(file: str, name: str) -> str | None:
    """What a system file says after `name:`; None if there is no such file."""
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def git_commit(folder: Path) -> str | None:
    """The commit checked out in the git repository around a folder; None outside of one. Runs no program.

    Args:
        folder: Any folder.
    """
    git = next((place / ".git" for place in (folder, *folder.parents) if (place / ".git").exists()), None)
    if git is None:
        return None
    try:
        if git.is_file():  # in a worktree or a submodule, a file that names the folder
            git = git.parent / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        shared = git / (git / "commondir").read_text().strip() if (git / "commondir").exists() else git
        for place in (git, shared):
            if (place / name).exists():
                return (place / name).read_text().strip()
        packed = (shared / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)
    except OSError:
        return None
