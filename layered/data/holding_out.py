"""Holding out some of the training items: a loader for those that are left, and one for those held out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch

from layered.data.adapters import DatasetBase, Positions, as_dataset
from layered.data.loader import DataLoader
from layered.data.splitters import Splitter, split_items
from layered.foundation import BadArgument, BadValue, CannotTrain, describe, key_of, permutation

LEAST = 2  # items on either side
_ORDER_STAGES = ("get_idxs", "sample", "create_item", "create_batches")  # where a user's function reads positions


class HeldOut(NamedTuple):
    """Training items in two parts.

    Args:
        train: The loader of those to train on.
        held: The loader of those held out, in their order and transformed as for validation.
        positions: Which of the training items are held out: int64 [item].
        total: How many training items there are.
    """

    train: Any
    held: Any
    positions: Positions
    total: int


def divide_items(train: Iterable[Any], valid: Iterable[Any] | None, share: float | Splitter) -> HeldOut:
    """Divide the items of a training loader.

    Args:
        train: The training loader.
        valid: The validation loader, whose settings the loader of the held-out items has; None takes those of `train`.
        share: The share to hold out, drawn by the seed of the run, of each class alike where the items have one; or a splitter.

    Raises:
        BadArgument: `share` is neither.
        BadValue: It is not a share, or leaves too few items.
        CannotTrain: The items of this loader cannot be divided.
    """
    is_known = isinstance(train, DataLoader) and train.indexed and not vars(train).keys() & set(_ORDER_STAGES)
    if not isinstance(train, DataLoader) or not is_known or not train.n:
        raise CannotTrain(
            "no items can be held out of this training loader",
            got=repr(train) if isinstance(train, DataLoader) else describe(train),
            expected="a loader of this library, over items with positions, in its own order",
            fix="hold them out yourself, and pass their loader: fit_auto(held_out=loader)",
        )
    dataset = as_dataset(train.dataset)
    total = len(train.dataset)
    considered = min(train.n, total) if train.batches_are_items and train.chooser is None else total
    if callable(share):
        whole = dataset.part(np.arange(considered))
        rest, held = split_items(share, getattr(whole, "items", whole))[:2]
    else:
        seed = torch.initial_seed() if train.seed is None else train.seed
        rest, held = _drawn(considered, checked_share(share), _labels(dataset, considered), key_of(seed, "held out"))
    if min(len(rest), len(held)) < LEAST:
        raise BadValue(
            "there are too few training items to hold some of them out",
            got=f"{len(rest)} to train on and {len(held)} held out, of {considered}",
            expected=f"at least {LEAST} of each",
            fix="a larger share, or more items; or pass their loader: fit_auto(held_out=loader)",
        )
    like = valid if isinstance(valid, DataLoader) and type(valid) is type(train) else train
    remaining = train.new(dataset.part(rest))
    if train.chooser is not None:
        remaining.chooser = train.chooser.among(rest)
    if remaining.drop_last and remaining.bs is not None and train.batches_are_items and not len(remaining):
        raise BadValue(
            "the training items that are left do not fill a batch",
            got=f"{len(rest)} of {considered} items, bs={remaining.bs}",
            fix=f"bs={max(1, len(rest) // 2)}, or drop_last=False",
        )
    settings = {"shuffle": False, "drop_last": False, **like.for_items}
    held_loader = like.new(as_dataset(dataset.part(held)).as_split(1), **settings)
    return HeldOut(remaining, held_loader, held, considered)


def checked_share(share: object) -> float:
    """`share` as a float, after checking that it is a share that leaves some items on both sides.

    Raises:
        BadArgument: It is not a number.
        BadValue: It is not between 0 and 1.
    """
    if isinstance(share, bool) or not isinstance(share, (int, float, np.floating)):
        raise BadArgument(
            "held_out is not a share of the training items",
            got=repr(share),
            expected="a number between 0 and 1, a splitter, or a loader of other items",
            fix="held_out=0.1",
        )
    if not 0 < share < 1:
        raise BadValue(
            "held_out is not a share of the training items",
            got=share,
            expected="a number between 0 and 1",
            fix="held_out=0.1",
        )
    return float(share)


def _labels(dataset: DatasetBase, count: int) -> np.ndarray[Any, Any] | None:
    """The class of each item, or its only number; None where there is none, or finding out would make the inputs."""
    if any(kind != "category" for kind in dataset.target_kinds):
        return None
    labels = dataset.class_labels()
    labels = None if labels is None else np.asarray(labels)[:count]
    return labels if labels is not None and labels.ndim == 1 and labels.dtype.kind in "biuf" else None


def _drawn(count: int, share: float, labels: np.ndarray[Any, Any] | None, key: int) -> tuple[Positions, Positions]:
    """Positions to train on and positions held out, in ascending order; of every class the same share, up to one item."""
    order = permutation(count, key).numpy()
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    wanted = round(share * count)
    is_held = np.zeros(count, dtype=bool)
    is_held[order[((np.arange(wanted) + 0.5) * count / max(wanted, 1)).astype(np.int64)]] = True
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)
