"""A fit in several processes of `torch.distributed`, each with its share of every batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from layered.data import DataLoader
from layered.foundation import BadValue, find_bs, noop, rank_and_world, to_cpu
from layered.loop.callback import Callback
from layered.loop.state import AbstractLoop
from layered.metrics import Metric, unique_parts

T = TypeVar("T")


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, where it is wrapped in `DistributedDataParallel`."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def gathered(value: T) -> list[T]:
    """`value` of every process, by rank. A collective call: all of them must make it."""
    _, world = rank_and_world()
    values = [value] * world
    if world > 1:
        distributed.all_gather_object(values, to_cpu(value))
    return values


def any_process(flag: bool) -> bool:
    """Whether `flag` is set in at least one process. A collective call: all of them must make it.

    With NCCL as the only backend it waits for the device; `init_process_group()` without a backend also sets up one for the CPU.
    """
    if rank_and_world()[1] == 1:
        return flag
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    votes = torch.tensor(int(flag), device=device)
    distributed.all_reduce(votes, distributed.ReduceOp.MAX)
    return bool(votes)


def merge_metrics(metrics: Iterable[Metric]) -> None:
    """Merge into the metrics of this process what those of the others have accumulated, by rank.

    Raises:
        BadValue: For a metric that does not say what it keeps, and would be of this process alone.
    """
    if rank_and_world()[1] == 1:
        return
    for part in unique_parts(metrics):
        merges_itself = hasattr(getattr(part, "metric", None), "dist_sync_fn")  # torchmetrics'
        if not (isinstance(part, Metric) and part.state) and not merges_itself:
            raise BadValue(
                f"the metric '{part.name}' cannot be combined across processes",
                got="a metric without `state`",
                expected="the names of the attributes that accumulate, so that processes can be merged",
                fix="class MyMetric(Metric): state = ('total', 'count'), with update and compute",
            )
    parts = [part for part in unique_parts(metrics) if isinstance(part, Metric) and part.state]
    states = gathered([{name: vars(part)[name] for name in part.state if name in vars(part)} for part in parts])
    for i, part in enumerate(parts):
        part.reset()
        for state in states:
            other = part.clone()
            vars(other).update(state[i])
            part.merge(other)


class SharedFit(Callback):
    """What a fit in several processes needs; `fit` adds it.

    The loss of each process is weighted by its share of the rows, so that the averaged gradient is that of the whole batch
    even if the last one is ragged. Only rank 0 logs.
    """

    order = -20
    transient = ("old_logger",)
    observes = True
    state_kinds = ()
    old_logger: Any = None

    def before_fit(self) -> None:
        learn = self.learn
        if rank_and_world()[0] > 0:
            self.old_logger, learn.logger = learn.logger, noop

    def after_loss(self) -> None:
        learn = self.learn
        if learn.training and learn.loss_grad is not None:
            learn.loss_grad = learn.loss_grad * (find_bs(learn.yb or learn.xb) / mean_rows(learn))

    def on_end(self) -> None:
        if self.old_logger is not None:
            self.learn.logger, self.old_logger = self.old_logger, None


def mean_rows(loop: AbstractLoop) -> float:
    """The rows of the current batch: the mean over all processes, if the loader distributes batches itself."""
    dl, i = loop.dl, loop.iter
    if not isinstance(dl, DataLoader) or dl.world == 1 or dl.n is None or dl.bs is None:
        return find_bs(loop.yb or loop.xb)
    is_ragged = i + 1 == len(dl) and not dl.drop_last
    return dl.n / dl.world - i * dl.bs if is_ragged else dl.bs


def callbacks_of_processes() -> list[Callback]:
    """What `fit` adds if there are several processes."""
    return [SharedFit()] if rank_and_world()[1] > 1 else []
