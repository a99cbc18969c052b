"""Generators, which make images from noise or from images, and critics, which tell real images from made ones."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from layered.foundation import BadValue, modules
from layered.nn import ConvLayer, Flatten, MergeLayer, Module, NormType, SequentialEx, init_default

leaky_relu = partial(nn.LeakyReLU, negative_slope=0.2)


class GANModule(nn.Module):
    """A generator and a critic as one model, which calls the one or the other.

    Args:
        generator: Makes images.
        critic: Scores images.
        gen_mode: Whether calling it calls the generator.

    Examples:
        >>> import torch; model = GANModule(nn.Linear(2, 3), nn.Linear(3, 1))
        >>> model(torch.zeros(4, 2)).shape, model.switch()(torch.zeros(4, 3)).shape
        (torch.Size([4, 3]), torch.Size([4, 1]))
    """

    def __init__(self, generator: nn.Module, critic: nn.Module, gen_mode: bool = True) -> None:
        super().__init__()
        self.generator, self.critic, self.gen_mode = generator, critic, gen_mode

    def forward(self, *args: Any) -> Any:
        return self.generator(*args) if self.gen_mode else self.critic(*args)

    def switch(self, gen_mode: bool | None = None) -> GANModule:
        """Call the generator, or the critic, from now on.

        Args:
            gen_mode: Whether to call the generator; by default the other than now.
        """
        self.gen_mode = not self.gen_mode if gen_mode is None else gen_mode
        return self


@modules.register()
class AddChannels(Module):
    """Axes of length 1 at the end: [batch, feature] becomes [batch, feature, 1, 1].

    Args:
        n_dim: The number of axes.

    Examples:
        >>> import torch; AddChannels(2)(torch.zeros(4, 100)).shape
        torch.Size([4, 100, 1, 1])
    """

    def __init__(self, n_dim: int) -> None:
        self.n_dim = n_dim

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape, *[1] * self.n_dim)

    def extra_repr(self) -> str:
        return f"n_dim={self.n_dim}"


def _check_size(name: str, size: int) -> None:
    if size < 8 or size & (size - 1):
        raise BadValue(
            f"{name} is halved, or doubled, between 4 pixels and the whole image",
            got=size,
            expected="a power of 2 from 8: 8, 16, 32, 64, …",
            fix="item_tfms=Resize(32)",
        )


def basic_critic(
    in_size: int,
    n_channels: int,
    n_features: int = 64,
    n_extra_layers: int = 0,
    norm_type: NormType | None = NormType.Batch,
    **kwargs: Any,
) -> nn.Sequential:
    """A critic for square images: convolutions that halve the size down to 4 pixels and double the features; [batch, 1].

    Args:
        in_size: Height and width of the images, a power of 2.
        n_channels: Channels of the images.
        n_features: Features after the first convolution.
        n_extra_layers: Further convolutions after the first.
        norm_type: How all but the first and the last convolution are normalised.
        kwargs: For `ConvLayer`, such as `act_cls=partial(nn.LeakyReLU, negative_slope=0.2)`.

    Source: Radford et al. 2015, arXiv:1511.06434

    Examples:
        >>> import torch; basic_critic(32, 3, n_features=8)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 1])
    """
    _check_size("in_size", in_size)
    layers: list[nn.Module] = [ConvLayer(n_channels, n_features, 4, 2, 1, norm_type=None, **kwargs)]
    size, features = in_size // 2, n_features
    layers += [ConvLayer(features, features, 3, 1, norm_type=norm_type, **kwargs) for _ in range(n_extra_layers)]
    while size > 4:
        layers.append(ConvLayer(features, features * 2, 4, 2, 1, norm_type=norm_type, **kwargs))
        size, features = size // 2, features * 2
    init = kwargs.get("init", nn.init.kaiming_normal_)
    last = nn.Conv2d(features, 1, 4, padding=0)
    return nn.Sequential(*layers, last if isinstance(init, str) else init_default(last, init), Flatten())


def basic_generator(
    out_size: int, n_channels: int, in_sz: int = 100, n_features: int = 64, n_extra_layers: int = 0, **kwargs: Any
) -> nn.Sequential:
    """A generator of square images from vectors: transposed convolutions that double the size from 4 pixels and halve the
    features; values in [-1, 1].

    Args:
        out_size: Height and width of the images, a power of 2.
        n_channels: Channels of the images.
        in_sz: Length of the vectors.
        n_features: Features before the last convolution.
        n_extra_layers: Further convolutions before the last.
        kwargs: For `ConvLayer`.

    Source: Radford et al. 2015, arXiv:1511.06434

    Examples:
        >>> import torch; basic_generator(32, 3, in_sz=10, n_features=8)(torch.zeros(2, 10)).shape
        torch.Size([2, 3, 32, 32])
    """
    _check_size("out_size", out_size)
    size, features = 4, n_features * out_size // 8
    layers: list[nn.Module] = [AddChannels(2), ConvLayer(in_sz, features, 4, 1, transpose=True, **kwargs)]
    while size < out_size // 2:
        layers.append(ConvLayer(features, features // 2, 4, 2, 1, transpose=True, **kwargs))
        size, features = size * 2, features // 2
    layers += [ConvLayer(features, features, 3, 1, 1, transpose=True, **kwargs) for _ in range(n_extra_layers)]
    layers += [nn.ConvTranspose2d(features, n_channels, 4, 2, 1, bias=False), nn.Tanh()]
    return nn.Sequential(*layers)


def DenseResBlock(nf: int, norm_type: NormType | None = NormType.Batch, **kwargs: Any) -> SequentialEx:
    """Two convolutions, whose output is joined to their input: twice as many channels.

    Args:
        nf: Input channels.
        norm_type: How the convolutions are normalised.
        kwargs: For `ConvLayer`.

    Examples:
        >>> import torch; DenseResBlock(4)(torch.zeros(1, 4, 8, 8)).shape
        torch.Size([1, 8, 8, 8])
    """
    convolutions = (ConvLayer(nf, nf, norm_type=norm_type, **kwargs) for _ in range(2))
    return SequentialEx(*convolutions, MergeLayer(dense=True))


def gan_critic(n_channels: int = 3, nf: int = 128, n_blocks: int = 3, p: float = 0.15) -> nn.Sequential:
    """A critic of parts of images of any size: a score for each part, [batch, part].

    Args:
        n_channels: Channels of the images.
        nf: Features after the first convolution.
        n_blocks: How many times the size is halved further, and the features are doubled.
        p: Dropout of whole channels; half of it before the dense block.

    Examples:
        >>> import torch; gan_critic(nf=4)(torch.zeros(2, 3, 128, 128)).shape
        torch.Size([2, 25])
    """
    conv = partial(ConvLayer, ks=4, norm_type=NormType.Spectral)
    layers: list[nn.Module] = [
        conv(n_channels, nf, stride=2, act_cls=leaky_relu),
        nn.Dropout2d(p / 2),
        DenseResBlock(nf, norm_type=NormType.Spectral, act_cls=leaky_relu),
    ]
    nf *= 2
    for _ in range(n_blocks):
        layers += [nn.Dropout2d(p), conv(nf, nf * 2, stride=2, act_cls=leaky_relu)]
        nf *= 2
    layers += [conv(nf, 1, bias=False, padding=0, act_cls=None), Flatten()]
    return nn.Sequential(*layers)
