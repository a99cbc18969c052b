"""Whole lists, tables, files and folders as tokens; sub-words of SentencePiece."""

import errno
import json
import pathlib
import pickle
from collections import Counter

import pandas as pd
import pytest

from layered.files import Scope, decode_tree, encode_tree
from layered.foundation import BadArgument, BadFile, BadValue, CannotSave, NotFoundPath
from layered.text.all import (
    BaseTokenizer,
    L,
    SentencePieceTokenizer,
    SubwordTokenizer,
    Tokenizer,
    load_tokenized_csv,
    tokenize1,
    tokenize_csv,
    tokenize_df,
    tokenize_files,
    tokenize_folder,
    tokenize_texts,
)

TEXTS = ["What a FILM", "good good", "", "What a FILM"]
TOKENS = [list(tokenize1(text, BaseTokenizer())) for text in TEXTS]


def test_texts():
    assert tokenize_texts(TEXTS, tok=BaseTokenizer()) == L(TOKENS)


def test_a_table():
    df = pd.DataFrame({"y": range(4), "text": TEXTS})
    out, count = tokenize_df(df, "text", tok=BaseTokenizer())
    assert out["text"].tolist() == TOKENS
    assert out["text_length"].tolist() == list(map(len, TOKENS))
    assert list(out.columns) == ["y", "text", "text_length"]
    assert count == Counter(token for tokens in TOKENS for token in tokens)
    assert df["text"].tolist() == TEXTS


@pytest.mark.parametrize(
    ("mark_fields", "joined"), [(None, "xxbos xxfld 1 a xxfld 2 xxmaj no"), (False, "xxbos a xxmaj no")]
)
def test_several_columns_of_a_table(mark_fields, joined):
    df = pd.DataFrame({"title": ["a"], "body": ["No"]})
    for cols in (["title", "body"], [0, 1]):
        out, _ = tokenize_df(df, cols, mark_fields=mark_fields, tok=BaseTokenizer(), tok_text_col="tokens")
        assert " ".join(out["tokens"][0]) == joined


def test_a_csv_file_in_pieces(tmp_path):
    file = tmp_path / "a.csv"
    df = pd.DataFrame({"text": [text or "none" for text in TEXTS], "y": range(4)})
    df.to_csv(file, index=False)
    tokenize_csv(file, "text", tok=BaseTokenizer(), chunksize=3)
    read, count = load_tokenized_csv(tmp_path / "a_tok.csv")
    whole, counted = tokenize_df(df, "text", tok=BaseTokenizer())
    assert read["text"].tolist() == whole["text"].tolist()
    assert read["y"].tolist() == [0, 1, 2, 3]
    assert count == counted
    with pytest.raises(NotFoundPath, match=r"no\.csv"):
        tokenize_csv(tmp_path / "no.csv", "text")


def test_a_folder(tmp_path):
    for i, text in enumerate(TEXTS):
        (tmp_path / "in" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / str(i % 2) / f"{i}.txt").write_text(text)
    out = tokenize_folder(tmp_path / "in", tok=BaseTokenizer())
    assert out == tmp_path / "in_tok"
    for i, tokens in enumerate(TOKENS):
        assert (out / str(i % 2) / f"{i}.txt").read_text().split(" ") == tokens
    assert json.loads((out / "lengths.json").read_text())["1/1.txt"] == len(TOKENS[1])
    assert json.loads((out / "counter.json").read_text())["xxbos"] == 4
    (out / "lengths.json").unlink()
    tokenize_folder(tmp_path / "in", tok=BaseTokenizer())
    assert not (out / "lengths.json").exists()
    tokenize_files([tmp_path / "in" / "1" / "1.txt"], tmp_path, tmp_path / "b", ["x.txt"], tok=BaseTokenizer())
    assert (tmp_path / "b" / "x.txt").read_text().split(" ") == TOKENS[1]


