"""Metrics by state: reset, update with each batch, and read the value at the end.

    class Accuracy(Metric):
        state = "right", "seen"

        def update(self, pred, targ):
            self.right += (pred.argmax(-1) == targ).sum()
            self.seen += len(targ)

        def compute(self):
            return self.right / self.seen

Sums do not depend on how the data were cut into batches, or shared out over processes. They stay on the device of the batch:
`update` never waits for it, reading `value` does.
"""

from __future__ import annotations

import copy
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from layered.foundation.errors import BadArgument, BadValue
from layered.foundation.tensors import plain
from layered.foundation.tree import find_bs


class Metric:
    """One number about all predictions of a pass.

    state      names of attributes that start at 0 (or at what the class sets them to, as `()`), and that are joined
               with `+` when two metrics are merged

    A derived class gives `update` and `compute`. The older way, `accumulate(learn)` with `value` and `reset`, works too.
    Arithmetic, indexing and torch's functions make new metrics: `2 * p * r / (p + r)`, `torch.sqrt(m)`.
    Called with all predictions and targets, a metric gives their value and stays as it is.
    """

    state: ClassVar[tuple[str, ...]] = ()
    _name: str | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in cls.__dict__.get("state", ()):
            if not hasattr(cls, name):
                setattr(cls, name, 0)

    def reset(self) -> None:
        """Forget everything seen."""
        for name in self.state:
            self.__dict__.pop(name, None)

    def update(self, pred: Any, *targ: Any) -> None:
        """Take in the predictions and the targets of one batch."""
        raise NotImplementedError(f"{type(self).__name__} needs update(self, pred, targ), or accumulate(self, learn)")

    def accumulate(self, learn: Any) -> None:
        """Take in the batch that a learner has just predicted."""
        self.update(learn.pred, *learn.yb)

    def compute(self) -> Any:
        """The value, as a tensor or a number, from the state."""
        raise NotImplementedError(f"{type(self).__name__} needs compute(self), or a property `value`")

    @property
    def value(self) -> Any:
        """The value as a float (a tensor, where it is more than one number); None before the first batch."""
        return _as_number(self.compute()) if self.has_data else None

    @property
    def has_data(self) -> bool:
        """Whether anything came in since the last `reset`."""
        return not self.state or any(name in self.__dict__ for name in self.state)

    @property
    def name(self) -> str:
        """What it is called in tables: the class's name in snake case without "Metric", unless set."""
        return self._name or _snake(type(self).__name__.removesuffix("Metric") or "metric")

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    def merge(self, other: Metric) -> None:
        """Add what `other`, a metric of the same settings, has seen (in another process, or over other batches)."""
        if not self.state:
            raise NotImplementedError(f"{type(self).__name__} names no `state`, so it needs merge(self, other)")
        for name in self.state if other.has_data else ():
            ours, theirs = getattr(self, name), getattr(other, name)
            if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
                theirs = theirs.to(ours.device)
            setattr(self, name, ours + theirs)

    def clone(self) -> Self:
        """A metric of the same settings that has seen nothing."""
        return self._copied({})

    def _copied(self, memo: dict[int, Metric]) -> Self:
        """A copy, in which parts that were shared are shared again; `memo` holds those that are copied already."""
        if id(self) not in memo:
            memo[id(self)] = self._fresh(memo)
        return memo[id(self)]  # type: ignore[return-value]  # the copy of self

    def _fresh(self, memo: dict[int, Metric]) -> Self:
        new = copy.copy(self)
        new.reset()
        return new

    def parts(self) -> Iterator[Metric]:
        """The metrics that take in batches: itself, or those that an expression is made of."""
        yield self

    def __call__(self, pred: Any, *targ: Any) -> Any:
        fresh = self.clone()
        for part in unique_parts([fresh]):
            part.update(pred, *targ)
        return fresh.value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Expression:
        name = f"{func.__name__}({', '.join(map(_text, args))})"
        return Expression(partial(func, **kwargs) if kwargs else func, args, name)

    def __add__(self, other: Any) -> Expression:
        return _binary(operator.add, "+", self, other)

    def __radd__(self, other: Any) -> Expression:
        return _binary(operator.add, "+", other, self)

    def __sub__(self, other: Any) -> Expression:
        return _binary(operator.sub, "-", self, other)

    def __rsub__(self, other: Any) -> Expression:
        return _binary(operator.sub, "-", other, self)

    def __mul__(self, other: Any) -> Expression:
        return _binary(operator.mul, "*", self, other)

    def __rmul__(self, other: Any) -> Expression:
        return _binary(operator.mul, "*", other, self)

    def __truediv__(self, other: Any) -> Expression:
        return _binary(operator.truediv, "/", self, other)

    def __rtruediv__(self, other: Any) -> Expression:
        return _binary(operator.truediv, "/", other, self)

    def __pow__(self, other: Any) -> Expression:
        return _binary(operator.pow, "**", self, other)

    def __neg__(self) -> Expression:
        return Expression(operator.neg, (self,), f"-{_text(self)}")

    def __getitem__(self, index: Any) -> Expression:
        return Expression(operator.getitem, (self, index), f"{_text(self)}[{index}]")

    __iter__ = None  # indexing works without end, so iterating would not stop


