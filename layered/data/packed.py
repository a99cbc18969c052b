"""Long lists of text, for workers: held as one string, since a list is copied page by page into every process that reads it.

(A process that looks at a Python object counts a reference in it. A forked worker that walks over a million strings so gets
a copy of all of them, one memory page after the other.)
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

WORTH = 50_000  # items; shorter lists are left as they are


class PackedText(Sequence[Any]):
    """Strings, or paths, as one string and where each of them ends; an item is made when it is asked for.

    >>> list(PackedText(["a", "", "ünï"]))
    ['a', '', 'ünï']
    """

    def __init__(self, items: Sequence[Any]) -> None:
        self.kind = type(items[0])
        texts = items if self.kind is str else list(map(str, items))
        self.text = "".join(texts)
        self.ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(len(self))[i]]
        i = range(len(self))[i]
        text = self.text[self.ends[i - 1] if i else 0 : self.ends[i]]
        return text if self.kind is str else self.kind(text)


def packed(dataset: Any) -> Any:
    """The same data set, with a long list of strings or paths that it makes its items of packed."""
    if type(dataset) is list:
        return _packed_list(dataset)
    columns = getattr(dataset, "tls", [dataset])
    lists = {id(items): items for items in (getattr(tl, "_all_items", None) for tl in columns) if type(items) is list}
    packs = {key: _packed_list(items) for key, items in lists.items()}
    if all(type(pack) is list for pack in packs.values()):
        return dataset
    copies = [copy.copy(tl) for tl in columns]
    for tl in copies:
        tl._all_items = packs.get(id(tl._all_items), tl._all_items)
    if not hasattr(dataset, "tls"):
        return copies[0]
    res = copy.copy(dataset)
    res.tls = copies
    return res


def _packed_list(items: list[Any]) -> Any:
    is_text = len(items) >= WORTH and (type(items[0]) is str or isinstance(items[0], PurePath))
    return PackedText(items) if is_text and len(set(map(type, items))) == 1 else items
