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
        output, target = self.taken(output), self._shaped(output, target)
        if weight is None:
            loss: Tensor = self.loss(output, target)
            return loss
        total = weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)  # a batch may have no weight at all
        return (per_sample_loss(self.loss, output, [target]) * weight).sum() / total

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

    def taken(self, output: Tensor) -> Tensor:
        """An output as the loss takes it: the logarithm of probabilities, for a loss of logarithms.

        Args:
            output: Of the module.

        Raises:
            BadValue: The loss takes logarithms of probabilities, and these are neither those nor probabilities.
        """
        if self.takes is None or self.takes.outputs != "logs":
            return output
        if are_probabilities(output):
            return output.clamp_min(torch.finfo(output.dtype).tiny).log()
        if self.takes.targets == "classes" and output.ndim == 2 and are_scores(output):
            raise BadValue(
                f"{type(self.loss).__name__} takes probabilities or their logarithms, and the module returns scores",
                got=f"a row {output[0].tolist()}",
                fix="end the module with nn.Softmax(dim=-1), or pass criterion=nn.CrossEntropyLoss",
            )
        return output

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


def are_scores(output: Tensor) -> bool:
    """Whether rows are neither logarithms of probabilities nor the numbers of a network that has diverged.

    Args:
        output: Of a module, [row, class].
    """
    return not output.isnan().any() and bool((output.logsumexp(1).abs() > 0.1).any())
