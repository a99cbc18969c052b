"""`SortedDL`: batches of texts of nearly the same length, which need hardly any padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Any, ClassVar, Self

import numpy as np

from layered.data import EpochKey, TfmdDL, TicketBatch
from layered.foundation import Array, BadValue, key_of, permutation, warn
from layered.text.lm_loader import read_texts

POOL = 50  # batches whose items are sorted among themselves, in training


class SortedDL(TfmdDL):
    """A loader that puts items of nearly the same length into a batch.

    In order, the longest come first. Shuffled, the longest item is in the first batch (so that a lack of memory shows at once);
    the others are shuffled, sorted among as many as 50 batches hold, and the batches are shuffled, except for the first and
    the last. `drop_last` leaves out different items each epoch, of any length.

    Args:
        dataset: Samples that begin with a text; or any others, with `sort_func` or `res`.
        sort_func: The length of a sample; by default that of its first element.
        res: The lengths of all items, if they are known.
        max_tokens: As many items to a batch as this number of tokens holds, padding included, in place of `bs`; at least
            one.
        by_length: False leaves items that are not shuffled in their order.
        seq_len: For `LMDataLoader`; batches of whole texts ignore it, with a warning.
        kwargs: As for `TfmdDL`: `bs`, `shuffle`, `before_batch`, ….

    Raises:
        BadValue: `res` is not one length for each item, or `max_tokens` is below 1.

    Examples:
        >>> from layered.text.all import TensorText, pad_input
        >>> dl = SortedDL([(TensorText([3] * n),) for n in (2, 5, 1, 4)], bs=2, before_batch=pad_input)
        >>> [tuple(x.shape) for (x,) in dl]
        [(2, 5), (2, 2)]
    """

    own_settings: ClassVar[tuple[str, ...]] = ("sort_func", "res", "max_tokens", "by_length")
    for_items: ClassVar[dict[str, Any]] = {"by_length": False}

    def __init__(
        self,
        dataset: object,
        sort_func: Callable[[Any], float] | None = None,
        res: Sequence[float] | Array | None = None,
        *,
        max_tokens: int | None = None,
        by_length: bool = True,
        seq_len: int | None = None,
        **kwargs: Any,
    ) -> None:
        if seq_len is not None:
            warn(
                "seq_len is ignored: batches hold whole texts; TextBlock(max_len=…) cuts them, TextBlock(seq_len=…) chunks them"
            )
        if max_tokens is not None and max_tokens < 1:
            raise BadValue("invalid size of a batch in tokens", got=f"max_tokens={max_tokens}", fix="max_tokens=8192")
        self.sort_func, self.res, self.max_tokens, self.by_length = sort_func, res, max_tokens, by_length
        super().__init__(dataset, **kwargs)

    def new(self, dataset: object = None, cls: Any = None, **changes: Any) -> Any:
        """A loader like this one, over another data set or with changes: see `TfmdDL.new`.

        Args:
            dataset: Another data set, whose lengths are read unless `res` is among the changes; None keeps this one.
            cls: Another class of loaders.
            changes: New values of constructor arguments, stages and slots.
        """
        if cls is None or cls is type(self):
            is_sorted = changes.get("by_length", self.by_length) and dataset is None
            changes = {"res": self.lengths if is_sorted else None, **changes}
        return super().new(dataset, cls, **changes)

    @property
    def lengths(self) -> Array:
        """The length of each item, read when first asked for: [item]."""
        count = len(self.dataset)
        if self.res is None:
            measure = self.sort_func
            lengths = (
                map(len, read_texts(self.dataset))
                if measure is None
                else (measure(self.do_item(i)) for i in range(count))
            )
            self.res = list(lengths)
        self.res = np.asarray(self.res)
        if len(self.res) != count:
            raise BadValue(
                "expected a length for each item",
                got=f"{len(self.res)} lengths of {count} items",
                fix="leave out res=, and the lengths are read",
            )
        return self.res

    def get_idxs(self) -> Any:
        """The positions of an epoch's items, in order: int64 [n]."""
        order = np.asarray(super().get_idxs())
        if self.shuffle and len(order):
            return self._in_batches(order)
        return self._sorted(order) if self.by_length else order

    def in_any_order(self) -> Self:
        """A loader over the same items, longest first."""
        return self.new(by_length=True)  # type: ignore[no-any-return]  # of this class

    def _sorted(self, order: Array) -> Array:
        return order[np.argsort(-self.lengths[order], kind="stable")]

    def _in_batches(self, order: Array) -> Array:
        """A shuffled order, with items of nearly the same length in each batch."""
        longest = int(self.lengths[order].argmax())
        order[[0, longest]] = order[[longest, 0]]
        if self.max_tokens is None:
            rows = self._share.rows
            order = order[: self._share.count(len(order)) * rows] if self.drop_last else order
            pools = [self._sorted(order[i : i + POOL * rows]) for i in range(0, len(order), POOL * rows)]
            order, cuts = np.concatenate([order[:0], *pools]), list(range(rows, len(order), rows))
        else:
            order = self._sorted(order)
            cuts = self._ends(order)[:-1]
        batches = np.split(order, cuts)
        middle = batches[1:-1]
        shuffled = permutation(len(middle), key_of(self._order_key, "batches")).tolist()
        batches[1:-1] = [middle[i] for i in shuffled]
        return np.concatenate(batches)

    # -- batches by the number of tokens

    def _ends(self, order: Array) -> list[int]:
        """Where the batches of `max_tokens` end in an order of items."""
        assert self.max_tokens is not None
        world, lengths = self._share.world, self.lengths[order]
        ends, start, longest = list[int](), 0, 0.0
        for unit in range(0, len(order), world):  # each process has one row of a unit
            longest = max(longest, *lengths[unit : unit + world])
            if unit > start and ((unit - start) // world + 1) * longest > self.max_tokens:
                ends.append(unit)
                start, longest = unit, max(lengths[unit : unit + world])
        if ends and len(order) - ends[-1] < world:  # too few for each process
            ends.pop()
        return [*ends, len(order)] if len(order) else []

    def __len__(self) -> int:
        return super().__len__() if self.max_tokens is None else len(self._ends(self.sample()))

    def _plan(self, epoch: EpochKey, states: dict[int, Any], in_memory: bool) -> Iterator[TicketBatch]:
        if self.max_tokens is None:
            return super()._plan(epoch, states, in_memory)
        _, rank, world, _ = self._share
        order = np.asarray(self.sample())
        bounds = [0, *self._ends(order)]
        rows = [range(start + rank, stop, world) for start, stop in pairwise(bounds)]
        plans = (TicketBatch(order[list(own)], own, epoch.key, number) for number, own in enumerate(rows) if own)
        return islice(plans, self.position.consumed, None)
