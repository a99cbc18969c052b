"""`L`: a list that can be indexed by lists and masks, and mapped, filtered and zipped in a line."""

from __future__ import annotations

import functools
import itertools
import operator
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableSequence, Sequence, Sized
from typing import Any, Literal, SupportsIndex, TypeVar, overload

import numpy as np
import torch
from torch import Tensor
from typing_extensions import TypeVar as TypeVarWithDefault

from layered.foundation.types import Array, is_array_like, is_frame

T = TypeVarWithDefault("T", default=Any)  # so that a bare `L` in an annotation is an `L` of anything
R = TypeVar("R")
U = TypeVar("U")


def coll_repr(c: Collection[object], max_n: int = 10) -> str:
    """The length of a collection and its first items, as `L` prints itself.

    Args:
        c: The collection.
        max_n: The most items to show.

    Examples:
        >>> coll_repr([1, 2, 3], 2)
        '(#3) [1,2...]'
    """
    shown = ",".join(str(o) if isinstance(o, L) else repr(o) for o in itertools.islice(c, max_n))
    return f"(#{len(c)}) [{shown}{'...' if len(c) > max_n else ''}]"


def _is_one_item(o: object) -> bool:
    """Whether `L(o)` holds `o` itself: text, mappings, arrays, tensors, frames, and whatever cannot be iterated over."""
    return isinstance(o, (str, bytes, Mapping)) or is_array_like(o) or not isinstance(o, Iterable)


def _as_key(key: str | int | Callable[[Any], Any]) -> Callable[[Any], Any]:
    if isinstance(key, str):
        return operator.attrgetter(key)
    return operator.itemgetter(key) if isinstance(key, int) else key


