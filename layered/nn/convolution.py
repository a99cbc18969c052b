"""Linear and convolutional layers with their normalisation and activation, and upsampling by pixel shuffle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from layered.files import value_kinds
from layered.foundation import BadValue, modules
from layered.nn.init import InitFunc, icnr_init, init_linear
from layered.nn.layers import RecordedSequential
from layered.nn.pooling import PoolFlatten


@value_kinds.register()
class NormType(Enum):
    """How a layer is normalised. The scales of `BatchZero` and `InstanceZero` start at 0."""

    Batch, BatchZero, Weight, Spectral, Instance, InstanceZero = range(1, 7)

    def described(self) -> dict[str, str]:
        """As data, for exports."""
        return {"name": self.name}

    @classmethod
    def from_described(cls, state: dict[str, str]) -> NormType:
        """The member that `described` described."""
        return cls[state["name"]]


def BatchNorm(
    nf: int, ndim: int = 2, norm_type: NormType = NormType.Batch, *, eps: float = 1e-5, momentum: float = 0.1
) -> nn.Module:
    """Batch norm whose bias starts at 1e-3, and whose scale starts at 1.

    Args:
        nf: Number of channels.
        ndim: Number of spatial dimensions; 1 for vectors too.
        norm_type: `NormType.BatchZero` starts the scale at 0, so that a residual branch contributes nothing at first.
        eps: Added to the variance.
        momentum: Weight of a new batch in the running statistics.
    """
    layer = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[ndim - 1](nf, eps=eps, momentum=momentum)
    return _start_norm(layer, zero=norm_type is NormType.BatchZero)


def InstanceNorm(
    nf: int, ndim: int = 2, norm_type: NormType = NormType.Instance, *, affine: bool = True, eps: float = 1e-5
) -> nn.Module:
    """Instance norm whose bias starts at 1e-3, and whose scale starts at 1.

    Args:
        nf: Number of channels.
        ndim: Number of spatial dimensions.
        norm_type: `NormType.InstanceZero` starts the scale at 0.
        affine: Whether to learn scale and bias.
        eps: Added to the variance.
    """
    layer = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[ndim - 1](nf, affine=affine, eps=eps)
    return _start_norm(layer, zero=norm_type is NormType.InstanceZero)


@modules.register()
class BatchNorm1dFlat(nn.BatchNorm1d):
    """Batch norm of the last axis: [..., channel]."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.reshape(-1, input.shape[-1])).view(input.shape)


def _start_norm(layer: _NormBase, *, zero: bool) -> nn.Module:
    if layer.affine:
        nn.init.constant_(layer.bias, 1e-3)
        nn.init.constant_(layer.weight, 0.0 if zero else 1.0)
    return layer


