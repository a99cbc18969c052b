"""How texts are shown."""

import pandas as pd
import torch

from layered.text.all import BaseTokenizer, TextDataLoaders

TEXTS = ["a good film " * 80 if i == 3 else f"number {i} was fun" for i in range(20)]
FRAME = pd.DataFrame({"text": TEXTS, "label": ["yes", "no"] * 10})
GIVEN = {"tok_tfm": BaseTokenizer, "bs": 4, "device": "cpu", "seed": 3}


def test_texts_stand_beside_their_labels_without_padding(capsys):
    dls = TextDataLoaders.from_df(FRAME, **GIVEN)
    dls.valid.show_batch(max_n=3)
    out = capsys.readouterr().out
    assert out.count("text      xxbos") == 3
    assert out.count("category  ") == 3
    assert "xxpad" not in out


def test_long_texts_are_shortened(capsys):
    dls = TextDataLoaders.from_df(FRAME, valid_pct=0.05, **GIVEN)
    dls.show_batch(max_n=1, trunc_at=5)
    assert capsys.readouterr().out.split("category")[0].split() == ["text", "xxbos", "a", "good", "film", "a"]


def test_a_language_model_shows_what_follows(capsys):
    TextDataLoaders.from_df(FRAME, is_lm=True, seq_len=8, **GIVEN).show_batch(max_n=1)
    text, following = capsys.readouterr().out.split("text_")
    assert text.split()[2:] == following.split()[:-1]


def test_results_and_losses_have_their_predictions(capsys):
    dl = TextDataLoaders.from_df(FRAME, **GIVEN).valid
    x, y = dl.one_batch()
    dl.show_results((x, y), 1 - torch.as_tensor(y), max_n=2)
    lines = capsys.readouterr().out.splitlines()
    pairs = [line.split()[-1] for line in lines if line.startswith("category")]
    assert len(pairs) == 4
    assert all({a, b} == {"yes", "no"} for a, b in zip(pairs[::2], pairs[1::2], strict=True))


def test_notebooks_get_a_table_whose_text_is_escaped(monkeypatch):
    shown = []
    monkeypatch.setattr("layered.text.show.in_notebook", lambda: True)
    monkeypatch.setattr("layered.text.show.display", type("Display", (), {"HTML": str, "display": shown.append}))
    TextDataLoaders.from_df(FRAME, valid_pct=0.05, **GIVEN).show_batch(max_n=2)
    (table,) = shown
    assert table.startswith("<table><tr><th>text</th><th>category</th></tr>")
    assert table.count("<tr>") == 3
