"""The plan of an epoch depends on its key alone, and processes share it out."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from layered.data.samplers import EpochKey, plan_batches


def as_lists(batches):
    return [(b.listed(), b.keys.tolist(), b.batch_key) for b in batches]


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 7), st.booleans(), st.integers(0, 5))
def test_a_plan_started_later_is_the_rest_of_the_plan(count, bs, drop_last, start):
    for order in (np.arange(count), list(range(count))):
        whole = as_lists(plan_batches(order, 5, bs, drop_last))
        assert as_lists(plan_batches(order, 5, bs, drop_last, start)) == whole[start:]
        rows = [i for indices, _, _ in whole for i in indices]
        assert rows == list(range(count // bs * bs if drop_last else count))


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 4))
def test_processes_take_rows_that_are_together_those_of_one(count, bs, world):
    alone = as_lists(plan_batches(np.arange(count), 5, bs * world, False))
    ranks = [as_lists(plan_batches(np.arange(count), 5, bs, False, rank=r, world=world)) for r in range(world)]
    for number, (indices, keys, batch_key) in enumerate(alone):
        shares = [r[number] for r in ranks if number < len(r)]
        assert sorted(i for share in shares for i in share[0]) == indices
        assert {i: k for share in shares for i, k in zip(share[0], share[1], strict=True)} == dict(
            zip(indices, keys, strict=True)
        )
        assert {share[2] for share in shares} == {batch_key}
        assert shares[0][0] == indices[::world]


def test_a_stream_may_be_endless():
    plan = plan_batches(itertools.count(), 5, 3, False, start=2)
    assert next(plan).indices == [6, 7, 8]
    assert next(plan).indices == [9, 10, 11]


def test_keys_differ_by_seed_purpose_epoch_and_position():
    keys = {EpochKey(s, p, e).key for s in (0, 1) for p in ("train", "peek") for e in (0, 1)}
    assert len(keys) == 8
    rows = torch.cat([b.keys for key in keys for b in plan_batches(np.arange(100), key, 10, False)])
    assert len(rows.unique()) == 800
