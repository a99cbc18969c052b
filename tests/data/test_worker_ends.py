"""Workers end with the loader that started them, however its pass ended, and a pass ends no worker of another."""

import copy
import gc
import itertools
import multiprocessing
import os
import signal
import threading
import time

import pytest
import torch
from counts import LONG

from layered.basics import Learner
from layered.data import DataLoader, DataLoaders
from layered.foundation import BadValue, WorkerFailed


def as_it_is(item):
    return item


def die_at_9(item):
    if item == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def fail_at_9(item):
    if 9 in torch.as_tensor(item):
        raise ArithmeticError(9)
    return item


def wait(item):
    time.sleep(0.01)
    return item


def rows(dl):
    return [row for batch in dl for row in batch.tolist()]


def finished(dl):
    rows(dl)


def broken_off(dl):
    passing = iter(dl)
    next(passing)
    return passing


def not_begun(dl):
    return iter(dl)


def broken_off_by_an_error(dl):
    dl.after_batch = fail_at_9
    with pytest.raises(Exception, match="9") as failed:
        rows(dl)
    return failed


def after_a_death(dl):
    dl.after_item = die_at_9
    with pytest.raises(WorkerFailed) as failed:
        rows(dl)
    dl.after_item = as_it_is
    rows(dl)
    return failed


def after_an_error(dl):
    dl.after_item = fail_at_9
    with pytest.raises(Exception, match="9") as failed:
        rows(dl)
    dl.after_item = as_it_is
    rows(dl)
    return failed


def with_other_numbers_of_workers(dl):
    for dl.num_workers in 1, 3, 2:
        rows(dl)


def copied(dl):
    rows(dl)
    others = copy.copy(dl), dl.new(bs=4), copy.deepcopy(dl)
    for other in others:
        assert rows(other) == rows(dl)
    return others


def two_passes_at_once(dl):
    passes = iter(dl), iter(dl.new())
    for passing in passes:
        next(passing)
    return passes


WAYS = [
    finished, broken_off, not_begun, broken_off_by_an_error, after_a_death, after_an_error, with_other_numbers_of_workers,
    copied, two_passes_at_once,
]  # fmt: skip
CASES = [(way, "fork", True, True) for way in WAYS]
CASES += [(broken_off, "fork", False, True), (broken_off, "fork", True, False)]
if LONG:
    CASES = list(itertools.product(WAYS, ["fork", "forkserver", "spawn"], [False, True], [False, True]))


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(range(20))


@pytest.fixture
def left():
    """The processes that a test has started and that still run."""
    gc.collect()
    before = set(multiprocessing.active_children())
    return lambda: set(multiprocessing.active_children()) - before


@pytest.mark.soak
@pytest.mark.parametrize(("way", "method", "persistent", "indexed"), CASES)
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_end_with_a_loader_that_only_a_garbage_collection_deletes(left, way, method, persistent, indexed):
    items = list(range(20)) if indexed else Stream()
    dl = DataLoader(
        items, bs=2, num_workers=2, persistent_workers=persistent, multiprocessing_context=method, after_item=as_it_is
    )  # fmt: skip
    circle = [dl, way(dl)]
    circle.append(circle)
    del dl, circle
    began = time.monotonic()
    gc.collect()
    assert not left()
    assert time.monotonic() - began < 5  # torch alone waits for 20 seconds


def test_workers_of_a_dropped_pass_end_though_the_loader_lives(left):
    dl = DataLoader(list(range(20)), bs=2, num_workers=2)
    passing = [iter(dl)]
    next(passing[0])
    passing.append(passing)
    del passing
    gc.collect()
    assert not left()
    assert rows(dl) == list(range(20))


def test_persistent_workers_end_with_the_learner(left):
    pairs = [(torch.randn(2), torch.zeros(1)) for _ in range(8)]
    learn = Learner(
        DataLoaders(
            *(DataLoader(pairs, bs=4, num_workers=1, persistent_workers=True, after_item=as_it_is) for _ in "tv")
        ),
        torch.nn.Linear(2, 1),
        loss_func=torch.nn.functional.mse_loss,
    )
    with learn.no_bar(), learn.no_logging():
        learn.fit(2)
    assert len(left()) == 2
    del learn
    gc.collect()
    assert not left()


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of torch's half-made iterator
def test_workers_end_where_ctrl_c_strikes_while_they_are_started(left, monkeypatch, persistent):
    dl = DataLoader(list(range(20)), bs=2, num_workers=2, persistent_workers=persistent)
    start, calls = multiprocessing.get_context().Process.start, []

    def struck(process):
        start(process)
        calls.append(process)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(multiprocessing.process.BaseProcess, "start", struck)
        with pytest.raises(KeyboardInterrupt):
            rows(dl)
    assert len(calls) == 2
    assert not left()
    assert rows(dl) == list(range(20))


def test_passes_in_several_threads_leave_each_others_workers_alone():
    found, barrier = [], threading.Barrier(3)

    def work():
        dl = DataLoader(list(range(20)), bs=2, num_workers=2, after_item=wait)
        barrier.wait()
        found.append(rows(dl))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(20))] * 3


def test_an_unknown_way_to_start_workers_is_refused():
    with pytest.raises(BadValue, match=r"(?s)start method.*'thread'.*fork, spawn, forkserver"):
        rows(DataLoader([1, 2], bs=2, num_workers=1, multiprocessing_context="thread"))
