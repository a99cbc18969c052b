"""Collect the predictions of a pass over a loader, batch by batch, in memory or in a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from layered.files import disk, joined, reading, saving, temporary
from layered.foundation import (
    BadValue,
    CannotTrain,
    Path,
    is_named_tuple,
    leaves,
    map_tree,
    noop,
    plain_tree,
    to_detach,
)
from layered.loop import AbstractLoop, Callback
from layered.nn import per_sample_loss


class GatherPredsCallback(Callback):
    """Collects the predictions and targets of a validation pass on the CPU; each pass starts afresh.

    After the pass `all_tensors()` returns them joined; `count` is the number of batches.

    Args:
        with_input: Also collect the inputs.
        with_loss: Also collect the loss of each item.
        save_preds: Write the predictions to a file instead: see `WrittenColumn`.
        save_targs: Write the targets to a file instead.
        with_preds: Collect the predictions; False gives None in their place.
        with_targs: Collect the targets; False gives None in their place.
        concat_dim: The axis along which batches of predictions are joined.
        act: Turns the model's output into the predictions; by default the output itself.
        decode: Turns the model's output into a decision; None collects no decisions.
        pick: Picks what there is for each item, of predictions, targets and decisions: see `item_results`; by default all.
    """

    run_train = False
    transient = ("inputs", "preds", "targets", "decoded", "losses", "count")
    state_kinds = ()

    def __init__(
        self,
        with_input: bool = False,
        with_loss: bool = False,
        save_preds: str | os.PathLike[str] | None = None,
        save_targs: str | os.PathLike[str] | None = None,
        with_preds: bool = True,
        with_targs: bool = True,
        concat_dim: int = 0,
        *,
        act: Callable[[Any], Any] = noop,
        decode: Callable[[Any], Any] | None = None,
        pick: Callable[[Sequence[Any], Tensor], Sequence[Tensor]] | None = None,
    ) -> None:
        self.with_input, self.with_loss, self.with_preds, self.with_targs = (
            with_input,
            with_loss,
            with_preds,
            with_targs,
        )
        self.save_preds, self.save_targs, self.concat_dim = save_preds, save_targs, concat_dim
        self.act, self.decode, self.pick = act, decode, pick
        self.before_validate()

    def before_validate(self) -> None:
        if self._learn is not None:
            self.learn.reads_preds = True
        self.inputs, self.decoded, self.losses = KeptColumn(), KeptColumn(), KeptColumn()
        preds, targs = self.save_preds, self.save_targs
        self.preds: Any = KeptColumn(self.concat_dim) if preds is None else WrittenColumn(preds, "preds")
        self.targets: Any = KeptColumn() if targs is None else WrittenColumn(targs, "targs")
        self.count = 0

    def after_loss(self) -> None:
        learn = self.learn
        self.count += 1
        if self.with_input:
            self.inputs.add(single(learn.xb))
        if learn.pred is None and learn.step is not None:
            raise no_prediction()
        if self.with_preds:
            self._keep(self.preds, single(self.act(learn.pred)))
        if self.with_targs and learn.yb:
            self._keep(self.targets, single(learn.yb))
        if self.decode is not None:
            self._keep(self.decoded, self.decode(learn.pred))
        if self.with_loss:
            self.losses.add(per_sample_loss(learn.loss_func, learn.pred, targets_of(learn)))

    def _keep(self, column: Any, results: Any) -> None:
        if self.pick is None:
            column.add(results)
            return
        for result in self.pick(self.learn.batch, results):
            column.add(result[None])

    def all_tensors(self) -> tuple[Any, ...]:
        """`([inputs,] preds, targets [, decoded] [, losses])`, each joined; None where nothing was collected. The batches are
        released."""
        columns = [self.inputs] if self.with_input else []
        columns += [self.preds, self.targets]
        columns += [self.decoded] if self.decode is not None else []
        columns += [self.losses] if self.with_loss else []
        return tuple(column.take() for column in columns)

    def discard(self) -> None:
        """Remove incomplete files."""
        for column in (self.preds, self.targets):
            column.discard()


class KeptColumn:
    """Batches in memory."""

    def __init__(self, dim: int = 0) -> None:
        self.batches: list[Any] = []
        self.dim = dim

    def add(self, batch: object) -> None:
        self.batches.append(plain_tree(to_detach(batch)))

    def take(self) -> Any:
        """Join all batches and release them; None if there are none."""
        batches, self.batches = self.batches, []
        return concat(batches, self.dim) if batches else None

    def discard(self) -> None:
        self.batches = []

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class WrittenColumn:
    """Batches appended to NumPy files; only one batch is in memory.

    A file gets its name only when it is complete; until then it is a `.tmp` file in the same folder.

    Args:
        place: A file `….npy`, or a folder for `<name>.npy`. Outputs with several parts make one file per part:
            `preds.0.npy`, `preds.logits.npy`.
        name: The name of the file in a folder.
    """

    def __init__(self, place: str | os.PathLike[str], name: str) -> None:
        path = joined(place)
        self.path = path if path.suffix == ".npy" else Path(path / f"{name}.npy")
        self.files: Any = None

    def add(self, batch: object) -> None:
        batch = plain_tree(to_detach(batch))
        if self.files is None:
            self.files = _map_named(lambda suffix, _: ArrayFile(self.path.with_suffix(f"{suffix}.npy")), batch)
        for file, part in zip(leaves(self.files), leaves(batch), strict=True):
            file.append(part)

    def take(self) -> Any:
        """The written batches, as tensors that read from the files; None if there are none."""
        if self.files is None:
            return None
        written = map_tree(lambda file: file.close(), self.files)
        self.files = None
        return written

    def discard(self) -> None:
        for file in leaves(self.files) if self.files is not None else ():
            file.discard()


class ArrayFile:
    """A NumPy file that rows are appended to.

    Args:
        path: The name of the finished file.

    Raises:
        BadValue: Rows differ from the first ones in shape or dtype.
        CannotSave: The file cannot be written.
    """

    HEADER = 128  # bytes: reserved at the start, since the header contains the number of rows, known only at the end

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.temp = temporary(self.path)
        self.rows, self.shape, self.dtype = 0, (), np.dtype(np.float32)
        self.file: BinaryIO | None = None

    def append(self, rows: Tensor) -> None:
        """Append rows: [row, …]."""
        if not isinstance(rows, Tensor) or not rows.ndim or rows.dtype is torch.bfloat16:
            got = f"{rows.dtype}, {rows.ndim} axes" if isinstance(rows, Tensor) else type(rows).__name__
            raise BadValue(
                "only tensors with a row for each item can be written to a file",
                got=got,
                fix="convert the output to such a tensor by act=…",
            )
        array = rows.numpy()
        if not self.rows:
            self.shape, self.dtype = array.shape[1:], array.dtype
        if (array.shape[1:], array.dtype) != (self.shape, self.dtype):
            raise BadValue(
                "the rows of a file must have the same shape and dtype",
                got=f"{array.dtype} {list(array.shape[1:])} after {self.dtype} {list(self.shape)}",
                fix="pad them in act=…, or keep them in memory",
            )
        with saving(self.path):
            if self.file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.file = open(self.temp, "xb")  # noqa: SIM115  # closed by `close` or `discard`
                self.file.write(bytes(self.HEADER))
            self.file.write(np.ascontiguousarray(array).data)
        self.rows += len(array)

    def close(self) -> Tensor:
        """Complete the file and rename it; returns its rows as a tensor that reads from the file (copy on write)."""
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False}
        text = repr({**header, "shape": (self.rows, *self.shape)})
        assert self.file is not None
        with saving(self.path):
            self.file.seek(0)
            self.file.write(b"\x93NUMPY\x01\x00" + (self.HEADER - 10).to_bytes(2, "little"))
            self.file.write(f"{text:<{self.HEADER - 11}}\n".encode())
            self.file.flush()
            disk.sync(self.file)
            self.file.close()
            disk.replace(self.temp, self.path)
            disk.sync_folder(self.path.parent)
        with reading(self.path):
            return torch.from_numpy(np.load(self.path, mmap_mode="c"))

    def discard(self) -> None:
        """Remove the incomplete file."""
        if self.file is not None:
            with suppress(OSError):  # what it still holds may not fit on the disk
                self.file.close()
            with suppress(OSError):
                disk.delete(self.temp)


def targets_of(learn: AbstractLoop) -> tuple[Any, ...]:
    """The targets of the current batch."""
    if not learn.yb:
        raise BadValue(
            "the batch has no targets to compute losses from",
            fix="dl=learn.dls.test_dl(items, with_labels=True); without labels there is nothing to compare predictions with",
        )
    return tuple(learn.yb)


def no_prediction() -> CannotTrain:
    """The error for a learner with a `step` of its own that keeps its prediction to itself."""
    return CannotTrain(
        "`step` gives no prediction",
        expected="a step that sets loop.pred",
        fix="def step(loop, batch): loop.pred = loop.model(batch[0]); return loss(loop.pred, batch[1])",
    )


def concat(batches: list[Any], dim: int = 0) -> Any:
    """Join batches of the same structure. Values other than tensors stay a list of batches; None stays None.

    Tensors whose other axes differ, such as sequences of different lengths, become a list with one tensor per item. So do
    sequences of mappings, such as what a detector finds in each image, and sequences whose length differs between batches.

    Args:
        batches: At least one batch.
        dim: The axis to join tensors along.

    Examples:
        >>> concat([(torch.zeros(2, 3), None), (torch.ones(1, 3), None)])[0].shape
        torch.Size([3, 3])
    """
    example = batches[0]
    if isinstance(example, (tuple, list)):
        parts = [part for b in batches for part in b]
        if len({len(b) for b in batches}) > 1 or (parts and all(isinstance(part, Mapping) for part in parts)):
            return parts
        columns = [concat(list(column), dim) for column in zip(*batches, strict=True)]
        return type(example)(*columns) if is_named_tuple(example) else tuple(columns)
    if isinstance(example, Mapping):
        return {k: concat([b[k] for b in batches], dim) for k in example}
    if example is None:
        return None
    if not isinstance(example, Tensor):
        return batches
    if not example.ndim:
        return torch.stack(batches)
    if dim == 0 and any(b.shape[1:] != example.shape[1:] for b in batches):
        return [row for b in batches for row in b]
    return torch.cat(batches, dim)


def merged(trees: list[Any]) -> Any:
    """Join the rows of trees of the same structure: of every tensor, and of every list with an element per item.

    Args:
        trees: At least one tree.

    Examples:
        >>> merged([(torch.tensor([1]), ["a"], None), (torch.tensor([2]), ["b"], None)])
        (tensor([1, 2]), ['a', 'b'], None)
    """
    example = trees[0]
    if isinstance(example, list):
        return [row for tree in trees for row in tree]
    if isinstance(example, tuple):
        parts = [merged(list(column)) for column in zip(*trees, strict=True)]
        return type(example)(*parts) if is_named_tuple(example) else tuple(parts)
    if isinstance(example, Mapping):
        return {k: merged([tree[k] for tree in trees]) for k in example}
    if isinstance(example, Tensor) and any(isinstance(tree, list) for tree in trees):
        return [row for tree in trees for row in tree]
    return torch.cat(trees) if isinstance(example, Tensor) else example


def reordered(tree: object, order: Tensor) -> Any:
    """Permute the rows of every tensor (or list of rows) of `tree`."""
    if isinstance(tree, list):
        return [tree[i] for i in order.tolist()] if len(tree) == len(order) else tree
    if isinstance(tree, tuple):
        parts = [reordered(part, order) for part in tree]
        return type(tree)(*parts) if is_named_tuple(tree) else tuple(parts)
    if isinstance(tree, Mapping):
        return {k: reordered(part, order) for k, part in tree.items()}
    return tree[order] if isinstance(tree, Tensor) and tree.ndim and len(tree) == len(order) else tree


def single(parts: object) -> Any:
    """The element of a tuple of length one; anything else unchanged."""
    return parts[0] if isinstance(parts, tuple) and len(parts) == 1 else parts


def _map_named(f: Callable[[str, Any], Any], tree: object, name: str = "") -> Any:
    """Apply `f` to the path of each leaf in the tree, such as ".0" or ".logits", and the leaf."""
    if isinstance(tree, Mapping):
        return {k: _map_named(f, part, f"{name}.{k}") for k, part in tree.items()}
    if isinstance(tree, (tuple, list)):
        return tuple(_map_named(f, part, f"{name}.{i}") for i, part in enumerate(tree))
    return f(name, tree)
