"""One loss for several targets, for a model that returns an output for each, or concatenates them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from layered.foundation import BadValue, Recorded, as_torch_expects, describe, losses as loss_registry
from layered.nn.outputs import meaning


@loss_registry.register()
class MultiTaskLoss(Recorded):
    """The weighted sum of one loss per target.

    The model returns a tuple with an output for each, such as a mask and points; or one tensor, whose last axis is split.
    `activation` and `decodes` return a tuple with a part for each target.

    Args:
        losses: The loss of each target.
        sizes: The number of outputs of each target, into which the last axis is split; None for a model that returns a tuple.
        weights: The factor of each loss; 1 by default.

    Raises:
        BadValue: If `losses` is empty, or `sizes`, `weights` or the model's outputs differ from it in length.

    Examples:
        >>> import torch; from torch import nn
        >>> loss = MultiTaskLoss([nn.CrossEntropyLoss(), nn.MSELoss()], [2, 1])
        >>> loss(torch.zeros(4, 3), torch.zeros(4).long(), torch.ones(4, 1))
        tensor(1.6931)
    """

    def __init__(
        self,
        losses: Sequence[Callable[..., Any]],
        sizes: Sequence[int] | None = None,
        weights: Sequence[float] | None = None,
    ) -> None:
        self.losses, self.sizes = list(losses), None if sizes is None else list(sizes)
        self.weights = [1.0] * len(self.losses) if weights is None else list(weights)
        counts = {len(self.losses), len(self.losses if self.sizes is None else self.sizes), len(self.weights)}
        if not self.losses or len(counts) > 1:
            raise BadValue(
                "each target needs one loss, one size and one weight",
                got=f"{len(self.losses)} losses, {'no' if self.sizes is None else len(self.sizes)} sizes, "
                f"{len(self.weights)} weights",
                fix="MultiTaskLoss([CrossEntropyLossFlat(), MSELossFlat()], [num_classes, 1])",
            )

    def __call__(self, pred: Tensor | Sequence[Tensor], *targets: Tensor) -> Tensor:
        tasks = self.tasks(pred, targets)
        total: Tensor = sum(_per_sample(w * loss(part, target), len(target)) for w, loss, part, target in tasks)  # type: ignore[assignment]
        return total

    def tasks(self, pred: Any, targets: Sequence[Any]) -> Iterator[tuple[float, Callable[..., Any], Tensor, Any]]:
        """For each target: the weight, the loss, the outputs of the model, and the target in the form that the loss takes."""
        for weight, loss, part, target in zip(self.weights, self.losses, self.parts(pred), targets, strict=True):
            (expected,) = as_torch_expects(loss, part, (target,))
            yield weight, loss, part, expected

    def parts(self, pred: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The outputs of each target: [batch, …, size]."""
        if self.sizes is not None and isinstance(pred, Tensor):
            return torch.split(pred, self.sizes, dim=-1)
        if isinstance(pred, (tuple, list)) and len(pred) == len(self.losses):
            return tuple(pred)
        raise BadValue(
            "the model's outputs do not match the losses",
            got=f"{describe(pred)}; {len(self.losses)} losses, sizes={self.sizes}",
            expected="a tuple with an output for each loss, or one tensor, and sizes=",
        )

    @property
    def reduction(self) -> str:
        """The reduction of the losses: "mean", "sum" or "none". Setting it sets that of each."""
        return str(self.losses[0].reduction)  # type: ignore[attr-defined]

    @reduction.setter
    def reduction(self, value: str) -> None:
        for loss in self.losses:
            loss.reduction = value  # type: ignore[attr-defined]

    def activation(self, pred: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The activated outputs of each target, as its loss says: probabilities, numbers, …"""
        return tuple(meaning(loss).activation(part) for loss, part in zip(self.losses, self.parts(pred), strict=True))

    def decodes(self, pred: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The decision for each target, as its loss says: classes, numbers, …

        Args:
            pred: The model's outputs, or the parts that `activation` returned.
        """
        parts = pred if isinstance(pred, tuple) else self.parts(pred)
        return tuple(meaning(loss).decodes(part) for loss, part in zip(self.losses, parts, strict=True))


def _per_sample(loss: Tensor, samples: int) -> Tensor:
    """An unreduced loss as one number per sample, so that losses of different shapes add up; a reduced one as it is."""
    return loss if not loss.ndim else loss.reshape(samples, -1).mean(1)
