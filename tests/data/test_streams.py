"""Streams lose nothing, repeat nothing, and go on where they stood."""

from __future__ import annotations

import itertools
import pickle
import random

import pytest
import torch
from parts import NoiseAlways, ShiftAlways
from torch.utils.data import IterableDataset

from layered.data import DataLoader, DataLoaders, TfmdDL
from layered.data.streams import shuffled
from layered.foundation import BadValue


class Stream(IterableDataset):
    """Seventeen numbers; one that draws adds noise from Python's generator."""

    def __init__(self, draws=False):
        self.draws = draws

    def __iter__(self):
        return (torch.tensor([float(i), random.random() if self.draws else 0.0]) for i in range(17))


class Sized(Stream):
    """Says a length that is not quite right."""

    def __len__(self):
        return 16


class Stateful(IterableDataset):
    """Knows where it stands, and counts what was read of all its copies."""

    read = 0

    def __init__(self):
        self.at = 0

    def __iter__(self):
        while self.at < 17:
            self.at += 1
            Stateful.read += 1
            yield self.at - 1
        self.at = 0

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


def rows(dl):
    return [b.flatten().tolist() for b in dl]


def numbers(dl):
    return [b[:, 0].int().tolist() for b in dl]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3")
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("draws", [False, True])
def test_any_number_of_workers_and_processes_makes_the_same_of_a_stream(shuffle, draws):
    def make(bs=4, **kwargs):
        settings = {"shuffle": shuffle, "shuffle_buffer": 5, "seed": 1, "after_item": ShiftAlways()}
        return rows(DataLoader(Stream(draws), bs=bs, after_batch=NoiseAlways(), **settings, **kwargs))

    wanted = make()
    random.random()
    assert all(make(num_workers=workers) == wanted for workers in (0, 1, 3))
    plain = DataLoader(Stream(draws), bs=4, shuffle=shuffle, seed=1, shuffle_buffer=5)
    assert sorted(itertools.chain(*numbers(plain))) == list(range(17))


@pytest.mark.parametrize("shuffle", [False, True])
def test_two_processes_share_a_stream_out(shuffle):
    def rank(r):
        return DataLoader(Stream(True), bs=2, share=(r, 2), shuffle=shuffle, seed=1, after_item=ShiftAlways())

    alone = torch.cat(list(DataLoader(Stream(True), bs=4, shuffle=shuffle, seed=1, after_item=ShiftAlways())))
    first, second = (list(rank(r)) for r in (0, 1))
    assert len(first) == len(second)
    shared = torch.cat([row for pair in zip(first, second, strict=True) for row in pair])
    assert sorted(map(tuple, shared.tolist())) == sorted(map(tuple, alone.tolist()))
    for_itself = DataLoader(Stream(), bs=2, share=(0, 1))
    assert len(list(for_itself)) == 9


def test_a_shuffled_stream_is_in_another_order_each_epoch_and_loses_nothing():
    dl = DataLoader(Stream(), bs=17, shuffle=True, shuffle_buffer=6, seed=1)
    (first,), (second,) = numbers(dl), numbers(dl)
    assert sorted(first) == sorted(second) == list(range(17))
    assert first != second != list(range(17))
    assert max(number - place for place, number in enumerate(first)) < 6
    assert list(shuffled([], 3, 1)) == []


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("settings", [{}, {"shuffle": True, "shuffle_buffer": 4}, {"n": 10}])
@pytest.mark.parametrize("kind", [Stream, Stateful])
def test_it_goes_on_after_any_batch(kind, settings, workers):
    dl = DataLoader(kind(), bs=3, seed=1, num_workers=workers, after_item=ShiftAlways(), **settings)
    whole, following = rows(dl), rows(dl)
    for taken in range(1, len(whole)):
        dl.set_epoch(0)
        batches = iter(dl)
        assert rows(itertools.islice(batches, taken)) == whole[:taken]
        state = pickle.loads(pickle.dumps(dl.state_dict()))
        dl.one_batch()
        other = DataLoader(kind(), bs=3, num_workers=workers, after_item=ShiftAlways(), **settings)
        other.load_state_dict(state)
        assert rows(other) == whole[taken:]
        assert rows(other) == following
        assert rows(batches) == whole[taken:]


def test_a_stream_that_knows_where_it_stands_is_not_read_again():
    dl = DataLoader(Stateful(), bs=5)
    next(batches := iter(dl)), next(batches)
    state = dl.state_dict()
    assert state["stream"] == {"at": 10}
    Stateful.read = 0
    dl.load_state_dict(state)
    assert rows(dl) == [[10, 11, 12, 13, 14], [15, 16]]
    assert Stateful.read == 7
    assert "stream" not in dl.state_dict()


def test_a_pass_that_was_left_does_not_move_the_next():
    dl = DataLoader(Stateful(), bs=9)
    next(iter(dl))
    assert rows(dl)[0] == list(range(9))


def test_a_look_at_a_generator_uses_nothing_up():
    dl = DataLoader((i for i in range(5)), bs=2)
    assert dl.one_batch().tolist() == dl.one_batch().tolist() == [0, 1]
    with dl.peeking():
        assert rows(dl) == [[0, 1], [2, 3], [4]]
    assert rows(dl) == [[0, 1], [2, 3], [4]]
    assert rows(dl) == []


def test_a_stream_is_told_which_epoch_begins():
    class Told(Stream):
        def set_epoch(self, epoch):
            self.epoch = epoch

        def __iter__(self):
            return iter([self.epoch])

    dl = DataLoader(Told(), bs=1)
    assert [rows(dl), rows(dl)] == [[[0]], [[1]]]


def test_what_a_stream_says_of_its_length_is_no_limit():
    dl = DataLoader(Sized(), bs=4)
    assert len(dl) == 4
    assert sum(map(len, dl)) == 17
    assert sum(map(len, DataLoader(Stream(), bs=4, n=7))) == 7


def test_weights_of_a_stream_are_refused():
    with pytest.raises(BadValue, match="weights need a shuffled loader"):
        DataLoader(Stream(), bs=4, shuffle=True, weights=[1.0])


def test_loaders_can_be_made_of_streams():
    dls = DataLoaders.from_dsets(Stream(), Stream(), bs=4, seed=1)
    assert len(list(dls.train)) == 4
    assert numbers(dls.valid)[0] == [0, 1, 2, 3]
    assert TfmdDL(((torch.zeros(1), i) for i in range(4)), bs=2).n_inp == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_generator_gives_pass_after_pass_of_its_items_where_passes_end_early(workers):
    dl = DataLoader((torch.tensor([i]) for i in itertools.count()), bs=2, num_workers=workers)
    dl.one_batch()
    passes = [[b.flatten().tolist() for b in itertools.islice(dl, 3)] for _ in range(2)]
    assert passes[0] == [[0, 1], [2, 3], [4, 5]]
    assert len(passes[1]) == 3
    if workers == 0:
        assert passes[1] == [[6, 7], [8, 9], [10, 11]]
