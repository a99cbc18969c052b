from types import SimpleNamespace

import pytest
import sklearn.metrics as sk
import torch

from layered.foundation import BadArgument
from layered.metrics import MetricSet, mk_metric
from layered.metrics.adapted import ScorerMetric


class MeanSquaredError:
    """Has the methods of a torchmetrics metric."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.seen = []

    def update(self, pred, targ):
        self.seen.append((pred[:, 0] - targ) ** 2)

    def compute(self):
        return torch.cat(self.seen).mean()


def test_a_torchmetrics_object_is_adapted_and_copied(batches, whole):
    theirs = MeanSquaredError()
    metrics = MetricSet([theirs, mk_metric(theirs) * 2])
    for batch in batches:
        metrics.update(*batch)
    wanted = ((whole[0][:, 0] - whole[1]) ** 2).mean().item()
    assert metrics.values == pytest.approx([wanted, 2 * wanted])
    assert metrics.names[0] == "mean_squared_error"
    assert theirs.seen == []
    metrics.reset()
    assert metrics.values[0] is None


def test_a_collection_of_metrics_gives_each_by_its_name(batches):
    metrics = MetricSet(torch.nn.ModuleDict({"a": TheirMetric(), "b": TheirMetric()}))
    for batch in batches:
        metrics.update(*batch)
    assert (metrics.names, metrics.values) == (["a", "b"], [11, 11])


class TheirMetric(torch.nn.Module):
    """Cannot be iterated over, though it looks so, as torchmetrics' cannot."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def __iter__(self):
        raise NotImplementedError

    def reset(self):
        self.seen = 0

    def update(self, pred, targ):
        self.seen += len(pred)

    def compute(self):
        return torch.tensor(self.seen)


def test_a_single_metric_that_cannot_be_iterated_over_is_one(batches):
    metrics = MetricSet(TheirMetric())
    metrics.update(*batches[0])
    assert (metrics.names, metrics.values) == (["their"], [4])


class Older:
    name = "older"

    def reset(self):
        self.total = 0

    def accumulate(self, learn):
        self.total += len(learn.yb[0])

    @property
    def value(self):
        return self.total


class Plain:
    def reset(self):
        self.total = 0

    def update(self, pred, targ):
        self.total += len(targ)

    def value(self):
        return self.total


def test_classes_of_ones_own_need_no_base(batches):
    metrics = MetricSet([Older, Older(), Plain])
    assert metrics.values == [None] * 3
    for pred, targ in batches:
        metrics.accumulate(SimpleNamespace(pred=pred, yb=(targ,)))
    assert metrics.names == ["older", "older_2", "plain"]
    assert metrics.values == [11, 11, 11]
    with pytest.raises(BadArgument, match="accumulate"):
        mk_metric(Older)(*batches[0])


SCORERS = {
    "f1_macro": lambda p, t: sk.f1_score(t, p.argmax(1), average="macro"),
    "accuracy": lambda p, t: sk.accuracy_score(t, p.argmax(1)),
    "neg_log_loss": lambda p, t: -sk.log_loss(t, p.double().softmax(1)),
    "roc_auc_ovo": lambda p, t: sk.roc_auc_score(t, p.softmax(1), multi_class="ovo"),
}


@pytest.mark.parametrize("size", [1, 7, 60])
@pytest.mark.parametrize("name", SCORERS)
def test_sklearns_scorers_score_classes(name, size):
    g = torch.Generator().manual_seed(0)
    pred, targ = torch.randn(60, 3, generator=g), torch.randint(0, 3, (60,), generator=g)
    metric = mk_metric(sk.get_scorer(name)).clone()
    for batch in zip(pred.split(size), targ[:, None].split(size), strict=True):
        metric.update(*batch)
    assert metric.value == pytest.approx(SCORERS[name](pred, targ), abs=1e-6)


def test_sklearns_scorers_score_two_classes_labels_and_numbers():
    g = torch.Generator().manual_seed(0)
    pred, targ = torch.randn(40, generator=g), (torch.rand(40, generator=g) > 0.5).float()
    for logits in (pred[:, None], torch.stack([-pred, pred], 1)):
        assert ScorerMetric(sk.get_scorer("roc_auc"))(logits, targ) == pytest.approx(sk.roc_auc_score(targ, pred))
        assert ScorerMetric(sk.get_scorer("f1"))(logits, targ) == pytest.approx(sk.f1_score(targ, pred > 0))
    labels, yes = torch.randn(40, 3, generator=g), torch.rand(40, 3, generator=g) > 0.5
    scorer = sk.make_scorer(sk.f1_score, average="samples", zero_division=0)
    wanted = sk.f1_score(yes, labels >= 0, average="samples", zero_division=0)
    assert mk_metric(scorer)(labels, yes) == pytest.approx(wanted)
    assert mk_metric(sk.get_scorer("average_precision"))(labels, yes) == pytest.approx(
        sk.average_precision_score(yes, labels.sigmoid())
    )
    assert mk_metric(scorer).name == "f1_score"
    assert mk_metric("neg_mean_absolute_error")(pred, pred + 2) == pytest.approx(-2)


def test_a_scorer_of_ones_own_is_known_by_its_arguments():
    def surprise(estimator, X, y):
        return float((estimator.predict(X) != y).mean())

    assert mk_metric(surprise)(torch.eye(2), torch.tensor([0, 0])) == 0.5