class Expression(Metric):
    """A metric computed from others; a part that stands in it twice takes in each batch once.

    Divisions by zero give inf or nan, as for tensors. Set `name` for a shorter one.
    """

    def __init__(self, func: Callable[..., Any], operands: Sequence[Any], name: str) -> None:
        self.func, self.operands, self._name = func, tuple(operands), name

    def parts(self) -> Iterator[Metric]:
        for operand in self.operands:
            if isinstance(operand, Metric):
                yield from operand.parts()

    def reset(self) -> None:
        for part in unique_parts([self]):
            part.reset()

    def update(self, pred: Any, *targ: Any) -> None:
        for part in unique_parts([self]):
            part.update(pred, *targ)

    def accumulate(self, learn: Any) -> None:
        for part in unique_parts([self]):
            part.accumulate(learn)

    def merge(self, other: Metric) -> None:
        for ours, theirs in zip(unique_parts([self]), unique_parts([other]), strict=True):
            ours.merge(theirs)

    @property
    def has_data(self) -> bool:
        return all(part.has_data for part in unique_parts([self]))

    def compute(self) -> Any:
        return self.func(*(_operand(operand) for operand in self.operands))

    def _fresh(self, memo: dict[int, Metric]) -> Self:
        new = copy.copy(self)
        new.operands = tuple(o._copied(memo) if isinstance(o, Metric) else o for o in self.operands)
        return new


class AvgMetric(Metric):
    """The mean of a function of each batch, weighted by the batch's number of samples.

    This is the function of the whole set for anything that is itself a mean over samples: accuracy, mean squared error.
    For anything else (F1, a root, a rank correlation) it is an approximation that changes with the batch size; use a
    metric by state, or `AccumMetric`.
    """

    state = ("total", "count")
    total: Any
    count: int

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    def update(self, pred: Any, *targ: Any) -> None:
        rows, value = find_bs(targ if targ else pred), self.func(pred, *targ)
        if isinstance(self.total, Tensor) and isinstance(value, Tensor):
            self.total = torch.add(self.total, value.detach(), alpha=rows)  # in the precision of the total
        else:
            self.total = self.total + wide(value) * rows
        self.count += rows

    def compute(self) -> Any:
        return self.total / self.count

    @property
    def name(self) -> str:
        return self._name or function_name(self.func)

    @name.setter
    def name(self, name: str) -> None:
        self._name = name


class ValueMetric(Metric):
    """A number that something else keeps: `func()`, read at the end of each pass.

    metric_name   its name in tables; the function's by default
    """

    def __init__(self, func: Callable[[], Any], metric_name: str | None = None) -> None:
        self.func, self._name = func, metric_name or function_name(func)

    def accumulate(self, learn: Any) -> None:
        """Nothing to take in."""

    def update(self, pred: Any, *targ: Any) -> None:
        """Nothing to take in."""

    def compute(self) -> Any:
        return self.func()


