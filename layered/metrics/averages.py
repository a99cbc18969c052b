"""Means over a pass, computed from sums: of functions of each batch, of the loss, and of what a loss keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial, wraps
from inspect import signature
from typing import Any, ParamSpec, overload

import numpy as np
import torch
from torch import Tensor

from layered.foundation import BadArgument, BadValue, describe, innermost
from layered.metrics.functions import declared_direction, default_name
from layered.metrics.inputs import rows_of, wide
from layered.metrics.metric import Metric, Predicted, class_scores, label_logits

P = ParamSpec("P")
Sums = tuple[Tensor, "Tensor | int"]


@overload
def mean_of(sums: Callable[P, Sums]) -> Callable[P, Tensor]: ...


@overload
def mean_of(*, higher_is_better: bool) -> Callable[[Callable[P, Sums]], Callable[P, Tensor]]: ...


def mean_of(sums: Callable[..., Sums] | None = None, *, higher_is_better: bool | None = None) -> Any:
    """Decorator: turn a function that returns a sum and a count into one that returns their mean.

    A metric made of it adds up sums and counts, so its value is that of the whole pass however the batches were cut, even
    where what counts differs from batch to batch (ignored targets, the foreground of a mask).

    Args:
        sums: A function of predictions and targets that returns (sum, count).
        higher_is_better: Whether larger means are better; None leaves it open.

    Examples:
        >>> @mean_of
        ... def positive_share(pred, targ):
        ...     return (pred[targ > 0] > 0).sum(), (targ > 0).sum()
        >>> positive_share(torch.tensor([1.0, -1.0, 2.0]), torch.tensor([1, 1, 0]))
        tensor(0.5000)
    """

    if sums is None:
        return partial(mean_of, higher_is_better=higher_is_better)

    @wraps(sums)
    def mean(*args: Any, **kwargs: Any) -> Tensor:
        total, count = sums(*args, **kwargs)
        return total / count

    sums.__qualname__ = f"{sums.__qualname__}.sums"  # where pickle finds it
    mean.sums, mean.higher_is_better = sums, higher_is_better  # type: ignore[attr-defined]  # for AvgMetric
    mean.__signature__ = signature(sums).replace(return_annotation=Tensor)  # type: ignore[attr-defined]
    return mean


OF_CLASSES: list[Callable[..., Any]] = []
OF_LABELS: list[Callable[..., Any]] = []


def of_classes(func: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Decorator: the function is of one of several classes, so that in a learner a single output is read as for `OfClasses`.

    Args:
        func: A function of predictions, targets and the `axis` of the classes.
    """
    OF_CLASSES.append(func)
    return func


