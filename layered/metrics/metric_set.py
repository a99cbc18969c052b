"""The metrics of a learner: registered names, what a user may pass as a metric, and the set that is updated with each batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import partial
from inspect import getmodule, signature
from typing import Any

from torch import nn

from layered.foundation import BadArgument, BadValue, Registry, describe, lazy, output_scores, unknown_name
from layered.metrics import (
    calibration,
    class_scores as one,
    classification,
    detection,
    label_scores as multi,
    ranking,
    regression,
    segmentation,
)
from layered.metrics.adapted import Adapted, ScorerMetric
from layered.metrics.averages import AvgMetric
from layered.metrics.functions import default_name
from layered.metrics.metric import Expression, Metric, Predicted, say_where, unique_parts
from layered.metrics.text import CorpusBLEUMetric, Perplexity

sk_metrics = lazy("sklearn.metrics")

metric_names: Registry[Callable[[], Metric]] = Registry("metric")


def register_metric(name: str, make: Callable[[], Metric]) -> None:
    """Let a name stand for a metric: after `register_metric("worst_class", make)` a learner takes `metrics="worst_class"`.

    Args:
        name: The name.
        make: Called without arguments; returns a new metric. A class, or a function.

    Examples:
        >>> import torch
        >>> metric_named("accuracy")(torch.eye(2), torch.tensor([0, 0]))
        0.5
    """
    metric_names.add(name, make)


def metric_named(name: str) -> Metric:
    """A new metric, by its registered name or the name of one of scikit-learn's scorers.

    Args:
        name: The name.

    Raises:
        UnknownName: With the nearest names.

    Examples:
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

METRIC_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "accuracy": classification.accuracy,
    "accuracy_multi": classification.accuracy_multi,
    "error_rate": classification.error_rate,
    "foreground_acc": classification.foreground_acc,
    "mae": regression.mae,
    "mse": regression.mse,
    "msle": regression.msle,
    "top_k_accuracy": classification.top_k_accuracy,
}
for _name, _function in METRIC_FUNCTIONS.items():
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
    "ece": calibration.ExpectedCalibrationError,
    "ece_multi": calibration.ExpectedCalibrationErrorMulti,
    "explained_variance": regression.ExplainedVariance,
    "hamming_loss": one.HammingLoss,
    "hamming_loss_multi": multi.HammingLossMulti,
    "iou": segmentation.JaccardCoeffMulti,
    "jaccard_coeff": segmentation.JaccardCoeff,
    "jaccard_coeff_multi": segmentation.JaccardCoeffMulti,
    "map": detection.MeanAveragePrecision,
    "map_50": partial(detection.MeanAveragePrecision, 0.5),
    "map_75": partial(detection.MeanAveragePrecision, 0.75),
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
    "expected_calibration_error": "ece",
    "explained_variance_score": "explained_variance",
    "pearsonr": "pearson",
    "r2_score": "r2",
    "roc_auc_score": "roc_auc",
    "spearmanr": "spearman",
}
for _name, _same in _AS_IN_TABLES.items():
    register_metric(_name, metric_names.get(_same))


def mk_metric(m: object) -> Metric:
    """Make a `Metric` of anything that is accepted as one.

    Args:
        m: A `Metric` or its class, a function of (predictions, targets), a registered name or that of one of scikit-learn's
            scorers, a scorer, or a metric of torchmetrics.

    Raises:
        BadArgument: It is none of these.
        UnknownName: The name is unknown.

    Examples:
        >>> from layered.metrics.classification import accuracy
        >>> mk_metric(accuracy), mk_metric("f1")
        (AvgMetric(accuracy), F1Score(f1_score))
    """
    if isinstance(m, str):
        return metric_named(m)
    if isinstance(m, type):
        m = _instance(m)
    if isinstance(m, Metric):
        return m
    if Adapted.fits(m):
        return Adapted(m)
    if ScorerMetric.fits(m):
        return ScorerMetric(m)
    if callable(m):
        module = getmodule(m)
        if module is not None and module.__name__.startswith("sklearn."):
            name = default_name(m)
            raise BadArgument(
                f"scikit-learn's '{name}' takes targets first, and decisions or probabilities of all samples at once",
                fix=f"skm_to_fastai({name}); for probabilities with is_class=False and an activation",
            )
        if _takes_two(m):
            return AvgMetric(m)
    raise BadArgument(
        "this cannot be used as a metric",
        got=repr(m),
        expected="a function of (predictions, targets), a Metric or its class, a name, a scorer, or a metric of torchmetrics",
        fix="pass a callback as cbs=" if callable(m) else None,
    )


def _instance(kind: type) -> object:
    try:
        signature(kind).bind()
    except ValueError:  # some classes have none
        pass
    except TypeError as error:
        raise BadArgument(
            f"the metric '{kind.__name__}' is a class that cannot be made without arguments",
            got=error,
            fix=f"pass an instance: {kind.__name__}(…)",
        ) from None
    return kind()