class Adapted(Metric):
    """A metric object of another library that has `update(pred, targ)`, `compute()` and `reset()`, as torchmetrics' do."""

    def __init__(self, metric: Any) -> None:
        self.metric, self._seen = metric, False
        self._name = _snake(type(metric).__name__)

    def reset(self) -> None:
        self._seen = False
        self.metric.reset()

    def update(self, pred: Any, *targ: Any) -> None:
        if not self._seen and isinstance(pred, Tensor) and hasattr(self.metric, "to"):
            self.metric.to(pred.device)
        self._seen = True
        self.metric.update(pred, *targ)

    @property
    def has_data(self) -> bool:
        return self._seen

    def compute(self) -> Any:
        return self.metric.compute()

    def _fresh(self, memo: dict[int, Metric]) -> Self:
        new = copy.copy(self)
        new.metric = copy.deepcopy(self.metric)
        new.reset()
        return new


def mk_metric(m: Any) -> Any:
    """A metric of `m`: a `Metric`, its class, a function of (predictions, targets), or a torchmetrics object.

    raises     BadArgument for anything else
    """
    if isinstance(m, type):
        m = m()
    if isinstance(m, Metric) or all(hasattr(m, name) for name in ("reset", "accumulate", "value")):
        return m
    if all(callable(getattr(m, name, None)) for name in ("reset", "update", "compute")):
        return Adapted(m)
    if callable(m):
        return AvgMetric(m)
    raise BadArgument(
        "this cannot be used as a metric",
        got=repr(m),
        expected="a function of (predictions, targets), a Metric or its class, or a torchmetrics metric",
    )


def unique_parts(metrics: Iterable[Any]) -> list[Any]:
    """What takes in batches for these metrics, each once."""
    parts = (part for m in metrics for part in (m.parts() if isinstance(m, Metric) else (m,)))
    return list({id(part): part for part in parts}.values())


class MetricSet:
    """Several metrics of one learner: own copies of what was given, and parts that they share updated once a batch."""

    def __init__(self, metrics: Iterable[Any]) -> None:
        memo: dict[int, Metric] = {}
        made = [mk_metric(m) for m in metrics]
        self.metrics = [m._copied(memo) if isinstance(m, Metric) else m for m in made]
        self._parts = unique_parts(self.metrics)

    def reset(self) -> None:
        """Forget everything seen."""
        for part in self._parts:
            part.reset()

    def update(self, pred: Any, *targ: Any) -> None:
        """Take in one batch."""
        for part in self._parts:
            part.update(pred, *targ)

    def accumulate(self, learn: Any) -> None:
        """Take in the batch that a learner has just predicted."""
        for part in self._parts:
            part.accumulate(learn)

    @property
    def names(self) -> list[str]:
        """The name of each metric."""
        return [m.name for m in self.metrics]

    @property
    def values(self) -> list[Any]:
        """The value of each metric."""
        return [m.value for m in self.metrics]

    def __len__(self) -> int:
        return len(self.metrics)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.metrics)


def wide(x: Any) -> Any:
    """A tensor without history, in float64 where its device has it, so that long sums stay exact; numbers as they are."""
    if not isinstance(x, Tensor):
        return x
    return plain(x).detach().to(torch.float32 if x.device.type == "mps" else torch.float64)


def function_name(func: Any) -> str:
    """The name of a function, also inside `partial`; of other callables, their class's in snake case."""
    while isinstance(func, partial):
        func = func.func
    return str(getattr(func, "__name__", None) or _snake(type(func).__name__))


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def flatten_check(pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
    """Both as plain vectors; raises BadValue if they do not have the same number of elements."""
    pred, targ = plain(pred), plain(targ)
    if pred.ndim != 1 or targ.ndim != 1:
        pred, targ = pred.reshape(-1), targ.reshape(-1)
    if len(pred) != len(targ):
        raise BadValue(
            "predictions and targets do not have the same number of elements",
            got=f"{len(pred)} predictions, {len(targ)} targets",
            fix="check the metric's axis, and the number of outputs of the model",
        )
    return pred, targ


def _binary(func: Callable[..., Any], sign: str, a: Any, b: Any) -> Expression:
    return Expression(func, (a, b), f"{_text(a)} {sign} {_text(b)}")


def _text(operand: Any) -> str:
    if not isinstance(operand, Metric):
        return str(operand)
    return f"({operand.name})" if isinstance(operand, Expression) and " " in operand.name else operand.name


def _operand(operand: Any) -> Any:
    if not isinstance(operand, Metric):
        return operand
    value = operand.compute()
    return wide(value) if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def _as_number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) and value.ndim == 0 else value
