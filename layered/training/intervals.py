"""How sure a metric on some validation items is: 95 % confidence intervals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from layered.metrics import AvgMetric, Metric, accuracy, error_rate

RESAMPLES = 200
MOST_NUMBERS = 50_000_000  # outputs that are drawn from so often
Z = 1.959963984540054  # 95 % of a normal distribution lie within


def wilson(share: float, count: int) -> tuple[float, float]:
    """The interval of a share of independent items, which stays wide where all of a few items are right.

    Args:
        share: The share that was seen, in [0, 1].
        count: Of how many items.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953.

    Examples:
        >>> [round(end, 3) for end in wilson(1.0, 10)]
        [0.722, 1.0]
    """
    middle, half = share + Z**2 / (2 * count), Z * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    scale = 1 + Z**2 / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def interval(
    metric: Metric, value: float, outputs: object, targets: Sequence[object]
) -> tuple[float, float, str] | None:
    """The interval of a metric on some items, and its kind: "Wilson" for the share of right or wrong classes, else "bootstrap".

    Args:
        metric: The metric.
        value: What it said of all items.
        outputs: Of the model, for each item.
        targets: Of each item.

    Returns:
        None where the items cannot be drawn one by one, or the metric says something else of all of them together.
    """
    parts = [outputs, *targets]
    tensors = [part for part in parts if isinstance(part, Tensor) and part.ndim]
    if len(tensors) < len(parts) or len({len(part) for part in tensors}) != 1 or tensors[0].numel() > MOST_NUMBERS:
        return None
    count = len(tensors[0])
    if isinstance(metric, AvgMetric) and metric.func in (accuracy, error_rate) and tensors[-1].numel() == count:
        return *wilson(value, count), "Wilson"
    ends = bootstrap(metric, value, tensors)
    return None if ends is None else (*ends, "bootstrap")


def bootstrap(metric: Metric, value: float, parts: Sequence[Tensor]) -> tuple[float, float] | None:
    """The interval from values over items that are drawn with replacement, by their percentiles.

    Args:
        metric: The metric.
        value: What it said of all items.
        parts: The outputs and the targets.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    drawn, values = torch.Generator().manual_seed(0), []
    with (
        warnings.catch_warnings(),
        suppress(Exception),
    ):  # metrics are anybody's code, and some need an item of each class
        warnings.simplefilter("ignore")
        if not np.isclose(float(metric(*parts)), value, rtol=1e-3, atol=1e-6):
            return None
        for _ in range(RESAMPLES):
            rows = torch.randint(len(parts[0]), (len(parts[0]),), generator=drawn)
            values.append(float(metric(*(part[rows] for part in parts))))
    if len(values) < RESAMPLES or not np.isfinite(values).all():
        return None
    return float(np.percentile(values, 2.5)), float(np.percentile(values, 97.5))
