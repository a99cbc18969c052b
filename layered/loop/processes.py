"""A fit in several processes of `torch.distributed`, each with its share of every batch."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from layered.foundation import BadValue, CannotSave, default_device, is_sharded, launched, noop, rank_and_world, to_cpu
from layered.loop.callback import Callback
from layered.loop.lost import LostProcess, naming_lost, timeout_of_processes
from layered.metrics import Metric, unique_parts

T = TypeVar("T")


def join_processes() -> None:
    """Join the other processes of a launcher, such as `torchrun` or `srun`; without one, or once joined, nothing happens.

    A process uses the GPU of its local rank. Processes that were not seeded draw as the first one does, so that loaders without
    a seed agree on their order.

    Raises:
        LostProcess: The others are not there in time, or there is no way to where they meet.
    """
    found = launched()
    if found is None or found.world == 1 or not distributed.is_available() or distributed.is_initialized():
        return
    has_cuda = torch.cuda.is_available()
    if has_cuda:
        torch.cuda.set_device(default_device())
    try:
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if has_cuda else "gloo",
            init_method=f"tcp://{found.address}:{found.port}",
            rank=found.rank,
            world_size=found.world,
            timeout=timeout_of_processes(),
        )
    except distributed.DistError as error:
        raise LostProcess(
            f"process {found.rank} of {found.world} does not meet the others at {found.address}:{found.port}",
            got=str(error).splitlines()[0],
            expected="the first process listening there, and all others started",
            fix="see whether all have started; MASTER_ADDR and MASTER_PORT say where they meet, LAYERED_TIMEOUT how long",
        ) from error
    atexit.register(_leave_processes)
    rank, world = rank_and_world()
    seed = gathered(torch.initial_seed())[0]
    if seed != torch.initial_seed():
        torch.manual_seed(seed)
    if rank == 0:
        print(f"{world} processes share each batch: bs counts the rows of each; the first one prints and writes")


def _leave_processes() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def by_first(job: Callable[[], object], meanwhile: Callable[[], object] = noop) -> None:
    """Let the first process do a job; all return once it is done. A collective call: all of them must make it.

    Args:
        job: What it does, such as writing a file.
        meanwhile: What the others do, and the first process after its job.

    Raises:
        CannotSave: In the other processes, if it failed; in the first, its own error.
        LostProcess: If another process is lost.
    """
    rank, world = rank_and_world()
    error: Exception | None = None
    if rank == 0:
        try:
            job()
        except Exception as failure:
            error = failure
    with naming_lost():
        meanwhile()
        outcome = gathered(None if error is None else str(error))[0] if world > 1 else None
    if error is not None:
        raise error
    if outcome is not None:
        raise CannotSave("the first process could not write", got=outcome)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, where it is wrapped in `DistributedDataParallel`."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def gathered(value: T) -> list[T]:
    """`value` of every process, by rank. A collective call: all of them must make it."""
    _, world = rank_and_world()
    values = [value] * world
    if world > 1:
        with naming_lost():
            distributed.all_gather_object(values, to_cpu(value))
    return values


def any_process(flag: bool) -> bool:
    """Whether `flag` is set in at least one process. A collective call: all of them must make it.

    Args:
        flag: Of this process.
    """
    return largest_of_processes(int(flag)) > 0


def largest_of_processes(number: int) -> int:
    """The largest of the whole numbers that all processes give. A collective call: all of them must make it.

    With NCCL as the only backend it waits for the device; `init_process_group()` without a backend also sets up one for the CPU.

    Args:
        number: Of this process.
    """
    return _reduced(number, largest=True)


def sum_of_processes(number: int) -> int:
    """The sum of a whole number over all processes. A collective call, as `largest_of_processes` is.

    Args:
        number: Of this process.
    """
    return _reduced(number, largest=False)


def _reduced(number: int, largest: bool) -> int:
    if rank_and_world()[1] == 1:
        return number
    reduced = torch.tensor(number, device="cuda" if distributed.get_backend() == "nccl" else "cpu")
    distributed.all_reduce(reduced, distributed.ReduceOp.MAX if largest else distributed.ReduceOp.SUM)
    return int(reduced)


def mean_of_processes(value: float) -> float:
    """The mean of a number over all processes. A collective call: all of them must make it.

    Args:
        value: The number in this process.
    """
    values = gathered(value)
    return sum(values) / len(values)


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
    for part in parts:
        part.before_merge()
    states = gathered([{name: vars(part)[name] for name in part.state if name in vars(part)} for part in parts])
    for i, part in enumerate(parts):
        part.reset()
        for state in states:
            other = part.clone()
            vars(other).update(state[i])
            part.merge(other)


class SharedFit(Callback):
    """What a fit in several processes needs; `fit` adds it. In a single one it changes nothing.

    All begin with the weights of the first one. Only the first process logs.
    """

    order = -20
    transient = ("old_logger",)
    observes = True
    state_kinds = ()
    old_logger: Any = None

    def before_fit(self) -> None:
        learn = self.learn
        tensors = [*unwrapped(learn.model).parameters(), *unwrapped(learn.model).buffers()]
        send_from_first(x for x in tensors if not is_sharded(x))
        if rank_and_world()[0] > 0:
            self.old_logger, learn.logger = learn.logger, noop

    def after_train(self) -> None:
        """The running statistics of norm layers are those of the first process, as its weights are."""
        send_from_first(unwrapped(self.learn.model).buffers())

    after_fit = after_train  # of an epoch that was cut short

    def on_end(self) -> None:
        if self.old_logger is not None:
            self.learn.logger, self.old_logger = self.old_logger, None


class AverageGradients(Callback):
    """The gradients of a step are the means over all processes; `fit` adds it.

    It acts between accumulation and clipping, so that whatever made the gradients, they are those of the whole batch. A model
    in `DistributedDataParallel` averages them itself, during the backward pass, as do the sharded parameters of FSDP2.
    """

    order = 7
    observes = True
    state_kinds = ()

    def before_step(self) -> None:
        learn = self.learn
        if not isinstance(learn.model, DistributedDataParallel):
            average_gradients([p for plist in learn.opt.param_lists for p in plist if p.requires_grad])


def average_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace gradients by their means over all processes; a parameter that has one in any process has one in all.

    Args:
        parameters: The same ones in each process. Sharded ones, whose gradients FSDP2 averages, are left alone.
    """
    world = rank_and_world()[1]
    parameters = [p for p in parameters if not is_sharded(p)]
    if world == 1 or not parameters:
        return
    has_gradient = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int, device=parameters[0].device)
    distributed.all_reduce(has_gradient, distributed.ReduceOp.MAX)
    due = [p for p, has in zip(parameters, has_gradient.tolist(), strict=True) if has]
    for _, group in groupby(due, lambda p: (p.device, p.dtype)):
        for some in _of_size(list(group), BUCKET):
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in some]
            together = torch.cat([grad.flatten() for grad in grads]).div_(world)
            distributed.all_reduce(together)
            for p, mean in zip(some, torch.split(together, [grad.numel() for grad in grads]), strict=True):
                p.grad = mean.view_as(p) if p.grad is None else p.grad.copy_(mean.view_as(p))


BUCKET = 1 << 24  # numbers that are sent at once: the memory that averaging takes


def _of_size(parameters: list[Tensor], size: int) -> Iterable[list[Tensor]]:
    """The parameters in groups of about so many numbers."""
    some: list[Tensor] = []
    count = 0
    for p in parameters:
        some.append(p)
        count += p.numel()
        if count >= size:
            yield some
            some, count = [], 0
    if some:
        yield some


def send_from_first(tensors: Iterable[Tensor]) -> None:
    """Give all processes the values that the first one has.

    Args:
        tensors: The same ones in each process; they are changed in place.
    """
    if rank_and_world()[1] > 1:
        for tensor in tensors:
            distributed.broadcast(tensor.detach(), 0)
