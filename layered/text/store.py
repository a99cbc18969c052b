"""The indices of all texts of a data set, one after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from layered.foundation import Array
from layered.text.types import TensorText

IN_MEMORY = 2**24  # tokens


class JoinedTexts(Sequence[Any]):
    """Texts by position, kept as one array: in memory or, if there are many tokens, in a file that is mapped.

    Args:
        texts: The indices of each text's tokens.

    Attributes:
        ids: All tokens: int32 [token].
        ends: Where each text ends in them: int64 [text].

    Examples:
        >>> JoinedTexts([[5, 6], [], [7]])[0]
        TensorText([5, 6])
    """

    def __init__(self, texts: Iterable[Any]) -> None:
        with tempfile.TemporaryFile() as file:
            parts, lengths, size = [np.zeros(0, np.int32)], list[int](), 0
            for text in texts:
                parts.append(np.asarray(text, dtype=np.int32))
                lengths.append(len(parts[-1]))
                size += lengths[-1]
                if size > IN_MEMORY:
                    file.write(np.concatenate(parts).tobytes())
                    parts, size = parts[:1], 0
            self.ids: Array = np.concatenate(parts)
            if file.tell():
                file.write(self.ids.tobytes())
                file.flush()
                self.ids = np.asarray(np.memmap(file, np.int32, "r"))
        self.ends: Array = np.cumsum(lengths, dtype=np.int64)

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
        first = int(self.ends[text - 1]) if text else 0
        return self.ids[first + start : int(self.ends[text]) if stop is None else first + stop]

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> TensorText:  # type: ignore[override]  # single texts only
        return TensorText(torch.from_numpy(self.tokens(i).astype(np.int64)))
