"""How a batch is made of a data set: the stages that run in this process or in a worker."""

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
from layered.data.deferral import Deferral, deferring
from layered.data.item_cache import ItemCache
from layered.data.samplers import TicketBatch
from layered.foundation import (
    LayeredError,
    MixedSizes,
    Pipeline,
    Tickets,
    describe,
    drawing,
    failed,
    in_own_context,
    is_foreign,
    key_of,
    reseed,
    seeded,
)


class SkipItemException(Exception):
    """Raised by code that makes an item, to leave the item out of its batch."""


MadeBatch = tuple[Any, TicketBatch, list[str]]  # a collated batch, the plan of its items, messages about those left out


class Stages:
    """The stages of making a batch: `create_item` → `after_item` for each item, then `before_batch` → `create_batch` → `retain`.

    `do_item` and `do_batch` are these two halves. Any of them can be overridden, passed to the loader or assigned to it.
    """

    dataset: Any
    bs: int | None
    drop_last: bool
    indexed: bool
    on_bad: str
    cache: ItemCache | None = None

    # -- the stages

    def wif(self) -> None:
        """Runs in each worker when it starts."""

    def create_item(self, i: Any) -> Any:
        """Item `i` of the data set; for a stream, `i` is the item."""
        return self.dataset[i] if self.indexed else i

    def after_item(self, item: Any) -> Any:
        """Transform one item."""
        return item

    def before_batch(self, samples: Any) -> Any:
        """Transform the samples of a batch before they are collated, such as by padding."""
        return samples

    def create_batch(self, samples: Any) -> Any:
        """Collate a list of samples; of an item that is already a batch, convert the arrays to tensors."""
        return fa_convert(samples) if self.prebatched else fa_collate(samples)

    def retain(self, batch: Any, samples: Any) -> Any:
        """Finish a collated batch, given its samples; by default nothing, since collating keeps their types."""
        return batch

    def do_item(self, i: Any) -> Any:
        """Make and transform item `i`; an error names it."""
        try:
            item = self.create_item(i)
        except (SkipItemException, LayeredError):
            raise
        except Exception as error:
            raise failed(error, f"making {self.item_name(i)}") from error
        return self.transformed(item, i)

    def do_batch(self, samples: Any) -> Any:
        """Make a batch of samples; or of one item, if the items are batches already."""
        samples = self.before_batch(samples)
        return self.retain(self.create_batch(samples), samples)

    @property
    def prebatched(self) -> bool:
        """Whether the items are batches already."""
        return self.bs is None

    def chunkify(self, samples: Iterable[Any]) -> Iterator[Any]:
        """Group samples into lists of `bs`; samples that are batches already pass unchanged."""
        samples = iter(samples)
        if self.bs is None:
            yield from samples
            return
        while chunk := list(islice(samples, self.bs)):
            if len(chunk) == self.bs or not self.drop_last:
                yield chunk

    def create_batches(self, samples: Iterable[Any]) -> Iterator[Any]:
        """Make all batches of an epoch, given its positions; override it for a custom way to make batches.

        This body is equivalent to the default, which instead makes each batch on its own, in this process or in a
        worker, and draws with a key per item. An override runs in this process, and draws with a key per batch.
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
        """Apply `after_item` to item `i`; an error names it."""
        try:
            if self.cache is not None and isinstance(self.after_item, Pipeline):
                return self.cache.transformed(self.after_item, item)
            return self.after_item(item)
        except SkipItemException:
            raise
        except Exception as error:
            raise failed(error, f"transforming {self.item_name(i)}") from error

    def item_name(self, i: object) -> str:
        """Item `i` in a message."""
        return as_dataset(self.dataset).describe_item(i) if self.indexed else describe(i)

    def all_default(self, *stages: str) -> bool:
        """Whether all these stages have their original definition, or are empty pipelines."""
        return all(map(self._is_default, stages))

    def _is_default(self, name: str) -> bool:
        stage = getattr(self, name)
        if isinstance(stage, Pipeline):
            return len(stage) == 0
        first = next(vars(kind)[name] for kind in reversed(type(self).__mro__) if name in vars(kind))
        return isinstance(stage, MethodType) and stage.__func__ is first


class BatchMaker:
    """Makes the planned batches by the stages of a loader, in this process or in a worker.

    Args:
        stages: The loader, or a copy of it over another data set or for a worker.
    """

    def __init__(self, stages: Stages) -> None:
        self.stages = stages

    @in_own_context
    def make(self, plan: TicketBatch) -> MadeBatch:
        """A collated batch (None if no item is left), the plan of its items, and messages about the items left out."""
        stages, items = self.stages, plan.listed()
        with deferring(self._deferral):
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

    @in_own_context
    def make_one(self) -> Any:
        """A batch of item 0 alone, for a prediction. No generator is seeded, so threads may predict at the same time."""
        stages = self.stages
        if not stages.all_default("create_batches"):
            return next(iter(stages.create_batches([0])))
        fetch = self._fetch
        with deferring(self._deferral):
            sample = stages.do_item(0) if fetch is None else stages.transformed(fetch([0])[0], 0)
        return stages.do_batch(sample if stages.prebatched else [sample])

    def _samples(self, plan: TicketBatch, items: list[Any]) -> tuple[list[Any], list[int], list[str]]:
        """The samples of a batch, each made under its own ticket; their rows in the plan; messages about those left out."""
        samples, kept, bad = [], [], []
        stages, foreign = self.stages, self._items_are_foreign
        fetched = self._fetched(plan, items)
        with seeded(plan.batch_key) if foreign else nullcontext():
            for row, (i, key, place) in enumerate(zip(items, plan.keys.tolist(), plan.positions, strict=True)):
                if foreign:
                    reseed(key)
                try:
                    with drawing(Tickets(key, place=place)):
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
    def _deferral(self) -> Deferral:
        """How much of the files of items may be left for their transforms to read."""
        return Deferral.PIXELS if self.stages.cache is None else Deferral.FILES

    @property
    def _fetch(self) -> Callable[[list[Any]], list[Any]] | None:
        """The data set's function for several items, unless a stage that makes single items is overridden."""
        fetch = as_dataset(self.stages.dataset).fetch if self.stages.indexed else None
        return fetch if fetch is not None and self.stages.all_default("create_item", "do_item") else None

    def _fetched(self, plan: TicketBatch, items: list[Any]) -> list[Any] | None:
        """The items from one call of `__getitems__`, whose draws depend on the batch.

        None if the data set has no such method or the call fails: the items are then made singly, so that an error names
        the one at fault.
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
    """Context for one stage of a batch: draws are keyed by it, and for foreign code the global generators are seeded."""
    key = plan.batch_key
    with drawing(Tickets(plan.keys, key, stage, plan.number)), seeded(key_of(key, stage)) if foreign else nullcontext():
        yield


def _in_a_line(error: Exception) -> str:
    if isinstance(error, LayeredError):
        return error.problem if error.got is None else f"{error.problem}: {error.got}"
    return f"{type(error).__name__}: {error}"
