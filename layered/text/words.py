"""Texts whose words were given: their tokens, and which words these belong to."""

from __future__ import annotations

from collections.abc import Container, Sequence
from itertools import pairwise
from typing import TypeVar

from layered.foundation import TitledStr

T = TypeVar("T")


class WordTokens(list[str]):
    """The tokens of a text whose words were given.

    Args:
        tokens: The tokens.
        words: For each token the number of the word that it stands for; -1 for special tokens and those that go on with a word.
        word_count: How many words were given.
    """

    def __init__(self, tokens: list[str], words: list[int], word_count: int) -> None:
        super().__init__(tokens)
        self.words, self.word_count = words, word_count


class SplitStr(TitledStr):
    """A text whose words were given, put together again from tokens.

    Attributes:
        words: The words.
    """

    words: list[str]

    @classmethod
    def of_words(cls, text: str, words: list[str]) -> SplitStr:
        """The text, with its words.

        Args:
            text: The text.
            words: The words.
        """
        made = cls(text)
        made.words = words
        return made


def words_in(tokens: Sequence[T], words: Sequence[int], before: Container[object] = ()) -> list[Sequence[T]]:
    """The tokens of each word.

    Args:
        tokens: The tokens of a text.
        words: For each the number of the word that it stands for, or -1.
        before: Tokens that belong to the word that follows them.

    Examples:
        >>> words_in("xxbos xxmaj ad a lives".split(), [-1, -1, 0, -1, 1], before=["xxmaj"])
        [['xxmaj', 'ad', 'a'], ['lives']]
    """
    starts = [i for i, word in enumerate(words) if word >= 0]
    for k, start in enumerate(starts):
        while start and tokens[start - 1] in before:
            start -= 1
        starts[k] = start
    return [tokens[start:stop] for start, stop in pairwise([*starts, len(tokens)])]
