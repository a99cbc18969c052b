"""Interpretation: which items are wrong, and which classes are taken for which; scikit-learn is the oracle."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import classification_report, confusion_matrix
from torch.testing import assert_close

from layered.vision.all import ClassificationInterpretation, Interpretation

plt.switch_backend("Agg")


@pytest.fixture
def interp(learn):
    yield ClassificationInterpretation.from_learner(learn)
    plt.close("all")


def test_it_holds_one_row_for_each_item_in_order(interp, learn):
    preds, targs, decoded, losses = learn.get_preds(with_decoded=True, with_loss=True)
    assert_close((interp.preds, interp.targs, interp.decoded, interp.losses), (preds, targs, decoded, losses))
    of_training = Interpretation.from_learner(learn, ds_idx=0)
    assert len(of_training.losses) == len(learn.dls.train_ds)


def test_the_confusion_matrix_is_scikit_learns(interp):
    wanted = confusion_matrix(interp.targs, interp.decoded, labels=range(3))
    assert (interp.confusion_matrix() == wanted).all()


def test_most_confused_are_the_mistakes_most_frequent_first(interp):
    interp.targs = torch.tensor([0, 0, 0, 1, 2, 2])
    interp.decoded = torch.tensor([1, 1, 0, 0, 2, 1])
    assert interp.most_confused() == [("blue", "green", 2), ("green", "blue", 1), ("red", "green", 1)]
    assert interp.most_confused(min_val=2) == [("blue", "green", 2)]


def test_top_losses_are_the_largest_with_the_items_they_belong_to(interp, learn):
    targs, preds = interp.targs, interp.preds
    losses = F.nll_loss(preds.log(), targs, reduction="none")
    values, positions, items = interp.top_losses(3, items=True)
    order = np.argsort(-losses.numpy())[:3]
    assert positions.tolist() == order.tolist()
    assert_close(values, losses[order.copy()])
    assert items == [learn.dls.valid_ds.items[int(i)] for i in order]
    assert interp.top_losses(1, largest=False)[1] == losses.argmin()
    assert len(interp.top_losses()[0]) == len(losses)


def test_the_confusion_matrix_is_drawn_with_its_numbers(interp):
    ax = interp.plot_confusion_matrix().axes[0]
    assert [t.get_text() for t in ax.texts] == [str(n) for n in interp.confusion_matrix().flatten()]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["blue", "green", "red"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Predicted", "Actual")
    shares = interp.plot_confusion_matrix(normalize=True, figsize=(3, 3)).axes[0]
    rows = np.array([float(t.get_text()) for t in shares.texts]).reshape(3, 3).sum(1)
    assert rows == pytest.approx(1, abs=0.02)


def test_top_losses_are_drawn_with_prediction_truth_loss_and_probability(interp):
    interp.plot_top_losses(2)
    (_, positions) = interp.top_losses(2)
    titles = [ax.get_title() for ax in plt.gcf().axes if ax.get_title()]
    for title, i in zip(titles, positions.tolist(), strict=True):
        assert interp.vocab[int(interp.decoded[i])] in title
        assert interp.vocab[int(interp.targs[i])] in title
        assert f"{interp.losses[i]:.2f}" in title


def test_chosen_items_are_drawn_with_their_results(interp):
    interp.show_results([4, 0])
    titles = [ax.get_title().split("\n") for ax in plt.gcf().axes if ax.get_title()]
    assert titles == [[interp.vocab[int(interp.targs[i])], interp.vocab[int(interp.decoded[i])]] for i in (4, 0)]


def test_the_report_is_scikit_learns(interp, capsys):
    interp.print_classification_report()
    wanted = classification_report(
        interp.targs, interp.decoded, labels=[0, 1, 2], target_names=["blue", "green", "red"]
    )
    assert capsys.readouterr().out.strip() == wanted.strip()
