"""Metrics by name: `metrics="f1"`, `metrics=["accuracy", "roc_auc"]`.

Where a score is averaged over classes, two classes give that of the second, and more give the mean ("auto"); a name that
ends in "_macro", "_micro", "_weighted" or "_multi" (several labels) says it. Names that are not ours are looked up among
scikit-learn's scorers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from layered.foundation.errors import unknown_name
from layered.foundation.optional import lazy
from layered.foundation.registry import Registry
from layered.metrics import class_scores as one
from layered.metrics import classification, ranking, regression, segmentation
from layered.metrics import label_scores as multi
from layered.metrics.adapted import ScorerMetric
from layered.metrics.averages import AvgMetric
from layered.metrics.metric import Metric
from layered.metrics.text import CorpusBLEUMetric, Perplexity

sk_metrics = lazy("sklearn.metrics")

metric_names: Registry[Callable[[], Metric]] = Registry("metric")


def register_metric(name: str, make: Callable[[], Metric]) -> None:
    """Let `name` stand for the metric that `make()` gives: a class, or a function without arguments.

    After `register_metric("worst_class", make)` a learner takes `metrics="worst_class"`, as it takes "accuracy":

    >>> import torch
    >>> metric_named("accuracy")(torch.eye(2), torch.tensor([0, 0]))
    0.5
    """
    metric_names.add(name, make)


def metric_named(name: str) -> Metric:
    """A new metric of that name.

    raises     UnknownName with the nearest names

    >>> metric_named("f1").name, metric_named("neg_log_loss").name
    ('f1_score', 'neg_log_loss')
    """
    if name in metric_names:
        return metric_names.get(name)()
    scorers = sk_metrics.get_scorer_names()
    if name in scorers:
        return ScorerMetric(sk_metrics.get_scorer(name), name)
    raise unknown_name("metric", name, {*metric_names, *scorers}, fix="see metric_names.names()")


_AVERAGED = {
    "f1": (one.F1Score, multi.F1ScoreMulti),
    "jaccard": (one.Jaccard, multi.JaccardMulti),
    "precision": (one.Precision, multi.PrecisionMulti),
    "recall": (one.Recall, multi.RecallMulti),
}
for _name, (_of_classes, _of_labels) in _AVERAGED.items():
    for _suffix in ("", "_score"):
        register_metric(_name + _suffix, partial(_of_classes, average="auto"))
        register_metric(f"{_name}{_suffix}_multi", _of_labels)
    for _average in ("macro", "micro", "weighted"):
        register_metric(f"{_name}_{_average}", partial(_of_classes, average=_average))

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "accuracy": classification.accuracy,
    "accuracy_multi": classification.accuracy_multi,
    "error_rate": classification.error_rate,
    "foreground_acc": classification.foreground_acc,
    "mae": regression.mae,
    "mse": regression.mse,
    "msle": regression.msle,
    "top_k_accuracy": classification.top_k_accuracy,
}
for _name, _function in _FUNCTIONS.items():
    register_metric(_name, partial(AvgMetric, _function))

_CLASSES: dict[str, Callable[[], Metric]] = {
    "average_precision": ranking.APScoreBinary,
    "average_precision_multi": ranking.APScoreMulti,
    "balanced_accuracy": one.BalancedAccuracy,
    "bleu": CorpusBLEUMetric,
    "brier_score": ranking.BrierScore,
    "brier_score_multi": ranking.BrierScoreMulti,
    "cohen_kappa": one.CohenKappa,
    "dice": segmentation.Dice,
    "dice_multi": segmentation.DiceMulti,
    "exp_rmspe": regression.exp_rmspe.clone,
    "explained_variance": regression.ExplainedVariance,
    "hamming_loss": one.HammingLoss,
    "hamming_loss_multi": multi.HammingLossMulti,
    "iou": segmentation.JaccardCoeffMulti,
    "jaccard_coeff": segmentation.JaccardCoeff,
    "jaccard_coeff_multi": segmentation.JaccardCoeffMulti,
    "matthews_corrcoef": one.MatthewsCorrCoef,
    "matthews_corrcoef_multi": multi.MatthewsCorrCoefMulti,
    "pearson": regression.PearsonCorrCoef,
    "perplexity": Perplexity,
    "r2": regression.R2Score,
    "rmse": regression.rmse.clone,
    "roc_auc": ranking.RocAuc,
    "roc_auc_multi": ranking.RocAucMulti,
    "spearman": regression.SpearmanCorrCoef,
}
for _name, _make in _CLASSES.items():
    register_metric(_name, _make)

_AS_IN_TABLES = {
    "average_precision_score": "average_precision",
    "balanced_accuracy_score": "balanced_accuracy",
    "brier_score_loss": "brier_score",
    "cohen_kappa_score": "cohen_kappa",
    "corpus_bleu": "bleu",
    "explained_variance_score": "explained_variance",
    "pearsonr": "pearson",
    "r2_score": "r2",
    "roc_auc_score": "roc_auc",
    "spearmanr": "spearman",
}
for _name, _same in _AS_IN_TABLES.items():
    register_metric(_name, metric_names.get(_same))
