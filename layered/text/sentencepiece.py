"""Sub-words by SentencePiece: a tokenizer that is trained on texts, or read from a .model file."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

from layered.files import exactly, read_whole, value_kinds
from layered.foundation import BadArgument, BadFile, BadValue, StrPath, defaults, one_line, require
from layered.text.tokenizers import BaseTokenizer

eu_langs = (
    "bg", "cs", "da", "de", "el", "en", "es", "et", "fi", "fr", "ga", "hr", "hu", "it", "lt", "lv", "mt", "nl", "pl",
    "pt", "ro", "sk", "sl", "sv",
)  # fmt: skip
MODEL_TYPES = ("unigram", "bpe")


@value_kinds.register("text.SentencePieceTokenizer")
class SentencePieceTokenizer(BaseTokenizer):
    """Sub-words; "▁" stands for the space before a word. The package `sentencepiece` is imported when it is needed.

    Args:
        lang: The language, which decides on the default of `char_coverage`.
        special_toks: The tokens that are never divided; by default `defaults.text_spec_tok`.
        sp_model: A .model file, or its content; by default the tokenizer is trained in `setup`.
        vocab_sz: The number of sub-words; by default a quarter of the distinct words, at most `max_vocab_sz`.
        max_vocab_sz: The most sub-words, where `vocab_sz` is not given.
        model_type: "unigram" or "bpe".
        char_coverage: The share of the characters that have tokens of their own; by default 0.99999 for languages of the
            European Union, and 0.9998 for others.
        cache_dir: Accepted for compatibility: the trained model is kept in the object.

    Raises:
        BadFile: `sp_model` is not a model of SentencePiece.
    """

    package = "sentencepiece"

    def __init__(
        self,
        lang: str = "en",
        special_toks: Sequence[str] | None = None,
        sp_model: StrPath | bytes | None = None,
        vocab_sz: int | None = None,
        max_vocab_sz: int = 30000,
        model_type: str = "unigram",
        char_coverage: float | None = None,
        cache_dir: StrPath = "tmp",
    ) -> None:
        if model_type not in MODEL_TYPES:
            raise BadValue(
                "unknown type of model",
                got=f"model_type={model_type!r}",
                expected=", ".join(map(repr, MODEL_TYPES)),
            )
        self.lang, self.vocab_sz, self.max_vocab_sz, self.model_type = lang, vocab_sz, max_vocab_sz, model_type
        self.special_toks = list(defaults.text_spec_tok if special_toks is None else special_toks)
        self.char_coverage = char_coverage or (0.99999 if lang in eu_langs else 0.9998)
        self.model: bytes | None = None
        self._processor: Any = None
        if sp_model is not None:
            self._use(sp_model if isinstance(sp_model, bytes) else read_whole(sp_model))

    def setup(self, texts: Iterable[str]) -> None:
        """Train on texts, unless there is a model already.

        Args:
            texts: The texts.
        """
        if self.model is not None:
            return
        kept = list(texts)
        size = self.vocab_sz or _default_size(kept, self.max_vocab_sz)
        written = io.BytesIO()
        try:
            _sentencepiece().SentencePieceTrainer.train(
                sentence_iterator=_lines(kept),
                model_writer=written,
                vocab_size=size,
                model_type=self.model_type,
                character_coverage=self.char_coverage,
                unk_id=len(self.special_toks),
                pad_id=-1,
                bos_id=-1,
                eos_id=-1,
                user_defined_symbols=[f"▁{token}" for token in self.special_toks],
                hard_vocab_limit=False,
                minloglevel=2,
            )
        except (RuntimeError, ValueError) as error:
            raise BadValue(
                "these texts do not make a SentencePiece model",
                got=f"{len(kept)} texts, vocab_sz={size}: {one_line(str(error)):.200}",
                fix="give more texts, or another vocab_sz",
            ) from error
        self.vocab_sz = size
        self._use(written.getvalue())

    def _use(self, model: bytes) -> None:
        try:
            processor = _sentencepiece().SentencePieceProcessor(model_proto=model)
            processor.id_to_piece([*range(len(processor))])
        except (RuntimeError, UnicodeDecodeError) as error:  # of the model, or of a piece that is not text
            raise BadFile("this is not a model of SentencePiece", got=f"{error!s:.100}") from error
        self.model, self._processor = model, processor

    def tokenize(self, text: str) -> list[str]:
        """The sub-words of one text.

        Args:
            text: The text.
        """
        if self._processor is None:
            raise BadArgument(
                "the SentencePiece model is not trained yet",
                got=repr(self),
                fix='tok.setup(texts), or SentencePieceTokenizer(sp_model="spm.model")',
            )
        pieces: list[str] = self._processor.encode(text, out_type=str)
        return pieces

    def described(self) -> dict[str, Any]:
        """As data, for exports: what it was trained with, and the model."""
        model = None if self.model is None else base64.b64encode(self.model).decode()
        return {
            "lang": self.lang,
            "special_toks": self.special_toks,
            "vocab_sz": self.vocab_sz,
            "model_type": self.model_type,
            "char_coverage": self.char_coverage,
            "sp_model": model,
        }

    @classmethod
    def from_described(cls, state: dict[str, Any]) -> Self:
        """Undo `described`.

        Args:
            state: What it returned.
        """
        model = state["sp_model"]
        return cls(**{**state, "sp_model": None if model is None else base64.b64decode(exactly(str, model))})

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_processor": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.model is not None:
            self._use(self.model)


SubwordTokenizer = SentencePieceTokenizer


def _sentencepiece() -> Any:
    return require("sentencepiece", extra="sentencepiece", why="SentencePieceTokenizer")


def _lines(texts: Iterable[str]) -> Iterator[str]:
    return itertools.chain.from_iterable(text.split("\n") for text in texts)


def _default_size(texts: Iterable[str], most: int) -> int:
    """A quarter of the distinct words, rounded up to a multiple of eight, at least 29."""
    words = {word for text in texts for word in text.split()}
    return most if len(words) // 4 > most else max(29, -(-(len(words) // 4) // 8) * 8)
