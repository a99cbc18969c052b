"""Texts that are longer than a model reads: what is kept of them, and how many they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from layered.foundation import BadValue, Transform, transforms, warn
from layered.text.store import JoinedTexts
from layered.text.types import TensorText

CUTS = ("head", "head+tail", "chunks")


def check_cut(cut: str) -> None:
    """Raise BadValue for an unknown way to cut texts.

    Args:
        cut: The way.
    """
    if cut not in CUTS:
        raise BadValue("unknown way to cut texts", got=f"cut={cut!r}", expected=", ".join(map(repr, CUTS)))


def kept_part(tokens: Any, most: int, cut: str) -> tuple[Any, Any]:
    """The parts of a text that are kept, from its start and from its end.

    Args:
        tokens: The tokens.
        most: How many may be kept.
        cut: "head"; "head+tail", a quarter from the start and the others from the end; or "chunks", all.

    Examples:
        >>> kept_part("abcdefgh", 4, "head+tail"), kept_part("abcdefgh", 4, "head")
        (('a', 'fgh'), ('abcd', ''))
    """
    if len(tokens) <= most or cut == "chunks":
        return tokens, tokens[:0]
    head = most if cut == "head" else most // 4
    return tokens[:head], tokens[len(tokens) - (most - head) :]


def warn_of_cuts(lengths: Sequence[int], most: int, cut: str) -> None:
    """Warn how many texts are cut, if any are.

    Args:
        lengths: The number of tokens of each text.
        most: How many are kept.
        cut: See `kept_part`.
    """
    count = sum(length > most for length in lengths)
    if count and cut != "chunks":
        kept = "their first tokens are" if cut == "head" else "their first and last tokens are"
        warn(
            f"{count} of {len(lengths)} texts are longer than max_len={most} tokens, the longest {max(lengths)}: "
            f"only {kept} read"
        )


def warn_of_cut(length: int, most: int, cut: str) -> None:
    """Warn that a single text is cut, if it is; by the rules of warnings that is said once for each line of the user's code.

    Args:
        length: Its number of tokens.
        most: How many are kept.
        cut: See `kept_part`.
    """
    if length > most and cut != "chunks":
        kept = "its first tokens are" if cut == "head" else "its first and last tokens are"
        warn(f"a text is longer than max_len={most} tokens: only {kept} read")


@transforms.register("text.CutText")
class CutText(Transform):
    """Cuts texts that are too long; a warning says how many they are.

    Args:
        max_len: The most tokens of a text.
        cut: What is kept: "head"; "head+tail", a quarter of the tokens from the start and the others from the end; or
            "chunks", all of it.

    Raises:
        BadValue: `max_len` is below 1, or `cut` is none of these.

    Examples:
        >>> CutText(4, "head+tail")(TensorText([2, 3, 4, 5, 6]))
        TensorText([2, 4, 5, 6])
    """

    def __init__(self, max_len: int, cut: str = "head") -> None:
        super().__init__()
        check_cut(cut)
        if max_len < 1:
            raise BadValue("invalid length of a text", got=f"max_len={max_len}", fix="max_len=512")
        self.max_len, self.cut = max_len, cut

    def keep(self, texts: Iterable[TensorText]) -> JoinedTexts:
        """All texts of a column, cut.

        Args:
            texts: The texts.
        """
        lengths = list[int]()

        def cut() -> Iterable[Tensor]:
            for text in texts:
                lengths.append(len(text))
                yield self._cut(text)

        kept = JoinedTexts(cut())
        warn_of_cuts(lengths, self.max_len, self.cut)
        return kept

    def encodes(self, ids: TensorText) -> Tensor:
        warn_of_cut(len(ids), self.max_len, self.cut)
        return self._cut(ids)

    def _cut(self, ids: TensorText) -> Tensor:
        return ids[torch.cat(kept_part(torch.arange(len(ids)), self.max_len, self.cut))]
