"""The head of an image model: pooling and linear layers, in place of those that were cut off."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypedDict

from torch import nn

from layered.foundation import BadValue
from layered.nn import AdaptiveConcatPool2d, Flatten, LinBnDrop, SigmoidRange


class HeadArgs(TypedDict, total=False):
    """What `create_head` takes by keyword; meanings and defaults are its own."""

    lin_ftrs: Sequence[int] | None
    ps: float | Sequence[float]
    pool: bool
    concat_pool: bool
    first_bn: bool
    bn_final: bool
    lin_first: bool
    y_range: tuple[float, float] | None


def create_head(
    nf: int,
    n_out: int,
    lin_ftrs: Sequence[int] | None = None,
    ps: float | Sequence[float] = 0.5,
    pool: bool = True,
    concat_pool: bool = True,
    first_bn: bool = True,
    bn_final: bool = False,
    lin_first: bool = False,
    y_range: tuple[float, float] | None = None,
) -> nn.Sequential:
    """Build a head: [batch, nf, height, width] (or [batch, nf], with `pool=False`) to [batch, n_out].

    Args:
        nf: Channels of the body's output.
        n_out: Number of outputs.
        lin_ftrs: Widths of the hidden layers; [512] by default.
        ps: Dropout before the last layer, half of it before the others; or one value for each layer.
        pool: Whether to pool and flatten first.
        concat_pool: Pool by maximum and mean, side by side; else by mean only.
        first_bn: Batch norm before the first linear layer.
        bn_final: Batch norm after the last layer.
        lin_first: Linear layers before their batch norms.
        y_range: Squeeze the outputs into this range.

    Raises:
        BadValue: If `ps` has neither one value nor one for each layer.

    Examples:
        >>> import torch; create_head(8, 2)(torch.zeros(4, 8, 7, 7)).shape
        torch.Size([4, 2])
    """
    inputs = nf * 2 if pool and concat_pool else nf
    widths = [inputs, *([512] if lin_ftrs is None else lin_ftrs), n_out]
    drops = _drops(ps, len(widths) - 1)
    layers: list[nn.Module] = (
        [AdaptiveConcatPool2d() if concat_pool else nn.AdaptiveAvgPool2d(1), Flatten()] if pool else []
    )
    if lin_first:
        layers.append(nn.Dropout(drops.pop(0)))
    steps = list(pairwise(widths))
    for i, (n_in, width) in enumerate(steps[:-1] if lin_first else steps):
        act = nn.ReLU(inplace=True) if i < len(steps) - 1 else None
        layers += LinBnDrop(n_in, width, bn=first_bn if i == 0 else True, p=drops[i], act=act, lin_first=lin_first)
    if lin_first:
        layers.append(nn.Linear(*steps[-1]))
    if bn_final:
        layers.append(nn.BatchNorm1d(n_out, momentum=0.01))
    if y_range is not None:
        layers.append(SigmoidRange(*y_range))
    return nn.Sequential(*layers)


def _drops(ps: float | Sequence[float], count: int) -> list[float]:
    if isinstance(ps, (int, float)):
        return [ps / 2] * (count - 1) + [ps]
    if len(ps) == 1:
        return _drops(ps[0], count)
    if len(ps) != count:
        raise BadValue(
            "wrong number of dropouts in ps", got=len(ps), expected=f"1, or {count}: one for each linear layer"
        )
    return list(ps)
