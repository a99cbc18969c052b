"""Worker processes: they receive plans and return packed batches, or descriptions of failures."""

from __future__ import annotations

import atexit
import copy
import gc
import io
import itertools
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import PurePath
from types import MethodType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader as TorchDataLoader

from layered.data.adapters import as_dataset
from layered.data.batch_maker import BatchMaker, MadeBatch
from layered.data.collate import pack, unpack_batch
from layered.data.samplers import TicketBatch
from layered.data.worker_failures import worker_failure
from layered.foundation import (
    BadItem,
    BadValue,
    Failure,
    Held,
    Pipeline,
    describe,
    failed,
    leaves,
    noop,
    num_cpus,
    own_vars,
    process_context,
    warn,
)

WORTH = 50_000  # items from which a list is packed; for shorter ones it does not pay


class PackedText(Sequence[Any]):
    """Strings or paths as a single string with the end of each; items are made on access.

    A forked worker shares the parent's memory until either writes to it, and reading a Python object writes its reference
    count: a long list of strings would be copied into every worker. One string and one array are not.

    Args:
        items: Strings, or paths of a single class.

    Examples:
        >>> list(PackedText(["a", "", "ünï"]))
        ['a', '', 'ünï']
    """

    def __init__(self, items: Sequence[Any]) -> None:
        self.kind = type(items[0])
        texts = items if self.kind is str else list(map(str, items))
        self.text = "".join(texts)
        self.ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int | slice) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(len(self))[i]]
        i = range(len(self))[i]
        text = self.text[self.ends[i - 1] if i else 0 : self.ends[i]]
        return text if self.kind is str else self.kind(text)


def packed(dataset: object) -> Any:
    """The same data set, with long lists of strings or paths packed."""
    if type(dataset) is list:
        return _packed_list(dataset)
    declared = as_dataset(dataset)
    columns = declared.columns
    lists = {id(column.all_items): column.all_items for column in columns if type(column.all_items) is list}
    packs = {
        key: _packed_list(items) for key, items in lists.items()
    }  # columns share their items, so they share the pack
    if all(type(pack) is list for pack in packs.values()):
        return dataset
    return declared.with_columns(
        [column.with_all_items(packs.get(id(column.all_items), column.all_items)) for column in columns]
    )


def _packed_list(items: list[Any]) -> Any:
    is_text = len(items) >= WORTH and (type(items[0]) is str or isinstance(items[0], PurePath))
    return PackedText(items) if is_text and len(set(map(type, items))) == 1 else items


GRACE = 5.0  # seconds after a timeout until workers are ended
IN_WORKER = (
    "wif", "create_item", "after_item", "do_item", "before_batch", "create_batch", "retain", "do_batch",
)  # fmt: skip
IN_PARENT = (
    "get_idxs", "shuffle_fn", "sample", "create_batches", "after_batch", "before_iter", "after_iter",
)  # fmt: skip

# The running workers, and the process that started each: a fork of that process must not kill them.
_parents: weakref.WeakKeyDictionary[BaseProcess, int] = weakref.WeakKeyDictionary()


class WorkSource(Protocol):
    """A loader whose batches are made by workers."""

    dataset: Any
    indexed: bool
    num_workers: int
    workers_by_default: bool
    persistent_workers: bool
    timeout: float
    multiprocessing_context: Any

    @property
    def pins(self) -> bool:
        """Whether batches pass through page-locked memory."""

    def for_workers(self, dataset: object) -> BatchMaker:
        """The part of the loader that is sent to workers."""


class Plan:
    """The sampler of torch's loader: yields the plan of the current epoch, which is assigned before each pass.

    Attributes:
        outstanding: The batches that were sent to workers and did not come back, in the order in which they will.
    """

    plan: Iterator[TicketBatch]
    outstanding: deque[TicketBatch]

    def start(self, plan: Iterator[TicketBatch]) -> None:
        """Begin a pass."""
        self.plan, self.outstanding = plan, deque()

    def __iter__(self) -> Iterator[TicketBatch]:
        for batch in self.plan:
            self.outstanding.append(batch)
            yield batch


