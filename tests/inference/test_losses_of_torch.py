"""Losses of torch and of others in place of the library's: predictions and decisions follow the kind of target."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from layered.basics import (
    BaseLoss,
    CategoryBlock,
    DataBlock,
    DataLoaders,
    DiceMulti,
    IndexSplitter,
    Learner,
    MultiCategoryBlock,
    RegressionBlock,
    TransformBlock,
    accuracy,
)
from layered.foundation import BadValue

GEN = torch.Generator().manual_seed(0)
X = torch.randn(24, 5, generator=GEN)


def focal(pred, target):
    logs = F.log_softmax(pred, 1)
    return -((1 - logs.exp()) ** 2 * logs).gather(1, target.reshape(-1, 1)).mean()


def sums_of_squares(pred, target):
    return ((pred.squeeze() - target.squeeze()) ** 2).sum()


def loaders(block, targets):
    dblock = DataBlock((TransformBlock, block), get_items=lambda x: list(range(len(X))), get_x=X.__getitem__,
                       get_y=targets.__getitem__, splitter=IndexSplitter(range(12)))  # fmt: skip
    return dblock.dataloaders(None, bs=5, num_workers=0)


def learner(block, targets, outputs, loss_func, last=None):
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(5, outputs), *([last] if last is not None else []))
    return Learner(loaders(block, targets), net, loss_func=loss_func)


def raw(learn):
    with torch.no_grad():
        return learn.model.cpu()(X[:12])


CLASSES = ["abc"[i % 3] for i in range(24)]
PAIRS = ["ab"[i % 2] for i in range(24)]
LABELS = [["x"], ["x", "y"], [], ["z", "y"]] * 6
NUMBERS = [float(i) for i in range(24)]

OF_CLASSES = {
    "cross_entropy": F.cross_entropy,
    "module": nn.CrossEntropyLoss(label_smoothing=0.1),
    "partial": partial(F.cross_entropy, label_smoothing=0.1),
    "margin": nn.MultiMarginLoss(),
    "lambda": lambda pred, target: F.cross_entropy(pred, target),
    "focal": focal,
    "base": BaseLoss(nn.CrossEntropyLoss),
}


@pytest.mark.parametrize("name", OF_CLASSES)
def test_scores_of_classes_become_probabilities_and_a_class(name):
    learn = learner(CategoryBlock, CLASSES, 3, OF_CLASSES[name])
    preds, targets, decoded = learn.get_preds(with_decoded=True)
    assert_close(preds, raw(learn).softmax(1))
    assert_close(decoded, preds.argmax(1))
    assert decoded.shape == targets.shape
    label, decision, probabilities = learn.predict(3)
    assert label == "abc"[preds[3].argmax()]
    assert decision == preds[3].argmax()
    assert_close(probabilities, preds[3])


@pytest.mark.parametrize("loss_func", [nn.NLLLoss(), F.nll_loss, lambda p, t: -p.gather(1, t[:, None]).mean()])
def test_log_probabilities_are_not_activated_again(loss_func):
    learn = learner(CategoryBlock, CLASSES, 3, loss_func, nn.LogSoftmax(1))
    preds, _, decoded = learn.get_preds(with_decoded=True)
    assert_close(preds, raw(learn).exp())
    assert_close(decoded, preds.argmax(1))


OF_TWO = {
    "module": (nn.BCEWithLogitsLoss(), None),
    "function": (F.binary_cross_entropy_with_logits, None),
    "probabilities": (nn.BCELoss(), nn.Sigmoid()),
    "lambda": (lambda p, t: F.binary_cross_entropy_with_logits(p[:, 0], t.float()), None),
    "lambda of probabilities": (lambda p, t: F.binary_cross_entropy(p[:, 0], t.float()), nn.Sigmoid()),
}


@pytest.mark.parametrize("name", OF_TWO)
def test_one_output_is_that_of_the_second_of_two_classes(name):
    loss_func, last = OF_TWO[name]
    learn = learner(CategoryBlock, PAIRS, 1, loss_func, last)
    preds, targets, decoded = learn.get_preds(with_decoded=True)
    outputs = raw(learn)
    assert_close(preds, outputs if last else outputs.sigmoid())
    assert_close(decoded, (preds[:, 0] > 0.5).long())
    assert learn.predict(3)[0] == "ab"[int(preds[3] > 0.5)]
    want = F.binary_cross_entropy(preds[:, 0], targets.float())
    assert learn.validate()[0] == pytest.approx(want.item(), rel=1e-5)


OF_LABELS = {
    "module": (nn.BCEWithLogitsLoss(), None),
    "function": (F.binary_cross_entropy_with_logits, None),
    "soft margin": (nn.MultiLabelSoftMarginLoss(), None),
    "partial": (partial(F.multilabel_soft_margin_loss, reduction="mean"), None),
    "lambda": (lambda p, t: F.binary_cross_entropy_with_logits(p, t.float()), None),
    "probabilities": (nn.BCELoss(), nn.Sigmoid()),
    "lambda of probabilities": (lambda p, t: F.binary_cross_entropy(p, t.float()), nn.Sigmoid()),
    "squares": (nn.MSELoss(), nn.Sigmoid()),
}


@pytest.mark.parametrize("name", OF_LABELS)
def test_each_label_has_its_probability_and_is_decided_at_one_half(name):
    loss_func, last = OF_LABELS[name]
    learn = learner(MultiCategoryBlock, LABELS, 3, loss_func, last)
    preds, _, decoded = learn.get_preds(with_decoded=True)
    assert_close(preds, raw(learn) if last else raw(learn).sigmoid())
    assert_close(decoded, preds > 0.5)
    assert list(learn.predict(3)[0]) == [label for label, p in zip("xyz", preds[3], strict=True) if p > 0.5]


OF_NUMBERS = [nn.MSELoss(), nn.L1Loss(), nn.HuberLoss(), nn.SmoothL1Loss(), F.mse_loss, sums_of_squares]


@pytest.mark.parametrize("loss_func", OF_NUMBERS)
def test_numbers_stay_as_they_are(loss_func):
    learn = learner(RegressionBlock, NUMBERS, 1, loss_func)
    preds, targets, decoded = learn.get_preds(with_decoded=True)
    assert_close(preds, raw(learn))
    assert_close(decoded, preds)
    if loss_func is not sums_of_squares:  # [batch, 1] and [batch] do not become [batch, batch]
        same = loss_func(preds[:, 0], targets)
        assert learn.validate()[0] == pytest.approx(same.item(), rel=1e-5)
        assert_close(learn.get_preds(with_loss=True)[-1].mean(), same)


def test_rates_are_those_that_the_loss_compares():
    learn = learner(RegressionBlock, NUMBERS, 1, nn.PoissonNLLLoss())
    assert_close(learn.get_preds()[0], raw(learn).exp())
    learn = learner(RegressionBlock, NUMBERS, 1, nn.PoissonNLLLoss(log_input=False))
    assert_close(learn.get_preds()[0], raw(learn))


class Own:
    """A loss that activates and decides itself."""

    def __call__(self, pred, target):
        return F.cross_entropy(pred, target)

    def activation(self, pred):
        return pred * 10

    def decodes(self, pred):
        return pred.argmin(1)


def test_a_loss_that_decides_itself_is_asked():
    learn = learner(CategoryBlock, CLASSES, 3, Own())
    preds, _, decoded = learn.get_preds(with_decoded=True)
    assert_close(preds, raw(learn) * 10)
    assert_close(decoded, raw(learn).argmin(1))


@pytest.mark.parametrize("outputs", [1, 3])
def test_classes_of_arrays_are_recognized_by_their_integers(outputs):
    labels = torch.arange(24) % (3 if outputs == 3 else 2)
    net = nn.Linear(5, outputs)
    dls = DataLoaders.from_arrays(X, labels, X[:12], labels[:12], bs=5)
    learn = Learner(dls, net, loss_func=lambda pred, target: pred.mean())
    preds, _, decoded = learn.get_preds(with_decoded=True)
    with torch.no_grad():
        scores = net(X[:12])
    assert_close(preds, scores.softmax(1) if outputs == 3 else scores.sigmoid())
    assert_close(decoded, preds.argmax(1) if outputs == 3 else (preds[:, 0] > 0.5).long())


def test_one_output_for_whole_numbers_of_arrays_is_a_number():
    counts = torch.arange(24)
    net = nn.Linear(5, 1)
    dls = DataLoaders.from_arrays(X, counts, X[:12], counts[:12], bs=5)
    preds, _, decoded = Learner(dls, net, loss_func=sums_of_squares).get_preds(with_decoded=True)
    with torch.no_grad():
        assert_close(preds, net(X[:12]))
    assert_close(decoded, preds)


def test_the_outputs_of_several_targets_are_read_one_by_one():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 3), nn.Linear(5, 1)

        def forward(self, x):
            return self.a(x), self.b(x)

    dblock = DataBlock((TransformBlock, CategoryBlock, RegressionBlock), n_inp=1, get_items=lambda x: list(range(len(X))),
                       get_x=X.__getitem__, get_y=[CLASSES.__getitem__, NUMBERS.__getitem__],
                       splitter=IndexSplitter(range(12)))  # fmt: skip
    dls, net = dblock.dataloaders(None, bs=5, num_workers=0), Both()
    learn = Learner(dls, net, loss_func=lambda p, a, b: F.cross_entropy(p[0], a) + F.mse_loss(p[1][:, 0], b))
    preds, _, decoded = learn.get_preds(with_decoded=True)
    with torch.no_grad():
        a, b = net.cpu()(X[:12])
    assert_close(preds, (a.softmax(1), b))
    assert_close(decoded, (a.argmax(1), b))
    assert learn.predict(3)[0][0] == "abc"[a[3].argmax()]


@pytest.mark.parametrize("channels", [1, 3])
def test_masks_are_classes_on_the_axis_of_the_channels(channels):
    pytest.importorskip("PIL")
    from layered.vision.all import ImageBlock, MaskBlock

    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (8, 6, 6, 3), dtype=np.uint8)
    masks = rng.integers(0, 2 if channels == 1 else 3, (8, 6, 6), dtype=np.uint8)
    dblock = DataBlock((ImageBlock, MaskBlock(list("abc")[: max(channels, 2)])), get_items=lambda x: list(range(8)),
                       get_x=images.__getitem__, get_y=masks.__getitem__, splitter=IndexSplitter(range(4)))  # fmt: skip
    dls, net = dblock.dataloaders(None, bs=2, num_workers=0), nn.Conv2d(3, channels, 1)
    loss = nn.BCEWithLogitsLoss() if channels == 1 else nn.CrossEntropyLoss()
    learn = Learner(dls, net, loss_func=loss, metrics=[partial(accuracy, axis=1), DiceMulti()])
    preds, targets, decoded = learn.get_preds(with_decoded=True)
    assert decoded.shape == targets.shape == (4, 6, 6)
    assert_close(decoded, (preds[:, 0] > 0.5).long() if channels == 1 else preds.argmax(1))
    share = (decoded == targets).float().mean()
    assert learn.validate()[1] == pytest.approx(share.item())


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), F.cross_entropy, None])
def test_more_classes_than_outputs_are_named_with_both_numbers(loss):
    dls = loaders(CategoryBlock, list("abcdef") * 4)
    learn = Learner(dls, nn.Linear(5, 3), loss_func=loss)
    for run in (lambda: learn.fit(1), learn.validate, learn.get_preds):
        with (
            learn.no_bar(),
            learn.no_logging(),
            pytest.raises(BadValue, match=r"targets from \d to [3-5], and 3 outputs"),
        ):
            run()


def test_a_decision_for_an_output_that_is_no_class_is_named():
    learn = Learner(loaders(CategoryBlock, list("ab") * 12), nn.Linear(5, 9))
    with torch.no_grad():
        learn.model.weight.zero_()
        learn.model.bias.copy_(torch.arange(9.0))
    with pytest.raises(BadValue, match=r"no class 8: the model has more outputs[\s\S]*2 classes"):
        learn.predict(0)
