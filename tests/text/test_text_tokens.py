"""Tokenizers, the transform that uses them, and vocabularies."""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, strategies as st

import layered.text.all as facade
from layered.files import Scope, decode_tree, encode_tree
from layered.foundation import BadArgument, BadFile, BadValue, EmptySource, NotExportable
from layered.text.all import (
    BaseTokenizer,
    CharTokenizer,
    ColReader,
    Datasets,
    L,
    Numericalize,
    TensorText,
    TfmdLists,
    Tokenizer,
    TokenizeWithRules,
    WordTokenizer,
    make_vocab,
)


def test_words_of_the_course():
    tok = Tokenizer(WordTokenizer())
    tokens = tok("The U.S. dollar $1 is $1.00.")
    assert isinstance(tokens, L)
    assert " ".join(tokens) == "xxbos xxmaj the xxup u.s . dollar $ 1 is $ 1.00 ."
    assert tok.decode(tokens) == " ".join(tokens)


def test_texts_go_through_a_list_of_transforms():
    texts = L(["a film"] * 3 + ["a plot"])
    column = TfmdLists(texts, [Tokenizer(BaseTokenizer), Numericalize], splits=[[0, 1, 2], [3]])
    assert column[3].tolist() == [2, column.vocab.index("a"), 0]
    assert "plot" not in column.vocab
    assert column.decode(column[0]) == "xxbos a film"


def test_numericalize_by_hand():
    texts = L(["a b a", "a b"]).map(Tokenizer(BaseTokenizer()))
    num = Numericalize(min_freq=2)
    num.setup(texts)
    assert num.vocab[9:11] == ["a", "b"]
    ids = num(texts[0])
    assert type(ids) is TensorText
    assert ids.dtype == torch.int64
    assert num.decode(ids) == texts[0]


@pytest.mark.parametrize(
    ("letters", "options", "size", "fakes"),
    [
        ("abcdefg", {}, 16, 8),
        ("abc", {}, 12, 4),
        ("abcdefg", {"max_vocab": 12}, 12, 4),
        ("abcdefg", {"special_toks": []}, 7, 1),
    ],
)
def test_vocabularies_are_filled_up_to_a_multiple_of_eight(letters, options, size, fakes):
    vocab = make_vocab(Counter(letters * 3), **options)
    assert vocab[size:] == ["xxfake"] * fakes
    assert "xxfake" not in vocab[:size]
    assert len(vocab) % 8 == 0


def test_frequent_tokens_come_first_and_rare_ones_not_at_all():
    count = Counter({"rare": 2, "xxbos": 9, "often": 5, "first": 3, "second": 3})
    assert make_vocab(count)[:13] == [*facade.defaults.text_spec_tok, "often", "first", "second", "xxfake"]


@given(st.dictionaries(st.text(min_size=1), st.integers(1, 9)), st.integers(1, 4), st.integers(10, 40))
def test_numbers_are_in_the_vocabulary_and_unknown_tokens_are_number_0(count, min_freq, max_vocab):
    vocab = make_vocab(count, min_freq, max_vocab)
    num = Numericalize(vocab)
    ids = num([*count, "xxfake"]).tolist()
    assert all(i < len(vocab) for i in ids)
    assert ids[-1] == 0
    for token, i in zip(count, ids, strict=False):
        assert vocab[i] == (token if i else vocab[0])


def test_several_columns_are_marked():
    df = pd.DataFrame({"title": ["What a FILM"], "body": ["good good"]})
    tokens = Tokenizer.from_df(["title", "body"], BaseTokenizer())(df.iloc[0])
    assert " ".join(tokens) == "xxbos xxfld 1 xxmaj what a xxup film xxfld 2 good good"
    plain = Tokenizer.from_df(["title", "body"], BaseTokenizer(), mark_fields=False)(df.iloc[0])
    assert " ".join(plain) == "xxbos xxmaj what a xxup film good good"


def test_a_column_is_read_by_a_getter_or_by_the_tokenizer():
    df = pd.DataFrame({"text": ["a b", "c d"]})
    tok = Tokenizer.from_df("text", BaseTokenizer())
    by_getter = Datasets(df, [[ColReader("text"), tok]])
    by_itself = Datasets(df, [[tok]])
    assert by_getter[1] == by_itself[1] == (L(["xxbos", "c", "d"]),)


