"""Activations that torch does not have, and the known short names of those it has."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layered.foundation.registry import modules
from layered.nn.layers import Module

swish, mish = F.silu, F.mish
Swish = SwishJit = nn.SiLU
Mish = MishJit = nn.Mish


def sigmoid(input: Tensor, eps: float = 1e-7) -> Tensor:
    """A sigmoid that stays within [eps, 1 - eps], so that its logarithm is finite."""
    return input.sigmoid().clamp(eps, 1 - eps)


def sigmoid_(input: Tensor, eps: float = 1e-7) -> Tensor:
    """`sigmoid`, in place."""
    return input.sigmoid_().clamp_(eps, 1 - eps)


def vleaky_relu(input: Tensor, inplace: bool = True) -> Tensor:
    """A leaky ReLU with slope 0.3."""
    return F.leaky_relu(input, 0.3, inplace=inplace)


def inplace_relu() -> nn.ReLU:
    """A ReLU that writes over its input; for `act_cls=`."""
    return nn.ReLU(inplace=True)


def sigmoid_range(x: Tensor, low: float, high: float) -> Tensor:
    """A sigmoid that goes from `low` to `high`.

    >>> sigmoid_range(torch.zeros(1), 0, 5.5)
    tensor([2.7500])
    """
    return torch.sigmoid(x) * (high - low) + low


@modules.register()
class SigmoidRange(Module):
    """`sigmoid_range` as a layer: keeps the outputs of a regression within (low, high)."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return sigmoid_range(x, self.low, self.high)

    def extra_repr(self) -> str:
        return f"low={self.low}, high={self.high}"
