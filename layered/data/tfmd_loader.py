"""`TfmdDL`: the loader whose stages are pipelines of transforms, and which can show and decode its batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

import torch

from layered.data.adapters import PipelineColumn, as_dataset
from layered.data.conversions import Tfms, slot_transforms
from layered.data.loader import DataLoader
from layered.data.samplers import Part, Weights
from layered.data.workers import default_workers
from layered.foundation import (
    BadValue,
    ItemTransform,
    L,
    Pipeline,
    Transform,
    is_named_tuple,
    map_tree,
    retype,
    seeded,
    verb,
    without_axes,
)

_SLOTS = ("after_item", "before_batch", "after_batch")


class TfmdDL(DataLoader):
    """A loader whose slots `after_item`, `before_batch` and `after_batch` are pipelines of transforms.

    Args:
        dataset: A `Datasets`, `TfmdLists`, or anything `DataLoader` takes.
        bs: Items per batch; None if the items are batches already.
        shuffle: Use a new order each epoch.
        num_workers: Processes that make batches; by default one per core, at most 16, for data that is made by
            transforms, and 0 for other data.
        verbose: Print each slot that is set up.
        do_setup: Fit batch transforms that need data (`Normalize()`) to one batch.
        after_item: Transforms of single samples, where the batch is made.
        before_batch: Transforms of the list of samples before it is collated, such as padding.
        after_batch: Transforms of batches, on the device.
        kwargs: As for `DataLoader`: `drop_last`, `device`, `seed`, `weights`, ….
    """

    def __init__(
        self,
        dataset: object,
        bs: int | None = 64,
        shuffle: bool = False,
        num_workers: int | None = None,
        verbose: bool = False,
        do_setup: bool = True,
        after_item: Tfms = None,
        before_batch: Tfms = None,
        after_batch: Tfms = None,
        **kwargs: Any,
    ) -> None:
        declared = as_dataset(dataset)
        self._inferred_n_inp: int | None = None
        super().__init__(dataset, bs=bs, shuffle=shuffle, num_workers=num_workers or 0, **kwargs)
        self.after_item = Pipeline(slot_transforms(after_item, "after_item"), declared.split_idx)  # type: ignore[method-assign,assignment]  # stages are slots
        self.before_batch = Pipeline(slot_transforms(before_batch, "before_batch"), declared.split_idx)  # type: ignore[method-assign,assignment]
        self.after_batch = Pipeline(slot_transforms(after_batch, "after_batch"), declared.split_idx)  # type: ignore[method-assign,assignment]
        if num_workers is None:
            self.workers_by_default = True
            self.num_workers = default_workers() if declared.starts_workers else 0
        if do_setup:
            for slot in _SLOTS:
                if verbose and len(getattr(self, slot)):
                    print(f"Setting up {slot}: {getattr(self, slot)}")
                getattr(self, slot).setup(self)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _SLOTS and not isinstance(value, Pipeline):
            is_function = callable(value) and not isinstance(value, (Transform, type))
            value = Pipeline(ItemTransform(value) if is_function else value, self._declared.split_idx)
        super().__setattr__(name, value)
        if name == "dataset" and "after_batch" in self.__dict__:
            for slot in _SLOTS:
                setattr(self, slot, getattr(self, slot).for_split(self._declared.split_idx))

    @property
    def n_inp(self) -> int:
        """How many leading elements of a batch are inputs: as the data set declares, else all but the last."""
        declared = self._declared.n_inp
        if declared is not None:
            return int(declared)
        if self._inferred_n_inp is None:
            batch = self.one_batch()
            self._inferred_n_inp = 1 if not isinstance(batch, (tuple, list)) or len(batch) == 1 else len(batch) - 1
        return self._inferred_n_inp

    def new(self, dataset: object = None, cls: type[DataLoader] | None = None, **changes: Any) -> Any:
        """A loader like this one, over another data set or with changes; its slots apply to the split of the data set.

        Args:
            dataset: Another data set; None keeps this one.
            cls: Another class of loaders.
            changes: New values of constructor arguments, stages and slots.
        """
        if cls is not None and cls is not type(self):
            return super().new(dataset, cls, **changes)
        slots = {name: changes.pop(name) for name in _SLOTS if name in changes}
        res = super().new(dataset, **changes)
        split_idx = res._declared.split_idx
        for name in _SLOTS:
            given = name in slots
            pipeline = Pipeline(slot_transforms(slots[name], name)) if given else getattr(res, name)
            setattr(res, name, pipeline.for_split(split_idx))
        return res

    def _over(self, dataset: object) -> Self:
        res, split_idx = super()._over(dataset), as_dataset(dataset).split_idx
        if split_idx != self.after_item.split_idx:  # type: ignore[attr-defined]  # a pipeline
            for name in _SLOTS:
                setattr(res, name, getattr(res, name).for_split(split_idx))
        return res

    def decode(self, b: object) -> Any:
        """Undo the batch transforms."""
        batch = self.after_batch.decode(b)  # type: ignore[attr-defined]  # a pipeline
        return self.before_batch.decode(batch)  # type: ignore[attr-defined]

    def decode_batch(self, b: object, max_n: int = 9, full: bool = True) -> L:
        """The first samples of a batch, decoded through batch and item transforms and the pipelines of the data set.

        Args:
            b: A batch.
            max_n: The largest number of samples.
            full: Undo the pipelines completely; False stops where an element can be shown.
        """
        decoded = self.decode(b)
        samples = batch_to_samples(map_tree(lambda o: o.cpu() if isinstance(o, torch.Tensor) else o, decoded), max_n)
        return samples.map(lambda o: self._decode_item(o, full))

    def _decode_item(self, sample: object, full: bool) -> Any:
        item = self.after_item.decode(sample)  # type: ignore[attr-defined]  # a pipeline
        return self._declared.decode(item, full=full)

    def decode_target(self, parts: tuple[Any, ...], inputs: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        """Decode the decision about one item into the types of its targets: a `Category`, …

        Args:
            parts: One decision for each target.
            inputs: The inputs, a batch of this one item.
        """
        kinds = [column.element_type for column in self._target_columns()] or [None] * len(parts)
        typed = tuple(_as_kind(part, kind) for part, kind in zip(parts, kinds, strict=False))
        beside = inputs if any(t.needs_inputs for t in self.after_item) else ()  # type: ignore[attr-defined]  # a pipeline
        batch = self.after_batch.decode((*beside, *_map_tensors(lambda t: t[None], typed)))  # type: ignore[attr-defined]  # a pipeline
        sample = self.after_item.decode(_map_tensors(lambda t: t[0], batch))  # type: ignore[attr-defined]  # a pipeline
        undone = sample[len(beside) :]
        decoded = tuple(decode(part) for decode, part in zip(self._target_decoders(), undone, strict=False))
        return decoded or tuple(undone)

    def _target_columns(self) -> Sequence[PipelineColumn]:
        return self._declared.columns[self._declared.n_inp or 1 :]

    def _target_decoders(self) -> list[Callable[[Any], Any]]:
        return [partial(column.decode, full=column.element_type is not None) for column in self._target_columns()]

    def show_batch(
        self,
        b: object = None,
        max_n: int = 9,
        ctxs: object = None,
        show: bool = True,
        unique: bool = False,
        **kwargs: object,
    ) -> Any:
        """Show the first samples of a batch with their targets.

        Args:
            b: The batch; by default a new one, made without advancing the loader.
            max_n: The largest number of samples.
            ctxs: The axes to draw on; by default new ones.
            show: False returns (inputs, targets, samples) and draws nothing.
            unique: Show the same item repeatedly, to look at its augmentation.
            kwargs: For the function that shows this type of data: `figsize`, ….
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
        if isinstance(b, tuple) and hasattr(b, "show"):  # a sample type that shows itself
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
        """Show the samples of a batch with target and prediction.

        Args:
            b: The batch.
            out: The decisions about it, in the form of the targets: class numbers, ….
            max_n: The largest number of samples.
            ctxs: The axes to draw on; by default new ones.
            show: False returns (inputs, targets, samples, decoded decisions) and draws nothing.
            kwargs: For the function that shows this type of data: `figsize`, ….
        """
        x, y, samples = self._pre_show_batch(b, max_n)
        outs = self.decode_results(b, out, max_n)
        if not show:
            return x, y, samples, outs
        return without_axes(verb("show_results")(x, y, samples, outs, ctxs=ctxs, max_n=max_n, **kwargs), ctxs)

    def decode_results(self, b: Any, out: object, max_n: int = 9) -> L:
        """The first `max_n` decisions `out` about batch `b`, decoded like its targets; a tuple for each sample."""
        outs, targets = out if isinstance(out, tuple) else (out,), b[self.n_inp :]
        outs = tuple(itertools.starmap(_in_shape, zip(outs, targets, strict=False)))
        if [o.ndim for o in outs] == [t.ndim if isinstance(t, torch.Tensor) else None for t in targets]:
            outs = tuple(map(retype, outs, targets))
        return self.decode_batch((*b[: self.n_inp], *outs), max_n).map(lambda o: tuple(o[self.n_inp :]))

    def _facts(self) -> tuple[str, dict[str, object]]:
        title, _ = super()._facts()
        slots = {name: " → ".join(map(repr, getattr(self, name))) for name in _SLOTS}
        return title, {name: text for name, text in slots.items() if text}


