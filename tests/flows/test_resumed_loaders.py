"""A fit on a loader of another library goes on where it stopped, or says that it cannot."""

import contextlib
import random
import warnings

import numpy as np
import pytest
import torch
import torchdata.nodes
import webdataset
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from layered.data import DataLoader as OwnLoader
from layered.loop import Callback, Checkpoint
from layered.training import Learner

X = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
Y = X.sum(1, keepdim=True)


def hugging_face():
    datasets, pyarrow = pytest.importorskip("datasets"), pytest.importorskip("pyarrow")
    rows = datasets.table.InMemoryTable(pyarrow.table({"x": X.tolist(), "y": Y.tolist()}))
    return datasets.Dataset(rows, fingerprint="rows").with_format("torch")


def stream():
    return hugging_face().to_iterable_dataset(num_shards=4)


def shuffled():
    return stream().shuffle(seed=1, buffer_size=10)


def nodes():
    order = torchdata.nodes.SamplerWrapper(RandomSampler(range(64)))
    rows = torchdata.nodes.Batcher(torchdata.nodes.Mapper(order, lambda i: (X[i], Y[i])), 8)
    return torchdata.nodes.Loader(
        torchdata.nodes.Mapper(rows, lambda batch: tuple(map(torch.stack, zip(*batch, strict=True))))
    )


def shards(folder, **shuffle):
    file = folder / "rows.tar"
    if not file.exists():
        with webdataset.TarWriter(str(file)) as tar:
            for i in range(64):
                tar.write({"__key__": f"{i:04d}", "x.npy": X[i].numpy(), "y.npy": Y[i].numpy()})
    rows = (
        webdataset.WebDataset(str(file), shardshuffle=False).shuffle(20, **shuffle).decode().to_tuple("x.npy", "y.npy")
    )
    return webdataset.WebLoader(rows.batched(8), batch_size=None)


LOADERS = {
    "Hugging Face's": (lambda folder: DataLoader(hugging_face(), batch_size=8, shuffle=True), "replays"),
    "its stream": (lambda folder: StatefulDataLoader(stream(), batch_size=8), "position"),
    "its stream, shuffled": (lambda folder: StatefulDataLoader(shuffled(), batch_size=8), "replays"),
    "that in torch's": (lambda folder: DataLoader(shuffled(), batch_size=8), "replays"),
    "that in ours": (lambda folder: OwnLoader(shuffled(), bs=8), ""),
    "torchdata's": (lambda folder: StatefulDataLoader(TensorDataset(X, Y), batch_size=8, shuffle=True), "position"),
    "its nodes": (lambda folder: nodes(), "position"),
    "WebDataset's, seeded": (lambda folder: shards(folder, seed=1), "replays"),
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Dropout(0.1), nn.Linear(3, 1))

    def forward(self, x):
        return self.net(x)


class Stopped(Exception):
    pass


class Stop(Callback):
    observes = True
    state_kinds = ()
    transient = ("at",)

    def __init__(self, at):
        self.at = at

    def after_batch(self):
        if self.learn.train_iter == self.at:
            raise Stopped


def fitted(make, place, folder, at=-1, seed=5, resume=None):
    torch.manual_seed(0)
    learn = Learner((make(place), None), Net(), loss_func=nn.functional.mse_loss, lr=0.01, cbs=Stop(at))
    for set_seed in (torch.manual_seed, np.random.seed, random.seed):
        set_seed(seed)
    with learn.no_bar(), learn.no_logging(), contextlib.suppress(Stopped):
        learn.fit(2, checkpoint=Checkpoint(place / folder, every="2 batches"), resume=resume)
    return learn


STOPS = [*((name, 13) for name in LOADERS), ("its stream", 3), ("that in torch's", 3), ("its nodes", 3)]


@pytest.mark.parametrize(("name", "at"), STOPS)
def test_it_goes_on_where_it_stopped(tmp_path, name, at):
    make, how = LOADERS[name]
    whole = fitted(make, tmp_path, "whole")
    fitted(make, tmp_path, "stopped", at)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        learn = fitted(make, tmp_path, "stopped", seed=99, resume="auto")
    assert not [one for one in said if "interrupted pass" in str(one.message)]
    assert all(map(torch.equal, learn.model.state_dict().values(), whole.model.state_dict().values()))
    assert how in {part: way for part, _, way in learn.restored.rows}["loader"]


def test_a_loader_that_cannot_be_replayed_is_said(tmp_path):
    fitted(shards, tmp_path, "stopped", 5)
    with pytest.warns(UserWarning, match="did not give the 4 batches of the interrupted pass again"):
        fitted(shards, tmp_path, "stopped", resume="auto")
