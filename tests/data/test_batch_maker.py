"""Each stage of making a batch can be replaced, in a subclass, by an argument, or by assignment."""

from __future__ import annotations

import random
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from parts import noisy
from torch.utils.data import Subset

from layered.data import DataLoader, SkipItemException
from layered.data.loader import STAGES
from layered.foundation import BadItem, BadValue, MixedSizes

KNOWN = {
    "wif", "before_iter", "after_item", "before_batch", "after_batch", "after_iter", "create_batches", "create_item",
    "create_batch", "retain", "get_idxs", "sample", "shuffle_fn", "do_batch",
}  # fmt: skip

# stage → what replaces it for DataLoader([1, 2, 3, 4], bs=2, shuffle=True), and the batches it then makes
REPLACED = {
    "create_item": (lambda i: 10 * i, [[0, 10], [20, 30]]),
    "after_item": (lambda item: -item, [[-1, -2], [-3, -4]]),
    "do_item": (lambda i: i, [[0, 1], [2, 3]]),
    "before_batch": (lambda samples: samples[:1], [[1], [3]]),
    "create_batch": (lambda samples: torch.tensor(samples) * 2, [[2, 4], [6, 8]]),
    "retain": (lambda batch, samples: batch + len(samples), [[3, 4], [5, 6]]),
    "do_batch": (lambda samples: torch.tensor(samples[::-1]), [[2, 1], [4, 3]]),
    "create_batches": (lambda samples: (torch.tensor([i]) for i in samples), [[0], [1], [2], [3]]),
    "after_batch": (lambda batch: batch + 1, [[2, 3], [4, 5]]),
    "get_idxs": (lambda: [3, 3, 0], [[4, 4], [1]]),
    "sample": (lambda: iter([3, 0]), [[4, 1]]),
}


def rows(dl):
    return [b.tolist() for b in dl]


def test_all_known_stages_are_there():
    assert set(STAGES) >= KNOWN


@pytest.mark.parametrize("stage", REPLACED)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_stage_can_be_given_assigned_or_overridden(stage, workers):
    function, wanted = REPLACED[stage]
    settings = {"bs": 2, "num_workers": workers}
    given = DataLoader([1, 2, 3, 4], **settings, **{stage: function})
    assigned = DataLoader([1, 2, 3, 4], **settings)
    setattr(assigned, stage, function)
    overriding = type("Overriding", (DataLoader,), {stage: lambda self, *args: function(*args)})
    for dl in (given, assigned, overriding([1, 2, 3, 4], **settings)):
        assert rows(dl) == wanted
        assert rows(dl) == wanted
        assert dl.one_batch().tolist() == wanted[0]


def test_a_list_of_the_known_keywords_shows_only_those_that_users_may_pass():
    with pytest.raises(TypeError) as caught:
        DataLoader([1], nmu_workers=1)
    names = caught.value.expected.split(", ")
    assert {"bs", "num_workers", "get_idxs"} <= set(names)
    assert not any(name.startswith("_") for name in names)


def test_batches_made_in_a_way_of_ones_own_are_shared_out_replayed_and_seeded():
    class Own(DataLoader):
        def create_batches(self, samples):
            for batch in super().create_batches(samples):
                yield batch + random.random()

    dl = Own([1.0, 2.0, 3.0, 4.0, 5.0], bs=2, seed=1)
    before = random.getstate()
    whole = rows(dl)
    assert random.getstate() == before
    assert [len(b) for b in whole] == [2, 2, 1]
    batches = iter(dl)
    next(batches)
    state, rest = dl.state_dict(), rows(batches)
    dl.load_state_dict(state)
    assert rows(dl) == rest
    dl.set_epoch(0)
    assert rows(dl.new(share=(0, 2)))[0] == whole[0]
    assert rows(Own([1.0, 2.0, 3.0], bs=1, seed=1, share=(1, 2)))[0][0] // 1 == 2


def test_batches_of_ones_own_may_leave_items_out():
    def odd(x):
        if x % 2 == 0:
            raise SkipItemException
        return x

    dl = DataLoader(list(range(6)), bs=2, after_item=odd)
    assert rows(dl) == [[1], [3], [5]]
    assert [b.tolist() for b in dl.create_batches(range(6))] == [[1, 3], [5]]