class WorkerSide:
    """What torch's loader sends to workers: plans in, packed batches out.

    Args:
        maker: The stages that run in workers, and the data set.
        num_workers: The number of workers.

    Attributes:
        working_on: For each worker, the number of the batch that it is making, or -1: int64 in shared memory.
        failure: What the `wif` stage raised in this worker, which it returns in place of batches.
        has_changed: For each worker, whether making batches has changed what it makes them with: in shared memory too.
    """

    def __init__(self, maker: BatchMaker, num_workers: int) -> None:
        self.maker, self.made = maker, 0
        self.failure: Failure | None = None
        self.at_start: dict[str, Any] = {}
        self.working_on, self.has_changed = torch.full((num_workers,), -1), torch.zeros(num_workers, dtype=torch.bool)
        for shared in (self.working_on, self.has_changed):
            shared.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return 0  # torch calls it, but the number of batches depends on the plan alone

    def __getitem__(self, plan: TicketBatch) -> Any:
        if self.failure is not None:
            return self.failure
        info = torch.utils.data.get_worker_info()
        assert info is not None
        self.working_on[info.id] = plan.number
        if self.made == 0:
            self.at_start = self._contents()
        try:
            batch, *rest = self.maker.make(plan)
            check_sendable(batch)
            made: Any = (pack(batch), *rest)
        except Exception as error:
            made = Failure(error)
        self.made += 1
        if self.made & (self.made - 1) == 0 and not self.has_changed[info.id]:  # after 1, 2, 4, 8, … batches
            self.has_changed[info.id] = self._contents() != self.at_start
        self.working_on[info.id] = -1
        return made

    def _contents(self) -> dict[str, Any]:
        return Held({"loader": self.maker.stages}).contents()


class Workers:
    """The workers of a loader, kept for the next epoch if they are persistent and nothing that they run has changed."""

    def __init__(self) -> None:
        self._work: list[Any] = []
        self._dataset: Any = None
        self._torch_loader: TorchDataLoader[Any] | None = None
        self._cannot: str | None = None
        self._processes: list[BaseProcess] = []
        self._resting: list[BaseProcess] = []  # those of a whole pass, kept for the next
        self._has_changed = False

    def notice_changes(self) -> bool:
        """Whether making batches has ever changed what workers make them with, such as a counter of the data set."""
        if self._torch_loader is not None:
            side: Any = self._torch_loader.dataset
            self._has_changed |= bool(side.has_changed.any())
        return self._has_changed

    def batches(self, loader: WorkSource, plan: Iterator[TicketBatch]) -> Iterator[MadeBatch] | None:
        """The planned batches, made by workers; None if workers are only a default and cannot be started.

        Raises:
            BadValue: Workers were requested, but part of the loader cannot be sent to them.
        """
        work = _work_of(loader)
        has_changed = len(work) != len(self._work) or any(a is not b for a, b in zip(work, self._work, strict=True))
        if has_changed:
            self._work, self._torch_loader = work, None
            self._dataset = packed(loader.dataset) if loader.indexed else None  # plans contain the items of a stream
            forks = process_context(loader.multiprocessing_context).get_start_method() == "fork"
            self._cannot = None if forks else unsendable(loader.for_workers(self._dataset))
            if self._cannot is not None and loader.workers_by_default:
                warn(f"batches are made without workers, because {self._cannot}")
        if self._cannot is not None:
            if loader.workers_by_default:
                return None
            raise BadValue(
                f"cannot start {loader.num_workers} workers: part of the loader cannot be sent to them",
                got=self._cannot,
                fix="define functions at the top of a module, not as lambdas, or use num_workers=0",
            )
        if self._torch_loader is None or not loader.persistent_workers:
            self._processes = []
            self._torch_loader = _torch_loader(loader, self._dataset, self._processes)
            kill(self._resting)
        self._resting = []
        self._torch_loader.sampler.start(plan)  # type: ignore[attr-defined]  # the sampler is a Plan
        return self._received(loader, self._torch_loader, _started(self._torch_loader, self._processes))

    def _received(
        self, loader: WorkSource, torch_loader: TorchDataLoader[Any], made: Iterator[Any]
    ) -> Iterator[MadeBatch]:
        """Unpack what workers return, and end them with the iteration.

        Raises:
            WorkerFailed: A worker died, or did not answer in time.
        """
        side: Any = torch_loader.dataset
        outstanding = torch_loader.sampler.outstanding  # type: ignore[attr-defined]  # the sampler is a Plan
        processes, keeps, failure = self._processes, False, None
        try:
            for due in itertools.count():
                deadline = _Deadline(processes, loader.timeout)
                try:
                    with deadline:
                        batch = next(made)
                except StopIteration:
                    keeps = loader.persistent_workers
                    return
                except (RuntimeError, OSError, EOFError) as error:
                    if not isinstance(error, RuntimeError):  # a worker's connection broke
                        _wait_for_an_end(processes)
                    failure = worker_failure(
                        processes,
                        side.working_on.tolist(),
                        outstanding,
                        due,
                        loader.timeout,
                        deadline.has_passed,
                        side.maker.stages.item_name,
                    )
                    if failure is None:
                        raise
                if failure is not None:  # raised here: torch's error refers to its iterator and so to the workers
                    kill(processes)
                    raise failure
                outstanding.popleft()
                yield open_made(batch)
        except GeneratorExit:
            keeps = loader.persistent_workers
            raise
        finally:
            del made  # a traceback that someone keeps refers to this frame, and would keep the workers alive
            self.notice_changes()
            if keeps:
                self._resting = processes
            else:
                self._torch_loader = None
                del torch_loader
                kill(processes)