def _takes_two(function: Callable[..., Any]) -> bool:
    """Whether a function can be called with predictions and targets."""
    try:
        parameters = signature(function).parameters.values()
    except ValueError:  # some builtins have none
        return True
    by_position = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    return by_position >= 2 or any(p.kind is p.VAR_POSITIONAL for p in parameters)


class MetricSet:
    """The metrics of one learner: copies of what was passed, whose shared parts are updated once for each batch.

    Args:
        metrics: What `mk_metric` takes, or a list of these; a mapping gives names.

    Attributes:
        names: The name of each metric; repeated names get a number.

    Examples:
        >>> from layered.metrics.class_scores import Precision, Recall
        >>> MetricSet(["accuracy", {"p": Precision(), "r": Recall}]).names
        ['accuracy', 'p', 'r']
    """

    def __init__(self, metrics: object = None) -> None:
        memo: dict[Hashable, Metric] = {}
        made = list(_made(metrics))
        self._given = [name for name, _ in made]
        self.metrics = [metric.copied(memo) for _, metric in made]
        self._parts = unique_parts(self.metrics)

    def reset(self) -> None:
        """Forget everything seen."""
        for part in self._parts:
            part.reset()

    def update(self, pred: Any, *targ: Any) -> None:
        """Add one batch.

        Args:
            pred: The predictions of the batch.
            targ: Its targets.
        """
        part = None
        try:
            for part in self._parts:
                part.update(pred, *targ)
        except Exception as error:
            say_where(error, self._owners(part), pred, *targ)
            raise

    def accumulate(self, learn: Predicted) -> None:
        """Add the batch that a learner has just predicted.

        Args:
            learn: The learner.
        """
        part, scores = None, output_scores(learn.pred)
        if scores is not learn.pred:
            learn = _WithScores(learn, scores)
        try:
            for part in self._parts:
                part.accumulate(learn)
        except Exception as error:
            say_where(error, self._owners(part), learn.pred, *learn.yb)
            raise

    def _owners(self, part: Metric | None) -> str:
        return ", ".join(name for name, m in zip(self.names, self.metrics, strict=True) if part in list(m.parts()))

    @property
    def names(self) -> list[str]:
        """The name of each metric."""
        return unique_names(self._own_names)

    @property
    def _own_names(self) -> list[str]:
        return [given or metric.name for given, metric in zip(self._given, self.metrics, strict=True)]

    @property
    def higher_is_better(self) -> list[bool | None]:
        """For each metric whether larger values are better; None where neither it nor its name says."""
        return [_direction(name, metric) for name, metric in zip(self._own_names, self.metrics, strict=True)]

    @property
    def values(self) -> list[Any]:
        """The value of each metric; None for those that have seen nothing."""
        return [self._value(name, metric) for name, metric in zip(self.names, self.metrics, strict=True)]

    def _value(self, name: str, metric: Metric) -> Any:
        try:
            value = metric.value
            if isinstance(value, (Mapping, str)):
                raise BadValue(
                    "the value is not a number",
                    got=describe(value),
                    fix="a metric for each number, with a name: metrics={'f1': …}",
                )
            return value
        except Exception as error:
            say_where(error, name)
            raise

    def __len__(self) -> int:
        return len(self.metrics)

    def __iter__(self) -> Iterator[Metric]:
        return iter(self.metrics)


def unique_names(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """These names; one that is taken or repeated gets a number.

    Args:
        names: The names.
        taken: Names that none of them may have.

    Examples:
        >>> unique_names(["loss", "f1", "f1"], taken=["loss"])
        ['loss_2', 'f1', 'f1_2']
    """
    used, unique = set(taken), []
    for name in names:
        candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        unique.append(next(candidate for candidate in candidates if candidate not in used))
        used.add(unique[-1])
    return unique


def _direction(name: str, metric: Metric) -> bool | None:
    """Whether larger values are better: what the metric says, else what its name does: that of a known metric, or of a loss."""
    if metric.higher_is_better is not None or isinstance(metric, Expression):
        return metric.higher_is_better
    if name in metric_names:
        return metric_named(name).higher_is_better
    is_loss = ("loss" in name.lower() or "error" in name.lower()) and not name.lower().startswith("neg")
    return False if is_loss else None


class _WithScores:
    """A learner to metrics, with the scores in the model's output as its prediction."""

    def __init__(self, learn: Predicted, scores: object) -> None:
        self._learn, self.pred = learn, scores

    def __getattr__(self, name: str) -> Any:
        return getattr(self._learn, name)


def _made(metrics: object, name: str | None = None) -> Iterator[tuple[str | None, Metric]]:
    """A metric for each of `metrics`, with its name if it was given one."""
    if isinstance(metrics, (Mapping, nn.ModuleDict)):
        for key, value in metrics.items():
            yield from _made(value, str(key))
    elif isinstance(metrics, Iterable) and not isinstance(metrics, (str, type)) and not Adapted.fits(metrics):
        for metric in metrics:
            yield from _made(metric, name)
    elif metrics is not None:
        yield name, mk_metric(metrics)
