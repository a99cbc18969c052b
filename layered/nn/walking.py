"""What is in a model: its children, its leaves, its parameters."""

from __future__ import annotations

from torch import nn

from layered.foundation.errors import BadValue
from layered.nn.layers import ParameterModule


def has_children(m: nn.Module) -> bool:
    """Whether `m` holds other modules."""
    return any(True for _ in m.children())


def children_and_parameters(m: nn.Module) -> list[nn.Module]:
    """The children of `m`, then its own parameters, each as a `ParameterModule`."""
    return [*m.children(), *(ParameterModule(p) for p in m.parameters(recurse=False))]


def flatten_model(m: nn.Module) -> list[nn.Module]:
    """The modules of the tree that have no children, from first to last, and parameters that stand beside children.

    >>> [type(layer).__name__ for layer in flatten_model(nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Tanh()))]
    ['Linear', 'ReLU', 'Tanh']
    """
    return [leaf for part in children_and_parameters(m) for leaf in flatten_model(part)] if has_children(m) else [m]


def in_channels(m: nn.Module) -> int:
    """The number of channels that the first 2d convolution of `m` takes."""
    for layer in flatten_model(m):
        if isinstance(layer, nn.Conv2d):
            return layer.in_channels
    raise BadValue(f"{type(m).__name__} has no 2d convolution to read the number of input channels from")


def has_params(m: nn.Module) -> bool:
    """Whether `m` has parameters, its children's included."""
    return any(True for _ in m.parameters())


def total_params(m: nn.Module) -> tuple[int, bool]:
    """How many numbers the parameters of `m` hold, and whether the first of them is trained."""
    params = list(m.parameters())
    return sum(p.numel() for p in params), bool(params) and params[0].requires_grad


def requires_grad(m: nn.Module) -> bool:
    """Whether the first parameter of `m` is trained; False without parameters."""
    return any(p.requires_grad for p in list(m.parameters())[:1])
