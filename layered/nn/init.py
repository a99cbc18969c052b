"""Initialisation of weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

InitFunc = Callable[[Tensor], Any]

norm_types: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase,  # batch, instance and synchronised batch norm, of any number of dimensions
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)

_LIKE_RELU = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.Mish, nn.GELU, nn.ELU, nn.Hardswish)
_LIKE_SIGMOID = (nn.Sigmoid, nn.Tanh, nn.Hardsigmoid, nn.Softmax)


def trunc_normal_(x: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Fill a tensor from a normal distribution truncated at two standard deviations.

    Args:
        x: The tensor; changed.
        mean: Mean of the distribution.
        std: Standard deviation of the distribution, before it is truncated.
    """
    return nn.init.trunc_normal_(x, mean=mean, std=std, a=mean - 2 * std, b=mean + 2 * std)


def init_default(m: nn.Module, func: InitFunc | None = nn.init.kaiming_normal_) -> nn.Module:
    """Initialise one layer, its bias with 0.

    Args:
        m: The layer.
        func: Initialises the weight in place; None keeps it.
    """
    weight, bias = getattr(m, "weight", None), getattr(m, "bias", None)
    if func is not None and isinstance(weight, Tensor):
        func(weight)
    if isinstance(bias, Tensor):
        nn.init.zeros_(bias)
    return m


def cond_init(m: nn.Module, func: InitFunc) -> None:
    """`init_default` for layers with a trained weight of at least two axes; not for normalisation layers or PReLU.

    Args:
        m: The layer.
        func: Initialises the weight in place.
    """
    weight = getattr(m, "weight", None)
    if isinstance(weight, Tensor) and weight.requires_grad and weight.ndim > 1 and not isinstance(m, norm_types):
        init_default(m, func)


def apply_leaf(m: nn.Module, f: Callable[[nn.Module], Any]) -> None:
    """Call a function with every module of a model, parents before children.

    Args:
        m: The model.
        f: The function.
    """
    for module in m.modules():
        f(module)


def apply_init(m: nn.Module, func: InitFunc = nn.init.kaiming_normal_) -> None:
    """Initialise all layers of a model but the normalisations, biases with 0.

    Args:
        m: The model.
        func: Initialises a weight in place.

    Examples:
        >>> head = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
        >>> apply_init(head, nn.init.ones_)
        >>> head[1].weight.sum().item(), head[1].bias.sum().item()
        (4.0, 0.0)
    """
    apply_leaf(m, lambda layer: cond_init(layer, func))


def init_for(act: object) -> InitFunc | None:
    """The initialisation that preserves the scale of values before an activation; None if it is unknown.

    Args:
        act: The activation: a module, a class or a function.

    Source: He et al. 2015, arXiv:1502.01852; Glorot & Bengio 2010
    """
    kind = act if isinstance(act, type) else type(act)
    if issubclass(kind, _LIKE_RELU) or act in (F.relu, F.leaky_relu, F.silu, F.mish, F.gelu):
        return nn.init.kaiming_uniform_
    return nn.init.xavier_uniform_ if issubclass(kind, _LIKE_SIGMOID) else None


def init_linear(
    m: nn.Module, act_func: object = None, init: InitFunc | str | None = "auto", bias_std: float = 0.01
) -> None:
    """Initialise a linear or convolutional layer for the activation that follows it.

    Args:
        m: The layer.
        act_func: The activation: a module, a class or a function.
        init: Initialises the weight in place; "auto" chooses by the activation, or keeps torch's own if that is unknown; None
            keeps torch's own.
        bias_std: Standard deviation of the bias; 0 makes it zero.
    """
    bias, weight = getattr(m, "bias", None), m.weight
    if isinstance(bias, Tensor):
        nn.init.normal_(bias, 0, bias_std) if bias_std else nn.init.zeros_(bias)
    func = init_for(act_func) if init == "auto" else init
    if callable(func) and isinstance(weight, Tensor):
        func(weight)


def icnr_init(x: Tensor, scale: int = 2, init: InitFunc = nn.init.kaiming_normal_) -> Tensor:
    """Weights with which a pixel shuffle starts as nearest-neighbour upsampling; they have the shape of `x`.

    Args:
        x: The weight of the convolution before the shuffle, [out, in, h, w].
        scale: Factor of the upsampling.
        init: Initialises a weight in place.

    Source: Aitken et al. 2017, arXiv:1707.02937
    """
    small = torch.empty(x.shape[0] // scale**2, *x.shape[1:], dtype=x.dtype, device=x.device)
    init(small)
    return small.repeat_interleave(scale**2, 0)
