"""A corpus: texts that are tokenized once, and whose tokens are kept as numbers in files that are mapped into memory.

What is kept is found by the text itself, so that a text that has changed is tokenized anew. Small corpora stay in memory.
The files of others lie below `LAYERED_HOME`, in a folder named after the texts, the rules and the tokenizer; the ones used
last are kept. They are numbers and JSON, and are read as such.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import tempfile
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from layered.catalog import layered_home
from layered.files import commit, disk, parse_json, read_whole, saving
from layered.foundation import Array, BadFile, failed, num_cpus, parallel

SMALL = 4 * 2**20  # characters up to which a corpus stays in memory
PIECE = 2**19  # characters that a process gets at a time
KEPT = 12  # corpora whose files are kept
_UNFINISHED = ".part-"
_META, _IDS, _ENDS, _KEYS = "corpus.json", "ids.bin", "ends.bin", "keys.bin"
_KEY = np.dtype([("high", "<u8"), ("low", "<u8")])


class Numbered(NamedTuple):
    """The tokens of some texts as numbers.

    Attributes:
        words: What the numbers stand for; None if that is the same for all texts of a corpus.
        ids: The numbers of all tokens, text after text: [token].
        lengths: How many tokens each text has: [text].
    """

    words: list[str] | None
    ids: Array
    lengths: Array


def numbered(texts: Sequence[str], tokenize: Callable[[Iterable[str]], Iterable[Iterable[str]]]) -> Numbered:
    """The tokens of some texts, numbered in the order in which they first occur.

    Args:
        texts: The texts.
        tokenize: Gives a list of tokens for each.

    Examples:
        >>> numbered(["a b a", ""], lambda texts: map(str.split, texts))
        Numbered(words=['a', 'b'], ids=array([0, 1, 0], dtype=uint32), lengths=array([3, 0]))
    """
    words: dict[str, int] = {}
    ids: list[int] = []
    ends = [0]
    for tokens in tokenize(texts):
        ids += [words.setdefault(token, len(words)) for token in tokens]
        ends.append(len(ids))
    return Numbered(list(words), np.array(ids, dtype=np.uint32), np.diff(np.array(ends, dtype=np.int64)))


class Corpus:
    """Texts by their content, each as the numbers of its tokens.

    Args:
        keys: A digest of each distinct text, in the order of the texts: [text].
        ids: The numbers of all tokens, text after text: [token].
        ends: Where each text ends in them: [text].
        words: What the numbers stand for; None if the tokenizer itself says so.
        folder: Where its files are; None if it is kept in memory.
    """

    def __init__(self, keys: Array, ids: Array, ends: Array, words: list[str] | None, folder: Path | None) -> None:
        self.ids, self.ends, self.words, self.folder = ids, ends, words, folder
        self._order = np.lexsort((keys["low"], keys["high"]))
        self._keys = keys[self._order]
        self._high = np.ascontiguousarray(self._keys["high"])

    @classmethod
    def opened(cls, folder: Path) -> Self | None:
        """The corpus in a folder; None if it is not there, or not whole.

        Args:
            folder: Its folder.
        """
        try:
            meta = parse_json(read_whole(folder / _META), f"'{folder / _META}'")
            count, tokens = int(meta["texts"]), int(meta["tokens"])
            words = meta["words"]
            maps = {
                name: _mapped(folder / name, np.dtype(kind), size)
                for name, kind, size in (
                    (_IDS, f"<u{int(meta['bytes'])}", tokens),
                    (_ENDS, "<i8", count),
                    (_KEYS, _KEY, count),
                )
            }
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return None
        lengths = np.diff(maps[_ENDS], prepend=0)
        is_words = words is None or (isinstance(words, list) and all(isinstance(word, str) for word in words))
        if not is_words or lengths.min(initial=0) < 0 or lengths.sum() != tokens:
            return None
        with contextlib.suppress(OSError):  # the time of the last use, in a folder of somebody else
            os.utime(folder)
        return cls(np.array(maps[_KEYS]), maps[_IDS], maps[_ENDS], words, folder)

    def find(self, text: str) -> int | None:
        """The number of a text; None if the corpus does not have it.

        Args:
            text: The text.
        """
        key = np.frombuffer(_digest(text), dtype=_KEY)[0]
        at = int(np.searchsorted(self._high, key["high"]))
        while at < len(self._keys) and self._high[at] == key["high"]:
            if self._keys[at] == key:
                return int(self._order[at])
            at += 1
        return None

    def text(self, i: int) -> Array:
        """The numbers of the tokens of text number `i`: [token].

        Args:
            i: The number of the text.
        """
        return self.ids[self.ends[i - 1] if i else 0 : self.ends[i]]

    def tokens(self, text: str) -> list[str] | None:
        """The tokens of a text; None if the corpus does not have it.

        Args:
            text: The text.
        """
        i = self.find(text)
        if i is None or self.words is None:
            return None
        return [*map(self.words.__getitem__, self.text(i).tolist())]

    @property
    def lengths(self) -> Array:
        """How many tokens each text has: int64 [text]."""
        return np.diff(self.ends, prepend=0)

    def __len__(self) -> int:
        return len(self.ends)

    def __deepcopy__(self, memo: object) -> Self:
        return self  # nothing changes it

    def __reduce__(self) -> Any:
        if self.folder is not None:
            return _reopened, (self.folder,)
        keys = np.empty_like(self._keys)
        keys[self._order] = self._keys
        return Corpus, (keys, self.ids, self.ends, self.words, None)


def _reopened(folder: Path) -> Corpus:
    corpus = Corpus.opened(folder)
    if corpus is None:
        raise FileNotFoundError(f"the tokens in '{folder}' are gone")
    return corpus


def _mapped(file: Path, dtype: np.dtype[Any], size: int) -> Array:
    if file.stat().st_size != dtype.itemsize * size:
        raise ValueError(f"'{file}' is not whole")
    return np.asarray(np.memmap(file, dtype, "r", shape=(size,))) if size else np.zeros(0, dtype)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf8", "surrogatepass"), digest_size=_KEY.itemsize).digest()


@dataclass
class Tokenized:
    """A corpus, and which of its texts each item is.

    Attributes:
        corpus: The texts.
        which: The number of each item's text: [item].
    """

    corpus: Corpus
    which: Array

    @property
    def lengths(self) -> Array:
        """How many tokens each item has: int64 [item]."""
        return self.corpus.lengths[self.which]

    def count(self) -> Counter[str]:
        """How often each token occurs in all items, in the order in which they first occur."""
        times = np.bincount(self.which, minlength=len(self.corpus))
        words, lengths = self.corpus.words or [], self.corpus.lengths
        total = np.zeros(len(words), dtype=np.int64)
        start = 0
        for texts in np.array_split(np.arange(len(times)), 1 + len(self.corpus.ids) // PIECE):
            ids = self.corpus.ids[start : start + int(lengths[texts].sum())]
            weights = np.repeat(times[texts], lengths[texts])
            total += np.bincount(ids, weights, minlength=len(words)).astype(np.int64)
            start += len(ids)
        return Counter(dict(zip(words, total.tolist(), strict=True)))


def tokenized(
    items: Iterable[Any],
    read: Callable[[Any], str],
    work: Callable[[Sequence[str]], Numbered],
    name: str | None,
    n_workers: int | None = None,
) -> Tokenized:
    """Tokenize the texts of all items, or open what was kept of them.

    Args:
        items: The items, which are gone through twice.
        read: The text of an item.
        work: The tokens of some texts; it is sent to other processes.
        name: What the tokens depend on beside the texts: the rules and the tokenizer, in words. None: that cannot be said,
            and nothing is kept for other processes to find.
        n_workers: The number of processes for corpora that are not small; by default one a core. 0: this process alone.
    """
    digests, sizes = bytearray(), list[int]()
    for text in _texts(items, read):
        digests += _digest(text)
        sizes.append(len(text))
    keys = np.frombuffer(bytes(digests), dtype=_KEY)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)  # of the distinct texts, by their first occurrence
    which = np.argsort(order)[inverse]
    is_first = np.zeros(len(keys), dtype=bool)
    is_first[first] = True
    distinct = keys[is_first]
    wanted = (text for text, new in zip(_texts(items, read), is_first, strict=True) if new)
    size = int(np.array(sizes, dtype=np.int64)[is_first].sum())
    if size <= SMALL:
        words, ids, lengths = work(list(wanted))
        return Tokenized(Corpus(distinct, ids, np.cumsum(lengths), words, None), which)
    if name is None:
        place = None
    else:
        about = hashlib.blake2b(f"{name}\n".encode() + distinct.tobytes(), digest_size=16)
        place = layered_home() / "tokens" / about.hexdigest()
    kept = None if place is None else Corpus.opened(place)
    return Tokenized(_written(wanted, distinct, work, place, n_workers) if kept is None else kept, which)


def _texts(items: Iterable[Any], read: Callable[[Any], str]) -> Iterator[str]:
    for i, item in enumerate(items):
        try:
            text = read(item)
        except Exception as error:
            raise failed(error, f"reading the text of item {i}") from error
        yield text


def _written(
    texts: Iterable[str],
    keys: Array,
    work: Callable[[Sequence[str]], Numbered],
    place: Path | None,
    n_workers: int | None,
) -> Corpus:
    """The corpus of distinct texts, tokenized piece by piece into files; without a place, they go when it does."""
    folder = _new_folder(place)
    with saving(folder):
        _write(folder, texts, keys, work, num_cpus() if n_workers is None else n_workers)
        if place is not None:
            if Corpus.opened(place) is None:  # it is damaged, or not there
                shutil.rmtree(place, ignore_errors=True)
            with contextlib.suppress(OSError):  # another process has been faster
                os.rename(folder, place)
                folder = place
                _forget_old(place.parent)
    corpus = Corpus.opened(folder)
    if corpus is None:
        raise BadFile(f"the tokens written to '{folder}' cannot be read", fix="free some space, and try again")
    if folder != place:
        weakref.finalize(corpus, _remove, folder, os.getpid())
    return corpus


def _new_folder(place: Path | None) -> Path:
    with contextlib.suppress(OSError):  # a home that cannot be written to
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=place.parent))
    return Path(tempfile.mkdtemp(prefix="layered-tokens-"))


def _write(
    folder: Path, texts: Iterable[str], keys: Array, work: Callable[[Sequence[str]], Numbered], workers: int
) -> None:
    words: dict[str, int] | None = {}
    lengths = [np.zeros(0, dtype=np.int64)]
    most, pieces = 0, _pieces(texts)
    with open(folder / _IDS, "wb") as file:
        while group := list(itertools.islice(pieces, 64 * max(1, workers))):
            for piece in parallel(work, group, n_workers=workers):
                ids = piece.ids
                if piece.words is None:
                    words = None
                else:
                    assert words is not None
                    ids = np.array([words.setdefault(word, len(words)) for word in piece.words], dtype=np.uint32)[ids]
                file.write(ids.astype("<u4").tobytes())
                most = max(most, int(ids.max(initial=0)))
                lengths.append(piece.lengths)
    ends = np.cumsum(np.concatenate(lengths), dtype="<i8")
    tokens = int(ends[-1])
    if most < 2**16:
        _halve(folder / _IDS, tokens)
    (folder / _ENDS).write_bytes(ends.tobytes())
    (folder / _KEYS).write_bytes(keys.tobytes())
    for name in (_IDS, _ENDS, _KEYS):  # before what says that they are whole
        with open(folder / name, "rb") as written:
            disk.sync(written)
    meta = {"texts": len(keys), "tokens": tokens, "bytes": 2 if most < 2**16 else 4, "words": words and list(words)}
    commit(folder / _META, lambda file: file.write(json.dumps(meta).encode()))


def _halve(file: Path, tokens: int) -> None:
    """Write numbers of four bytes again with two."""
    wide = _mapped(file, np.dtype("<u4"), tokens)
    half = file.with_suffix(".half")
    with open(half, "wb") as out:
        for start in range(0, tokens, PIECE):
            out.write(wide[start : start + PIECE].astype("<u2").tobytes())
    os.replace(half, file)


def _pieces(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in lists of about `PIECE` characters."""
    piece, size = list[str](), 0
    for text in texts:
        piece.append(text)
        size += len(text)
        if size >= PIECE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _forget_old(home: Path) -> None:
    """Delete the corpora that were not used for longest, and what killed processes left a day ago."""
    folders = sorted((at for at in home.iterdir() if at.is_dir()), key=lambda at: at.stat().st_mtime, reverse=True)
    kept = [at for at in folders if not at.name.startswith(_UNFINISHED)][:KEPT]
    yesterday = time.time() - 86_400
    for at in folders:
        if at not in kept and (not at.name.startswith(_UNFINISHED) or at.stat().st_mtime < yesterday):
            shutil.rmtree(at, ignore_errors=True)


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked process has the object, but not the files
        shutil.rmtree(folder, ignore_errors=True)