@modules.register()
class LinBnDrop(RecordedSequential):
    """Batch norm, dropout, a linear layer and its activation, in this order.

    Args:
        n_in: Number of inputs.
        n_out: Number of outputs.
        bn: With batch norm; the linear layer then has no bias.
        p: Dropout; 0 leaves the layer out.
        act: Activation after the linear layer.
        lin_first: Linear layer and activation first, then batch norm and dropout.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        bn: bool = True,
        p: float = 0.0,
        act: nn.Module | None = None,
        lin_first: bool = False,
    ) -> None:
        before: list[nn.Module] = [BatchNorm(n_out if lin_first else n_in, ndim=1)] if bn else []
        if p:
            before.append(nn.Dropout(p))
        linear: list[nn.Module] = [nn.Linear(n_in, n_out, bias=not bn)]
        if act is not None:
            linear.append(act)
        super().__init__(*(linear + before if lin_first else before + linear))


_BATCH = (NormType.Batch, NormType.BatchZero)
_INSTANCE = (NormType.Instance, NormType.InstanceZero)


@modules.register()
class ConvLayer(RecordedSequential):
    """A convolution, its normalisation and its activation, initialised to fit each other.

    Args:
        ni: Input channels.
        nf: Output channels.
        ks: Size of the kernel.
        stride: Step of the kernel.
        padding: Padding on each side; by default (ks - 1) // 2, which keeps the size at stride 1, or 0 if transposed.
        bias: By default only without batch or instance norm.
        ndim: Number of spatial dimensions.
        norm_type: How to normalise; None not at all.
        bn_1st: Normalise before the activation.
        act_cls: Makes the activation; None for none.
        transpose: Transposed convolution.
        init: Initialises the weight in place; "auto" chooses by the activation.
        xtra: A module to append.
        bias_std: Standard deviation of the bias; 0 makes it zero.
        dilation: Spacing of the kernel's elements.
        groups: Number of independent groups of channels.

    Examples:
        >>> ConvLayer(3, 8, stride=2)(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 8, 16, 16])
    """

    def __init__(
        self,
        ni: int,
        nf: int,
        ks: int = 3,
        stride: int = 1,
        padding: int | None = None,
        bias: bool | None = None,
        ndim: int = 2,
        norm_type: NormType | None = NormType.Batch,
        bn_1st: bool = True,
        act_cls: Callable[[], nn.Module] | None = nn.ReLU,
        transpose: bool = False,
        init: InitFunc | str | None = "auto",
        xtra: nn.Module | None = None,
        bias_std: float = 0.01,
        *,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        if padding is None:
            padding = 0 if transpose else (ks - 1) // 2
        if bias is None:
            bias = norm_type not in _BATCH + _INSTANCE
        conv = _conv_class(ndim, transpose)(
            ni, nf, ks, stride=stride, padding=padding, bias=bias, dilation=dilation, groups=groups
        )
        act = act_cls() if act_cls is not None else None
        init_linear(conv, act, init, bias_std)
        after: list[nn.Module] = [act] if act is not None else []
        if norm_type in _BATCH:
            after.insert(0 if bn_1st else len(after), BatchNorm(nf, ndim, norm_type))
        elif norm_type in _INSTANCE:
            after.insert(0 if bn_1st else len(after), InstanceNorm(nf, ndim, norm_type))
        super().__init__(_normed_weight(conv, norm_type), *after, *([xtra] if xtra is not None else []))


def _conv_class(ndim: int, transpose: bool) -> Callable[..., nn.Module]:
    plain = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    return (transposed if transpose else plain)[ndim - 1]


def _normed_weight(conv: nn.Module, norm_type: NormType | None) -> nn.Module:
    if norm_type is NormType.Weight:
        weight_norm(conv)
    elif norm_type is NormType.Spectral:
        spectral_norm(conv)
    return conv


@modules.register()
class SimpleCNN(RecordedSequential):
    """A stack of convolutions and mean pooling: [batch, filters[0], h, w] to [batch, filters[-1]].

    Args:
        filters: Channels before and after each convolution.
        kernel_szs: Kernel size of each convolution; 3 by default.
        strides: Stride of each convolution; 2 by default.
        bn: Batch norm after each convolution but the last.

    Raises:
        BadValue: If the three lists do not match.

    Examples:
        >>> SimpleCNN([3, 8, 4])(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        filters: Sequence[int],
        kernel_szs: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        bn: bool = True,
    ) -> None:
        count = len(filters) - 1
        sizes, steps = kernel_szs or [3] * count, strides or [2] * count
        if not len(sizes) == len(steps) == count > 0:
            raise BadValue(
                "SimpleCNN needs a kernel size and a stride for each convolution",
                got=f"{len(filters)} filters, {len(sizes)} kernel sizes, {len(steps)} strides",
                expected="at least two filters, and one kernel size and stride less",
            )
        norms = [*[NormType.Batch if bn else None] * (count - 1), None]
        convs = [
            ConvLayer(ni, nf, ks, stride, norm_type=norm)
            for (ni, nf), ks, stride, norm in zip(pairwise(filters), sizes, steps, norms, strict=True)
        ]
        super().__init__(*convs, PoolFlatten())


@modules.register()
class PixelShuffle_ICNR(RecordedSequential):
    """Upsample: [batch, ni, h, w] to [batch, nf, scale * h, scale * w], by a convolution whose channels become pixels.

    Args:
        ni: Input channels.
        nf: Output channels; `ni` by default.
        scale: Factor of the upsampling.
        blur: Smooth the result with a 2x2 mean.
        norm_type: How to normalise the convolution; None not at all.
        act_cls: Makes the activation; None for none.

    Source: Shi et al. 2016, arXiv:1609.05158; Sugawara et al. 2018, arXiv:1806.02658 (blur)

    Examples:
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
