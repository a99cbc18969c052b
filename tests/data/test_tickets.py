"""Whatever chooses the items, an epoch is the same with any workers, in any number of processes, and gone on with."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
import torch
from parts import BatchNoise, Shift, noisy
from torch import multiprocessing, nn
from torch.utils.data import TensorDataset

from layered.data import Categorize, DataLoader, Datasets, PartialDL, TfmdDL, WeightedDL
from layered.foundation import leaves

COUNT = 22


def made(kind=TfmdDL, **settings):
    """Items and augmentation that draw from all generators, in items and in batches."""
    dsets = Datasets(
        list(range(COUNT)),
        [[noisy], [lambda i: "a" if i % 5 == 0 else "b", Categorize(vocab=["a", "b"])]],
        splits=[range(COUNT), [0]],
    )
    settings = {"bs": 4, "seed": 5, "after_item": Shift, "after_batch": BatchNoise, "num_workers": 0, **settings}
    return kind(dsets.train, **settings)


LOADERS = {
    "shuffled": lambda **kw: made(shuffle=True, **kw),
    "in order": lambda **kw: made(**kw),
    "weighted": lambda **kw: made(WeightedDL, wgts=np.arange(1.0, COUNT + 1), **kw),
    "balanced": lambda **kw: made(shuffle=True, weights="balanced", **kw),
    "oversampled": lambda **kw: made(shuffle=True, weights="oversample", **kw),
    "in part": lambda **kw: made(PartialDL, partial_n=15, **kw),
    "in memory": lambda **kw: DataLoader(
        TensorDataset(torch.arange(float(COUNT))[:, None]),
        **{"bs": 4, "seed": 5, "shuffle": True, "after_batch": lambda b: b[0] + torch.rand(len(b[0]), 1), **kw},
    ),
}


def rows(batches):
    return [torch.cat([leaf.float().reshape(len(leaf), -1) for leaf in leaves(b)], 1).tolist() for b in batches]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3")
@pytest.mark.parametrize("name", LOADERS)
def test_any_number_of_workers_makes_the_same(name):
    alone = LOADERS[name]()
    wanted = [rows(alone), rows(alone)]
    assert wanted[0] != wanted[1]
    for workers in (1, 3):
        dl = LOADERS[name](num_workers=workers)
        assert [rows(dl), rows(dl)] == wanted


@pytest.mark.parametrize("name", LOADERS)
def test_it_goes_on_from_any_batch_of_any_epoch(name):
    whole = LOADERS[name]()
    epochs = [rows(whole) for _ in range(3)]
    for epoch, taken in itertools.product((0, 1), range(1, len(epochs[0]) - 1)):
        dl = LOADERS[name]()
        for _ in range(epoch):
            list(dl)
        batches = iter(dl)
        for _ in range(taken):
            next(batches)
        other = LOADERS[name](seed=None)
        other.load_state_dict(pickle.loads(pickle.dumps(dl.state_dict())))
        assert rows(other) == epochs[epoch][taken:]
        assert rows(other) == epochs[epoch + 1]


def share_of_all(rank, world, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    res = {name: rows(LOADERS[name](bs=2, after_batch=None)) for name in LOADERS if name != "in memory"}
    res["in memory"] = rows(LOADERS["in memory"](bs=2, after_batch=lambda b: b[0]))
    torch.save(res, f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


def test_two_processes_make_what_one_makes_and_lose_nothing(tmp_path):
    started = [
        multiprocessing.get_context("fork").Process(target=share_of_all, args=(rank, 2, tmp_path)) for rank in (0, 1)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
        assert process.exitcode == 0
    first, second = (torch.load(tmp_path / str(rank)) for rank in (0, 1))
    for name in LOADERS:
        after = {"after_batch": (lambda b: b[0]) if name == "in memory" else None}
        alone = rows(LOADERS[name](bs=4, **after))
        assert len(first[name]) == len(second[name])
        assert sorted(itertools.chain(*first[name], *second[name])) == sorted(itertools.chain(*alone))
        for whole, even, odd in zip(alone[:-2], first[name], second[name], strict=False):
            assert (whole[0::2], whole[1::2]) == (even, odd)


def test_dropout_does_not_notice_the_loader():
    def dropped(workers):
        torch.manual_seed(0)
        dl = LOADERS["shuffled"](seed=1, num_workers=workers)
        return [nn.functional.dropout(torch.ones(5)) for _ in dl]

    torch.manual_seed(0)
    wanted = [nn.functional.dropout(torch.ones(5)) for _ in range(6)]
    for workers in (0, 2):
        assert torch.equal(torch.stack(dropped(workers)), torch.stack(wanted))
