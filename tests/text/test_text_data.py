"""Loaders of texts in one line, the forms that courses write, and data that is not as it should be."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from layered.foundation import BadArgument, BadFile, BadValue, EmptySource, NotFoundPath, UnknownLabel, plain
from layered.text.all import (
    AWD_LSTM,
    BaseTokenizer,
    Categorize,
    CategoryBlock,
    ColReader,
    DataBlock,
    Datasets,
    GrandparentSplitter,
    HuggingFaceTokenizer,
    LMDataLoader,
    LMTensorText,
    Numericalize,
    RandomSplitter,
    RegressionBlock,
    SortedDL,
    TensorText,
    TextBlock,
    TextDataLoaders,
    TfmdLists,
    Tokenizer,
    get_text_files,
    load_learner,
    pad_input,
    parent_label,
    text_classifier_learner,
)
from layered.text.cutting import CutText

WORDS = [
    "good",
    "bad",
    "film",
    "plot",
    "music",
    "actor",
    "boring",
    "great",
    "fun",
    "dull",
    "the",
    "a",
    "was",
    "it",
    "and",
]
CPU = {"bs": 8, "device": "cpu"}


@pytest.fixture(scope="module")
def df():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(3, 60))) for _ in range(100)]
    texts[90] = "onlyhere a onlyhere b onlyhere " + texts[90]  # in validation, often enough for a vocabulary
    return pd.DataFrame(
        {
            "text": texts,
            "label": [["neg", "pos"][i % 2] for i in range(100)],
            "labels": [["a", "a b", ""][i % 3] for i in range(100)],
            "rating": rng.normal(size=100),
            "is_valid": [i >= 80 for i in range(100)],
        }
    )


@pytest.fixture(scope="module")
def folder(df, tmp_path_factory):
    path = tmp_path_factory.mktemp("texts")
    for i, row in df.iterrows():
        file = path / ("test" if row.is_valid else "train") / row.label / f"{i:03}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(row.text)
    return path


def from_df(df, **kwargs):
    given = {"text_col": "text", "label_col": "label", "valid_col": "is_valid", "tok_tfm": BaseTokenizer, **CPU}
    return TextDataLoaders.from_df(df, **given | kwargs)


# -- what comes out


def test_texts_and_labels_of_a_table(df):
    dls = from_df(df)
    x, y = dls.one_batch()
    assert type(dls.train) is SortedDL
    assert type(x) is TensorText
    assert x.dtype == torch.int64
    assert (len(x), y.shape) == (8, (8,))
    words, classes = dls.vocab
    assert words[:9] == ["xxunk", "xxpad", "xxbos", "xxeos", "xxfld", "xxrep", "xxwrep", "xxup", "xxmaj"]
    assert set(words[9:]) >= set(WORDS)
    assert list(classes) == ["neg", "pos"]
    assert dls.c == 2
    for i, (text, label) in enumerate(map(dls.train_ds.decode, dls.train_ds)):
        assert set(text.split()) >= set(df.text[i].split())
        assert label == df.label[i]


def test_the_vocabulary_is_that_of_all_texts(df, folder):
    for tok_tfm in (None, BaseTokenizer):
        assert "onlyhere" in from_df(df, tok_tfm=tok_tfm).vocab[0]
        assert "onlyhere" in from_df(df, tok_tfm=tok_tfm, is_lm=True).vocab
        assert "onlyhere" in TextDataLoaders.from_folder(folder, valid="test", tok_tfm=tok_tfm, **CPU).vocab[0]


def test_spaces_inside_tokens_are_marked(df):
    dls = from_df(df.assign(text="a b|c"), tok_tfm=BaseTokenizer("|"))
    assert {"xxbos▁a▁b", "c"} <= set(dls.vocab[0])


def test_a_language_model_reads_the_texts_and_no_labels(df, folder):
    for dls in (
        from_df(df, is_lm=True, seq_len=20),
        TextDataLoaders.from_folder(
            folder, is_lm=True, valid_pct=0.2, seed=1, tok_tfm=BaseTokenizer, seq_len=20, **CPU
        ),
    ):
        x, y = dls.one_batch()
        assert type(dls.train) is LMDataLoader
        assert type(x) is LMTensorText
        assert (x.shape, y.shape) == ((8, 20), (8, 20))
        assert torch.equal(plain(x)[:, 1:], plain(y)[:, :-1])
        assert isinstance(dls.vocab, list)
        assert len(dls.train) == len(list(dls.train))


def test_a_classifier_reads_with_the_vocabulary_of_a_language_model(df, folder):
    lm = from_df(df, is_lm=True)
    dls = TextDataLoaders.from_folder(folder, valid="test", text_vocab=lm.vocab, tok_tfm=BaseTokenizer, **CPU)
    assert dls.vocab[0] == lm.vocab
    assert list(dls.vocab[1]) == ["neg", "pos"]
    assert (len(dls.train_ds), len(dls.valid_ds)) == (80, 20)


def test_several_labels_and_numbers(df):
    dls = from_df(df, label_col="labels", label_delim=" ")
    assert list(dls.vocab[1]) == ["a", "b"]
    assert dls.one_batch()[1].shape == (8, 2)
    for given in ({}, {"y_block": RegressionBlock}):
        y = from_df(df, label_col="rating", **given).one_batch()[1]
        assert y.dtype == torch.float32


def test_a_csv_file_is_read_as_it_is_written(tmp_path):
    rows = "\n".join(f'{name},"Text {i}, {"NA" if i else "None"}"' for i, name in enumerate(["007", "NA"] * 8))
    (tmp_path / "reviews.csv").write_text(f"label,text\n{rows}\n")
    given = {"text_col": "text", "label_col": "label", "tok_tfm": BaseTokenizer, "bs": 2, "device": "cpu", "seed": 1}
    dls = TextDataLoaders.from_csv(tmp_path, "reviews.csv", **given)
    assert list(dls.vocab[1]) == ["007", "NA"]
    with pytest.raises(BadArgument, match="text_coll"):
        TextDataLoaders.from_csv(tmp_path, "reviews.csv", text_coll="text")


def test_the_forms_of_courses(df, folder):
    block = DataBlock(
        blocks=(TextBlock.from_folder(folder, tok=BaseTokenizer), CategoryBlock), get_items=get_text_files,
        get_y=parent_label, splitter=GrandparentSplitter(valid_name="test"),
    )  # fmt: skip
    dls = block.dataloaders(folder, path=folder, bs=8)
    assert (len(dls.train_ds), len(dls.valid_ds)) == (80, 20)
    lm = DataBlock(
        blocks=TextBlock.from_df("text", is_lm=True, tok=BaseTokenizer),
        get_x=ColReader("text"),
        splitter=RandomSplitter(0.1),
    )
    dls = lm.dataloaders(df, bs=4, seq_len=30)
    assert dls.one_batch()[0].shape == (4, 30)
    block = TextBlock.from_folder(folder, vocab=dls.vocab, tok=BaseTokenizer)
    assert block.type_tfms[1].vocab == dls.vocab


def test_characters_and_transforms_as_tokenizers(df):
    dls = from_df(df, tok_tfm="chars", is_lm=True, seq_len=20)
    assert "g" in dls.vocab
    assert "good" not in dls.vocab
    assert "good" in from_df(df, tok_tfm=Tokenizer(BaseTokenizer())).vocab[0]


def test_a_reversed_text_ends_where_it_began(df):
    forward, backward = (from_df(df, backwards=backwards).train_ds for backwards in (False, True))
    assert all(torch.equal(a[0].flip(0), b[0]) for a, b in zip(forward, backward, strict=True))


def test_several_columns_are_one_text(df):
    frame = df.assign(title=[f"number {i % 3}" for i in range(100)])
    text = from_df(frame, text_col=["title", "text"]).train_ds
    assert text.decode(text[1])[0].startswith("xxbos xxfld 1 number 1 xxfld 2 ")


@pytest.fixture(scope="module")
def pretrained(df):
    """A tokenizer of sub-words whose texts begin with xxbos."""
    pytest.importorskip("tokenizers")
    return HuggingFaceTokenizer.train(df.text, 60)


def test_a_pretrained_tokenizer_brings_its_vocabulary(df, pretrained):
    for tok in (pretrained, pretrained.backend):
        dls = from_df(df, tok_tfm=tok)
        assert dls.vocab[0] == pretrained.vocab
        for i in (0, 7):
            assert dls.train_ds[i][0].tolist() == pretrained.backend.encode(df.text[i]).ids
        assert dls.train_ds.decode(dls.train_ds[7])[0] == df.text[7]
    x, _ = dls.train.new(shuffle=False).one_batch()
    assert (~x.padding[:, 0]).all()  # padding stands after the texts
    with pytest.raises(BadArgument, match="its own vocabulary"):
        from_df(df, tok_tfm=pretrained, text_vocab=["a", "b"])


def test_texts_for_a_pretrained_model_are_cut_inside_their_special_tokens(df, pretrained):
    lengths = [len(pretrained.backend.encode(text).ids) for text in df.text]
    with pytest.warns(UserWarning, match=rf"^{sum(n > 20 for n in lengths)} of 100 texts .* longest {max(lengths)}"):
        dls = from_df(df, tok_tfm=pretrained, max_len=20, cut="head+tail")
    ids, whole = dls.train_ds[0][0].tolist(), pretrained.backend.encode(df.text[0]).ids
    assert ids == [whole[0], *whole[1:5], *whole[-15:]]


def test_texts_of_a_language_model_end_with_the_end_token(df, pretrained):
    dls = from_df(df, tok_tfm=pretrained, is_lm=True, seq_len=30)
    end = pretrained.id_of_role("eos")
    assert all(text[-1] == end for (text,) in dls.train_ds)
    assert sum(int((y == end).sum()) for _, y in dls.train) >= 78


# -- long texts


def test_long_texts_are_cut_and_counted_once(df):
    whole = from_df(df)
    lengths = [len(text) for ds in (whole.train_ds, whole.valid_ds) for text, _ in ds]
    with pytest.warns(
        UserWarning, match=rf"^{sum(n > 20 for n in lengths)} of 100 texts .* longest {max(lengths)}"
    ) as said:
        dls = from_df(df, max_len=20)
    assert len(said) == 1
    for (cut, _), (text, _) in zip(dls.train_ds, whole.train_ds, strict=True):
        assert cut.tolist() == text[:20].tolist()
    assert all(len(x) <= 20 for x, _ in dls.valid_ds)


def test_the_head_and_the_tail_are_kept():
    assert CutText(4, "head+tail")(TensorText([2, 3, 4, 5, 6, 7])).tolist() == [2, 5, 6, 7]
    assert CutText(8, "head+tail")(TensorText(range(10))).tolist() == [0, 1, 4, 5, 6, 7, 8, 9]
    assert CutText(4, "chunks")(TensorText(range(10))).tolist() == list(range(10))
    assert CutText(4)(TensorText(range(3))).tolist() == [0, 1, 2]


def test_impossible_ways_to_cut_are_refused(df):
    with pytest.raises(BadValue, match="cut texts"):
        from_df(df, max_len=20, cut="tail")
    with pytest.raises(BadArgument, match="seq_len") as caught:
        from_df(df, max_len=20, is_lm=True)
    assert caught.value.fix == "seq_len=20, without max_len"
    with pytest.raises(BadValue, match="max_len=0"):
        from_df(df, max_len=0)


def test_a_batch_by_tokens(df):
    dls = from_df(df, max_tokens=200)
    assert all(x.numel() <= 200 for dl in dls for x, _ in dl)
    assert sum(len(x) for x, _ in dls.train) == 80


# -- other texts


def test_new_texts_are_read_in_their_order(df):
    dls = from_df(df)
    for given in (["a good film", "the plot was boring and dull it was"], df[["text"]].iloc[[0, 1]]):
        (x,) = next(iter(dls.test_dl(given)))
        assert len(x) == 2
    rows = next(iter(dls.test_dl(["fun", "a good film"])))[0]
    assert [(~row.padding).sum() for row in rows] == [2, 4]
    assert len(next(iter(dls.test_dl("one text")))[0]) == 1


# -- bad data


def test_an_empty_text_is_a_text(df):
    frame = df.assign(text=["" if i in (3, 85) else text for i, text in enumerate(df.text)])
    dls = from_df(frame)
    assert dls.train_ds[3][0][0] == dls.vocab[0].index("xxbos")
    assert all(len(x) for x, _ in (*dls.train, *dls.valid))
    assert len(list(from_df(frame, is_lm=True).train))


@pytest.mark.parametrize("gap", [None, np.nan])
def test_a_missing_text_is_named(df, gap):
    frame = df.assign(text=[gap if i == 3 else text for i, text in enumerate(df.text)])
    with pytest.raises(BadArgument, match=r"a text is missing.*item 3") as caught:
        from_df(frame)
    assert "dropna" in str(caught.value)


def test_a_folder_without_texts_says_so(tmp_path, folder):
    with pytest.raises(NotFoundPath, match="'valid' does not exist"):
        TextDataLoaders.from_folder(folder)
    (tmp_path / "pos").mkdir()
    (tmp_path / "pos" / "1.md").write_text("good")
    with pytest.raises(EmptySource, match="no text files") as caught:
        TextDataLoaders.from_folder(tmp_path, valid_pct=0.2)
    assert caught.value.fix.startswith('extensions=".md"')
    with pytest.raises(NotFoundPath, match="does not exist"):
        TextDataLoaders.from_folder(tmp_path / "nowhere", valid_pct=0.2)


def test_a_file_of_another_encoding_is_named(tmp_path):
    for i in range(10):
        (tmp_path / "pos").mkdir(exist_ok=True)
        (tmp_path / "neg").mkdir(exist_ok=True)
        (tmp_path / ["pos", "neg"][i % 2] / f"{i}.txt").write_bytes("a café".encode("latin-1" if i == 4 else "utf8"))
    given = {"valid_pct": 0.2, "seed": 1, "tok_tfm": BaseTokenizer, "bs": 2, "device": "cpu"}
    with pytest.raises(BadFile, match=r"4\.txt") as caught:
        TextDataLoaders.from_folder(tmp_path, **given)
    assert 'encoding="latin-1"' in caught.value.fix
    assert TextDataLoaders.from_folder(tmp_path, encoding="latin-1", **given).one_batch()


def test_a_label_that_only_validation_texts_have_is_refused(df):
    frame = df.assign(label=["odd" if i == 95 else label for i, label in enumerate(df.label)])
    with pytest.raises(UnknownLabel, match="'odd'"):
        from_df(frame)


# -- one reading


def test_texts_are_tokenized_once_for_all_epochs(df):
    read = []

    class Counting(BaseTokenizer):
        def tokenize(self, text):
            read.append(text)
            return super().tokenize(text)

    dls = from_df(df, tok_tfm=Counting())
    at_setup = len(read)
    for _ in range(2):
        list(dls.train)
        list(dls.valid)
    assert len(read) == at_setup
    new = dls.test_dl(["a new text", "another"])
    for dl in (new, new.in_any_order()):
        list(dl)
    assert len(read) == at_setup + 2


# -- in files and in other hands


def test_an_export_reads_plain_texts_and_rows(df, tmp_path):
    dls = from_df(df, max_len=30)
    small = {"emb_sz": 8, "n_hid": 8, "n_layers": 1}
    learn = text_classifier_learner(dls, AWD_LSTM, config=small, pretrained=False, path=tmp_path)
    loaded = load_learner(learn.export("texts.layered"))
    new = ["a good film", "fun", " ".join(["dull"] * 100)]
    wanted = learn.get_preds(dl=dls.test_dl(new))[0]
    assert_close(loaded.get_preds(dl=loaded.dls.test_dl(new))[0], wanted)
    for text, row in zip(new, wanted, strict=True):
        assert_close(loaded.predict(text)[2], row)
    preds, targets = loaded.get_preds(dl=loaded.dls.test_dl(df, with_labels=True))
    assert [loaded.dls.vocab[1][int(i)] for i in targets] == df.label.tolist()
    assert_close(preds[80:], learn.get_preds()[0])


def test_data_sets_made_step_by_step(df, folder):
    files = get_text_files(folder, folders=["train", "test"])
    splits = GrandparentSplitter(valid_name="test")(files)
    texts = [Tokenizer.from_folder(folder, BaseTokenizer), Numericalize]
    dsets = Datasets(files, [texts, [parent_label, Categorize()]], splits=splits)
    dls = dsets.dataloaders(dl_type=SortedDL, before_batch=pad_input, bs=8, num_workers=0, device="cpu")
    x, y = dls.one_batch()
    assert x.shape == x.padding.shape
    assert len(y) == 8
    lm = TfmdLists(files, texts, splits=splits).dataloaders(dl_type=LMDataLoader, bs=4, seq_len=16, device="cpu")
    assert lm.one_batch()[0].shape == (4, 16)


def test_training_texts_are_weighed(df):
    dls = from_df(df.assign(label=["odd" if i < 8 else "even" for i in range(100)]), weights="balanced", seed=1)
    drawn = torch.cat([y.as_subclass(torch.Tensor) for _ in range(5) for _, y in dls.train])
    assert 0.35 < drawn.float().mean() < 0.65


# -- several columns


@pytest.fixture(scope="module")
def columns():
    return pd.DataFrame({"title": ["a film", "dull"] * 10, "body": ["good", "it was bad"] * 10, "y": ["p", "n"] * 10})


JOINED = "xxbos xxfld 1 a film xxfld 2 good"


@pytest.mark.parametrize("tok", [None, BaseTokenizer(), Tokenizer(BaseTokenizer())])
def test_several_columns_are_joined_by_field_marks(columns, tok):
    dls = TextDataLoaders.from_df(columns, text_col=["title", "body"], label_col="y", tok_tfm=tok, bs=4, device="cpu")
    assert dls.train_ds.tls[0].decode(dls.train_ds.tls[0].new(columns)[0]) == JOINED.replace("xxunk", "")


def test_a_getter_of_the_same_columns_gives_the_same(columns):
    for get_x in (None, ColReader(["title", "body"])):
        block = DataBlock(
            (TextBlock.from_df(["title", "body"], tok=BaseTokenizer(), min_freq=1), CategoryBlock),
            get_x=get_x,
            get_y=ColReader("y"),
            splitter=RandomSplitter(seed=0),
        )
        dsets = block.datasets(columns)
        assert JOINED in [dsets.decode(sample)[0] for sample in dsets]


def test_a_getter_of_one_of_several_columns_is_refused(columns):
    block = DataBlock(
        (TextBlock.from_df(["title", "body"], tok=BaseTokenizer()), CategoryBlock),
        get_x=ColReader("title"),
        get_y=ColReader("y"),
    )
    with pytest.raises(BadArgument, match="the texts of several columns are needed") as error:
        block.datasets(columns)
    assert "without get_x=" in str(error.value)
