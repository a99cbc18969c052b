"""The loader: makes batches of a data set, in this process or in workers, with identical results.

The parent plans an epoch (`get_idxs`, shuffling, tickets: `samplers`); batches are made in this process or in a worker
(`batch_maker`, `workers`, `in_memory`), moved to the device (`transfer`) and finished in the parent (`after_batch`). Every
stage can be overridden in a subclass, by a constructor argument, or by assignment.
"""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from numbers import Integral
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from layered.data.adapters import DatasetBase, ForeignLoader, Loader, as_dataset, length_of
from layered.data.batch_maker import BatchMaker, MadeBatch, SkipItemException, Stages, batch_tickets
from layered.data.in_memory import row_numbers, row_taker, take_batches
from layered.data.item_cache import ItemCache, as_cache
from layered.data.position import Position
from layered.data.samplers import (
    Chooser,
    EpochKey,
    Share,
    TicketBatch,
    Weights,
    chooser_of,
    cut,
    is_ordered,
    plan_batches,
    pull,
)
from layered.data.streams import Items, Stream, shuffled
from layered.data.transfer import on_device
from layered.data.workers import IN_PARENT, IN_WORKER, Workers
from layered.foundation import (
    BadArgument,
    BadValue,
    NoSuchAttribute,
    Tickets,
    drawing,
    facts_html,
    facts_text,
    in_own_context,
    is_foreign,
    key_of,
    names_of,
    permutation,
    rank_and_world,
    refuse_unknown,
    seeded,
    warn,
)

__all__ = ["STAGES", "DataLoader", "SkipItemException", "arguments_of"]

STAGES = (*IN_PARENT, *IN_WORKER)
_ITEM_STAGES = ("create_item", "after_item", "do_item", "before_batch", "create_batch", "retain", "do_batch")
_SETTINGS = (
    "bs", "shuffle", "drop_last", "num_workers", "pin_memory", "timeout", "n", "device", "persistent_workers", "seed",
    "on_bad", "multiprocessing_context", "weights", "shuffle_buffer", "share", "cache",
)  # fmt: skip


OF_TORCH = {
    "batch_size": "dl.bs = …",
    "sampler": "dl.get_idxs = lambda: positions, or dl = dl.new(weights=…)",
    "batch_sampler": "dl.get_idxs = lambda: positions, with dl.bs",
    "collate_fn": "dl.create_batch = …",
    "worker_init_fn": "dl.wif = …",
    "weights": "dl = dl.new(weights=…)",
}