class _Deadline:
    """Context in which the workers are ended a little after the time that a batch may take.

    torch waits that long for the message that a batch is made, but without end for its memory, which a worker that has
    stopped in its next batch does not hand over.

    Args:
        processes: The workers.
        timeout: Seconds that a batch may take; 0 for any time.
    """

    def __init__(self, processes: Sequence[BaseProcess], timeout: float) -> None:
        self.processes, self.has_passed = processes, False
        self.timer = threading.Timer(timeout + GRACE, self.pass_by) if timeout else None

    def pass_by(self) -> None:
        """End the workers: what waits for them fails then."""
        self.has_passed = True
        kill(self.processes)

    def __enter__(self) -> None:
        if self.timer is not None:
            self.timer.daemon = True
            self.timer.start()

    def __exit__(self, *_: object) -> None:
        if self.timer is not None:
            self.timer.cancel()


def _started(torch_loader: TorchDataLoader[Any], processes: list[BaseProcess]) -> Iterator[Any]:
    """The batches of a pass, by workers that end with this iterator, and at the latest with this process.

    Args:
        torch_loader: The loader.
        processes: Its workers; those that are started here are added.
    """
    are_new = not processes
    handler = signal.getsignal(signal.SIGCHLD) if sys.platform != "win32" else None
    try:
        made = iter(torch_loader)
    except BaseException:  # a worker could not be started, or Ctrl-C
        kill(processes)
        raise
    if handler is not None and threading.current_thread() is threading.main_thread():
        # torch's handler raises wherever this process happens to be, as in the middle of a step, when a worker ends.
        # Without it the loader notices while it waits for that worker's batch.
        signal.signal(signal.SIGCHLD, handler)
    if are_new:
        # torch asks its workers to end when the iterator is deleted. A garbage collection deletes the queues by which it
        # asks first, but not before it has called this.
        weakref.finalize(made, kill, processes).atexit = False
    # Exit handlers run in reverse order: registered anew, it runs before that of multiprocessing.
    atexit.unregister(end_workers)
    atexit.register(end_workers)
    return made


def _noting(context: BaseContext, processes: list[BaseProcess]) -> BaseContext:
    """A copy of `context` that adds the processes it makes to `processes`, before they start."""
    noting: Any = copy.copy(context)

    def make(*args: Any, **kwargs: Any) -> BaseProcess:
        process: BaseProcess = context.Process(*args, **kwargs)  # type: ignore[attr-defined]  # of every subclass
        _parents[process] = os.getpid()
        processes.append(process)
        return process

    noting.Process = make
    return noting  # type: ignore[no-any-return]


def _wait_for_an_end(processes: Sequence[BaseProcess]) -> None:
    """Wait, up to 5 seconds, until it is known how a worker ended: its files are closed some time before it is gone."""
    ended = multiprocessing.connection.wait([process.sentinel for process in processes], timeout=5)
    for process in processes:
        if process.sentinel in ended:
            process.join(5)


def kill(processes: Iterable[BaseProcess]) -> None:
    """End the workers that still run, such as one that hangs: torch asks by SIGTERM, which they ignore.

    Args:
        processes: The workers of one loader. In a fork of the process that started them nothing happens.
    """
    for process in processes:
        if _parents.get(process) == os.getpid() and process.is_alive():
            process.kill()
            process.join()


