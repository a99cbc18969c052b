"""Draws depend on who draws, are uniform, and touch no global generator."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.testing import assert_close

from layered.foundation import (
    Tickets,
    draw,
    draw_batch,
    drawing,
    get_random_states,
    key_of,
    no_random,
    permutation,
    sample_keys,
    seeded,
    set_random_states,
    set_seed,
)
from layered.foundation.seeds import draw_generator

keys = st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1)


def splitmix64(state: int) -> int:
    """Steele, Lea & Flood 2014, written from the paper, on Python integers."""
    state = (state + 0x9E3779B97F4A7C15) % 2**64
    z = state
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return z ^ (z >> 31)


def global_states() -> list[object]:
    return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]


def test_the_hash_is_the_published_one():
    assert splitmix64(0) == 0xE220A8397B1DCDAF  # the first output of the reference implementation for seed 0
    assert int(sample_keys(0, torch.tensor([0]))) % 2**64 == 0xE220A8397B1DCDAF


@settings(deadline=None)
@given(keys, st.integers(min_value=0, max_value=1 << 40))
def test_integers_and_tensors_hash_to_the_same_bits(key, position):
    wanted = splitmix64(key + position * 0x9E3779B97F4A7C15)
    assert int(sample_keys(key, torch.tensor([position]))[0]) % 2**64 == wanted


@settings(deadline=None)
@given(keys)
def test_a_sample_alone_and_a_row_of_a_batch_draw_the_same_numbers(key):
    with drawing(Tickets(key)):
        alone = [draw() for _ in range(3)]
    with drawing(Tickets(torch.tensor([key, 7]), batch_key=1)):
        rows = torch.stack([draw_batch(2) for _ in range(3)])
        assert rows.shape == (3, 2)
    assert_close(rows[:, 0], torch.tensor(alone))


def test_a_key_depends_on_every_part_and_on_their_order():
    assert len({key_of(1, "train", 0), key_of(0, "train", 1), key_of("train", 1, 0), key_of(1, "valid", 0)}) == 4
    assert -(1 << 63) <= key_of(42, "train", 3) < 1 << 63


@pytest.mark.parametrize("size", [(), (4,), (2, 3)])
def test_a_batch_draws_one_row_for_each_sample(size):
    with drawing(Tickets(sample_keys(3, torch.arange(5)), 9)):
        rows = draw_batch(5, -1.0, 1.0, size=size)
        shared = draw_batch(5, size=size, same=True)
    assert rows.shape == (5, *size)
    assert rows.dtype == torch.float32
    assert len(rows.flatten().unique()) == rows.numel()
    assert (shared == shared[:1]).all()


def test_a_row_draws_the_same_whatever_batch_it_stands_in():
    everything = sample_keys(11, torch.arange(6))
    with drawing(Tickets(everything, 1)):
        whole = draw_batch(6, size=(2,))
    with drawing(Tickets(everything[[4, 1]], 2)):
        part = draw_batch(2, size=(2,))
    assert torch.equal(part, whole[[4, 1]])


def test_draws_over_samples_and_over_draws_are_uniform_and_independent():
    with drawing(Tickets(sample_keys(key_of(5, "train", 0), torch.arange(20_000)), 1)):
        first, second = draw_batch(20_000, size=(2,)).T.double()
    for sample in (first, second):
        counts = torch.histc(sample, bins=50, min=0, max=1)
        chi_square = float(((counts - 400) ** 2 / 400).sum())
        assert 20 < chi_square < 95  # 49 degrees of freedom: both tails beyond one in ten thousand
        ordered = sample.sort().values
        distance = (ordered - torch.linspace(0, 1, 20_000, dtype=torch.double)).abs().max()
        assert distance < 1.95 / 20_000**0.5  # Kolmogorov-Smirnov at 0.001
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.03
    with drawing(Tickets(key_of(6))):
        row = torch.tensor([draw() for _ in range(5_000)], dtype=torch.double)
    assert abs(float(row.mean()) - 0.5) < 0.02
    assert abs(float(torch.corrcoef(torch.stack([row[1:], row[:-1]]))[0, 1])) < 0.06


@settings(deadline=None)
@given(keys, st.floats(-10, 10), st.floats(0.1, 10))
def test_draws_stay_in_their_range(key, low, width):
    with drawing(Tickets(key)):
        assert low <= draw(low, low + width) <= low + width


def test_the_stages_of_a_batch_draw_apart_under_one_key():
    rows = []
    for stage in range(3):
        with drawing(Tickets(torch.tensor([5, 6]), 7, stage)):
            rows += [draw_batch(2, size=(3,)).flatten(), torch.tensor([draw(), draw()])]
    assert len(torch.cat(rows).unique()) == 24


def test_a_generator_of_a_ticket_gives_the_same_again():
    def beta():
        with drawing(Tickets(key_of(1))):
            draw()
            return torch.rand(3, generator=draw_generator())

    assert torch.equal(beta(), beta())


def test_by_hand_every_draw_is_a_new_one_and_the_seed_decides():
    assert draw() != draw()
    assert len(draw_batch(4).unique()) == 4


def test_draws_touch_no_global_generator():
    before = global_states()
    draw(), draw_batch(3), draw_generator(), permutation(5, 3)
    with drawing(Tickets(1)):
        draw()
    assert global_states() == before


@settings(deadline=None)
@given(st.integers(0, 300), keys)
def test_a_permutation_holds_every_number_once(count, key):
    assert permutation(count, key).sort().values.tolist() == list(range(count))
    assert torch.equal(permutation(count, key), permutation(count, key))


def test_a_permutation_is_the_one_torch_gives_for_the_seed():
    with seeded(0):
        torch.manual_seed(42)
        wanted = torch.randperm(100)
    assert torch.equal(permutation(100, 42), wanted)


def test_foreign_code_finds_the_generators_seeded_and_they_are_put_back():
    def foreign():
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    before = global_states()
    with seeded(-5):
        first = foreign()
    with seeded(-5):
        assert foreign() == first
    with seeded(3):
        assert foreign() != first
    with pytest.raises(ZeroDivisionError), seeded(3):
        divmod(random.random(), 0)
    assert global_states() == before


def test_seeding_everything_reaches_all_three_generators():
    with seeded(0):
        set_seed(7)
        first = random.random(), np.random.rand(), torch.rand(2)
        set_seed(7)
        again = random.random(), np.random.rand(), torch.rand(2)
    assert first[:2] == again[:2]
    assert torch.equal(first[2], again[2])


def test_states_can_be_taken_and_put_back():
    with seeded(1):
        states = get_random_states()
        first = random.random(), np.random.rand(), float(torch.rand(()))
        set_random_states(states)
        assert (random.random(), np.random.rand(), float(torch.rand(()))) == first


def test_no_random_puts_generators_and_flags_back():
    before, flags = global_states(), torch.backends.cudnn.deterministic
    with no_random(3):
        assert torch.backends.cudnn.deterministic
        first = torch.rand(2)
    with no_random(3):
        assert torch.equal(torch.rand(2), first)
    assert global_states() == before
    assert torch.backends.cudnn.deterministic == flags