def test_samples_are_cut_into_batches():
    assert list(DataLoader([], bs=2).chunkify("abc")) == [["a", "b"], ["c"]]
    assert list(DataLoader([], bs=2, drop_last=True).chunkify("abc")) == [["a", "b"]]
    assert list(DataLoader([]).chunkify("abc")) == ["a", "b", "c"]
    assert DataLoader([]).prebatched
    assert not DataLoader([], bs=1).prebatched


def test_randomizing_moves_on_to_the_next_order():
    dl, other = (DataLoader(list(range(20)), bs=20, shuffle=True, seed=1) for _ in range(2))
    rows(dl)
    other.randomize()
    assert rows(other) == rows(dl)


# -- data sets that give several items at once


class Many(torch.utils.data.Dataset):
    """Rows as dicts, many at a time, as Hugging Face's data sets give them."""

    calls = 0

    def __len__(self):
        return 10

    def __getitem__(self, i):
        if i == 7:
            raise ZeroDivisionError("seven")
        return {"n": i, "text": str(i)}

    def __getitems__(self, positions):
        Many.calls += 1
        return [self[i] for i in positions]


@pytest.mark.parametrize("dataset", [Many(), Subset(Many(), range(7))], ids=["own", "subset"])
def test_items_are_asked_for_together_where_that_is_offered(dataset):
    Many.calls = 0
    first, _ = DataLoader(dataset, bs=3, n=6)
    assert Many.calls == 2
    assert first["n"].tolist() == [0, 1, 2]
    assert first["text"] == ["0", "1", "2"]


def test_an_item_that_fails_among_many_is_named():
    with pytest.raises(BadItem, match="making item 7"):
        list(DataLoader(Many(), bs=4))
    with pytest.warns(UserWarning, match="1 item could not be made"):
        assert [b["n"].tolist() for b in DataLoader(Many(), bs=5, on_bad="skip")] == [[0, 1, 2, 3, 4], [5, 6, 8, 9]]


def test_a_subset_of_items_that_draw_keeps_a_key_an_item():
    dataset = Subset([0, 1, 2, 3], [3, 1])
    together, single = (DataLoader(dataset, bs=bs, seed=1, after_item=noisy) for bs in (2, 1))
    assert torch.equal(torch.cat(list(together)), torch.cat(list(single)))


# -- samples of all forms


@dataclass(frozen=True)
class Sample:
    x: torch.Tensor
    name: str


Pair = namedtuple("Pair", "x y")


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_may_be_dataclasses_named_tuples_mappings_and_text(workers):
    items = [(Sample(torch.ones(2) * i, str(i)), Pair(i, {"deep": [np.float64(i)]})) for i in range(4)]
    sample, pair = next(iter(DataLoader(items, bs=4, num_workers=workers, device="cpu")))
    assert type(sample) is Sample
    assert sample.x.shape == (4, 2)
    assert sample.name == ["0", "1", "2", "3"]
    assert type(pair) is Pair
    assert pair.y["deep"][0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("items", "error", "text"),
    [
        ([torch.ones(2), torch.ones(2), torch.ones(3)], MixedSizes, "collating item 0 and item 2"),
        ([[1, 2], [1, 2], [1]], MixedSizes, "differ in length, when collating item 0 and item 2"),
        ([{"a": 1}, {"b": 1}], MixedSizes, "differ in keys, when collating item 0 and item 1"),
        ([torch.ones(2), None], BadValue, "cannot become a tensor, when collating item 0 and item 1"),
        ([object(), object()], BadValue, "cannot become a tensor"),
    ],
)
def test_samples_that_do_not_fit_together_are_named_with_a_fix(items, error, text):
    with pytest.raises(error, match=text) as caught:
        list(DataLoader(items, bs=len(items)))
    assert caught.value.fix


def test_a_stage_that_fails_on_a_batch_says_which_items_were_in_it():
    with pytest.raises(BadItem, match="collating item 0 and item 1 and item 2 and others") as caught:
        list(DataLoader(list(range(9)), bs=9, before_batch=lambda samples: samples[99]))
    assert "IndexError" in caught.value.got
