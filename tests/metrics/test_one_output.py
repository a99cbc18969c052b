"""A single output for two classes: scores equal scikit-learn's, for logits and for probabilities."""

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
import torch.nn.functional as F
from torch import nn

from layered.basics import DataLoaders, Dice, F1Score, Learner, accuracy, error_rate, skm_to_fastai

GEN = torch.Generator().manual_seed(0)
X = torch.randn(101, 4, generator=GEN)
Y = (X[:, 0] + torch.randn(101, generator=GEN) > 0).long()
SCORES = {
    "accuracy": sk.accuracy_score,
    "error_rate": lambda y, d: 1 - sk.accuracy_score(y, d),
    "f1": sk.f1_score,
    "f1_macro": lambda y, d: sk.f1_score(y, d, average="macro"),
    "precision": sk.precision_score,
    "recall": sk.recall_score,
    "jaccard": sk.jaccard_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "cohen_kappa": sk.cohen_kappa_score,
    "matthews_corrcoef": sk.matthews_corrcoef,
}
RANKS = {
    "roc_auc": sk.roc_auc_score,
    "average_precision": sk.average_precision_score,
    "brier_score": sk.brier_score_loss,
}


def net(*more, weight=1.0, bias=0.0):
    layer = nn.Linear(4, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[weight, 0.3 * weight, 0.0, 0.0]]))
        layer.bias.fill_(bias)
    return nn.Sequential(layer, *more)


@pytest.mark.parametrize("shape", ["[batch, 1]", "[batch]"])
@pytest.mark.parametrize("loss_func", [nn.BCEWithLogitsLoss(), F.binary_cross_entropy_with_logits, nn.BCELoss()])
@pytest.mark.parametrize(("weight", "bias"), [(1.0, 0.0), (1e-3, 0.3)], ids=["wide", "all logits in [0, 1]"])
def test_scores_in_a_learner(shape, loss_func, weight, bias):
    last = [nn.Sigmoid()] if isinstance(loss_func, nn.BCELoss) else []
    model = net(*last, *([nn.Flatten(0)] if shape == "[batch]" else []), weight=weight, bias=bias)
    with torch.no_grad():
        outputs = model(X).flatten()
    probs = (outputs if last else outputs.sigmoid()).numpy()
    decisions = probs > 0.5
    named = skm_to_fastai(sk.f1_score), skm_to_fastai(sk.roc_auc_score, is_class=False, activation="binary_softmax")
    dls = DataLoaders.from_arrays(X, Y, X, Y, bs=7)
    learn = Learner(dls, model, loss_func=loss_func, metrics=[*SCORES, *RANKS, *named])
    got = learn.validate()[1:]
    want = [f(Y, decisions) for f in SCORES.values()] + [f(Y, probs) for f in RANKS.values()]
    want += [sk.f1_score(Y, decisions), sk.roc_auc_score(Y, probs)]
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("shape", [(101, 1), (101,)])
def test_functions_and_metrics_that_are_called(shape):
    with torch.no_grad():
        logits = net()(X).reshape(shape)
    decisions = logits.flatten() > 0
    for outputs in (logits, logits.sigmoid()):
        assert accuracy(outputs, Y).item() == pytest.approx(sk.accuracy_score(Y, decisions))
        assert error_rate(outputs, Y[:, None]).item() == pytest.approx(1 - sk.accuracy_score(Y, decisions))
        assert F1Score()(outputs, Y) == pytest.approx(sk.f1_score(Y, decisions))
        assert skm_to_fastai(sk.recall_score)(outputs, Y) == pytest.approx(sk.recall_score(Y, decisions))


def test_masks_with_one_channel():
    logits = torch.randn(3, 1, 4, 4, generator=GEN)
    masks = torch.randint(2, (3, 4, 4), generator=GEN)
    assert Dice()(logits, masks) == pytest.approx(sk.f1_score(masks.flatten(), (logits > 0).flatten()))
    assert accuracy(logits, masks, axis=1).item() == pytest.approx(((logits[:, 0] > 0) == masks).float().mean().item())
