"""How a batch is made of a data set: the stages that run where the work is, in this process or in a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from types import MethodType
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import TensorDataset

from layered.data.adapters import as_dataset
from layered.data.collate import fa_collate, fa_convert
from layered.data.samplers import TicketBatch
from layered.foundation import (
    LayeredError,
    MixedSizes,
    Pipeline,
    Tickets,
    describe,
    drawing,
    failed,
    is_foreign,
    key_of,
    reseed,
    seeded,
)


class SkipItemException(Exception):
    """Raised by code that makes an item: the loader leaves the item out."""


MadeBatch = tuple[Any, TicketBatch, list[str]]  # a collated batch, the plan of what is in it, the items left out


class Stages:
    """The stages of making a batch: `create_item` → `after_item` for each item, then `before_batch` → `create_batch` → `retain`.

    `do_item` and `do_batch` are these two halves. Any of them can be overridden, given or assigned.
    """

    dataset: Any
    bs: int | None
    drop_last: bool
    indexed: bool
    on_bad: str

    # -- the stages

    def wif(self) -> None:
        """Runs in each worker when it starts."""

    def create_item(self, i: Any) -> Any:
        """Item `i` of the data set; of a stream, the item that came."""
        return self.dataset[i] if self.indexed else i

    def after_item(self, item: Any) -> Any:
        """What becomes of one item."""
        return item

    def before_batch(self, samples: Any) -> Any:
        """What becomes of the samples of a batch before they are collated, such as padding."""
        return samples

    def create_batch(self, samples: Any) -> Any:
        """One batch of a list of samples; of an item that is a batch already, tensors."""
        return fa_convert(samples) if self.prebatched else fa_collate(samples)

    def retain(self, batch: Any, samples: Any) -> Any:
        """What becomes of a batch, given the samples it was made of. (Collating keeps their types already.)"""
        return batch

    def do_item(self, i: Any) -> Any:
        """Item `i`, made and transformed; a failure names it."""
        try:
            item = self.create_item(i)
        except (SkipItemException, LayeredError):
            raise
        except Exception as error:
            raise failed(error, f"making {self.item_name(i)}") from error
        return self.transformed(item, i)

    def do_batch(self, samples: Any) -> Any:
        """One batch of samples; of an item, where items are batches already."""
        samples = self.before_batch(samples)
        return self.retain(self.create_batch(samples), samples)

    @property
    def prebatched(self) -> bool:
        """Whether the items are batches already."""
        return self.bs is None

    def chunkify(self, samples: Iterable[Any]) -> Iterator[Any]:
        """Samples in lists of `bs`; as they are, where they are batches already."""
        samples = iter(samples)
        if self.bs is None:
            yield from samples
            return
        while chunk := list(islice(samples, self.bs)):
            if len(chunk) == self.bs or not self.drop_last:
                yield chunk

    def create_batches(self, samples: Iterable[Any]) -> Iterator[Any]:
        """All batches of an epoch, given its positions; override it to make batches in a way of your own.

        This is what it comes to. By default each batch is made by itself, here or in a worker, and each item draws with
        a key of its own; batches of an override are made here, and draw with a key a batch.
        """
        return map(self.do_batch, self.chunkify(self._not_skipped(samples)))

    def _not_skipped(self, samples: Iterable[Any]) -> Iterator[Any]:
        for i in samples:
            try:
                item = self.do_item(i)
            except SkipItemException:
                continue
            yield item

    def transformed(self, item: object, i: object) -> Any:
        """Item `i` after `after_item`; a failure names it."""
        try:
            return self.after_item(item)
        except SkipItemException:
            raise
        except Exception as error:
            raise failed(error, f"transforming {self.item_name(i)}") from error

    def item_name(self, i: object) -> str:
        """Item `i` in a message."""
        return as_dataset(self.dataset).describe_item(i) if self.indexed else describe(i)

    def all_default(self, *stages: str) -> bool:
        """Whether all these stages are as they were first defined, or pipelines without steps."""
        return all(map(self._is_default, stages))

    def _is_default(self, name: str) -> bool:
        stage = getattr(self, name)
        if isinstance(stage, Pipeline):
            return len(stage) == 0
        first = next(vars(kind)[name] for kind in reversed(type(self).__mro__) if name in vars(kind))
        return isinstance(stage, MethodType) and stage.__func__ is first


class BatchMaker:
    """Makes the batches of a plan by the stages of a loader, in this process or in a worker.

    Args:
        stages: The loader, or a copy of it over another data set or for a worker.
    """

    def __init__(self, stages: Stages) -> None:
        self.stages = stages

    def make(self, plan: TicketBatch) -> MadeBatch:
        """A collated batch (None if nothing is left of it), the plan of what is in it, and the items left out."""
        stages, items = self.stages, plan.listed()
        samples, kept, bad = self._samples(plan, items)
        plan = plan.only(kept)
        if not samples:
            return None, plan, bad
        foreign = any(map(is_foreign, (stages.before_batch, stages.create_batch, stages.retain)))
        try:
            with batch_tickets(plan, 1, foreign):
                return stages.do_batch(samples[0] if stages.prebatched else samples), plan, bad
        except Exception as error:
            rows = kept[:3]
            if isinstance(error, MixedSizes) and error.rows:
                rows = [kept[row] for row in error.rows]
            names = " and ".join(stages.item_name(items[row]) for row in rows)
            raise failed(error, f"collating {names}{' and others' if len(kept) > len(rows) > 2 else ''}") from error

    def make_one(self) -> Any:
        """A batch of item 0 alone, for a prediction. No generator is seeded, so threads may predict at the same time."""
        stages = self.stages
        if not stages.all_default("create_batches"):
            return next(iter(stages.create_batches([0])))
        fetch = self._fetch
        sample = stages.do_item(0) if fetch is None else stages.transformed(fetch([0])[0], 0)
        return stages.do_batch(sample if stages.prebatched else [sample])

    def _samples(self, plan: TicketBatch, items: list[Any]) -> tuple[list[Any], list[int], list[str]]:
        """The samples of a batch, each drawn under its ticket; the rows they stand in; and the items left out."""
        samples, kept, bad = [], [], []
        stages, foreign = self.stages, self._items_are_foreign
        fetched = self._fetched(plan, items)
        with seeded(plan.batch_key) if foreign else nullcontext():
            for row, (i, key) in enumerate(zip(items, plan.keys.tolist(), strict=True)):
                if foreign:
                    reseed(key)
                try:
                    with drawing(Tickets(key)):
                        samples.append(stages.do_item(i) if fetched is None else stages.transformed(fetched[row], i))
                    kept.append(row)
                except SkipItemException:
                    continue
                except Exception as error:
                    if stages.on_bad != "skip":
                        raise
                    bad.append(_in_a_line(error))
        return samples, kept, bad

    @property
    def _fetch(self) -> Callable[[list[Any]], list[Any]] | None:
        """What makes several items in one call, unless a stage makes items in its own way."""
        fetch = as_dataset(self.stages.dataset).fetch if self.stages.indexed else None
        return fetch if fetch is not None and self.stages.all_default("create_item", "do_item") else None

    def _fetched(self, plan: TicketBatch, items: list[Any]) -> list[Any] | None:
        """The items in one call, if the data set offers that (`__getitems__`); what it draws depends on the batch.

        None without that, and where it fails: the items are then made one by one, for an error that names the item.
        """
        fetch = self._fetch
        if fetch is None:
            return None
        with batch_tickets(plan, 0, True):
            try:
                return list(fetch(items))
            except Exception:
                return None

    @property
    def _items_are_foreign(self) -> bool:
        """Whether making an item runs code from outside this library, which may draw from a global generator."""
        stages, dataset = self.stages, self.stages.dataset
        is_plain = isinstance(dataset, (np.ndarray, Tensor, TensorDataset)) or dataset is None
        makers = (stages.create_item, stages.after_item, stages.do_item)
        return (not is_plain and is_foreign(dataset)) or any(map(is_foreign, makers))


@contextmanager
def batch_tickets(plan: TicketBatch, stage: int, foreign: bool) -> Iterator[None]:
    """What a batch draws at one stage; foreign code finds the global generators seeded for it."""
    key = plan.batch_key
    with drawing(Tickets(plan.keys, key, stage)), seeded(key_of(key, stage)) if foreign else nullcontext():
        yield


def _in_a_line(error: Exception) -> str:
    if isinstance(error, LayeredError):
        return error.problem if error.got is None else f"{error.problem}: {error.got}"
    return f"{type(error).__name__}: {error}"
