"""Provenance of a run: its settings, data, packages, hardware and code, as JSON."""

from __future__ import annotations

import math
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layered.data import DataLoader, as_dataset, as_loader
from layered.foundation import MASK, Pipeline, is_secret_name, masked, masked_command
from layered.loop import AbstractLoop, fingerprint, length_of, plain_text, unwrapped
from layered.version import __version__

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
    return masked(str(value) if isinstance(value, os.PathLike) else plain_text(value))


def describe_run(learn: AbstractLoop) -> dict[str, Any]:
    """The manifest of a fit that begins: its settings, its data, and where it runs.

    Args:
        learn: The learner that fits.
    """
    loaders = list(learn.dls)
    return {
        "layered": __version__,
        "configuration": describe_configuration(learn),
        "seeds": {
            "torch": torch.initial_seed(),
            "loaders": [dl.seed if isinstance(dl, DataLoader) else None for dl in loaders],
        },
        "data": [fingerprint(dl if (dataset := as_loader(dl).dataset) is None else dataset) for dl in loaders],
        "code": {"command": masked_command(sys.argv), "folder": os.getcwd(), "git": git_commit(Path.cwd())},
        "hardware": hardware(),
        "packages": sorted({f"{d.name}=={d.version}" for d in metadata.distributions()}, key=str.lower),
    }


def describe_configuration(learn: AbstractLoop) -> dict[str, Any]:
    """The settings of a fit that begins: its arguments, the parts of the learner, and its loaders. Secrets are masked.

    Args:
        learn: The learner that fits.
    """
    return {
        "fit": as_json(dict(learn.fit_arguments)),
        "model": _model(learn),
        "loss": masked(plain_text(learn.loss_func)),
        "optimizer": {
            "class": type(learn.opt).__name__,
            "recipe": masked(plain_text(learn.opt_func)),
            "groups": [as_json(dict(hypers)) for hypers in learn.opt.hypers],
        },
        "callbacks": [masked(plain_text(cb)) for cb in learn.ordered_cbs()],
        "metrics": [masked(plain_text(metric)) for metric in learn.metric_set.metrics],
        "loaders": [_loader(dl) for dl in learn.dls],
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
