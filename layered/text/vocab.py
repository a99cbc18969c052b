"""Vocabularies: which tokens a model knows, and the number of each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from layered.data import TfmdLists
from layered.foundation import BadArgument, L, Transform, defaults, describe, transforms
from layered.text.store import JoinedTexts
from layered.text.tokenizer import Tokenizer
from layered.text.types import TensorText
from layered.text.words import WordTokens

FAKE = "xxfake"


def make_vocab(
    count: Mapping[str, int],
    min_freq: int = 3,
    max_vocab: int = 60000,
    special_toks: Sequence[str] | None = None,
) -> list[str]:
    """The special tokens, then the most frequent ones; `xxfake` fills up the last eight.

    At least one `xxfake` is there, so where the size is a multiple of eight already, eight are added.

    Args:
        count: How often each token occurs; of two that occur equally often, the first stands first.
        min_freq: Leave out tokens that occur less often.
        max_vocab: The most tokens, special ones included.
        special_toks: What stands first; by default `defaults.text_spec_tok`.

    Examples:
        >>> make_vocab(Counter("abracadabra"), special_toks=["xxunk"])
        ['xxunk', 'a', 'xxfake', 'xxfake', 'xxfake', 'xxfake', 'xxfake', 'xxfake']
    """
    special = list(dict.fromkeys(defaults.text_spec_tok if special_toks is None else special_toks))
    frequent = [token for token, times in Counter(count).most_common(max_vocab) if times >= min_freq]
    vocab = [*special, *(token for token in frequent if token not in special)][:max_vocab]
    return vocab + [FAKE] * (8 - len(vocab) % 8)


@transforms.register("text.Numericalize")
class Numericalize(Transform):
    """Tokens to their numbers in a vocabulary; unknown tokens are number 0.

    The vocabulary is that of the texts which a `Tokenizer` before it has counted, or else that of the training texts.

    Args:
        vocab: The vocabulary, if it is known.
        min_freq: Leave out tokens that occur less often in training.
        max_vocab: The most tokens, special ones included.
        special_toks: What stands first; by default `defaults.text_spec_tok`.

    Attributes:
        vocab: The tokens in order.
        o2i: From token to number; 0 for unknown ones.

    Examples:
        >>> num = Numericalize(["xxunk", "a", "film"])
        >>> num(["a", "good", "film"])
        TensorText([1, 0, 2])
        >>> num.decode(_)
        (#3) ['a','xxunk','film']
    """

    fits = ("vocab",)

    def __init__(
        self,
        vocab: Iterable[str] | None = None,
        min_freq: int = 3,
        max_vocab: int = 60000,
        special_toks: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.min_freq, self.max_vocab, self.special_toks = min_freq, max_vocab, special_toks
        self.fits_vocab = vocab is None
        self.vocab = None if vocab is None else list(vocab)

    @property
    def vocab(self) -> list[str] | None:
        """The tokens in order; None before it is fitted."""
        return self._vocab

    @vocab.setter
    def vocab(self, vocab: list[str] | None) -> None:
        if vocab is not None and not (isinstance(vocab, list) and all(isinstance(token, str) for token in vocab)):
            raise BadArgument(
                "a vocabulary is a list of tokens", got=describe(vocab), expected='a list: ["xxunk", "the"]'
            )
        self._vocab = vocab
        self.o2i: dict[str, int] = defaultdict(int)
        self.o2i.update({token: i for i, token in enumerate(vocab or ()) if token != FAKE})

    def setup_column(self, items: TfmdLists) -> None:
        """Fit the vocabulary, to the whole table or folder that a tokenizer has counted, or else to these texts."""
        counted = (step.counter for step in items.tfms if isinstance(step, Tokenizer))
        self._fit(next(counted, None), items)

    def setup_texts(self, texts: Iterable) -> None:  # type: ignore[type-arg]  # an overload: chosen by the class
        """Fit the vocabulary to lists of tokens."""
        self._fit(None, texts)

    def _fit(self, count: Mapping[str, int] | None, texts: Iterable[Iterable[str]]) -> None:
        if self.fits_vocab:
            count = Counter(token for tokens in texts for token in tokens) if count is None else count
            self.vocab = make_vocab(count, self.min_freq, self.max_vocab, self.special_toks)

    def keep(self, texts: Iterable[list[str]]) -> JoinedTexts:
        """The numbers of all texts of a column.

        Args:
            texts: Their tokens.
        """
        return JoinedTexts(map(self, texts))

    def encode_tokens(self, tokens: list[str] | L[str]) -> TensorText:
        if self._vocab is None:
            raise BadArgument(
                "the vocabulary is not fitted yet",
                got="Numericalize() without a vocabulary",
                fix="num.setup(tokenized_texts), or Numericalize(vocab=[…])",
            )
        number = self.o2i.get
        ids = TensorText(torch.tensor([number(token, 0) for token in tokens], dtype=torch.int64))
        if isinstance(tokens, WordTokens):
            ids.words, ids.word_count = torch.tensor(tokens.words, dtype=torch.int64), tokens.word_count
        return ids

    def decodes(self, ids: TensorText) -> Any:
        assert self._vocab is not None
        vocab = self._vocab
        tokens = [vocab[i] for i in ids.tolist()]
        if "words" in vars(ids):
            return WordTokens(tokens, ids.words.tolist(), len(tokens))
        return L(tokens, use_list=True)
