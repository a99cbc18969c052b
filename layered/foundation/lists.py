"""`L`: a list that can be indexed by lists and masks, and mapped, filtered and zipped in a line."""

from __future__ import annotations

import functools
import itertools
import operator
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def coll_repr(c: Any, max_n: int = 10) -> str:
    """The length of `c` and its first `max_n` items.

    Examples:
        >>> coll_repr([1, 2, 3], 2)
        '(#3) [1,2...]'
    """
    shown = ",".join(str(o) if isinstance(o, L) else repr(o) for o in itertools.islice(c, max_n))
    return f"(#{len(c)}) [{shown}{'...' if len(c) > max_n else ''}]"


def _is_scalar_like(o: Any) -> bool:
    """What counts as one item when wrapped: text, mappings, arrays, tensors, frames, and all that cannot be iterated."""
    return isinstance(o, (str, bytes, Mapping)) or hasattr(o, "__array__") or not isinstance(o, Iterable)


def _by_name(key: Any) -> Any:
    if isinstance(key, str):
        return operator.attrgetter(key)
    return operator.itemgetter(key) if isinstance(key, int) else key


class L(MutableSequence[Any]):
    """A list of anything: `None` is empty, a scalar (or an array, a text, a mapping) is one item, an iterable its items.

    Args:
        use_list: True: list the items of an array too; None: keep the given collection itself.
        match: Repeat one item to this collection's length.

    Examples:
        >>> l = L(range(5)); l[[0, 2]], l[[True, False, True, False, True]]
        ((#2) [0,2], (#3) [0,2,4])
        >>> l.map(lambda x: x * 2).filter(lambda x: x > 2)
        (#3) [4,6,8]
    """

    def __init__(self, items: Any = None, *rest: Any, use_list: bool | None = False, match: Any = None) -> None:
        if rest:
            items = (items, *rest)
        if items is None:
            self.items: Any = []
        elif use_list is None:
            self.items = items
        else:
            self.items = list(items) if use_list or not _is_scalar_like(items) else [items]
        if match is not None and len(self.items) == 1 and len(match) != 1:
            self.items = self.items * len(match)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Any]:
        return map(self.items.iloc.__getitem__, range(len(self))) if hasattr(self.items, "iloc") else iter(self.items)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (int, np.integer)) or (isinstance(index, Tensor) and index.ndim == 0):
            return self.items.iloc[int(index)] if hasattr(self.items, "iloc") else self.items[int(index)]
        if isinstance(index, slice):
            return L(self.items[index], use_list=None)
        return L([self[i] for i in mask2idxs(index)], use_list=True)

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, (int, slice)):
            self.items[index] = value
            return
        positions = mask2idxs(index)
        values = [value] * len(positions) if _is_scalar_like(value) else value
        for i, v in zip(positions, values, strict=True):
            self.items[i] = v

    def __delitem__(self, index: Any) -> None:
        del self.items[index]

    def insert(self, index: int, value: Any) -> None:
        self.items.insert(index, value)

    def __repr__(self) -> str:
        return coll_repr(self)

    def __eq__(self, other: object) -> Any:
        if isinstance(other, (str, bytes)) or not isinstance(other, Iterable):
            return False
        other = list(other)
        return len(self) == len(other) and all(bool(np.all(a == b)) for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # lists cannot be keys

    def __add__(self, other: Any) -> L:
        return L([*self, *L(other)], use_list=True)

    def __radd__(self, other: Any) -> L:
        return L([*L(other), *self], use_list=True)

    def __mul__(self, n: int) -> L:
        return L(list(self) * n, use_list=True)

    def __invert__(self) -> L:
        return self.map(operator.not_)

    def map(self, f: Any, *args: Any, **kwargs: Any) -> L:
        """`f` of every item; `f` may be a format text, a mapping or a list to look up in."""
        if isinstance(f, str):
            f = f.format
        elif not callable(f):
            f = f.__getitem__
        return L([f(o, *args, **kwargs) for o in self], use_list=True)

    def filter(self, f: Callable[[Any], Any] = bool, negate: bool = False) -> L:
        """The items for which `f` holds (does not, with `negate`)."""
        return L([o for o in self if bool(f(o)) != negate], use_list=True)

    def argwhere(self, f: Callable[[Any], Any], negate: bool = False) -> L:
        """The positions of the items for which `f` holds."""
        return L([i for i, o in enumerate(self) if bool(f(o)) != negate], use_list=True)

    def sorted(self, key: Any = None, reverse: bool = False) -> L:
        """Sorted by a function, an attribute's name or an item's number."""
        return L(sorted(self, key=_by_name(key), reverse=reverse), use_list=True)

    def unique(self, sort: bool = False, bidir: bool = False, start: Any = None) -> Any:
        """Each item once, in the order of first appearance (sorted, with `sort`).

        Args:
            bidir: Also return the position of each.
            start: Items that come first.
        """
        found = list(dict.fromkeys([*L(start), *self]))
        res = L(sorted(found) if sort else found, use_list=True)
        return (res, res.val2idx()) if bidir else res

    def val2idx(self) -> dict[Any, int]:
        """Each item's position."""
        return {v: i for i, v in enumerate(self)}

    def groupby(self, key: Any, val: Any = None) -> dict[Any, L]:
        """Key → the items (or their `val`) that have it; both functions, attributes' names or items' numbers."""
        key, val = _by_name(key), (lambda o: o) if val is None else _by_name(val)
        groups: dict[Any, L] = {}
        for o in self:
            groups.setdefault(key(o), L()).append(val(o))
        return groups

    def itemgot(self, *indices: Any) -> L:
        """`o[i]` of every item, one index after the other."""
        res = self
        for i in indices:
            res = res.map(operator.itemgetter(i))
        return res

    def attrgot(self, name: str, default: Any = None) -> L:
        """The attribute (or key) `name` of every item."""
        return self.map(lambda o: o.get(name, default) if isinstance(o, Mapping) else getattr(o, name, default))

    def enumerate(self) -> L:
        """(position, item) pairs."""
        return L(list(enumerate(self)), use_list=True)

    def renumerate(self) -> L:
        """(item, position) pairs."""
        return L([(o, i) for i, o in enumerate(self)], use_list=True)

    def zip(self) -> L:
        """Transpose: the first of all items, the second of all, …"""
        return L(list(zip(*self, strict=False)), use_list=True)

    def zipwith(self, *rest: Any) -> L:
        """Pairs with the items of other collections."""
        return L(list(zip(self, *rest, strict=False)), use_list=True)

    def starmap(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> L:
        """`f(*item)` of every item."""
        return L([f(*o, *args, **kwargs) for o in self], use_list=True)

    map_zip = starmap

    def map_dict(self, f: Callable[[Any], Any]) -> dict[Any, Any]:
        """Item → `f(item)`."""
        return {o: f(o) for o in self}

    def flatmap(self, f: Callable[[Any], Iterable[Any]]) -> L:
        """All items of `f(item)` of every item."""
        return self.map(f).concat()

    def first(self, f: Callable[[Any], Any] | None = None) -> Any:
        """The first item (for which `f` holds), or None."""
        return next((o for o in self if f is None or f(o)), None)

    def last(self, f: Callable[[Any], Any] | None = None) -> Any:
        """The last item (for which `f` holds), or None."""
        return next((o for o in reversed(list(self)) if f is None or f(o)), None)

    def argfirst(self, f: Callable[[Any], Any]) -> int | None:
        """The position of the first item for which `f` holds, or None."""
        return next((i for i, o in enumerate(self) if f(o)), None)

    def cycle(self) -> Iterator[Any]:
        """The items again and again."""
        return itertools.cycle(self)

    def setattrs(self, name: str, value: Any) -> None:
        """Set an attribute of every item."""
        for o in self:
            setattr(o, name, value)

    def concat(self) -> L:
        """The items of all items."""
        return L([o for items in self for o in items], use_list=True)

    def copy(self) -> L:
        """A new list of the same items."""
        return L(list(self), use_list=True)

    def shuffle(self) -> L:
        """The items in a random order (Python's global generator), as a new list."""
        items = list(self)
        random.shuffle(items)
        return L(items, use_list=True)

    def sum(self) -> Any:
        return self.reduce(operator.add) if len(self) else 0

    def product(self) -> Any:
        return self.reduce(operator.mul, 1)

    def tensored(self) -> L:
        """Every item as a tensor."""
        return self.map(torch.as_tensor)

    def stack(self, dim: int = 0) -> Tensor:
        """The items, tensors of one shape, along a new axis `dim`."""
        return torch.stack(list(self.tensored()), dim)

    def cat(self, dim: int = 0) -> Tensor:
        """The items, tensors, one after the other along axis `dim`."""
        return torch.cat(list(self.tensored()), dim)

    def reduce(self, f: Callable[[Any, Any], Any], *initial: Any) -> Any:
        """Fold with `f` from the left."""
        return functools.reduce(f, self, *initial)

    @classmethod
    def range(cls, start: Any, stop: int | None = None, step: int = 1) -> L:
        """The numbers of `range`; of a collection, its positions."""
        start = start if isinstance(start, int) else len(start)
        return cls(range(start) if stop is None else range(start, stop, step), use_list=True)

    @classmethod
    def split(cls, text: str, sep: str | None = None, maxsplit: int = -1) -> L:
        """The words of a text, or its parts between `sep`."""
        return cls(text.split(sep, maxsplit), use_list=True)

    @classmethod
    def splitlines(cls, text: str) -> L:
        """The lines of a text."""
        return cls(text.splitlines(), use_list=True)


def mask2idxs(mask: Any) -> list[int]:
    """Positions from a list of positions or of booleans.

    Examples:
        >>> mask2idxs([False, True, True]), mask2idxs([3, 1])
        ([1, 2], [3, 1])
    """
    values = mask.tolist() if hasattr(mask, "tolist") else list(mask)
    if values and isinstance(values[0], (bool, np.bool_)):
        return [i for i, keep in enumerate(values) if keep]
    return [int(i) for i in values]
