"""Texts with a label for each word: where labels stand, how they are padded, scored, learned, shown and exported."""

import random
from itertools import pairwise

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from layered.foundation import BadArgument, BadValue
from layered.text import TensorTokenCategory
from layered.text.all import (
    AWD_LSTM,
    BaseTokenizer,
    CharTokenizer,
    ColReader,
    DataBlock,
    EntityF1,
    EntityPrecision,
    EntityRecall,
    HuggingFaceTokenizer,
    IndexSplitter,
    TextBlock,
    TextDataLoaders,
    TokenCategoryBlock,
    Tokenizer,
    accuracy,
    load_learner,
    text_classifier_learner,
)
from layered.text.models.heads import SentenceEncoder, TokenEncoder

SMALL = {"emb_sz": 12, "n_hid": 16, "n_layers": 2}
CPU = {"bs": 8, "device": "cpu", "seed": 1}
PEOPLE, PLACES, OTHERS = ("Ada", "Bob"), ("Rome", "Oslo"), ("lives", "in", "was", "sooo", "and")


def rows(count):
    """Words and labels: whoever comes after a person has the same surname, which goes on with the name."""
    draw = random.Random(0)
    res = []
    for _ in range(count):
        words, labels = [], []
        for _ in range(draw.randint(1, 6)):
            kind = draw.choice("ppo")
            if kind == "p" and draw.random() < 0.5:
                words += [draw.choice(PEOPLE), "Li"]
                labels += ["B-PER", "I-PER"]
            elif kind == "p":
                words.append(draw.choice(PLACES))
                labels.append("B-LOC")
            else:
                words.append(draw.choice(OTHERS))
                labels.append("O")
        res.append((words, labels))
    return res


@pytest.fixture(scope="module")
def df():
    return pd.DataFrame(rows(100), columns=["words", "labels"])


@pytest.fixture(scope="module")
def letters():
    """A Hugging Face tokenizer that divides most words."""
    texts = [" ".join(words) for words, _ in rows(100)]
    return HuggingFaceTokenizer.train(texts, vocab_sz=275)


def loaders(df, tok=BaseTokenizer, **kwargs):
    given = {"text_col": "words", "label_col": "labels", "y_block": TokenCategoryBlock, "tok_tfm": tok, **CPU}
    return TextDataLoaders.from_df(df, **given | kwargs)


def labels_beside_words(dls, i):
    """(token, label) of sample `i` of the training items: each label beside the token that it was put at."""
    text, classes = dls.train.do_item(i)
    words, vocab = dls.vocab
    return [(words[token], vocab[label]) for token, label in zip(text, classes, strict=True) if label != -100]


# -- where labels stand


@pytest.mark.parametrize("tok", [BaseTokenizer, None])
def test_what_rules_add_does_not_shift_labels(tok):
    df = pd.DataFrame({"words": [["Ada", "LIVES", "in", "sooo"]] * 12, "labels": [["B-PER", "V", "O", "A"]] * 12})
    dls = loaders(df, tok, text_vocab=None)
    assert labels_beside_words(dls, 0) == [("ada", "B-PER"), ("lives", "V"), ("in", "O"), ("s", "A")]
    text, _ = dls.train.do_item(0)
    assert [dls.vocab[0][i] for i in text] == ["xxbos", "xxmaj", "ada", "xxup", "lives", "in", "s", "xxrep", "3", "o"]


def test_three_equal_words_stay_three():
    df = pd.DataFrame({"words": [["no", "no", "no"]] * 12, "labels": [["A", "B", "C"]] * 12})
    assert labels_beside_words(loaders(df), 0) == [("no", "A"), ("no", "B"), ("no", "C")]


def test_the_first_part_of_a_word_carries_its_label(letters):
    words = ["Oslo", "was", "Xyz"]
    text = HuggingFaceTokenizer.from_init_args({**letters.init_args, "is_split": True})(words)
    firsts = [i for i, word in enumerate(text.words.tolist()) if word >= 0]
    assert text.words[firsts].tolist() == [0, 1, 2]
    assert len(text) > 4  # xxbos, and "Xyz" in parts
    parts = [*firsts, len(text)]
    decoded = [letters.backend.decode(text[a:b].tolist()).strip() for a, b in pairwise(parts)]
    assert decoded == words


