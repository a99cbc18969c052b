"""The block of a text: how it becomes the indices of its tokens, and batches of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from layered.data import TransformBlock
from layered.foundation import BadArgument, StrPath, Transform, transforms
from layered.text.cutting import CutText, check_cut
from layered.text.hf_tokenizers import HuggingFaceTokenizer
from layered.text.lm_loader import LMDataLoader
from layered.text.padding import Pad_Chunk, Pad_Input, reverse_text
from layered.text.rules import PAD
from layered.text.sorted_loader import SortedDL
from layered.text.tokenizer import Tokenizer
from layered.text.tokenizers import CharTokenizer
from layered.text.types import TensorText
from layered.text.vocab import Numericalize


class TextBlock(TransformBlock):
    """A text: its tokens as their indices in a vocabulary, int64 [batch, token].

    For a language model, batches are pieces of long streams (`LMDataLoader`), and the tokens that follow are the targets. Else
    they are texts of nearly the same length, padded (`SortedDL`). The vocabulary is that of all texts, or that of
    a pretrained tokenizer.

    Args:
        tok_tfm: What makes tokens of a text: a `Tokenizer`; a tokenizer such as `SpacyTokenizer("de")`; "chars"; a Hugging
            Face tokenizer, its folder, or its name on the hub. By default spaCy's English words.
        vocab: The vocabulary, in order; by default that of all texts, those for validation included.
        is_lm: For a language model.
        seq_len: Tokens that a recurrent model reads at a time.
        backwards: Reverse the texts.
        min_freq: Leave out of the vocabulary tokens that occur less often.
        max_vocab: The most tokens of the vocabulary.
        max_len: The most tokens of a text; by default as many as the model beside a pretrained tokenizer reads, and never more;
            else all.
        cut: What is kept of a longer text: "head"; "head+tail", a quarter of the tokens from the start and the others from the
            end; or "chunks", all of it, for models that read it piece by piece.
        max_tokens: Texts of a batch by their number of tokens, padding included, in place of the batch size.
        is_split: Items are lists of words, or texts with spaces between words, for targets with a label for each word:
            see `TokenCategoryBlock`.

    Raises:
        BadArgument: Arguments do not go together.
        BadValue: `cut` is unknown, or `max_len` is too small.

    Examples:
        >>> TextBlock("chars", vocab=list("ab")).type_tfms[1].vocab
        ['a', 'b']
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
        is_split: bool = False,
    ) -> None:
        check_cut(cut)
        if is_split and (is_lm or backwards):
            raise BadArgument(
                "words with labels are read in their order, by a model that is not a language model",
                got=f"is_split=True, is_lm={is_lm}, backwards={backwards}",
                fix="leave out is_lm= and backwards=",
            )
        if is_lm and max_len is not None:
            raise BadArgument(
                "a language model reads whole texts, seq_len tokens at a time",
                got=f"is_lm=True, max_len={max_len}",
                fix=f"seq_len={max_len}, without max_len",
            )
        tok = as_tokenizer(tok_tfm, is_split=is_split)
        padding: Pad_Input | Pad_Chunk
        if isinstance(tok, HuggingFaceTokenizer):
            steps, padding = _pretrained_steps(tok, vocab, is_lm, max_len, cut)
        else:
            steps = [tok, Numericalize(vocab, min_freq, max_vocab)]
            steps += [] if max_len is None else [CutText(max_len, cut)]
            padding = Pad_Chunk(_pad_idx(vocab), seq_len=seq_len)
        steps += [reverse_text] if backwards else []
        if is_lm:
            super().__init__(steps, dl_type=LMDataLoader, dls_kwargs={"seq_len": seq_len, "drop_last": False})
            return
        # Texts are made once and kept, so that workers would only carry them about.
        settings: dict[str, Any] = {"before_batch": padding, "num_workers": 0}
        settings |= {} if max_tokens is None else {"max_tokens": max_tokens, "drop_last": False}
        super().__init__(steps, dl_type=SortedDL, dls_kwargs=settings)

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
        rules: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """The texts of one or several columns of a table.

        Args:
            text_cols: The column or columns.
            vocab: The vocabulary, in order; by default that of all texts, those for validation included.
            is_lm: For a language model.
            seq_len: Tokens that a recurrent model reads at a time.
            backwards: Reverse the texts.
            min_freq: Leave out of the vocabulary tokens that occur less often.
            max_vocab: The most tokens of the vocabulary.
            tok: The tokenizer: see the constructor.
            rules: What is done to each text before; by default what the tokenizer says, or else `defaults.text_proc_rules`.
            kwargs: Of the constructor: `max_len`, `max_tokens`, ….
        """
        tok = as_tokenizer(tok, rules, text_cols=text_cols)
        return cls(tok, vocab, is_lm, seq_len, backwards, min_freq, max_vocab, **kwargs)

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
        rules: Iterable[Any] | None = None,
        encoding: str = "utf8",
        **kwargs: Any,
    ) -> Self:
        """The content of text files.

        Args:
            path: Accepted because other libraries take it: the files are the items, such as `get_text_files` lists.
            vocab: The vocabulary, in order; by default that of all texts, those for validation included.
            is_lm: For a language model.
            seq_len: Tokens that a recurrent model reads at a time.
            backwards: Reverse the texts.
            min_freq: Leave out of the vocabulary tokens that occur less often.
            max_vocab: The most tokens of the vocabulary.
            tok: The tokenizer: see the constructor.
            rules: What is done to each text before; by default what the tokenizer says, or else `defaults.text_proc_rules`.
            encoding: How the bytes of the files are read.
            kwargs: Of the constructor: `max_len`, `max_tokens`, ….
        """
        tok = as_tokenizer(tok, rules, encoding=encoding)
        return cls(tok, vocab, is_lm, seq_len, backwards, min_freq, max_vocab, **kwargs)


