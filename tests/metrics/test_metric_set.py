from functools import partial
from types import SimpleNamespace

import pytest
import sklearn.metrics as sk
import torch
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadArgument, BadValue
from layered.loop import Loop
from layered.metrics import F1Score, Metric, MetricSet, Precision, Recall, ValueMetric, accuracy, mk_metric, rmse
from layered.metrics.counts import ClassCounts


class OldStyleMetric(Metric):
    def reset(self):
        self.total = 0

    def accumulate(self, learn):
        self.total += learn.pred.sum() * learn.scale

    @property
    def value(self):
        return self.total


def test_two_sets_given_one_object_do_not_mix(batches):
    shared = Precision()
    one, other = MetricSet([shared]), MetricSet([shared])
    for batch in batches:
        one.update(*batch)
    assert other.values == [None]
    assert shared.value is None
    assert one.names == ["precision_score"]
    assert len(one) == len(list(one)) == 1


def test_both_ways_of_writing_a_metric_work_with_a_learner(batches):
    metrics = MetricSet([accuracy, OldStyleMetric, OldStyleMetric()])
    metrics.reset()
    for pred, targ in batches:
        metrics.accumulate(SimpleNamespace(pred=pred, yb=(targ,), scale=2))
    wanted = 2 * sum(pred.sum() for pred, _ in batches)
    assert_close(metrics.values[1], wanted)
    assert_close(metrics.values[2], wanted)
    assert metrics.names == ["accuracy", "old_style", "old_style_2"]


def test_names_come_from_functions_through_partial_and_from_classes():
    assert mk_metric(accuracy).name == "accuracy"
    assert mk_metric(partial(partial(accuracy, axis=1))).name == "accuracy"
    assert OldStyleMetric().name == mk_metric(OldStyleMetric).name == "old_style"
    metric = mk_metric(accuracy)
    metric.name = "acc"
    assert metric.name == "acc"


def test_a_value_metric_reads_what_is_kept_elsewhere():
    metric = mk_metric(ValueMetric(lambda: torch.tensor(4.0), "kept"))
    metric.accumulate(None)
    assert (metric.name, metric.value) == ("kept", 4.0)


@pytest.mark.parametrize("what", [3, None, object()])
def test_what_is_no_metric_is_refused(what):
    with pytest.raises(BadArgument, match="metric"):
        mk_metric(what)


def test_scores_of_the_same_counts_count_once(batches, whole, monkeypatch):
    updates = []
    counting = ClassCounts.update
    monkeypatch.setattr(ClassCounts, "update", lambda self, *batch: updates.append(self) or counting(self, *batch))
    recall = Recall(average="macro")
    metrics = MetricSet([Precision(average="macro"), recall, recall[0], F1Score(average=None), Recall()])
    for batch in batches:
        metrics.update(*batch)
    assert len(updates) == 2 * len(batches)  # the binary score refuses more than two classes, so it counts for itself
    assert metrics.values[0] == pytest.approx(sk.precision_score(whole[1], whole[0].argmax(1), average="macro"))
    assert metrics.values[2] == pytest.approx(sk.recall_score(whole[1], whole[0].argmax(1), pos_label=0))
    assert_close(metrics.values[3].tolist(), sk.f1_score(whole[1], whole[0].argmax(1), average=None).tolist())


def test_metrics_may_come_in_nested_lists_and_with_names(whole):
    metrics = MetricSet([accuracy, [Precision, {"mine": accuracy, "f": "f1"}], accuracy])
    assert metrics.names == ["accuracy", "precision_score", "mine", "f", "accuracy_2"]
    metrics.update(*whole)
    assert metrics.values[0] == metrics.values[2] == metrics.values[4]
    assert MetricSet(None).names == MetricSet([]).values == []


def test_ready_made_metrics_are_not_shared_by_learners():
    rows = [(torch.ones(4, 2), torch.zeros(4, 1))]
    one, other = (Loop((rows, rows), nn.Linear(2, 1), nn.MSELoss(), metrics=rmse) for _ in range(2))
    value = one.validate()
    other.validate()
    assert one.metrics[0].value == value[1] == pytest.approx(value[0] ** 0.5)
    assert other.metrics[0].value != value[1]
    assert rmse.value is None


def test_errors_name_the_metrics_that_were_fed(whole):
    metrics = MetricSet([accuracy, Precision(), {"mine": Recall()}])
    with pytest.raises(BadValue, match="metric 'accuracy': predictions and targets do not match"):
        metrics.update(whole[0], whole[1][:5])
    with pytest.raises(BadValue, match="metric 'precision_score, mine'"):
        MetricSet([Precision(), {"mine": Recall()}]).update(torch.zeros(3, 4), torch.zeros(3))
    broken = MetricSet(lambda p, t: p @ t)
    with pytest.raises(RuntimeError) as caught:
        broken.accumulate(SimpleNamespace(pred=torch.zeros(2, 3), yb=(torch.zeros(4),)))
    assert "<lambda>" in caught.value.__notes__[0]


def test_an_error_in_a_value_names_the_metric(whole):
    metrics = MetricSet({"mine": Precision(average="macro")})
    metrics.update(whole[0], torch.full((11,), 9))
    with pytest.raises(BadValue, match="metric 'mine': 11 targets are not valid classes") as caught:
        _ = metrics.values
    assert "ignore_index" in caught.value.fix


def test_a_function_of_sklearn_is_refused_with_what_to_write():
    with pytest.raises(BadArgument) as caught:
        mk_metric(sk.f1_score)
    assert "skm_to_fastai(f1_score)" in caught.value.fix
