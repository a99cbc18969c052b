"""Diagrams of confidence, and the confidence below which to abstain."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from torch import nn
from torch.utils.data import TensorDataset

from layered.basics import BCEWithLogitsLossFlat, ClassificationInterpretation, DataLoaders, Learner
from layered.foundation import LayeredError


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def learner(classes=4, loss=None, seed=0):
    """A learner whose probabilities are true: its outputs are the inputs."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(3000, classes, generator=g) * 2
    y = torch.bernoulli(x.sigmoid(), generator=g) if loss else torch.multinomial(x.softmax(1), 1, generator=g).flatten()
    dls = DataLoaders.from_dsets(TensorDataset(x[:64].clone(), y[:64]), TensorDataset(x, y), bs=64)
    return Learner(dls, nn.Identity(), loss or nn.CrossEntropyLoss()), x, y


def test_a_reliability_diagram_shows_the_curve_of_scikit_learn():
    learn, x, y = learner()
    interp = ClassificationInterpretation.from_learner(learn)
    interp.plot_reliability(bins=10)
    confidence, right = plt.gcf().axes[0].lines[1].get_data()
    shares = x.softmax(1)
    theirs = calibration_curve((shares.argmax(1) == y).numpy(), shares.max(1).values.numpy(), n_bins=10)
    assert np.asarray(right) == pytest.approx(theirs[0])
    assert np.asarray(confidence) == pytest.approx(theirs[1], abs=1e-6)
    assert sum(bar.get_height() for bar in plt.gcf().axes[1].patches) == len(y)


def test_a_reliability_diagram_of_labels_is_of_each_label():
    learn, x, y = learner(loss=BCEWithLogitsLossFlat())
    ClassificationInterpretation.from_learner(learn).plot_reliability(bins=5)
    _, right = plt.gcf().axes[0].lines[1].get_data()
    theirs = calibration_curve(y.flatten().numpy(), x.sigmoid().flatten().numpy(), n_bins=5)
    assert np.asarray(right) == pytest.approx(theirs[0])


def test_numbers_have_no_reliability():
    learn, x, _ = learner()
    learn.loss_func = nn.MSELoss()
    interp = ClassificationInterpretation(learn, [], x, x, x, x[:, 0])
    with pytest.raises(LayeredError, match="probabilities"):
        interp.plot_reliability()


@pytest.mark.parametrize("error", [0.0, 0.05, 0.2])
def test_the_threshold_answers_as_many_items_as_the_wished_error_allows(error):
    learn, x, y = learner()
    found = learn.abstention(error=error)
    shares = x.softmax(1)
    answered = shares.max(1).values >= found.threshold
    wrong = (shares.argmax(1) != y)[answered]
    assert float(answered.float().mean()) == pytest.approx(found.coverage, abs=1e-6)
    assert float(wrong.float().mean()) == pytest.approx(found.error, abs=1e-6)
    assert found.error <= error
    in_order = (shares.argmax(1) != y)[shares.max(1).values.argsort(descending=True)].float()
    errors = in_order.cumsum(0) / torch.arange(1, len(y) + 1)
    assert int((errors <= error).nonzero()[-1]) + 1 == answered.sum()
    found.plot()
    assert f"{found.threshold:.2f}" in plt.gcf().axes[0].texts[0].get_text()


def test_all_items_are_answered_where_the_error_is_small_enough():
    learn, _, _ = learner()
    found = learn.abstention(error=0.9)
    assert (found.threshold, found.coverage) == (0, 1)


def test_abstention_refuses_what_it_cannot_do():
    learn, _, y = learner()
    for wrong in (1, -0.1, "a", True):
        with pytest.raises(LayeredError, match="error is the share"):
            learn.abstention(error=wrong)
    of_labels, _, _ = learner(loss=BCEWithLogitsLossFlat())
    with pytest.raises(LayeredError, match="one class"):
        of_labels.abstention()
    worst = torch.eye(4)[(y[:50] + 1) % 4] * 9
    with pytest.raises(LayeredError, match="no confidence"):
        learn.abstention(error=0.1, dl=[(worst, y[:50])])
