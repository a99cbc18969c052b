"""Several targets at once: one loss for a model whose outputs are for one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from layered.foundation import BadValue, Recorded, losses as loss_registry


@loss_registry.register()
class MultiTaskLoss(Recorded):
    """The weighted sum of a loss for each target; the outputs of the model are cut into a part for each.

    `activation` and `decodes` give a tuple, a part for each target.

    Args:
        losses: A loss for each target.
        sizes: How many outputs each target takes.
        weights: A factor for each loss; 1 by default.

    Examples:
        >>> import torch; from torch import nn
        >>> loss = MultiTaskLoss([nn.CrossEntropyLoss(), nn.MSELoss()], [2, 1])
        >>> loss(torch.zeros(4, 3), torch.zeros(4).long(), torch.ones(4, 1))
        tensor(1.6931)
    """

    def __init__(
        self, losses: Sequence[Callable[..., Any]], sizes: Sequence[int], weights: Sequence[float] | None = None
    ) -> None:
        self.losses, self.sizes = list(losses), list(sizes)
        self.weights = [1.0] * len(self.losses) if weights is None else list(weights)
        if not self.losses or not len(self.losses) == len(self.sizes) == len(self.weights):
            raise BadValue(
                "there is not one loss, size and weight for each target",
                got=f"{len(self.losses)} losses, {len(self.sizes)} sizes, {len(self.weights)} weights",
            )

    def __call__(self, pred: Tensor, *targets: Tensor) -> Tensor:
        parts = zip(self.weights, self.losses, self.parts(pred), targets, strict=True)
        total: Tensor = sum(self._rows(w * loss(part, target)) for w, loss, part, target in parts)  # type: ignore[assignment]
        return total

    def _rows(self, loss: Tensor) -> Tensor:
        return loss if loss.ndim < 2 else loss.flatten(1).mean(1)

    def parts(self, pred: Tensor) -> tuple[Tensor, ...]:
        """The outputs for each target."""
        return torch.split(pred, self.sizes, dim=-1)

    @property
    def reduction(self) -> str:
        """That of the losses: "mean", "sum" or "none"; may be set."""
        return str(self.losses[0].reduction)  # type: ignore[attr-defined]

    @reduction.setter
    def reduction(self, value: str) -> None:
        for loss in self.losses:
            loss.reduction = value  # type: ignore[attr-defined]

    def activation(self, pred: Tensor) -> tuple[Tensor, ...]:
        """For each target what its loss makes of its outputs: probabilities, numbers, …"""
        return tuple(_apply(loss, "activation", part) for loss, part in zip(self.losses, self.parts(pred), strict=True))

    def decodes(self, pred: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """For each target its decision."""
        parts = pred if isinstance(pred, tuple) else self.parts(pred)
        return tuple(_apply(loss, "decodes", part) for loss, part in zip(self.losses, parts, strict=True))


def _apply(loss: object, name: str, part: Tensor) -> Tensor:
    function = getattr(loss, name, None)
    return part if function is None else function(part)
