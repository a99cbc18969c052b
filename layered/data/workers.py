"""What runs on the other side: plans go to workers, packed batches and described failures come back."""

from __future__ import annotations

import copy
import os
import pickle
import traceback
from collections.abc import Iterator
from typing import Any

import torch

from layered.data.collate import pack, unpack
from layered.data.samplers import TicketBatch
from layered.foundation.errors import BadItem

IN_PARENT = ("get_idxs", "shuffle_fn", "after_batch", "before_iter", "after_iter")  # stages that workers never run


class Plan:
    """The sampler of torch's loader: whatever plan stands for the epoch."""

    plan: Iterator[TicketBatch]

    def __iter__(self) -> Iterator[TicketBatch]:
        return self.plan


class Failure:
    """An exception on its way from a worker to the parent."""

    def __init__(self, error: Exception) -> None:
        self.trace = "".join(traceback.format_exception(error))
        try:
            self.error: Exception = pickle.loads(pickle.dumps(error))
        except Exception:
            self.error = BadItem(f"a worker failed: {type(error).__name__}: {error}")

    def reraise(self) -> None:
        """Raise it here; its cause is the trace from there."""
        self.error.__cause__ = RuntimeError(f"in a worker:\n{self.trace}")
        raise self.error


class WorkerSide:
    """The part of a loader that runs in workers: plans in, packed batches out."""

    def __init__(self, loader: Any) -> None:
        self.loader = copy.copy(loader)
        for stage in IN_PARENT:
            self.loader.__dict__.pop(stage, None)

    def __len__(self) -> int:
        return self.loader.n or 0

    def __getitem__(self, plan: TicketBatch) -> Any:
        try:
            batch, *rest = self.loader.make_batch(plan)
        except Exception as error:
            return Failure(error)
        return (pack(batch), *rest)


def open_made(made: Any) -> Any:
    """What came back from a worker, opened; a failure is raised."""
    if isinstance(made, Failure):
        made.reraise()
    batch, *rest = made
    return (unpack(batch), *rest)


def start_worker(worker: int) -> None:
    """Run the loader's own `wif` in a worker that has just started."""
    info = torch.utils.data.get_worker_info()
    assert info is not None
    info.dataset.loader.wif()  # type: ignore[attr-defined]  # a WorkerSide


def default_workers() -> int:
    """As many workers as this process may use cores, at most 16."""
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
