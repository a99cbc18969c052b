"""The loader: makes batches of a data set, in this process or in workers, always the same ones.

An epoch is planned in the parent (`get_idxs`, shuffling, tickets); a batch is made where the work is
(`create_item` → `after_item` → `before_batch` → `create_batch`); it is moved to the device and finished in the parent
(`after_batch`). Every stage can be overridden in a subclass, by a constructor argument, or by assignment.
"""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import IterableDataset, TensorDataset

from layered.data.collate import fa_collate, fa_convert
from layered.data.samplers import EpochKey, TicketBatch, plan_batches
from layered.data.workers import Plan, WorkerSide, open_made, start_worker
from layered.foundation.arguments import names_of
from layered.foundation.errors import BadValue, LayeredError, MixedSizes, failed, refuse_unknown
from layered.foundation.helpers import noop
from layered.foundation.pipeline import Pipeline, describe
from layered.foundation.seeds import Tickets, drawing, key_of, permutation, seeded
from layered.foundation.transform import is_foreign
from layered.foundation.tree import to_device


class SkipItemException(Exception):
    """Raised by code that makes an item: the loader leaves the item out."""


MadeBatch = tuple[Any, TicketBatch, list[str]]  # a collated batch, the plan of what is in it, the items left out
STAGES = (
    "get_idxs", "shuffle_fn", "create_item", "after_item", "before_batch", "create_batch", "after_batch", "before_iter",
    "after_iter", "wif",
)  # fmt: skip


