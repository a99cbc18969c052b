"""What a shuffled epoch consists of, where it is not every item once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import TensorDataset

from layered.data import Categorize, Datasets, MultiCategorize, OneHotEncode, TfmdDL
from layered.data.samplers import Part, Repeated, Weighted, chooser_of, classes_of
from layered.foundation import BadArgument, BadValue

LABELS = np.repeat([0, 1, 2], [700, 250, 50])


def within_three_sigma(drawn, share):
    n = len(drawn)
    return abs(drawn.mean() - share) < 3 * np.sqrt(share * (1 - share) / n)


class Labelled(torch.utils.data.Dataset):
    targets = LABELS

    def __len__(self):
        return len(LABELS)

    def __getitem__(self, i):
        raise AssertionError("no item need be made")


DATASETS = [
    TensorDataset(torch.zeros(1000, 2), torch.from_numpy(LABELS)),
    Labelled(),
    Datasets(list(range(1000)), [[], [LABELS.__getitem__, Categorize()]]),
]


@pytest.mark.parametrize("dataset", DATASETS, ids=["tensors", "targets", "datasets"])
def test_balanced_classes_are_drawn_alike(dataset):
    chooser = chooser_of(dataset, "balanced")
    drawn = LABELS[np.concatenate([chooser.choose(key) for key in range(5)])]
    assert chooser.count == 1000
    assert all(within_three_sigma(drawn == label, 1 / 3) for label in range(3))


def test_items_are_drawn_in_proportion_to_their_weights():
    weights = np.array([0.0, 1.0, 2.0, 5.0])
    drawn = Weighted(weights, 4000).choose(3)
    assert not (drawn == 0).any()
    assert all(within_three_sigma(drawn == i, w / 8) for i, w in enumerate(weights[1:], 1))


def test_oversampling_keeps_every_item_and_makes_all_classes_as_large_as_the_largest():
    chooser = chooser_of(Labelled(), "oversample")
    chosen = chooser.choose(1)
    assert chooser.count == len(chosen) == 2100
    assert np.bincount(LABELS[chosen]).tolist() == [700, 700, 700]
    times = np.bincount(chosen, minlength=1000)
    rarity = 700 / np.array([700, 250, 50])[LABELS]
    assert ((times >= np.floor(rarity - 1e-9)) & (times <= np.ceil(rarity + 1e-9))).all()
    assert chosen.tolist() != sorted(chosen)


@pytest.mark.parametrize("weights", ["balanced", "oversample", np.ones(1000)])
def test_it_can_be_said_how_many_items_make_an_epoch(weights):
    chooser = chooser_of(Labelled(), weights, 300)
    assert chooser.count == len(chooser.choose(1)) == 300


def test_a_part_has_no_item_twice_and_every_item_has_its_turn():
    drawn = [Part(20, 5).choose(key) for key in range(100)]
    assert all(len(set(d)) == 5 for d in drawn)
    assert set(np.concatenate(drawn)) == set(range(20))


@pytest.mark.parametrize("chooser", [Weighted(np.ones(50), 50), Repeated(np.full(50, 1.5)), Part(50, 20)])
def test_a_choice_depends_on_its_key_alone(chooser):
    first = chooser.choose(1).tolist()
    torch.rand(1)
    assert chooser.choose(1).tolist() == first
    assert len(first) == chooser.count
    assert chooser.choose(2).tolist() != first


@pytest.mark.parametrize("weights", [[1.0] * 3, "balance", [-1.0] * 1000, [0.0] * 1000, [float("nan")] * 1000])
def test_weights_that_make_no_sense_are_refused(weights):
    with pytest.raises(BadValue):
        chooser_of(Labelled(), weights)


def test_where_no_class_is_known_it_is_said():
    with pytest.raises(BadArgument, match="labels of the items are unknown") as caught:
        classes_of([1, 2])
    assert "targets" in caught.value.fix
    several = Datasets([["a"], ["a", "b"]], [[], [MultiCategorize(), OneHotEncode()]])
    with pytest.raises(BadArgument, match="several labels"):
        classes_of(several)


def test_weights_with_labels_are_those_of_the_rows_they_name():
    df = pd.DataFrame({"x": np.arange(8.0)}, index=[13, 11, 17, 10, 12, 16, 14, 15])
    dsets = Datasets(df, [[lambda row: row.x]], splits=[[5, 0, 3, 2], [1, 4]])
    weights = df.x.sort_index()
    for given in (weights, weights[[10, 13, 16, 17]]):
        assert TfmdDL(dsets.train, bs=2, shuffle=True, weights=given).chooser.weights.tolist() == [5, 0, 3, 2]
        assert dsets.weighted_dataloaders(given, bs=2).train.chooser.weights.tolist() == [5, 0, 3, 2]
    for given in (df.x.tolist(), df.x.to_numpy()):
        assert dsets.weighted_dataloaders(given, bs=2).train.chooser.weights.tolist() == [5, 0, 3, 2]
    listed = Datasets(list(range(8)), [[]], splits=[[5, 0, 3, 2], [1, 4]])
    assert listed.weighted_dataloaders(pd.Series(df.x.tolist()), bs=2).train.chooser.weights.tolist() == [5, 0, 3, 2]
    for datasets in (dsets, listed):
        with pytest.raises(BadValue, match="whose labels are not those of the items"):
            datasets.weighted_dataloaders(pd.Series(range(8), index=range(5, 13)), bs=2)
