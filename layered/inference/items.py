"""Items of a loader by position: predicted in a fixed order, and made again to look at them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader as TorchDataLoader, SequentialSampler, default_collate

from layered.data import DataLoader, TfmdDL, as_dataset, as_loader, pick
from layered.foundation import CannotTrain, describe, find_bs
from layered.inference.predict import in_order, loader_of
from layered.loop import Loop


def as_split(dl: TfmdDL, split_idx: int, **changes: Any) -> Any:
    """A loader over all the same items, transformed as those of another split.

    Args:
        dl: The loader.
        split_idx: The split: 0 training, 1 validation.
        changes: As for `DataLoader.new`.
    """
    return dl.new(as_dataset(dl.dataset).as_split(split_idx), drop_last=False, n=dl.n, **changes)


def steady_loader(loop: Loop, ds_idx: int, dl: Iterable[Any] | None = None) -> Any:
    """A loader over the items of `dl` (by default of the learner's loader `ds_idx`) that repeats the same batches in the order
    of the data set: not shuffled, and without training augmentation. Foreign loaders that do not allow this are returned
    unchanged."""
    dl = loader_of(loop, ds_idx) if dl is None else dl
    if isinstance(dl, TfmdDL) and as_dataset(dl.dataset).split_idx == 0:
        dl = as_split(dl, 1)
    dl, _ = in_order(loop, ds_idx, dl, reorder=True, natural=True)
    return dl.new(share=(0, 1)) if isinstance(dl, DataLoader) else dl


def batch_at(dl: Iterable[Any], positions: Sequence[int]) -> Any:
    """One batch of the items at some positions of a steady loader.

    Args:
        dl: A loader from `steady_loader`.
        positions: The positions in the data set.

    Raises:
        CannotTrain: The loader has no access by position.
    """
    if isinstance(dl, DataLoader) and dl.indexed:
        one = dl.new(num_workers=0, bs=len(positions), get_idxs=lambda: list(positions))
        return next(iter(one))
    if isinstance(dl, TorchDataLoader) and _is_sequential(dl):
        return dl.collate_fn([dl.dataset[i] for i in positions])
    if isinstance(dl, (list, tuple)):
        return default_collate([_row(dl, i) for i in positions])
    raise _no_access(dl)


def items_at(dl: Iterable[Any], positions: Iterable[int]) -> list[Any]:
    """The raw items at some positions: paths, rows of a table, samples.

    Args:
        dl: A loader from `steady_loader`.
        positions: The positions in the data set.

    Raises:
        CannotTrain: The loader has no access by position.
    """
    if isinstance(dl, (list, tuple)):
        return [_row(dl, i) for i in positions]
    if not (isinstance(dl, DataLoader) and dl.indexed) and not _is_sequential(dl):
        raise _no_access(dl)
    dataset = as_loader(dl).dataset
    items = getattr(dataset, "items", dataset)
    return [pick(items, i) for i in positions]


def _is_sequential(dl: object) -> bool:
    return type(dl) is TorchDataLoader and type(dl.sampler) is SequentialSampler and dl.batch_size is not None


def _row(batches: Sequence[Any], position: int) -> Any:
    """Row `position` of a sequence of batches, counted through all of them."""
    for batch in batches:
        if position < (size := find_bs(batch)):
            return take_rows(tuple(batch) if isinstance(batch, list) else batch, position)
        position -= size
    raise IndexError(position)


def _no_access(dl: object) -> CannotTrain:
    return CannotTrain(
        "this loader has no access to single items by position",
        got=describe(dl),
        expected="a DataLoader over a data set that can be indexed, or a list of batches",
        fix="dls.test_dl(items, with_labels=True), or torch's DataLoader(dataset, batch_size=64)",
    )


def take_rows(tree: object, rows: int | list[int]) -> Any:
    """Some rows of every tensor of `tree`, and of every list with an element per item. An int drops the row axis."""
    if isinstance(tree, list):
        return tree[rows] if isinstance(rows, int) else [tree[i] for i in rows]
    if isinstance(tree, (tuple, dict)):
        parts = tree.items() if isinstance(tree, dict) else enumerate(tree)
        taken = {k: take_rows(part, rows) for k, part in parts}
        return taken if isinstance(tree, dict) else tuple(taken.values())
    return tree[rows] if isinstance(tree, Tensor) and tree.ndim else tree