class DataLoader:
    """Batches of `dataset`, an epoch each time it is iterated over.

    dataset     anything with `len` and indexing, a torch data set, or an iterable without length (a stream)
    bs          items a batch; None: the items are batches already. `batch_size` is the same
    shuffle     a new order each epoch
    drop_last   leave out a last batch that is not full
    num_workers processes that make batches; 0 makes them here
    n           use only so many items
    device      where batches go; None leaves them
    seed        what shuffling and augmentation depend on; by default `torch.initial_seed()`, read when an epoch starts
    on_bad      "raise", or "skip": leave out items that cannot be made, with a warning that names them
    stages      functions in place of the stages `get_idxs`, `create_item`, `after_item`, `before_batch`, `create_batch`,
                `after_batch`, …

    >>> list(DataLoader([1, 2, 3, 4, 5], bs=2))
    [tensor([1, 2]), tensor([3, 4]), tensor([5])]
    """

    def __init__(
        self,
        dataset: Any = None,
        bs: int | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        timeout: float = 0,
        batch_size: int | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        indexed: bool | None = None,
        n: int | None = None,
        device: torch.device | str | None = None,
        persistent_workers: bool = False,
        seed: int | None = None,
        on_bad: str = "raise",
        multiprocessing_context: Any = None,
        **stages: Callable[..., Any],
    ) -> None:
        if not stages.keys() <= set(STAGES):
            refuse_unknown(stages, arguments_of(type(self)), type(self).__name__)
        bs = batch_size if batch_size is not None else bs
        if bs is not None and (not isinstance(bs, int) or bs < 1):
            raise BadValue("bs is the number of items a batch", got=bs, expected="a whole number from 1")
        if on_bad not in ("raise", "skip"):
            raise BadValue(
                "on_bad says what to do with an item that cannot be made", got=on_bad, expected="'raise' or 'skip'"
            )
        self.dataset, self.bs, self.shuffle, self.drop_last = dataset, bs, shuffle, drop_last
        self.indexed = (
            indexed
            if indexed is not None
            else not isinstance(dataset, IterableDataset) and (dataset is None or hasattr(dataset, "__getitem__"))
        )
        self.num_workers, self.pin_memory, self.timeout = num_workers, pin_memory, timeout
        self.persistent_workers, self.multiprocessing_context = persistent_workers, multiprocessing_context
        self.device = None if device is None else torch.device(device)
        self.seed, self.on_bad = seed, on_bad
        self.rank, self.world = _rank_and_world()
        if n is None and hasattr(dataset, "__len__"):
            n = len(dataset)
        self.n = n
        for name, function in stages.items():
            setattr(self, name, function)
        self.workers_by_default = False
        self._from_the_start()

    def _from_the_start(self) -> None:
        """No pass was made yet."""
        self._epoch, self._purpose, self._start, self.consumed, self._peeks = -1, "train", 0, 0, 0
        self._epoch_is_set = False
        self._running: EpochKey | None = None
        self._torch_loader: tuple[Any, TorchDataLoader[Any]] | None = None

    def __len__(self) -> int:
        if self.n is None:
            raise TypeError(f"a {type(self).__name__} over a stream has no length")
        if self.bs is None:
            return self.n
        rows = self.bs * self.world
        return self.n // rows if self.drop_last else max(0, math.ceil((self.n - self.rank) / rows))

    # -- which epoch is next

    def set_epoch(self, epoch: int, purpose: str = "train") -> None:
        """Fix what the next pass draws with: the same epoch and purpose give the same batches."""
        self._epoch, self._purpose, self._epoch_is_set = epoch, purpose, True

    @contextmanager
    def peeking(self) -> Iterator[DataLoader]:
        """Passes made inside look at the data without moving anything on: the next epoch is as if they had not been."""
        saved = self._epoch, self._purpose, self._epoch_is_set, self._start, self.consumed, self._running
        self._peeks += 1
        self.set_epoch(self._peeks, "peek")
        self._start = 0
        try:
            yield self
        finally:
            self._epoch, self._purpose, self._epoch_is_set, self._start, self.consumed, self._running = saved

    def _next_epoch(self) -> EpochKey:
        seed = self.seed if self.seed is not None else torch.initial_seed()
        return EpochKey(seed, self._purpose, self._epoch if self._epoch_is_set else self._epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """Where it stands: seed, purpose and epoch of the pass that runs, and how many batches were taken; between passes,
        of the next one."""
        if self._running is None:
            return {**self._next_epoch()._asdict(), "consumed": self._start}
        return {**self._running._asdict(), "consumed": self.consumed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next pass goes on where `state` was taken: the same epoch, from the batch after those consumed."""
        self.seed, self._running = state["seed"], None
        self.set_epoch(state["epoch"], state["purpose"])
        self._start = state["consumed"]

    # -- the stages

    def get_idxs(self) -> Any:
        """The items of an epoch, in order: positions, int64 [n]. Runs in the parent."""
        order = np.arange(self.n or 0)
        return self.shuffle_fn(order) if self.shuffle else order

    def shuffle_fn(self, order: Any) -> Any:
        """A new order of the same positions, by the key of the epoch."""
        epoch = self._running.key if self._running is not None else key_of(torch.initial_seed(), "shuffle")
        return np.asarray(order)[permutation(len(order), key_of(epoch, "order")).numpy()]

    def create_item(self, i: Any) -> Any:
        """Item `i` of the data set."""
        return self.dataset[i]

    def after_item(self, item: Any) -> Any:
        """What becomes of one item."""
        return item

    def before_batch(self, samples: list[Any]) -> list[Any]:
        """What becomes of the samples of a batch before they are collated, such as padding."""
        return samples

    def create_batch(self, samples: list[Any]) -> Any:
        """One batch of samples; of an item that is a batch already, tensors."""
        return fa_convert(samples) if self.bs is None else fa_collate(samples)

    def after_batch(self, batch: Any) -> Any:
        """What becomes of a batch, on its device."""
        return batch

    def before_iter(self) -> None:
        """Runs before each pass, in the parent."""

    def after_iter(self) -> None:
        """Runs after each complete pass, in the parent."""

    def wif(self) -> None:
        """Runs in each worker when it starts."""

    # -- making batches

    def do_item(self, i: Any, key: int, foreign: bool = True) -> Any:
        """One sample, drawn under its ticket; foreign code finds the global generators seeded by it."""
        with drawing(Tickets(key)), seeded(key) if foreign else nullcontext():
            try:
                item = self.create_item(i)
            except (SkipItemException, LayeredError):
                raise
            except Exception as error:
                raise failed(error, f"making {self._name_of(i)}") from error
            try:
                return self.after_item(item)
            except SkipItemException:
                raise
            except Exception as error:
                raise failed(error, f"transforming {self._name_of(i)}") from error

    def _name_of(self, i: Any) -> str:
        if hasattr(self.dataset, "describe_item"):
            return str(self.dataset.describe_item(i))
        return f"item {i}" if self.indexed else describe(i)

    def index_batch(self, plan: TicketBatch) -> MadeBatch:
        """The same as `make_batch`, for tensors in memory: whole rows, without making items."""
        rows = torch.as_tensor(plan.indices)
        return tuple(tensor.index_select(0, rows) for tensor in self.dataset.tensors), plan, []

    def make_batch(self, plan: TicketBatch) -> MadeBatch:
        """A collated batch (None if nothing is left of it), the plan of what is in it, and the items left out."""
        samples, kept, bad = [], [], []
        foreign, items = self._items_are_foreign, plan.listed()
        for row, (i, key) in enumerate(zip(items, plan.keys.tolist(), strict=True)):
            try:
                samples.append(self.do_item(i, key, foreign))
                kept.append(row)
            except SkipItemException:
                continue
            except Exception as error:
                if self.on_bad != "skip":
                    raise
                bad.append(_in_a_line(error))
        plan = plan.only(kept)
        if not samples:
            return None, plan, bad
        foreign = is_foreign(self.before_batch) or is_foreign(self.create_batch)
        try:
            with batch_tickets(plan, 1, foreign):
                samples = self.before_batch(samples)
                batch = self.create_batch(samples if self.bs is not None else samples[0])
        except MixedSizes as error:
            names = " and ".join(self._name_of(items[kept[row]]) for row in error.rows)
            raise failed(error, f"collating {names or 'a batch'}") from error
        return batch, plan, bad

    @property
    def _items_are_foreign(self) -> bool:
        dataset = self.dataset
        own = type(dataset) not in (np.ndarray, Tensor, TensorDataset, type(None)) and is_foreign(dataset)
        return own or is_foreign(self.after_item) or is_foreign(self.create_item)

    @property
    def _is_in_memory(self) -> bool:
        """Whether whole batches can be indexed out of tensors: no stage works on single items."""
        item_stages = ("create_item", "after_item", "before_batch", "create_batch")
        return type(self.dataset) is TensorDataset and self.bs is not None and all(map(self._is_default, item_stages))

    def _is_default(self, name: str) -> bool:
        """Whether a stage is the one of this class, or a pipeline without steps."""
        stage = getattr(self, name)
        return (
            len(stage) == 0
            if isinstance(stage, Pipeline)
            else getattr(stage, "__func__", None) is vars(DataLoader)[name]
        )

    def _plan(self, epoch: EpochKey, start: int) -> Iterator[TicketBatch]:
        if self.indexed:
            foreign = is_foreign(self.get_idxs) or is_foreign(self.shuffle_fn)
            with seeded(key_of(epoch.key, "order")) if foreign else nullcontext():
                order = self.get_idxs()
        else:
            order = itertools.islice(self.dataset, self.n)
        return plan_batches(order, epoch.key, self.bs or 1, self.drop_last, start, self.rank, self.world)

    def _batches(self, plan: Iterator[TicketBatch]) -> Iterator[MadeBatch]:
        """Batches in the order of the plan, made here or in workers."""
        if not self.indexed:
            return map(_of_stream(self).make_batch, plan)
        if self._is_in_memory:
            return map(self.index_batch, plan)
        if self.num_workers == 0 or not self._can_send_to_workers():
            return map(self.make_batch, plan)
        return map(open_made, self._workers(plan))

    def _can_send_to_workers(self) -> bool:
        """Whether workers can be given this loader; where they are not forked it has to be pickled."""
        context = self.multiprocessing_context or torch.multiprocessing
        method = context if isinstance(context, str) else context.get_start_method()
        if method == "fork":
            return True
        try:
            pickle.dumps(WorkerSide(self))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            if not self.workers_by_default:
                raise BadValue(
                    f"{self.num_workers} workers were asked for, but something cannot be sent to them",
                    got=str(error),
                    fix="define functions at the top of a module, not as lambdas, or use num_workers=0",
                ) from error
            warnings.warn(f"batches are made without workers, since {error}", stacklevel=4)
            return False
        return True

    def _workers(self, plan: Iterator[TicketBatch]) -> Iterable[Any]:
        stages = (_identity(getattr(self, stage)) for stage in STAGES)
        fingerprint = (id(self.dataset), self.bs, self.num_workers, self.on_bad, *stages)
        if self._torch_loader is None or self._torch_loader[0] != fingerprint or not self.persistent_workers:
            sampler = Plan()
            loader: TorchDataLoader[Any] = TorchDataLoader(
                WorkerSide(self),  # type: ignore[arg-type]  # anything with __getitem__ will do
                batch_size=None,
                sampler=sampler,
                num_workers=self.num_workers,
                collate_fn=noop,
                pin_memory=self.pin_memory,
                timeout=self.timeout,
                worker_init_fn=start_worker,
                multiprocessing_context=self.multiprocessing_context,
                generator=torch.Generator().manual_seed(0),
                persistent_workers=self.persistent_workers,
            )
            self._torch_loader = fingerprint, loader
        loader = self._torch_loader[1]
        loader.sampler.plan = plan  # type: ignore[attr-defined]  # the sampler is a Plan
        return loader

    def __iter__(self) -> Iterator[Any]:
        self._running = self._next_epoch()
        self._epoch, self._epoch_is_set = self._running.epoch, False
        self.before_iter()
        start, self._start = self._start, 0
        self.consumed = start
        plan = self._plan(self._running, start)
        foreign, is_done = is_foreign(self.after_batch), self._is_done_when_made()
        left_out: list[str] = []
        for batch, its_plan, bad in self._batches(plan):
            left_out += bad
            self.consumed += 1
            if batch is not None:
                yield batch if is_done else self._finish(batch, its_plan, foreign)
        if left_out:
            shown = "\n  ".join(left_out[:10])
            count = "1 item" if len(left_out) == 1 else f"{len(left_out)} items"
            warnings.warn(f"{count} could not be made, left out:\n  {shown}", stacklevel=2)
        self._running, self.consumed = None, 0
        self.after_iter()

    def _finish(self, batch: Any, plan: TicketBatch, foreign: bool) -> Any:
        if self.device is not None:
            batch = to_device(batch, self.device, non_blocking=self.pin_memory)
        with batch_tickets(plan, 2, foreign):
            return self.after_batch(batch)

    def _is_done_when_made(self) -> bool:
        """Whether batches indexed out of memory are where they should be, with nothing left to transform."""
        at_home = self._is_in_memory and all(t.device == (self.device or t.device) for t in self.dataset.tensors)
        return at_home and self._is_default("after_batch")

    def one_batch(self) -> Any:
        """One batch, made in this process; nothing moves on."""
        here = copy.copy(self)
        here.num_workers = 0
        self._peeks += 1
        here._peeks = self._peeks
        with here.peeking():
            for batch in here:
                return batch
        raise BadValue(
            "the loader has no batch",
            got=f"{self.n} items with bs={self.bs} and drop_last={self.drop_last}",
            fix="a smaller bs",
        )

    def to(self, device: torch.device | str) -> DataLoader:
        """Send batches to `device` from now on."""
        self.device = torch.device(device)
        return self

    def new(self, dataset: Any = None, **changes: Any) -> Any:
        """A loader like this one, over another data set and with `changes` to constructor arguments or stages."""
        res = copy.copy(self)
        refuse_unknown(changes, (*STAGES, *_SETTINGS), f"{type(self).__name__}.new")
        if dataset is not None:
            res.dataset, res.n = dataset, changes.pop("n", len(dataset) if hasattr(dataset, "__len__") else None)
        for name, value in changes.items():
            setattr(res, name, value)
        res._from_the_start()
        return res

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_torch_loader": None}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "dataset":
            raise AttributeError(name)
        if hasattr(self.dataset, name):
            return getattr(self.dataset, name)
        raise AttributeError(f"neither {type(self).__name__} nor its {type(self.dataset).__name__} has '{name}'")


_SETTINGS = (
    "bs", "shuffle", "drop_last", "num_workers", "pin_memory", "timeout", "n", "device", "persistent_workers", "seed",
    "on_bad", "multiprocessing_context",
)  # fmt: skip


@contextmanager
def batch_tickets(plan: TicketBatch, stage: int, foreign: bool) -> Iterator[None]:
    """What a batch draws at one stage; foreign code finds the global generators seeded for it."""
    key = plan.batch_key
    with drawing(Tickets(plan.keys, key, stage)), seeded(key_of(key, stage)) if foreign else nullcontext():
        yield


def arguments_of(kind: type[DataLoader]) -> set[str]:
    """The keywords that a class of loaders takes, stages and all."""
    kinds = (base for base in kind.__mro__ if issubclass(base, DataLoader))
    return set(STAGES).union(*(names_of(base.__init__) for base in kinds))


def _identity(stage: Any) -> Any:
    return tuple(map(id, stage.fs)) if isinstance(stage, Pipeline) else id(getattr(stage, "__func__", stage))


def _in_a_line(error: Exception) -> str:
    if isinstance(error, LayeredError):
        return error.problem if error.got is None else f"{error.problem}: {error.got}"
    return f"{type(error).__name__}: {error}"


def _of_stream(loader: DataLoader) -> DataLoader:
    """A copy of the loader whose items are given, not looked up."""
    res = copy.copy(loader)
    res.create_item = noop  # type: ignore[method-assign,assignment]  # the item itself
    return res


def _rank_and_world() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