def _in_shape(out: Any, target: object) -> Any:
    """The numbers that a model predicts for points, [batch, number], in the shape of its targets, [batch, point, 2]."""
    if isinstance(target, torch.Tensor) and out.ndim == 2 < target.ndim and out.numel() == target.numel():
        return out.reshape(target.shape)
    return out


def _as_kind(part: object, kind: type | None) -> Any:
    """A decision in the type of its targets, if that is known."""
    if kind is None or not isinstance(part, torch.Tensor) or not issubclass(kind, torch.Tensor):
        return part
    return part.as_subclass(kind)


def _map_tensors(f: Callable[[torch.Tensor], torch.Tensor], tree: object) -> Any:
    return map_tree(lambda o: f(o) if isinstance(o, torch.Tensor) else o, tree)


def batch_to_samples(b: Any, max_n: int = 10) -> L:
    """The first `max_n` samples of a batch, with its structure: tuples of a tuple, mappings of a mapping."""
    if isinstance(b, Mapping):
        columns = zip(*(batch_to_samples(part, max_n) for part in b.values()), strict=True)
        return L([dict(zip(b, values, strict=True)) for values in columns], use_list=True)
    if isinstance(b, (tuple, list)) and not all(isinstance(o, str) for o in b):
        samples = list(zip(*(batch_to_samples(part, max_n) for part in b), strict=True))
        has_own_type = isinstance(b, tuple) and type(b) is not tuple and not is_named_tuple(b)
        return L([retype(sample, b) for sample in samples] if has_own_type else samples, use_list=True)
    return L([b[i] for i in range(min(len(b), max_n))], use_list=True)


class WeightedDL(TfmdDL):
    """A loader that draws its items with replacement, with probabilities in proportion to their weights.

    Args:
        dataset: As for `TfmdDL`.
        bs: Items per batch.
        wgts: A weight for each item, "balanced" or "oversample": the argument `weights` of `DataLoader`, which any
            loader takes.
        shuffle: Draw by weight; False takes all items in their order.
        kwargs: As for `TfmdDL`.

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
    """A loader that takes a different random subset of the items each epoch.

    Args:
        dataset: As for `TfmdDL`.
        bs: Items per batch.
        partial_n: Items per epoch; None takes all.
        shuffle: Must be True with `partial_n`.
        kwargs: As for `TfmdDL`.

    Raises:
        BadValue: `partial_n` is below 1, or the loader is not shuffled or has no length.

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
                    "invalid partial_n, the number of items of a shuffled epoch",
                    got=f"partial_n={partial_n} of {self.n} items, shuffle={shuffle}",
                    fix="use a number from 1, and shuffle=True",
                )
            self.chooser = Part(self.n, min(partial_n, self.n))
