"""A model as data, and back: how an exported file says which model its weights belong to.

The data name registered classes (`torch.Linear`, `AdaptiveConcatPool2d`, your own) and their constructor arguments, in
the grammar of `layered.files.codec`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from layered.files import CONTAINERS, Scope, cannot_describe, decode_tree, encode_tree, weightless
from layered.foundation import BadFile, modules, seeded

_DIMENSIONED = """
AdaptiveAvgPool AdaptiveMaxPool AvgPool MaxPool BatchNorm Conv ConvTranspose Dropout InstanceNorm ReflectionPad
ReplicationPad ZeroPad
"""
_OTHERS = """
AlphaDropout Bilinear CELU ChannelShuffle CosineSimilarity Dropout ELU Embedding EmbeddingBag Flatten GELU GLU GRU GRUCell
GroupNorm Hardshrink Hardsigmoid Hardswish Hardtanh Identity LSTM LSTMCell LayerNorm LeakyReLU Linear LocalResponseNorm
LogSigmoid LogSoftmax Mish PReLU PixelShuffle PixelUnshuffle RMSNorm RNN RReLU ReLU ReLU6 SELU SiLU Sigmoid Softmax Softmax2d
Softmin Softplus Softshrink Softsign Tanh Tanhshrink Threshold Unflatten Upsample
"""

for _kind in CONTAINERS:
    modules.add(f"torch.{_kind.__name__}", _kind)
for _name in [*_OTHERS.split(), *(f"{stem}{n}d" for stem in _DIMENSIONED.split() for n in (1, 2, 3))]:
    if hasattr(nn, _name):
        modules.add(f"torch.{_name}", getattr(nn, _name))


def describe_module(model: nn.Module) -> dict[str, Any]:
    """The model as data that JSON can hold: classes and constructor arguments, no weights.

    Args:
        model: A module all of whose classes are registered.

    Raises:
        NotExportable: A class is not registered, an argument is not data, or a model built from the description would
            differ from this one, which was changed after construction. The error names the module.

    Examples:
        >>> describe_module(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))["children"]["1"]
        {'$module': 'torch.ReLU', 'args': {}}
    """
    node: dict[str, Any] = encode_tree(model, {}, "", Scope.MODEL)
    rebuilt = _weightless(node)
    if repr(rebuilt) != repr(model) or _shapes(rebuilt) != _shapes(model):
        raise cannot_describe(
            "", model, "was changed after it was built, so its constructor arguments do not describe it"
        )
    return node


def rebuild_module(node: dict[str, Any], shapes: Mapping[str, Sequence[int]] | None = None) -> nn.Module:
    """The model that `describe_module` described, with fresh weights.

    Args:
        node: The description, which may come from anyone.
        shapes: The names and shapes that the model's `state_dict` must have; checked before its weights take memory.

    Raises:
        UnknownName: A class or function is not registered in this process.
        BadFile: The description is invalid, or does not fit `shapes`.
    """
    if shapes is not None:
        wanted = {name: torch.Size(shape) for name, shape in shapes.items()}
        found = _shapes(_weightless(node))
        if found != wanted:
            differing = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
            raise BadFile(
                "the model's description does not fit its weights", got=f"differing: {', '.join(differing[:5])}"
            )
    model = decode_tree(node, {}, Scope.MODEL)
    if not isinstance(model, nn.Module):
        raise BadFile("the file does not describe a model", got=type(model).__name__)
    return model


def _weightless(node: dict[str, Any]) -> nn.Module:
    """The described model without memory for its weights."""
    with seeded(0), weightless():
        return rebuild_module(node)


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: x.shape for name, x in model.state_dict().items()}
