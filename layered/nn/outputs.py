"""What a model's outputs become: predictions by an activation, and decisions by decoding these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from layered.foundation import TorchLoss, is_single, noop, output_scores, torch_loss
from layered.nn.losses import BaseLoss, BCEWithLogitsLossFlat

Step = Callable[[Any], Any]

_LAST_LAYERS: dict[type[nn.Module], TorchLoss] = {
    nn.Softmax: TorchLoss("classes", "probabilities"),
    nn.LogSoftmax: TorchLoss("classes", "logs"),
    nn.Sigmoid: TorchLoss("labels", "probabilities"),
}


class Meaning(NamedTuple):
    """How the outputs of a model are read.

    Args:
        activation: From outputs to predictions: probabilities of classes or labels, numbers.
        decodes: From predictions to decisions in the form of the targets: class indices, True for labels, numbers.
    """

    activation: Step
    decodes: Step


RAW = Meaning(noop, noop)


def meaning(
    loss_func: object, usual: Sequence[object] = (), model: nn.Module | None = None, classes: int | None = None
) -> Meaning:
    """How the outputs of a model are read.

    A loss that defines `activation` or `decodes` decides. Otherwise a loss of torch says what the outputs are (logits,
    probabilities, …), and the kind of target what they are decoded to. With any other loss, outputs are those that the
    default loss for the targets takes, unless the last layer of the model is a softmax, log-softmax or sigmoid. A single
    output for two classes belongs to the second.

    Args:
        loss_func: The loss that the model is trained with; None for a model that computes its own.
        usual: The default loss for each target; empty if their kinds are unknown.
        model: The model.
        classes: The number of classes, if it is known: a single output for more than two is a number.

    Examples:
        >>> from layered.nn import CrossEntropyLossFlat
        >>> read = meaning(nn.BCEWithLogitsLoss(), [CrossEntropyLossFlat()])
        >>> read.decodes(read.activation(torch.tensor([[-2.0], [2.0]])))
        tensor([0, 1])
    """
    own = own_meaning(loss_func)
    if own is not None:
        return own
    activation = _own_method(loss_func, "activation")
    if len(usual) > 1:
        return _of_each([meaning(loss_func, [one], model) for one in usual])
    target = usual[0] if usual else None
    read = _by_kind(loss_func, target, model, classes) or (RAW if target is None else meaning(target))
    return Meaning(on_scores(read.activation) if activation is None else activation, read.decodes)


def own_meaning(loss_func: object) -> Meaning | None:
    """How the outputs are read if the loss alone decides: it defines `decodes`, or is None; else None.

    Args:
        loss_func: The loss.
    """
    if loss_func is None:
        return RAW
    decodes = _own_method(loss_func, "decodes")
    return None if decodes is None else Meaning(_own_method(loss_func, "activation") or noop, decodes)


def _own_method(loss_func: object, name: str) -> Step | None:
    """A method of a loss, unless it lacks it or only inherits that of `BaseLoss`."""
    method = getattr(loss_func, name, None)
    return None if getattr(method, "__func__", None) is getattr(BaseLoss, name) else method


def on_scores(step: Step) -> Step:
    """A step that reads the scores in an output; outputs whose scores are not a tensor stay as they are.

    Args:
        step: A function of a tensor.
    """
    if step is noop:
        return noop

    def read(output: object) -> Any:
        scores = output_scores(output)
        return step(scores) if isinstance(scores, Tensor) else output

    return read


def _by_kind(loss_func: object, usual: object, model: nn.Module | None, classes: int | None) -> Meaning | None:
    """By what torch's loss or the last layer says of the outputs, and what the default loss says of the targets."""
    flat = loss_func if isinstance(loss_func, BaseLoss) else None
    by_loss = torch_loss(loss_func if flat is None else flat.func)
    known = by_loss or _said_by_last_layer(model)
    kind = _kind(usual) or (None if known is None else known.targets)
    if kind is None:
        return None
    if flat is not None:
        axis = flat.axis
    elif by_loss is None or by_loss.targets != "classes":
        axis = usual.axis if isinstance(usual, BaseLoss) else -1
    else:
        axis = 1  # where torch's losses have the classes
    said = known or TorchLoss(kind, "numbers" if kind == "numbers" else "logits")
    read = Meaning(_activation(said, axis), _decoding(kind, axis))
    if known is not None or kind != "classes" or classes in (None, 2):
        return read
    return Meaning(*(_unless_single(step, axis) for step in read))


def _kind(usual: object) -> str | None:
    if isinstance(usual, BCEWithLogitsLossFlat):
        return "labels"
    if isinstance(usual, BaseLoss):
        return "classes" if usual.y_int else "numbers"
    said = torch_loss(usual)
    return None if said is None else said.targets


def _said_by_last_layer(model: nn.Module | None) -> TorchLoss | None:
    while model is not None and (children := list(model.children())):
        model = children[-1]
    return _LAST_LAYERS.get(type(model)) if model is not None else None


def _activation(said: TorchLoss, axis: int) -> Step:
    if said.outputs == "logs":
        return torch.exp
    if said.outputs != "logits":
        return noop
    if said.targets == "labels":
        return torch.sigmoid
    return lambda x: x.sigmoid() if is_single(x, axis) else x.softmax(axis)


def _unless_single(step: Step, axis: int) -> Step:
    return lambda x: x if isinstance(x, Tensor) and is_single(x, axis) else step(x)


def _decoding(kind: str, axis: int) -> Step:
    if kind == "numbers":
        return noop
    if kind == "labels":
        return on_scores(lambda x: x > 0.5)

    def classes(x: Tensor) -> Tensor:
        if not is_single(x, axis):
            return x.argmax(axis)
        likely = (x > 0.5).long()
        return likely if x.ndim == 1 else likely.squeeze(axis)

    return on_scores(classes)


def _of_each(parts: Sequence[Meaning]) -> Meaning:
    """Of outputs that are a tuple with a part for each target; others stay as they are."""

    def each(steps: Sequence[Step]) -> Step:
        def read(output: object) -> Any:
            if not isinstance(output, tuple) or len(output) != len(steps):
                return output
            return tuple(step(part) for step, part in zip(steps, output, strict=True))

        return read

    return Meaning(each([part.activation for part in parts]), each([part.decodes for part in parts]))
