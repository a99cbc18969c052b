"""How a batch is made of a data set: the stages that run where the work is, in this process or in a worker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
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


class BatchMaker:
    """Makes batches: `create_item` → `after_item` for each item, then `before_batch` → `create_batch` → `retain`.

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
            raise failed(error, f"making {self._name_of(i)}") from error
        return self._transformed(item, i)

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

    # -- one batch of a plan

    def make_batch(self, plan: TicketBatch) -> MadeBatch:
        """A collated batch (None if nothing is left of it), the plan of what is in it, and the items left out."""
        items = plan.listed()
        samples, kept, bad = self._samples(plan, items)
        plan = plan.only(kept)
        if not samples:
            return None, plan, bad
        foreign = is_foreign(self.before_batch) or is_foreign(self.create_batch) or is_foreign(self.retain)
        try:
            with batch_tickets(plan, 1, foreign):
                return self.do_batch(samples[0] if self.prebatched else samples), plan, bad
        except Exception as error:
            rows = kept[:3]
            if isinstance(error, MixedSizes) and error.rows:
                rows = [kept[row] for row in error.rows]
            names = " and ".join(self._name_of(items[row]) for row in rows)
            raise failed(error, f"collating {names}{' and others' if len(kept) > len(rows) > 2 else ''}") from error

    def _samples(self, plan: TicketBatch, items: list[Any]) -> tuple[list[Any], list[int], list[str]]:
        """The samples of a batch, each drawn under its ticket; the rows they stand in; and the items left out."""
        samples, kept, bad = [], [], []
        foreign, fetched = self._items_are_foreign, self._fetch(plan, items)
        with seeded(plan.batch_key) if foreign else nullcontext():
            for row, (i, key) in enumerate(zip(items, plan.keys.tolist(), strict=True)):
                if foreign:
                    reseed(key)
                try:
                    with drawing(Tickets(key)):
                        samples.append(self.do_item(i) if fetched is None else self._transformed(fetched[row], i))
                    kept.append(row)
                except SkipItemException:
                    continue
                except Exception as error:
                    if self.on_bad != "skip":
                        raise
                    bad.append(_in_a_line(error))
        return samples, kept, bad

    def _fetch(self, plan: TicketBatch, items: list[Any]) -> list[Any] | None:
        """The items in one call, of a data set that offers it (`__getitems__`); what it draws depends on the batch.

        None without that, and where it fails: then they are made one by one, for an error that names the item.
        """
        fetch = as_dataset(self.dataset).fetch
        if fetch is None or not (self.indexed and self._all_default("create_item", "do_item")):
            return None
        with batch_tickets(plan, 0, True):
            try:
                return list(fetch(items))
            except Exception:
                return None

    def _transformed(self, item: Any, i: Any) -> Any:
        try:
            return self.after_item(item)
        except SkipItemException:
            raise
        except Exception as error:
            raise failed(error, f"transforming {self._name_of(i)}") from error

    def _name_of(self, i: Any) -> str:
        return as_dataset(self.dataset).describe_item(i) if self.indexed else describe(i)

    @property
    def _items_are_foreign(self) -> bool:
        """Whether making an item runs code that is not ours, and may draw from a global generator."""
        dataset = self.dataset
        plain = isinstance(dataset, (np.ndarray, Tensor, TensorDataset)) or dataset is None
        stages = (self.create_item, self.after_item, self.do_item)
        return (not plain and is_foreign(dataset)) or any(map(is_foreign, stages))

    def _all_default(self, *stages: str) -> bool:
        """Whether all these stages are as they were first defined, or pipelines without steps."""
        return all(map(self._is_default, stages))

    def _is_default(self, name: str) -> bool:
        stage = getattr(self, name)
        if isinstance(stage, Pipeline):
            return len(stage) == 0
        first = next(vars(kind)[name] for kind in reversed(type(self).__mro__) if name in vars(kind))
        return getattr(stage, "__func__", None) is first


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
