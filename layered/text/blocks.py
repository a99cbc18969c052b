"""The block of a text: how it becomes the indices of its tokens, and batches of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from layered.data import TfmdLists, TransformBlock
from layered.foundation import BadArgument, BadValue, StrPath, Transform, transforms, warn
from layered.text.lm_loader import LMDataLoader
from layered.text.padding import Pad_Chunk, reverse_text
from layered.text.rules import PAD
from layered.text.sorted_loader import SortedDL
from layered.text.tokenizer import Tokenizer
from layered.text.tokenizers import CharTokenizer
from layered.text.types import TensorText
from layered.text.vocab import Numericalize

CUTS = ("head", "head+tail", "chunks")


class TextBlock(TransformBlock):
    """A text: its tokens as their indices in a vocabulary, int64 [batch, token].

    For a language model, batches are pieces of long streams (`LMDataLoader`), and the tokens that follow are the targets. Else
    they are texts of nearly the same length, padded (`SortedDL`). The vocabulary is that of the training texts.

    Args:
        tok_tfm: What makes tokens of a text: a `Tokenizer`; a tokenizer such as `SpacyTokenizer("de")`; "chars".
        vocab: The vocabulary, in order; by default that of the training texts.
        is_lm: For a language model.
        seq_len: Tokens that a recurrent model reads at a time.
        backwards: Reverse the texts.
        min_freq: Leave out of the vocabulary tokens that occur less often.
        max_vocab: The most tokens of the vocabulary.
        max_len: The most tokens of a text; None for all.
        cut: What is kept of a longer text: "head"; "head+tail", a quarter of the tokens from the start and the others from the
            end; or "chunks", all of it, for models that read it piece by piece.
        max_tokens: Texts of a batch by their number of tokens, padding included, in place of the batch size.
        text_cols: The column or columns of a row that hold the text.
        rules: What is done to each text before; by default what the tokenizer says, or else `defaults.text_proc_rules`.
        encoding: How the bytes of files are read.

    Examples:
        >>> TextBlock("chars", vocab=list("ab")).type_tfms[1]
        Numericalize(vocab=['a', 'b'])
    """

    def __init__(
        self,
        tok_tfm: Any = None,
        vocab: Sequence[str] | None = None,
        is_lm: bool = False,
        seq_len: int = 72,
        backwards: bool = False,
        min_freq: int = 3,
        max_vocab: int = 60000,
        *,
        max_len: int | None = None,
        cut: str = "head",
        max_tokens: int | None = None,
        text_cols: Any = None,
        rules: Iterable[Any] | None = None,
        encoding: str = "utf8",
    ) -> None:
        if cut not in CUTS:
            raise BadValue("unknown way to cut texts", got=f"cut={cut!r}", expected=", ".join(map(repr, CUTS)))
        if is_lm and max_len is not None:
            raise BadArgument(
                "a language model reads whole texts, seq_len tokens at a time",
                got=f"is_lm=True, max_len={max_len}",
                fix=f"seq_len={max_len}, without max_len",
            )
        steps: list[Any] = [as_tokenizer(tok_tfm, text_cols, rules, encoding), Numericalize(vocab, min_freq, max_vocab)]
        if max_len is not None:
            steps.append(CutText(max_len, cut))
        if backwards:
            steps.append(reverse_text)
        super().__init__(type_tfms=steps, **batches_of_texts(is_lm, seq_len, pad_idx(vocab), max_tokens))

    @classmethod
    def from_df(
        cls,
        text_cols: str | int | Sequence[str | int],
        vocab: Sequence[str] | None = None,
        is_lm: bool = False,
        seq_len: int = 72,
        backwards: bool = False,
        min_freq: int = 3,
        max_vocab: int = 60000,
        *,
        tok: Any = None,
        **kwargs: Any,
    ) -> Self:
        """The texts of one or several columns of a table.

        Args:
            text_cols: The column or columns.
            vocab: The vocabulary, in order; by default that of the training texts.
            is_lm: For a language model.
            seq_len: Tokens that a recurrent model reads at a time.
            backwards: Reverse the texts.
            min_freq: Leave out of the vocabulary tokens that occur less often.
            max_vocab: The most tokens of the vocabulary.
            tok: The tokenizer; spaCy's English words by default.
            kwargs: Of the constructor: `max_len`, `max_tokens`, `rules`, ….
        """
        return cls(tok, vocab, is_lm, seq_len, backwards, min_freq, max_vocab, text_cols=text_cols, **kwargs)

    @classmethod
    def from_folder(
        cls,
        path: StrPath,
        vocab: Sequence[str] | None = None,
        is_lm: bool = False,
        seq_len: int = 72,
        backwards: bool = False,
        min_freq: int = 3,
        max_vocab: int = 60000,
        *,
        tok: Any = None,
        **kwargs: Any,
    ) -> Self:
        """The content of text files.

        Args:
            path: Accepted because other libraries take it: the files are the items, such as `get_text_files` lists.
            vocab: The vocabulary, in order; by default that of the training texts.
            is_lm: For a language model.
            seq_len: Tokens that a recurrent model reads at a time.
            backwards: Reverse the texts.
            min_freq: Leave out of the vocabulary tokens that occur less often.
            max_vocab: The most tokens of the vocabulary.
            tok: The tokenizer; spaCy's English words by default.
            kwargs: Of the constructor: `max_len`, `max_tokens`, `encoding`, ….
        """
        return cls(tok, vocab, is_lm, seq_len, backwards, min_freq, max_vocab, **kwargs)


def as_tokenizer(tok: Any, text_cols: Any = None, rules: Iterable[Any] | None = None, encoding: str = "utf8") -> Any:
    """The transform that makes tokens of texts.

    Args:
        tok: It, or what it is made from: a tokenizer, its class, "chars"; spaCy's English words by default.
        text_cols: The columns of a row that hold the text.
        rules: What is done to each text before.
        encoding: How the bytes of files are read.
    """
    if isinstance(tok, Transform):
        return tok
    if isinstance(tok, str) and tok == "chars":
        tok = CharTokenizer()
    return Tokenizer(tok, rules, text_cols=text_cols, encoding=encoding)


def pad_idx(vocab: Sequence[str] | None) -> int:
    """The index of the padding token in a vocabulary: 1, unless the vocabulary has it elsewhere.

    Args:
        vocab: The vocabulary; None for one to be made.
    """
    return list(vocab).index(PAD) if vocab is not None and PAD in vocab else 1


def batches_of_texts(is_lm: bool, seq_len: int, padding: int, max_tokens: int | None) -> dict[str, Any]:
    """The loader of texts and its settings, as arguments of `TransformBlock`.

    Args:
        is_lm: For a language model.
        seq_len: Tokens that a recurrent model reads at a time.
        padding: The index of the padding.
        max_tokens: The most tokens of a batch, padding included; None for batches of a number of texts.
    """
    if is_lm:
        return {"dl_type": LMDataLoader, "dls_kwargs": {"seq_len": seq_len, "drop_last": False}}
    # Texts are made once and kept, so that workers would only carry them about.
    settings = {"before_batch": Pad_Chunk(padding, seq_len=seq_len), "num_workers": 0}
    if max_tokens is not None:
        settings |= {"max_tokens": max_tokens, "drop_last": False}
    return {"dl_type": SortedDL, "dls_kwargs": settings}


@transforms.register("text.CutText")
class CutText(Transform):
    """Cuts texts that are too long, and warns once how many are.

    Args:
        max_len: The most tokens of a text.
        cut: What is kept: "head"; "head+tail", a quarter of the tokens from the start and the others from the end; or
            "chunks", all of it.

    Examples:
        >>> CutText(4, "head+tail")(TensorText([2, 3, 4, 5, 6]))
        TensorText([2, 4, 5, 6])
    """

    def __init__(self, max_len: int, cut: str = "head") -> None:
        super().__init__()
        if max_len < 1:
            raise BadValue("invalid length of a text", got=f"max_len={max_len}", fix="max_len=512")
        self.max_len, self.cut = max_len, cut

    def setup_column(self, column: TfmdLists) -> None:
        """Count the training texts that are too long."""
        if self.cut != "chunks":
            warn_of_cuts([len(text) for text in column], self.max_len, self.cut)

    def encode_text(self, ids: TensorText) -> Tensor:
        if len(ids) <= self.max_len or self.cut == "chunks":
            return ids
        head = self.max_len if self.cut == "head" else self.max_len // 4
        return torch.cat([ids[:head], ids[len(ids) - (self.max_len - head) :]])


def warn_of_cuts(lengths: Sequence[int], max_len: int, cut: str) -> None:
    """Warn how many texts are longer than a model reads.

    Args:
        lengths: The number of tokens of each text.
        max_len: The most tokens that are read.
        cut: What is kept.
    """
    count = sum(length > max_len for length in lengths)
    if count:
        kept = "their first tokens are" if cut == "head" else "their first and last tokens are"
        warn(
            f"{count} of {len(lengths)} training texts are longer than max_len={max_len} tokens, the longest {max(lengths)}: "
            f"only {kept} read"
        )
