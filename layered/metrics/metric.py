"""Metrics by state: reset, update with each batch, and read the value at the end.

    class Accuracy(Metric):
        state = "right", "seen"

        def update(self, pred, targ):
            self.right += (pred.argmax(-1) == targ).sum()
            self.seen += len(targ)

        def compute(self):
            return self.right / self.seen

Sums depend neither on how the data was cut into batches nor on how it was shared among processes. They stay on the device
of the batch: `update` never waits for it, reading `value` does.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from layered.foundation import BadArgument, LayeredError, in_two_columns, is_single, snake_case, takes_probabilities
from layered.metrics.inputs import describe_batch, floats, wide


class Predicted(Protocol):
    """What metrics read of a learner: the batch that it has just predicted."""

    @property
    def xb(self) -> Any: ...
    @property
    def yb(self) -> tuple[Any, ...]: ...
    @property
    def pred(self) -> Any: ...
    @property
    def loss(self) -> Any: ...
    @property
    def loss_func(self) -> Any: ...


class Metric:
    """One number about all predictions of a pass.

    A subclass defines `update` and `compute`. The older way, `accumulate(learn)` with `value` and `reset`, works too.
    Arithmetic, indexing and torch's functions make new metrics: `2 * p * r / (p + r)`, `torch.sqrt(m)`.
    Calling a metric with all predictions and targets returns their value and leaves the metric unchanged.

    Attributes:
        state: Names of attributes that start at 0 (or at what the class sets them to, such as `()`), and are joined with `+`
            when two metrics are merged.
        higher_is_better: Whether larger values are better; None where that is not known, and what watches the metric asks for
            `comp=`. Set it on a class, or on a metric.

    Raises:
        BadArgument: When a subclass is defined whose `state` is not a tuple of names, or starts at a mutable value.

    Examples:
        >>> class Bias(Metric):
        ...     state = "total", "count"
        ...     def update(self, pred, targ):
        ...         self.total += (pred - targ).sum()
        ...         self.count += len(targ)
        ...     def compute(self):
        ...         return self.total / self.count
        >>> Bias()(torch.tensor([2.0, 4.0]), torch.tensor([1.0, 1.0])), abs(-Bias()).name
        (2.0, 'abs(-bias)')
    """

    state: ClassVar[tuple[str, ...]] = ()
    higher_is_better: bool | None = None
    _name: str | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        names = cls.__dict__.get("state", ())
        if isinstance(names, str):
            raise BadArgument(f"{cls.__name__}.state must be a tuple of names", got=names, fix=f"state = ({names!r},)")
        for name in names:
            if not hasattr(cls, name):
                setattr(cls, name, 0)
            elif isinstance(getattr(cls, name), (list, dict, set, Tensor)):
                raise BadArgument(
                    f"{cls.__name__}.{name} would be shared by all metrics of the class",
                    got=type(getattr(cls, name)).__name__,
                    fix="start sums at 0 (0 + tensor is a tensor), and collections at ()",
                )

    def reset(self) -> None:
        """Forget everything seen."""
        for name in self.state:
            self.__dict__.pop(name, None)

    def update(self, pred: Any, *targ: Any) -> None:
        """Add one batch.

        Args:
            pred: The predictions of the batch.
            targ: Its targets.
        """
        raise NotImplementedError(f"{type(self).__name__} needs update(self, pred, targ), or accumulate(self, learn)")

    def accumulate(self, learn: Predicted) -> None:
        """Add the batch that a learner has just predicted.

        Args:
            learn: The learner.
        """
        self.update(self.prediction(learn), *learn.yb)

    def prediction(self, learn: Predicted) -> Any:
        """The prediction of a learner.

        Args:
            learn: The learner.

        Raises:
            BadArgument: It has none, because its `step` does not set it.
        """
        if learn.pred is None:
            raise BadArgument(
                f"the metric '{self.name}' needs predictions, and `step` gives none",
                expected="a step that sets loop.pred",
                fix="def step(loop, batch): loop.pred = loop.model(batch[0]); return loss(loop.pred, batch[1])",
            )
        return learn.pred

    def compute(self) -> Any:
        """The value, as a tensor or a number, from the state."""
        raise NotImplementedError(f"{type(self).__name__} needs compute(self), or a property `value`")

    @property
    def value(self) -> Any:
        """The value as a float (a tensor if it is more than one number); None before the first batch."""
        return _as_number(self.compute()) if self.has_data else None

    @property
    def has_data(self) -> bool:
        """Whether a batch was added since the last `reset`."""
        return not self.state or any(name in self.__dict__ for name in self.state)

    @property
    def name(self) -> str:
        """The name in tables: the class's in snake case without "Metric", unless set."""
        return self._name or snake_case(type(self).__name__.removesuffix("Metric") or "metric")

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    def before_merge(self) -> None:
        """Called in each process before what it has seen is merged with that of the others."""

    def merge(self, other: Metric) -> None:
        """Add what another metric has seen: in another process, or over other batches.

        Args:
            other: A metric with the same settings.
        """
        if not self.state:
            raise NotImplementedError(f"{type(self).__name__} declares no `state`, so it needs merge(self, other)")
        for name in self.state if other.has_data else ():
            mine, added = getattr(self, name), getattr(other, name)
            if isinstance(mine, Tensor) and isinstance(added, Tensor):
                added = added.to(mine.device)
            setattr(self, name, mine + added)

    def clone(self) -> Self:
        """A metric with the same settings that has seen nothing."""
        return self.copied({})

    def copied(self, memo: dict[Hashable, Metric]) -> Self:
        """A clone whose shared parts are shared again.

        Args:
            memo: The clones made so far, by identity.
        """
        key = self.identity()
        if key not in memo:
            memo[key] = self._fresh(memo)
        return memo[key]  # type: ignore[return-value]  # the clone of self, or of its equal

    def identity(self) -> Hashable:
        """What tells metrics apart in one learner; a subclass that knows when two of them count the same lets them be equal."""
        return id(self)

    def _fresh(self, memo: dict[Hashable, Metric]) -> Self:
        # a metric with a `reset` of its own may keep mutable state in other attributes: those must not be shared
        by_state = type(self).reset is Metric.reset
        new = copy.copy(self) if by_state else copy.deepcopy(self)
        new.reset()
        return new

    def parts(self) -> Iterator[Metric]:
        """The metrics that batches are added to: itself, or the parts of an expression."""
        yield self

    def __call__(self, pred: Any, *targ: Any) -> Any:
        fresh = self.clone()
        try:
            for part in unique_parts([fresh]):
                part.update(pred, *targ)
            return fresh.value
        except Exception as error:
            say_where(error, self.name, pred, *targ)
            raise

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Expression:
        return _applied(partial(func, **kwargs) if kwargs else func, func.__name__, *args)

    def __add__(self, other: object) -> Expression:
        return _binary(operator.add, self, other)

    def __radd__(self, other: object) -> Expression:
        return _binary(operator.add, other, self)

    def __sub__(self, other: object) -> Expression:
        return _binary(operator.sub, self, other)

    def __rsub__(self, other: object) -> Expression:
        return _binary(operator.sub, other, self)

    def __mul__(self, other: object) -> Expression:
        return _binary(operator.mul, self, other)

    def __rmul__(self, other: object) -> Expression:
        return _binary(operator.mul, other, self)

    def __truediv__(self, other: object) -> Expression:
        return _binary(operator.truediv, self, other)

    def __rtruediv__(self, other: object) -> Expression:
        return _binary(operator.truediv, other, self)

    def __pow__(self, other: object) -> Expression:
        return _binary(operator.pow, self, other)

    def __rpow__(self, other: object) -> Expression:
        return _binary(operator.pow, other, self)

    def __neg__(self) -> Expression:
        binds = _BINDS["**"]
        turned = None if self.higher_is_better is None else not self.higher_is_better
        return Expression(operator.neg, (self,), f"-{_text(self, binds)}", binds, higher_is_better=turned)

    def __abs__(self) -> Expression:
        return _applied(operator.abs, "abs", self)

    def __getitem__(self, index: object) -> Expression:
        name = f"{_text(self)}[{index}]"
        return Expression(operator.getitem, (self, index), name, higher_is_better=self.higher_is_better)

    __iter__ = None  # any index is accepted, so Python's fallback iteration by index would never stop


