"""Loaders by weight and in part, made by themselves and by blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layered.data import CategoryBlock, DataBlock, PartialDL, RandomSplitter, TransformBlock, WeightedDL
from layered.foundation import BadValue

ITEMS = list(range(1000))


def block():
    return DataBlock(
        blocks=(TransformBlock, CategoryBlock),
        get_y=lambda n: "rare" if n % 10 == 0 else "usual",
        splitter=RandomSplitter(seed=42),
    )


def targets(dl):
    return torch.cat([y.as_subclass(torch.Tensor) for _, y in dl]).float()


def test_a_block_makes_balanced_loaders_and_leaves_validation_alone():
    for settings in ({"weights": "balanced"}, {"weights": "oversample"}):
        dls = block().dataloaders(ITEMS, bs=50, num_workers=0, seed=1, **settings)
        y = targets(dls.train)
        assert abs(y.mean() - 0.5) < 3 * 0.5 / len(y) ** 0.5
        assert torch.cat([x for x, _ in dls.valid]).tolist() == list(dls.valid_ds.items)
        assert len(dls.train) == len(y) // 50
    assert len(y) > 1300


def test_weights_may_be_given_for_all_items_or_for_the_training_items():
    weights = np.zeros(1000)
    weights[::10] = 1
    for_all = block().weighted_dataloaders(ITEMS, weights, bs=50, num_workers=0)
    assert (targets(for_all.train) == 0).all()
    dsets = block().datasets(ITEMS)
    assert (targets(dsets.weighted_dataloaders(weights[dsets.splits[0]], bs=50, num_workers=0).train) == 0).all()
    with pytest.raises(BadValue, match="one weight for each"):
        dsets.weighted_dataloaders(weights[:7])


def test_a_part_of_the_training_items_makes_an_epoch_and_others_the_next():
    dls = block().datasets(ITEMS).partial_dataloaders(100, bs=20, num_workers=0, seed=1)
    first, second = (torch.cat([x for x, _ in dls.train]).tolist() for _ in range(2))
    assert len(first) == len(set(first)) == 100
    assert set(first) != set(second)
    assert len(dls.valid_ds) == len(targets(dls.valid)) == 200
    with pytest.raises(BadValue, match="not even one batch is full"):
        block().datasets(ITEMS).partial_dataloaders(10, bs=20)


def test_in_the_order_of_the_items_there_are_all_of_them_once():
    for dl in (WeightedDL([3, 4, 5], bs=2, wgts=[1, 1, 9]), PartialDL([3, 4, 5], bs=2, partial_n=1)):
        assert torch.cat(list(dl.new(shuffle=False))).tolist() == [3, 4, 5]


def test_weights_are_for_the_items_they_were_given_with():
    dl = WeightedDL([1, 2], bs=4, wgts=[0, 1], seed=1)
    assert torch.cat(list(dl.new(bs=1))).tolist() == [2, 2]
    assert sorted(torch.cat(list(dl.new([5, 6, 7]))).tolist()) == [5, 6, 7]
    assert torch.cat(list(dl.new(weights=[1, 0]))).tolist() == [1, 1]


@pytest.mark.parametrize("kwargs", [{"partial_n": 0}, {"partial_n": 1, "shuffle": False}])
def test_a_part_that_makes_no_sense_is_refused(kwargs):
    with pytest.raises(BadValue):
        PartialDL([1, 2], **kwargs)


def test_weights_without_shuffling_are_refused():
    with pytest.raises(BadValue, match="weights need a shuffled loader"):
        WeightedDL([1, 2], wgts=[1, 2], shuffle=False)