_USUAL_READING = {"text_cols": None, "encoding": "utf8", "is_split": False}


def as_tokenizer(tok: Any, rules: Iterable[Any] | None = None, **reading: Any) -> Any:
    """The transform that makes tokens of texts.

    Args:
        tok: It, or what it is made from: see `TextBlock`.
        rules: What is done to each text before.
        reading: How texts are read: `text_cols`, `encoding`, `is_split`.

    Raises:
        BadArgument: There are rules for a pretrained tokenizer, which has its own.
    """
    if isinstance(tok, (Tokenizer, HuggingFaceTokenizer)):
        given = tok.init_args
        said = {name: value for name, value in reading.items() if given[name] == _USUAL_READING[name] != value}
        known = {"counter": tok.counter, "lengths": tok.lengths} if isinstance(tok, Tokenizer) else {}
        return type(tok).from_init_args({**given, **known, **said}) if said else tok
    if isinstance(tok, Transform):
        return tok
    if tok == "chars":
        tok = CharTokenizer()
    is_pretrained = isinstance(tok, (str, os.PathLike)) or bool(_libraries(tok) & {"tokenizers", "transformers"})
    if not is_pretrained:
        return Tokenizer(tok, rules, mode="df", **reading)
    if rules is not None:
        raise BadArgument("a pretrained tokenizer has its own rules", got="rules=…", fix="leave out rules=")
    return HuggingFaceTokenizer(tok, **reading)


def _libraries(o: object) -> set[str]:
    return {kind.__module__.partition(".")[0] for kind in type(o).__mro__}


def _pad_idx(vocab: Sequence[str] | None) -> int:
    """The index of the padding: 1, unless the vocabulary has it elsewhere."""
    return list(vocab).index(PAD) if vocab is not None and PAD in vocab else 1


def _pretrained_steps(
    tok: HuggingFaceTokenizer, vocab: Sequence[str] | None, is_lm: bool, max_len: int | None, cut: str
) -> tuple[list[Any], Pad_Input]:
    """The steps of a text for a pretrained model, and its padding."""
    if vocab is not None and list(vocab) != tok.vocab:
        raise BadArgument(
            "a pretrained tokenizer has its own vocabulary",
            got=f"a vocabulary of {len(vocab)} tokens for {tok!r}",
            expected=f"its {len(tok.vocab)} tokens",
            fix="leave out vocab= (text_vocab=)",
        )
    max_len = tok.max_len if max_len is None else max_len
    cut = tok.cut if cut == "head" else cut
    if not is_lm:
        max_len = min(filter(None, (max_len, tok.model_limit)), default=None)
    if (max_len, cut) != (tok.max_len, tok.cut):
        tok = HuggingFaceTokenizer.from_init_args({**tok.init_args, "max_len": max_len, "cut": cut})
    end = tok.id_of_role("eos")
    steps: list[Any] = [tok]
    if is_lm and end is not None and end not in tok.suffix:
        steps.append(MarkEnd(end))
    return steps, Pad_Input(tok.pad_idx)


@transforms.register("text.MarkEnd")
class MarkEnd(Transform):
    """Puts the end token after each text of a language model, which learns from it where to stop.

    Args:
        end: Its index.

    Examples:
        >>> MarkEnd(9)(TensorText([4, 5]))
        TensorText([4, 5, 9])
    """

    def __init__(self, end: int) -> None:
        super().__init__()
        self.end = end

    def encode_text(self, ids: TensorText) -> Tensor:
        return torch.cat([ids, ids.new_tensor([self.end])])
