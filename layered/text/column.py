"""What a learner knows of its texts: their vocabulary, the words with a part of their own, and how a text becomes numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from layered.data import as_dataset, as_loader, as_loaders, plain_function
from layered.foundation import BadValue, Pipeline, failed
from layered.text.hf_tokenizers import HuggingFaceTokenizer
from layered.text.padding import reverse_text
from layered.text.rules import BOS, EOS, PAD, UNK
from layered.text.tokenizer import Tokenizer
from layered.text.types import TensorText
from layered.text.vocab import FAKE, Numericalize

Decoder = Callable[[Sequence[str]], Sequence[str]]


@dataclass(frozen=True)
class TextColumn:
    """The texts of some loaders.

    Args:
        dataset: The data set that they are the first column of.
        step: The transform that has the vocabulary.
        vocab: The words in order.
        pad: The number of the word for padding; None if there is none.
        unk: The number of the word for unknown ones.
        end: The number of the word that ends a text.
        backwards: Whether texts are read from their end to their start.
        targets: The kinds of the targets that the loaders have beside them.
    """

    dataset: Any
    step: Numericalize | HuggingFaceTokenizer
    vocab: list[str]
    pad: int | None
    unk: int | None
    end: int | None
    backwards: bool
    targets: list[str | None]

    @classmethod
    def of_loaders(cls, dls: Any) -> TextColumn:
        """The first column of the training loader.

        Args:
            dls: The loaders.

        Raises:
            BadValue: It does not hold texts.
        """
        dataset = as_dataset(as_loader(as_loaders(dls).train).dataset)
        steps: list[Any] = list(dataset.columns[0].tfms) if dataset.columns else []
        step = next((o for o in steps if isinstance(o, (Numericalize, HuggingFaceTokenizer))), None)
        vocab = None if step is None else step.vocab
        if step is None or not vocab:
            raise BadValue(
                "the loaders have no vocabulary of words",
                got=f"a data set of type {type(dataset).__name__}",
                expected="one whose inputs are texts, with Numericalize in their pipeline",
                fix="TextDataLoaders.from_folder(path), or a DataBlock that begins with a TextBlock",
            )
        backwards = any(plain_function(o) is reverse_text for o in steps)
        if isinstance(step, HuggingFaceTokenizer):
            pad, unk, end = map(step.id_of_role, ("pad", "unk", "eos"))
        else:
            pad, unk, end = (vocab.index(o) if o in vocab else None for o in (PAD, UNK, EOS))
        return cls(dataset, step, vocab, pad, unk, end, backwards, dataset.target_kinds)

    @property
    def in_no_text(self) -> list[int]:
        """The numbers of words that no text has: padding, unless it also ends texts, and what fills the vocabulary up."""
        padding = [] if self.pad in (None, self.end) else [self.pad]
        return [*padding, *(i for i, word in enumerate(self.vocab) if word == FAKE)]

    def read(self, text: str) -> list[int]:
        """The beginning of a text as numbers, in the order in which a language model reads them.

        Args:
            text: The text.
        """
        step = self.step
        try:
            if isinstance(step, HuggingFaceTokenizer):
                ids = [*step.prefix, *step.body(text)]
            else:
                steps = list(
                    self.dataset.test_set([text], None).columns[0].tfms
                )  # without those that find texts in rows
                ids = Pipeline(steps[: steps.index(step) + 1], split_idx=1)(text).tolist()
        except Exception as error:
            raise failed(error, f"reading the text {text[:80]!r}") from error
        if not self.backwards:
            return ids
        return [i for i in reversed(ids) if self.vocab[i] != BOS]  # what begins a text would be its end

    def write(self, ids: Sequence[int], decoder: Decoder) -> str:
        """The text of numbers.

        Args:
            ids: The numbers, in the order in which a language model reads them.
            decoder: From tokens to words; not asked where a pretrained tokenizer does that itself.
        """
        ids = list(reversed(ids)) if self.backwards else list(ids)
        if isinstance(self.step, HuggingFaceTokenizer):
            return str(self.step.decode(TensorText(torch.tensor(ids))))
        words = decoder([self.vocab[i] for i in ids if self.vocab[i] not in (BOS, PAD)])
        tokenizer = next((step for step in self.dataset.columns[0].tfms if isinstance(step, Tokenizer)), None)
        return " ".join(words) if tokenizer is None else str(tokenizer.decode(list(words)))
