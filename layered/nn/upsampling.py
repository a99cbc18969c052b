"""Making pictures larger without a checkerboard."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from layered.foundation.registry import modules
from layered.nn.convolution import ConvLayer, NormType
from layered.nn.init import InitFunc
from layered.nn.layers import RecordedSequential


def icnr_init(x: Tensor, scale: int = 2, init: InitFunc = nn.init.kaiming_normal_) -> Tensor:
    """Weights like `x` ([out, in, h, w]) that make a pixel shuffle by `scale` start as nearest-neighbour enlargement.

    source     Aitken et al. 2017, arXiv:1707.02937
    """
    small = torch.empty(x.shape[0] // scale**2, *x.shape[1:], dtype=x.dtype, device=x.device)
    init(small)
    return small.repeat_interleave(scale**2, 0)


@modules.register()
class PixelShuffle_ICNR(RecordedSequential):
    """[batch, ni, h, w] → [batch, nf, scale * h, scale * w]: a convolution, then its channels become pixels.

    nf         output channels; `ni` by default
    blur       smooth the result with a 2x2 mean
    source     Shi et al. 2016, arXiv:1609.05158; Sugawara et al. 2018, arXiv:1806.02658 (blur)

    >>> PixelShuffle_ICNR(8, 4)(torch.zeros(1, 8, 5, 5)).shape
    torch.Size([1, 4, 10, 10])
    """

    def __init__(
        self,
        ni: int,
        nf: int | None = None,
        scale: int = 2,
        blur: bool = False,
        norm_type: NormType | None = NormType.Weight,
        act_cls: Callable[[], nn.Module] | None = nn.ReLU,
    ) -> None:
        conv = ConvLayer(ni, (nf or ni) * scale**2, ks=1, norm_type=norm_type, act_cls=act_cls, bias_std=0)
        with torch.no_grad():
            weight = icnr_init(conv[0].weight, scale)
        if norm_type in (NormType.Weight, NormType.Spectral):
            conv[0].weight = weight
        else:
            conv[0].weight.data.copy_(weight)
        smooth = [nn.ReplicationPad2d((1, 0, 1, 0)), nn.AvgPool2d(2, stride=1)] if blur else []
        super().__init__(conv, nn.PixelShuffle(scale), *smooth)
