"""`Tokenizer`: texts, files and columns of rows to tokens, by rules and a tokenizer."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from importlib.metadata import version
from typing import Any

from layered.foundation import (
    Array,
    BadArgument,
    BadValue,
    L,
    StrPath,
    TitledStr,
    Transform,
    defaults,
    describe,
    failed,
    function_name,
    transforms,
)
from layered.text.corpus import Corpus, Tokenized, numbered, tokenized
from layered.text.reading import TextReader, text_files
from layered.text.rules import BOS, EOS, TK_MAJ, TK_REP, TK_UP, TK_WREP, UNK, decode_spec_tokens
from layered.text.tokenizers import BaseTokenizer, Rule, SpacyTokenizer
from layered.text.words import SplitStr, WordTokens, words_in
from layered.version import __version__

Tok = Callable[[Iterable[str]], Iterable[Sequence[str]]]
MOST_WORDS = 2**17  # whose tokens are kept
_BEFORE = (TK_MAJ, TK_UP, TK_REP, TK_WREP)


class TokenizeWithRules:
    """A tokenizer with rules: texts → rules → tokens → rules for each token.

    Args:
        tok: The tokenizer.
        rules: What is done to each text before; by default what the tokenizer says, or else `defaults.text_proc_rules`.
        post_rules: What is done to each token after; by default likewise, or `defaults.text_postproc_rules`.

    Examples:
        >>> list(TokenizeWithRules(BaseTokenizer())(["What a FILM"]))
        [(#6) ['xxbos','xxmaj','what','a','xxup','film']]
    """

    def __init__(self, tok: Tok, rules: Iterable[Rule] | None = None, post_rules: Iterable[Rule] | None = None) -> None:
        said = tok if isinstance(tok, BaseTokenizer) else BaseTokenizer()
        self.tok = tok
        self.rules = _first_given(rules, said.rules, defaults.text_proc_rules)
        self.post_rules = _first_given(post_rules, said.post_rules, defaults.text_postproc_rules)

    def __call__(self, batch: Iterable[str]) -> Iterator[L[str]]:
        for tokens in self.tok(map(self.prepared, batch)):
            for rule in self.post_rules:
                tokens = [*map(rule, tokens)]
            yield L(tokens, use_list=True)

    @property
    def described(self) -> str | None:
        """What the tokens depend on, in words; None if code is involved that is not the library's own."""
        parts = [type(self.tok), *self.rules, *self.post_rules]
        if not isinstance(self.tok, BaseTokenizer) or not all(part.__module__.startswith("layered.") for part in parts):
            return None
        code = [*map(function_name, parts), __version__]
        package = self.tok.package and f"{self.tok.package} {version(self.tok.package)}"
        return json.dumps([code, package, self.tok.described()])

    def prepared(self, text: str) -> str:
        """A text after the rules, before it is divided.

        Args:
            text: The text.
        """
        for rule in self.rules:
            text = rule(text)
        return text


def _first_given(*candidates: Iterable[Rule] | None) -> list[Rule]:
    return list(next(rules for rules in candidates if rules is not None))


def tokenize1(
    text: str, tok: Tok, *, rules: Iterable[Rule] | None = None, post_rules: Iterable[Rule] | None = None
) -> L[str]:
    """The tokens of one text.

    Args:
        text: The text.
        tok: The tokenizer.
        rules: What is done to the text before; see `TokenizeWithRules`.
        post_rules: What is done to each token after.
    """
    return next(TokenizeWithRules(tok, rules, post_rules)([text]))


@transforms.register("text.Tokenizer")
class Tokenizer(Transform):
    """Texts, text files and rows to tokens, and back to one text. Lists of tokens stay as they are.

    Args:
        tok: The tokenizer, or its class: `SpacyTokenizer()` by default, `CharTokenizer()`, `SentencePieceTokenizer()`, or
            your function of texts that returns a list of tokens for each.
        rules: What is done to each text before; by default what the tokenizer says, or else `defaults.text_proc_rules`.
        counter: How often each token occurs, if it is known; `Numericalize` then does not count.
        lengths: The number of tokens of each text, if they are known.
        mode: What the texts are: "df" (columns of rows), "folder" (files), or None; `from_df` and `from_folder` set it.
        sep: What stands between tokens that are put together again; by default what the tokenizer says, a space for words.
        text_cols: The columns that hold the text of a row.
        mark_fields: Put `xxfld` and a number before the text of each column; by default if there are several.
        encoding: How the bytes of files are read.
        n_workers: Processes that tokenize a corpus that is not small; by default one a core. 0: this process alone.
        is_split: Items are lists of words, or texts with spaces between words, to whose words the rules are applied one by one;
            each text knows which token begins a word.

    Attributes:
        corpus: The texts of the last `setup` and their tokens, which are not made again; None before.

    Examples:
        >>> tok = Tokenizer(BaseTokenizer())
        >>> tok("No NO no")
        (#6) ['xxbos','xxmaj','no','xxup','no','no']
        >>> tok.decode(_)
        'xxbos xxmaj no xxup no no'
    """

    train_setup = False

    def __init__(
        self,
        tok: Any = None,
        rules: Iterable[Rule] | None = None,
        counter: Mapping[str, int] | None = None,
        lengths: Sequence[int] | Array | None = None,
        mode: str | None = None,
        sep: str | None = None,
        text_cols: Any = None,
        mark_fields: bool | None = None,
        encoding: str = "utf8",
        n_workers: int | None = None,
        is_split: bool = False,
    ) -> None:
        super().__init__()
        if mode not in (None, "df", "folder"):
            raise BadValue("unknown mode of a tokenizer", got=repr(mode), expected="'df', 'folder' or None")
        tok = SpacyTokenizer() if tok is None else tok() if isinstance(tok, type) else tok
        if not callable(tok):
            raise BadArgument(
                "a tokenizer is a function of texts that returns a list of tokens for each",
                got=describe(tok),
                fix="Tokenizer(SpacyTokenizer())",
            )
        # As in fastai, spaces inside the tokens of plain texts stay; those of tables and folders are marked.
        self.tokenize = TokenizeWithRules(tok, rules, () if mode is None else None)
        self.counter, self.lengths, self.mode = counter, lengths, mode
        self.counts, self.measures = counter is None, lengths is None
        self.sep = sep if sep is not None else tok.sep if isinstance(tok, BaseTokenizer) else " "
        self.read = TextReader(text_cols, mark_fields, encoding)
        self.n_workers = n_workers
        self.corpus: Corpus | None = None
        self.is_split = is_split
        self._known_words: dict[str, tuple[list[str], int]] = {}

    @property
    def tok(self) -> Any:
        """The tokenizer."""
        return self.tokenize.tok

    @property
    def rules(self) -> list[Rule]:
        """What is done to each text before it is divided."""
        return self.tokenize.rules

    @property
    def init_args(self) -> dict[str, Any]:
        """What the constructor takes, without what was counted in training."""
        given = {**super().init_args, "tok": self.tok, "counter": None, "lengths": None, "n_workers": None}
        return {**given, "rules": None if given["rules"] is None else self.rules}

    @classmethod
    def from_df(
        cls,
        text_cols: str | int | Sequence[str | int],
        tok: Any = None,
        rules: Iterable[Rule] | None = None,
        sep: str | None = None,
        **kwargs: Any,
    ) -> Tokenizer:
        """A tokenizer of the rows of a table.

        Args:
            text_cols: The column or columns that hold the text.
            tok: The tokenizer; spaCy's English words by default.
            rules: What is done to each text before; by default what the tokenizer says, or else `defaults.text_proc_rules`.
            sep: What stands between tokens that are put together again.
            kwargs: Of the constructor: `mark_fields`, `n_workers`.
        """
        return cls(tok, rules, mode="df", sep=sep, text_cols=text_cols, **kwargs)

    @classmethod
    def from_folder(
        cls,
        path: StrPath,
        tok: Any = None,
        rules: Iterable[Rule] | None = None,
        *,
        extensions: str | Iterable[str] | None = None,
        folders: Iterable[str] | None = None,
        encoding: str = "utf8",
        **kwargs: Any,
    ) -> Tokenizer:
        """A tokenizer of the text files of a folder, which are tokenized here and now.

        Args:
            path: The folder.
            tok: The tokenizer; spaCy's English words by default.
            rules: What is done to each text before; by default what the tokenizer says, or else `defaults.text_proc_rules`.
            extensions: The suffixes of its files; ".txt" by default.
            folders: Only these direct subfolders.
            encoding: How the bytes of the files are read.
            kwargs: Of the constructor: `sep`, `n_workers`.

        Raises:
            EmptySource: There are no such files.
        """
        res = cls(tok, rules, mode="folder", encoding=encoding, **kwargs)
        res.counter = res._learn(text_files(path, extensions, folders)).count()
        return res

    def setups(self, items: object) -> None:
        if items is None or self.mode == "folder":
            return
        texts: Any = items if isinstance(items, Sized) else L(items)
        if self.is_split:
            self._learn_words(texts)
            return
        if (
            not self.read.is_several and len(texts) and isinstance(next(iter(texts)), (list, L))
        ):  # they are tokens already
            return
        done = self._learn(texts)
        if self.mode == "df" and self.counts:
            self.counter = done.count()

    def _learn(self, items: Iterable[object]) -> Tokenized:
        """Tokenize all items, and keep the tokens."""
        if isinstance(self.tok, BaseTokenizer):
            self.tok.setup(self.tokenize.prepared(self.read(o)) for o in items)
        work = functools.partial(numbered, tokenize=self.tokenize)
        done = tokenized(items, self.read, work, self.tokenize.described, self.n_workers)
        self.corpus = done.corpus
        if self.measures:
            self.lengths = done.lengths
        return done

    def _learn_words(self, items: Iterable[object]) -> None:
        if isinstance(self.tok, BaseTokenizer):
            self.tok.setup(self.tokenize.prepared(" ".join(self.read.words(o))) for o in items)
        counter, lengths = Counter[str](), list[int]()
        for i, item in enumerate(items):
            try:
                tokens = self._of_words(self.read.words(item))
            except Exception as error:
                raise failed(error, f"reading the words of item {i}") from error
            counter.update(tokens)
            lengths.append(len(tokens))
        if self.mode == "df" and self.counts:
            self.counter = counter
        if self.measures:
            self.lengths = lengths

    def _of_words(self, words: Sequence[str]) -> WordTokens:
        """The tokens of words, each of which has at least one. What marks the start of a text stands before all of them."""
        tokens, begins = list[str](), list[int]()
        if self._marks_start:
            tokens, begins = [BOS], [-1]
        for number, word in enumerate(words):
            if word not in self._known_words:
                self._known_words[word] = self._of_word(word)
            own, first = self._known_words[word]
            tokens += own
            begins += [number if i == first else -1 for i in range(len(own))]
        if len(self._known_words) > MOST_WORDS:
            self._known_words.clear()
        return WordTokens(tokens, begins, len(words))

    @functools.cached_property
    def _marks_start(self) -> bool:
        return BOS in next(self.tokenize(["a"]))

    def _of_word(self, word: str) -> tuple[list[str], int]:
        """The tokens of a word, and which of them is the first that is not special."""
        tokens = [token for token in next(self.tokenize([word])) if token not in (BOS, EOS) and token.strip()] or [UNK]
        special = defaults.text_spec_tok
        return tokens, next((i for i, token in enumerate(tokens) if token not in special), 0)

    def get_lengths(self, items: Iterable[object]) -> list[int]:
        """The number of tokens of each item.

        Args:
            items: The items.
        """
        return [len(self.encodes(o)) for o in items]

    def encodes(self, o: object) -> Any:
        if self.is_split:
            return self._of_words(self.read.words(o))
        if isinstance(o, (list, L)) and not self.read.is_several:
            return o
        text = self.read(o)
        known = None if self.corpus is None else self.corpus.tokens(text)
        return next(self.tokenize([text])) if known is None else L(known, use_list=True)

    def decode_tokens(self, o: list[str] | L[str]) -> TitledStr:
        text = self.sep.join(o)
        if not isinstance(o, WordTokens):
            return TitledStr(text)
        return SplitStr.of_words(text, ["".join(decode_spec_tokens(own)) for own in words_in(o, o.words, _BEFORE)])
