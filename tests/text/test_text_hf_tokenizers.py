"""Tokenizers of Hugging Face: what the package itself gives, whole texts, words, and folders."""

import functools
import json

import pandas as pd
import pytest
from hypothesis import given, strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from layered.files import Scope, decode_tree, encode_tree
from layered.foundation import BadArgument, BadFile, BadValue, NotFoundPath
from layered.text.all import HuggingFaceTokenizer, TensorText, TfmdLists

TEXTS = ["What a film!", "The plot is dull, the plot is thin.", "Bär und Café", "a\n\nb"] * 3


def like_bert(cut_at=4):
    """A tokenizer of whole words with [CLS] and [SEP], whose own settings cut at 4 and pad to 4 tokens."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "what", "a", "film", "dull", "plot"]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    backend.enable_truncation(cut_at)
    backend.enable_padding(length=cut_at, pad_id=0, pad_token="[PAD]")
    return backend


def test_texts_are_neither_cut_nor_padded_and_the_given_tokenizer_is_left_alone():
    backend = like_bert()
    tok = HuggingFaceTokenizer(backend)
    ids = tok("what a dull film")
    assert type(ids) is TensorText
    assert ids.tolist() == [2, 4, 5, 7, 6, 3]
    assert tok("a").tolist() == [2, 5, 3]
    assert tok.pad_idx == 0
    assert backend.truncation["max_length"] == 4


@pytest.mark.parametrize(
    ("cut", "kept"), [("head", [4, 5, 7, 6]), ("head+tail", [4, 5, 7, 8]), ("chunks", [4, 5, 7, 6, 5, 7, 8])]
)
def test_what_is_kept_of_a_long_text(cut, kept):
    tok = HuggingFaceTokenizer(like_bert(), max_len=6, cut=cut)
    assert tok("what a dull film a dull plot").tolist() == [2, *kept, 3]
    assert tok("a film").tolist() == [2, 5, 6, 3]


def test_limits_that_leave_nothing_are_refused():
    with pytest.raises(BadValue, match="no token of a text would be left"):
        HuggingFaceTokenizer(like_bert(), max_len=2)
    with pytest.raises(BadValue, match="cut='tail'"):
        HuggingFaceTokenizer(like_bert(), cut="tail")


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_trained_tokenizers_mark_the_start_and_give_the_text_back(kind):
    tok = HuggingFaceTokenizer.train(TEXTS, 400, kind)
    assert tok.vocab[:4] == ["xxunk", "xxpad", "xxbos", "xxeos"]
    for text in TEXTS[:2]:
        ids = tok(text)
        assert ids.tolist() == tok.backend.encode(text).ids
        assert ids[0] == 2
        assert tok.decode(ids) == text


@functools.cache
def of_bytes():
    return HuggingFaceTokenizer.train(TEXTS, 300, is_split=True)


@given(st.lists(st.text("abc é'-", min_size=1, max_size=5).map(str.strip).filter(bool), max_size=6))
def test_each_word_owns_the_tokens_that_spell_it(words):
    tok = of_bytes()
    text = tok(words)
    assert text.tolist() == tok.backend.encode(" ".join(words)).ids
    assert text.word_count == len(words)
    assert [n for n in text.words.tolist() if n >= 0] == list(range(len(words)))
    assert tok.decode(text).words == words


def test_words_beyond_the_limit_own_nothing():
    text = HuggingFaceTokenizer(like_bert(), max_len=4, is_split=True)(["what", "a", "dull", "film"])
    assert text.tolist() == [2, 4, 5, 3]
    assert text.words.tolist() == [-1, 0, 1, -1]
    assert text.word_count == 4


def test_a_folder_says_which_tokens_have_a_role(tmp_path):
    like_bert().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"unk_token": {"content": "[UNK]"}, "eos_token": None}))
    for source in (tmp_path, str(tmp_path), tmp_path / "tokenizer.json"):
        tok = HuggingFaceTokenizer(source)
        assert tok("a film").tolist() == [2, 5, 6, 3]
        assert tok.special == {"pad": "[PAD]", "unk": "[UNK]"}


def test_a_tokenizer_of_transformers():
    transformers = pytest.importorskip("transformers")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=like_bert(), pad_token="[PAD]", eos_token="[SEP]")
    tok = HuggingFaceTokenizer(fast)
    assert tok("what a dull film").tolist() == [2, 4, 5, 7, 6, 3]
    assert (tok.id_of_role("eos"), tok.id_of_role("bos")) == (3, None)


def test_it_travels_as_data_without_its_folder(tmp_path):
    like_bert().save(str(tmp_path / "tokenizer.json"))
    tok, tensors = HuggingFaceTokenizer(tmp_path, max_len=5), {}
    described = json.loads(json.dumps(encode_tree(tok, tensors, "tok", Scope.DATA)))
    (tmp_path / "tokenizer.json").unlink()
    again = decode_tree(described, tensors, Scope.DATA)
    assert again("what a dull film").tolist() == tok("what a dull film").tolist() == [2, 4, 5, 7, 3]
    assert (again.special, again.vocab) == (tok.special, tok.vocab)


def test_rows_of_a_table_are_read():
    row = pd.DataFrame({"title": ["a film"], "body": ["a dull plot"]}).iloc[0]
    tok = HuggingFaceTokenizer(like_bert(), text_cols="body")
    assert tok(row).tolist() == [2, 5, 7, 8, 3]


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("no/such tokenizer", NotFoundPath, "there is no tokenizer 'no/such tokenizer'"),
        ("{}", BadFile, "this does not describe a tokenizer"),
        (3, BadArgument, "not a tokenizer that can be read as data"),
    ],
)
def test_what_is_not_a_tokenizer_is_refused(source, error, said):
    with pytest.raises(error, match=said):
        HuggingFaceTokenizer(source)


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(NotFoundPath, match=r"there is no tokenizer in '.*nothing'"):
        HuggingFaceTokenizer(tmp_path / "nothing")


def test_missing_texts_are_refused():
    with pytest.raises(BadArgument, match="a text is missing"):
        HuggingFaceTokenizer(like_bert())(float("nan"))


def test_texts_of_a_column_are_kept_as_numbers(monkeypatch):
    tok = HuggingFaceTokenizer(like_bert(), max_len=4)
    with pytest.warns(UserWarning, match="2 of 3 texts are longer than max_len=4 tokens, the longest 5"):
        column = TfmdLists(["what a film", "dull", "what a film"], tok)
    monkeypatch.setattr(HuggingFaceTokenizer, "body", None)
    assert [ids.tolist() for ids in column] == [[2, 4, 5, 3], [2, 7, 3], [2, 4, 5, 3]]
