"""Image models on a body from torchvision, timm or a function of your own: with a head, or as a U-Net."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Unpack

from torch import nn

from layered.foundation import BadArgument, delegates, names_of, refuse_unknown
from layered.integrations import is_timm_model, timm_body, timm_keywords, timm_maps
from layered.nn import apply_init, num_features_model
from layered.vision.models.backbones import Arch, Cut, LocalWeights, Weights, create_body, find_arch, model_meta
from layered.vision.models.head import HeadArgs, create_head
from layered.vision.models.unet import DynamicUnet, Level, UnetArgs

InitFunc = Callable[..., Any]


@delegates(create_head)
def add_head(
    body: nn.Module,
    nf: int,
    n_out: int,
    init: InitFunc | None = nn.init.kaiming_normal_,
    head: nn.Module | None = None,
    **head_args: Unpack[HeadArgs],
) -> nn.Sequential:
    """`Sequential(body, head)`.

    Args:
        body: Any module that gives feature maps [batch, nf, height, width].
        nf: Channels of the body's output.
        n_out: Number of outputs.
        init: Initialises the head; None keeps torch's own initialisation.
        head: A head in place of `create_head(nf, n_out, ...)`.
        head_args: For `create_head`.

    Examples:
        >>> import torch
        >>> model = add_head(nn.Conv2d(3, 8, 3), 8, 2, lin_ftrs=[4])
        >>> model(torch.zeros(4, 3, 9, 9)).shape
        torch.Size([4, 2])
    """
    refuse_unknown(head_args, names_of(create_head), "add_head")
    model = nn.Sequential(body, head if head is not None else create_head(nf, n_out, **head_args))
    if init is not None:
        apply_init(model[1], init)
    return model


def create_vision_model(
    arch: Arch,
    n_out: int,
    pretrained: bool = True,
    weights: Weights = None,
    cut: Cut = None,
    n_in: int = 3,
    init: InitFunc | None = nn.init.kaiming_normal_,
    custom_head: nn.Module | None = None,
    concat_pool: bool = True,
    pool: bool = True,
    lin_ftrs: Sequence[int] | None = None,
    ps: float | Sequence[float] = 0.5,
    first_bn: bool = True,
    bn_final: bool = False,
    lin_first: bool = False,
    y_range: tuple[float, float] | None = None,
    features: int | None = None,
    **arch_args: Any,
) -> nn.Sequential:
    """Build `Sequential(body, head)`: the body of an architecture and a new head.

    Args:
        arch: A function that builds a model, or a timm name.
        n_out: Number of outputs.
        pretrained: Whether the body has trained weights.
        weights: Which: a torchvision name or entry, a local file, or a state dict.
        cut: Where the body ends: see `create_body`; by default as the architecture needs it.
        n_in: Channels of the images.
        init: Initialises the head; None keeps torch's own initialisation.
        custom_head: A head in place of `create_head(...)`, which takes the arguments below.
        concat_pool: Pool by maximum and mean, not by mean only.
        pool: Whether the head pools.
        lin_ftrs: Widths of the hidden layers of the head; [512] by default.
        ps: Dropout before the last layer, half of it before the others; or one value for each layer.
        first_bn: Batch norm before the first linear layer.
        bn_final: Batch norm after the last layer.
        lin_first: Linear layers before their batch norms.
        y_range: Squeeze the outputs into this range.
        features: Channels of the body's output; by default found by running it.
        arch_args: For timm's architecture: `img_size`, `drop_path_rate`, ….

    Raises:
        BadArgument: If the architecture does not have an argument.
    """
    arch = find_arch(arch)
    check_arch_args(arch, arch_args, create_vision_model)
    if custom_head is not None:
        features = 0  # which nobody needs to know
    if isinstance(arch, str):
        body: Any = timm_body(arch, n_in, pretrained, timm_weights(arch, weights), cut, features, **arch_args)
        features, pool = body.num_features, pool and body.needs_pool
    else:
        known_cut = model_meta[arch]["cut"]
        body = create_body(arch, n_in, pretrained, cut if cut is not None else known_cut, weights=weights)
        features = num_features_model(body) if features is None else features
    return add_head(
        body, features, n_out, init, custom_head, lin_ftrs=lin_ftrs, ps=ps, pool=pool, concat_pool=concat_pool,
        first_bn=first_bn, bn_final=bn_final, lin_first=lin_first, y_range=y_range,
    )  # fmt: skip


create_cnn_model = create_vision_model


@delegates(create_vision_model)
def create_timm_model(arch: str, n_out: int, cut: Cut = None, pretrained: bool = True, **kwargs: Any) -> nn.Sequential:
    """`create_vision_model` for the name of a timm architecture.

    Args:
        arch: The name.
        n_out: Number of outputs.
        cut: How many of the model's children the body keeps, or a function of the model; by default all but the head.
        pretrained: Whether the body has trained weights.
        kwargs: For `create_vision_model` and timm's architecture.

    Raises:
        UnknownName: If timm has no such architecture.
    """
    if not is_timm_model(arch):
        timm_body(arch)  # raises with the nearest names
    return create_vision_model(arch, n_out, pretrained, cut=cut, **kwargs)


@delegates(DynamicUnet)
def create_unet_model(
    arch: Arch,
    n_out: int,
    img_size: int | tuple[int, int],
    pretrained: bool = True,
    weights: Weights = None,
    cut: Cut = None,
    n_in: int = 3,
    levels: Sequence[Level] | None = None,
    **kwargs: Any,
) -> DynamicUnet:
    """A `DynamicUnet` on the body of an architecture.

    Args:
        arch: A function that builds a model, or a timm name.
        n_out: Channels of the output: classes of the pixels, or colours.
        img_size: (height, width) of the images, or one number for both.
        pretrained: Whether the body has trained weights.
        weights: Which: a torchvision name or entry, a local file, or a state dict.
        cut: Where the body ends: see `create_body`; by default as the architecture needs it.
        n_in: Channels of the images.
        levels: The body's feature maps, as `find_levels` finds them; None runs the body.
        kwargs: For `DynamicUnet` and timm's architecture.

    Raises:
        BadArgument: If neither of them has an argument, or `cut` is given for a timm model.
        BadValue: If the body has no feature maps of several sizes, or does not run on images of this size.

    Examples:
        >>> import torch; from torchvision.models import resnet18
        >>> create_unet_model(resnet18, 5, 64, pretrained=False)(torch.zeros(1, 3, 65, 97)).shape
        torch.Size([1, 5, 65, 97])
    """
    arch = find_arch(arch)
    size = (img_size, img_size) if isinstance(img_size, int) else img_size
    unet_args = {name: value for name, value in kwargs.items() if name in UnetArgs.__annotations__}
    arch_args = {name: value for name, value in kwargs.items() if name not in unet_args}
    check_arch_args(arch, arch_args, create_unet_model)
    if isinstance(arch, str):
        if cut is not None:
            raise BadArgument(
                "a U-Net takes all feature maps of a timm model", got=f"cut={cut} for '{arch}'", fix="leave out cut="
            )
        if "img_size" in timm_keywords(arch):
            arch_args["img_size"] = size
        body: nn.Module = timm_maps(arch, n_in, pretrained, timm_weights(arch, weights), **arch_args)
    else:
        known_cut = model_meta[arch]["cut"]
        body = create_body(arch, n_in, pretrained, cut if cut is not None else known_cut, weights=weights)
    return DynamicUnet(body, n_out, size, levels=levels, **unet_args)


def check_arch_args(arch: Arch, arch_args: Mapping[str, Any], caller: Callable[..., Any]) -> None:
    """Refuse arguments that an architecture does not have.

    Args:
        arch: A function that builds a model, or a timm name.
        arch_args: Arguments for timm's architecture.
        caller: The function that was called, whose own arguments may have been meant.
    """
    if arch_args:
        known = names_of(caller) | (timm_keywords(arch) if isinstance(arch, str) else set())
        refuse_unknown(arch_args, known, caller.__name__)


def timm_weights(arch: str, weights: Weights) -> LocalWeights | None:
    """The weights for a timm model: a file or a state dict; torchvision's are refused.

    Args:
        arch: The architecture.
        weights: The weights.
    """
    if isinstance(weights, Enum):
        raise BadArgument(
            f"the weights do not belong to the timm model '{arch}'",
            got=f"torchvision's {weights}",
            expected="a local file or a state dict, or pretrained=True for timm's own",
        )
    return weights
