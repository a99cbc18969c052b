"""Loaders and batches of any make are understood."""

from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader as TorchDataLoader, IterableDataset, TensorDataset

from layered.data import DataLoader, DataLoaders
from layered.loop import Callback, Loop, length_of, set_epoch, split_batch

ROWS = TensorDataset(torch.arange(12.0).reshape(6, 2), torch.arange(6.0)[:, None])


class Seen(Callback):
    def __init__(self):
        self.xs = []

    def after_batch(self):
        self.xs += self.x.tolist() if self.training else []


def fit(dls, n_epoch=1, **kwargs) -> Seen:
    torch.manual_seed(0)
    learn = Loop(dls, nn.Linear(2, 1), nn.MSELoss(), cbs=Seen, **kwargs)
    learn.logger = lambda row: None
    learn.fit(n_epoch)
    return learn.seen


class Stream(IterableDataset):
    def __iter__(self):
        return iter(ROWS)


@pytest.mark.parametrize(
    "dls",
    [
        lambda: (TorchDataLoader(ROWS, 2), None),
        lambda: (DataLoader(ROWS, bs=2), DataLoader(ROWS, bs=2)),
        lambda: DataLoaders(DataLoader(ROWS, bs=2), DataLoader(ROWS, bs=2)),
        lambda: DataLoaders(DataLoader(ROWS, bs=2)),
        lambda: ([ROWS[0:2], ROWS[2:4], ROWS[4:6]],),
        lambda: (TorchDataLoader(Stream(), 2), None),
    ],
)
def test_all_kinds_of_loaders_train(dls):
    assert fit(dls(), 2).xs == ROWS.tensors[0].tolist() * 2


def test_each_epoch_has_its_own_order_given_by_the_seed_and_the_epochs_started():
    def orders(seed):
        xs = fit((DataLoader(ROWS, bs=2, shuffle=True), None), 3, seed=seed).xs
        return [xs[i : i + 6] for i in (0, 6, 12)]

    first = orders(1)
    assert first[0] != first[1] != first[2]
    assert orders(1) == first
    assert orders(2) != first


def test_a_sampler_is_told_the_epoch():
    class Sampler:
        epochs: ClassVar = []

        def __iter__(self):
            return iter(range(6))

        def __len__(self):
            return 6

        def set_epoch(self, epoch):
            self.epochs.append(epoch)

    fit((TorchDataLoader(ROWS, 2, sampler=Sampler()), None), 3)
    assert Sampler.epochs == [0, 1, 2]


def test_a_loader_without_such_a_method_is_left_alone():
    set_epoch([1], 0, "train")
    assert length_of(iter([])) is None
    assert length_of([1]) == 1


class Named(nn.Module):
    def forward(self, a, b=None):
        return a


class Open(nn.Module):
    def forward(self, a, **rest):
        return a


@pytest.mark.parametrize(
    ("batch", "n_inp", "model", "expected"),
    [
        ((1, 2), None, Named(), ((1,), (2,))),
        ((1, 2, 3), None, Named(), ((1, 2), (3,))),
        ((1, 2, 3), 1, Named(), ((1,), (2, 3))),
        ([1], None, Named(), ((1,), ())),
        (1, None, Named(), ((1,), ())),
        ({"y": 3, "a": 1, "b": 2}, None, Named(), ({"a": 1, "b": 2}, (3,))),
        ({"a": 1, "y": 3}, None, Open(), ({"a": 1, "y": 3}, ())),
    ],
)
def test_batches_are_split_into_inputs_and_targets(batch, n_inp, model, expected):
    assert split_batch(batch, n_inp, model) == expected
