"""Padding: the texts of a batch to one length.

A padded text says where it is padding, in its attribute `padding`: models ask `padding_mask`, never the indices alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor

from layered.foundation import ItemTransform, L, functions, listify, transforms
from layered.text.types import BESIDE, IGNORED, TensorText, TensorTokenCategory


def pad_chunk(x: Tensor, pad_idx: int = 1, pad_first: bool = True, seq_len: int = 72, pad_len: int = 10) -> Tensor:
    """A text with padding in whole chunks on one side and the rest after it, so that it starts where a chunk does.

    Args:
        x: int64 [token].
        pad_idx: The index of the padding.
        pad_first: The whole chunks stand before the text; by False, after it.
        seq_len: Tokens of a chunk.
        pad_len: The length with padding.

    Examples:
        >>> pad_chunk(torch.tensor([5, 6]), seq_len=3, pad_len=6)
        tensor([1, 1, 1, 5, 6, 1])
    """
    whole = x.new_zeros(pad_len)
    return Pad_Chunk(pad_idx, pad_first, seq_len).padded([x, whole])[0]


class _Padding(ItemTransform):
    """Base of steps of `before_batch` that pad the texts in a list of samples, and that decoding undoes."""

    def __call__(self, x: object, split_idx: int | None = None, **changes: Any) -> Any:
        """The samples, padded.

        Args:
            x: The samples of a batch.
            split_idx: As for every transform.
            changes: Other values of the arguments of the class, for this call: `pad_input(samples, pad_idx=0)`.
        """
        padding = type(self).from_init_args({**self.init_args, **changes}) if changes else self
        return super(_Padding, padding).__call__(x, split_idx)

    pad_idx: int

    def text_fields(self, sample: Sequence[Any]) -> Sequence[int]:
        """Which elements of a sample are texts."""
        raise NotImplementedError

    def before(self, missing: int) -> int:
        """How much of `missing` tokens of padding stands before a text."""
        raise NotImplementedError

    def encode_samples(self, samples: Sequence[Any]) -> list[Any]:
        rows = [list(sample) if isinstance(sample, (tuple, list)) else [sample] for sample in samples]
        fields = self.text_fields(rows[0])
        for i in fields:
            for row, text in zip(rows, self.padded([row[i] for row in rows]), strict=True):
                row[i] = text
        for row in rows if fields else ():
            row[:] = [beside_text(o, row[fields[0]]) if isinstance(o, TensorTokenCategory) else o for o in row]
        return [
            tuple(row) if isinstance(sample, (tuple, list)) else row[0]
            for sample, row in zip(samples, rows, strict=True)
        ]

    def padded(self, texts: Sequence[Tensor]) -> list[Tensor]:
        """Texts, padded to the length of the longest."""
        kind, plain = type(texts[0]), [text.as_subclass(Tensor) for text in texts]
        lengths = [len(text) for text in plain]
        longest = max(lengths)
        ids = plain[0].new_full((len(texts), longest), self.pad_idx)
        padding = torch.ones(ids.shape, dtype=torch.bool)
        for row, hidden, text, length in zip(ids, padding, plain, lengths, strict=True):
            start = self.before(longest - length)
            row[start : start + length] = text
            hidden[start : start + length] = False
        if not issubclass(kind, TensorText):
            return list(ids)
        made: list[Tensor] = [row.as_subclass(kind) for row in ids]
        for padded, text, hidden in zip(made, texts, padding, strict=True):
            padded.padding = hidden  # type: ignore[attr-defined]  # a TensorText
            for name in BESIDE.keys() & vars(text):
                beside = torch.full(hidden.shape, BESIDE[name]).masked_scatter(~hidden, vars(text)[name])
                setattr(padded, name, beside)
        return made

    def decode_batch(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        text = next((o for o in batch if _is_padded(o)), None)
        return tuple(unpadded(o, text) for o in batch)

    def decode_texts(self, texts: TensorText) -> Any:
        return unpadded(texts)


def beside_text(classes: TensorTokenCategory, text: Any) -> Tensor:
    """The classes of a text's tokens beside the padded text: those of padding do not count.

    Args:
        classes: int64 [token].
        text: The padded text.
    """
    return classes.new_full(text.shape, IGNORED).masked_scatter(~text.padding, classes)


def _is_padded(o: object) -> TypeGuard[TensorText]:
    return isinstance(o, TensorText) and o.ndim == 2 and "padding" in vars(o)


def unpadded(batch: object, text: TensorText | None = None) -> Any:
    """The texts of a padded batch in a list, each without its padding, and the classes of tokens; anything else as it is.

    Args:
        batch: An element of a batch.
        text: The texts that classes of tokens stand beside.
    """
    if _is_padded(batch):
        text = batch
    elif text is None or not isinstance(batch, TensorTokenCategory):
        return batch
    kept = [row[~padding.to(row.device)] for row, padding in zip(batch, text.padding, strict=True)]
    for row in kept:
        vars(row).pop("padding", None)
    return L(kept, use_list=True)


@transforms.register("text.Pad_Input")
class Pad_Input(_Padding):
    """Pads texts to the length of the longest in their batch: a step of `before_batch`.

    Args:
        pad_idx: The index of the padding.
        pad_fields: Which elements of a sample are texts: a position, or several.
        pad_first: Pad before the texts; by default after them.
        backwards: Reverse the padded texts.

    Examples:
        >>> pad_input([(torch.tensor([1, 2, 3]), 1), (torch.tensor([4]), 2)], pad_idx=0)
        [(tensor([1, 2, 3]), 1), (tensor([4, 0, 0]), 2)]
    """

    def __init__(
        self, pad_idx: int = 1, pad_fields: int | Sequence[int] = 0, pad_first: bool = False, backwards: bool = False
    ) -> None:
        super().__init__()
        self.pad_idx, self.pad_fields, self.pad_first, self.backwards = pad_idx, pad_fields, pad_first, backwards

    def text_fields(self, sample: Sequence[Any]) -> Sequence[int]:
        """The `pad_fields`."""
        return listify(self.pad_fields)

    def before(self, missing: int) -> int:
        """All or nothing."""
        return missing if self.pad_first else 0

    def padded(self, texts: Sequence[Tensor]) -> list[Tensor]:
        """Texts, padded to the length of the longest, and reversed if it was asked for."""
        made = super().padded(texts)
        return list(map(reverse_text, made)) if self.backwards else made


@transforms.register("text.Pad_Chunk")
class Pad_Chunk(_Padding):
    """Pads texts to the length of the longest in their batch, as `pad_chunk` does: a step of `before_batch`.

    Recurrent models read a text in chunks of `seq_len` tokens. A short text starts with whole chunks of padding, which they
    pass over, and its first token is the first of a chunk.

    Args:
        pad_idx: The index of the padding.
        pad_first: The whole chunks stand before the text; by False, after it.
        seq_len: Tokens of a chunk.
        decode: Take the padding off again where texts are decoded.
    """

    def __init__(self, pad_idx: int = 1, pad_first: bool = True, seq_len: int = 72, decode: bool = True) -> None:
        super().__init__()
        self.pad_idx, self.pad_first, self.seq_len, self.is_undone = pad_idx, pad_first, seq_len, decode

    def text_fields(self, sample: Sequence[Any]) -> Sequence[int]:
        """Every `TensorText`."""
        return [i for i, o in enumerate(sample) if isinstance(o, TensorText)]

    def before(self, missing: int) -> int:
        """As many whole chunks as it holds."""
        return missing // self.seq_len * self.seq_len if self.pad_first else 0

    def decode(self, x: object, split_idx: int | None = None) -> Any:
        """The texts without padding, if it was made to decode."""
        return super().decode(x, split_idx) if self.is_undone else x


pad_input = Pad_Input()


@functions.register("text.pad_input_chunk")
def pad_input_chunk(samples: Sequence[Sequence[Any]], n_inp: int = 1, **kwargs: Any) -> list[tuple[Any, ...]]:
    """Pad the first `n_inp` elements of samples to one length, as `pad_chunk` does.

    Args:
        samples: The samples of a batch.
        n_inp: How many leading elements are texts.
        kwargs: For `pad_chunk`: `pad_idx`, `pad_first`, `seq_len`.
    """
    texts = Pad_Chunk(**kwargs).padded([text for sample in samples for text in sample[:n_inp]])
    return [(*texts[i * n_inp : (i + 1) * n_inp], *sample[n_inp:]) for i, sample in enumerate(samples)]


@functions.register("text.reverse_text")
def reverse_text(x: Tensor) -> Tensor:
    """A text from its last token to its first.

    Args:
        x: int64 [token].
    """
    return x.flip(0)
