"""Two processes beside one on the CPUs of this machine, with the same rows in a batch; and how long they average gradients."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path

import torch
from torch import distributed, nn
from torch.utils.data import TensorDataset

from benchmarks.runner import Result, printed

ROWS, BATCH = 384, 64


def main() -> list[Result]:
    found = {}
    for world in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            torch.multiprocessing.start_processes(child, (world, folder), nprocs=world)
            found[world] = [float(part) for part in Path(folder, "seconds").read_text().split()]
    return [
        printed(
            Result(
                "an epoch, by two processes and by one", found[2][0], found[1][0], found[2][0] / found[1][0], None, "s"
            )
        ),
        printed(Result("averaging 10 M gradients of two processes", found[2][1] * 1000, None, None, None)),
    ]


def child(rank: int, world: int, folder: str) -> None:
    """The seconds of an epoch and of an average, the best of four, written to a file."""
    from layered.basics import DataLoaders, Learner
    from layered.loop import average_gradients

    torch.set_num_threads(1)
    if world > 1:
        distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    torch.manual_seed(0)
    x = torch.randn(ROWS, 3, 32, 32)
    rows = TensorDataset(x, torch.arange(ROWS) % 10)
    convolutions = [
        nn.Conv2d(3, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2),
        nn.ReLU(),
        nn.Conv2d(64, 128, 3, 2),
        nn.ReLU(),
    ]
    model = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))
    dls = DataLoaders.from_dsets(rows, bs=BATCH // world, device="cpu", seed=0)
    learn = Learner(dls, model, nn.CrossEntropyLoss(), lr=1e-3)
    many = nn.Parameter(torch.zeros(10_000_000))
    many.grad = torch.ones_like(many)
    epochs, averages = [], []
    with learn.no_bar(), learn.no_logging(), contextlib.redirect_stdout(None):
        for _ in range(5):
            began = time.perf_counter()
            learn.fit(1)
            epochs.append(time.perf_counter() - began)
            began = time.perf_counter()
            average_gradients([many])
            averages.append(time.perf_counter() - began)
    if rank == 0:
        Path(folder, "seconds").write_text(f"{min(epochs)} {min(averages)}")
    if world > 1:
        distributed.barrier()
        distributed.destroy_process_group()
