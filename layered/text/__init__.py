"""Text: tokens, vocabularies, language models and classifiers."""

from typing import TYPE_CHECKING

from layered.foundation.faces import star as _star
from layered.text.lm_loader import LMDataLoader as LMDataLoader
from layered.text.padding import (
    Pad_Chunk as Pad_Chunk,
    Pad_Input as Pad_Input,
    pad_chunk as pad_chunk,
    pad_input as pad_input,
    pad_input_chunk as pad_input_chunk,
    reverse_text as reverse_text,
)
from layered.text.sorted_loader import SortedDL as SortedDL
from layered.text.types import LMTensorText as LMTensorText, TensorText as TensorText

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.text.store import JoinedTexts as JoinedTexts
from layered.text.types import padding_mask as padding_mask
