from types import SimpleNamespace

import pytest
import torch
from torch import nn

from layered.foundation import BadArgument
from layered.loop import Loop
from layered.metrics import AvgLoss, AvgMetric, AvgSmoothLoss, LossMetric, LossMetrics, MetricSet, Perplexity, mean_of

LOSSES = [1.0, 2.0, 4.0]
SIZES = [4, 4, 2]


def learners(**kept):
    for loss, rows in zip(LOSSES, SIZES, strict=True):
        loss_func = SimpleNamespace(**{name: f(loss) for name, f in kept.items()})
        yield SimpleNamespace(loss=torch.tensor(loss), yb=(torch.zeros(rows),), xb=(), pred=None, loss_func=loss_func)


def fed(metric, batches):
    for learn in batches:
        metric.accumulate(learn)
    return metric.value


def test_the_loss_is_weighted_by_rows():
    metric = AvgLoss()
    assert fed(metric, learners()) == pytest.approx((1 * 4 + 2 * 4 + 4 * 2) / 10)
    assert metric.name == "loss"


def test_the_smooth_loss_is_unbiased():
    average = 0.0
    for loss in LOSSES:
        average = 0.9 * average + 0.1 * loss
    assert fed(AvgSmoothLoss(beta=0.9), learners()) == pytest.approx(average / (1 - 0.9**3))
    assert AvgSmoothLoss().value is None
    one, other = AvgSmoothLoss(), AvgSmoothLoss()
    mean = (fed(one, learners()) + fed(other, learners())) / 2
    one.merge(other)
    assert one.value == pytest.approx(mean)
    other.merge(AvgSmoothLoss())
    assert other.value == pytest.approx(mean)


def test_parts_of_the_loss_are_averaged():
    made = LossMetrics("double, half", "d,h")
    metrics = MetricSet(made)
    for learn in learners(double=lambda x: torch.tensor(2 * x), half=lambda x: x / 2):
        metrics.accumulate(learn)
    assert metrics.names == ["d", "h"]
    assert metrics.values == pytest.approx([4.0, 1.0])
    with pytest.raises(BadArgument, match="no attribute 'third'"):
        fed(LossMetric("third"), learners())
    with pytest.raises(ValueError, match="zip"):
        LossMetrics("a,b", "c")


def test_perplexity_takes_the_loss_that_was_computed_anyway():
    rows = [(torch.randn(6, 3), torch.randint(0, 4, (6,))) for _ in range(3)]
    rows[1][1][:4] = -100
    learn = Loop((rows, rows), nn.Linear(3, 4), nn.CrossEntropyLoss(), metrics=Perplexity())
    x, y = (torch.cat(part) for part in zip(*rows, strict=True))
    with torch.no_grad():
        loss = nn.functional.cross_entropy(learn.model(x), y)
        assert Perplexity()(learn.model(x), y) == pytest.approx(loss.exp().item(), rel=1e-6)
    assert learn.validate()[1] == pytest.approx(loss.exp().item(), rel=1e-6)


def test_a_mean_of_sums_keeps_its_name_and_arguments():
    @mean_of
    def positive_share(pred, targ, above=0.0):
        """Of the positive."""
        return (pred[targ > 0] > above).sum(), (targ > 0).sum()

    metric = AvgMetric(positive_share)
    for pred, targ in ((torch.ones(1), torch.ones(1)), (-torch.ones(5), torch.tensor([1, 0, 0, 0, 0]))):
        metric.update(pred, targ)
    assert (metric.value, metric.name, positive_share.__doc__) == (0.5, "positive_share", "Of the positive.")
    assert positive_share(torch.ones(2), torch.ones(2), above=1.0) == 0


def test_a_batch_without_rows_does_not_count():
    metric = AvgMetric(lambda p, t: float(len(p)))
    metric.update(torch.zeros(0), torch.zeros(0))
    assert torch.tensor(metric.value).isnan()
    metric.update(torch.zeros(2), torch.zeros(2))
    assert metric.value == 2.0
