"""One function of many items, run by several processes or threads; and failures that travel between processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import torch
from torch import distributed

from layered.foundation.display import is_watched
from layered.foundation.errors import BadArgument, BadItem, BadValue, OutOfRange, failed
from layered.foundation.helpers import defaults
from layered.foundation.lists import L
from layered.foundation.optional import lazy

fastprogress = lazy("fastprogress.fastprogress")


def num_cpus() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def parallel(
    f: Callable[..., Any],
    items: Iterable[Any],
    *args: Any,
    n_workers: int | None = None,
    progress: bool | None = None,
    method: str | None = None,
    threadpool: bool = False,
    timeout: float | None = None,
    chunksize: int = 1,
    **kwargs: Any,
) -> L:
    """`f(item, *args, **kwargs)` of every item, in the order of the items.

    threadpool use threads, for work that waits for files or the network

    Each process computes with one thread. Forked ones begin with the same random state: draw from a generator of the item's own.

    Args:
        n_workers: By default `defaults.cpus` if you have set it, else the cores of this process; 0 does all of it
            here.
        progress: Show a bar; by default where somebody is looking.
        method: How processes are started: "fork", "spawn" or "forkserver"; by default as Python does.
        timeout: Seconds for all of it; what is being done then is waited for.
        chunksize: Items that a process gets at a time: more for many small ones.

    Raises:
        BadItem: `f` raised an error that is not a `LayeredError`; names the item, and the rest is not started.
        BadValue: `f` cannot be sent to processes that are not forked.

    Examples:
        >>> parallel(round, [1.26, 2.71], 1, n_workers=2, threadpool=True)
        (#2) [1.3,2.7]
    """
    items, name = _items(f, items), getattr(f, "__qualname__", type(f).__name__)
    workers = min(_count(n_workers), len(items))
    if method is not None and method not in multiprocessing.get_all_start_methods():
        raise BadValue("unknown method", got=repr(method), expected=", ".join(multiprocessing.get_all_start_methods()))
    call, done = _Call(f, args, kwargs), []
    pool: Executor | None = None
    if workers:
        pool = ThreadPoolExecutor(workers) if threadpool else _processes(workers, call, method)
    try:
        if pool is None:
            results: Iterator[Any] = map(call, items)
        else:
            results = pool.map(call if threadpool else _do, items, timeout=timeout, chunksize=chunksize)
        is_shown = is_watched() if progress is None else progress
        for item in fastprogress.progress_bar(items, leave=False) if is_shown else items:
            try:
                done.append(_opened(next(results)))
            except Exception as error:
                raise failed(error, f"running {name} on item {len(done)} ({item!r:.100})") from error
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
    return L(done)


class _Call:
    """What is done with each item."""

    def __init__(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.f, self.args, self.kwargs = f, args, kwargs

    def __call__(self, item: Any) -> Any:
        return self.f(item, *self.args, **self.kwargs)


_call: _Call  # in a process of a pool: what it is there for


def _begin(call: _Call) -> None:
    global _call
    torch.set_num_threads(1)  # a forked process must not use the threads of its parent
    _call = call


def _do(item: Any) -> Any:
    try:
        return _call(item)
    except Exception as error:
        return Failure(error)


def _opened(result: Any) -> Any:
    if isinstance(result, Failure):
        result.reraise()
    return result


def _processes(workers: int, call: _Call, method: str | None) -> Executor:
    """A pool; forked processes find `call` in their memory, others are sent it."""
    context = multiprocessing.get_context(method)
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


def _items(f: Any, items: Any) -> list[Any]:
    if not callable(f) or not isinstance(items, Iterable):
        raise BadArgument(
            "parallel takes a function, then items",
            got=f"{type(f).__name__}, {type(items).__name__}",
            expected="parallel(f, items)",
        )
    return list(items)


def _count(n_workers: Any) -> int:
    count = getattr(defaults, "cpus", num_cpus()) if n_workers is None else n_workers
    if not isinstance(count, int) or count < 0:
        raise OutOfRange("n_workers is a number of processes or threads", got=repr(count), expected="an integer >= 0")
    return count


def rank_and_world() -> tuple[int, int]:
    """The number of this process, and how many there are; (0, 1) without `torch.distributed`.

    Examples:
        >>> rank_and_world()
        (0, 1)
    """
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