class DataLoader(Stages):
    """Batches of a data set; each iteration is an epoch.

    Args:
        dataset: Anything with `len` and indexing, tensors or arrays, or an iterable that cannot be indexed (a
            stream).
        bs: Items per batch; None if the items are batches already.
        num_workers: Processes that make batches; 0 makes them in this one. (Rows of tensors in memory are always taken
            in this process. The items of a stream are read in this process and become batches in workers.)
        pin_memory: Copy to the device by way of page-locked memory; by default if batches go to CUDA.
        timeout: Seconds to wait for a batch from a worker; 0 waits forever.
        batch_size: The same as `bs`.
        shuffle: Use a new order each epoch; a stream is shuffled through a buffer.
        drop_last: Drop an incomplete last batch.
        indexed: Whether items are read by position; by default if the data set supports it.
        n: Use only the first `n` items, shuffled among themselves (for a new subset each epoch see `PartialDL`). With
            `weights`, the number of items drawn.
        device: Where batches go; None leaves them where they are.
        persistent_workers: Keep the workers from one epoch to the next.
        seed: Determines shuffling and augmentation; by default `torch.initial_seed()`, read when an epoch starts.
        on_bad: "raise", or "skip" to drop items that cannot be made, with a warning that names them.
        multiprocessing_context: How workers are started: "fork", "spawn", "forkserver", or a context of
            multiprocessing.
        weights: How the items of a shuffled epoch are drawn: a weight for each item (drawn with replacement, in
            proportion), "balanced" (all classes equally often), or "oversample" (rare classes repeated).
        shuffle_buffer: Items that a stream is shuffled among.
        share: (rank, world size): this process makes every world-th row of each global batch, starting at `rank`; by
            default as in torch.distributed. Use (0, 1) for a stream that is already divided between processes.
        cache: Keep each item as it is before its first random transform, from one epoch to the next: "memory", a folder, or
            an `ItemCache`.
        stages: Functions that replace the stages `get_idxs`, `create_item`, `after_item`, `before_batch`,
            `create_batch`, `after_batch`, ….

    Examples:
        >>> list(DataLoader([1, 2, 3, 4, 5], bs=2))
        [tensor([1, 2]), tensor([3, 4]), tensor([5])]
    """

    vocab: Any  # of the data set, like every attribute that the loader lacks
    c: int
    own_settings: ClassVar[tuple[str, ...]] = ()
    """Further attributes that `new` takes."""
    batches_are_items: ClassVar[bool] = True
    """Whether a batch holds whole items of the data set, so that `bs` cannot exceed their number."""
    for_items: ClassVar[dict[str, Any]] = {}
    """Settings with which a loader over other items gives them in their order."""

    def __init__(
        self,
        dataset: object = None,
        bs: int | None = None,
        num_workers: int = 0,
        pin_memory: bool | None = None,
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
        multiprocessing_context: object = None,
        weights: Weights | None = None,
        shuffle_buffer: int = 1000,
        share: tuple[int, int] | None = None,
        cache: str | os.PathLike[str] | ItemCache | None = None,
        **stages: Callable[..., Any],
    ) -> None:
        if not stages.keys() <= set(STAGES):
            refuse_unknown(stages, arguments_of(type(self)), type(self).__name__)
        bs = batch_size if batch_size is not None else bs
        _check(bs=bs, num_workers=num_workers, n=n, shuffle_buffer=shuffle_buffer, on_bad=on_bad)
        self.bs, self.shuffle, self.drop_last, self.on_bad = bs, shuffle, drop_last, on_bad
        self.num_workers, self.pin_memory, self.timeout = num_workers, pin_memory, timeout
        self.persistent_workers, self.multiprocessing_context = persistent_workers, multiprocessing_context
        self.device = None if device is None else torch.device(device)
        self.shuffle_buffer, self.share, self.cache = shuffle_buffer, share, as_cache(cache)
        self.position = Position(seed)
        self._use(dataset, n, indexed, weights)
        for name, function in stages.items():
            setattr(self, name, function)
        self.workers_by_default = False
        self._workers = Workers()
        self._stream: Stream | None = None  # the adapter of `dataset`, made at the first pass over a stream

    def __setattr__(self, name: str, value: Any) -> None:
        if name in OF_TORCH:
            raise BadArgument(
                f"a {type(self).__name__} has no '{name}' to assign to",
                expected="the stages and settings of this library's loaders",
                fix=OF_TORCH[name],
            )
        if name in ("bs", "num_workers", "shuffle_buffer") and name in self.__dict__:
            _check(self.on_bad, **{name: value})
        if name == "device" and value is not None:
            value = torch.device(value)
        if name == "dataset" and "_stream" in self.__dict__:  # the constructor is through
            if self.chooser is not None:
                raise BadArgument(
                    "the weights of this loader belong to the items of its present data set",
                    fix="dl = dl.new(dataset, weights=…)",
                )
            self._use(value, None)
        object.__setattr__(self, name, value)

    @property
    def batch_size(self) -> int | None:
        """`bs` under torch's name."""
        return self.bs

    def _use(self, dataset: object, n: int | None, indexed: bool | None = None, weights: Weights | None = None) -> None:
        """Make batches of this data set from now on."""
        can_be_indexed = dataset is None or hasattr(dataset, "__getitem__")
        if not can_be_indexed and not isinstance(dataset, Iterable):
            raise BadArgument(
                "cannot make batches of this data",
                got=f"a {type(dataset).__name__}, {dataset!r}"[:200],
                expected="something with len() and indexing, tensors, arrays, or an iterable",
            )
        object.__setattr__(self, "dataset", dataset)
        self.indexed = can_be_indexed and not isinstance(dataset, IterableDataset) if indexed is None else indexed
        size = length_of(dataset)
        self.n = size if n is None else n if size is None else min(n, size)
        self._limit = None if n is None else self.n  # a stream may yield more items than its `len` declares
        self.chooser: Chooser | None = None
        if weights is not None:
            if not (self.shuffle and self.indexed):
                raise BadValue(
                    "weights need a shuffled loader over a data set that can be indexed",
                    got=f"shuffle={self.shuffle}" if self.indexed else "a stream",
                    fix="shuffle=True" if self.indexed else "use a data set with len() and indexing",
                )
            self.chooser = chooser_of(dataset, weights, n)

    # -- the interface to a loop, beside `device` and the position

    @property
    def _declared(self) -> DatasetBase:
        """The data set, adapted to the interface of `DatasetBase`."""
        return as_dataset(self.dataset)

    @property
    def n_inp(self) -> int | None:
        """How many leading parts of a batch are inputs, as the data set declares; None if it does not."""
        return self._declared.n_inp

    @property
    def length(self) -> int | None:
        """The number of batches of a pass; None for a stream without a length."""
        return None if self.epoch_size is None else len(self)

    @property
    def is_exhaustible(self) -> bool:
        """False: a new pass can always be started."""
        return False

    @property
    def keeps_position(self) -> bool:
        """True: `state_dict` saves the position within a pass."""
        return True

    @property
    def replays(self) -> bool:
        """Whether a data set or transform has changed in a worker, and with it what the worker makes next."""
        return self._workers.notice_changes()

    @property
    def samplers(self) -> list[object]:
        """An empty list: the loader itself determines the order."""
        return []

    @property
    def generators(self) -> list[torch.Generator]:
        """The `generator` of the data set, if it has one; everything else is drawn by key."""
        generator = getattr(self.dataset, "generator", None)
        return [generator] if isinstance(generator, torch.Generator) else []

    # -- position

    @property
    def seed(self) -> int | None:
        """The seed of all passes; None: `torch.initial_seed()`, read when a pass starts."""
        return self.position.seed

    @seed.setter
    def seed(self, seed: int | None) -> None:
        self.position.seed = None if seed is None else index(seed)

    @property
    def present(self) -> TicketBatch | None:
        """The plan of the latest batch: which items are in it."""
        return self.position.present

    def set_epoch(self, epoch: int, purpose: str = "train") -> None:
        """Set the epoch of the next pass: the same epoch and purpose give the same batches."""
        self.position.set_epoch(epoch, purpose)

    def randomize(self) -> None:
        """Advance to the order and draws of the next epoch without a pass."""
        self.set_epoch(self.position.next_pass().epoch + 1, self.position.purpose)

    @contextmanager
    def peeking(self) -> Iterator[Self]:
        """Context manager: passes inside do not advance the loader; the next epoch is unaffected by them."""
        kept = self.position
        try:
            self.position = kept.peek()
            yield self
        finally:
            kept.peeks = self.position.peeks
            self.position = kept

    def state_dict(self) -> dict[str, Any]:
        """The position: seed, purpose and epoch of the current pass (between passes, of the next one), the number of
        batches taken, and the state of a stream that has a `state_dict`."""
        return self.position.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next pass resume from `state`: the same epoch, from the batch after those taken.

        Args:
            state: What `state_dict` returned.

        Raises:
            BadValue: `state` is not the position of a loader; nothing changes.
        """
        self.position.load_state_dict(state)

    # -- how much there is

    @property
    def _share(self) -> Share:
        rank, world = self.share if self.share is not None else rank_and_world()
        return Share(self.bs or 1, rank, world, self.drop_last)

    @property
    def rank(self) -> int:
        """Which of the processes that share the batches this one is."""
        return self._share.rank

    @property
    def world(self) -> int:
        """How many processes share the batches."""
        return self._share.world

    @property
    def epoch_size(self) -> int | None:
        """Items of an epoch, over all processes; None if unknown."""
        return self.chooser.count if self.chooser is not None and self.shuffle else self.n

    def __len__(self) -> int:
        size = self.epoch_size
        if size is None:
            raise TypeError(f"a {type(self).__name__} over a stream has no length")
        return self._share.count_here(size)

    # -- the stages that run in the parent (the others: `BatchMaker`)

    def before_iter(self) -> None:
        """Runs before each pass."""

    def sample(self) -> Any:
        """The content of an epoch, in order: positions, or the items of a stream."""
        return self.get_idxs() if self.indexed else self._stream_items()

    def get_idxs(self) -> Any:
        """The positions of an epoch's items, in order: int64 [n]."""
        if self.chooser is not None and self.shuffle:
            return self.chooser.choose(self._order_key)
        if self.n is None:
            raise BadValue(
                "the number of items is unknown", got=f"{type(self.dataset).__name__} without len()", fix="n=…"
            )
        order = np.arange(self.n)
        return self.shuffle_fn(order) if self.shuffle else order

    def shuffle_fn(self, order: Any) -> Any:
        """Permute positions by the key of the epoch."""
        return np.asarray(order)[permutation(len(order), self._order_key).numpy()]

    def after_batch(self, batch: Any) -> Any:
        """Transform a batch, on its device."""
        return batch

    def after_iter(self) -> None:
        """Runs after each complete pass."""

    @property
    def _order_key(self) -> int:
        return key_of(self.position.order_key.key, "order")

    # -- one pass

    def __iter__(self) -> Iterator[Any]:
        position = self.position
        epoch = position.begin()
        self.before_iter()
        states: dict[int, Any] = {}
        foreign = is_foreign(self.after_batch)
        left_out: list[str] = []
        is_done, made = self._batches(epoch, states)
        for batch, plan, bad in made if is_done else on_device(made, self.device, self.pins):
            left_out += bad
            position.consumed += 1
            position.present = plan
            position.stream_state = states.pop(plan.number, None)
            if batch is None:
                continue
            if not is_done:
                batch = self._finished(batch, plan, foreign)
            yield batch
        if left_out:
            shown = "\n  ".join(left_out[:10])
            count = "1 item" if len(left_out) == 1 else f"{len(left_out)} items"
            warn(f"{count} could not be made; left out:\n  {shown}")
        position.end()
        self.after_iter()

    @in_own_context
    def _finished(self, batch: object, plan: TicketBatch, foreign: bool) -> Any:
        """The batch after the transforms of batches."""
        with batch_tickets(plan, 2, foreign):
            return self.after_batch(batch)

    def _batches(self, epoch: EpochKey, states: dict[int, Any]) -> tuple[bool, Iterable[MadeBatch]]:
        """Whether the batches of this pass are finished already, and the batches, from the first one due.

        Args:
            epoch: The key of the pass.
            states: Receives the state of a stateful stream after each batch, by batch number. Batches are made ahead of
                use, so the state to save is that after the batch taken last, not the current one.
        """
        if not self.all_default("create_batches"):
            return False, self._batches_of_override(epoch)
        take = row_taker(self.dataset) if self.indexed and self.bs and self.all_default(*_ITEM_STAGES) else None
        plan = self._plan(epoch, states, take is not None)
        if take is not None:
            tensors = self._declared.row_tensors() or ()
            is_placed = all(t.device == (self.device or t.device) for t in tensors)
            return bool(tensors) and is_placed and self._is_default("after_batch"), take_batches(take, plan)
        if self.num_workers and (made := self._workers.batches(self, plan)) is not None:
            return False, made
        return False, map(self.batch_maker().make, plan)

    def _plan(self, epoch: EpochKey, states: dict[int, Any], in_memory: bool) -> Iterator[TicketBatch]:
        """The plan of each batch of a pass, from the first one due."""
        share, start = self._share, self.position.consumed
        stages = self.get_idxs, self.shuffle_fn, self.sample
        foreign = any(map(is_foreign, stages)) or (not self.indexed and is_foreign(self.dataset))
        with seeded(key_of(epoch.key, "order")) if foreign else nullcontext():
            order = self.sample()
        order = order.numpy() if isinstance(order, Tensor) else order
        if in_memory and is_ordered(order):
            order = row_numbers(order, len(self.dataset))
        if is_ordered(order):
            return plan_batches(cut(order, share, start), epoch.key, share)

        state = order.state if isinstance(order, Items) else None

        def pulled(number: int) -> None:
            if state is not None:
                states[number] = state()

        # A stream with a state resumes at the batch due; any other is replayed, and the batches taken before are skipped.
        first = start if self.position.stream_state is not None else 0
        chunks = pull(order, share, epoch.key if foreign else None, first, pulled)
        return plan_batches(itertools.islice(chunks, start - first, None), epoch.key, share)

    def _batches_of_override(self, epoch: EpochKey) -> Iterator[MadeBatch]:
        """Batches of an overridden `create_batches`, each drawn under its own key; resuming replays the earlier ones."""
        _, rank, world, _ = self._share
        start, batches = self.position.consumed, iter(self.create_batches(self.sample()))
        for number in itertools.count():
            key = key_of(epoch.key, "made", number)
            batch = self._pulled(batches, key, number)
            if batch is StopIteration:
                return
            if number % world == rank and number // world >= start:
                yield batch, TicketBatch((), (), epoch.key, number), []

    @staticmethod
    @in_own_context
    def _pulled(batches: Iterator[Any], key: int, number: int) -> Any:
        with drawing(Tickets(key, place=number)), seeded(key):
            return next(batches, StopIteration)

    # -- streams

    @property
    def _source(self) -> Stream:
        if self._stream is None or self._stream.source is not self.dataset:
            self._stream = Stream(self.dataset)
        return self._stream

    def _stream_items(self) -> Iterator[Any]:
        position = self.position
        epoch = position.order_key
        if self.shuffle:  # the state of the stream does not include the shuffle buffer, so resuming replays the pass
            items = self._source.items(epoch)
            return itertools.islice(shuffled(items, self.shuffle_buffer, self._order_key), self._limit)
        taken = 0 if position.stream_state is None else position.consumed * self._share.rows
        limit = None if self._limit is None else max(0, self._limit - taken)
        return self._source.items(epoch, position.stream_state, limit)

    # -- looking, moving, copying

    def one_batch(self) -> Any:
        """One batch, made in this process without advancing the loader."""
        if not self.indexed:
            _ = self._source  # created before copying, so that items the copy takes from an iterator are not lost
        local = copy.copy(self)
        local.num_workers = 0
        self.position.peeks = local.position.peeks = self.position.peeks + 1
        with local.peeking():
            for batch in local:
                return batch
        raise BadValue(
            "the loader has no batches",
            got=f"{self.n} items with bs={self.bs} and drop_last={self.drop_last}",
            fix="use a smaller bs" if self.n else "check the source of its items",
        )

    @property
    def pins(self) -> bool:
        """Whether batches pass through page-locked memory."""
        return (
            self.pin_memory if self.pin_memory is not None else (self.device is not None and self.device.type == "cuda")
        )

    def to(self, device: torch.device | str) -> DataLoader:
        """Send batches to `device` from now on."""
        self.device = torch.device(device)
        return self

    def new(self, dataset: object = None, cls: type[DataLoader] | None = None, **changes: Any) -> Any:
        """A loader like this one, over another data set or with changes.

        Weights belong to the items they were given for: another data set has none unless they are among the changes.

        Args:
            dataset: Another data set; None keeps this one.
            cls: Another class of loaders.
            changes: New values of constructor arguments and stages.
        """
        refuse_unknown(changes, (*STAGES, *_SETTINGS, *self.own_settings), f"{type(self).__name__}.new")
        if cls is not None and cls is not type(self):
            own = {name: value for name, value in vars(self).items() if name in (*_SETTINGS, *STAGES)}
            own["seed"] = self.seed
            if dataset is not None:
                del own["n"]
            return cls(self.dataset if dataset is None else dataset, **{**own, **changes})
        is_other = dataset is not None
        known_size = None if is_other else self.n if self.indexed else self._limit
        weights, n = changes.pop("weights", None), changes.pop("n", known_size)
        res = copy.copy(self)
        for name, value in changes.items():
            setattr(res, name, torch.device(value) if name == "device" and value is not None else value)
        _check(bs=res.bs, num_workers=res.num_workers, n=n, shuffle_buffer=res.shuffle_buffer, on_bad=res.on_bad)
        res._use(dataset if is_other else self.dataset, n, None if is_other else self.indexed, weights)
        if not is_other and weights is None:
            res.chooser = self.chooser
        res.position = Position(res.seed)
        return res

    def in_any_order(self) -> Self:
        """A loader over the same items in the order in which batches are made fastest, for what puts results in order."""
        return self

    def _facts(self) -> tuple[str, dict[str, object]]:
        """The heading and the facts of its `repr`."""
        dataset = self.dataset
        kind = f" over {type(dataset).__name__}" if dataset is not None else ""
        return f"{type(self).__name__}{kind}: {self.in_words()}", {}

    def in_words(self) -> str:
        """Size and settings, for a `repr`: "8 items in 2 batches of 4, shuffled, 2 workers, to cuda:0"."""
        size = self.epoch_size
        if size is None:
            counts = f"a stream in batches of {self.bs}"
        else:
            batches = f"{len(self)} batch{'' if len(self) == 1 else 'es'}"
            items = f"{size} item{'' if size == 1 else 's'}"
            counts = f"{items} in {batches} of {self.bs}" if self.bs is not None else f"{batches}, as the items are"
        workers = f"{self.num_workers} worker{'' if self.num_workers == 1 else 's'}" if self.num_workers else ""
        device = f"to {self.device}" if self.device is not None else ""
        return ", ".join(filter(None, [counts, "shuffled" if self.shuffle else "", workers, device]))

    def __repr__(self) -> str:
        return facts_text(*self._facts())

    def _repr_html_(self) -> str:
        return facts_html(*self._facts())

    def batch_maker(self, dataset: object = None) -> BatchMaker:
        """The maker of this loader's batches, with its present stages.

        Args:
            dataset: Another data set to make batches of.
        """
        return BatchMaker(self if dataset is None else self._over(dataset))

    def _over(self, dataset: object) -> Self:
        """The same stages over another data set, for a `BatchMaker`; not an independent loader."""
        res = object.__new__(type(self))
        res.__dict__.update(self.__dict__, dataset=dataset)
        return res

    def for_workers(self, dataset: object) -> BatchMaker:
        """The part of the loader that is sent to workers: the stages that run there, and `dataset`."""
        # Not `self._over`: of a stream workers get no data set to read the split from, so pipelines keep theirs.
        stages = DataLoader._over(self, dataset)
        for name in (*IN_PARENT, "position", "_workers", "_stream"):
            stages.__dict__.pop(name, None)
        return BatchMaker(stages)

    def __getstate__(self) -> dict[str, Any]:
        own = {"_workers": Workers(), "position": copy.copy(self.position)} if "position" in self.__dict__ else {}
        return {**self.__dict__, **own}  # a copy has its own position and workers; stages sent to workers have neither

    if not TYPE_CHECKING:  # so that a misspelt attribute is refused before anything runs

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or name == "dataset":
                raise AttributeError(name)
            try:
                return getattr(self.dataset, name)
            except AttributeError as error:
                raise NoSuchAttribute(name, self, self.dataset) from error

    def __dir__(self) -> Iterable[str]:
        return {*super().__dir__(), *dir(self.dataset)}


def as_loader(loader: Iterable[Any]) -> Loader:
    """`loader` itself if it is a `DataLoader`, else an adapter to the interface of a loop."""
    return loader if isinstance(loader, DataLoader) else ForeignLoader(loader)


def arguments_of(kind: type[DataLoader]) -> set[str]:
    """The keywords that a class of loaders accepts, including stages."""
    kinds = (base for base in kind.__mro__ if issubclass(base, DataLoader))
    return set(STAGES).union(*(names_of(base.__init__) for base in kinds))


def _check(on_bad: str, **numbers: object) -> None:
    for name, value in numbers.items():
        least = 0 if name in ("num_workers", "n") else 1
        if value is not None and (not isinstance(value, Integral) or isinstance(value, bool) or value < least):
            raise BadValue(
                "invalid batch size" if name == "bs" else f"invalid {name}",
                got=f"{name}={value!r}",
                expected=f"a whole number from {least}",
                fix=f"{name}={least} or more",
            )
    if on_bad not in ("raise", "skip"):
        raise BadValue(
            "unknown value of on_bad, the rule for items that cannot be made",
            got=on_bad,
            expected="'raise' or 'skip'",
        )
