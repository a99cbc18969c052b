"""Corpora: each text is tokenized once, and what is kept is what tokenizing gives."""

import gc
import json
import os
import pickle
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st

from layered.foundation import BadArgument, BadItem
from layered.text import corpus as corpora, store
from layered.text.all import BaseTokenizer, Datasets, L, Numericalize, TfmdLists, Tokenizer
from layered.text.corpus import Corpus, numbered, tokenized

texts = st.lists(st.text("ab \n", max_size=8), max_size=12)


def split(texts):
    return map(str.split, texts)


def work(texts):
    return numbered(texts, split)


@pytest.fixture
def on_disk(monkeypatch, tmp_path):
    """Corpora of any size are kept in files, in pieces of a few texts."""
    monkeypatch.setenv("LAYERED_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(corpora, "SMALL", 0)
    monkeypatch.setattr(corpora, "PIECE", 10)
    return tmp_path / "home" / "tokens"


def check(done, texts):
    corpus = done.corpus
    assert [corpus.tokens(text) for text in texts] == list(split(texts))
    assert done.lengths.tolist() == list(map(len, split(texts)))
    count = Counter(token for tokens in split(texts) for token in tokens)
    assert list(done.count().items()) == list(count.items())  # in the same order
    assert corpus.tokens("something else") is None


@given(texts)
def test_what_is_kept_in_memory(texts):
    check(tokenized(texts, str, work, "by blanks"), texts)


@pytest.mark.parametrize("name", [None, "by blanks"])
@pytest.mark.parametrize("n_workers", [0, 2])
def test_what_is_kept_in_files(on_disk, name, n_workers):
    texts = [f"a {i} {i % 3}" for i in range(40)] + ["", "a 1 1", "b b"]
    done = tokenized(texts, str, work, name, n_workers)
    check(done, texts)
    check(corpora.Tokenized(pickle.loads(pickle.dumps(done.corpus)), done.which), texts)


@given(texts)
def test_a_corpus_goes_to_other_processes(texts):
    done = tokenized(texts, str, work, None)
    check(corpora.Tokenized(pickle.loads(pickle.dumps(done.corpus)), done.which), texts)


def test_files_are_used_again_until_a_text_or_the_tokenizer_changes(on_disk):
    calls = []

    def counted(texts):
        calls.append(list(texts))
        return work(texts)

    for texts, name, is_new in [
        (["a b", "c"], "x", True),
        (["a b", "c", "c"], "x", False),
        (["a b", "d"], "x", True),
        (["a b", "c"], "y", True),
    ]:
        calls.clear()
        check(tokenized(texts, str, counted, name, 0), texts)
        assert bool(calls) is is_new
    assert len(list(on_disk.iterdir())) == 3


def test_damaged_files_are_written_anew(on_disk):
    texts = ["a b", "c"]
    folder = tokenized(texts, str, work, "x", 0).corpus.folder
    said = json.loads((folder / "corpus.json").read_text())
    damaged = [("ids.bin", b"["), ("corpus.json", b"["), ("ends.bin", np.array([3, 2]).tobytes())]
    for change in ({"words": 3}, {"words": [1, 2, 3]}, {"tokens": float("inf")}, {"texts": -1}, {"bytes": "x"}):
        damaged.append(("corpus.json", json.dumps(said | change).encode()))
    for name, content in damaged:
        (folder / name).write_bytes(content)
        assert Corpus.opened(folder) is None
        check(tokenized(texts, str, work, "x", 0), texts)
        assert Corpus.opened(folder) is not None


def test_files_that_no_name_describes_go_with_their_corpus(on_disk):
    corpus = tokenized(["a b", "c"], str, work, None, 0).corpus
    folder = corpus.folder
    assert folder.is_dir()
    del corpus
    gc.collect()
    assert not folder.exists()


def test_the_corpora_used_last_are_kept(on_disk, monkeypatch):
    monkeypatch.setattr(corpora, "KEPT", 2)
    for i, text in enumerate(["a", "b", "c"]):
        folder = tokenized([text], str, work, "x", 0).corpus.folder
        os.utime(folder, (i, i))
    assert len(list(on_disk.iterdir())) == 2
    check(tokenized(["c"], str, work, "x", 0), ["c"])


def test_many_words_take_four_bytes(on_disk, monkeypatch):
    few, many = ["a b"], [str(i) for i in range(70_000)]
    monkeypatch.setattr(corpora, "PIECE", 2**17)
    assert tokenized(few, str, work, "x", 0).corpus.ids.dtype == np.uint16
    done = tokenized(many, str, work, "x", 0)
    assert done.corpus.ids.dtype == np.uint32
    assert done.corpus.tokens("69999") == ["69999"]


def test_each_text_of_a_column_is_tokenized_once():
    calls = []

    def by_blanks(texts):
        for text in texts:
            calls.append(text)
            yield text.split()

    df = pd.DataFrame({"text": ["a b", "c", "a b"] * 2})
    dsets = Datasets(
        df, [[Tokenizer.from_df("text", by_blanks, rules=[]), Numericalize(min_freq=1)]], splits=[range(4), [4, 5]]
    )
    assert [dsets.decode(dsets[i]) for i in range(6)] == [("a b",), ("c",), ("a b",)] * 2
    assert sorted(calls) == ["a b", "c"]


def test_tables_count_all_rows_and_lists_only_those_of_training():
    df = pd.DataFrame({"text": ["a a a", "b b b"]})
    for tok, vocab in [
        (Tokenizer.from_df("text", BaseTokenizer(), rules=[]), ["a", "b"]),
        (Tokenizer(BaseTokenizer(), rules=[]), ["a"]),
    ]:
        dsets = Datasets(df, [[lambda row: row["text"], tok, Numericalize()]], splits=[[0], [1]])
        assert [token for token in dsets.vocab if not token.startswith("xx")] == vocab


def test_lengths_of_texts():
    tok = Tokenizer(BaseTokenizer(), rules=[])
    tok.setup(["a b", "c"])
    assert tok.lengths.tolist() == [2, 1]
    assert tok.get_lengths(["a b", "x y z", L(["d"])]) == [2, 3, 1]


def test_the_item_without_a_text_is_named():
    with pytest.raises(BadArgument, match="a text is missing, when reading the text of item 1"):
        Tokenizer(BaseTokenizer()).setup(["a", None])


def test_a_rule_that_fails_is_named(on_disk):
    def careless(text):
        return text[3]

    with pytest.raises(BadItem, match="string index out of range"):
        Tokenizer(BaseTokenizer(), rules=[careless]).setup(["long enough", "a"])


@given(st.lists(st.lists(st.integers(0, 9))), st.integers(0, 20))
def test_joined_texts_are_mapped_from_a_file_if_they_are_many(texts, in_memory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "IN_MEMORY", in_memory)
        joined = store.JoinedTexts(texts)
    assert joined.ids.tolist() == [i for text in texts for i in text]
    assert [joined[i].tolist() for i in range(len(texts))] == texts
    assert joined.lengths.tolist() == list(map(len, texts))


def test_a_second_setup_counts_anew():
    tok = Tokenizer.from_df("text", BaseTokenizer(), rules=[])
    for text, length in [("a a a", 3), ("b b", 2)]:
        TfmdLists(pd.DataFrame({"text": [text]}), tok)
        assert tok.counter == Counter(text.split())
        assert tok.lengths.tolist() == [length]
