"""What the numbers of a text are."""

from __future__ import annotations

from layered.foundation import TensorBase


class TensorText(TensorBase):
    """The indices of a text's tokens in a vocabulary: int64 [token] or [batch, token]."""


class LMTensorText(TensorText):
    """A piece of a stream of tokens, of which the next one is to be predicted: int64 [token] or [batch, token]."""
