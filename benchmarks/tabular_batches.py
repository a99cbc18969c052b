"""Batches of a table: a pass over a loader, over indexing three tensors by hand, and over the peer; a million predictions."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.runner import Result, compare, has_peer, milliseconds, report
from benchmarks.tabular_prepare import prepared, table
from layered.tabular.all import tabular_learner

ROWS, BS = 100_000, 64


def run_through(loader: Any) -> None:
    for _ in loader:
        pass


def by_hand(tensors: tuple[Tensor, ...]) -> None:
    """The same batches: a permutation, cut, and its rows taken from each tensor."""
    for rows in torch.randperm(len(tensors[0])).split(BS):
        if len(rows) == BS:
            _ = tuple(t[rows] for t in tensors)


def forward(model: nn.Module, tensors: tuple[Tensor, ...]) -> Tensor:
    """The probabilities of all rows, by slices of the two inputs."""
    model.eval()
    with torch.inference_mode():
        outputs = [model(*parts) for parts in zip(*(t.split(8192) for t in tensors[:2]), strict=True)]
        return torch.softmax(torch.cat(outputs), 1)


def main() -> list[Result]:
    torch.set_num_threads(1)
    df = table(ROWS)
    to = prepared("layered.tabular.all", df)
    dls = to.dataloaders(BS, device="cpu")
    tensors = to.train.tensors
    results = [
        compare(
            "a pass over the loader, over three tensors indexed",
            lambda: run_through(dls.train),
            lambda: by_hand(tensors),
            budget=1.10,
            rounds=15,
        )
    ]
    if has_peer("fastai"):
        peer = prepared("fastai.tabular.all", df).dataloaders(BS, device="cpu")
        results.append(
            compare(
                "the same, over fastai",
                lambda: run_through(dls.train),
                lambda: run_through(peer.train),
                rounds=3,
                warmup=1,
            )
        )
    many = table(1_000_000)
    learn = tabular_learner(dls)
    dl = dls.test_dl(many, bs=8192)
    results.append(report("make the test loader of 1,000,000 rows", milliseconds(lambda: dls.test_dl(many)), "ms"))
    with learn.no_bar(), learn.no_logging():
        results.append(
            compare(
                "get_preds of 1,000,000 rows, over forward by hand",
                lambda: learn.get_preds(dl=dl),
                lambda: forward(learn.model, dl.dataset.tensors),
                budget=1.25,
                rounds=5,
                warmup=1,
            )
        )
    return results


if __name__ == "__main__":
    sys.exit(not all(result.ok for result in main()))