class OfClasses(Metric):
    """Base of metrics of one of several classes: in a learner, a single output becomes scores of two classes.

    Its loss says whether that output is a logit or a probability, which the numbers of one batch cannot.

    Attributes:
        axis: The class axis of the predictions.
    """

    axis: int = -1

    def accumulate(self, learn: Predicted) -> None:
        self.prediction(learn)
        self.update(class_scores(learn, self.axis), *learn.yb)


def class_scores(learn: Predicted, axis: int) -> Any:
    """The predictions of a learner, a single output as scores of two classes.

    Args:
        learn: The learner.
        axis: The class axis.
    """
    pred = learn.pred
    if not isinstance(pred, Tensor) or not is_single(pred, axis):
        return pred
    return in_two_columns(pred, learn.loss_func, axis)


class OfLabels(Metric):
    """Base of metrics of several labels, any number of which may apply, of logits unless `sigmoid` is off.

    In a learner whose loss takes probabilities, such as `nn.BCELoss`, predictions are read as these.

    Attributes:
        sigmoid: Predictions are logits.
    """

    sigmoid: bool

    def accumulate(self, learn: Predicted) -> None:
        pred = self.prediction(learn)
        self.update(label_logits(learn) if self.sigmoid else pred, *learn.yb)


def label_logits(learn: Predicted) -> Any:
    """The predictions of a learner; those of a loss that takes probabilities of labels as logits.

    Args:
        learn: The learner.
    """
    pred = learn.pred
    return floats(pred).logit() if isinstance(pred, Tensor) and takes_probabilities(learn.loss_func) else pred


