"""Metrics of targets that come with weights."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Self

from layered.metrics import Metric, MetricSet, Predicted


class Unweighted(Metric):
    """A metric that reads the targets of a batch, and leaves the weights of the samples beside them to the loss.

    Args:
        metric: The metric.
    """

    def __init__(self, metric: Metric) -> None:
        self.metric, self._name, self.higher_is_better = metric, metric.name, metric.higher_is_better

    def reset(self) -> None:
        self.metric.reset()

    def accumulate(self, learn: Predicted) -> None:
        self.metric.accumulate(Targets(learn))

    @property
    def value(self) -> Any:
        return self.metric.value

    @property
    def has_data(self) -> bool:
        return self.metric.has_data

    def merge(self, other: Metric) -> None:
        assert isinstance(other, Unweighted)  # of the same learner in another process
        self.metric.merge(other.metric)

    def _fresh(self, memo: dict[Hashable, Metric]) -> Self:
        return type(self)(self.metric.copied(memo))


class Targets:
    """What metrics read of a learner, without the weights.

    Args:
        learn: The learner.
    """

    def __init__(self, learn: Predicted) -> None:
        self.xb, self.yb, self.pred = learn.xb, learn.yb[:1], learn.pred
        self.loss, self.loss_func = learn.loss, learn.loss_func


def unweighted(metrics: object) -> dict[str, Metric]:
    """Metrics by name, which leave out weights.

    Args:
        metrics: As for `Learner`.
    """
    known = MetricSet(metrics)
    return {name: Unweighted(metric) for name, metric in zip(known.names, known, strict=True)}