def of_labels(func: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Decorator: the function is of several labels, so that in a learner predictions are read as for `OfLabels`.

    Args:
        func: A function of predictions, targets and `sigmoid`: whether predictions are logits.
    """
    OF_LABELS.append(func)
    return func


class Mean(Metric):
    """Base of metrics that are a sum over a count; `update` calls `add`."""

    state = ("total", "count")
    total: Any
    count: Any

    def add(self, total: Tensor | float, count: Tensor | float) -> None:
        """Add a sum and a count. Whole numbers stay whole; others are kept in float64 where the device has it.

        Args:
            total: The sum over the batch.
            count: What it is divided by.
        """
        if isinstance(total, Tensor) and isinstance(self.total, Tensor):
            self.total = self.total + (total.detach() if total.requires_grad else total)
        else:
            self.total = self.total + (total if _is_whole(total) else wide(total))
        self.count = self.count + count

    def compute(self) -> Any:
        return wide(self.total) / self.count if isinstance(self.total, Tensor) or self.count else math.nan


def _is_whole(x: object) -> bool:
    return isinstance(x, Tensor) and x.dtype == torch.int64


class AvgMetric(Mean):
    """The mean of a function of each batch, weighted by the number of samples of the batch.

    This equals the function of the whole set for anything that is itself a mean over samples: accuracy, mean squared error.
    For anything else (F1, a root, a rank correlation) it is an approximation that depends on the batch size; use a metric by
    state, or `AccumMetric`. Functions decorated with `mean_of` are exact, whatever they count.

    Args:
        func: A function of predictions and targets that returns a number.
    """

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func, self._sums, self.higher_is_better = func, _sums_of(func), declared_direction(func)
        is_of_classes = any(innermost(func) is known for known in OF_CLASSES)
        self._class_axis = signature(func).parameters["axis"].default if is_of_classes else None
        is_of_labels = any(innermost(func) is known for known in OF_LABELS)
        self._takes_logits = is_of_labels and signature(func).parameters["sigmoid"].default

    def accumulate(self, learn: Predicted) -> None:
        pred = self.prediction(learn)
        if self._class_axis is not None:
            pred = class_scores(learn, self._class_axis)
        elif self._takes_logits:
            pred = label_logits(learn)
        self.update(pred, *learn.yb)

    def update(self, pred: Any, *targ: Any) -> None:
        if self._sums is not None:
            total, count = self._sums(pred, *targ)
        else:
            count = rows_of(targ or pred)
            value = self.func(pred, *targ)
            total = (value if isinstance(value, Tensor) and value.ndim == 0 else _number(value)) * count
        if isinstance(self.total, Tensor) and isinstance(total, Tensor) and not total.requires_grad:
            self.total, self.count = self.total + total, self.count + count  # as `add` does, 0.5 µs faster
        else:
            self.add(total, count)

    @property
    def name(self) -> str:
        return self._name or default_name(self.func)

    @name.setter
    def name(self, name: str) -> None:
        self._name = name


def _number(value: Any) -> Any:
    """What a function of one batch returned, if that is a number."""
    if isinstance(value, (Tensor, np.ndarray)) and math.prod(value.shape) == 1:
        return value.item()
    if isinstance(value, (int, float, np.number)):
        return value
    if value is None:
        raise BadValue("the function returned None", expected="a number", fix="does it end without `return`?")
    raise BadValue(
        "the function did not return a number",
        got=describe(value),
        expected="the mean over the samples of the batch",
        fix="return its mean(); for several numbers, pass a function for each",
    )


def _sums_of(func: Callable[..., Any]) -> Callable[..., Sums] | None:
    if isinstance(func, partial):
        inner = _sums_of(func.func)
        return None if inner is None else partial(inner, *func.args, **func.keywords)
    return getattr(func, "sums", None)


class AvgLoss(Mean):
    """The mean of the learner's loss, weighted by the number of samples of each batch."""

    _name = "loss"
    higher_is_better = False

    def accumulate(self, learn: Predicted) -> None:
        rows = rows_of(learn.yb or learn.xb)
        self.add(learn.loss.mean() * rows, rows)


class LossPart(Mean):
    """The mean of one part of the loss of a model that computes it itself, from the output's `losses`.

    Args:
        part: The name of the part.
    """

    higher_is_better = False

    def __init__(self, part: str) -> None:
        self.part = self._name = part

    def accumulate(self, learn: Predicted) -> None:
        rows = rows_of(learn.yb or learn.xb)
        self.add(learn.pred["losses"][self.part].mean() * rows, rows)


class AvgSmoothLoss(Metric):
    """The learner's loss smoothed over batches: beta * old + (1 - beta) * new, divided by 1 - beta^count.

    Merging takes the mean of both, weighted by their counts.

    Args:
        beta: Weight of the old average, in [0, 1).
    """

    state = ("average", "count")
    average: Any
    count: int
    _name = "train_loss"
    higher_is_better = False

    def __init__(self, beta: float = 0.98) -> None:
        self.beta = beta

    def accumulate(self, learn: Predicted) -> None:
        self.average = self.beta * self.average + (1 - self.beta) * wide(learn.loss.mean())
        self.count += 1

    def merge(self, other: Metric) -> None:
        if isinstance(other, AvgSmoothLoss) and other.count:
            mean = self.compute() if self.count else 0.0
            mean = (self.count * mean + other.count * other.compute()) / (self.count + other.count)
            self.count = max(self.count, other.count)
            self.average = mean * (1 - self.beta**self.count)

    def compute(self) -> Any:
        return self.average / (1 - self.beta**self.count)


class LossMetric(Mean):
    """The mean of a number that the loss keeps as an attribute, weighted by the number of samples of each batch.

    Args:
        attr: The attribute of `learn.loss_func`.
        nm: The name in tables; `attr` by default.

    Raises:
        BadArgument: When a batch is added: the loss has no such attribute.
    """

    def __init__(self, attr: str, nm: str | None = None) -> None:
        self.attr, self._name = attr, nm or attr

    def accumulate(self, learn: Predicted) -> None:
        rows = rows_of(learn.yb or learn.xb)
        if not hasattr(learn.loss_func, self.attr):
            raise BadArgument(
                f"the loss has no attribute '{self.attr}'",
                got=type(learn.loss_func).__name__,
                fix=f"set self.{self.attr} where the loss is computed",
            )
        self.add(getattr(learn.loss_func, self.attr) * rows, rows)


def LossMetrics(attrs: str | Iterable[str], nms: str | Iterable[str] | None = None) -> list[LossMetric]:
    """A `LossMetric` for each of several attributes.

    Args:
        attrs: The attributes: a list, or names separated by commas, "content,style".
        nms: The names in tables, likewise; the attributes by default.

    Examples:
        >>> [m.name for m in LossMetrics("content,style")]
        ['content', 'style']
    """
    attributes = _split(attrs)
    names = attributes if nms is None else _split(nms)
    return [LossMetric(attr, name) for attr, name in zip(attributes, names, strict=True)]


def _split(names: str | Iterable[str]) -> list[str]:
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


class ValueMetric(Metric):
    """A number that is kept elsewhere, read at the end of each pass; of several processes, the mean of theirs.

    Args:
        func: Called without arguments; returns the number.
        metric_name: The name in tables; the function's by default.
    """

    state = ("numbers",)
    numbers: tuple[Any, ...] = ()  # those of all processes, once they are merged

    def __init__(self, func: Callable[[], Any], metric_name: str | None = None) -> None:
        self.func, self._name = func, metric_name or default_name(func)

    def accumulate(self, learn: Predicted) -> None:
        """Nothing to add."""

    def update(self, pred: Any, *targ: Any) -> None:
        """Nothing to add."""

    def before_merge(self) -> None:
        number = self.func()
        self.numbers = () if number is None else (number,)

    @property
    def has_data(self) -> bool:
        return True

    def compute(self) -> Any:
        return sum(self.numbers) / len(self.numbers) if self.numbers else self.func()
