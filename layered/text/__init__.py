"""Text: tokens, vocabularies, language models and classifiers."""

from typing import TYPE_CHECKING

from layered.foundation.faces import star as _star
from layered.text.hf_tokenizers import HuggingFaceTokenizer as HuggingFaceTokenizer
from layered.text.lm_loader import LMDataLoader as LMDataLoader
from layered.text.padding import (
    Pad_Chunk as Pad_Chunk,
    Pad_Input as Pad_Input,
    pad_chunk as pad_chunk,
    pad_input as pad_input,
    pad_input_chunk as pad_input_chunk,
    reverse_text as reverse_text,
)
from layered.text.rules import (
    BOS as BOS,
    EOS as EOS,
    FLD as FLD,
    PAD as PAD,
    TK_MAJ as TK_MAJ,
    TK_REP as TK_REP,
    TK_UP as TK_UP,
    TK_WREP as TK_WREP,
    UNK as UNK,
    decode_spec_tokens as decode_spec_tokens,
    fix_html as fix_html,
    lowercase as lowercase,
    replace_all_caps as replace_all_caps,
    replace_maj as replace_maj,
    replace_rep as replace_rep,
    replace_space as replace_space,
    replace_wrep as replace_wrep,
    rm_useless_spaces as rm_useless_spaces,
    spec_add_spaces as spec_add_spaces,
)
from layered.text.sorted_loader import SortedDL as SortedDL
from layered.text.tokenizer import (
    Tokenizer as Tokenizer,
    TokenizeWithRules as TokenizeWithRules,
    tokenize1 as tokenize1,
)
from layered.text.tokenizers import (
    BaseTokenizer as BaseTokenizer,
    CharTokenizer as CharTokenizer,
    SpacyTokenizer as SpacyTokenizer,
    WordTokenizer as WordTokenizer,
)
from layered.text.types import LMTensorText as LMTensorText, TensorText as TensorText
from layered.text.vocab import Numericalize as Numericalize, make_vocab as make_vocab

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.text.rules import mark_start as mark_start
from layered.text.store import JoinedTexts as JoinedTexts
from layered.text.types import padding_mask as padding_mask
