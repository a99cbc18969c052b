"""Packed text is the same text; a worker that ends or hangs is named."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from layered.data import DataLoader, Datasets, TfmdLists, workers as module
from layered.data.workers import PackedText, packed
from layered.foundation import BadItem, WorkerFailed, noop


@given(st.lists(st.text(), min_size=1))
def test_it_holds_any_text(items):
    held = PackedText(items)
    assert list(held) == items
    assert held[-1] == items[-1]
    assert held[:2] == items[:2]
    assert len(held) == len(items)
    with pytest.raises(IndexError):
        held[len(items)]


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(module, "WORTH", 1)


def test_data_sets_give_what_they_gave(always):
    items = [Path(f"a/{i}.png") for i in range(5)]
    dsets = Datasets(items, [[str], [lambda p: p.stem]], splits=[[3, 1], [0]]).train
    other = packed(dsets)
    assert list(other) == list(dsets)
    assert type(other.tls[0]._all_items) is PackedText
    assert other.tls[0]._all_items is other.tls[1]._all_items
    assert dsets.tls[0]._all_items is items
    column = TfmdLists(["a", "b"], str.upper)
    assert list(packed(column)) == ["A", "B"]
    assert list(packed(["a", "b"])) == ["a", "b"]


def test_what_is_not_all_text_stays_as_it_is(always):
    for dataset in ([1, 2], ["a", 1], [("a", 1)], Datasets([1, 2], [[], []]), {"a": 1}, []):
        assert packed(dataset) is dataset


# -- workers that die or hang


def failing_at_9(how):
    def after_item(i):
        if i == 9:
            how()
        return i

    return after_item


def kill_this_process():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize(
    ("how", "timeout", "words"),
    [
        (kill_this_process, 0, ["was killed by SIGKILL", "out of memory"]),
        (partial(os._exit, 3), 0, ["exited with code 3", "os._exit"]),
        (partial(time.sleep, 1000), 8, ["did not answer within timeout=8 seconds", "allow more time with timeout="]),
    ],
    ids=["killed", "exits", "hangs"],
)
def test_a_worker_that_ends_or_hangs_is_named_with_its_items(how, timeout, words, persistent):
    dl = DataLoader(
        list(range(40)),
        bs=2,
        num_workers=2,
        after_item=failing_at_9(how),
        timeout=timeout,
        persistent_workers=persistent,
    )
    before, handler = set(multiprocessing.active_children()), signal.getsignal(signal.SIGCHLD)
    with pytest.raises(WorkerFailed) as failure:
        list(dl)
    for word in ["worker 0 of 2 (process ", "it was making batch 4: item 8, item 9", *words]:
        assert word in str(failure.value)
    assert set(multiprocessing.active_children()) <= before
    assert signal.getsignal(signal.SIGCHLD) is handler
    dl.after_item = noop
    assert [row for batch in dl for row in batch.tolist()] == list(range(40))


def test_a_batch_that_cannot_be_sent_is_refused_and_not_lost():
    dl = DataLoader(list(range(8)), bs=2, num_workers=2, create_batch=lambda samples: [lambda: samples], timeout=30)
    with pytest.raises(BadItem, match="cannot be sent from its worker: it contains function"):
        list(dl)


def test_a_batch_of_any_objects_that_can_be_pickled_is_sent():
    dl = DataLoader(list(range(4)), bs=2, num_workers=1, create_batch=lambda samples: (Path("a"), {"x": set(samples)}))
    assert list(dl) == [(Path("a"), {"x": {0, 1}}), (Path("a"), {"x": {2, 3}})]


def test_a_pass_that_is_left_early_ends_its_hanging_worker():
    dl = DataLoader(list(range(40)), bs=2, num_workers=2, after_item=failing_at_9(partial(time.sleep, 1000)))
    before, batches = set(multiprocessing.active_children()), iter(dl)
    assert next(batches).tolist() == [0, 1]
    batches.close()
    assert set(multiprocessing.active_children()) <= before