MANY = [
    f"the {a} film was {b} and the plot {c}"
    for a in ("dull", "good", "odd")
    for b in ("long", "short")
    for c in ("thin", "thick")
] * 5


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_sub_words_spell_their_text_as_the_package_does(model_type):
    import sentencepiece

    tok = SubwordTokenizer(vocab_sz=60, model_type=model_type)
    tok.setup(MANY)
    reader = sentencepiece.SentencePieceProcessor(model_proto=tok.model)
    assert reader.get_piece_size() <= 60
    for text in MANY[:12]:
        (pieces,) = tok([text])
        assert "".join(pieces).replace("▁", " ").strip() == text
        assert pieces == reader.encode(text, out_type=str)


def test_a_tokenizer_trains_it_and_special_tokens_stay_whole():
    tok = Tokenizer(SentencePieceTokenizer(vocab_sz=64))
    tok.setup(MANY)
    assert tok("the film")[0] == "▁xxbos"


def test_a_trained_model_travels_as_data_and_is_read_from_its_file(tmp_path):
    tok = Tokenizer(SentencePieceTokenizer(vocab_sz=64))
    tok.setup(MANY)
    (tmp_path / "spm.model").write_bytes(tok.tok.model)
    described = json.loads(json.dumps(encode_tree(tok, {}, "tok", Scope.DATA)))
    for again in (
        decode_tree(described, {}, Scope.DATA),
        pickle.loads(pickle.dumps(tok)),
        Tokenizer(SentencePieceTokenizer(sp_model=tmp_path / "spm.model")),
    ):
        assert again("the odd plot") == tok("the odd plot")


def test_faults_of_sub_words_are_named(tmp_path):
    with pytest.raises(BadArgument, match="not trained yet"):
        Tokenizer(SubwordTokenizer())("a")
    with pytest.raises(BadValue, match="these texts do not make a SentencePiece model"):
        SubwordTokenizer(vocab_sz=5000, model_type="bpe").setup([""])
    with pytest.raises(BadFile, match="not a model of SentencePiece"):
        SubwordTokenizer(sp_model=b"no model")
    trained = SubwordTokenizer(special_toks=["xxbos"], vocab_sz=29)
    trained.setup(["good films and bad films"] * 9)
    with pytest.raises(BadFile, match=r"not a model of SentencePiece\n.*can't decode"):
        SubwordTokenizer(sp_model=trained.model.replace("▁xxbos".encode(), b"\xff\xff\xffxxbos"))
    with pytest.raises(BadValue, match="model_type='words'"):
        SubwordTokenizer(model_type="words")


class Fails(BaseTokenizer):
    def tokenize(self, text):
        if "good" in text:
            raise ArithmeticError
        return super().tokenize(text)


def test_what_is_broken_off_leaves_nothing_that_counts_as_whole(tmp_path, monkeypatch):
    folder = tmp_path / "films"
    folder.mkdir()
    for i, text in enumerate(TEXTS):
        (folder / f"{i}.txt").write_text(text)
    pd.DataFrame({"text": TEXTS[:2]}).to_csv(tmp_path / "t.csv")
    before = sorted(tmp_path.rglob("*"))
    write = pathlib.Path.write_text

    def until_the_disk_is_full(path, *args):
        if path.name == "2.txt":
            raise OSError(errno.ENOSPC, "full")
        return write(path, *args)

    with monkeypatch.context() as patched:
        patched.setattr(pathlib.Path, "write_text", until_the_disk_is_full)
        with pytest.raises(CannotSave):
            tokenize_folder(folder, tok=BaseTokenizer())
    with pytest.raises(ArithmeticError):
        tokenize_csv(tmp_path / "t.csv", "text", tok=Fails())
    assert sorted(tmp_path.rglob("*")) == before
    out = tokenize_folder(folder, tok=BaseTokenizer())
    assert (out / "1.txt").read_text() == " ".join(TOKENS[1])


@pytest.mark.parametrize("said", ["[[1]]", '{"a": "b"}', "3"])
def test_counts_that_make_no_sense_are_refused(tmp_path, said):
    pd.DataFrame({"text": TEXTS[:2]}).to_csv(tmp_path / "t.csv")
    out = tmp_path / "t_tok.csv"
    tokenize_csv(tmp_path / "t.csv", "text", tok=BaseTokenizer())
    (tmp_path / "t_tok.csv.counter.json").write_text(said)
    with pytest.raises(BadFile, match="does not hold the counts of tokens"):
        load_tokenized_csv(out)
