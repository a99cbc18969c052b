"""What torch's own losses say about a model's outputs and about the targets they take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from types import FunctionType
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layered.foundation.names import innermost

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32)


@dataclass(frozen=True)
class TorchLoss:
    """What a loss of torch compares.

    Args:
        targets: "classes", an index for each position; "labels", yes or no for each output; "numbers".
        outputs: "logits", "logs" (of probabilities or rates), "probabilities" or "numbers".
    """

    targets: str
    outputs: str


@runtime_checkable
class OfProbabilities(Protocol):
    """A loss that says whether it takes probabilities of labels."""

    of_probabilities: bool


_PAIRS: dict[TorchLoss, tuple[Any, ...]] = {
    TorchLoss("classes", "logits"): (
        nn.CrossEntropyLoss, F.cross_entropy, nn.MultiMarginLoss, F.multi_margin_loss,
    ),
    TorchLoss("classes", "logs"): (nn.NLLLoss, F.nll_loss, nn.KLDivLoss, F.kl_div),
    TorchLoss("labels", "logits"): (
        nn.BCEWithLogitsLoss, F.binary_cross_entropy_with_logits,
        nn.MultiLabelSoftMarginLoss, F.multilabel_soft_margin_loss,
    ),
    TorchLoss("labels", "probabilities"): (nn.BCELoss, F.binary_cross_entropy),
    TorchLoss("numbers", "numbers"): (
        nn.MSELoss, F.mse_loss, nn.L1Loss, F.l1_loss, nn.SmoothL1Loss, F.smooth_l1_loss, nn.HuberLoss, F.huber_loss,
    ),
    TorchLoss("numbers", "logs"): (nn.PoissonNLLLoss, F.poisson_nll_loss),
}  # fmt: skip
_LOSSES: dict[Any, TorchLoss] = {loss: pair for pair, losses in _PAIRS.items() for loss in losses}


def torch_loss(loss_func: object) -> TorchLoss | None:
    """What a loss of torch compares: a module or one of its subclasses, a function, or a partial; None for other losses.

    Of other functions it is known whether they hand probabilities on to a loss that takes these.

    Args:
        loss_func: The loss.

    Examples:
        >>> torch_loss(partial(F.cross_entropy, label_smoothing=0.1)), torch_loss(lambda pred, target: pred.sum())
        (TorchLoss(targets='classes', outputs='logits'), None)
    """
    found = next((_LOSSES[kind] for kind in _kinds(loss_func) if kind in _LOSSES), None)
    if found is None and isinstance(function := innermost(loss_func), FunctionType):
        return TorchLoss("labels", "probabilities") if _hands_on_probabilities(function) else None
    if found is not None and found.outputs == "logs" and not _setting(loss_func, "log_input", True):
        return TorchLoss(found.targets, "numbers")
    return found


def _hands_on_probabilities(function: FunctionType) -> bool:
    """Whether a function uses a loss of probabilities of labels and nothing that could make these from logits."""
    named = set(function.__code__.co_names)
    if any("sigmoid" in name.lower() or "softmax" in name.lower() for name in named):
        return False
    used = [function.__globals__.get(name, getattr(F, name, None)) for name in named]
    with suppress(ValueError):  # a name that is not set yet
        used += [cell.cell_contents for cell in function.__closure__ or ()]
    return any(_LOSSES[kind].outputs == "probabilities" for x in used for kind in _kinds(x) if kind in _LOSSES)


def _kinds(loss_func: object) -> tuple[Any, ...]:
    """What a loss is looked up by: its function, inside partials, or its class and those it inherits from."""
    loss_func = innermost(loss_func)
    if isinstance(loss_func, nn.Module):
        return type(loss_func).__mro__
    return (loss_func,) if isinstance(loss_func, FunctionType) else ()


def _setting(loss_func: object, name: str, default: object) -> Any:
    return (
        loss_func.keywords.get(name, default) if isinstance(loss_func, partial) else getattr(loss_func, name, default)
    )


def as_torch_expects(loss_func: Callable[..., Any] | None, pred: object, targets: tuple[Any, ...]) -> tuple[Any, ...]:
    """The targets in the form that a loss of torch needs; unchanged for all other losses, subclasses of torch's included.

    Class indices lose an axis of one column and become int64. Labels and numbers become floats of the shape of the
    predictions where only axes of size 1 differ: [batch, 1] and [batch] would broadcast to [batch, batch]. So do targets
    with more axes that predictions have in one row, as points are: [batch, point, 2].

    Args:
        loss_func: The loss.
        pred: The predictions.
        targets: The targets.

    Examples:
        >>> as_torch_expects(F.mse_loss, torch.zeros(2, 1), (torch.tensor([3, 4]),))
        (tensor([[3.],
                [4.]]),)
    """
    found = next((_LOSSES.get(kind) for kind in _kinds(loss_func)[:1]), None)
    if found is None or len(targets) != 1 or not isinstance(pred, Tensor) or not isinstance(targets[0], Tensor):
        return targets
    target = targets[0]
    if found.targets != "classes":
        is_row = pred.ndim == 2 < target.ndim and pred.shape == (len(target), target[0].numel() if len(target) else 0)
        if target.shape != pred.shape and (is_row or _without_ones(target) == _without_ones(pred)):
            target = target.reshape(pred.shape)
        return (target if target.is_floating_point() else target.to(pred.dtype),)
    if target.is_floating_point():
        return targets
    if target.ndim == pred.ndim > 1 and target.shape[1] == 1:
        target = target.squeeze(1)
    return (target.long() if target.dtype in INTEGERS else target,)


def _without_ones(x: Tensor) -> list[int]:
    return [size for size in x.shape if size != 1]


def takes_probabilities(loss_func: object) -> bool:
    """Whether a loss takes probabilities of labels: one of torch's, such as `nn.BCELoss`, or one that declares it.

    Args:
        loss_func: The loss.
    """
    if isinstance(loss_func, OfProbabilities):
        return loss_func.of_probabilities
    found = torch_loss(loss_func)
    return found is not None and found.outputs == "probabilities"


def ignored_target(loss_func: object) -> Any:
    """The target that a loss leaves out of its mean, its attribute or argument `ignore_index`; None if there is none.

    Args:
        loss_func: The loss.

    Examples:
        >>> ignored_target(nn.CrossEntropyLoss()), ignored_target(partial(F.cross_entropy, ignore_index=3))
        (-100, 3)
    """
    found = getattr(loss_func, "ignore_index", None)
    return default_of("ignore_index", loss_func) if found is None and callable(loss_func) else found


def default_of(name: str, function: Callable[..., Any]) -> Any:
    """The default of an argument; None if there is none.

    Args:
        name: The argument.
        function: The function, or a partial of one.
    """
    try:
        parameter = _parameters(function).get(name)
    except (TypeError, ValueError):  # not hashable, or built in and without a signature
        return None
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


@lru_cache(maxsize=32)  # mixing asks at every batch
def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


def is_single(x: Tensor, axis: int = -1) -> bool:
    """Whether there is a single output for each position, not one for each class.

    Args:
        x: A model's output.
        axis: The axis of the classes.
    """
    return x.ndim == 1 or (x.ndim > 1 and x.shape[axis] == 1)


def in_two_columns(pred: Any, loss_func: object = None, axis: int = -1) -> Any:
    """A single output for each position as scores of two classes, whose softmax is their probability.

    The output is the logit of the second class, or its probability if the loss takes probabilities. Anything else is returned
    unchanged.

    Args:
        pred: The model's output.
        loss_func: The loss it was trained with.
        axis: The axis of the classes.

    Examples:
        >>> in_two_columns(torch.tensor([[0.75]]), nn.BCELoss()).softmax(1)
        tensor([[0.2500, 0.7500]])
    """
    if not isinstance(pred, Tensor) or not is_single(pred, axis) or not pred.is_floating_point():
        return pred
    if pred.ndim == 1:
        pred, axis = pred[:, None], 1
    pair = (torch.log1p(-pred), pred.log()) if takes_probabilities(loss_func) else (torch.zeros_like(pred), pred)
    return torch.cat(pair, axis)
