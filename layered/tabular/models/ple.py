"""`TabularPLE`: numbers as positions within their quantiles, then a multi-layer perceptron; targets at their own scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from layered.foundation import Array, modules, names_of
from layered.nn import LinBnDrop, Module, SigmoidRange, trunc_normal_
from layered.tabular.columns import listed
from layered.tabular.models.mlp import Inputs, Sizes, checked_range, checked_share, checked_size
from layered.tabular.table import Tabular

MOST_BINS, ALL_BINS = 96, 20_000  # of a column; of all columns together, below which each has at least 8


def bins_for(n_cont: int) -> int:
    """The default number of bins of each continuous column: fewer where there are many columns.

    Args:
        n_cont: The number of continuous columns.

    Examples:
        >>> [bins_for(n) for n in (1, 200, 1000, 10_000)]
        [96, 96, 20, 8]
    """
    return min(MOST_BINS, max(8, ALL_BINS // max(n_cont, 1)))


def bin_edges(values: Array, bins: int) -> Array:
    """The edges of at most `bins` bins, ascending: float64 [edge].

    A column with few values has an edge between each two of them. Others have edges at their quantiles; of those that coincide,
    because many rows have the same value, the place is taken by quantiles of the distinct values.

    Args:
        values: The numbers of the training rows.
        bins: The largest number of bins.

    Examples:
        >>> bin_edges(np.array([0.0, 0, 1, 5]), 8).tolist(), bin_edges(np.arange(101.0), 2).tolist()
        ([0.0, 0.5, 3.0, 5.0], [0.0, 50.0, 100.0])
    """
    distinct = np.unique(values.astype(np.float64))
    if len(distinct) <= bins:
        return np.unique(np.concatenate([distinct[:1], (distinct[1:] + distinct[:-1]) / 2, distinct[-1:]]))
    edges = np.unique(np.quantile(values.astype(np.float64), np.linspace(0, 1, bins + 1)))
    free = bins + 1 - len(edges)
    if free > 0:
        edges = np.unique(np.concatenate([edges, np.quantile(distinct, np.linspace(0, 1, free + 2)[1:-1])]))
    return edges


@modules.register("tabular.PiecewiseLinear")
class PiecewiseLinear(Module):
    """Each number as a vector: a function of it that is linear between the edges of bins, and constant beyond the outer ones.

    Bin k contributes its vector times how far the number has come through it: 0 below its lower edge, 1 above its upper one. So
    values that lie closely together can be told apart, and outliers count as the largest value of training.

    Args:
        n: The number of columns.
        size: The length of each vector.
        bins: The number of bins of each column.

    Source: Gorishniy et al. 2022, arXiv:2203.05556, section 3.2

    Examples:
        >>> layer = PiecewiseLinear(1, 2, 3)
        >>> layer.fit(torch.tensor([[0.0], [1.0], [4.0]]))
        >>> layer.positions(torch.tensor([[-5.0], [1.5], [9.0]])).squeeze(1).tolist()
        [[0.0, 0.0, 0.0], [1.0, 0.5, 0.0], [1.0, 1.0, 1.0]]
    """

    low: Tensor
    slope: Tensor

    def __init__(self, n: int, size: int = 8, bins: int = MOST_BINS) -> None:
        self.bins = bins
        self.register_buffer("low", torch.zeros(n, bins))
        self.register_buffer("slope", torch.zeros(n, bins))  # one over the width of a bin; 0 of bins that do not exist
        self.weight = nn.Parameter(torch.empty(n, bins, size).uniform_(-1, 1) / bins**0.5)
        self.bias = nn.Parameter(torch.empty(n, size).uniform_(-1, 1))

    def fit(self, numbers: Tensor) -> None:
        """Set the bins to the quantiles of the training rows.

        Args:
            numbers: float [row, n].
        """
        low, slope = np.zeros(self.low.shape), np.zeros(self.low.shape)
        for i, column in enumerate(numbers.numpy(force=True).T):
            edges = bin_edges(column, self.bins).astype(np.float32)
            edges = np.unique(edges).astype(np.float64)
            low[i, : len(edges) - 1], slope[i, : len(edges) - 1] = edges[:-1], 1 / np.diff(edges)
        self.low.copy_(torch.from_numpy(low))
        self.slope.copy_(torch.from_numpy(slope))

    def positions(self, x: Tensor) -> Tensor:
        """How far each number has come through each bin, from 0 to 1: float [batch, n, bin].

        Args:
            x: float [batch, n].
        """
        return ((x.unsqueeze(-1) - self.low) * self.slope).clamp(0.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bnk,nks->bns", self.positions(x), self.weight) + self.bias


@modules.register("tabular.TabularPLE")
class TabularPLE(Inputs):
    """An MLP on embeddings of categories and of numbers, without batch norm; it predicts numbers at the scale of their targets.

    It depends on neither the scale nor the shape of the distribution of a number. `fit` must be called once with the training
    rows, as `tabular_learner` does.

    Args:
        emb_szs: (levels, length of the vectors) of each categorical column: `get_emb_sz(dls)`.
        n_cont: The number of continuous columns.
        out_sz: The number of outputs.
        layers: The width of each hidden layer.
        ps: The dropout probability after each hidden layer.
        embed_p: The dropout probability of the embeddings of categories.
        y_range: (low, high) that a scaled sigmoid maps the outputs into; None leaves them unbounded.
        size: The length of the vector of a number.
        bins: The number of bins of each number; by default `bins_for(n_cont)`.

    Raises:
        BadArgument: If an argument has the wrong type.
        BadValue: If a size is below 1, a probability is outside [0, 1], or there are no inputs.

    Source: Gorishniy et al. 2022, arXiv:2203.05556

    Examples:
        >>> TabularPLE([(3, 3)], 2, 1)(torch.zeros(4, 1).long(), torch.zeros(4, 2)).shape
        torch.Size([4, 1])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        emb_szs: Sizes,
        n_cont: int,
        out_sz: int,
        layers: Sequence[int] = (96, 96),
        ps: float = 0.0,
        embed_p: float = 0.0,
        y_range: tuple[float, float] | None = None,
        size: int = 8,
        bins: int | None = None,
    ) -> None:
        super().__init__(emb_szs, n_cont, embed_p, bn_cont=False)
        for embed in self.embeds.children():
            trunc_normal_(embed.weight.data, std=0.5)  # type: ignore[arg-type]  # of an embedding
        y_range, p = checked_range(y_range), checked_share("ps", ps)
        bins = bins_for(n_cont) if bins is None else checked_size("bins", bins)
        self.numbers = PiecewiseLinear(n_cont, checked_size("size", size), bins) if n_cont else None
        widths = [checked_size("the width of a layer", width) for width in listed(layers)]
        n_in, parts = self.size + n_cont * (size - 1), list[nn.Module]()
        for width in widths:
            parts.append(LinBnDrop(n_in, width, bn=False, p=p, act=nn.ReLU(), lin_first=True))
            n_in = width
        self.layers = nn.Sequential(*parts, nn.Linear(n_in, checked_size("the number of outputs", out_sz)))
        self.range = None if y_range is None else SigmoidRange(*y_range)
        self.register_buffer("mean", torch.zeros(out_sz))
        self.register_buffer("std", torch.ones(out_sz))

    def fit(self, to: Tabular) -> None:
        """Take the bins of the numbers, and the scale of the targets that are numbers, from processed training rows.

        Args:
            to: The rows.
        """
        if self.numbers is not None:
            self.numbers.fit(to.tensors[1])
        if self.range is not None or sum(target.c for target in to.target_columns) != len(self.mean):
            return
        start = 0
        for target, values in zip(to.target_columns, to.tensors[to.n_inp :], strict=False):
            if target.kind == "regression" and len(values) > 1:
                columns = values.reshape(len(values), -1).double()
                std = columns.std(0)
                self.mean[start : start + target.c] = columns.mean(0).float()
                self.std[start : start + target.c] = torch.where(std > 0, std, 1.0).float()
            start += target.c

    def numbers_of(self, x_cont: Tensor) -> Tensor:
        """The vectors of all numbers of a row, one after the other: float [batch, number * size].

        Args:
            x_cont: float [batch, number].
        """
        assert self.numbers is not None
        return self.numbers(x_cont).flatten(1)  # type: ignore[no-any-return]  # of a module

    def forward(self, x_cat: Tensor, x_cont: Tensor | None = None) -> Tensor:
        out = self.layers(self.inputs(x_cat, x_cont))
        return out * self.std + self.mean if self.range is None else self.range(out)  # type: ignore[no-any-return]


CONFIG = names_of(TabularPLE.__init__) - {"emb_szs", "n_cont", "out_sz", "layers"}
