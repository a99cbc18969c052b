import subprocess
import sys

import pytest
import sklearn.metrics as sk
import torch

from layered.foundation import UnknownName
from layered.metrics import AvgMetric, MetricSet, mk_metric, register_metric
from layered.metrics.metric_set import metric_names


def test_a_name_averages_as_the_number_of_classes_asks():
    for classes, average in ((2, "binary"), (4, "macro")):
        pred, targ = torch.randn(50, classes), torch.randint(0, classes, (50,))
        pair = targ, pred.argmax(1)
        metrics = MetricSet(["f1", "precision_macro", "recall", "jaccard"])
        metrics.update(pred, targ)
        wanted = [
            sk.f1_score(*pair, average=average),
            sk.precision_score(*pair, average="macro"),
            sk.recall_score(*pair, average=average),
            sk.jaccard_score(*pair, average=average),
        ]
        assert metrics.values == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("accurcy", "accuracy"), ("f1_scor", "f1_score"), ("roc_acu", "roc_auc"), ("neg_logloss", "neg_log_loss")],
)
def test_a_misspelt_name_gets_the_nearest(typo, meant):
    with pytest.raises(UnknownName) as caught:
        mk_metric(typo)
    assert f"'{meant}'" in caught.value.fix


def test_every_scorer_of_sklearn_has_its_name():
    for name in sk.get_scorer_names():
        if name not in metric_names:
            assert mk_metric(name).name == name


def test_a_name_of_ones_own_can_be_registered():
    def bias(pred, targ):
        return (pred - targ).mean()

    register_metric("test_bias", lambda: AvgMetric(bias))
    assert mk_metric("test_bias")(torch.ones(2), torch.zeros(2)) == 1


def test_names_in_tables_are_names_too():
    for name in metric_names:
        if not name.startswith("test_") and "_multi" not in name:
            assert mk_metric(name).name in metric_names, name


def test_each_name_gives_a_metric_of_its_own():
    for name in metric_names:
        assert mk_metric(name) is not mk_metric(name), name


def test_names_need_no_heavy_package():
    code = """
import sys
from layered.metrics import MetricSet
MetricSet(["f1", "roc_auc", "spearman", "cohen_kappa"])
print(*{"sklearn", "scipy", "pandas"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
