"""Text: tokens, vocabularies, language models and classifiers."""

from typing import TYPE_CHECKING

from layered.foundation.faces import star as _star
from layered.text.types import LMTensorText as LMTensorText, TensorText as TensorText

if not TYPE_CHECKING:
    __all__ = _star(globals())