def test_a_word_that_a_tokenizer_leaves_out_is_unknown():
    backend = whole_words().backend
    backend.normalizer = pytest.importorskip("tokenizers").normalizers.Replace("\u200b", "")
    text = HuggingFaceTokenizer(backend, {"unk": "[UNK]"}, is_split=True)(["a", "\u200b", "b", ""])
    assert (text.tolist(), text.words.tolist()) == ([1, 3, 0, 4, 0, 2], [-1, 0, 1, 2, 3, -1])


def test_a_slow_tokenizer_is_refused_by_name():
    transformers = pytest.importorskip("transformers")

    class SlowTokenizer(transformers.PreTrainedTokenizer):
        vocab_size = 1

        def get_vocab(self):
            return {"a": 0}

    with pytest.raises(BadArgument, match="AutoTokenizer") as error:
        TextBlock(SlowTokenizer(), is_split=True)
    assert "SlowTokenizer" in str(error.value)


@pytest.mark.parametrize("tok", [BaseTokenizer(), CharTokenizer()])
def test_every_word_has_a_token(tok):
    tokens = Tokenizer(tok, is_split=True)(["Ada", "", " ", "xxmaj", "Li"])
    assert [n for n in tokens.words if n >= 0] == [0, 1, 2, 3, 4]


def whole_words():
    """A Hugging Face tokenizer with one token for each word of "a b c d e"."""
    tokenizers = pytest.importorskip("tokenizers")
    numbers = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2} | {word: i for i, word in enumerate("abcde", 3)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbers, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        "[CLS] $A [SEP]", None, [("[CLS]", 1), ("[SEP]", 2)]
    )
    return HuggingFaceTokenizer(backend, {"unk": "[UNK]"})


@pytest.mark.parametrize(
    ("tok", "cut", "kept"),
    [
        (BaseTokenizer, "head", ["B-PER", "I-PER", "O"]),  # of xxbos a b c d e: xxbos a b c
        (BaseTokenizer, "head+tail", ["O", "O", "B-LOC"]),  # xxbos c d e
        (whole_words, "head", ["B-PER", "I-PER"]),  # [CLS] a b [SEP]
        (whole_words, "head+tail", ["O", "B-LOC"]),  # [CLS] d e [SEP]
    ],
)
def test_labels_are_cut_with_their_words(tok, cut, kept):
    df = pd.DataFrame({"words": [list("abcde")] * 12, "labels": [["B-PER", "I-PER", "O", "O", "B-LOC"]] * 12})
    with pytest.warns(UserWarning, match="12 of 12 texts are longer than max_len=4 tokens"):
        dls = loaders(df, tok(), max_len=4, cut=cut)
    assert [label for _, label in labels_beside_words(dls, 0)] == kept


def test_padding_has_no_label_and_a_token_with_the_index_of_padding_has(df):
    dls = loaders(df, text_vocab=["xxunk", "Rome", "xxbos", "xxpad"])  # the padding is number 3
    x, y = dls.one_batch()
    assert x.padding.any()
    assert (y[x.padding] == -100).all()
    assert (y[~x.padding] != -100).sum() == (x.words >= 0).sum()
    assert type(y) is TensorTokenCategory


def test_decoded_samples_have_their_words_and_labels(df, letters):
    for tok in (BaseTokenizer, letters):
        dls = loaders(df, tok, valid_pct=0.2)
        dl = dls.valid
        samples = dl.decode_batch(dl.one_batch(), max_n=8)
        assert len(samples) == 8
        known = {(tuple(words), tuple(labels)) for words, labels in rows(100)}
        assert all((tuple(text.words), tuple(labels)) in known for text, labels in samples)


# -- forms


def test_the_block_in_a_data_block_and_texts_with_spaces(df):
    lines = pd.DataFrame({"words": df.words.str.join(" "), "labels": df.labels.str.join(" ")})
    for get_y, table in ((ColReader("labels"), df), (ColReader("labels", label_delim=" "), lines)):
        block = DataBlock(
            (TextBlock.from_df("words", tok=BaseTokenizer(), is_split=True), TokenCategoryBlock()),
            get_y=get_y,
            splitter=IndexSplitter(range(80, 100)),
        )
        dls = block.dataloaders(table, **CPU)
        assert dls.vocab[-1] == ["B-LOC", "B-PER", "I-PER", "O"]
        text, classes = dls.train.do_item(3)
        assert [dls.vocab[-1][i] for i in classes if i != -100] == df.labels[3]
        assert text.word_count == len(df.words[3])


