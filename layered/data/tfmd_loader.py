"""`TfmdDL`: the loader whose stages are pipelines of transforms, and which can show and decode its batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self

import torch

from layered.data.adapters import as_dataset
from layered.data.loader import DataLoader
from layered.data.samplers import Part, Weights
from layered.data.workers import default_workers
from layered.foundation import BadValue, L, Pipeline, map_tree, retype, seeded, verb, without_axes

_SLOTS = ("after_item", "before_batch", "after_batch")


class TfmdDL(DataLoader):
    """A loader whose slots `after_item`, `before_batch` and `after_batch` are pipelines of transforms.

    num_workers by default as many as there are cores, at most 16, for data that is made by transforms; 0 for other data

    Args:
        dataset: A `Datasets`, `TfmdLists`, or anything `DataLoader` takes.
        bs: Items a batch.
        do_setup: Fit batch transforms that need data (`Normalize()`) on one batch.
    """

    def __init__(
        self,
        dataset: object,
        bs: int | None = 64,
        shuffle: bool = False,
        num_workers: int | None = None,
        verbose: bool = False,
        do_setup: bool = True,
        after_item: object = None,
        before_batch: object = None,
        after_batch: object = None,
        **kwargs: Any,
    ) -> None:
        declared = as_dataset(dataset)
        self._inferred_n_inp: int | None = None
        super().__init__(dataset, bs=bs, shuffle=shuffle, num_workers=num_workers or 0, **kwargs)
        self.after_item = Pipeline(after_item, declared.split_idx)  # type: ignore[method-assign,assignment]  # stages are slots
        self.before_batch = Pipeline(before_batch, declared.split_idx)  # type: ignore[method-assign,assignment]
        self.after_batch = Pipeline(after_batch, declared.split_idx)  # type: ignore[method-assign,assignment]
        if num_workers is None:
            self.workers_by_default = True
            self.num_workers = default_workers() if declared.starts_workers else 0
        if do_setup:
            for slot in _SLOTS:
                if verbose and len(getattr(self, slot)):
                    print(f"Setting up {slot}: {getattr(self, slot)}")
                getattr(self, slot).setup(self)

    @property
    def n_inp(self) -> int:
        """How many leading elements of a batch are inputs: what the data set says, else all but the last."""
        declared = self._declared.n_inp
        if declared is not None:
            return int(declared)
        if self._inferred_n_inp is None:
            batch = self.one_batch()
            self._inferred_n_inp = 1 if not isinstance(batch, (tuple, list)) or len(batch) == 1 else len(batch) - 1
        return self._inferred_n_inp

    def new(self, dataset: object = None, cls: type[DataLoader] | None = None, **changes: Any) -> Any:
        """A loader like this one, over another data set and with changes; the slots work for the new data set's split."""
        if cls is not None and cls is not type(self):
            return super().new(dataset, cls, **changes)
        slots = {name: changes.pop(name) for name in _SLOTS if name in changes}
        res = super().new(dataset, **changes)
        split_idx = res._declared.split_idx
        for name in _SLOTS:
            pipeline = Pipeline(slots[name], split_idx) if name in slots else getattr(res, name).for_split(split_idx)
            setattr(res, name, pipeline)
        return res

    def _over(self, dataset: object) -> Self:
        res, split_idx = super()._over(dataset), as_dataset(dataset).split_idx
        if split_idx != self.after_item.split_idx:  # type: ignore[attr-defined]  # a pipeline
            for name in _SLOTS:
                setattr(res, name, getattr(res, name).for_split(split_idx))
        return res

    def decode(self, b: object) -> Any:
        """A batch as the item transforms left it: batch transforms undone."""
        batch = self.after_batch.decode(b)  # type: ignore[attr-defined]  # a pipeline
        return self.before_batch.decode(batch)  # type: ignore[attr-defined]

    def decode_batch(self, b: object, max_n: int = 9, full: bool = True) -> L:
        """The first `max_n` samples of a batch, decoded: item transforms and data set pipelines undone."""
        decoded = self.decode(b)
        samples = batch_to_samples(map_tree(lambda o: o.cpu() if isinstance(o, torch.Tensor) else o, decoded), max_n)
        return samples.map(lambda o: self._decode_item(o, full))

    def _decode_item(self, sample: object, full: bool) -> Any:
        item = self.after_item.decode(sample)  # type: ignore[attr-defined]  # a pipeline
        return self._declared.decode(item, full=full)

    def decode_target(self, parts: tuple[Any, ...]) -> tuple[Any, ...]:
        """The decision about one item, a part for each target, as the targets' own types: a `Category`, …"""
        undone = self.after_item.decode(self.after_batch.decode(parts))  # type: ignore[attr-defined]  # pipelines
        decoded = tuple(decode(part) for decode, part in zip(self._target_decoders(), undone, strict=False))
        return decoded or tuple(undone)

    def _target_decoders(self) -> list[Callable[[Any], Any]]:
        columns = self._declared.columns[self._declared.n_inp or 1 :]
        return [partial(column.decode, full=False) for column in columns]

    def show_batch(
        self,
        b: object = None,
        max_n: int = 9,
        ctxs: object = None,
        show: bool = True,
        unique: bool = False,
        **kwargs: object,
    ) -> Any:
        """Show the first samples of a batch, each with its target, as its types are shown.

        Args:
            b: The batch; by default a fresh one, which moves nothing on.
            max_n: At most so many samples.
            unique: One item again and again, to look at its augmentation.
            show: False: return (inputs, targets, samples) and draw nothing.
        """
        if b is None:
            b = self._same_item_batch(max_n) if unique else self.one_batch()
        x, y, samples = self._pre_show_batch(b, max_n)
        if not show:
            return x, y, samples
        return without_axes(verb("show_batch")(x, y, samples, ctxs=ctxs, max_n=max_n, **kwargs), ctxs)

    def _same_item_batch(self, max_n: int) -> Any:
        same = self.new(bs=max_n, drop_last=False)
        with self.peeking(), seeded(self._order_key):
            first = next(iter(self.get_idxs()))
        same.get_idxs = lambda: [first] * max_n
        return same.one_batch()

    def _pre_show_batch(self, b: object, max_n: int) -> tuple[Any, Any, L | None]:
        if isinstance(b, tuple) and hasattr(b, "show"):  # samples of a type of their own, which says how they are shown
            return self.decode(b), None, None
        samples = self.decode_batch(b, max_n)
        if not isinstance(b, (tuple, list)):
            return b, None, samples
        parts = (b[: self.n_inp], b[self.n_inp :])
        x, y = (part[0] if len(part) == 1 else (part or None) for part in parts)
        return x, y, samples

    def show_results(
        self, b: object, out: object, max_n: int = 9, ctxs: object = None, show: bool = True, **kwargs: object
    ) -> Any:
        """Show the samples of batch `b` with target and prediction; `out` holds the decoded predictions, as targets are."""
        x, y, samples = self._pre_show_batch(b, max_n)
        outs = self.decode_results(b, out, max_n)
        if not show:
            return x, y, samples, outs
        return without_axes(verb("show_results")(x, y, samples, outs, ctxs=ctxs, max_n=max_n, **kwargs), ctxs)

    def decode_results(self, b: Any, out: object, max_n: int = 9) -> L:
        """The first `max_n` decisions `out` about batch `b`, decoded as its targets are; each a tuple."""
        outs, targets = out if isinstance(out, tuple) else (out,), b[self.n_inp :]
        if [o.ndim for o in outs] == [t.ndim if isinstance(t, torch.Tensor) else None for t in targets]:
            outs = tuple(map(retype, outs, targets))
        return self.decode_batch((*b[: self.n_inp], *outs), max_n).map(lambda o: tuple(o[self.n_inp :]))

    def _facts(self) -> tuple[str, dict[str, object]]:
        title, _ = super()._facts()
        slots = {name: " → ".join(map(repr, getattr(self, name))) for name in _SLOTS}
        return title, {name: text for name, text in slots.items() if text}


