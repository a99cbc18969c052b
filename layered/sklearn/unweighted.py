"""Metrics as a user of an estimator reads them: of targets in their own units, each item counted once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from torch import Tensor

from layered.metrics import Metric, MetricSet, Predicted
from layered.sklearn.losses import Criterion


@dataclass(frozen=True)
class Scale:
    """What targets were scaled by.

    Args:
        mean: Their mean, for each target.
        deviation: Their deviation.
    """

    mean: Any = 0.0
    deviation: Any = 1.0

    def undone(self, scaled: Tensor) -> Tensor:
        """Numbers in the units of the targets.

        Args:
            scaled: Targets or predictions.
        """
        mean, deviation = (scaled.new_tensor(np.asarray(part)) for part in (self.mean, self.deviation))
        return scaled * deviation + mean


class Unweighted(Metric):
    """A metric that reads the targets of a batch, and leaves the weights of the samples beside them to the loss.

    Args:
        metric: The metric.
        scale: What targets were scaled by; None if they are as they were given.
    """

    def __init__(self, metric: Metric, scale: Scale | None) -> None:
        self.metric, self._name, self.higher_is_better = metric, metric.name, metric.higher_is_better
        self.scale = scale

    def reset(self) -> None:
        self.metric.reset()

    def accumulate(self, learn: Predicted) -> None:
        self.metric.accumulate(Targets(learn, self.scale))

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
        return type(self)(self.metric.copied(memo), self.scale)


class Targets:
    """What metrics read of a learner: outputs as the loss itself takes them, and no weights.

    Args:
        learn: The learner.
        scale: What targets were scaled by.
    """

    def __init__(self, learn: Predicted, scale: Scale | None) -> None:
        criterion = learn.loss_func
        assert isinstance(criterion, Criterion)  # every learner of an estimator has one
        self.xb, self.yb, self.pred = learn.xb, learn.yb[:1], criterion.taken(learn.pred)
        if scale is not None:
            self.yb, self.pred = (scale.undone(self.yb[0]),), scale.undone(self.pred)
        self.loss, self.loss_func = learn.loss, criterion.loss


def unweighted(metrics: object, scale: Scale | None = None) -> dict[str, Metric]:
    """Metrics by name, which leave out weights.

    Args:
        metrics: As for `Learner`.
        scale: What targets were scaled by.
    """
    known = MetricSet(metrics)
    return {name: Unweighted(metric, scale) for name, metric in zip(known.names, known, strict=True)}
