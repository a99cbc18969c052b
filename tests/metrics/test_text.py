import math

import pytest
import torch
from torch.nn import functional as F

from layered.foundation import BadValue
from layered.metrics import CorpusBLEUMetric, Perplexity


def test_bleu_of_a_small_corpus_is_that_worked_by_hand():
    truth = torch.tensor([[1, 2, 3, 4, 5, 6], [1, 1, 2, 2, 3, 3]])
    guess = torch.tensor([[1, 2, 3, 4, 5, 0], [1, 1, 1, 2, 3, 3]])
    shares = [(5 + 5) / 12, (4 + 4) / 10, (3 + 2) / 8, (2 + 0) / 6]  # runs of 1, 2, 3 and 4 tokens
    assert CorpusBLEUMetric()(F.one_hot(guess), truth) == pytest.approx(math.prod(shares) ** 0.25)


def test_texts_of_different_batches_may_have_different_lengths():
    texts = [torch.randint(0, 4, (3, length)) for length in (5, 9, 7)]
    metric = CorpusBLEUMetric()
    for text in texts:
        metric.update(F.one_hot(text, 6).float(), text)
    assert metric.value == 1.0
    assert CorpusBLEUMetric()(F.one_hot(texts[0] + 1), texts[0] * 0 + 9) == 0.0


def test_padding_is_left_out_of_both_texts():
    truth = torch.tensor([[1, 2, 3, 4, 5, -100, -100]])
    guess = torch.tensor([[1, 2, 3, 4, 5, 6, 6]])
    assert CorpusBLEUMetric(ignore_index=-100)(F.one_hot(guess), truth) == 1.0
    assert CorpusBLEUMetric()(F.one_hot(guess), truth) < 1.0


def test_texts_too_short_for_runs_of_four_have_no_value():
    short = torch.tensor([[1, 2]])
    assert CorpusBLEUMetric()(F.one_hot(short), short) == 0.0
    with pytest.raises(BadValue, match="match"):
        CorpusBLEUMetric()(F.one_hot(short), short[0])


def test_perplexity_counts_tokens_on_any_axis():
    pred, targ = torch.randn(4, 6, 5), torch.randint(0, 5, (4, 6))
    targ[1, 2:] = -100
    wanted = F.cross_entropy(pred.flatten(0, 1), targ.flatten()).exp().item()
    assert Perplexity()(pred, targ) == pytest.approx(wanted)
    assert Perplexity(axis=1)(pred.movedim(-1, 1), targ) == pytest.approx(wanted)
    with pytest.raises(BadValue, match="match"):
        Perplexity(axis=1)(pred, targ)
