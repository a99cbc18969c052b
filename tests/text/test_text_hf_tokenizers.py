"""Tokenizers of Hugging Face: what the package itself gives, whole texts, words, and folders."""

import functools
import json

import pandas as pd
import pytest
import torch
from hypothesis import given, strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.testing import assert_close

from layered.data import fa_collate
from layered.files import Scope, decode_tree, encode_tree
from layered.foundation import BadArgument, BadFile, BadValue, NotFoundPath
from layered.text.all import HuggingFaceTokenizer, Pad_Input, TensorText, TextDataLoaders, TfmdLists
from layered.text.models.transformers import TransformerEncoder

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


def test_a_tokenizer_without_settings_reads_texts_as_the_loaders_say(tmp_path):
    tok = HuggingFaceTokenizer.train(["ein schöner film"] * 4, 300)
    table = pd.DataFrame({"text": ["ein schöner film", "kein film"] * 4, "label": ["gut", "schlecht"] * 4})
    dls = TextDataLoaders.from_df(table, tok_tfm=tok, bs=2, device="cpu")  # column 0
    assert tok.decode(dls.train_ds[0][0]) in table["text"].tolist()
    for i, (text, label) in enumerate(table.to_numpy()):
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / f"{i}.txt").write_bytes(text.encode("latin-1"))
    options = {"valid_pct": 0.5, "vocab": ["gut", "schlecht"], "bs": 2, "device": "cpu"}
    dls = TextDataLoaders.from_folder(tmp_path, tok_tfm=tok, encoding="latin-1", **options)
    assert {str(tok.decode(x)) for x, _ in [*dls.train_ds, *dls.valid_ds]} == {*table["text"]}


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


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},  # the package panics
        {"model": {"type": "WordPiece", "vocab": {}, "unk_token": "x", "continuing_subword_prefix": "",
                   "max_input_chars_per_word": 9}},
        {"model": {"type": "WordLevel", "vocab": {"a": 2**32 - 1, "[UNK]": 1}, "unk_token": "[UNK]"}},  # takes 32 GiB as a list
    ],
    ids=["a table of characters", "without the unknown word", "a number out of proportion"],
)  # fmt: skip
def test_a_tokenizer_that_makes_no_sense_is_our_error(change):
    with pytest.raises(BadFile, match=r"does not describe a tokenizer|do not follow one another"):
        assert HuggingFaceTokenizer(json.dumps(json.loads(like_bert().to_str()) | change)).vocab


@pytest.mark.parametrize("said", ["[]", "3", '"[PAD]"'])
def test_settings_beside_a_tokenizer_are_an_object(tmp_path, said):
    like_bert().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(said)
    with pytest.raises(BadFile, match=r"tokenizer_config.json' does not hold settings"):
        HuggingFaceTokenizer(tmp_path)


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


# -- pairs of texts


def of_pairs(**kwargs):
    tokenizers = pytest.importorskip("tokenizers")
    numbers = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3} | {word: i for i, word in enumerate("abcde", 4)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbers, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = [("[CLS]", 1), ("[SEP]", 2)]
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", special
    )
    return HuggingFaceTokenizer(backend, {"pad": "[PAD]"}, text_cols=["x", "y"], **kwargs)


@pytest.mark.parametrize("limit", [None, 5, 7, 9])
@pytest.mark.parametrize("pair", [["a b c d e", "a"], ["a", "a b c d e"], ["a b c d", "c d e a b"], ["", "b"]])
def test_a_pair_is_put_together_and_cut_as_the_tokenizer_does(pair, limit):
    tok = of_pairs(max_len=limit)
    backend = type(tok.backend).from_str(tok.backend.to_str())
    if limit is not None:
        backend.enable_truncation(limit)
    wanted = backend.encode(*pair)
    for made in (tok(pair), tok({"x": pair[0], "y": pair[1], "z": "c"})):
        assert made.tolist() == wanted.ids
        assert made.segments.tolist() == wanted.type_ids


def test_batches_of_pairs_know_their_segments():
    df = pd.DataFrame({"x": ["a b c", "d"] * 10, "y": ["e", "a b"] * 10, "label": [0, 1] * 10})
    dls = TextDataLoaders.from_df(
        df, text_col=["x", "y"], label_col="label", tok_tfm=of_pairs().backend, bs=16, device="cpu", seed=1
    )
    x, _ = dls.one_batch()
    rows = {(1, 4, 5, 6, 2, 8, 2): (0, 0, 0, 0, 0, 1, 1), (1, 7, 2, 4, 5, 2): (0, 0, 0, 1, 1, 1)}
    segments = x.as_plain().segments
    for ids, segment, padding in zip(x.tolist(), segments.tolist(), x.padding.tolist(), strict=True):
        kept = tuple(i for i, is_padding in zip(ids, padding, strict=True) if not is_padding)
        assert tuple(segment[: len(kept)]) == rows[kept]
    assert not segments[x.padding].any()


def test_a_pair_that_is_cut_is_counted():
    df = pd.DataFrame({"x": ["a b c", "d"] * 10, "y": ["e", "a b"] * 10, "label": [0, 1] * 10})
    with pytest.warns(UserWarning, match="10 of 20 texts are longer than max_len=6 tokens, the longest 7"):
        TextDataLoaders.from_df(df, text_col=["x", "y"], label_col="label", tok_tfm=of_pairs(), max_len=6, bs=4)


@pytest.mark.parametrize("item", ["a", ["a"], ["a", "b", "c"], None])
def test_one_text_in_place_of_a_pair_is_refused(item):
    with pytest.raises((BadArgument, BadValue)):
        of_pairs()(item)


def test_three_texts_are_refused():
    with pytest.raises(BadArgument, match="takes one text, or a pair"):
        HuggingFaceTokenizer(of_pairs().backend, text_cols=["x", "y", "z"])


@pytest.mark.parametrize("window", [None, 4])
def test_a_model_reads_the_segments_of_pairs(window):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    bert = transformers.BertModel(transformers.BertConfig(vocab_size=9, **sizes)).eval()
    encoder = TransformerEncoder(bert, False, pad_idx=3, window=window).eval()
    texts = [of_pairs()(pair) for pair in (["a b c", "e d"], ["a", "b"])]
    batch = fa_collate([text for (text,) in Pad_Input(3)([(text,) for text in texts])])
    out, _ = encoder(batch.as_plain())
    for row, text in zip(out, texts, strict=True):
        ids, segments = text.as_plain()[None], text.segments[None]
        size = window or len(text)
        alone = [
            bert(input_ids=ids[:, i : i + size], token_type_ids=segments[:, i : i + size]).last_hidden_state
            for i in range(0, len(text), size)
        ]
        assert_close(row[: len(text)], torch.cat(alone, 1)[0])
