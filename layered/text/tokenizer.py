"""`Tokenizer`: texts, files and columns of rows to tokens, by rules and a tokenizer."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from layered.data import ColReader, get_files
from layered.files import reading
from layered.foundation import (
    BadArgument,
    BadFile,
    BadValue,
    EmptySource,
    L,
    Path,
    StrPath,
    TitledStr,
    Transform,
    defaults,
    describe,
    lazy,
    listify,
    transforms,
)
from layered.text.rules import FLD
from layered.text.tokenizers import BaseTokenizer, Rule, SpacyTokenizer

pd = lazy("pandas")

Tok = Callable[[Iterable[str]], Iterable[Sequence[str]]]


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
        for tokens in self.tok(map(self._prepared, batch)):
            for rule in self.post_rules:
                tokens = [*map(rule, tokens)]
            yield L(tokens, use_list=True)

    def _prepared(self, text: str) -> str:
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


def read_text(path: StrPath, encoding: str = "utf8") -> str:
    """The text of a file.

    Args:
        path: The file.
        encoding: How its bytes are read.

    Raises:
        NotFoundPath: There is no such file.
        BadFile: It is not text of that encoding.
    """
    try:
        with reading(path):
            text: str = Path(path).read_text(encoding)
            return text
    except UnicodeDecodeError as error:
        raise BadFile(
            f"'{path}' is not text in the encoding {error.encoding}",
            got=f"the byte 0x{error.object[error.start]:02x} at position {error.start}",
            fix='encoding="latin-1", or the one that the file was written with; or leave the file out',
        ) from error


def joined_fields(texts: Sequence[object], mark_fields: bool) -> str:
    """The texts of several columns as one.

    Args:
        texts: One for each column.
        mark_fields: Put `xxfld` and the number of the column before each.

    Examples:
        >>> joined_fields(["A film", "good"], mark_fields=True)
        'xxfld 1 A film xxfld 2 good'
    """
    parts = map(as_text, texts)
    return " ".join(f"{FLD} {i} {text}" for i, text in enumerate(parts, 1)) if mark_fields else " ".join(parts)


def as_text(o: object) -> str:
    """`o`, if it is a text.

    Args:
        o: Anything.

    Raises:
        BadArgument: It is missing, a number, bytes or anything else.
    """
    if isinstance(o, str):
        return o
    is_gap = pd.isna(o) is True
    raise BadArgument(
        "a text is missing" if is_gap else "this is not a text",
        got=describe(o),
        expected="a str; an empty one is allowed",
        fix="drop such rows (df.dropna(subset=[column])), or fill them (df[column].fillna(''))"
        if is_gap
        else "decode it (o.decode())"
        if isinstance(o, bytes)
        else "make it one (df[column].astype(str))",
    )


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

    Examples:
        >>> tok = Tokenizer(BaseTokenizer())
        >>> tok("No NO no")
        (#5) ['xxbos','xxmaj','no','xxup','no'...]
        >>> tok.decode(_)
        'xxbos xxmaj no xxup no no'
    """

    train_setup = False

    def __init__(
        self,
        tok: Any = None,
        rules: Iterable[Rule] | None = None,
        counter: Mapping[str, int] | None = None,
        lengths: Sequence[int] | None = None,
        mode: str | None = None,
        sep: str | None = None,
        text_cols: Any = None,
        mark_fields: bool | None = None,
        encoding: str = "utf8",
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
        self.sep = sep if sep is not None else tok.sep if isinstance(tok, BaseTokenizer) else " "
        self.text_cols = listify(text_cols)
        self.mark_fields = len(self.text_cols) > 1 if mark_fields is None else mark_fields
        self._columns = ColReader(self.text_cols) if self.text_cols else None
        self.encoding = encoding

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
        given = {**super().init_args, "tok": self.tok, "counter": None, "lengths": None}
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
            kwargs: Of the constructor: `mark_fields`.
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
            kwargs: Of the constructor: `sep`.

        Raises:
            EmptySource: There are no such files.
        """
        res = cls(tok, rules, mode="folder", encoding=encoding, **kwargs)
        res.counter = Counter(
            token for tokens in map(res.encodes, text_files(path, extensions, folders)) for token in tokens
        )
        return res

    def text(self, o: object) -> str | None:
        """The text of an item: a text itself, the content of a file, columns of a row; None for a list of tokens.

        Args:
            o: The item.
        """
        if isinstance(o, str):
            return o
        if isinstance(o, os.PathLike):
            return read_text(o, self.encoding)
        if isinstance(o, (list, L)):
            return None
        if self._columns is not None:
            cells = self._columns(o)
            return joined_fields(cells if isinstance(cells, L) else [cells], self.mark_fields)
        return as_text(o)

    def encodes(self, o: object) -> Any:
        text = self.text(o)
        return o if text is None else next(self.tokenize([text]))

    def decode_tokens(self, o: list[str] | L[str]) -> TitledStr:
        return TitledStr(self.sep.join(o))


def text_files(path: StrPath, extensions: str | Iterable[str] | None = None, folders: Iterable[str] | None = None) -> L:
    """The text files under a folder, sorted by path.

    Args:
        path: The folder.
        extensions: Their suffixes; ".txt" by default.
        folders: Only these direct subfolders.

    Raises:
        EmptySource: There are none.
    """
    wanted = ".txt" if extensions is None else extensions
    files = get_files(path, wanted, folders=folders)
    if not files:
        others = get_files(path, None, folders=folders)
        raise EmptySource(
            f"found no text files under '{path}'",
            got=f"{len(others)} other files, first '{others[0].name}'" if others else "an empty folder",
            expected=f"files with the suffix {', '.join(listify(wanted))}",
            fix=f'extensions="{others[0].suffix}", or check the path'
            if others and others[0].suffix
            else "check the path",
        )
    return files