def test_a_folder(tmp_path):
    for name, text in {"a/1.txt": "one two", "b/2.txt": "two two", "b/3.md": "no"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    files = facade.get_text_files(tmp_path)
    column = TfmdLists(files, [Tokenizer.from_folder(tmp_path, BaseTokenizer()), Numericalize(min_freq=2)])
    assert column.decode(column[0]) == "xxbos xxunk two"
    assert column.vocab[9] == "two"
    with pytest.raises(EmptySource, match="found no text files"):
        Tokenizer.from_folder(tmp_path / "a", BaseTokenizer(), extensions=".csv")


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    file = tmp_path / "bad.txt"
    file.write_bytes("20 £".encode("latin-1"))
    with pytest.raises(BadFile, match=r"bad\.txt' is not text in the encoding utf-8"):
        Tokenizer(BaseTokenizer())(file)
    assert Tokenizer.from_folder(tmp_path, BaseTokenizer(), encoding="latin-1")(file)[-1] == "£"


@pytest.mark.parametrize(
    "o", [None, float("nan"), np.float64("nan"), pd.NA, 3, 2.5, b"bytes", np.array(["a"])], ids=repr
)
def test_what_is_not_a_text_is_refused(o):
    with pytest.raises(BadArgument, match=r"a text is missing|this is not a text"):
        Tokenizer(BaseTokenizer())(o)


def test_empty_texts_are_texts():
    assert list(Tokenizer(WordTokenizer())("")) == ["xxbos"]
    assert Numericalize(["xxunk"])([]).dtype == torch.int64


def test_a_long_line_is_a_text():
    assert len(Tokenizer(WordTokenizer())("word and " * 150_000)) == 300_001


def test_unknown_languages_are_refused_by_name():
    with pytest.raises(BadValue, match="lang='eng'"):
        WordTokenizer("eng")
    assert next(WordTokenizer("de")(["Das ist z.B. gut."])) == ["Das", "ist", "z.B.", "gut", "."]


def test_spacy_is_asked_for_by_the_name_of_the_extra(monkeypatch):
    from layered.text import tokenizers

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(__import__("sys").modules, "spacy", None)
    tokenizers._languages.cache_clear()
    with pytest.raises(facade.LayeredError, match=r"layered-learn\[text\]"):
        WordTokenizer()
    tokenizers._languages.cache_clear()


@given(st.text())
def test_characters_give_the_text_back(text):
    tok = Tokenizer(CharTokenizer())
    tokens = tok(text)
    assert tokens[0] == "xxbos"
    assert tok.decode(tokens[1:]) == text


def test_a_function_is_a_tokenizer():
    def halves(texts):
        return ([text[: len(text) // 2], text[len(text) // 2 :]] for text in texts)

    assert list(TokenizeWithRules(halves, rules=[])(["abcd"])) == [L(["ab", "cd"])]
    with pytest.raises(BadArgument, match="a tokenizer is a function of texts"):
        Tokenizer("spacy")


def shout(text):
    return text.upper()


def test_rules_and_tokenizers_that_no_file_can_name_are_refused_by_name():
    for tok, name in [
        (Tokenizer(BaseTokenizer(), rules=[shout]), "shout"),
        (Tokenizer(shout), "shout"),
        (Tokenizer(type("Mine", (BaseTokenizer,), {})), "Mine"),
    ]:
        with pytest.raises(NotExportable, match=name):
            encode_tree(tok, {}, "tok", Scope.DATA)


@pytest.mark.parametrize(
    "tok", [BaseTokenizer("-"), WordTokenizer("de", ["xxunk"]), CharTokenizer()], ids=lambda tok: type(tok).__name__
)
def test_tokenizers_and_rules_travel_as_data(tok):
    given = Tokenizer(tok, rules=[facade.lowercase], mode="df", text_cols="text", counter=Counter("a"))
    described = json.loads(json.dumps(encode_tree(given, {}, "tok", Scope.DATA)))
    again = decode_tree(described, {}, Scope.DATA)
    assert again("Ein-FILM und-so") == given("Ein-FILM und-so")
    assert (again.mode, again.sep, again.counter) == ("df", given.sep, None)


@pytest.mark.parametrize("lang", ["os", "../x", "en.punctuation", 3, None])
def test_a_file_cannot_have_other_modules_imported(lang):
    with pytest.raises(BadValue, match="spaCy does not know the language"):
        WordTokenizer(lang)
