"""Whether the processes of a fit train the same thing on the same data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader as TorchDataLoader, IterableDataset

from layered.data import DataLoader
from layered.foundation import CannotTrain, rank_and_world
from layered.loop.batches import valid_of
from layered.loop.processes import gathered
from layered.loop.resume.description import describe_for_resuming, differences
from layered.loop.state import AbstractLoop

_FIXES = {
    "data": "seed what splits it: RandomSplitter(seed=42), valid_pct=.2, seed=42, or set_seed(42) at the top of the script",
    "seed": "give the loaders one seed: set_seed(42) at the top of the script, or Learner(…, seed=42)",
}


def check_alike(loop: AbstractLoop, arguments: Mapping[str, Any]) -> None:
    """Refuse a fit whose processes differ in data, model or arguments, or do not divide their batches.

    Args:
        loop: The loop, before the fit.
        arguments: What the fit was called with.

    Raises:
        CannotTrain: In each process, with what differs from the first one.
    """
    _, world = rank_and_world()
    if world == 1:
        return
    loaders = {"training": loop.dls.train, "validation": valid_of(loop.dls)}
    for name, dl in loaders.items():
        if isinstance(dl, TorchDataLoader) and _is_undivided(dl):
            raise CannotTrain(
                f"each of the {world} processes would read all rows of the {name} loader",
                got="torch's DataLoader with a sampler that does not divide them",
                fix="sampler=DistributedSampler(dataset), or the DataLoader of this library, which divides each batch",
            )
    own = _described(loop, arguments)
    of_all = gathered(own)
    for other, description in enumerate(of_all):
        found = list(differences(of_all[0], description))
        if found:
            parts = ", ".join(sorted(part for part, _, _ in found)[:5])
            raise CannotTrain(
                f"process {other} would train something else than process 0, or on other data",
                got=f"different in {parts}",
                expected="the same data, model and arguments in each process; the library divides the batches",
                fix=_FIXES.get(
                    found[0][0].partition(".")[0], "run the same script with the same settings in all processes"
                ),
            )


def _is_undivided(dl: TorchDataLoader[Any]) -> bool:
    return not isinstance(dl.dataset, IterableDataset) and not any(
        hasattr(sampler, "set_epoch") for sampler in (dl.sampler, dl.batch_sampler)
    )


def _described(loop: AbstractLoop, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same in all processes."""
    loaders = {"train": loop.dls.train, "valid": valid_of(loop.dls)}
    shared = {name: dl for name, dl in loaders.items() if isinstance(dl, DataLoader) and dl.world > 1}
    description = describe_for_resuming(loop, arguments)
    return {
        "data": {name: digest for name, digest in description["data"].items() if name in shared},
        "seed": {
            name: torch.initial_seed() if dl.seed is None else dl.seed for name, dl in shared.items() if dl.shuffle
        },
        "batches": description["batches"],
        "model": {**description["model"], "layers": len(description["model"])},
        "loss": description["loss"],
        "arguments": dict(arguments),
    }