class L(MutableSequence[T]):
    """A list of anything that also takes lists and masks as indices, and whose methods return new `L`s.

    `None` gives an empty list; a scalar, a string, a mapping, an array or a tensor becomes the only item; any other
    iterable gives its items.

    Args:
        items: What to hold.
        rest: More items: `L(1, 2, 3)`.
        use_list: True: list the items of an array or a string too; None: hold the given collection itself, without copying.
        match: Repeat a single item to the length of this collection.

    Examples:
        >>> l = L(range(5)); l[[0, 2]], l[[True, False, True, False, True]]
        ((#2) [0,2], (#3) [0,2,4])
        >>> l.map(lambda x: x * 2).filter(lambda x: x > 2)
        (#3) [4,6,8]
    """

    items: Any  # a list, or with `use_list=None` whatever collection was given, such as a frame

    @overload
    def __init__(
        self: L[Any], items: None = None, *, use_list: bool | None = False, match: Sized | None = None
    ) -> None: ...
    @overload
    def __init__(self: L[str], items: str, *, use_list: bool | None = False, match: Sized | None = None) -> None: ...
    @overload
    def __init__(
        self: L[Any],
        items: Mapping[Any, Any] | Array | Tensor,
        *,
        use_list: bool | None = False,
        match: Sized | None = None,
    ) -> None: ...
    @overload
    def __init__(self, items: Iterable[T], *, use_list: bool | None = False, match: Sized | None = None) -> None: ...
    @overload
    def __init__(
        self: L[Any], items: object, *rest: object, use_list: bool | None = False, match: Sized | None = None
    ) -> None: ...
    def __init__(
        self, items: object = None, *rest: object, use_list: bool | None = False, match: Sized | None = None
    ) -> None:
        if rest:
            items = (items, *rest)
        if items is None:
            self.items = []
        elif use_list is None:
            self.items = items
        elif use_list or not _is_one_item(items):
            self.items = list(items)  # type: ignore[call-overload]  # the TypeError of `list` says what is wrong
        else:
            self.items = [items]
        if match is not None and len(self.items) == 1 and len(match) != 1:
            self.items = self.items * len(match)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[T]:
        return map(self.items.iloc.__getitem__, range(len(self))) if is_frame(self.items) else iter(self.items)

    @overload
    def __getitem__(self, index: Tensor) -> Any: ...
    @overload
    def __getitem__(self, index: SupportsIndex) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> L[T]: ...
    @overload
    def __getitem__(self, index: Iterable[object]) -> L[T]: ...
    def __getitem__(self, index: object) -> Any:
        if isinstance(index, (int, np.integer)) or (isinstance(index, Tensor) and index.ndim == 0):
            return self.items.iloc[int(index)] if is_frame(self.items) else self.items[int(index)]
        if isinstance(index, slice):
            return L(self.items[index], use_list=None)
        return L([self[i] for i in mask2idxs(index)], use_list=True)

    def __setitem__(self, index: SupportsIndex | slice | Iterable[object], value: object) -> None:
        if isinstance(index, (int, slice)):
            self.items[index] = value
            return
        positions = mask2idxs(index)
        values = value if isinstance(value, Iterable) and not _is_one_item(value) else [value] * len(positions)
        for i, v in zip(positions, values, strict=True):
            self.items[i] = v

    def __delitem__(self, index: SupportsIndex | slice) -> None:
        del self.items[index]

    def insert(self, index: int, value: T) -> None:
        """Insert `value` before position `index`."""
        self.items.insert(index, value)

    def __repr__(self) -> str:
        return coll_repr(self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (str, bytes)) or not isinstance(other, Iterable):
            return False
        other = list(other)
        return len(self) == len(other) and all(bool(np.all(a == b)) for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # mutable, so not a key

    def __add__(self, other: object) -> L[Any]:
        return L([*self, *L(other)], use_list=True)

    def __radd__(self, other: object) -> L[Any]:
        return L([*L(other), *self], use_list=True)

    def __mul__(self, n: int) -> L[T]:
        return L(list(self) * n, use_list=True)

    def __invert__(self) -> L[bool]:
        return self.map(operator.not_)

    @overload
    def map(self, f: str, *args: object, **kwargs: object) -> L[str]: ...
    @overload
    def map(self, f: Callable[..., R], *args: object, **kwargs: object) -> L[R]: ...
    @overload
    def map(self, f: Mapping[Any, R] | Sequence[R]) -> L[R]: ...
    def map(self, f: object, *args: object, **kwargs: object) -> L[Any]:
        """Apply `f` to every item.

        Args:
            f: A function, a format string ("{:.2f}"), or a mapping or list to look items up in.
            args: Further positional arguments of `f`.
            kwargs: Further keyword arguments of `f`.
        """
        if isinstance(f, str):
            function: Callable[..., Any] = f.format
        elif callable(f):
            function = f
        else:
            table: Any = f
            function = table.__getitem__
        return L([function(o, *args, **kwargs) for o in self], use_list=True)

    def filter(self, f: Callable[[T], object] = bool, negate: bool = False) -> L[T]:
        """The items for which `f` is true (false, with `negate`)."""
        return L([o for o in self if bool(f(o)) != negate], use_list=True)

    def argwhere(self, f: Callable[[T], object], negate: bool = False) -> L[int]:
        """The positions of the items for which `f` is true (false, with `negate`)."""
        return L([i for i, o in enumerate(self) if bool(f(o)) != negate], use_list=True)

    def sorted(self, key: str | int | Callable[[T], Any] | None = None, reverse: bool = False) -> L[T]:
        """The items in order.

        Args:
            key: What to sort by: a function of an item, the name of an attribute, or the index of an element.
            reverse: Largest first.
        """
        in_order: list[T] = sorted(self, key=None if key is None else _as_key(key), reverse=reverse)  # type: ignore[type-var, arg-type]  # items must compare
        return L(in_order, use_list=True)

    @overload
    def unique(self, sort: bool = False, bidir: Literal[False] = False, start: object = None) -> L[T]: ...
    @overload
    def unique(
        self, sort: bool = False, *, bidir: Literal[True], start: object = None
    ) -> tuple[L[T], dict[T, int]]: ...
    def unique(self, sort: bool = False, bidir: bool = False, start: object = None) -> L[T] | tuple[L[T], dict[T, int]]:
        """Each item once, in order of first appearance.

        Args:
            sort: Sort them.
            bidir: Also return the position of each, as a dict.
            start: Items to begin with.
        """
        found = L(dict.fromkeys([*L(start), *self]), use_list=True)
        res: L[T] = found.sorted() if sort else found
        return (res, res.val2idx()) if bidir else res

    def val2idx(self) -> dict[T, int]:
        """Each item's position."""
        return {v: i for i, v in enumerate(self)}

    def groupby(
        self, key: str | int | Callable[[T], Any], val: str | int | Callable[[T], Any] | None = None
    ) -> dict[Any, L[Any]]:
        """Collect the items that share a key.

        Args:
            key: What to group by: a function of an item, the name of an attribute, or the index of an element.
            val: What to collect of each item, given likewise; by default the item itself.
        """
        get_key, get_value = _as_key(key), None if val is None else _as_key(val)
        groups: dict[Any, L[Any]] = {}
        for o in self:
            groups.setdefault(get_key(o), L()).append(o if get_value is None else get_value(o))
        return groups

    def itemgot(self, *indices: object) -> L[Any]:
        """`o[i]` of every item `o`, for each index `i` in turn."""
        res: L[Any] = self
        for i in indices:
            res = res.map(operator.itemgetter(i))
        return res

    def attrgot(self, name: str, default: object = None) -> L[Any]:
        """The attribute (of mappings, the key) `name` of every item, or `default`."""
        return self.map(lambda o: o.get(name, default) if isinstance(o, Mapping) else getattr(o, name, default))

    def enumerate(self) -> L[tuple[int, T]]:
        """(position, item) pairs."""
        return L(list(enumerate(self)), use_list=True)

    def renumerate(self) -> L[tuple[T, int]]:
        """(item, position) pairs."""
        return L([(o, i) for i, o in enumerate(self)], use_list=True)

    def zip(self) -> L[tuple[Any, ...]]:
        """Transpose: the first elements of all items, then the second, and so on."""
        rows: Any = self
        return L(list(zip(*rows, strict=False)), use_list=True)

    def zipwith(self, *rest: Iterable[Any]) -> L[tuple[Any, ...]]:
        """Tuples of each item with those of other collections, as long as the shortest."""
        return L(list(zip(self, *rest, strict=False)), use_list=True)

    def starmap(self, f: Callable[..., R], *args: object, **kwargs: object) -> L[R]:
        """`f(*item, *args, **kwargs)` of every item."""
        rows: Any = self
        return L([f(*o, *args, **kwargs) for o in rows], use_list=True)

    map_zip = starmap

    def map_dict(self, f: Callable[[T], R]) -> dict[T, R]:
        """Item → `f(item)`."""
        return {o: f(o) for o in self}

    def flatmap(self, f: Callable[[T], Iterable[R]]) -> L[R]:
        """The elements of `f(item)` for every item, in one list."""
        return L([o for item in self for o in f(item)], use_list=True)

    def first(self, f: Callable[[T], object] | None = None) -> T | None:
        """The first item (for which `f` is true), or None."""
        return next((o for o in self if f is None or f(o)), None)

    def last(self, f: Callable[[T], object] | None = None) -> T | None:
        """The last item (for which `f` is true), or None."""
        return next((o for o in reversed(list(self)) if f is None or f(o)), None)

    def argfirst(self, f: Callable[[T], object]) -> int | None:
        """The position of the first item for which `f` is true, or None."""
        return next((i for i, o in enumerate(self) if f(o)), None)

    def cycle(self) -> Iterator[T]:
        """The items over and over, without end."""
        return itertools.cycle(self)

    def setattrs(self, name: str, value: object) -> None:
        """Set an attribute of every item."""
        for o in self:
            setattr(o, name, value)

    def concat(self) -> L[Any]:
        """The elements of all items, in one list."""
        rows: Any = self
        return L([o for items in rows for o in items], use_list=True)

    def copy(self) -> L[T]:
        """A new list of the same items."""
        return L(list(self), use_list=True)

    def shuffle(self) -> L[T]:
        """The items in a random order (by Python's global generator), as a new list."""
        items = list(self)
        random.shuffle(items)
        return L(items, use_list=True)

    def sum(self) -> Any:
        """The items added up; 0 if there are none."""
        return self.reduce(operator.add) if len(self) else 0

    def product(self) -> Any:
        """The items multiplied; 1 if there are none."""
        return self.reduce(operator.mul, 1)

    def tensored(self) -> L[Tensor]:
        """Every item as a tensor."""
        return self.map(torch.as_tensor)

    def stack(self, dim: int = 0) -> Tensor:
        """The items, tensors of one shape, along a new axis `dim`."""
        return torch.stack(list(self.tensored()), dim)

    def cat(self, dim: int = 0) -> Tensor:
        """The items, tensors, concatenated along axis `dim`."""
        return torch.cat(list(self.tensored()), dim)

    def reduce(self, f: Callable[[Any, Any], Any], *initial: object) -> Any:
        """Fold the items with `f` from the left, starting from `initial` if given."""
        return functools.reduce(f, self, *initial)

    @classmethod
    def range(cls, start: int | Sized, stop: int | None = None, step: int = 1) -> L[int]:
        """The integers of the built-in `range`; for a collection, its positions."""
        first = start if isinstance(start, int) else len(start)
        return cls(range(first) if stop is None else range(first, stop, step), use_list=True)

    @classmethod
    def split(cls, text: str, sep: str | None = None, maxsplit: int = -1) -> L[str]:
        """The words of a text, or its parts between `sep`."""
        return cls(text.split(sep, maxsplit), use_list=True)

    @classmethod
    def splitlines(cls, text: str) -> L[str]:
        """The lines of a text."""
        return cls(text.splitlines(), use_list=True)


def mask2idxs(mask: object) -> list[int]:
    """Positions from a list, array or tensor of positions or of booleans.

    Args:
        mask: Positions, or one boolean per item.

    Examples:
        >>> mask2idxs([False, True, True]), mask2idxs([3, 1])
        ([1, 2], [3, 1])
    """
    values: list[Any] = mask.tolist() if isinstance(mask, (Tensor, np.ndarray)) else list(mask)  # type: ignore[call-overload]  # of an iterable
    if values and isinstance(values[0], (bool, np.bool_)):
        return [i for i, keep in enumerate(values) if keep]
    return [int(i) for i in values]
