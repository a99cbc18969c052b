"""Keeping what a pass over a loader predicts: batch by batch, in memory or in a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layered.foundation import BadValue, CannotSave, Path, is_named_tuple, leaves, map_tree, noop, plain_tree, to_detach
from layered.loop import AbstractLoop, Callback
from layered.nn import per_sample_loss


class GatherPredsCallback(Callback):
    """Keeps the predictions and targets of a validation pass, on the CPU; each pass begins anew.

    After the pass `all_tensors()` gives what was kept, as one; `count` says of how many batches.

    Args:
        with_input: Keep the inputs too.
        with_loss: Keep the loss of every item.
        save_preds: Write the predictions to a file instead: see `WrittenColumn`.
        save_targs: The same for the targets.
        with_preds: False leaves them out.
        with_targs: False leaves them out.
        concat_dim: The axis along which batches of predictions are joined.
        act: What turns the model's output into what is kept; by default it is kept as it is.
        decode: What turns it into a decision; None makes none.
    """

    run_train = False
    transient = ("inputs", "preds", "targets", "decoded", "losses", "count")

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
    ) -> None:
        self.with_input, self.with_loss, self.with_preds, self.with_targs = (
            with_input,
            with_loss,
            with_preds,
            with_targs,
        )
        self.save_preds, self.save_targs, self.concat_dim = save_preds, save_targs, concat_dim
        self.act, self.decode = act, decode
        self.before_validate()

    def before_validate(self) -> None:
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
        if self.with_preds:
            self.preds.add(single(self.act(learn.pred)))
        if self.with_targs and learn.yb:
            self.targets.add(single(learn.yb))
        if self.decode is not None:
            self.decoded.add(self.decode(learn.pred))
        if self.with_loss:
            self.losses.add(per_sample_loss(learn.loss_func, learn.pred, targets_of(learn)))

    def all_tensors(self) -> tuple[Any, ...]:
        """`([inputs,] preds, targets [, decoded] [, losses])` as one each, and let go of; None for what there is none of."""
        columns = [self.inputs] if self.with_input else []
        columns += [self.preds, self.targets]
        columns += [self.decoded] if self.decode is not None else []
        columns += [self.losses] if self.with_loss else []
        return tuple(column.take() for column in columns)

    def discard(self) -> None:
        """Remove files that are not complete."""
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
        """All batches as one; none are left."""
        batches, self.batches = self.batches, []
        return concat(batches, self.dim) if batches else None

    def discard(self) -> None:
        self.batches = []

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class WrittenColumn:
    """Batches in NumPy files that grow; memory holds one batch.

    A file has its name only when it is complete; before, it is a `.tmp` beside it.

    Args:
        place: A file `….npy`, or a folder for `<name>.npy`. Outputs of several parts make a file each: `preds.0.npy`,
            `preds.logits.npy`.
    """

    def __init__(self, place: str | os.PathLike[str], name: str) -> None:
        path = Path(place)
        self.path = path if path.suffix == ".npy" else Path(path / f"{name}.npy")
        self.files: Any = None

    def add(self, batch: object) -> None:
        batch = plain_tree(to_detach(batch))
        if self.files is None:
            self.files = _map_named(lambda suffix, _: ArrayFile(self.path.with_suffix(f"{suffix}.npy")), batch)
        for file, part in zip(leaves(self.files), leaves(batch), strict=True):
            file.append(part)

    def take(self) -> Any:
        """What was written, as tensors that read from the files; None if nothing was."""
        files, self.files = self.files, None
        return None if files is None else map_tree(lambda file: file.close(), files)

    def discard(self) -> None:
        for file in leaves(self.files) if self.files is not None else ():
            file.discard()


class ArrayFile:
    """A NumPy file that rows are appended to.

    Raises:
        BadValue: For rows of another shape or dtype than the first ones.
        CannotSave: If the disk refuses.
    """

    HEADER = 128  # bytes: room for any number of rows

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.temp = self.path.with_name(f".layered-{os.getpid()}-{os.urandom(6).hex()}.tmp")
        self.rows, self.shape, self.dtype = 0, (), np.dtype(np.float32)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = open(self.temp, "xb")  # noqa: SIM115  # closed by `close` or `discard`
            self.file.write(bytes(self.HEADER))
        except OSError as error:
            raise CannotSave(
                f"cannot write '{self.path}'", got=error, fix="give a folder that can be written"
            ) from error

    def append(self, rows: Tensor) -> None:
        """More rows: [row, …]."""
        if not isinstance(rows, Tensor) or not rows.ndim or rows.dtype is torch.bfloat16:
            got = f"{rows.dtype}, {rows.ndim} axes" if isinstance(rows, Tensor) else type(rows).__name__
            raise BadValue(
                "a file of predictions takes tensors with a row for each item", got=got, fix="act=… to get one"
            )
        array = rows.numpy()
        if not self.rows:
            self.shape, self.dtype = array.shape[1:], array.dtype
        if (array.shape[1:], array.dtype) != (self.shape, self.dtype):
            raise BadValue(
                "the rows of a file of predictions have one shape",
                got=f"{array.dtype} {list(array.shape[1:])} after {self.dtype} {list(self.shape)}",
                fix="pad them in act=…, or keep them in memory",
            )
        try:
            self.file.write(np.ascontiguousarray(array).data)
        except OSError as error:
            raise CannotSave(f"cannot write '{self.path}'", got=error, fix="make room on the disk") from error
        self.rows += len(array)

    def close(self) -> Tensor:
        """Give the file its name; the rows as a tensor that reads from it (writing to it changes memory only)."""
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False}
        text = repr({**header, "shape": (self.rows, *self.shape)})
        self.file.seek(0)
        self.file.write(b"\x93NUMPY\x01\x00" + (self.HEADER - 10).to_bytes(2, "little"))
        self.file.write(f"{text:<{self.HEADER - 11}}\n".encode())
        self.file.close()
        os.replace(self.temp, self.path)
        return torch.from_numpy(np.load(self.path, mmap_mode="c"))

    def discard(self) -> None:
        """Remove what is not complete."""
        self.file.close()
        self.temp.unlink(missing_ok=True)


def targets_of(learn: AbstractLoop) -> tuple[Any, ...]:
    """The targets of the current batch; for a model that takes `labels` and computes its loss itself, the labels."""
    if not learn.yb and isinstance(learn.xb, Mapping) and "labels" in learn.xb:
        return (learn.xb["labels"],)
    if not learn.yb:
        raise BadValue("the batch has no targets to compute losses from", fix="test_dl(items, with_labels=True)")
    return tuple(learn.yb)


def concat(batches: list[Any], dim: int = 0) -> Any:
    """Batches of the same structure as one. Anything but tensors stays a list; None stays None.

    Tensors whose other axes differ, such as sequences of different lengths, become a list with one tensor an item.

    Examples:
        >>> concat([(torch.zeros(2, 3), None), (torch.ones(1, 3), None)])[0].shape
        torch.Size([3, 3])
    """
    example = batches[0]
    if isinstance(example, (tuple, list)):
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


def reordered(tree: object, order: Tensor) -> Any:
    """The rows of every tensor (or list of rows) of `tree` in another order."""
    if isinstance(tree, list):
        return [tree[i] for i in order.tolist()] if len(tree) == len(order) else tree
    if isinstance(tree, tuple):
        parts = [reordered(part, order) for part in tree]
        return type(tree)(*parts) if is_named_tuple(tree) else tuple(parts)
    if isinstance(tree, Mapping):
        return {k: reordered(part, order) for k, part in tree.items()}
    return tree[order] if isinstance(tree, Tensor) and tree.ndim and len(tree) == len(order) else tree


def single(parts: object) -> Any:
    """The only part of a tuple of one; anything else as it is."""
    return parts[0] if isinstance(parts, tuple) and len(parts) == 1 else parts


def _map_named(f: Callable[[str, Any], Any], tree: object, name: str = "") -> Any:
    """`f` of every leaf and its place in the tree, such as ".0" or ".logits"."""
    if isinstance(tree, Mapping):
        return {k: _map_named(f, part, f"{name}.{k}") for k, part in tree.items()}
    if isinstance(tree, (tuple, list)):
        return tuple(_map_named(f, part, f"{name}.{i}") for i, part in enumerate(tree))
    return f(name, tree)
