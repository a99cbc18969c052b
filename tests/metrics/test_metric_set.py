from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from torch import nn
from torch.testing import assert_close

from layered.data import DataLoader
from layered.foundation import BadArgument, BadValue
from layered.loop import Callback, Loop
from layered.metrics import (
    AccumMetric,
    F1Score,
    Metric,
    MetricSet,
    Precision,
    Recall,
    ValueMetric,
    accuracy,
    mk_metric,
    rmse,
    skm_to_fastai,
)
from layered.metrics.counts import ClassCounts
from layered.metrics.metric_set import metric_names


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


ERRORS = {
    "brier_score", "brier_score_loss", "brier_score_multi", "ece", "ece_multi", "error_rate",
    "expected_calibration_error", "exp_rmspe", "hamming_loss", "hamming_loss_multi",
    "mae", "mse", "msle", "perplexity", "rmse",
}  # fmt: skip


@pytest.mark.parametrize("name", metric_names.names())
def test_every_metric_of_the_library_declares_which_way_is_better(name):
    assert mk_metric(name).higher_is_better is (name not in ERRORS)


SKLEARN = [
    sk.accuracy_score, sk.f1_score, sk.r2_score, sk.ndcg_score, sk.mean_absolute_error, sk.max_error, sk.log_loss,
    sk.mean_poisson_deviance, sk.zero_one_loss,
]  # fmt: skip


@pytest.mark.parametrize("function", SKLEARN)
def test_functions_of_scikit_learn_say_by_their_names_which_way_is_better(function):
    [upwards] = MetricSet(skm_to_fastai(function)).higher_is_better
    assert upwards is function.__name__.endswith("_score")


@pytest.mark.parametrize("name", [name for name in sk.get_scorer_names() if name.startswith("neg_")])
def test_scorers_are_better_where_they_are_larger(name):
    assert MetricSet([name, sk.get_scorer(name)]).higher_is_better == [True, True]


def test_where_a_metric_does_not_say_its_name_may():
    def mine(pred, targ):
        return 0.0

    named = {"rmse": mine, "accuracy": mine, "my_loss": mine, "ErrorOfMine": mine, "neg_loss": mine, "fid_score": mine}
    assert MetricSet(named).higher_is_better == [False, True, False, False, None, None]
    assert MetricSet([mine, mine]).higher_is_better == [None, None]
    assert MetricSet({"accuracy": rmse, "my_loss": accuracy}).higher_is_better == [False, True]
    mine.higher_is_better = False
    assert MetricSet([mine, partial(mine)]).higher_is_better == [False, False]


def test_parts_and_negatives_of_metrics_keep_and_turn_the_way():
    up, down = Precision(), mk_metric("mae")
    made = [up[1], down[0], -up, -down, -(-down), 1 - mk_metric("error_rate"), up + up, torch.sqrt(down)]
    assert MetricSet(made).higher_is_better == [True, False, False, True, False, None, None, None]


@pytest.mark.parametrize("value", [{"a": 1.0}, (1.0, 2.0), [1.0], "1.0", 1j, torch.ones(4), torch.ones(2, 2), iter(())])
def test_a_function_that_gives_no_number_is_named(value):
    def score(pred, targ):
        return value

    for metric in (score, partial(score), {"named": score}):
        with pytest.raises(BadValue, match=r"'(score|named)'.*did not return a number"):
            MetricSet(metric).update(torch.ones(4), torch.ones(4))


def test_a_function_without_return_is_named():
    def forgot(pred, targ):
        (pred - targ).mean()

    with pytest.raises(BadValue, match=r"'forgot'.*returned None"):
        MetricSet(forgot).update(torch.ones(4), torch.ones(4))
    whole = MetricSet(AccumMetric(forgot))
    whole.update(torch.ones(4), torch.ones(4))
    with pytest.raises(BadValue, match=r"'forgot'.*returned None"):
        whole.values


@pytest.mark.parametrize(
    "one", [1, 1.0, True, np.float32(1), np.array(1.0), np.ones((1, 1)), torch.ones(1), torch.tensor(1)]
)
def test_numbers_of_any_library_are_numbers(one):
    metrics = MetricSet(lambda pred, targ: one)
    for rows in (4, 1):
        metrics.update(torch.ones(rows), torch.ones(rows))
    [value] = metrics.values
    assert type(value) is float
    assert value == 1.0


def test_several_scores_in_a_dict_are_refused_at_the_end_of_the_pass():
    class Scores(Metric):
        state = ("count",)

        def update(self, pred, targ):
            self.count = self.count + 1

        def compute(self):
            return {"a": 1.0}

    metrics = MetricSet(Scores())
    metrics.update(torch.ones(1), torch.ones(1))
    with pytest.raises(BadValue, match="'scores': the value is not a number"):
        metrics.values


class NeedsArguments(Metric):
    def __init__(self, classes):
        self.classes = classes


@pytest.mark.parametrize(
    ("wrong", "fix"),
    [
        (NeedsArguments, "NeedsArguments"),
        (AccumMetric, "AccumMetric"),
        (Callback(), "cbs="),
        (Callback, "cbs="),
        (lambda pred: 0.0, "cbs="),
        (3, None),
        (DataLoader([1]), None),
    ],
)
def test_what_is_no_metric_is_refused_as_it_is_given(wrong, fix):
    with pytest.raises(BadArgument) as error:
        MetricSet([accuracy, wrong])
    assert fix is None or fix in error.value.fix
