"""Metrics of sequences of tokens."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from layered.foundation import checked, plain
from layered.metrics.accumulated import Kept
from layered.metrics.averages import Mean
from layered.metrics.inputs import floats, mismatch
from layered.metrics.metric import Predicted


class Perplexity(Mean):
    """e to the power of the mean loss of a token: the number of equally likely tokens among which the model hesitates.

    In a learner it uses the loss that was computed anyway, which must be the mean over the tokens that count. Called with
    predictions (logits) and targets, it computes the cross-entropy.

    Args:
        axis: The axis of the tokens' scores, used when called with predictions.
        ignore_index: Targets that do not count; use the loss's.

    Examples:
        >>> round(Perplexity()(torch.zeros(3, 8), torch.tensor([0, 5, 7])), 4)
        8.0
    """

    higher_is_better = False

    @checked
    def __init__(self, axis: int = -1, ignore_index: int = -100) -> None:
        self.axis, self.ignore_index = axis, ignore_index

    def accumulate(self, learn: Predicted) -> None:
        count = (learn.yb[0] != self.ignore_index).count_nonzero()
        self.add(torch.where(count > 0, learn.loss.mean() * count, 0.0), count)

    def update(self, pred: Tensor, targ: Tensor) -> None:
        pred, targ = plain(pred), plain(targ).flatten().long()
        rows = floats(pred.movedim(self.axis, -1).reshape(-1, pred.shape[self.axis]))
        if len(rows) != len(targ):
            raise mismatch(pred, targ, self.axis)
        loss = F.cross_entropy(rows, targ, ignore_index=self.ignore_index, reduction="sum")
        self.add(loss, (targ != self.ignore_index).count_nonzero())

    def compute(self) -> Any:
        return super().compute().exp()


perplexity = Perplexity()


class CorpusBLEUMetric(Kept):
    """How many of the runs of 1 to 4 tokens in the predicted texts occur in the true ones, over the whole corpus.

    The geometric mean of the four shares, in [0, 1]. One token is predicted for each target, so predicted and true texts have
    the same length, and there is no brevity penalty.

    Args:
        vocab_sz: Accepted for compatibility; vocabularies of any size are counted.
        axis: The axis of the tokens' scores in the predictions [text, position, token].
        ignore_index: Positions with this target are left out of both texts.

    Source: Papineni et al. 2002

    Examples:
        >>> text = torch.tensor([[3, 1, 2, 4, 0]])
        >>> CorpusBLEUMetric()(F.one_hot(text).float(), text)
        1.0
    """

    _name = "corpus_bleu"
    higher_is_better = True

    @checked
    def __init__(self, vocab_sz: int = 5000, axis: int = -1, *, ignore_index: int | None = None) -> None:
        self.vocab_sz, self.axis, self.left_out = vocab_sz, axis, ignore_index

    def prepare(self, pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
        best = pred.argmax(dim=self.axis)
        if best.shape != targ.shape or targ.ndim != 2:
            raise mismatch(pred, targ, self.axis)
        ended = (F.pad(x.to(torch.int32), (0, 1), value=_END).flatten() for x in (best, targ))
        return next(ended), next(ended)

    def whole(self, pred: Tensor, targ: Tensor) -> Any:
        same, runs = [0] * 4, [0] * 4
        for guess, truth in _texts(pred, targ, self.left_out):
            for n in range(4):
                found, wanted = _runs(guess, n + 1), _runs(truth, n + 1)
                same[n] += (found & wanted).total()
                runs[n] += found.total()
        if not min(same):
            return 0.0 if max(runs) else math.nan
        shares = sum(math.log(hit / seen) for hit, seen in zip(same, runs, strict=True))
        return math.exp(shares / 4)


_END = -1  # no token: ends each text in the vector that holds them all


def _texts(pred: Tensor, targ: Tensor, left_out: int | None) -> Iterable[tuple[list[int], list[int]]]:
    guess: list[int] = []
    truth: list[int] = []
    for p, t in zip(pred.tolist(), targ.tolist(), strict=True):
        if p == _END:
            yield guess, truth
            guess, truth = [], []
        elif t != left_out:
            guess.append(p)
            truth.append(t)


def _runs(text: list[int], length: int) -> Counter[tuple[int, ...]]:
    return Counter(zip(*(text[i:] for i in range(length)), strict=False))
