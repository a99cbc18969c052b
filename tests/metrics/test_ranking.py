import pytest
import sklearn.metrics as sk
import torch

from layered.foundation import BadValue
from layered.metrics import APScoreBinary, APScoreMulti, BrierScore, BrierScoreMulti, RocAuc, RocAucBinary, RocAucMulti


@pytest.fixture
def several():
    g = torch.Generator().manual_seed(0)
    return torch.randn(60, 4, generator=g), torch.randint(0, 4, (60,), generator=g)


@pytest.fixture
def two():
    g = torch.Generator().manual_seed(1)
    return torch.randn(60, 2, generator=g), torch.randint(0, 2, (60,), generator=g)


@pytest.mark.parametrize(
    ("average", "way"), [("weighted", "ovr"), ("micro", "ovr"), ("macro", "ovo"), ("weighted", "ovo")]
)
def test_classes_are_compared_and_averaged_as_by_sklearn(several, average, way):
    pred, targ = several
    wanted = sk.roc_auc_score(targ, pred.softmax(1), average=average, multi_class=way)
    assert RocAuc(average=average, multi_class=way)(pred, targ) == pytest.approx(wanted, abs=1e-6)


def test_each_class_may_have_its_value(several):
    pred, targ = several
    wanted = sk.roc_auc_score(targ, pred.softmax(1), average=None, multi_class="ovr")
    assert RocAuc(average=None)(pred, targ).tolist() == pytest.approx(wanted.tolist(), abs=1e-6)
    assert RocAuc(average=None)[2](pred, targ) == pytest.approx(wanted[2], abs=1e-6)


def test_two_classes_may_be_two_logits_or_one(two):
    pred, targ = two
    one = pred[:, 1:] - pred[:, :1]
    for made, wanted in (
        (RocAuc, sk.roc_auc_score(targ, one)),
        (lambda: RocAucBinary(max_fpr=0.3), sk.roc_auc_score(targ, one, max_fpr=0.3)),
        (APScoreBinary, sk.average_precision_score(targ, one)),
        (lambda: APScoreBinary(pos_label=0), sk.average_precision_score(1 - targ, -one)),
        (BrierScore, sk.brier_score_loss(targ, one.sigmoid())),
    ):
        for logits in (pred, one, one[:, 0]):
            assert made()(logits, targ) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("average", ["macro", "micro", "weighted", None])
def test_labels_are_ranked_as_by_sklearn(average):
    pred, targ = torch.randn(50, 3), (torch.rand(50, 3) > 0.5).float()
    for made, score in ((RocAucMulti, sk.roc_auc_score), (APScoreMulti, sk.average_precision_score)):
        for sigmoid in (True, False):
            scores = pred.sigmoid() if sigmoid else pred
            wanted = torch.as_tensor(score(targ, scores, average=average)).tolist()
            found = torch.as_tensor(made(sigmoid, average)(pred, targ)).tolist()
            assert found == pytest.approx(wanted, abs=1e-6)


def test_brier_scores_of_decisions_are_shares_of_errors():
    pred, targ = torch.randn(50, 3), torch.rand(50, 3) > 0.5
    wanted = sk.hamming_loss(targ, pred.sigmoid() >= 0.3)
    assert BrierScoreMulti(thresh=0.3)(pred, targ) == pytest.approx(wanted, abs=1e-6)


def test_a_class_that_never_occurs_has_no_ranking(several):
    pred, targ = several
    with pytest.warns(Warning, match="ROC AUC"):
        assert torch.tensor(RocAuc()(pred, targ.clamp(max=2))).isnan()


def test_what_cannot_be_ranked_is_refused(several):
    with pytest.raises(BadValue, match="two classes"):
        RocAucBinary()(*several)
    with pytest.raises(BadValue) as caught:
        RocAuc()(torch.zeros(4, 3), torch.zeros(4, 3))
    assert "several labels" in caught.value.fix
    with pytest.raises(BadValue, match="'ovx'"):
        RocAuc(multi_class="ovx")
