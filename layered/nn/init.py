"""How weights start: walk a model and initialise what is not a normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    """Fill `x` with normal numbers, none further than two standard deviations from the mean."""
    return nn.init.trunc_normal_(x, mean=mean, std=std, a=mean - 2 * std, b=mean + 2 * std)


def init_default(m: nn.Module, func: InitFunc | None = nn.init.kaiming_normal_) -> nn.Module:
    """Initialise the weight of one layer with `func` (None leaves it) and its bias with 0."""
    weight, bias = getattr(m, "weight", None), getattr(m, "bias", None)
    if func is not None and isinstance(weight, Tensor):
        func(weight)
    if isinstance(bias, Tensor):
        nn.init.zeros_(bias)
    return m


def cond_init(m: nn.Module, func: InitFunc) -> None:
    """`init_default` for a layer that is trained and has a matrix as weight: no normalisation, no PReLU."""
    weight = getattr(m, "weight", None)
    if isinstance(weight, Tensor) and weight.requires_grad and weight.ndim > 1 and not isinstance(m, norm_types):
        init_default(m, func)


def apply_leaf(m: nn.Module, f: Callable[[nn.Module], Any]) -> None:
    """Call `f` with every module of the tree, parents before children."""
    for module in m.modules():
        f(module)


def apply_init(m: nn.Module, func: InitFunc = nn.init.kaiming_normal_) -> None:
    """Initialise all layers of `m` but the normalisations: weights with `func`, biases with 0.

    Examples:
        >>> head = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
        >>> apply_init(head, nn.init.ones_)
        >>> head[1].weight.sum().item(), head[1].bias.sum().item()
        (4.0, 0.0)
    """
    apply_leaf(m, lambda layer: cond_init(layer, func))


def init_for(act: Any) -> InitFunc | None:
    """The initialisation that keeps the scale in front of an activation (module, class or function); None if unknown.

    Source: He et al. 2015, arXiv:1502.01852; Glorot & Bengio 2010
    """
    kind = act if isinstance(act, type) else type(act)
    if issubclass(kind, _LIKE_RELU) or act in (F.relu, F.leaky_relu, F.silu, F.mish, F.gelu):
        return nn.init.kaiming_uniform_
    return nn.init.xavier_uniform_ if issubclass(kind, _LIKE_SIGMOID) else None


def init_linear(
    m: nn.Module, act_func: Any = None, init: InitFunc | str | None = "auto", bias_std: float = 0.01
) -> None:
    """Initialise a linear or convolutional layer for the activation that follows it.

    Args:
        init: "auto": by the activation, torch's own where there is none; None: torch's own.
        bias_std: Standard deviation of the bias; 0 makes it zero.
    """
    bias, weight = getattr(m, "bias", None), m.weight
    if isinstance(bias, Tensor):
        nn.init.normal_(bias, 0, bias_std) if bias_std else nn.init.zeros_(bias)
    func = init_for(act_func) if init == "auto" else init
    if callable(func) and isinstance(weight, Tensor):
        func(weight)
