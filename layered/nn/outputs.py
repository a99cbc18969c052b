"""What a model's outputs become: predictions by an activation, and decisions by decoding these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any, NamedTuple

from torch import Tensor, nn

from layered.foundation import (
    BadValue,
    CannotTrain,
    Recorded,
    TorchLoss,
    is_single,
    losses,
    noop,
    output_scores,
    torch_loss,
)
from layered.nn.losses import BaseLoss, BCEWithLogitsLossFlat
from layered.nn.reductions import compared

Step = Callable[[Any], Any]
OUTPUTS, TARGETS = ("logits", "logs", "probabilities", "numbers"), ("classes", "labels", "numbers")

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
        reader: What both are methods of, if it can be written to an export in place of the loss; else None.
    """

    activation: Step
    decodes: Step
    reader: object = None


@losses.register()
class OutputReader(Recorded):
    """Activates and decodes outputs; in an export, it stands for a loss of torch, which says no more of them.

    Args:
        outputs: "logits", "logs" (of probabilities or rates), "probabilities" or "numbers".
        of: What the outputs are of: "classes", "labels" or "numbers".
        targets: What they are decoded to, likewise.
        axis: The axis of the classes.
        single: Whether a single output is that of the second of two classes; else it is a number.

    Examples:
        >>> import torch
        >>> OutputReader("logits", "labels", "labels").activation(torch.zeros(2))
        tensor([0.5000, 0.5000])
    """

    def __init__(self, outputs: str, of: str, targets: str, axis: int = -1, single: bool = True) -> None:
        for value, known in ((outputs, OUTPUTS), (of, TARGETS), (targets, TARGETS)):
            if value not in known:
                raise BadValue("unknown kind of outputs or targets", got=repr(value), expected=", ".join(known))
        self.outputs, self.of, self.targets, self.axis, self.single = outputs, of, targets, axis, single

    def __call__(self, pred: object, *targets: object) -> Tensor:
        raise CannotTrain(
            "the loss that this model was trained with is not known, only how its outputs are read",
            fix="give one: learn.loss_func = nn.CrossEntropyLoss()",
        )

    def activation(self, x: Any) -> Any:
        """Predictions: probabilities of classes or labels, numbers.

        Args:
            x: The model's output; its `logits` are read, if it has such a part.
        """
        scores = output_scores(x)
        if not isinstance(scores, Tensor):
            return x
        if self.outputs in ("probabilities", "numbers"):
            return scores
        if self.outputs == "logs":
            return scores.exp()
        if self.of == "labels":
            return scores.sigmoid()
        if is_single(scores, self.axis):
            return scores.sigmoid() if self.single else scores
        return scores.softmax(self.axis)

    def decodes(self, x: Any) -> Any:
        """Decisions: class indices, True for labels, numbers.

        Args:
            x: Predictions.
        """
        scores = output_scores(x)
        if not isinstance(scores, Tensor):
            return x
        if self.targets == "numbers":
            return scores
        if self.targets == "labels":
            return scores > 0.5
        if not is_single(scores, self.axis):
            return scores.argmax(self.axis)
        if not self.single:
            return scores
        likely = (scores > 0.5).long()
        return likely if scores.ndim == 1 else likely.squeeze(self.axis)


@losses.register()
class OutputReaders(Recorded):
    """An `OutputReader` for each part of outputs that are a tuple; others stay as they are.

    Args:
        readers: One for each target; None leaves its part as it is.
    """

    def __init__(self, readers: Sequence[Any]) -> None:
        self.readers = list(readers)

    def activation(self, x: Any) -> Any:
        """Predictions for each target.

        Args:
            x: The model's output.
        """
        return self._each("activation", x)

    def decodes(self, x: Any) -> Any:
        """Decisions for each target.

        Args:
            x: Predictions.
        """
        return self._each("decodes", x)

    def _each(self, name: str, x: object) -> Any:
        if not isinstance(x, tuple) or len(x) != len(self.readers):
            return x
        pairs = zip(self.readers, x, strict=True)
        return tuple(part if reader is None else getattr(reader, name)(part) for reader, part in pairs)


def meaning(
    loss_func: object, usual: Sequence[object] = (), model: nn.Module | None = None, classes: int | None = None
) -> Meaning:
    """How the outputs of a model are read.

    A loss that defines `activation` or `decodes` decides. Otherwise a loss of torch says what the outputs are (logits,
    probabilities, …), and the kind of target what they are decoded to. With any other loss, outputs are those that the
    default loss for the targets takes, unless the last layer of the model is a softmax, log-softmax or sigmoid. A single
    output for two classes belongs to the second. Without a loss outputs stay as they are, and the best class is decoded.

    Args:
        loss_func: The loss that the model is trained with; None for a model that computes its own.
        usual: The default loss for each target; empty if their kinds are unknown.
        model: The model.
        classes: The number of classes, if it is known: a single output for more than two is a number.

    Examples:
        >>> import torch; from layered.nn import CrossEntropyLossFlat
        >>> read = meaning(nn.BCEWithLogitsLoss(), [CrossEntropyLossFlat()])
        >>> read.decodes(read.activation(torch.tensor([[-2.0], [2.0]])))
        tensor([0, 1])
    """
    own = own_meaning(loss_func)
    if own is not None:
        return own
    reader: Any = _reader(loss_func, usual, model, classes)
    if reader is None:
        return Meaning(_own_method(loss_func, "activation") or noop, noop)
    return Meaning(_own_method(loss_func, "activation") or reader.activation, reader.decodes, reader)


def own_meaning(loss_func: object) -> Meaning | None:
    """How the outputs are read if the loss alone decides, because it defines `decodes`; else None.

    Args:
        loss_func: The loss.
    """
    decodes = _own_method(loss_func, "decodes")
    if decodes is None:
        return None
    activation = _own_method(loss_func, "activation")
    return Meaning(noop if activation is None else lambda output: activation(compared(loss_func, output)), decodes)


def _own_method(loss_func: object, name: str) -> Step | None:
    """A method of a loss, unless it lacks it or only inherits that of `BaseLoss`."""
    method = getattr(loss_func, name, None)
    is_inherited = isinstance(method, MethodType) and method.__func__ is getattr(BaseLoss, name)
    return None if is_inherited else method


def _reader(loss_func: object, usual: Sequence[object], model: nn.Module | None, classes: int | None) -> object:
    """The reader by what torch's loss or the last layer says of the outputs, and the default loss of the targets."""
    if len(usual) > 1:
        return OutputReaders([_reader(loss_func, [one], model, classes) for one in usual])
    target = usual[0] if usual else None
    flat = loss_func if isinstance(loss_func, BaseLoss) else None
    by_loss = torch_loss(loss_func if flat is None else flat.func)
    known = by_loss or (None if loss_func is None else _said_by_last_layer(model))
    kind = _kind(target) or (None if known is None else known.targets)
    if kind is None:
        return target if _own_method(target, "decodes") is not None else None
    if flat is not None:
        axis = flat.axis
    elif by_loss is None or by_loss.targets != "classes":
        axis = target.axis if isinstance(target, BaseLoss) else -1
    else:
        axis = 1  # where torch's losses have the classes
    if loss_func is None:
        return OutputReader("numbers", kind, kind, axis, single=False) if kind == "classes" else None
    said = known or TorchLoss(kind, "numbers" if kind == "numbers" else "logits")
    return OutputReader(said.outputs, said.targets, kind, axis, known is not None or classes in (None, 2))


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
