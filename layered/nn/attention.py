"""Self-attention over the positions of an image."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from layered.foundation import modules
from layered.nn.layers import Module


def _spectral_conv(n_in: int, n_out: int, ndim: int) -> nn.Module:
    """A convolution with kernel size 1, without bias, of spectral norm 1."""
    conv = (nn.Conv1d, nn.Conv2d)[ndim - 1](n_in, n_out, 1, bias=False)
    return spectral_norm(conv)


@modules.register()
class SelfAttention(Module):
    """Each position of [batch, channel, ...] attends to all; starts as the identity, since `gamma` is 0.

    x_j + gamma * Σ_i value(x_i) · softmax_i(query(x_i) · key(x_j)), where queries and keys have an eighth of the channels.

    Args:
        n_channels: Number of channels, at least 8.

    Source: Zhang et al. 2019, arXiv:1805.08318

    Examples:
        >>> SelfAttention(16)(torch.zeros(2, 16, 4, 4)).shape
        torch.Size([2, 16, 4, 4])
    """

    def __init__(self, n_channels: int) -> None:
        self.query = _spectral_conv(n_channels, n_channels // 8, 1)
        self.key = _spectral_conv(n_channels, n_channels // 8, 1)
        self.value = _spectral_conv(n_channels, n_channels, 1)
        self.gamma = nn.Parameter(torch.tensor([0.0]))

    def forward(self, x: Tensor) -> Tensor:
        places = x.flatten(2)  # [batch, channel, position]
        # the softmax of the formula runs over i, the index of the query, so query and key change roles for torch
        query, key, value = (part(places).transpose(1, 2) for part in (self.query, self.key, self.value))
        seen = F.scaled_dot_product_attention(key, query, value, scale=1.0).transpose(1, 2)
        return (self.gamma * seen).view(x.shape) + x


@modules.register()
class PooledSelfAttention2d(Module):
    """Self-attention over [batch, channel, height, width] with keys and values pooled to half the size.

    x + gamma * output(values · softmax(queriesᵀ · keys)); starts as the identity, since `gamma` is 0.

    Args:
        n_channels: Number of channels, at least 8.

    Source: Brock et al. 2019, arXiv:1809.11096
    """

    def __init__(self, n_channels: int) -> None:
        self.theta = _spectral_conv(n_channels, n_channels // 8, 2)
        self.phi = _spectral_conv(n_channels, n_channels // 8, 2)
        self.g = _spectral_conv(n_channels, n_channels // 2, 2)
        self.o = _spectral_conv(n_channels // 2, n_channels, 2)
        self.gamma = nn.Parameter(torch.tensor([0.0]))

    def forward(self, x: Tensor) -> Tensor:
        query = self.theta(x).flatten(2).transpose(1, 2)
        key, value = (F.max_pool2d(part(x), 2).flatten(2).transpose(1, 2) for part in (self.phi, self.g))
        seen = F.scaled_dot_product_attention(query, key, value, scale=1.0).transpose(1, 2)
        out: Tensor = self.gamma * self.o(seen.reshape(*seen.shape[:2], *x.shape[2:])) + x
        return out


@modules.register()
class SimpleSelfAttention(Module):
    """Self-attention with a single matrix and no softmax: x + gamma * (x · xᵀ) · conv(x), on [batch, channel, ...].

    Args:
        n_in: Number of channels.
        ks: Kernel size of the convolution.
        sym: Keep the matrix symmetric; `ks` must be 1.

    Source: https://github.com/sdoria/SimpleSelfAttention
    """

    def __init__(self, n_in: int, ks: int = 1, sym: bool = False) -> None:
        self.sym = sym
        self.conv: Any = spectral_norm(nn.Conv1d(n_in, n_in, ks, padding=ks // 2, bias=False))
        self.gamma = nn.Parameter(torch.tensor([0.0]))

    def forward(self, x: Tensor) -> Tensor:
        places = x.flatten(2)
        weight: Tensor = self.conv.weight
        if self.sym:
            weight = (weight + weight.transpose(0, 1)) / 2
        mixed = F.conv1d(places, weight, padding=weight.shape[2] // 2)
        seen = torch.bmm(places, places.transpose(1, 2)) @ mixed
        return (self.gamma * seen).view(x.shape) + x
