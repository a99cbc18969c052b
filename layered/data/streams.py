"""Streams: data that can only be iterated over, possibly without end."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from layered.data.adapters import reads_ahead
from layered.data.samplers import EpochKey
from layered.foundation import Stateful, key_of, permutation


class Items(Iterator[Any]):
    """The items of one pass over a stream.

    Args:
        items: The items.
        state: Returns the present state of the stream; None if it has none.
    """

    def __init__(self, items: Iterator[Any], state: Callable[[], Any] | None = None) -> None:
        self.items, self.state = items, state

    def __next__(self) -> Any:
        return next(self.items)


class Stream:
    """The adapter of an iterable for a loader.

    - Its `set_epoch(epoch)`, if it has one, is called before each pass.
    - A stream with `state_dict` and `load_state_dict` resumes from its state; any other is replayed. Each pass iterates over a
      copy of a stateful stream, so that looks, passes and loaders do not advance one another.
    - A look at a generator, or another iterator that lasts for one pass, does not consume it: the items it takes are kept for
      the next pass.
    """

    def __init__(self, source: Iterable[Any]) -> None:
        self.source: Any = source
        self.has_state = isinstance(source, Stateful) and not reads_ahead(source)
        self._looked_at: list[Any] = []

    def items(self, epoch: EpochKey, state: object = None, limit: int | None = None) -> Items:
        """The items of one pass.

        Args:
            epoch: The key of the pass.
            state: Resume from this state of the stream.
            limit: The largest number of items.
        """
        source = copy.deepcopy(self.source) if self.has_state else self.source
        if hasattr(source, "set_epoch"):
            source.set_epoch(epoch.epoch)
        if state is not None:
            source.load_state_dict(copy.deepcopy(state))
        if self.has_state:
            return Items(islice(source, limit), lambda: copy.deepcopy(source.state_dict()))
        if isinstance(source, Iterator):
            return Items(islice(self._look() if epoch.purpose == "peek" else self._rest(), limit))
        return Items(islice(source, limit))

    def _look(self) -> Iterator[Any]:
        yield from list(self._looked_at)
        for item in self.source:
            self._looked_at.append(item)
            yield item

    def _rest(self) -> Iterator[Any]:
        while self._looked_at:
            yield self._looked_at.pop(0)
        for item in self.source:  # noqa: UP028  # `yield from` would close the generator when a pass ends early
            yield item


def shuffled(items: Iterable[Any], size: int, key: int) -> Iterator[Any]:
    """Shuffle through a buffer, in an order that depends on `key` alone.

    Args:
        items: The items.
        size: Items in the buffer.
        key: Determines the order.

    Examples:
        >>> sorted(shuffled(range(5), 3, 42)) == list(range(5))
        True
    """
    held: list[Any] = []
    for number, item in enumerate(items):
        if len(held) < size:
            held.append(item)
            continue
        place = key_of(key, number) % size
        drawn, held[place] = held[place], item
        yield drawn
    for place in permutation(len(held), key).tolist():
        yield held[place]
