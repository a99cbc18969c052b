"""Several processes: one function of many items, failures that travel between processes, and the rank of this one."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

import torch
from torch import distributed

from layered.foundation.display import is_watched
from layered.foundation.errors import BadArgument, BadItem, BadValue, OutOfRange, failed, in_words
from layered.foundation.helpers import defaults
from layered.foundation.lists import L
from layered.foundation.names import function_name
from layered.foundation.optional import lazy

fastprogress = lazy("fastprogress.fastprogress")

R = TypeVar("R")


def num_cpus() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


class Failure:
    """An exception on its way from a worker to the parent, with the traceback as text.

    Args:
        error: What was raised. One that cannot be pickled is replaced by a `BadItem` with its message.
    """

    def __init__(self, error: Exception) -> None:
        self.trace = "".join(traceback.format_exception(error))
        try:
            self.error: Exception = pickle.loads(pickle.dumps(error))
        except Exception:
            self.error = BadItem(f"a worker failed: {in_words(error)}")

    def reraise(self) -> None:
        """Raise it in the parent; its cause shows the traceback of the worker."""
        self.error.__cause__ = RuntimeError(f"in a worker:\n{self.trace}")
        raise self.error


def parallel(
    f: Callable[..., R],
    items: Iterable[object],
    *args: object,
    n_workers: int | None = None,
    progress: bool | None = None,
    method: str | None = None,
    threadpool: bool = False,
    timeout: float | None = None,
    chunksize: int = 1,
    **kwargs: object,
) -> L[R]:
    """Compute `f(item, *args, **kwargs)` for every item, in several processes; results are in the order of the items.

    Each process computes with one thread. Forked processes start with the same random state: seed a generator per item.

    Args:
        f: What to compute.
        items: The items.
        args: Further positional arguments of `f`.
        n_workers: The number of processes; by default `defaults.cpus`, if set, else the cores of this process. 0 computes
            in this process.
        progress: Show a bar; by default if a person is watching.
        method: How processes are started: "fork", "spawn" or "forkserver"; by default Python's choice.
        threadpool: Use threads, for work that waits for files or the network.
        timeout: Seconds for all items together; items in progress are still waited for.
        chunksize: Items that a process gets at a time: more for many small ones.
        kwargs: Further keyword arguments of `f`.

    Raises:
        BadItem: `f` raised an error that is not a `LayeredError`; it names the item. Remaining items are not started.
        BadValue: `f` cannot be sent to processes that are not forked.

    Examples:
        >>> parallel(round, [1.26, 2.71], 1, n_workers=2, threadpool=True)
        (#2) [1.3,2.7]
    """
    listed = _items(f, items)
    workers = min(_count(n_workers), len(listed))
    if method is not None:
        process_context(method)
    call, done = _Call(f, args, kwargs), list[R]()
    pool: Executor | None = None
    if workers:
        pool = ThreadPoolExecutor(workers) if threadpool else _processes(workers, call, method)
    try:
        if pool is None:
            results: Iterator[Any] = map(call, listed)
        else:
            results = pool.map(call if threadpool else _do, listed, timeout=timeout, chunksize=chunksize)
        is_shown = is_watched() if progress is None else progress
        for item in fastprogress.progress_bar(listed, leave=False) if is_shown else listed:
            try:
                done.append(_opened(next(results)))
            except Exception as error:
                raise failed(error, f"running {function_name(f)} on item {len(done)} ({item!r:.100})") from error
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
    return L(done)


def process_context(method: object) -> BaseContext:
    """How processes are started.

    Args:
        method: "fork", "spawn" or "forkserver"; a context of `multiprocessing`; None for Python's choice.

    Raises:
        BadValue: `method` is none of them.

    Examples:
        >>> process_context("spawn").get_start_method()
        'spawn'
    """
    if isinstance(method, BaseContext):
        return method
    methods = multiprocessing.get_all_start_methods()
    if method is not None and method not in methods:
        raise BadValue("unknown start method", got=repr(method), expected=", ".join(methods))
    return multiprocessing.get_context(method)


class _Call:
    """A function with the arguments that are the same for every item."""

    def __init__(self, f: Callable[..., Any], args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        self.f, self.args, self.kwargs = f, args, kwargs

    def __call__(self, item: object) -> Any:
        return self.f(item, *self.args, **self.kwargs)


_call: _Call  # set in each process of a pool: what the process computes


def _begin(call: _Call) -> None:
    global _call
    torch.set_num_threads(1)  # torch's thread pool does not survive a fork, and the cores are already taken
    _call = call


def _do(item: object) -> Any:
    try:
        return _call(item)
    except Exception as error:
        return Failure(error)


def _opened(result: object) -> Any:
    if isinstance(result, Failure):
        result.reraise()
    return result


def _processes(workers: int, call: _Call, method: str | None) -> Executor:
    """A pool whose forked processes find `call` in their memory; to others it is sent."""
    context = process_context(method)
    if context.get_start_method() != "fork":
        try:
            pickle.dumps(call)
        except Exception as error:
            raise BadValue(
                "the function or its arguments cannot be sent to other processes",
                got=error,
                fix="define the function at the top of a module, or use threadpool=True or n_workers=0",
            ) from error
    return ProcessPoolExecutor(workers, context, _begin, (call,))


def _items(f: object, items: object) -> list[Any]:
    if not callable(f) or not isinstance(items, Iterable):
        raise BadArgument(
            "parallel needs a function, then items",
            got=f"{type(f).__name__}, {type(items).__name__}",
            expected="parallel(f, items)",
        )
    return list(items)


def _count(n_workers: int | None) -> int:
    count = n_workers if n_workers is not None else num_cpus() if defaults.cpus is None else defaults.cpus
    if not isinstance(count, int) or count < 0:
        raise OutOfRange("invalid number of workers", got=f"n_workers={count!r}", expected="an integer >= 0")
    return count


def rank_and_world() -> tuple[int, int]:
    """The rank of this process and the world size; (0, 1) without `torch.distributed`.

    Examples:
        >>> rank_and_world()
        (0, 1)
    """
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