def _torch_loader(loader: WorkSource, dataset: object, processes: list[BaseProcess]) -> TorchDataLoader[Any]:
    return TorchDataLoader(
        WorkerSide(loader.for_workers(dataset), loader.num_workers),  # type: ignore[arg-type]  # torch only needs __getitem__
        batch_size=None,
        sampler=Plan(),
        num_workers=loader.num_workers,
        collate_fn=noop,
        pin_memory=loader.pins,
        timeout=loader.timeout,
        worker_init_fn=start_worker,
        multiprocessing_context=_noting(process_context(loader.multiprocessing_context), processes),
        generator=torch.Generator().manual_seed(0),
        persistent_workers=loader.persistent_workers,
    )


def _work_of(loader: WorkSource) -> list[Any]:
    """The objects that workers were started with. If any is no longer the same object, running workers are outdated."""
    work = [value for name, value in vars(loader).items() if not name.startswith("_") and name != "position"]
    stages = [getattr(loader, name) for name in IN_WORKER]
    stages += [column.tfms for column in as_dataset(loader.dataset).columns]
    for stage in stages:
        for step in (
            stage.fs if isinstance(stage, Pipeline) else [stage.__func__ if isinstance(stage, MethodType) else stage]
        ):
            work += [step, *(own_vars(step) or {}).values()]
    return work


def unsendable(maker: BatchMaker) -> str | None:
    """The part of a loader that cannot be pickled for its workers, and why; None if everything can."""
    try:
        pickle.dumps(maker)
    except Exception as error:
        for name, value in vars(maker.stages).items():
            try:
                pickle.dumps(value)
            except Exception as own_error:
                return f"its {name} cannot be pickled ({own_error})"
        return str(error)
    return None


_SENDABLE = (Tensor, str, int, float, complex, bytes, np.ndarray, np.generic, type(None))


class _SkipTensors(pickle.Pickler):
    """Pickles everything but tensors and arrays, which can always be sent."""

    def persistent_id(self, obj: Any) -> Any:
        return "tensor" if isinstance(obj, (Tensor, np.ndarray)) else None


def check_sendable(batch: object) -> None:
    """Refuse a batch that cannot be pickled here, where it can be reported: in the thread of the queue it would be lost.

    Args:
        batch: A collated batch.

    Raises:
        BadItem: Part of the batch cannot be sent to another process.
    """
    for leaf in leaves(batch):
        if isinstance(leaf, _SENDABLE):
            continue
        try:
            _SkipTensors(io.BytesIO()).dump(leaf)
        except Exception as error:
            raise BadItem(
                f"a batch cannot be sent from its worker: it contains {describe(leaf)}, which cannot be pickled",
                got=f"{type(error).__name__}: {error}",
                fix="make items of tensors, numbers and text, or use num_workers=0",
            ) from error


def open_made(made: Any) -> Any:
    """Unpack what a worker returned; raise a failure."""
    if isinstance(made, Failure):
        made.reraise()
    batch, *rest = made
    return (unpack_batch(batch), *rest)


def start_worker(worker: int) -> None:
    """Prepare a new worker process, then run the `wif` stage of the loader.

    Workers ignore SIGTERM. Schedulers send it to the whole process group, and the parent may need its workers to finish the
    batch and write a checkpoint; it ends them itself.
    """
    signal.signal(signal.SIGTERM, lambda *_: None)  # not SIG_IGN, which programs started by a transform would inherit
    parent = multiprocessing.parent_process()
    # Under a fork server the parent is not the parent process of the system, which is all that torch watches.
    if parent is not None and parent.pid != os.getppid():
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()
    gc.freeze()  # a garbage collection would write to the parent's objects, and so copy their shared memory pages
    info = torch.utils.data.get_worker_info()
    assert info is not None
    side: Any = info.dataset  # a WorkerSide
    try:
        side.maker.stages.wif()
    except Exception as error:
        side.failure = Failure(failed(error, f"starting worker {worker} (wif)"))


def _end_after(parent: BaseProcess) -> None:
    """End this process when `parent` has ended."""
    parent.join()
    os._exit(0)


def end_workers() -> None:
    """Kill the workers that still run when this process exits: multiprocessing would send SIGTERM, which they ignore, and
    wait forever."""
    if sys.platform != "win32":
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would report their end as a failure
    for process, parent in _parents.items():
        if parent == os.getpid():
            process.kill()


def default_workers() -> int:
    """One worker for each core available to this process, at most 16; none on macOS, where starting them is slow."""
    return 0 if sys.platform == "darwin" else min(16, num_cpus())
