"""`LMDataLoader`: all texts as a few long streams, of which each batch holds the next piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from layered.data import EpochKey, TfmdDL, TicketBatch, as_dataset
from layered.foundation import Array, BadArgument, BadValue, permutation
from layered.text.store import JoinedTexts
from layered.text.types import LMTensorText, TensorText


class Piece(NamedTuple):
    """Some tokens of a text: number `start` to `stop`, which is not among them."""

    text: int
    start: int
    stop: int


def read_texts(dataset: Any) -> Iterator[Any]:
    """The first element of each sample of a data set, without making the others."""
    columns = as_dataset(dataset).columns
    if columns:
        return iter(columns[0])
    items = (dataset[i] for i in range(len(dataset)))
    return (item[0] if isinstance(item, (tuple, list)) else item for item in items)


class LMDataLoader(TfmdDL):
    """Batches for a language model: row i of a batch goes on where row i of the batch before it ended.

    The texts are joined in order (shuffled anew each epoch, if `shuffle`) and cut into as many streams of equal length as a
    batch has rows, dropping the tokens that are left over. Batch j holds tokens j·seq_len to (j+1)·seq_len of each stream, and as
    targets those that follow each of them. The last batch is shorter.

    Args:
        dataset: Texts as indices of tokens, or samples that begin with one: `Datasets`, `TfmdLists`, a list of tensors.
        lens: Accepted because other libraries take it; the loader reads the texts, and so knows their lengths.
        cache: Accepted likewise.
        bs: Streams, the rows of a batch.
        seq_len: Tokens of a row.
        num_workers: Processes that make batches; 0 by default, since making them is only copying.
        kwargs: As for `TfmdDL`: `shuffle`, `seed`, `device`, ….

    Raises:
        BadValue: There are too few tokens for a single batch.

    Examples:
        >>> dl = LMDataLoader([torch.arange(5), torch.arange(5, 11)], bs=2, seq_len=3)
        >>> [[part.tolist() for part in batch] for batch in dl]
        [[[[0, 1, 2], [5, 6, 7]], [[1, 2, 3], [6, 7, 8]]], [[[3, 4], [8, 9]], [[4, 5], [9, 10]]]]
    """

    own_settings: ClassVar[tuple[str, ...]] = ("seq_len",)
    batches_are_items: ClassVar[bool] = False

    def __init__(
        self,
        dataset: object,
        lens: Sequence[int] | None = None,
        cache: int = 2,
        bs: int = 64,
        seq_len: int = 72,
        num_workers: int = 0,
        **kwargs: Any,
    ) -> None:
        if seq_len < 1:
            raise BadValue("seq_len is the number of tokens of a row", got=f"seq_len={seq_len}", fix="seq_len=72")
        self.seq_len = seq_len
        super().__init__(dataset, bs=bs, num_workers=num_workers, **kwargs)

    def _use(self, dataset: object, n: int | None, indexed: bool | None = None, weights: object = None) -> None:
        if weights is not None:
            raise BadArgument(
                "a language model reads all texts once, so they have no weights", fix="leave out weights="
            )
        if dataset is not self.__dict__.get("dataset"):
            self.__dict__.pop("joined", None)
        object.__setattr__(self, "dataset", dataset)
        self.indexed, self.chooser, self._limit = True, None, None

    @cached_property
    def joined(self) -> JoinedTexts:
        """All texts, read when the first batch or length is asked for."""
        return JoinedTexts(read_texts(self.dataset))

    @property
    def stream_length(self) -> int:
        """Tokens of each stream that are inputs."""
        tokens, streams = len(self.joined.ids), self._share.rows
        if tokens <= streams:
            raise BadValue(
                "there are too few tokens for a batch",
                got=f"{tokens} tokens in {len(self.joined.ends)} texts, bs={self.bs}",
                expected=f"more than {streams}, so that each stream has a token and one that follows it",
                fix=f"bs={max(1, min(streams, tokens // 8))}, or more texts",
            )
        return (tokens - 1) // streams

    @property
    def n(self) -> int:  # type: ignore[override]  # of pieces, which depends on the batch size
        """The number of rows of all batches."""
        return self._share.rows * -(-self.stream_length // self.seq_len)

    def shuffle_fn(self, order: Any) -> Any:
        """The pieces as they are: what is shuffled is the texts, before they are cut."""
        return order

    def text_order(self) -> Array:
        """The order of the texts in this epoch: int64 [text]."""
        count = len(self.joined.ends)
        return permutation(count, self._order_key).numpy() if self.shuffle else np.arange(count)

    def _plan(self, epoch: EpochKey, states: dict[int, Any], in_memory: bool) -> Iterator[TicketBatch]:
        length, streams, order = self.stream_length, self._share.rows, self.text_order()
        ends = np.cumsum(self.joined.lengths[order])

        def pieces(position: int) -> list[Piece]:
            number, stream = divmod(position, streams)
            start = stream * length + number * self.seq_len
            stop = stream * length + min(length, (number + 1) * self.seq_len) + 1
            return list(_cut(ends, order, start, stop))

        plans = super()._plan(epoch, states, in_memory)
        return (plan._replace(indices=[pieces(int(position)) for position in plan.indices]) for plan in plans)

    def create_item(self, pieces: Sequence[Piece]) -> tuple[LMTensorText, TensorText]:
        """A row of a batch: tokens, and those that follow each of them."""
        ids = torch.from_numpy(np.concatenate([self.joined.tokens(*piece) for piece in pieces], dtype=np.int64))
        return ids[:-1].as_subclass(LMTensorText), ids[1:].as_subclass(TensorText)

    def item_name(self, pieces: Any) -> str:
        """A row in a message."""
        first = pieces[0]
        return f"the tokens from number {first.start} of {as_dataset(self.dataset).describe_item(first.text)}"

    def _decode_item(self, sample: Any, full: bool) -> Any:
        sample = self.after_item.decode(sample)  # type: ignore[attr-defined]  # a pipeline
        columns = self._declared.columns
        return tuple(columns[0].decode(text, full=full) for text in sample) if columns else sample


def _cut(ends: Array, order: Array, start: int, stop: int) -> Iterator[Piece]:
    """The pieces of texts that make up tokens `start` to `stop` of all texts in an order.

    Args:
        ends: Where each text ends: int64 [text], in that order.
        order: The number of each text.
        start: The first token.
        stop: The token after the last.
    """
    place = int(np.searchsorted(ends, start, side="right"))
    while start < stop:
        before = int(ends[place - 1]) if place else 0
        upto = min(stop, int(ends[place]))
        if upto > start:
            yield Piece(int(order[place]), start - before, upto - before)
        start, place = upto, place + 1
