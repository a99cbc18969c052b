"""The indices of all texts of a data set, one after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from typing import IO, Any

import numpy as np
import torch

from layered.foundation import Array
from layered.text.types import BESIDE, TensorText

IN_MEMORY = 2**24  # tokens


class JoinedTexts(Sequence[Any]):
    """Texts by position, kept as one array: in memory or, if there are many tokens, in a file that is mapped.

    Args:
        texts: The indices of each text's tokens. What they say of each token is kept too.

    Attributes:
        ids: All tokens: int32 [token].
        ends: Where each text ends in them: int64 [text].
        beside: What texts say of each token, such as `TensorText.words`, by name: int32 [token].
        word_counts: How many words each text has: [text].

    Examples:
        >>> JoinedTexts([[5, 6], [], [7]])[0]
        TensorText([5, 6])
    """

    def __init__(self, texts: Iterable[Any]) -> None:
        ids, beside, lengths, word_counts = _Growing(), dict[str, _Growing](), list[int](), list[int]()
        for text in texts:
            lengths.append(len(text))
            ids.add(text)
            said = vars(text) if isinstance(text, TensorText) else {}
            for name in BESIDE.keys() & said:
                beside.setdefault(name, _Growing()).add(said[name])
            if "words" in said:
                word_counts.append(text.word_count)
        self.ids: Array = ids.all()
        self.ends: Array = np.cumsum(lengths, dtype=np.int64)
        self.beside: dict[str, Array] = {name: numbers.all() for name, numbers in beside.items()}
        self.word_counts = word_counts

    @property
    def lengths(self) -> Array:
        """The number of tokens of each text: int64 [text]."""
        return np.diff(self.ends, prepend=0)

    def tokens(self, text: int, start: int = 0, stop: int | None = None) -> Array:
        """Some tokens of a text: int32 [token].

        Args:
            text: Its number.
            start: The first of them.
            stop: The one after the last; None for all that follow.
        """
        first = self._first(text)
        return self.ids[first + start : int(self.ends[text]) if stop is None else first + stop]

    def _first(self, text: int) -> int:
        return int(self.ends[text - 1]) if text else 0

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> TensorText:  # type: ignore[override]  # single texts only
        ids = TensorText(torch.from_numpy(self.tokens(i).astype(np.int64)))
        for name, numbers in self.beside.items():
            setattr(ids, name, torch.from_numpy(numbers[self._first(i) : int(self.ends[i])].astype(np.int64)))
        if self.word_counts:
            ids.word_count = self.word_counts[i]
        return ids


class _Growing:
    """A growing array of int32, which goes to a file when it is large."""

    def __init__(self) -> None:
        self.file: IO[bytes] | None = None
        self.parts, self.size = [np.zeros(0, np.int32)], 0

    def add(self, numbers: Any) -> None:
        self.parts.append(np.asarray(numbers, dtype=np.int32))
        self.size += len(self.parts[-1])
        if self.size > IN_MEMORY:
            self.file = tempfile.TemporaryFile() if self.file is None else self.file  # noqa: SIM115  # kept while it is mapped
            self._write(self.file)

    def _write(self, file: IO[bytes]) -> None:
        file.write(np.concatenate(self.parts).tobytes())
        self.parts, self.size = self.parts[:1], 0

    def all(self) -> Array:
        if self.file is None:
            return np.concatenate(self.parts)
        with self.file as file:
            self._write(file)
            file.flush()
            return np.asarray(np.memmap(file, np.int32, "r"))
