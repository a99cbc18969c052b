import pytest
import sklearn.metrics as sk
import torch

from layered.foundation import BadValue, TensorCategory
from layered.metrics import accuracy, accuracy_multi, error_rate, foreground_acc, mk_metric, top_k_accuracy

SIZES = [1, 7, 64, 200]


def data(classes, rows=200, seed=0):
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(rows, classes, generator=gen), torch.randint(0, classes, (rows,), generator=gen)


def by_batches(metric, pred, targ, size):
    metric = mk_metric(metric).clone()
    for p, t in zip(pred.split(size), targ.split(size), strict=True):
        metric.update(p, t)
    return metric.value


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_accuracy_is_sklearns(size, k):
    pred, targ = data(6)
    wanted = sk.top_k_accuracy_score(targ, pred, k=k, labels=range(6))
    assert by_batches(lambda p, t: top_k_accuracy(p, t, k=k), pred, targ, size) == pytest.approx(wanted, abs=1e-6)


def test_plain_functions_take_other_axes_and_semantic_tensors():
    pred, targ = data(4)
    assert accuracy(pred.T, targ, axis=0) == accuracy(pred, targ)
    assert top_k_accuracy(pred.T, targ, k=2, axis=0) == top_k_accuracy(pred, targ, k=2)
    assert type(error_rate(pred, TensorCategory(targ))) is torch.Tensor
    mask, truth = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    assert accuracy(mask, truth, axis=1) == (mask.argmax(1) == truth).float().mean()
    assert accuracy(pred, targ[:, None]) == accuracy(pred, targ)


def test_accuracy_multi_counts_every_answer():
    pred, targ = torch.randn(30, 4), torch.randint(0, 2, (30, 4)).float()
    wanted = sk.accuracy_score(targ.flatten(), pred.sigmoid().flatten() > 0.3)
    assert accuracy_multi(pred, targ, thresh=0.3) == pytest.approx(wanted)
    assert accuracy_multi(pred.sigmoid(), targ, thresh=0.3, sigmoid=False) == pytest.approx(wanted)


def test_accuracy_of_scores_that_do_not_fit_says_which_axis():
    with pytest.raises(BadValue) as caught:
        accuracy(torch.zeros(4, 3, 5, 5), torch.zeros(4, 5, 5))
    assert "axis -1" in caught.value.fix
    with pytest.raises(BadValue) as caught:
        accuracy(torch.zeros(4, 3), torch.zeros(4, 3))
    assert "accuracy_multi" in caught.value.fix
    with pytest.raises(BadValue, match="the 5 best classes"):
        top_k_accuracy(torch.zeros(4, 3), torch.zeros(4))


def test_foreground_counts_pixels_and_not_batches():
    pred, targ = torch.randn(4, 3, 5, 5), torch.randint(0, 3, (4, 5, 5))
    targ[0] = 0
    metric = mk_metric(foreground_acc)
    for p, t in zip(pred.split(1), targ.split(1), strict=True):
        metric.update(p, t)
    wanted = (pred.argmax(1) == targ)[targ > 0].float().mean().item()
    assert metric.value == pytest.approx(wanted)
    assert foreground_acc(pred, targ) == pytest.approx(wanted)
    assert foreground_acc(pred[:1], targ[:1]).isnan()
    assert foreground_acc(pred, targ, bkg_idx=2) == pytest.approx(
        (pred.argmax(1) == targ)[targ != 2].float().mean().item()
    )
