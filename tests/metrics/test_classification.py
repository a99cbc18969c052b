import pytest
import sklearn.metrics as sk
import torch

from layered.foundation.errors import BadValue
from layered.foundation.tensors import TensorCategory
from layered.metrics.classification import (
    F1Score,
    FBeta,
    Precision,
    Recall,
    accuracy,
    accuracy_multi,
    confusion_counts,
    error_rate,
    top_k_accuracy,
)
from layered.metrics.metric import mk_metric

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
def test_accuracy_and_error_rate_are_right_for_any_batch_size(size):
    pred, targ = data(4)
    wanted = sk.accuracy_score(targ, pred.argmax(-1))
    assert by_batches(accuracy, pred, targ, size) == pytest.approx(wanted, abs=1e-6)
    assert by_batches(error_rate, pred, targ, size) == pytest.approx(1 - wanted, abs=1e-6)


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


ORACLES = [
    (Precision, sk.precision_score),
    (Recall, sk.recall_score),
    (F1Score, sk.f1_score),
    (lambda **kw: FBeta(0.5, **kw), lambda *args, **kw: sk.fbeta_score(*args, beta=0.5, **kw)),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("ours", "theirs"), ORACLES)
def test_two_classes_are_scored_as_by_sklearn(ours, theirs, size):
    pred, targ = data(2)
    for pos_label in (0, 1):
        wanted = theirs(targ, pred.argmax(-1), pos_label=pos_label)
        assert by_batches(ours(pos_label=pos_label), pred, targ, size) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize(("ours", "theirs"), ORACLES)
def test_several_classes_are_averaged_as_by_sklearn(ours, theirs, average, size):
    pred, targ = data(5)
    targ = targ.clamp(max=2)
    pred[:, 4] = -9  # class 4 occurs nowhere, class 3 in predictions alone
    wanted = theirs(targ, pred.argmax(-1), average=average, zero_division=0)
    assert by_batches(ours(average=average), pred, targ, size) == pytest.approx(wanted, abs=1e-6)
    wanted = theirs(targ, pred.argmax(-1), average=average, labels=[1, 3, 4], zero_division=0)
    metric = ours(average=average, labels=[1, 3, 4])
    assert by_batches(metric, pred, targ, size) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(("ours", "theirs"), ORACLES)
def test_without_an_average_each_class_has_its_value(ours, theirs):
    pred, targ = data(4)
    wanted = theirs(targ, pred.argmax(-1), average=None)
    assert ours(average=None)(pred, targ).tolist() == pytest.approx(wanted.tolist(), abs=1e-6)


def test_ignored_targets_do_not_count():
    pred, targ = data(3)
    kept = torch.arange(200) % 3 > 0
    wanted = F1Score(average="macro")(pred[kept], targ[kept])
    assert F1Score(average="macro", ignore_index=-100)(pred, targ.where(kept, -100)) == wanted


def test_classes_may_stand_on_another_axis():
    pred, targ = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    wanted = sk.recall_score(targ.flatten(), pred.argmax(1).flatten(), average="macro")
    assert Recall(axis=1, average="macro")(pred, targ) == pytest.approx(wanted)


def test_names_are_sklearns():
    assert [m.name for m in (Precision(), Recall(), F1Score(), FBeta(2))] == [
        "precision_score",
        "recall_score",
        "f1_score",
        "fbeta_score",
    ]


def test_binary_scores_of_several_classes_say_what_to_do():
    with pytest.raises(BadValue) as caught:
        F1Score()(*data(3))
    assert "F1Score(average='macro')" in caught.value.fix


def test_an_unknown_average_is_refused_at_once():
    with pytest.raises(BadValue, match="mean"):
        Precision(average="mean")


def test_the_confusion_matrix_is_sklearns():
    pred, targ = data(4)
    ours = confusion_counts(pred.argmax(-1), targ, 4)
    assert ours.tolist() == sk.confusion_matrix(targ, pred.argmax(-1)).tolist()
