"""How an estimator compares outputs with targets: shapes, probabilities and weights of samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from layered.foundation import BadValue, describe, torch_loss
from layered.nn import own_meaning, per_sample_loss


class Criterion(nn.Module):
    """A loss as an estimator needs it.

    Numbers get the shape of the output, so that nothing is broadcast; probabilities get their logarithm where the loss takes
    logarithms; and samples may have weights, whose mean the loss then is.

    Args:
        loss: The loss that was asked for.
    """

    def __init__(self, loss: Callable[..., Any]) -> None:
        super().__init__()
        self.loss = loss
        self.takes = torch_loss(loss)

    def forward(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        output, target = self._logarithms(output), self._shaped(output, target)
        if weight is None:
            loss: Tensor = self.loss(output, target)
            return loss
        return (per_sample_loss(self.loss, output, [target]) * weight).sum() / weight.sum()

    def activation(self, output: Tensor) -> Tensor:
        """The predictions that an output stands for: probabilities, or numbers.

        Args:
            output: Of the module.
        """
        if self.takes is None:
            own = own_meaning(self.loss)
            return output if own is None else own.activation(output)
        if self.takes.outputs == "logits":
            return output.softmax(1) if self.takes.targets == "classes" else output.sigmoid()
        is_log = self.takes.outputs == "logs" and not are_probabilities(output)
        return output.exp() if is_log else output

    def _logarithms(self, output: Tensor) -> Tensor:
        if self.takes is None or self.takes.outputs != "logs" or not are_probabilities(output):
            return output
        return output.clamp_min(torch.finfo(output.dtype).tiny).log()

    def _shaped(self, output: Tensor, target: Tensor) -> Tensor:
        if self.takes is not None and self.takes.targets == "labels":
            target = target.to(output.dtype)
        if not target.is_floating_point() or output.shape == target.shape:
            return target
        if output.numel() != target.numel():
            raise BadValue(
                "the module's output and the targets differ in shape",
                got=f"{describe(output)} for {describe(target)}",
                expected="a number for each target of each row",
            )
        return target.reshape(output.shape)


def are_probabilities(output: Tensor) -> bool:
    """Whether rows are probabilities of classes already: [row, class], none below 0, and 1 in sum.

    Args:
        output: Of a module.
    """
    if output.ndim < 2 or output.shape[1] < 2:
        return False
    return bool((output >= 0).all()) and torch.allclose(output.sum(1), output.new_ones(()), atol=1e-3)
