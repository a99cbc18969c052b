"""Values that a model logs batch by batch, combined into one for each pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from layered.foundation import BadArgument, describe, unknown_name
from layered.loop import Numbers, gathered

REDUCTIONS = ("mean", "sum", "min", "max", "last", "all")
Parts: TypeAlias = dict[str, tuple[Annotated[str, REDUCTIONS.__contains__], list[Numbers]]]
"""For each name how its values are combined, and what is known of them so far."""


@runtime_checkable
class Computed(Protocol):
    """A metric of torchmetrics."""

    def compute(self) -> Any: ...
    def reset(self) -> object: ...


class Logged:
    """The values of one pass by name. Nothing waits for the device until the pass is over."""

    def __init__(self) -> None:
        self.parts: Parts = {}
        self.metrics: dict[str, Computed] = {}
        self.functions: dict[str, Callable[[Tensor], Any]] = {}

    def add(self, name: str, value: Any, reduction: str | Callable[[Tensor], Any] = "mean", weight: int = 1) -> None:
        """Add the value of a batch.

        Args:
            name: Its name.
            value: A number, a tensor of one, or a metric of torchmetrics, whose value is computed when the pass is over.
            reduction: "mean", "sum", "min", "max", "last", or a function of a tensor of all values.
            weight: How many samples the value is of.

        Raises:
            BadArgument: The value is not a number.
            UnknownName: There is no such reduction.
        """
        if isinstance(value, Computed):
            self.metrics[name] = value
            return
        if not isinstance(value, (int, float, Tensor)) or (isinstance(value, Tensor) and value.numel() != 1):
            raise BadArgument(
                f"the value logged as '{name}' is not a number",
                got=describe(value),
                expected="a number, a tensor of one, or a metric of torchmetrics",
                fix=f'log("{name}", value.mean())' if isinstance(value, Tensor) else None,
            )
        if not isinstance(reduction, str):
            self.functions[name], reduction = reduction, "all"
        elif reduction not in REDUCTIONS[:5]:
            raise unknown_name("reduction", reduction, REDUCTIONS[:5])
        value = value.detach().clone().reshape(()) if isinstance(value, Tensor) else float(value)
        more = [value * weight, weight] if reduction == "mean" else [value]
        self.parts[name] = reduction, _joined(reduction, self.parts.get(name, (reduction, []))[1], more)

    def take(self) -> dict[str, float]:
        """The value of each name over all processes, which all must ask for it; the pass is then forgotten."""
        merged, *others = gathered(self.parts)
        for other in others:
            for name, (kind, more) in other.items():
                merged[name] = kind, _joined(kind, merged.get(name, (kind, []))[1], more)
        values = {name: self._value(name, *part) for name, part in merged.items()}
        for name, metric in self.metrics.items():
            values[name] = float(metric.compute())
        for metric in self.metrics.values():  # at the end, since one may have several names
            metric.reset()
        self.__init__()  # type: ignore[misc]  # as it was made
        return values

    def _value(self, name: str, reduction: str, known: list[Any]) -> float:
        if reduction == "mean":
            return float(known[0] / known[1])
        if reduction == "all":
            return float(self.functions[name](torch.stack([torch.as_tensor(one) for one in known])))
        return float(known[0])


def _joined(reduction: str, known: list[Any], more: list[Any]) -> list[Any]:
    """What is known of the values of a name, with more of them."""
    if not known or not more or reduction == "last":
        return more or known
    if reduction == "all":
        return [*known, *more]
    if reduction in ("min", "max"):
        return [(min if reduction == "min" else max)(known[0], more[0])]
    return [one + another for one, another in zip(known, more, strict=True)]
