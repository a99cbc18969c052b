"""The plan of an epoch depends on its key alone, and processes share it out."""

from __future__ import annotations

import itertools
import random

import numpy as np
import torch
from hypothesis import given, settings, strategies as st

from layered.data.samplers import EpochKey, Share, cut, plan_batches, pull


def as_lists(batches):
    return [(b.listed(), b.keys.tolist(), b.batch_key) for b in batches]


def planned(order, share, start=0):
    chunks = itertools.islice(pull(order, share, None), start, None) if hasattr(order, "__next__") else None
    return as_lists(plan_batches(cut(order, share, start) if chunks is None else chunks, 5, share))


shares = st.integers(1, 4).flatmap(
    lambda world: st.builds(
        Share, bs=st.integers(1, 5), rank=st.integers(0, world - 1), world=st.just(world), drop_last=st.booleans()
    )
)


@settings(deadline=None)
@given(st.integers(0, 40), shares, st.integers(0, 5))
def test_a_plan_started_later_is_the_rest_of_the_plan(count, share, start):
    whole = planned(np.arange(count), share)
    for order in (np.arange(count), list(range(count)), iter(range(count))):
        assert planned(order, share, start) == whole[start:]


@settings(deadline=None)
@given(st.integers(0, 40), shares)
def test_processes_lose_nothing_and_take_nothing_twice(count, share):
    for order in (lambda: np.arange(count), lambda: iter(range(count))):
        ranks = [planned(order(), share._replace(rank=r)) for r in range(share.world)]
        kept = count // share.rows * share.rows if share.drop_last else count
        assert sorted(i for rank in ranks for items, _, _ in rank for i in items) == list(range(kept))
        assert [len(rank) for rank in ranks] == [share._replace(rank=r).count_here(count) for r in range(share.world)]
        if count >= share.world:
            assert len({len(rank) for rank in ranks}) == 1


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 4))
def test_processes_take_rows_that_are_together_those_of_one(count, bs, world):
    alone = planned(np.arange(count), Share(bs * world))
    ranks = [planned(np.arange(count), Share(bs, rank, world)) for rank in range(world)]
    keys = {i: key for items, keys, _ in alone for i, key in zip(items, keys, strict=True)}
    assert keys == {i: key for rank in ranks for items, ks, _ in rank for i, key in zip(items, ks, strict=True)}
    for number, (items, _, batch_key) in enumerate(alone[: count // (bs * world)]):
        shares = [rank[number] for rank in ranks]
        if number < len(ranks[0]) - 1:
            assert sorted(i for share in shares for i in share[0]) == items
            assert shares[0][0] == items[::world]
        assert {share[2] for share in shares} == {batch_key}


def test_a_rest_too_small_for_all_processes_makes_the_batch_before_it_longer():
    assert [i for i, _, _ in planned(np.arange(9), Share(2, 0, 2))] == [[0, 2], [4, 6, 8]]
    assert [i for i, _, _ in planned(np.arange(9), Share(2, 1, 2))] == [[1, 3], [5, 7]]
    assert [i for i, _, _ in planned(iter(range(9)), Share(2, 1, 2))] == [[1, 3], [5, 7]]


def test_a_stream_may_be_endless():
    plan = plan_batches(pull(itertools.count(6), Share(3), None, first=2), 5, Share(3))
    first, second = next(plan), next(plan)
    assert (first.indices, first.number) == ([6, 7, 8], 2)
    assert second.indices == [9, 10, 11]


def test_code_that_makes_the_items_of_a_stream_draws_by_the_batch():
    def stream():
        while True:
            yield random.random()

    def drawn(start):
        return list(itertools.islice(pull(stream(), Share(2), key=7, first=start), 3))

    first = drawn(0)
    random.random()
    assert drawn(0) == first
    assert drawn(2)[0] == first[2]


def test_keys_differ_by_seed_purpose_epoch_and_position():
    keys = {EpochKey(s, p, e).key for s in (0, 1) for p in ("train", "peek") for e in (0, 1)}
    assert len(keys) == 8
    share = Share(10)
    rows = torch.cat([b.keys for key in keys for b in plan_batches(cut(np.arange(100), share), key, share)])
    assert len(rows.unique()) == 800
