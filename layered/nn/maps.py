"""Which module of a model is meant by a name, and what its output is: feature maps, with their channels first or last."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from layered.foundation import BadArgument, describe, unknown_name


def named_module(model: nn.Module, layer: nn.Module | str) -> nn.Module:
    """A module of a model.

    Args:
        model: The model.
        layer: The module, or its name among `model.named_modules()`: "0.layer4".

    Raises:
        UnknownName: The model has no module of that name.
        BadArgument: The module does not belong to the model.
    """
    modules = dict(model.named_modules())
    if isinstance(layer, str):
        if layer not in modules:
            raise unknown_name(
                "layer", layer, filter(None, modules), fix="the names are those of model.named_modules()"
            )
        return modules[layer]  # type: ignore[no-any-return]
    if not any(layer is module for module in modules.values()):
        raise BadArgument("layer is a module of the model, or its name", got=describe(layer))
    return layer


@contextmanager
def not_compiled(model: nn.Module) -> Iterator[None]:
    """Context in which a model runs uncompiled, because compiled code does not call hooks.

    Args:
        model: The model.
    """
    compiled = [(m, m._compiled_call_impl) for m in model.modules() if m._compiled_call_impl is not None]
    try:
        for m, _ in compiled:
            m._compiled_call_impl = None
        yield
    finally:
        for m, call in compiled:
            m._compiled_call_impl = call


def channels_first(maps: Tensor, x: Tensor) -> Tensor:
    """Feature maps as [batch, channel, height, width], also of a model that works channels last.

    Height and width are the adjacent axes whose ratio is closest to that of the images.

    Args:
        maps: float, [batch, channel, height, width] or [batch, height, width, channel].
        x: The images: [batch, channel, height, width].
    """
    return maps.movedim(-1, 1) if _is_channels_last(maps.shape, x) else maps


def places(shape: torch.Size, x: Tensor) -> int:
    """The number of places of feature maps: height times width.

    Args:
        shape: That of the maps, with channels first or last.
        x: The images: [batch, channel, height, width].
    """
    return math.prod(shape[1:3] if _is_channels_last(shape, x) else shape[2:4])


def _is_channels_last(shape: torch.Size, x: Tensor) -> bool:
    image = math.log(x.shape[-2] / x.shape[-1])
    first, last = (abs(math.log(shape[i] / shape[i + 1]) - image) for i in (2, 1))
    return last < first
