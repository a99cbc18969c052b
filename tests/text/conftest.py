"""Small loaders of texts about films, made of words without spaCy."""

import pytest
import torch
from reviews import as_lm, labelled, texts

from layered.text.all import AWD_LSTM, accuracy, language_model_learner, text_classifier_learner

SMALL = {"emb_sz": 12, "n_hid": 16, "n_layers": 2}


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("LAYERED_OFFLINE", "1")
    monkeypatch.setenv("LAYERED_HOME", str(tmp_path / "home"))


@pytest.fixture
def lm_dls():
    return as_lm(texts(60))


@pytest.fixture
def lm(lm_dls, tmp_path):
    torch.manual_seed(0)
    return language_model_learner(
        lm_dls, AWD_LSTM, config=SMALL, pretrained=False, metrics=accuracy, path=tmp_path, seed=1
    )


@pytest.fixture
def clas_dls(lm_dls):
    return labelled(texts(60), vocab=lm_dls.vocab)


@pytest.fixture
def clas(clas_dls, tmp_path):
    torch.manual_seed(0)
    return text_classifier_learner(
        clas_dls, AWD_LSTM, seq_len=8, config=SMALL, pretrained=False, metrics=accuracy, path=tmp_path, seed=1
    )
