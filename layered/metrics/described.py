"""Metrics as data: how an export says which metrics a learner has."""

from __future__ import annotations

from functools import partial
from inspect import isroutine
from typing import Any

import numpy as np
from torch import Tensor

from layered.files import decode_tree, encode_tree, exactly
from layered.foundation import CannotSave, constructor_signature, innermost, unknown_name, warn
from layered.metrics import calibration, class_scores, label_scores, ranking, regression, segmentation, text
from layered.metrics.adapted import ScorerMetric
from layered.metrics.averages import AvgMetric
from layered.metrics.metric import Metric, Predicted
from layered.metrics.metric_set import METRIC_FUNCTIONS, MetricSet, metric_named, metric_names, sk_metrics

_KINDS: dict[str, type[Metric]] = {
    name: kind
    for module in (calibration, class_scores, label_scores, ranking, regression, segmentation, text)
    for name, kind in vars(module).items()
    if isinstance(kind, type)
    and issubclass(kind, Metric)
    and not name.startswith("_")
    and kind.__module__ == module.__name__
}


def described_metrics(metrics: MetricSet) -> list[dict[str, Any]]:
    """The metrics of a learner as data.

    Args:
        metrics: The metrics.

    Returns:
        For each its column, and its registered name, or that of one of scikit-learn's scorers, or its kind and the arguments
        that make it; none of these where no file can say what it computes.
    """
    known = {name: _settings(metric_named(name)) for name in metric_names.names()}
    return [{"column": name, **_described(metric, known)} for name, metric in zip(metrics.names, metrics, strict=True)]


def metrics_from_described(nodes: object, file: str) -> list[Metric]:
    """The metrics that `described_metrics` described; those that it could not are `NotExported`.

    Args:
        nodes: Its result, read from a file that may come from anyone.
        file: The name of the file, for what is said of missing ones.

    Raises:
        UnknownName: A name that is not registered in this process.
    """
    return [_from_described(exactly(dict, node), file) for node in exactly(list, nodes)]


class NotExported(Metric):
    """Stands for a metric that an export could not describe: its column stays, without values, and is explained once.

    Args:
        column: The name of the metric.
        file: The export.
    """

    def __init__(self, column: str, file: str) -> None:
        self.name, self.file, self.is_explained = column, file, False

    def accumulate(self, learn: Predicted) -> None:
        if not self.is_explained:
            self.is_explained = True
            warn(
                f"the export '{self.file}' does not hold the metric '{self.name}', for it has no registered name: set "
                "learn.metrics, or call register_metric(name, make) before the export and after loading"
            )

    @property
    def has_data(self) -> bool:
        return False


def _described(metric: Metric, known: dict[str, Any]) -> dict[str, Any]:
    wanted = _settings(metric)
    for name, settings in known.items():
        if settings == wanted:
            return {"name": name}
    if isinstance(metric, ScorerMetric):
        return _described_scorer(metric)
    kind, args = _kind_and_args(metric)
    if kind is None or _settings(_make(kind, args)) != wanted:
        return {}
    tensors: dict[str, Tensor] = {}
    try:
        node = {"kind": kind, "args": encode_tree(args, tensors, "metrics")}
    except CannotSave:
        return {}
    return {} if tensors else node


def _described_scorer(metric: ScorerMetric) -> dict[str, Any]:
    if isinstance(metric.scorer, partial) and metric.scorer.func is _score:  # comes from a file itself
        return {"scorer": metric.scorer.args[0]}
    names = sk_metrics.get_scorer_names()
    found = [name for name in names if repr(sk_metrics.get_scorer(name)) == repr(metric.scorer)]
    return {"scorer": found[0]} if found else {}


def _from_described(node: dict[str, Any], file: str) -> Metric:
    column = exactly(str, node["column"])
    if "name" in node:
        metric = metric_names.get(exactly(str, node["name"]))()
    elif "scorer" in node:
        metric = ScorerMetric(partial(_score, exactly(str, node["scorer"])), node["scorer"])
    elif "kind" in node:
        metric = _make(node["kind"], decode_tree(exactly(dict, node["args"]), {}))
    else:
        return NotExported(column, file)
    if metric.name != column:
        metric.name = column
    return metric


def _score(name: str, estimator: object, X: object, y: object) -> Any:
    """What one of scikit-learn's scorers says, imported when it is asked: loading a file imports nothing."""
    return sk_metrics.get_scorer(name)(estimator, X, y)


def _kind_and_args(metric: Metric) -> tuple[str | None, dict[str, Any]]:
    """What makes a metric like this one; the settings of a score are kept by itself or by its counts."""
    if isinstance(metric, AvgMetric):
        args = metric.func.keywords if isinstance(metric.func, partial) else {}
        return next((name for name, f in METRIC_FUNCTIONS.items() if f is innermost(metric.func)), None), args
    kept: dict[str, Any] = {}
    for part in (*metric.parts(), metric):
        kept |= vars(part)
    names = constructor_signature(type(metric)).parameters
    args = {name: kept[name] for name in names if name in kept}
    return next((name for name, kind in _KINDS.items() if kind is type(metric)), None), args


def _make(kind: str, args: dict[str, Any]) -> Metric:
    if kind in METRIC_FUNCTIONS:
        return AvgMetric(partial(METRIC_FUNCTIONS[kind], **args))
    if kind in _KINDS:
        return _KINDS[kind](**args)
    raise unknown_name("kind of metric", kind, {*METRIC_FUNCTIONS, *_KINDS})


def _settings(x: Any) -> Any:
    """What two objects have in common if they were made alike: metrics compute the same, whatever they are called."""
    if isinstance(x, Metric):
        settings = {name: _settings(value) for name, value in vars(x.clone()).items() if name != "_name"}
        return type(x), settings
    if isinstance(x, partial):
        return _settings(x.func), _settings(x.args), _settings(x.keywords)
    if isinstance(x, (list, tuple)):
        return [_settings(value) for value in x]
    if isinstance(x, dict):
        return {key: _settings(value) for key, value in x.items()}
    if x is None or isinstance(x, (bool, int, float, str, type)) or isroutine(x):
        return x
    return repr(x) if isinstance(x, (Tensor, np.ndarray)) or ScorerMetric.fits(x) else id(x)
