import pytest
import sklearn.metrics as sk
import torch

from layered.foundation import BadArgument, BadValue
from layered.metrics import (
    BalancedAccuracy,
    CohenKappa,
    Dice,
    DiceMulti,
    F1Score,
    F1ScoreMulti,
    FBeta,
    HammingLoss,
    Jaccard,
    JaccardCoeff,
    JaccardCoeffMulti,
    JaccardMulti,
    MatthewsCorrCoef,
    MatthewsCorrCoefMulti,
    Precision,
    Recall,
    RecallMulti,
)

SIZES = [1, 7, 64, 200]


def data(classes, rows=200, seed=0):
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(rows, classes, generator=gen), torch.randint(0, classes, (rows,), generator=gen)


def by_batches(metric, pred, targ, size):
    metric = metric.clone()
    for p, t in zip(pred.split(size), targ.split(size), strict=True):
        metric.update(p, t)
    return metric.value


ORACLES = [
    (Precision, sk.precision_score),
    (Recall, sk.recall_score),
    (Jaccard, sk.jaccard_score),
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
    assert "average='macro'" in caught.value.fix


def test_an_unknown_average_is_refused_at_once():
    with pytest.raises(BadValue, match="mean"):
        Precision(average="mean")


def test_a_misspelt_keyword_is_refused():
    with pytest.raises(BadArgument, match="avrage"):
        F1Score(avrage="macro")


WHOLE = {
    BalancedAccuracy: sk.balanced_accuracy_score,
    lambda: BalancedAccuracy(adjusted=True): lambda t, p: sk.balanced_accuracy_score(t, p, adjusted=True),
    CohenKappa: sk.cohen_kappa_score,
    HammingLoss: sk.hamming_loss,
    MatthewsCorrCoef: sk.matthews_corrcoef,
}


@pytest.mark.parametrize("made", WHOLE)
@pytest.mark.filterwarnings("ignore")
def test_absent_classes_and_single_ones_are_scored_as_by_sklearn(made):
    pred, targ = data(5)
    for targets in (targ.clamp(max=2), torch.full_like(targ, 1)):
        for scores in (pred, torch.eye(5)[torch.ones(200, dtype=torch.int64)]):
            wanted = WHOLE[made](targets, scores.argmax(1))
            assert by_batches(made(), scores, targets, 7) == pytest.approx(wanted, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("weights", ["linear", "quadratic"])
def test_kappa_may_weigh_misses_and_choose_classes(weights):
    pred, targ = data(4)
    wanted = sk.cohen_kappa_score(targ, pred.argmax(1), labels=[0, 1, 3], weights=weights)
    assert by_batches(CohenKappa(labels=[0, 1, 3], weights=weights), pred, targ, 7) == pytest.approx(wanted)
    with pytest.raises(BadValue, match="cubic"):
        CohenKappa(weights="cubic")


@pytest.mark.parametrize("average", ["macro", "micro", "weighted", None])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(F1ScoreMulti, sk.f1_score), (RecallMulti, sk.recall_score), (JaccardMulti, sk.jaccard_score)],
)
def test_labels_are_averaged_as_by_sklearn(ours, theirs, average):
    pred, targ = torch.randn(50, 4), (torch.rand(50, 4) > 0.5).float()
    pred[:, 3], targ[:, 3] = -9, 0  # a label that occurs nowhere
    wanted = theirs(targ, pred.sigmoid() >= 0.3, average=average, zero_division=0)
    metric = ours(thresh=0.3, average=average)
    assert_same(by_batches(metric, pred, targ, 7), wanted)
    wanted = theirs(targ, pred >= 0.3, average=average, labels=[2, 0], zero_division=0)
    assert_same(by_batches(ours(0.3, sigmoid=False, labels=[2, 0], average=average), pred, targ, 7), wanted)


def assert_same(ours, theirs):
    assert torch.as_tensor(ours).tolist() == pytest.approx(torch.as_tensor(theirs).tolist(), abs=1e-6)


def test_ignored_labels_do_not_count():
    pred, targ = torch.randn(50, 3), torch.randint(0, 2, (50, 3))
    marked = targ.where(torch.rand(50, 3) > 0.3, -1)
    for column in range(3):
        kept = marked[:, column] >= 0
        wanted = sk.f1_score(targ[kept, column], pred[kept, column] >= 0)
        assert F1ScoreMulti(ignore_index=-1)[column](pred, marked) == pytest.approx(wanted)
    kept = marked >= 0
    wanted = sk.matthews_corrcoef(targ[kept], pred[kept] >= 0)
    assert MatthewsCorrCoefMulti(ignore_index=-1)(pred, marked) == pytest.approx(wanted)


def test_an_index_gives_the_value_of_a_class_whatever_the_average():
    pred, targ = torch.randn(6, 3, 4, 4), torch.randint(0, 3, (6, 4, 4))
    wanted = sk.jaccard_score(targ.flatten(), pred.argmax(1).flatten(), average=None)
    metric = JaccardCoeffMulti()
    assert metric.name == "jaccard_coeff_multi"
    assert metric[1].name == "jaccard_coeff_multi[1]"
    for metric in (JaccardCoeffMulti(), JaccardCoeffMulti(average=None), Jaccard(axis=1, average="weighted")):
        assert [metric[i](pred, targ) for i in range(3)] == pytest.approx(wanted.tolist())
        assert torch.amin(metric[:])(pred, targ) == pytest.approx(wanted.min())
    with pytest.raises(IndexError):
        metric[3](pred, targ)


def test_masks_overlap_as_their_formulas_say():
    targ = torch.tensor([[[1, 1, 0], [0, 2, 2]]])
    best = torch.tensor([[[1, 0, 0], [1, 2, 0]]])
    pred = torch.nn.functional.one_hot(best, 4).movedim(-1, 1).float()  # class 3 occurs nowhere
    dice = [2 * 1 / (3 + 2), 2 * 1 / (2 + 2), 2 * 1 / (1 + 2)]
    jaccard = [1 / 4, 1 / 3, 1 / 2]
    assert DiceMulti()(pred, targ) == pytest.approx(sum(dice) / 3)
    assert JaccardCoeffMulti()(pred, targ) == pytest.approx(sum(jaccard) / 3)
    assert DiceMulti(average=None)(pred, targ).tolist() == pytest.approx([*dice, float("nan")], nan_ok=True)
    with pytest.raises(BadValue, match="two classes"):
        Dice()(pred, targ)
    empty = torch.tensor([[[1.0]], [[0.0]]])[None], torch.zeros(1, 1, 1)
    assert torch.tensor([Dice()(*empty), JaccardCoeff()(*empty)]).isnan().all()


def test_targets_that_are_no_class_are_counted_and_named():
    pred, targ = data(3)
    targ[:4] = torch.tensor([255, -100, 3, 3])
    for metric in (F1Score(average="macro"), CohenKappa()):
        with pytest.raises(BadValue, match="4 targets are not valid classes") as caught:
            metric(pred, targ)
        assert caught.value.expected == "0 … 2"


def test_what_holds_no_scores_of_classes_is_refused():
    for pred in (torch.zeros(()), torch.zeros(4, 3, dtype=torch.int64)):
        with pytest.raises(BadValue, match="a score for each class"):
            Precision()(pred, torch.zeros(4))
    with pytest.raises(BadValue, match="class 5"):
        Precision(average="macro", labels=[0, 5])(*data(3))
    with pytest.raises(BadValue, match="class 2"):
        Precision(pos_label=2)(*data(2))
    with pytest.raises(BadValue, match="do not match"):
        F1ScoreMulti()(torch.zeros(4, 3), torch.zeros(4))
