"""The words of texts by spaCy's rules: what stands between two blanks is divided once, and then known.

spaCy divides a text at its blanks into spans, and each span by itself into tokens. Only then does it look for special cases
among the tokens of the whole text. It can find one across the border of two spans, such as ":)" in ": )", only where the last
token of the one and the first of the next are neighbours in a special case too. Spans with such a border between them are left
to spaCy together.
"""

from __future__ import annotations

import re
from itertools import chain, pairwise
from typing import Any

MOST_SPANS, LONGEST_SPAN = 2**17, 64  # those whose tokens are kept
_SPANS = re.compile(r"\S+|(?<!\S)\s+|[^\S ]\s*")  # a single space after a word belongs to neither side

Span = tuple[list[str], str, frozenset[str]]


class SpacyWords(dict[str, Span]):
    """What is known of spans: their tokens, the first token before special cases are looked for, and what the next span
    must begin with for a special case to cross the border.

    Args:
        tokenizer: A tokenizer of the class `spacy.tokenizer.Tokenizer`. Its special cases must not change any more, and the
            last one added must not contain blanks: spaCy would have the tokens of its parts in its own cache.
        orth: spaCy's number of the attribute `ORTH`.
    """

    def __init__(self, tokenizer: Any, orth: int) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self._cases: dict[str, list[str]] = {}
        divided = [[*chain.from_iterable(map(self._divide, _SPANS.findall(case)))] for case in tokenizer.rules]
        self._cases = {case: [token[orth] for token in tokens] for case, tokens in tokenizer.rules.items()}
        self._single = {tokens[0] for tokens in divided if len(tokens) == 1}
        self._after: dict[str, frozenset[str]] = {}
        for token, following in chain.from_iterable(map(pairwise, divided)):
            self._after[token] = self._after.get(token, frozenset()) | {following}

    def tokenize(self, text: str) -> list[str]:
        """The tokens of a text.

        Args:
            text: The text.
        """
        tokens: list[str] = []
        crossing: frozenset[str] = frozenset()
        for own, first, after in map(self.__getitem__, _SPANS.findall(text)):
            if first in crossing:
                return self._joining(text)
            tokens += own
            crossing = after
        return tokens

    def _joining(self, text: str) -> list[str]:
        """The tokens of a text with borders that a special case may cross."""
        tokens: list[str] = []
        parts: list[list[int]] = []  # where each begins and ends, and how many spans it has
        crossing: frozenset[str] = frozenset()
        for found in _SPANS.finditer(text):
            _, first, after = self[found[0]]
            if first in crossing:
                parts[-1][1:] = found.end(), parts[-1][2] + 1
            else:
                parts.append([*found.span(), 1])
            crossing = after
        for start, stop, spans in parts:
            part = text[start:stop]
            tokens += self[part][0] if spans == 1 else self._by_spacy(part)
        return tokens

    def __missing__(self, text: str) -> Span:
        tokens = self._divide(text)
        first, after = tokens[0], self._after.get(tokens[-1], frozenset())
        pairs = pairwise(tokens)
        if not self._single.isdisjoint(tokens) or any(b in self._after.get(a, ()) for a, b in pairs):
            tokens = self._by_spacy(text)
        if len(text) <= LONGEST_SPAN:
            if len(self) >= MOST_SPANS:
                self.clear()
            self[text] = tokens, first, after
        return tokens, first, after

    def _by_spacy(self, text: str) -> list[str]:
        return [token.text for token in self.tokenizer(text)]

    def _divide(self, span: str) -> list[str]:
        """The tokens of a span before special cases are looked for among them, as in spaCy's `_split_affixes`."""
        spacy, cases, is_token = self.tokenizer, self._cases, self.tokenizer.token_match
        before, behind = list[str](), list[str]()
        while span and span not in cases and not (is_token and is_token(span)):
            start = spacy.find_prefix(span)
            stop = len(span) - spacy.find_suffix(span[start:])
            if start and span[start:] in cases:
                stop = len(span)
            elif stop < len(span) and span[:stop] in cases:
                start = 0
            if start == 0 and stop == len(span):
                break
            before += [span[:start]] if start else []
            behind += [span[stop:]] if stop < len(span) else []
            span = span[start:stop]
        return [*before, *self._inner(span), *reversed(behind)]

    def _inner(self, span: str) -> list[str]:
        """The tokens of a span without prefixes and suffixes, as in spaCy's `_attach_tokens`."""
        if span in self._cases:
            return self._cases[span]
        cuts = [0, len(span)]
        if not any(is_token and is_token(span) for is_token in (self.tokenizer.token_match, self.tokenizer.url_match)):
            cuts[1:1] = chain.from_iterable(m.span() for m in self.tokenizer.find_infix(span) or () if m.start())
        return [span[a:b] for a, b in pairwise(cuts) if a < b]
