"""Adapting a pretrained model: cut off its head, change the number of its input channels."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from layered.foundation import BadValue, warn
from layered.nn.hooks import num_features_model

num_features = num_features_model


def is_pool_type(m: nn.Module) -> bool:
    """Whether a module is a pooling layer itself.

    Args:
        m: The module.
    """
    return re.search(r"Pool[123]d$", type(m).__name__) is not None


def has_pool_type(m: nn.Module) -> bool:
    """Whether a module is or contains a pooling layer.

    Args:
        m: The module.
    """
    return any(is_pool_type(module) for module in m.modules())


def cut_model(model: nn.Module, cut: int | Callable[[nn.Module], nn.Module] | None = None) -> nn.Module:
    """The body of a model: everything before its last pooling and its classifier.

    Args:
        model: The model.
        cut: An int keeps `children[:cut]`; a function of the model returns its body; None keeps the children before the last
            one that is or contains a pooling layer.

    Raises:
        BadValue: If nothing is left, the model has no pooling layer, or it holds parameters outside its children.

    Examples:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> len(cut_model(net)), len(cut_model(net, 1))
        (2, 1)
    """
    if callable(cut):
        return cut(model)
    children = list(model.children())
    if cut is None:
        pooling = [i for i, child in enumerate(children) if has_pool_type(child)]
        if not pooling:
            raise BadValue(
                f"{type(model).__name__} has no pooling layer to cut it at",
                got=f"children {[type(child).__name__ for child in children]}",
                fix="pass cut=: how many of the children to keep, or a function of the model that returns its body",
            )
        cut = pooling[-1]
    lost = [name for name, _ in model.named_parameters(recurse=False)]
    if lost:
        raise BadValue(
            f"{type(model).__name__} cannot be cut between its children: it has parameters outside them, which would be lost",
            got=", ".join(lost[:4]),
            fix="pass cut=: a function of the model that returns its body",
        )
    if not children[:cut]:
        raise BadValue(
            f"cutting {type(model).__name__} leaves no body",
            got=f"cut={cut} of {len(children)} children",
            expected=f"a cut that keeps 1 to {len(children)} of them",
        )
    return nn.Sequential(*children[:cut])


def adapt_first_layer(model: nn.Module, n_in: int, pretrained: bool) -> nn.Module:
    """Change the number of channels that the first convolution of a model takes; the model is changed and returned.

    Args:
        model: The model.
        n_in: Channels of the images.
        pretrained: Derive the new weights from the old ones (see `input_weights`); otherwise the layer is initialised anew.

    Raises:
        BadValue: If the first convolution is grouped, or `pretrained` is set and it does not take 3 channels.
    """
    name, old = _first_conv(model)
    if old.in_channels == n_in:
        return model
    if old.groups != 1 or (pretrained and old.in_channels != 3):
        raise BadValue(
            f"the first convolution of {type(model).__name__} cannot be changed to {n_in} channels",
            got=f"{name}: {old}",
            expected="an ungrouped convolution of 3 channels",
            fix=f"build the model for n_in={n_in} yourself, with pretrained=False",
        )
    new = nn.Conv2d(
        n_in,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]  # a pair for every 2d convolution
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        dilation=old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
        device=old.weight.device,
        dtype=old.weight.dtype,
    )
    if pretrained:
        with torch.no_grad():
            new.weight.copy_(input_weights(old.weight, n_in))
            if new.bias is not None and old.bias is not None:
                new.bias.copy_(old.bias)
    if not name:
        return new
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, new)
    return model


def _first_conv(model: nn.Module) -> tuple[str, nn.Conv2d]:
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            return name, module
    raise BadValue(f"{type(model).__name__} has no 2d convolution, so its number of input channels cannot be changed")


def input_weights(weight: Tensor, n_in: int) -> Tensor:
    """Weights for another number of input channels that give responses of a similar scale: [out, n_in, h, w].

    One channel gets the sum over the old ones; two get the first two, times 1.5; more get the old ones and zeros.

    Args:
        weight: Weights of three channels, [out, 3, h, w].
        n_in: Number of channels.
    """
    if n_in == 1:
        return weight.sum(1, keepdim=True)
    if n_in == 2:
        return weight[:, :2] * 1.5
    extra = weight.new_zeros(weight.shape[0], n_in - 3, *weight.shape[2:])
    return torch.cat([weight, extra], 1)


def report_left_out(name: str, left_out: Mapping[str, Tensor]) -> None:
    """Warn of the tensors of a file of weights that the model has no use for, such as the classifier of other classes.

    Args:
        name: The architecture.
        left_out: The tensors by name.
    """
    if left_out:
        listed = ", ".join(f"{k} {tuple(v.shape)}" for k, v in list(left_out.items())[:6])
        more = f" and {len(left_out) - 6} more" if len(left_out) > 6 else ""
        warn(f"{len(left_out)} tensors in the weights do not belong to '{name}' and were left out: {listed}{more}")


def body_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The body's weights in the state dict of a whole `Sequential(body, head)`; empty for other state dicts.

    Args:
        state: The state dict.
    """
    is_whole = all(name.startswith(("0.", "1.")) for name in state)
    return {name[2:]: value for name, value in state.items() if name.startswith("0.")} if is_whole else {}
