"""`TabularResNet`: a residual network for rows of tables."""

from __future__ import annotations

from torch import Tensor, nn

from layered.foundation import modules
from layered.nn import Module, SigmoidRange
from layered.tabular.models.mlp import Inputs, Sizes, checked_range, checked_share, checked_size


class ResidualLayer(Module):
    """x + Dropout(Linear(Dropout(ReLU(Linear(BatchNorm(x)))))).

    Args:
        size: The width of input and output.
        hidden: The width between the two linear layers.
        hidden_p: The dropout probability between the linear layers.
        residual_p: The dropout probability after the second one.
    """

    def __init__(self, size: int, hidden: int, hidden_p: float = 0.0, residual_p: float = 0.0) -> None:
        self.branch = nn.Sequential(
            nn.BatchNorm1d(size),
            nn.Linear(size, hidden),
            nn.ReLU(),
            nn.Dropout(checked_share("hidden_p", hidden_p)),
            nn.Linear(hidden, size),
            nn.Dropout(checked_share("residual_p", residual_p)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)  # type: ignore[no-any-return]


@modules.register("tabular.TabularResNet")
class TabularResNet(Inputs):
    """A residual network on embeddings and numbers: linear, residual layers, batch norm, ReLU, linear.

    Args:
        emb_szs: (levels, length of the vectors) of each categorical column: `get_emb_sz(dls)`.
        n_cont: The number of continuous columns.
        out_sz: The number of outputs.
        size: The width of the residual layers.
        num_layers: The number of residual layers.
        factor: How many times wider a residual layer is inside.
        hidden_p: The dropout probability inside a residual layer.
        residual_p: The dropout probability at the end of a residual layer.
        embed_p: The dropout probability of the embeddings.
        y_range: (low, high) that a scaled sigmoid maps the outputs into; None leaves them unbounded.

    Raises:
        BadArgument: If an argument has the wrong type.
        BadValue: If a size is below 1, a probability is outside [0, 1], or there are no inputs.

    Source: Gorishniy et al. 2021, arXiv:2106.11959, section 3.2

    Examples:
        >>> import torch
        >>> TabularResNet([(3, 3)], 2, 1)(torch.zeros(4, 1).long(), torch.zeros(4, 2)).shape
        torch.Size([4, 1])
    """

    def __init__(
        self,
        emb_szs: Sizes,
        n_cont: int,
        out_sz: int,
        size: int = 128,
        num_layers: int = 3,
        factor: float = 2.0,
        hidden_p: float = 0.2,
        residual_p: float = 0.0,
        embed_p: float = 0.0,
        y_range: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(emb_szs, n_cont, embed_p, bn_cont=False)
        y_range, size, out_sz = checked_range(y_range), checked_size("size", size), checked_size("out_sz", out_sz)
        hidden = round(size * factor)
        blocks = [ResidualLayer(size, hidden, hidden_p, residual_p) for _ in range(num_layers)]
        head: list[nn.Module] = [nn.BatchNorm1d(size), nn.ReLU(), nn.Linear(size, out_sz)]
        if y_range is not None:
            head.append(SigmoidRange(*y_range))
        self.layers = nn.Sequential(nn.Linear(self.size, size), *blocks, *head)

    def forward(self, x_cat: Tensor, x_cont: Tensor | None = None) -> Tensor:
        return self.layers(self.inputs(x_cat, x_cont))  # type: ignore[no-any-return]