def test_words_and_labels_of_a_csv_file(df, tmp_path):
    pd.DataFrame({"words": df.words.str.join(" "), "labels": df.labels.str.join(" ")}).to_csv(tmp_path / "t.csv")
    dls = TextDataLoaders.from_csv(
        tmp_path,
        "t.csv",
        text_col="words",
        label_col="labels",
        y_block=TokenCategoryBlock,
        tok_tfm=BaseTokenizer,
        **CPU,
    )
    assert dls.vocab[-1] == ["B-LOC", "B-PER", "I-PER", "O"]


# -- what is refused


def test_another_number_of_labels_than_words_names_the_row(df):
    wrong = df.copy()
    wrong.at[7, "labels"] = [*wrong.labels[7], "O"]
    wrong["is_valid"] = [i == 7 for i in range(len(wrong))]
    with pytest.raises(BadValue, match="not as many labels as words") as error:
        loaders(wrong, valid_col="is_valid")
    assert f"{len(wrong.labels[7])} labels for {len(wrong.words[7])} words" in str(error.value)
    assert "item 7 " in str(error.value)


def test_a_text_without_words_is_refused_with_the_fix(df):
    block = DataBlock(
        (TextBlock.from_df("words", tok=BaseTokenizer()), TokenCategoryBlock()), get_y=ColReader("labels")
    )
    with pytest.raises(BadArgument, match="is_split=True"):
        block.dataloaders(df, **CPU)
    with pytest.raises(BadValue, match="is_split=True"):
        block.dataloaders(df.assign(words=df.words.str.join(" ")), **CPU)


@pytest.mark.parametrize("given", [{"is_lm": True}, {"backwards": True}])
def test_words_with_labels_are_read_in_their_order(given):
    with pytest.raises(BadArgument, match="in their order"):
        TextBlock(BaseTokenizer(), is_split=True, **given)


@pytest.mark.parametrize("word", [None, 3, float("nan"), b"a"])
def test_a_word_that_is_none_names_its_item(df, word):
    wrong = pd.DataFrame({"words": [*df.words, ["a", word]], "labels": [*df.labels, ["O", "O"]]})
    with pytest.raises(BadArgument, match="item 100"):
        loaders(wrong)


def test_settings_of_the_pooling_head_are_refused(df):
    with pytest.raises(BadArgument, match="leave out ps"):
        text_classifier_learner(loaders(df), AWD_LSTM, config=SMALL, pretrained=False, ps=[0.1, 0.1])


# -- scores


LABELS = ["O", "B-A", "I-A", "B-B", "I-B"]


def entities(labels):
    """(kind, first, last) of each entity, found one word at a time."""
    found, current = set(), None
    for i, label in enumerate([*labels, "O"]):
        place, _, kind = label.partition("-")
        goes_on = current is not None and place == "I" and kind == current[0]
        if current is not None and not goes_on:
            found.add((*current, i - 1))
            current = None
        if label != "O" and not goes_on:
            current = (kind, i)
    return found


def as_scores(texts):
    return torch.eye(len(LABELS))[torch.tensor([[LABELS.index(o) for o in text] for text in texts])]


@pytest.mark.parametrize(
    ("true", "found", "hits", "predicted", "actual"),
    [
        ("B-A I-A O B-B", "B-A I-A O B-B", 2, 2, 2),
        ("B-A I-A O B-B", "B-A O O B-B", 1, 2, 2),  # ends too early
        ("B-A I-A O O", "I-A I-A O O", 1, 1, 1),  # begins with I-
        ("B-A B-A O O", "B-A I-A O O", 0, 1, 2),
        ("B-A I-B O O", "B-A I-B O O", 2, 2, 2),  # another kind begins
        ("O O O O", "O O O B-A", 0, 1, 0),
        ("O O O O", "O O O O", 0, 0, 0),
    ],
)
def test_entities_worked_by_hand(true, found, hits, predicted, actual):
    targets = torch.tensor([[LABELS.index(o) for o in true.split()]])
    scores = as_scores([found.split()])
    values = [kind(LABELS)(scores, targets) for kind in (EntityPrecision, EntityRecall, EntityF1)]
    wanted = [hits / max(predicted, 1), hits / max(actual, 1), 2 * hits / max(predicted + actual, 1)]
    assert values == pytest.approx(wanted)


