"""Which classes are taken for which, of items and of pixels; scikit-learn is the oracle."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import (
    classification_report,
    confusion_matrix,
    f1_score,
    jaccard_score,
    multilabel_confusion_matrix,
)
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadValue
from layered.vision.all import (
    ClassificationInterpretation,
    CrossEntropyLossFlat,
    DataBlock,
    ImageBlock,
    Learner,
    MaskBlock,
    Path,
    RandomSplitter,
    SegmentationInterpretation,
    get_image_files,
)

plt.switch_backend("Agg")


@pytest.fixture
def interp(learn):
    yield ClassificationInterpretation.from_learner(learn)
    plt.close("all")


def test_the_confusion_matrix_is_scikit_learns(interp):
    wanted = confusion_matrix(interp.targs, interp.decoded, labels=range(3))
    assert (interp.confusion_matrix() == wanted).all()


def test_most_confused_are_the_mistakes_most_frequent_first(interp):
    interp.targs = torch.tensor([0, 0, 0, 1, 2, 2])
    interp.decoded = torch.tensor([1, 1, 0, 0, 2, 1])
    assert interp.most_confused() == [("blue", "green", 2), ("green", "blue", 1), ("red", "green", 1)]
    assert interp.most_confused(min_val=2) == [("blue", "green", 2)]


def test_the_confusion_matrix_is_drawn_with_its_numbers(interp):
    interp.plot_confusion_matrix()
    ax = plt.gcf().axes[0]
    assert [t.get_text() for t in ax.texts] == [str(n) for n in interp.confusion_matrix().flatten()]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["blue", "green", "red"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Predicted", "Actual")
    interp.plot_confusion_matrix(normalize=True, figsize=(3, 3))
    shares = plt.gcf().axes[0]
    rows = np.array([float(t.get_text()) for t in shares.texts]).reshape(3, 3).sum(1)
    assert rows == pytest.approx(1, abs=0.02)


def test_the_report_is_scikit_learns(interp, capsys):
    interp.print_classification_report()
    wanted = classification_report(
        interp.targs, interp.decoded, labels=[0, 1, 2], target_names=["blue", "green", "red"]
    )
    assert capsys.readouterr().out.strip() == wanted.strip()


def wrong(targs, decoded, preds=None, dl=None):
    """An interpretation of these decisions; nothing was predicted."""
    return ClassificationInterpretation(
        None, dl, preds, torch.tensor(targs), torch.tensor(decoded), torch.zeros(len(targs))
    )


class Vocab:
    """A loader that only knows its classes."""

    def __init__(self, vocab):
        self.vocab = vocab


def test_classes_that_are_never_seen_or_never_predicted_have_their_place():
    interp = wrong([0, 2, 2], [2, 2, 0], dl=Vocab([3, 5, 7, 9]))
    assert (interp.confusion_matrix() == confusion_matrix([0, 2, 2], [2, 2, 0], labels=range(4))).all()
    assert interp.most_confused() == [(3, 7, 1), (7, 3, 1)]
    assert interp.most_confused(2) == []
    interp.plot_confusion_matrix()
    labels = [t.get_text() for t in plt.gcf().axes[0].get_xticklabels()]
    assert labels == ["3", "5", "7", "9"]
    plt.close("all")


def test_classes_without_names_are_called_by_their_numbers():
    assert wrong([0, 1], [1, 1], torch.zeros(2, 3)).confusion_matrix().shape == (3, 3)
    assert wrong([0, 1], [1, 3]).most_confused() == [(0, 1, 1), (1, 3, 1)]
    assert wrong([0, 4], [True, True]).confusion_matrix().shape == (5, 5)


def test_thousands_of_classes_need_no_more_than_their_pairs():
    many = torch.arange(3000)
    interp = ClassificationInterpretation(None, Vocab(range(200_000)), None, many, many.roll(1), torch.zeros(3000))
    assert interp.most_confused()[:2] == [(0, 2999, 1), (1, 0, 1)]  # a matrix would take 300 GiB
    interp.dl = Vocab(range(3000))
    interp.plot_confusion_matrix(figsize=(3, 3))
    assert not plt.gcf().axes[0].texts
    plt.close("all")


def test_targets_and_decisions_that_are_no_classes_are_named():
    with pytest.raises(BadValue, match="1 targets are not valid classes"):
        wrong([0, -100], [0, 1], dl=Vocab("ab")).confusion_matrix()
    with pytest.raises(BadValue, match="1 targets are not valid classes"):
        wrong([0, 2], [0, 1], dl=Vocab("ab")).confusion_matrix()
    with pytest.raises(BadValue, match="not classes to compare"):
        wrong([0.5, 1.5], [0.25, 1.0]).confusion_matrix()
    with pytest.raises(BadValue, match="not classes to compare"):
        ClassificationInterpretation(None, None, None, None, None, torch.zeros(2)).most_confused()


def test_items_with_several_labels_have_a_matrix_for_each_label(capsys):
    there, said = torch.rand(2, 20, 3, generator=torch.Generator().manual_seed(0)) > 0.5
    interp = wrong(there.float().tolist(), said.tolist(), dl=Vocab(["a", "b", "c"]))
    assert (interp.label_matrices() == multilabel_confusion_matrix(there, said)).all()
    interp.print_classification_report()
    wanted = classification_report(there, said, target_names=["a", "b", "c"], zero_division=0)
    assert capsys.readouterr().out.strip() == wanted.strip()
    for ask in (interp.confusion_matrix, interp.most_confused, interp.plot_confusion_matrix):
        with pytest.raises(BadValue, match="label_matrices"):
            ask()
    with pytest.raises(BadValue, match="each item has one class"):
        wrong([0, 1], [1, 1]).label_matrices()


CODES = ["ground", "red", "green", "sky"]


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """12 dark pictures with a red or green square, and their masks; a frame of 9 is no class."""
    folder, noise = Path(tmp_path_factory.mktemp("masks")), np.random.default_rng(0)
    (folder / "pictures").mkdir()
    (folder / "masks").mkdir()
    for i in range(12):
        pixels, mask = noise.integers(0, 80, (16, 20, 3), dtype=np.uint8), np.zeros((16, 20), np.uint8)
        row, column = noise.integers(1, 9, 2)
        mask[row : row + 6, column : column + 6] = 1 + i % 2
        pixels[mask > 0, i % 2] = 220
        mask[:, 0] = 9
        Image.fromarray(pixels).save(folder / f"pictures/{i:02}.png")
        Image.fromarray(mask).save(folder / f"masks/{i:02}.png")
    return folder


@pytest.fixture
def segments(masks):
    torch.manual_seed(0)
    block = DataBlock(
        (ImageBlock, MaskBlock(CODES)), get_items=lambda path: get_image_files(path / "pictures"),
        get_y=lambda file: file.parent.parent / "masks" / file.name, splitter=RandomSplitter(0.5, seed=0),
    )  # fmt: skip
    dls = block.dataloaders(masks, bs=4, num_workers=0, device="cpu")
    model = nn.Conv2d(3, 4, 1)
    with torch.no_grad():  # sees red and green, and is not sure about the ground
        model.weight.copy_(torch.tensor([[0, 0, 0], [4, -1, 0], [-1, 4, 0], [0, 0, 6.0]])[..., None, None])
        model.bias.copy_(torch.tensor([1.4, 0, 0, 0]))
    yield Learner(dls, model, CrossEntropyLossFlat(axis=1, ignore_index=9))
    plt.close("all")


def pixels_of(learn):
    preds, targs, decoded = learn.get_preds(with_decoded=True)
    counted = targs != 9
    return preds, targs, decoded, targs[counted], decoded[counted]


def test_pixels_are_counted_over_the_pass_and_masks_are_not_kept(segments):
    interp = SegmentationInterpretation.from_learner(segments)
    preds, targs, _, actual, predicted = pixels_of(segments)
    wanted = confusion_matrix(actual, predicted, labels=range(4))
    assert (interp.confusion_matrix() == wanted).all()
    assert (interp.preds, interp.targs, interp.decoded) == (None, None, None)
    losses = nn.functional.nll_loss(preds.log(), targs.long(), ignore_index=9, reduction="none").sum((1, 2))
    losses = losses / (targs != 9).sum((1, 2))
    assert_close(interp.losses, losses)
    np.fill_diagonal(wanted, 0)
    actual, predicted, count = interp.most_confused()[0]
    assert wanted.max() == count == wanted[CODES.index(actual), CODES.index(predicted)]
    interp.plot_confusion_matrix()
    numbers = [t.get_text() for t in plt.gcf().axes[0].texts]
    assert numbers == [str(n) for n in interp.confusion_matrix().flatten()]


def test_the_scores_of_classes_are_scikit_learns(segments):
    scores = SegmentationInterpretation.from_learner(segments).scores()
    *_, actual, predicted = pixels_of(segments)
    seen = range(3)  # no pixel is sky, though some are taken for it
    assert_close(scores.iou[seen], jaccard_score(actual, predicted, labels=seen, average=None))
    assert_close(scores.dice[seen], f1_score(actual, predicted, labels=seen, average=None))
    assert_close(scores.accuracy[seen], np.array([(predicted == i)[actual == i].double().mean().item() for i in seen]))
    assert scores.overall == pytest.approx((actual == predicted).double().mean().item())
    assert np.isnan(scores.accuracy[3])
    assert scores.iou[3] == 0
    assert scores.pixels.tolist() == np.bincount(actual, minlength=4).tolist()
    mean = [np.nanmean(column) for column in (scores.accuracy, scores.iou, scores.dice)]
    assert str(scores).splitlines()[7].split() == ["mean", *(f"{value:.3f}" for value in mean)]


def test_another_class_may_be_ignored_and_one_that_is_none_is_named(segments):
    interp = SegmentationInterpretation.from_learner(segments, ignore_index=9)
    assert interp.matrix.sum() == SegmentationInterpretation.from_learner(segments).matrix.sum() == 6 * 16 * 19
    with pytest.raises(BadValue, match=f"{6 * 16} targets are not valid classes"):
        SegmentationInterpretation.from_learner(segments, ignore_index=255)


def test_masks_with_the_largest_losses_stand_in_rows(segments):
    interp = SegmentationInterpretation.from_learner(segments)
    calls = []
    segments.model.register_forward_hook(lambda *_: calls.append(1))
    interp.plot_top_losses(2)
    axes = plt.gcf().axes
    losses, positions = interp.top_losses(2)
    assert [ax.get_title() for ax in axes if ax.get_title()] == [f"loss {loss:.2f}" for loss in losses]
    assert plt.gcf().get_suptitle() == "Input | Target | Prediction"
    wanted = pixels_of(segments)[2][positions]  # drawn in the order of the colours: 0, 2, 4, …
    calls.clear()
    for i in range(2):
        assert [len(ax.images) for ax in axes[3 * i : 3 * i + 3]] == [1, 2, 2]
        assert (axes[3 * i + 2].images[1].get_array() == 2 * wanted[i].numpy()).all()
    interp.plot_top_losses(2)
    interp.show_results(positions[:1])
    assert not calls
    assert [ax.get_title() for ax in plt.gcf().axes] == ["Target", "Prediction"]
    segments.show_results(max_n=2)


def test_masks_of_another_size_than_the_targets_are_named(segments):
    segments.loss_func = lambda pred, targ: pred.mean()
    segments.model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AvgPool2d(2))
    with pytest.raises(BadValue, match="not classes of the same pixels"):
        SegmentationInterpretation.from_learner(segments)
