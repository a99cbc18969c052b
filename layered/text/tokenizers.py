"""Tokenizers: what divides a text into tokens. Each gives a list of tokens for each of the texts it is called with."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self

from layered.files import value_kinds
from layered.foundation import BadValue, Path, defaults, nearest, require
from layered.text.rules import mark_start
from layered.text.spacy_words import SpacyWords

Rule = Callable[[str], str]


@value_kinds.register("text.BaseTokenizer")
class BaseTokenizer:
    """Divides texts at a character; the base of all tokenizers, whose own code is `tokenize`.

    Args:
        split_char: Where to divide.

    Examples:
        >>> list(BaseTokenizer()(["a film", "good"]))
        [['a', 'film'], ['good']]
    """

    rules: Sequence[Rule] | None = None
    """What is done to each text before; None: `defaults.text_proc_rules`."""
    post_rules: Sequence[Rule] | None = None
    """What is done to each token after; None: `defaults.text_postproc_rules`."""
    package: str | None = None
    """The package whose version decides what the tokens are."""
    sep: str = " "
    """What stands between the tokens of a text that is put together again."""

    def __init__(self, split_char: str = " ") -> None:
        self.split_char = split_char

    def __call__(self, items: Iterable[str]) -> Iterator[list[str]]:
        return map(self.tokenize, items)

    def tokenize(self, text: str) -> list[str]:
        """The tokens of one text.

        Args:
            text: The text.
        """
        return text.split(self.split_char)

    def setup(self, texts: Iterable[str]) -> None:
        """Learn from the texts of a corpus, to which the rules were applied; most tokenizers have nothing to learn.

        Args:
            texts: The texts.
        """

    def described(self) -> dict[str, Any]:
        """As data, for exports: the arguments of the constructor."""
        return {"split_char": self.split_char}

    @classmethod
    def from_described(cls, state: dict[str, Any]) -> Self:
        """Undo `described`.

        Args:
            state: What it returned.
        """
        return cls(**state)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(f'{name}={value!r:.40}' for name, value in self.described().items())})"
        )


@value_kinds.register("text.SpacyTokenizer")
class SpacyTokenizer(BaseTokenizer):
    """The words of spaCy's rules for a language; special tokens stay whole. spaCy is imported with the first text.

    Args:
        lang: spaCy's code of the language: "en", "de", …; "xx" for several.
        special_toks: The tokens that are never divided; by default `defaults.text_spec_tok`.
        buf_sz: Accepted for compatibility: texts are tokenized one by one, which is as fast.

    Raises:
        MissingDependency: spaCy is not installed.
        BadValue: spaCy does not know the language.
    """

    package = "spacy"

    def __init__(self, lang: str = "en", special_toks: Sequence[str] | None = None, buf_sz: int = 5000) -> None:
        if lang not in _languages():
            near = nearest(str(lang), _languages())
            raise BadValue(
                "spaCy does not know the language",
                got=f"lang={lang!r}",
                expected=f"one of its codes: {', '.join(_languages())}",
                fix=f'lang="{near[0]}"' if near else 'lang="xx", for any language with spaces between words',
            )
        self.lang = lang
        self.special_toks = list(defaults.text_spec_tok if special_toks is None else special_toks)

    @functools.cached_property
    def _divide(self) -> Callable[[str], list[str]]:
        spacy = require("spacy", extra="text", why="SpacyTokenizer")
        nlp, orth = spacy.blank(self.lang), spacy.attrs.ORTH
        tokenizer = nlp.tokenizer
        if type(tokenizer) is spacy.tokenizer.Tokenizer:  # those of some languages have no special cases
            for token in self.special_toks:
                tokenizer.add_special_case(token, [{orth: token}])
            if self.special_toks and not re.search(r"\s", "".join(self.special_toks)):
                return SpacyWords(tokenizer, orth).tokenize
        return lambda text: [token.text for token in tokenizer(text)]

    def tokenize(self, text: str) -> list[str]:
        """The words of one text.

        Args:
            text: The text.
        """
        return self._divide(text)

    def described(self) -> dict[str, Any]:
        """As data, for exports: the arguments of the constructor."""
        return {"lang": self.lang, "special_toks": self.special_toks}

    def __getstate__(self) -> dict[str, Any]:
        return {"lang": self.lang, "special_toks": self.special_toks}


WordTokenizer = SpacyTokenizer


@functools.cache
def _languages() -> tuple[str, ...]:
    """The codes of spaCy's languages, read from the names of its files."""
    found = importlib.util.find_spec("spacy")
    if found is None or not found.submodule_search_locations:
        require("spacy", extra="text", why="SpacyTokenizer")
        return ()
    folder = Path(found.submodule_search_locations[0]) / "lang"
    return tuple(sorted(at.name for at in folder.iterdir() if re.fullmatch("[a-z]{2,3}", at.name)))


@value_kinds.register("text.CharTokenizer")
class CharTokenizer(BaseTokenizer):
    """Characters; special tokens stay whole. The text stays as it is but for `xxbos` before it.

    Args:
        special_toks: The tokens that are never divided; by default `defaults.text_spec_tok`.

    Examples:
        >>> list(CharTokenizer()(["xxbosOh no"]))
        [['xxbos', 'O', 'h', ' ', 'n', 'o']]
    """

    rules = (mark_start,)
    post_rules = ()
    sep = ""

    def __init__(self, special_toks: Sequence[str] | None = None) -> None:
        self.special_toks = list(defaults.text_spec_tok if special_toks is None else special_toks)
        self._divide = re.compile("|".join([*map(re.escape, self.special_toks), "."]), re.DOTALL).findall

    def tokenize(self, text: str) -> list[str]:
        """The characters of one text.

        Args:
            text: The text.
        """
        return self._divide(text)

    def described(self) -> dict[str, Any]:
        """As data, for exports: the arguments of the constructor."""
        return {"special_toks": self.special_toks}
