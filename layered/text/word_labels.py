"""A label for each word of a text: the block, how labels come to stand beside tokens, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from layered.data import MultiCategorize, TransformBlock
from layered.foundation import (
    BadValue,
    L,
    Transform,
    default_losses,
    describe,
    failed,
    item_results,
    transforms,
    with_elements,
)
from layered.nn import CrossEntropyLossFlat
from layered.text.types import IGNORED, TensorText, TensorTokenCategory

default_losses.add("token_category", CrossEntropyLossFlat)


@item_results.register("token_category")
def results_of_words(batch: Sequence[Any], results: Tensor) -> Sequence[Tensor]:
    """Of an output or targets for the tokens of texts, what there is for each word: that of its first token.

    Args:
        batch: Texts whose words were given, and perhaps more.
        results: Scores, float [text, token, class], or classes, int64 [text, token]; anything else stays as it is.

    Returns:
        For each text [word, ...].
    """
    text = next(o for o in batch if isinstance(o, TensorText))
    if results.shape[:2] != text.shape or results.ndim != 2 + results.is_floating_point():
        return list(results)
    is_first = (text.words >= 0).to(results.device)
    return torch.split(results[is_first], is_first.sum(1).tolist())


class WordLabels(L[str]):
    """The labels of the words of a text, in their order."""


@transforms.register("text.TokenCategorize")
class TokenCategorize(MultiCategorize):
    """The labels of a text's words to their positions in the vocabulary, fitted on the training items, and back.

    Args:
        vocab: The labels, in order; by default fitted, and sorted.
        add_na: Reserve position 0, '#na#', for missing and unknown labels.
        unseen: How a `DataBlock` treats labels that only validation items have: see `Categorize`.

    Examples:
        >>> cat = TokenCategorize(["B-LOC", "O"])
        >>> cat(["O", "B-LOC"]), cat.decode(cat(["O", "B-LOC"]))
        (TensorTokenCategory([1, 0]), (#2) ['O','B-LOC'])
    """

    target_kind = "token_category"
    makes: ClassVar[type | None] = TensorTokenCategory

    def check_samples(self, samples: Any) -> None:
        """Refuse samples with another number of labels than words.

        Args:
            samples: The samples of a split.

        Raises:
            BadValue: A sample has; or its text does not say which words its tokens belong to.
        """
        for i in range(len(samples)):
            try:
                LabelTokens()(samples[i])
            except Exception as error:
                raise failed(error, f"reading {samples.describe_item(i)}") from error

    def encode_label(self, o: object) -> TensorTokenCategory:  # type: ignore[override]  # of words
        return super().encode_label(o).as_subclass(TensorTokenCategory)

    def decode_index(self, o: Any) -> WordLabels:  # type: ignore[override]  # several labels at once
        return WordLabels([self.fitted_vocab[i] for i in o.tolist() if i != IGNORED], use_list=True)


@transforms.register("text.LabelTokens")
class LabelTokens(Transform):
    """The classes of words beside the tokens of their text: that of a word is that of its first token, and -100, which no loss
    and no metric counts, is that of all others. Decoded, classes of tokens are those of words.

    Examples:
        >>> text = TensorText([7, 8, 9], words=torch.tensor([-1, 0, 1]), word_count=2)
        >>> LabelTokens()((text, TensorTokenCategory([3, 4])))[1]
        TensorTokenCategory([-100,    3,    4])
    """

    needs_inputs: ClassVar[bool] = True

    def __call__(self, x: object, split_idx: int | None = None) -> Any:
        return self._targets(x, _spread)

    def decode(self, x: object, split_idx: int | None = None) -> Any:
        """The classes of words.

        Args:
            x: A sample, or anything else, which stays as it is.
            split_idx: Ignored: this is undone for all splits.
        """
        return self._targets(x, _gathered)

    def _targets(self, x: object, change: Callable[[Any, TensorText], Any]) -> Any:
        if not isinstance(x, tuple) or not any(isinstance(o, TensorTokenCategory) for o in x):
            return x
        text = next((o for o in x if isinstance(o, TensorText)), None)
        if text is None or "words" not in vars(text):
            raise BadValue(
                "it is not known which words the tokens of the text belong to",
                got=describe(text) if text is not None else "a sample without a text",
                expected="a text whose words are given, beside a label for each of them",
                fix='TextBlock.from_df("words", is_split=True)',
            )
        return with_elements(x, [change(o, text) if isinstance(o, TensorTokenCategory) else o for o in x])


def _spread(classes: TensorTokenCategory, text: TensorText) -> TensorTokenCategory:
    if len(classes) != text.word_count:
        raise BadValue(
            "a text has not as many labels as words",
            got=f"{len(classes)} labels for {text.word_count} words",
            expected="a label for each word",
            fix="give the words as a list: ['Ada', 'lives'] with ['B-PER', 'O']; of a text, words are what stands between spaces",
        )
    is_first = text.words >= 0
    spread = torch.full(text.shape, IGNORED)
    spread[is_first] = classes.as_plain()[text.words[is_first]]
    return TensorTokenCategory(spread)


def _gathered(classes: TensorTokenCategory, text: TensorText) -> Tensor:
    return classes[text.words.to(classes.device) >= 0]


def TokenCategoryBlock(
    vocab: Sequence[Any] | None = None, add_na: bool = False, unseen: str = "error"
) -> TransformBlock:
    """A target with a label for each word of a text, such as what kind of name it belongs to.

    The words are given: `TextBlock.from_df("words", is_split=True)`, with lists of words, or texts with a space between any two
    words; the targets are lists of labels of the same lengths. The first token of a word has its label; other tokens, and
    padding, do not count.

    Args:
        vocab: The labels, in order; by default the sorted labels of the training items.
        add_na: Reserve class 0, '#na#', for missing and unknown labels.
        unseen: How to treat labels that only validation items have: "error", "drop" these items, or "extend" the
            vocabulary.
    """
    return TransformBlock(TokenCategorize(vocab, add_na, unseen), item_tfms=LabelTokens())


def labels_words(block: Any) -> bool:
    """Whether a block is one of labels of words.

    Args:
        block: A block, or the class or function that makes one.
    """
    made = block if isinstance(block, TransformBlock) else block()
    return any(isinstance(step, TokenCategorize) for step in made.type_tfms)
