"""Loaders with transforms, and the loaders of one task side by side: training, validation, …"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import torch

from layered.data.loader import DataLoader, arguments_of
from layered.data.workers import default_workers
from layered.foundation.arguments import names_of
from layered.foundation.dispatch import verb
from layered.foundation.errors import BadValue, refuse_unknown
from layered.foundation.helpers import first, listify
from layered.foundation.lists import L
from layered.foundation.paths import Path
from layered.foundation.pipeline import Pipeline
from layered.foundation.tree import default_device, map_tree

_SLOTS = ("after_item", "before_batch", "after_batch")


class TfmdDL(DataLoader):
    """A loader whose slots `after_item`, `before_batch` and `after_batch` are pipelines of transforms.

    dataset     a `Datasets`, `TfmdLists`, or anything `DataLoader` takes
    bs          items a batch
    num_workers by default as many as there are cores, at most 16; 0 for tensors in memory
    do_setup    fit batch transforms that need data (`Normalize()`) on one batch
    """

    def __init__(
        self,
        dataset: Any,
        bs: int | None = 64,
        shuffle: bool = False,
        num_workers: int | None = None,
        verbose: bool = False,
        do_setup: bool = True,
        after_item: Any = None,
        before_batch: Any = None,
        after_batch: Any = None,
        **kwargs: Any,
    ) -> None:
        split_idx = getattr(dataset, "split_idx", None)
        self._inferred_n_inp: int | None = None
        super().__init__(dataset, bs=bs, shuffle=shuffle, num_workers=num_workers or 0, **kwargs)
        self.after_item = Pipeline(after_item, split_idx)  # type: ignore[method-assign,assignment]  # stages are slots
        self.before_batch = Pipeline(before_batch, split_idx)  # type: ignore[method-assign,assignment]
        self.after_batch = Pipeline(after_batch, split_idx)  # type: ignore[method-assign,assignment]
        if num_workers is None:
            self.workers_by_default = True
            self.num_workers = 0 if self._is_in_memory or not hasattr(dataset, "tls") else default_workers()
        if do_setup:
            for slot in _SLOTS:
                if verbose and len(getattr(self, slot)):
                    print(f"Setting up {slot}: {getattr(self, slot)}")
                getattr(self, slot).setup(self)

    @property
    def n_inp(self) -> int:
        """How many leading elements of a batch are inputs: what the data set says, else all but the last."""
        declared = getattr(self.dataset, "n_inp", None)
        if declared is not None:
            return int(declared)
        if self._inferred_n_inp is None:
            batch = self.one_batch()
            self._inferred_n_inp = 1 if not isinstance(batch, (tuple, list)) or len(batch) == 1 else len(batch) - 1
        return self._inferred_n_inp

    def new(self, dataset: Any = None, **changes: Any) -> Any:
        """A loader like this one, over another data set and with changes; the slots work for the new data set's split."""
        slots = {name: changes.pop(name) for name in _SLOTS if name in changes}
        res = super().new(dataset, **changes)
        split_idx = getattr(res.dataset, "split_idx", None)
        for name in _SLOTS:
            pipeline = Pipeline(slots[name], split_idx) if name in slots else getattr(res, name).for_split(split_idx)
            setattr(res, name, pipeline)
        return res

    def decode(self, b: Any) -> Any:
        """A batch as the item transforms left it: batch transforms undone."""
        batch = self.after_batch.decode(b)  # type: ignore[attr-defined]  # a pipeline
        return self.before_batch.decode(batch)  # type: ignore[attr-defined]

    def decode_batch(self, b: Any, max_n: int = 9, full: bool = True) -> L:
        """The first `max_n` samples of a batch, decoded: item transforms and data set pipelines undone."""
        decoded = self.decode(b)
        samples = batch_to_samples(map_tree(lambda o: o.cpu() if isinstance(o, torch.Tensor) else o, decoded), max_n)
        return samples.map(lambda o: self._decode_item(o, full))

    def _decode_item(self, sample: Any, full: bool) -> Any:
        item = self.after_item.decode(sample)  # type: ignore[attr-defined]  # a pipeline
        return self.dataset.decode(item, full=full) if hasattr(self.dataset, "decode") else item

    def show_batch(
        self,
        b: Any = None,
        max_n: int = 9,
        ctxs: Any = None,
        show: bool = True,
        unique: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Show the first samples of a batch, each with its target, as its types are shown.

        b          the batch; by default a fresh one, which moves nothing on
        max_n      at most so many samples
        unique     one item again and again, to look at its augmentation
        show       False: return (inputs, targets, samples) and draw nothing
        """
        if b is None:
            b = self._same_item_batch(max_n) if unique else self.one_batch()
        x, y, samples = self._pre_show_batch(b, max_n)
        if not show:
            return x, y, samples
        return verb("show_batch")(x, y, samples, ctxs=ctxs, max_n=max_n, **kwargs)

    def _same_item_batch(self, max_n: int) -> Any:
        same = self.new(n=max_n, bs=max_n, drop_last=False)
        first = next(iter(self.get_idxs()))
        same.get_idxs = lambda: [first] * max_n
        return same.one_batch()

    def _pre_show_batch(self, b: Any, max_n: int) -> tuple[Any, Any, L | None]:
        if isinstance(b, tuple) and hasattr(b, "show"):  # samples of a type of their own, which says how they are shown
            return self.decode(b), None, None
        samples = self.decode_batch(b, max_n)
        if not isinstance(b, (tuple, list)):
            return b, None, samples
        parts = (b[: self.n_inp], b[self.n_inp :])
        x, y = (part[0] if len(part) == 1 else (part or None) for part in parts)
        return x, y, samples

    def show_results(self, b: Any, out: Any, max_n: int = 9, ctxs: Any = None, show: bool = True, **kwargs: Any) -> Any:
        """Show the samples of batch `b` with target and prediction; `out` holds the decoded predictions, as targets are."""
        x, y, samples = self._pre_show_batch(b, max_n)
        outs_batch = (*b[: self.n_inp], *(out if isinstance(out, tuple) else (out,)))
        outs = self.decode_batch(outs_batch, max_n).map(lambda o: tuple(o[self.n_inp :]))
        if not show:
            return x, y, samples, outs
        return verb("show_results")(x, y, samples, outs, ctxs=ctxs, max_n=max_n, **kwargs)

    def __repr__(self) -> str:
        slots = "\n".join(f"  {name}: {getattr(self, name)!r}" for name in _SLOTS)
        return f"{type(self).__name__} of {self.n} items, bs={self.bs}, {self.num_workers} workers\n{slots}"


def batch_to_samples(b: Any, max_n: int = 10) -> L:
    """The first `max_n` samples of a batch: of a tuple as tuples, of a mapping as mappings."""
    if isinstance(b, Mapping):
        columns = zip(*(batch_to_samples(part, max_n) for part in b.values()), strict=True)
        return L([dict(zip(b, values, strict=True)) for values in columns], use_list=True)
    if isinstance(b, (tuple, list)) and not all(isinstance(o, str) for o in b):
        return L(list(zip(*(batch_to_samples(part, max_n) for part in b), strict=True)), use_list=True)
    return L([b[i] for i in range(min(len(b), max_n))], use_list=True)


class DataLoaders:
    """The loaders of a task: `train`, `valid` and any more, with a path for what belongs to them.

    loaders    the training loader, the validation loader, …
    path       where models and exports of learners on this data go
    device     where all loaders send their batches

    An attribute it does not have is looked up in the training loader, then in its data set: `dls.vocab`, `dls.c`.
    """

    def __init__(
        self, *loaders: Any, path: str | os.PathLike[str] = ".", device: torch.device | str | None = None
    ) -> None:
        if not loaders:
            raise BadValue("DataLoaders needs at least a training loader")
        self.loaders, self.path = list(loaders), Path(path)
        if device is not None:
            self.to(device)

    def __getitem__(self, i: int) -> Any:
        if not -len(self.loaders) <= i < len(self.loaders):
            raise BadValue(f"there is no loader {i}", got=f"{len(self.loaders)} loaders")
        return self.loaders[i]

    def __len__(self) -> int:
        return len(self.loaders)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loaders)

    @property
    def train(self) -> Any:
        """The training loader."""
        return self.loaders[0]

    @property
    def valid(self) -> Any:
        """The validation loader."""
        return self[1]

    @property
    def train_ds(self) -> Any:
        """The data set of the training loader."""
        return self.train.dataset

    @property
    def valid_ds(self) -> Any:
        """The data set of the validation loader."""
        return self.valid.dataset

    @property
    def device(self) -> torch.device | None:
        """Where batches go."""
        return getattr(self.train, "device", None)

    def to(self, device: torch.device | str) -> Self:
        """Send the batches of all loaders to `device`."""
        for loader in self.loaders:
            if isinstance(loader, DataLoader):
                loader.to(device)
        return self

    def cuda(self) -> Self:
        """Send batches to the current CUDA device."""
        return self.to("cuda")

    def cpu(self) -> Self:
        """Keep batches in main memory."""
        return self.to("cpu")

    def new_empty(self) -> DataLoaders:
        """The same loaders without items."""
        loaders = [dl.new(dl.dataset.new_empty()) for dl in self.loaders]
        return DataLoaders(*loaders, path=self.path, device=self.device)

    def one_batch(self) -> Any:
        """One training batch; nothing moves on. Of a loader that is not ours, its first."""
        return self.train.one_batch() if hasattr(self.train, "one_batch") else first(self.train)

    def show_batch(self, b: Any = None, max_n: int = 9, **kwargs: Any) -> Any:
        """Show a training batch: see `TfmdDL.show_batch`."""
        return self.train.show_batch(b, max_n=max_n, **kwargs)

    def add_tfms(self, tfms: Any, event: str, loaders: Sequence[int] | None = None) -> None:
        """Add transforms to a slot of the loaders: "after_item", "before_batch" or "after_batch"."""
        for i in loaders if loaders is not None else range(len(self.loaders)):
            pipeline = getattr(self.loaders[i], event)
            setattr(self.loaders[i], event, Pipeline([*pipeline.fs, *listify(tfms)], pipeline.split_idx))

    def test_dl(
        self,
        items: Any,
        rm_type_tfms: int | None = None,
        with_labels: bool = False,
        bs: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """A loader over other items, treated as validation items: inputs only, in their order.

        items        anything the inputs are made of: paths, images, rows, …
        rm_type_tfms how many leading transforms the items have behind them; judged by their type if not given
        with_labels  make the targets too
        """
        valid = self.loaders[min(1, len(self.loaders) - 1)]
        dataset = valid.dataset
        if hasattr(dataset, "test_set"):
            listed = (
                items
                if hasattr(items, "__getitem__")
                and hasattr(items, "__len__")
                and not isinstance(items, (str, bytes, dict))
                else [items]
            )
            labels = {"with_labels": with_labels} if hasattr(dataset, "tls") else {}
            dataset = dataset.test_set(listed, rm_type_tfms, **labels)
        else:
            dataset = items
        return valid.new(dataset, bs=bs or valid.bs, shuffle=False, drop_last=False, **kwargs)

    @classmethod
    def from_dsets(
        cls,
        *ds: Any,
        path: str | os.PathLike[str] = ".",
        bs: int = 64,
        device: torch.device | str | None = None,
        dl_type: type[TfmdDL] = TfmdDL,
        shuffle: bool = True,
        val_shuffle: bool = False,
        drop_last: bool | None = None,
        val_bs: int | None = None,
        **kwargs: Any,
    ) -> Self:
        """Loaders over data sets: the first is shuffled and leaves out a last batch that is not full; the others do neither.

        drop_last  leave out last batches that are not full, or keep them, in all loaders alike
        val_bs     items a batch of the others; `bs` by default
        kwargs     for every loader: `num_workers`, `after_item`, `after_batch`, `seed`, …; with `val_` before the name, for
                   the others alone
        raises     BadValue where `bs` is more than the training items make
        """
        validation = {k.removeprefix("val_"): kwargs.pop(k) for k in list(kwargs) if k.startswith("val_")}
        refuse_unknown(
            {**kwargs, **validation}, arguments_of(dl_type) | names_of(cls.from_dsets), "DataLoaders.from_dsets"
        )
        drop = shuffle if drop_last is None else drop_last
        if drop and hasattr(ds[0], "__len__") and len(ds[0]) < bs:
            raise BadValue(
                f"bs={bs} is more than the {len(ds[0])} training items, so there is no full batch",
                fix=f"bs={max(1, len(ds[0]) // 2)}, or drop_last=False",
            )
        device = default_device() if device is None else device
        train = dl_type(ds[0], bs=bs, shuffle=shuffle, drop_last=drop, device=device, **kwargs)
        validation = {"bs": val_bs or bs, "shuffle": val_shuffle, "drop_last": bool(drop_last), **validation}
        others = [train.new(d, **validation) for d in ds[1:]]
        return cls(train, *others, path=path)

    @classmethod
    def from_splits(cls, dsets: Any, bs: int = 64, n: int | None = None, **kwargs: Any) -> Self:
        """Loaders over the subsets of `dsets`, one for each of its splits: see `from_dsets`.

        n          use only so many training items
        """
        kwargs = {"val_drop_last": False, **kwargs, "dl_type": kwargs.get("dl_type") or dsets.dl_type or TfmdDL}
        subsets = [dsets.subset(i) for i in range(dsets.n_subsets)] if dsets.splits is not None else [dsets]
        dls = cls.from_dsets(*subsets, bs=bs, **kwargs)
        if n is not None:
            dls.train.n = min(n, len(subsets[0]))
        return dls

    @classmethod
    def from_dblock(cls, dblock: Any, source: Any, path: str | os.PathLike[str] = ".", **kwargs: Any) -> Any:
        """`dblock.dataloaders(source, path=path, …)`."""
        return dblock.dataloaders(source, path=path, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "loaders":
            raise AttributeError(name)
        if hasattr(self.loaders[0], name):
            return getattr(self.loaders[0], name)
        raise AttributeError(f"neither these loaders nor their data set have '{name}'")
