"""Text: tokens, vocabularies, language models and classifiers."""

from typing import TYPE_CHECKING

import layered.text.graph_inputs as _graph_inputs  # registers how texts enter exported graphs
import layered.text.show as _show  # registers how texts are shown
from layered.foundation.faces import star as _star
from layered.text.blocks import TextBlock as TextBlock
from layered.text.data import TextDataLoaders as TextDataLoaders
from layered.text.entities import (
    EntityF1 as EntityF1,
    EntityPrecision as EntityPrecision,
    EntityRecall as EntityRecall,
)
from layered.text.hf_tokenizers import HuggingFaceTokenizer as HuggingFaceTokenizer
from layered.text.learner import (
    language_model_learner as language_model_learner,
    text_classifier_learner as text_classifier_learner,
)
from layered.text.lm_loader import LMDataLoader as LMDataLoader
from layered.text.models.awd_lstm import (
    AWD_LSTM as AWD_LSTM,
    EmbeddingDropout as EmbeddingDropout,
    RNNDropout as RNNDropout,
    WeightDropout as WeightDropout,
    awd_lstm_clas_config as awd_lstm_clas_config,
    awd_lstm_clas_split as awd_lstm_clas_split,
    awd_lstm_lm_config as awd_lstm_lm_config,
    awd_lstm_lm_split as awd_lstm_lm_split,
    dropout_mask as dropout_mask,
)
from layered.text.models.heads import (
    LinearDecoder as LinearDecoder,
    PoolingLinearClassifier as PoolingLinearClassifier,
    SentenceEncoder as SentenceEncoder,
    SequentialRNN as SequentialRNN,
    get_language_model as get_language_model,
    get_text_classifier as get_text_classifier,
    masked_concat_pool as masked_concat_pool,
)
from layered.text.padding import (
    Pad_Chunk as Pad_Chunk,
    Pad_Input as Pad_Input,
    pad_chunk as pad_chunk,
    pad_input as pad_input,
    pad_input_chunk as pad_input_chunk,
    reverse_text as reverse_text,
)
from layered.text.pretrained import (
    clean_raw_keys as clean_raw_keys,
    load_ignore_keys as load_ignore_keys,
    load_model_text as load_model_text,
    match_embeds as match_embeds,
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
from layered.text.sentencepiece import (
    SentencePieceTokenizer as SentencePieceTokenizer,
    SubwordTokenizer as SubwordTokenizer,
    eu_langs as eu_langs,
)
from layered.text.sorted_loader import SortedDL as SortedDL
from layered.text.text_learner import LMLearner as LMLearner, TextLearner as TextLearner
from layered.text.tokenize_all import (
    load_tokenized_csv as load_tokenized_csv,
    parallel_tokenize as parallel_tokenize,
    tokenize_csv as tokenize_csv,
    tokenize_df as tokenize_df,
    tokenize_files as tokenize_files,
    tokenize_folder as tokenize_folder,
    tokenize_texts as tokenize_texts,
)
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
from layered.text.word_labels import TokenCategorize as TokenCategorize, TokenCategoryBlock as TokenCategoryBlock

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.text.models.transformers import (
    PooledHead as PooledHead,
    TransformerEncoder as TransformerEncoder,
    TransformerLM as TransformerLM,
    TransformerTokens as TransformerTokens,
    transformer_clas_split as transformer_clas_split,
    transformer_lm_split as transformer_lm_split,
)
from layered.text.rules import mark_start as mark_start
from layered.text.store import JoinedTexts as JoinedTexts
from layered.text.types import TensorTokenCategory as TensorTokenCategory, padding_mask as padding_mask
