"""What is predicted of whole sets: the same rows in both directions, and no scores of a language model in memory."""

import gc

import pandas as pd
import torch
from conftest import SMALL
from reviews import opinion, texts
from torch.testing import assert_close

from layered.text.all import (
    AWD_LSTM,
    BaseTokenizer,
    Callback,
    Perplexity,
    TextDataLoaders,
    accuracy,
    text_classifier_learner,
)


def test_readings_of_both_directions_are_of_the_same_rows(tmp_path):
    df = pd.DataFrame({"text": texts(60)})
    df["label"] = df.text.map(opinion)
    preds = []
    for backwards in (False, True):
        dls = TextDataLoaders.from_df(df, tok_tfm=BaseTokenizer, backwards=backwards, bs=8, device="cpu", seed=0)
        torch.manual_seed(0)
        learn = text_classifier_learner(dls, AWD_LSTM, config=SMALL, pretrained=False, path=tmp_path, drop_mult=0.1)
        with learn.no_bar(), learn.no_logging():
            learn.fit_one_cycle(3, 2e-2)
        found, targets = learn.get_preds()
        preds.append(found)
        wanted = [learn.predict(text)[2] for text in df.text[dls.splits[1]]]
        assert_close(found, torch.stack(wanted))
    assert targets.tolist() == [dls.vocab[1].o2i[label] for label in df.label[dls.splits[1]]]
    assert accuracy(sum(preds) / 2, targets) >= min(accuracy(p, targets) for p in preds)


class ScoresAlive(Callback):
    """How many new tensors with a score for each word of a batch are alive, counted after every fifth batch."""

    run_train = False

    def __init__(self, words):
        self.words, self.counts = words, []
        self.before = self.scores()  # of other tests

    def scores(self):
        tensors = [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor)]
        return {o.data_ptr(): o for o in tensors if o.ndim and o.shape[-1] == self.words and o.numel() > 4 * self.words}

    def after_batch(self):
        if self.learn.iter % 5 == 3:
            self.counts.append(len(self.scores().keys() - self.before))


def test_evaluation_of_a_language_model_keeps_no_scores(lm):
    words = len(lm.dls.vocab)
    lm.metrics = [accuracy, Perplexity()]
    dl = lm.dls.train.new(shuffle=False)
    few = ScoresAlive(words)
    with lm.added_cbs(few):
        lm.validate(dl=dl)
    assert len(few.counts) > 1
    assert max(few.counts) <= 2
    streamed = ScoresAlive(words)
    with lm.added_cbs(streamed):
        for preds, _ in lm.stream_preds(dl=dl):
            assert preds.shape[-1] == words
    assert max(streamed.counts) <= 4
    kept = ScoresAlive(words)
    with lm.added_cbs(kept):
        lm.get_preds(dl=dl)
    assert kept.counts[-1] > 7  # it is seen where they are kept
