"""Arrays in memory are indexed by the batch, and give what their items would."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from layered.data import DataLoader, DataLoaders, RandomSplitter
from layered.data.in_memory import Arrays, row_taker
from layered.foundation import BadValue

X, Y = np.random.RandomState(0).rand(50, 3), np.arange(50)


def of(dl, column):
    return torch.cat([batch[column] for batch in dl])


def test_arrays_become_tensors_and_a_seed_gives_the_known_split():
    dls = DataLoaders.from_arrays(X, Y, seed=42, bs=8)
    train, valid = RandomSplitter(seed=42)(range(50))
    assert of(dls.valid, 1).tolist() == list(valid)
    assert sorted(of(dls.train.new(drop_last=False), 1).tolist()) == sorted(train)
    x, y = dls.one_batch()
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert np.allclose(x.numpy(), X[y.numpy()])


def test_splits_and_validation_arrays_can_be_given():
    dls = DataLoaders.from_arrays(torch.from_numpy(X), Y, splits=([3, 1], [2]), bs=2, shuffle=False)
    assert (of(dls.train, 1).tolist(), of(dls.valid, 1).tolist()) == ([3, 1], [2])
    dls = DataLoaders.from_arrays(X, Y, X[:4], Y[:4], bs=2)
    assert (len(dls.train_ds), of(dls.valid, 1).tolist()) == (50, [0, 1, 2, 3])
    assert len(DataLoaders.from_arrays(X, Y, valid_pct=0, bs=2).loaders) == 1


def test_there_may_be_several_inputs_and_targets_or_no_target():
    dls = DataLoaders.from_arrays((X, list(X), Y), (X, X), seed=1, bs=4)
    assert [b.shape for b in dls.one_batch()] == [(4, 3), (4, 3), (4,), (4, 3), (4, 3)]
    assert dls.n_inp == dls.valid.n_inp == 3
    assert [b.shape for b in DataLoaders.from_arrays(X, bs=4).one_batch()] == [(4, 3)]


def test_lengths_that_differ_are_named():
    with pytest.raises(BadValue, match="differ in length") as caught:
        DataLoaders.from_arrays((X, X[:7]), Y)
    assert caught.value.got == "x: 50 rows, x: 7 rows, y: 50 rows"
    with pytest.raises(BadValue, match="validation items are structured differently"):
        DataLoaders.from_arrays(X, Y, X)
    with pytest.raises(BadValue, match="y has no rows"):
        DataLoaders.from_arrays(X, 3)
    with pytest.raises(BadValue, match="y cannot be converted to a tensor"):
        DataLoaders.from_arrays(X, ["a"] * 50)


def test_a_test_loader_takes_arrays_with_targets_on_request():
    dls = DataLoaders.from_arrays(X, Y, seed=1, bs=4)
    (x,) = dls.test_dl(X[:3]).one_batch()
    assert np.allclose(x, X[:3])
    assert of(dls.test_dl((X[:3], Y[:3]), with_labels=True), 1).tolist() == [0, 1, 2]
    (x,) = dls.test_dl([X[0]]).one_batch()
    assert x.shape == (1, 3)
    x, y = dls.test_dl([(X[0], 3), (X[1], 4)], with_labels=True).one_batch()
    assert (x.shape, y.tolist()) == ((2, 3), [3, 4])
    with pytest.raises(BadValue, match="wrong number of arrays"):
        dls.test_dl((X, X))
    assert len(dls.new_empty().train_ds) == 0


@pytest.mark.parametrize("dataset", [TensorDataset(torch.arange(9)), Arrays(Y), torch.arange(9.0), Y[:9], X], ids=repr)
def test_rows_taken_whole_are_what_items_collated_are(dataset):
    settings = {"bs": 4, "shuffle": True, "seed": 1}
    whole, single = DataLoader(dataset, **settings), DataLoader(dataset, after_item=lambda item: item, **settings)
    for a, b in zip(whole, single, strict=True):
        torch.testing.assert_close(a, b)
    assert row_taker(dataset) is not None


def test_other_positions_may_be_asked_for_also_from_the_end():
    dl = DataLoader(TensorDataset(torch.arange(5)), bs=3)
    dl.get_idxs = lambda: [-1, 0]
    assert [x.tolist() for (x,) in dl] == [[4, 0]]
    dl.get_idxs = lambda: torch.tensor([2])
    assert [x.tolist() for (x,) in dl] == [[2]]


def test_a_batch_is_no_view_of_the_data():
    data = torch.zeros(4)
    next(iter(DataLoader(TensorDataset(data), bs=4)))[0].add_(1)
    assert data.sum() == 0


def test_objects_and_data_sets_of_others_are_not_taken_whole():
    class Own(TensorDataset):
        def __getitem__(self, i):
            return -self.tensors[0][i]

    assert row_taker(np.array(["a"], dtype=object)) is None
    assert next(iter(DataLoader(Own(torch.arange(3)), bs=3))).tolist() == [0, -1, -2]
