"""Scores of several labels equal scikit-learn's where the loss takes probabilities, and no sigmoid is applied to these."""

from functools import partial

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
import torch.nn.functional as F
from torch import nn

from layered.basics import (
    AccumMetric,
    APScoreMulti,
    BCELossFlat,
    BrierScoreMulti,
    DataLoaders,
    F1ScoreMulti,
    HammingLossMulti,
    JaccardMulti,
    Learner,
    PrecisionMulti,
    RecallMulti,
    RocAucMulti,
    accuracy_multi,
    skm_to_fastai,
)

GEN = torch.Generator().manual_seed(0)
X = torch.randn(101, 4, generator=GEN)
Y = (X[:, :3] + torch.randn(101, 3, generator=GEN) > 0).float()
METRICS = {
    "accuracy": (accuracy_multi, lambda y, p: (y == (p > 0.5)).mean()),
    "accuracy at 0.3": (partial(accuracy_multi, thresh=0.3), lambda y, p: (y == (p > 0.3)).mean()),
    "accuracy, said": (partial(accuracy_multi, sigmoid=False), lambda y, p: (y == (p > 0.5)).mean()),
    "f1": (F1ScoreMulti(), lambda y, p: sk.f1_score(y, p > 0.5, average="macro")),
    "f1, said": (F1ScoreMulti(sigmoid=False), lambda y, p: sk.f1_score(y, p > 0.5, average="macro")),
    "precision": (PrecisionMulti(), lambda y, p: sk.precision_score(y, p > 0.5, average="macro")),
    "recall": (RecallMulti(thresh=0.7), lambda y, p: sk.recall_score(y, p > 0.7, average="macro")),
    "jaccard": (JaccardMulti(), lambda y, p: sk.jaccard_score(y, p > 0.5, average="macro")),
    "hamming": (HammingLossMulti(), lambda y, p: sk.hamming_loss(y, p > 0.5)),
    "roc_auc": (RocAucMulti(), lambda y, p: sk.roc_auc_score(y, p)),
    "average precision": (APScoreMulti(), lambda y, p: sk.average_precision_score(y, p)),
    "brier": (BrierScoreMulti(), lambda y, p: ((y - p) ** 2).mean()),
    "by scikit-learn": (
        skm_to_fastai(sk.f1_score, thresh=0.5, flatten=False, average="micro"),
        lambda y, p: sk.f1_score(y, p > 0.5, average="micro"),
    ),
    "accumulated": (AccumMetric(lambda p, t: p.mean()), lambda y, p: p.mean()),
}
LOSSES = {
    "module": nn.BCELoss(),
    "function": F.binary_cross_entropy,
    "partial": partial(F.binary_cross_entropy, reduction="mean"),
    "flat": BCELossFlat(),
    "lambda": lambda pred, target: F.binary_cross_entropy(pred, target),
    "lambda around a module": (lambda bce: lambda pred, target: 2 * bce(pred, target))(nn.BCELoss()),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_probabilities_are_read_as_such(loss):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Sigmoid())
    with torch.no_grad():
        probs = model(X).numpy()
    metrics = [metric for metric, _ in METRICS.values()]
    learn = Learner(DataLoaders.from_arrays(X, Y, X, Y, bs=7), model, loss_func=LOSSES[loss], metrics=metrics)
    wanted = [want(Y.numpy(), probs) for _, want in METRICS.values()]
    np.testing.assert_allclose(learn.validate()[1:], wanted, rtol=1e-5)


def test_a_scorer_of_labels_has_decisions_by_probabilities():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Sigmoid())
    scorer = sk.make_scorer(sk.f1_score, average="micro")
    learn = Learner(DataLoaders.from_arrays(X, Y, X, Y, bs=7), model, loss_func=nn.BCELoss(), metrics=scorer)
    with torch.no_grad():
        want = sk.f1_score(Y, model(X) > 0.5, average="micro")
    assert learn.validate()[1] == pytest.approx(want)


LOSSES_OF_LOGITS = {
    "module": nn.BCEWithLogitsLoss(),
    "lambda": lambda pred, target: F.binary_cross_entropy_with_logits(pred, target),
    "sigmoid in the loss": lambda pred, target: F.binary_cross_entropy(pred.sigmoid(), target),
}


@pytest.mark.parametrize("loss", LOSSES_OF_LOGITS)
def test_logits_are_read_as_before(loss):
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    with torch.no_grad():
        decisions = model(X) > 0
    learn = Learner(
        DataLoaders.from_arrays(X, Y, X, Y, bs=7), model, loss_func=LOSSES_OF_LOGITS[loss], metrics=accuracy_multi
    )
    assert learn.validate()[1] == pytest.approx((decisions == (Y > 0)).float().mean().item())