class Expression(Metric):
    """A metric computed from others; a part that occurs twice gets each batch once.

    Divisions by zero give inf or nan, as for tensors. Set `name` for a shorter one.

    Args:
        func: Called with the values of `operands` (as tensors in float64).
        operands: Metrics, and other values, which are passed unchanged.
        name: The name in tables.
        binds: Precedence of its operator, for parentheses in longer names.
        higher_is_better: See `Metric`; None leaves what the class declares.
    """

    def __init__(
        self,
        func: Callable[..., Any],
        operands: Sequence[Any],
        name: str | None,
        binds: int = 9,
        *,
        higher_is_better: bool | None = None,
    ) -> None:
        self.func, self.operands, self._name, self.binds = func, tuple(operands), name, binds
        if higher_is_better is not None:
            self.higher_is_better = higher_is_better

    @property
    def name(self) -> str:
        return super().name

    @name.setter
    def name(self, name: str) -> None:
        self._name, self.binds = name, 9

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

    def accumulate(self, learn: Predicted) -> None:
        for part in unique_parts([self]):
            part.accumulate(learn)

    def merge(self, other: Metric) -> None:
        for part, added in zip(unique_parts([self]), unique_parts([other]), strict=True):
            part.merge(added)

    @property
    def has_data(self) -> bool:
        return all(part.has_data for part in unique_parts([self]))

    def compute(self) -> Any:
        return self.func(*(_operand(operand) for operand in self.operands))

    def _fresh(self, memo: dict[Hashable, Metric]) -> Self:
        new = copy.copy(self)
        new.operands = tuple(o.copied(memo) if isinstance(o, Metric) else o for o in self.operands)
        return new


def unique_parts(metrics: Iterable[Metric]) -> list[Metric]:
    """The metrics that batches have to be added to, each once.

    Args:
        metrics: Metrics that may share parts.
    """
    return list({id(part): part for m in metrics for part in m.parts()}.values())


def say_where(error: Exception, name: str, *given: object) -> None:
    """Add to an error the name of the metric that raised it.

    Args:
        error: The error.
        name: Of the metric.
        given: The predictions and targets, if it was raised by a batch.
    """
    if isinstance(error, LayeredError):
        error.problem = f"metric '{name}': {error.problem}"
    elif given:
        error.add_note(
            f"in metric '{name}', given predictions {describe_batch(given[0])} and targets {describe_batch(given[1:])}; "
            "a metric sees the model's raw outputs and the targets of one batch"
        )
    else:
        error.add_note(f"in metric '{name}', computing its value")


_SIGNS: dict[Callable[..., Any], str] = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/", operator.pow: "**",
}  # fmt: skip
_BINDS = {"+": 1, "-": 1, "*": 2, "/": 2, "**": 3}


def _binary(func: Callable[..., Any], a: object, b: object) -> Expression:
    sign = _SIGNS[func]
    binds = _BINDS[sign]
    left, right = (binds + 1, binds) if sign == "**" else (binds, binds + 1)
    return Expression(func, (a, b), f"{_text(a, left)} {sign} {_text(b, right)}", binds)


def _applied(func: Callable[..., Any], name: str, *args: object) -> Expression:
    return Expression(func, args, f"{name}({', '.join(_text(o, 0) for o in args)})")


def _text(operand: object, binds: int = 9) -> str:
    if not isinstance(operand, Metric):
        return str(operand)
    return f"({operand.name})" if isinstance(operand, Expression) and operand.binds < binds else operand.name


def _operand(operand: object) -> object:
    if not isinstance(operand, Metric):
        return operand
    value = operand.value
    return wide(value) if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def _as_number(value: object) -> object:
    return value.item() if isinstance(value, (Tensor, np.ndarray, np.generic)) and value.ndim == 0 else value
