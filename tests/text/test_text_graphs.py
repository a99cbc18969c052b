"""Exported models of texts predict what the learner does, by numbers of tokens that a script makes of texts."""

import json

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from reviews import opinion, texts
from tiny_transformers import loaders, tiny, tokenizer

from layered.foundation import NotExportable
from layered.text.all import AWD_LSTM, TextDataLoaders, text_classifier_learner
from layered.text.graph_inputs import prepare_texts

pytestmark = pytest.mark.usefixtures("known_operators")


def test_texts_are_predicted_by_onnxruntime(tmp_path, capsys):
    dls = loaders(tokenizer(), max_len=20, cut="head+tail")
    learn = text_classifier_learner(dls, tiny("bert"), path=tmp_path)
    file = learn.to_onnx("opinions")
    assert "by the script beside it" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(file)
    assert [x.shape for x in session.get_inputs()] == [["batch", "token"], ["batch", "token"]]
    about = json.loads(session.get_modelmeta().custom_metadata_map["layered"])
    news = [*texts(8), "film", "", "a film without end " * 9]
    predictions, decisions = session.run(None, prepare_texts(news, about["settings"]))
    for text, predicted, decision in zip(news, predictions, decisions, strict=True):
        label, _, expected = learn.predict(text)
        np.testing.assert_allclose(predicted, expected.numpy(), atol=1e-5)
        assert about["classes"][0][decision] == str(label)


def test_a_model_that_carries_a_state_is_refused(tmp_path):
    dls = TextDataLoaders.from_df(
        pd.DataFrame({"text": texts(30), "label": [opinion(text) for text in texts(30)]}),
        text_col="text", label_col="label", valid_pct=0.3, seed=0, bs=8, device="cpu",
    )  # fmt: skip
    learn = text_classifier_learner(
        dls, AWD_LSTM, config={"emb_sz": 8, "n_hid": 8, "n_layers": 1}, pretrained=False, path=tmp_path
    )
    with pytest.raises(NotExportable, match="carries a state through a text"):
        learn.to_onnx("awd")
    assert list(tmp_path.iterdir()) == []