def test_entities_of_random_labels_beside_a_walk_over_the_words():
    draw = random.Random(1)
    hits = predicted = actual = 0
    metric = EntityF1(LABELS)
    for part in metric.parts():
        part.reset()
    for _ in range(20):
        batch = [([draw.choice(LABELS) for _ in range(9)], [draw.choice(LABELS) for _ in range(9)]) for _ in range(4)]
        counts = [[draw.random() < 0.7 for _ in range(9)] for _ in range(4)]
        targets = torch.tensor([[LABELS.index(o) for o in true] for true, _ in batch])
        targets = targets.where(torch.tensor(counts), -100)
        metric.update(as_scores([found for _, found in batch]), targets)
        for (true, found), row in zip(batch, counts, strict=True):
            t, f = (entities([o for o, c in zip(text, row, strict=True) if c]) for text in (true, found))
            hits, predicted, actual = hits + len(t & f), predicted + len(f), actual + len(t)
    assert metric.value == pytest.approx(2 * hits / (predicted + actual))


@pytest.mark.parametrize("labels", [["NOUN", "VERB"], ["PER-B", "O"], ["B-PER", "E-PER", "O"]])
def test_labels_of_another_scheme_are_refused(labels):
    with pytest.raises(BadValue, match="not those of entities"):
        EntityF1(labels)(torch.zeros(1, 2, len(labels)), torch.zeros(1, 2, dtype=torch.int64))


def test_scores_of_entities_need_their_labels():
    with pytest.raises(BadArgument, match="EntityF1"):
        EntityF1()(torch.zeros(1, 2, 3), torch.zeros(1, 2, dtype=torch.int64))


# -- models


@pytest.mark.parametrize("before", [0, 2, 5, 7])
def test_the_output_of_a_token_stands_at_its_place(before):
    torch.manual_seed(0)
    encoder = AWD_LSTM(50, 8, 12, 2).eval()
    text, padding = torch.randint(2, 50, (1, 9)), torch.ones(1, before, dtype=torch.int64)
    alone, _ = SentenceEncoder(5, encoder)(text)
    other = torch.randint(2, 50, (1, 9 + before))
    out, mask = TokenEncoder(5, encoder)(torch.cat([torch.cat([padding, text], 1), other]))
    assert_close(out[0, before:], alone[0])
    assert mask[0].tolist() == [True] * before + [False] * 9


@pytest.fixture(scope="module", params=["words", "parts"])
def learn(request, df, letters):
    torch.manual_seed(0)
    dls = loaders(df, BaseTokenizer if request.param == "words" else letters)
    metrics = [accuracy, EntityF1(), EntityPrecision(), EntityRecall()]
    res = text_classifier_learner(
        dls,
        AWD_LSTM,
        seq_len=8,
        config={**SMALL, "bidir": True},
        pretrained=False,
        drop_mult=0.1,
        metrics=metrics,
        seed=1,
    )
    with res.no_bar(), res.no_logging():
        res.fit_one_cycle(6, 5e-2)
    return res


def test_labels_of_words_are_learned_and_scored(learn):
    _, right, f1, precision, recall = learn.validate()
    assert right > 0.95
    assert f1 > 0.9
    assert f1 == pytest.approx(2 * precision * recall / (precision + recall))
    preds, targets = learn.get_preds()
    hits = torch.cat([(p.argmax(-1) == t)[t != -100] for p, t in zip(preds, targets, strict=True)])
    assert right == pytest.approx(hits.float().mean().item())
    assert [t[t != -100].numel() for t in targets] == [
        int((text.words >= 0).sum()) for text, _ in map(learn.dls.valid.do_item, range(len(targets)))
    ]


@pytest.mark.parametrize("item", ["Ada Li lives in Rome", ["Ada", "Li", "lives", "in", "Rome"]])
def test_the_labels_of_a_new_text(learn, item):
    labels, _, _ = learn.predict(item)
    assert list(labels) == ["B-PER", "I-PER", "O", "O", "B-LOC"]


def test_words_and_labels_are_shown(learn, capsys):
    learn.dls.valid.show_batch(max_n=2)
    shown = capsys.readouterr().out
    assert "labels" in shown
    assert "/B-" in shown or "/O" in shown
    learn.show_results(max_n=2)
    assert "labels predicted" in capsys.readouterr().out


def test_an_export_labels_words(learn, df, tmp_path):
    learn.export(tmp_path / "words.layered")
    again = load_learner(tmp_path / "words.layered")
    assert list(again.predict("Bob Li was in Oslo")[0]) == list(learn.predict("Bob Li was in Oslo")[0])
    test = df[:12]
    values = learn.validate(dl=learn.dls.test_dl(test, with_labels=True))
    assert again.validate(dl=again.dls.test_dl(test, with_labels=True)) == pytest.approx(values)
    assert again.metric_set.names == ["accuracy", "entity_f1", "entity_precision", "entity_recall"]