def batch_to_samples(b: Any, max_n: int = 10) -> L:
    """The first `max_n` samples of a batch: of a tuple as tuples, of a mapping as mappings."""
    if isinstance(b, Mapping):
        columns = zip(*(batch_to_samples(part, max_n) for part in b.values()), strict=True)
        return L([dict(zip(b, values, strict=True)) for values in columns], use_list=True)
    if isinstance(b, (tuple, list)) and not all(isinstance(o, str) for o in b):
        return L(list(zip(*(batch_to_samples(part, max_n) for part in b), strict=True)), use_list=True)
    return L([b[i] for i in range(min(len(b), max_n))], use_list=True)


class WeightedDL(TfmdDL):
    """A loader whose epochs are drawn with replacement, each item with a chance in proportion to its weight.

    Args:
        wgts: A number for each item, or "balanced", or "oversample": see `weights` of `DataLoader`, which any loader
            takes.

    Examples:
        >>> dl = WeightedDL([10, 20], bs=8, wgts=[0, 1])
        >>> next(iter(dl))
        tensor([20, 20])
    """

    def __init__(
        self, dataset: object, bs: int | None = 64, wgts: Weights | None = None, shuffle: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(dataset, bs=bs, shuffle=shuffle, **{"weights": wgts, **kwargs})


class PartialDL(TfmdDL):
    """A loader whose epochs are `partial_n` of the items, chosen anew each time; all of them where it is not shuffled.

    Examples:
        >>> len(PartialDL(list(range(100)), bs=8, partial_n=20))
        3
    """

    def __init__(
        self, dataset: object, bs: int | None = 64, partial_n: int | None = None, shuffle: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(dataset, bs=bs, shuffle=shuffle, **kwargs)
        if partial_n is not None:
            if partial_n < 1 or not shuffle or self.n is None:
                raise BadValue(
                    "partial_n is the number of items of a shuffled epoch",
                    got=f"partial_n={partial_n} of {self.n} items, shuffle={shuffle}",
                    fix="a number from 1, and shuffle=True",
                )
            self.chooser = Part(self.n, min(partial_n, self.n))
