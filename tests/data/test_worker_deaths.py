"""Workers that die in every way, at any place: an error that names the worker and its items, nobody left, the next pass is whole.

`LAYERED_SEED=… LAYERED_SOAK=1 pytest 'tests/data/test_worker_deaths.py::…[12]'` repeats number 12 of a seed.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time

import pytest
import torch
from counts import LONG, SEED, chance, soak

from layered.data import DataLoader
from layered.foundation import BadItem, LayeredError, WorkerFailed

ITEMS = 40


class NotPicklable(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.held = lambda: text


class NotRebuilt(Exception):
    def __init__(self, text, more):
        super().__init__(text)


class NoText(Exception):
    def __str__(self):
        raise ValueError("no text")


class RefusesToPickle(Exception):
    def __reduce__(self):
        os._exit(7)


def raises(error):
    raise error


def raise_not_picklable():
    raises(NotPicklable("x"))


def raise_not_rebuilt():
    raises(NotRebuilt("x", "y"))


def raise_no_text():
    raises(NoText())


def raise_long():
    raises(ValueError("long " * 10**6))


def raise_group():
    raises(ExceptionGroup("several", [ValueError(1), KeyError(2)]))


def raise_memory():
    raises(MemoryError())


def recurse():
    return recurse()


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(1000)


def kill():
    send(signal.SIGKILL)


def fault():
    send(signal.SIGSEGV)


def bus():
    send(signal.SIGBUS)


def stop():
    send(signal.SIGSTOP)


def read_nothing():
    ctypes.string_at(0)


def leave():
    os._exit(3)


def leave_well():
    os._exit(0)


def exit_python():
    sys.exit(3)


def interrupt():
    raise KeyboardInterrupt


def hang():
    time.sleep(1000)


def hang_with_gil():
    ctypes.PyDLL(None).sleep(1000)


def wait_for_a_lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def leave_in_a_thread():
    threading.Thread(target=leave).start()
    time.sleep(1000)


def leave_in_a_thread_later():
    threading.Timer(0.2, leave).start()


def raise_in_a_thread():
    threading.Thread(target=raise_long_in_thread).start()


def raise_long_in_thread():
    threading.excepthook = lambda *args: None
    raise_memory()


def thread_that_stays():
    threading.Thread(target=hang).start()


def die_with_a_child():
    if os.fork() == 0:
        time.sleep(8)
        os._exit(0)
    kill()


DEATHS = {
    kill, fault, bus, os.abort, read_nothing, leave, leave_well, exit_python, interrupt, leave_in_a_thread, die_with_a_child,
}  # fmt: skip
HANGS = {hang, hang_with_gil, wait_for_a_lock, stop}
ERRORS = {raise_not_picklable, raise_not_rebuilt, raise_no_text, raise_long, raise_group, raise_memory, recurse}
HARMLESS = {raise_in_a_thread, thread_that_stays, leave_in_a_thread_later}
EVERY = sorted(DEATHS | HANGS | ERRORS | HARMLESS, key=lambda how: how.__name__)


class Dies:
    """A stage of a loader that passes its input on, but does `how` at one item, or at the first batch that holds it."""

    def __init__(self, how, at):
        self.how, self.at = how, at

    def __call__(self, x):
        if self.how is not None and self.at in (x if isinstance(x, list) else [x]):
            self.how()
        return x


class DiesAtStart:
    def __init__(self, how):
        self.how = how

    def __call__(self):
        if self.how is not None and torch.utils.data.get_worker_info().id == 1:
            self.how()


def loader(how, place, at, method, persistent, timeout):
    stages = {"wif": DiesAtStart(how)} if place == "wif" else {place: Dies(how, at)}
    return DataLoader(
        list(range(ITEMS)), bs=2, num_workers=2, timeout=timeout, persistent_workers=persistent, multiprocessing_context=method,
        **stages,
    )  # fmt: skip


def one_pass(dl):
    return [row for batch in dl for row in batch.tolist()]


def wait_for_none(before, seconds=5.0):
    until = time.monotonic() + seconds
    while (left := set(multiprocessing.active_children()) - before) and time.monotonic() < until:
        time.sleep(0.05)
    return left


@pytest.mark.soak
@pytest.mark.parametrize("number", range(soak(5, 200)))
@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_dies_in_any_way_is_named_and_the_next_pass_is_whole(number):
    dice = chance("deaths", number)
    how, place = dice.choice(EVERY), dice.choice(["after_item", "after_item", "before_batch", "wif"])
    method = dice.choice(["fork"] * 6 + ["forkserver", "spawn"]) if LONG else "fork"
    persistent, at, timeout = dice.random() < 0.5, dice.randrange(ITEMS), 0
    if how in HANGS:
        timeout = 5 if method == "fork" else 40
    told = f"seed {SEED}: {how.__name__} in {place} at {at}, {method}, persistent={persistent}"
    dl = loader(how, place, at, method, persistent, timeout)
    before, handlers = set(multiprocessing.active_children()), [signal.getsignal(n) for n in (2, 15, 17)]
    began = time.monotonic()
    try:
        rows, error = one_pass(dl), None
    except (Exception, KeyboardInterrupt, SystemExit) as raised:
        rows, error = None, raised
    seconds = time.monotonic() - began
    assert seconds < timeout + 120, f"{told}: took {seconds} s"
    if how in HARMLESS and not (how is leave_in_a_thread_later and error is not None):
        assert rows == list(range(ITEMS)), f"{told}: {error!r:.300}"
    else:
        assert isinstance(error, LayeredError), f"{told}: {error!r:.1000} {rows}"
        assert isinstance(error, BadItem if how in ERRORS else WorkerFailed), f"{told}: {error!r:.1000}"
        assert error.fix, told
        assert len(str(error)) < 20_000, f"{told}: {len(str(error))}"
        if how in DEATHS | HANGS:
            assert "worker " in str(error), f"{told}: {error}"
            if place != "wif":
                first = at - at % 2
                assert f"item {first}" in str(error) or str(first) in str(error), f"{told}: {error}"
    if not (persistent and error is None):
        assert not wait_for_none(before), f"{told}: workers are left"
    assert [signal.getsignal(n) for n in (2, 15, 17)] == handlers, told
    dl.timeout = 0
    setattr(dl, place, DiesAtStart(None) if place == "wif" else Dies(None, 0))
    dl.persistent_workers = False
    assert one_pass(dl) == list(range(ITEMS)), told
    assert not wait_for_none(before), f"{told}: workers are left"


def stop_in_batch_5(item):
    if item == 6:
        time.sleep(0.3)  # so that batch 3 is not there while the loader looks one batch ahead
    if item == 10:
        stop()
    return item


def test_a_worker_that_stops_before_its_last_batch_is_fetched_is_named(monkeypatch):
    monkeypatch.setattr("layered.data.workers.GRACE", 0.2)
    batches = iter(DataLoader(list(range(ITEMS)), bs=2, num_workers=2, timeout=1, after_item=stop_in_batch_5))
    next(batches)
    time.sleep(1)  # worker 1 has made batch 3, whose memory it would hand over, and stopped in batch 5
    with pytest.raises(WorkerFailed, match=r"worker 1 .* did not answer within timeout=1") as failed:
        list(batches)
    assert "item 10" in str(failed.value)
