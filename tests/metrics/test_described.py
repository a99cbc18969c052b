"""Metrics as data: an export names them, and loading it makes them again."""

import warnings
from functools import partial

import pytest
import torch
from sklearn.metrics import fbeta_score, make_scorer

from layered.foundation import BadFile, UnknownName
from layered.metrics import (
    AccumMetric,
    APScoreBinary,
    BalancedAccuracy,
    Dice,
    F1Score,
    F1ScoreMulti,
    FBeta,
    JaccardCoeffMulti,
    Perplexity,
    RocAucBinary,
    accuracy,
    accuracy_multi,
    described_metrics,
    foreground_acc,
    metrics_from_described,
    register_metric,
    rmse,
    skm_to_fastai,
    top_k_accuracy,
)
from layered.metrics.metric_set import MetricSet, metric_names

generator = torch.Generator().manual_seed(3)
ONE_OF_THREE = torch.randn(50, 3, generator=generator), torch.randint(3, (50,), generator=generator)
ONE_OF_TWO = torch.randn(50, 2, generator=generator), torch.randint(2, (50,), generator=generator)
LABELS = torch.randn(50, 3, generator=generator), torch.randint(2, (50, 3), generator=generator)
NUMBERS = torch.rand(50, generator=generator), torch.rand(50, generator=generator)
MASKS = torch.randn(4, 3, 5, 5, generator=generator), torch.randint(3, (4, 5, 5), generator=generator)


def again(metrics):
    given = MetricSet(metrics)
    found = MetricSet(metrics_from_described(described_metrics(given), "x.layered"))
    assert found.names == given.names
    assert described_metrics(found) == described_metrics(given)
    return given, found


@pytest.mark.parametrize(
    ("metric", "batch"),
    [
        (accuracy, ONE_OF_THREE),
        ({"share": accuracy}, ONE_OF_THREE),
        (partial(top_k_accuracy, k=2), ONE_OF_THREE),
        (F1Score(average="weighted"), ONE_OF_THREE),
        (F1Score(average="macro", labels=[0, 2]), ONE_OF_THREE),
        (FBeta(2.0, average="macro", ignore_index=1), ONE_OF_THREE),
        (BalancedAccuracy(adjusted=True), ONE_OF_THREE),
        (Perplexity(), ONE_OF_THREE),
        (Perplexity(ignore_index=1), ONE_OF_THREE),
        ("neg_log_loss", ONE_OF_THREE),
        (["error_rate", "f1_macro"], ONE_OF_THREE),
        (RocAucBinary(), ONE_OF_TWO),
        (APScoreBinary(pos_label=0), ONE_OF_TWO),
        (partial(accuracy_multi, thresh=0.2), LABELS),
        (F1ScoreMulti(thresh=0.3, average="micro"), LABELS),
        (rmse, NUMBERS),
        ("neg_mean_absolute_error", NUMBERS),
        (partial(foreground_acc, bkg_idx=2), MASKS),
        (Dice(axis=1), (MASKS[0][:, :2], MASKS[1].clamp(max=1))),
        (JaccardCoeffMulti(axis=1), MASKS),
    ],
    ids=lambda given: "" if isinstance(given, tuple) else repr(given)[:60],
)
def test_they_compute_the_same(metric, batch):
    given, found = again(metric)
    for metrics in (given, found):
        metrics.update(*batch)
    torch.testing.assert_close(found.values, given.values, rtol=0, atol=0)
    assert found.higher_is_better == given.higher_is_better


@pytest.mark.parametrize("name", metric_names.names())
def test_all_registered_names_can_be_exported(name):
    (node,) = described_metrics(MetricSet([name]))
    assert set(node) == {"column", "name"}
    given, found = again([name])
    assert repr(found.metrics) == repr(given.metrics)


def test_one_that_is_registered_by_its_user():
    def highest(pred, targ):
        return pred.max()

    class Highest(AccumMetric):
        def __init__(self, times=1):
            super().__init__(highest)
            self.times = times

    register_metric("test.highest", Highest)
    try:
        _, found = again([Highest()])
        assert type(found.metrics[0]) is Highest
        (node,) = described_metrics(MetricSet([Highest(times=2)]))
        assert set(node) == {"column"}  # its registered name stands for other settings
    finally:
        del metric_names._items["test.highest"]


@pytest.mark.parametrize(
    "metric",
    [
        lambda pred, targ: (pred - targ).abs().max(),
        AccumMetric(lambda pred, targ: 1.0, name="one"),
        skm_to_fastai(fbeta_score, beta=0.5),
        2 * F1Score(average="macro"),
        make_scorer(fbeta_score, beta=0.5, average="macro"),
        type("Mine", (F1Score,), {})(average="macro"),
    ],
    ids=["lambda", "AccumMetric", "skm_to_fastai", "expression", "scorer", "subclass"],
)
def test_one_that_no_file_can_name_keeps_its_column_and_says_so_once(metric):
    _, found = again([accuracy, metric])
    found.reset()
    learn = type("Predicted", (), {"pred": ONE_OF_THREE[0], "yb": ONE_OF_THREE[1:], "xb": (), "loss_func": None})()
    with pytest.warns(UserWarning, match=r"the export 'x.layered' does not hold the metric"):
        found.accumulate(learn)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found.accumulate(learn)
    assert found.values[0] is not None
    assert found.values[1] is None


@pytest.mark.parametrize(
    ("nodes", "error"),
    [
        ({}, TypeError),
        ([3], TypeError),
        ([{"column": 3}], TypeError),
        ([{"column": "x", "name": "os.system"}], UnknownName),
        ([{"column": "x", "name": "neg_log_loss"}], UnknownName),  # which would import scikit-learn
        ([{"column": "x", "name": ["accuracy"]}], TypeError),
        ([{"column": "x", "scorer": 3}], TypeError),
        ([{"column": "x", "kind": "register_metric", "args": {}}], UnknownName),
        ([{"column": "x", "kind": "Metric", "args": {}}], UnknownName),
        ([{"column": "x", "kind": "F1Score", "args": {"average": {"$function": "noop"}}}], BadFile),
    ],
    ids=repr,
)
def test_what_a_file_may_not_say(nodes, error):
    with pytest.raises(error):
        metrics_from_described(nodes, "x.layered")
