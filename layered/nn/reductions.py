"""How losses reduce to one number: without the mean, for each sample, and what they leave out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layered.foundation import (
    BadValue,
    as_torch_expects,
    default_of,
    ignored_target,
    innermost,
    map_tree,
    output_scores,
)
from layered.nn.losses import BaseLoss


def compared(loss_func: object, output: object) -> Any:
    """What a loss compares of a model's output: the scores, if it is one of torch's or the library's; else all of it.

    Args:
        loss_func: A loss.
        output: The model's output.

    Examples:
        >>> compared(nn.MSELoss(), {"logits": torch.ones(1), "hidden": torch.zeros(3)})
        tensor([1.])
    """
    if isinstance(output, Tensor):
        return output
    loss_func = innermost(loss_func)
    known = loss_func if inspect.isfunction(loss_func) else type(loss_func)
    is_known = issubclass(known, (BaseLoss, nn.modules.loss._Loss)) if isinstance(known, type) else False
    return output_scores(output) if is_known or known.__module__ == F.__name__ else output


class NoneReduce:
    """Context manager: the loss unreduced, one number for each element instead of their mean; restored afterwards.

    Args:
        loss_func: A loss with an attribute `reduction`, such as torch's modules, or with an argument of that name, such
            as `F.cross_entropy`.

    Attributes:
        reduction: How the loss reduces outside the context: "mean", "sum" or "none".

    Raises:
        BadValue: The loss has neither.

    Examples:
        >>> with NoneReduce(nn.MSELoss()) as loss:
        ...     loss(torch.zeros(2), torch.tensor([1.0, 2.0]))
        tensor([1., 4.])
    """

    def __init__(self, loss_func: Callable[..., Any] | None) -> None:
        self.loss_func: Any = loss_func
        found = reduction_of(loss_func)
        self.is_attribute = getattr(loss_func, "reduction", None) is not None
        if found is None:
            raise BadValue(
                "this loss cannot be computed per sample",
                got=repr(loss_func),
                expected="a loss with a `reduction`, as an attribute or an argument",
                fix="use one such as CrossEntropyLossFlat(), nn.MSELoss() or F.cross_entropy",
            )
        self.reduction = found

    def __enter__(self) -> Callable[..., Any]:
        if self.is_attribute:
            self.loss_func.reduction = "none"
            unreduced: Callable[..., Any] = self.loss_func
            return unreduced
        return partial(self.loss_func, reduction="none")

    def __exit__(self, *error: object) -> None:
        if self.is_attribute:
            self.loss_func.reduction = self.reduction


def per_sample_loss(
    loss_func: Callable[..., Any] | None, pred: object, targets: Sequence[Any], *, one_by_one: bool = False
) -> Tensor:
    """The loss of each sample of a batch, [batch]: the mean of the unreduced loss over all other axes.

    Positions with the target that the loss ignores do not count.

    Args:
        loss_func: A loss with a `reduction`: see `NoneReduce`.
        pred: The model's output: a tensor, or several.
        targets: The targets, at least one; the first has a row for each sample.
        one_by_one: Call a loss without a `reduction` once for each sample, instead of refusing it.

    Raises:
        BadValue: The loss has no `reduction`.

    Examples:
        >>> per_sample_loss(nn.MSELoss(), torch.zeros(2, 2), [torch.tensor([[1.0, 2.0], [3.0, 3.0]])])
        tensor([2.5000, 9.0000])
    """
    samples, pred = len(targets[0]), compared(loss_func, pred)
    targets = as_torch_expects(loss_func, pred, tuple(targets))
    try:
        context = NoneReduce(loss_func)
    except BadValue:
        if loss_func is None or not one_by_one:
            raise
        batches = (map_tree(partial(_row, i), (pred, *targets)) for i in range(samples))
        return torch.stack([loss_func(*batch).detach().float().mean() for batch in batches])
    with context as unreduced:
        losses: Tensor = unreduced(pred, *targets)
    ignored = ignored_target(loss_func.func if isinstance(loss_func, BaseLoss) else loss_func)
    if ignored is None or losses.numel() != targets[0].numel():
        return losses.reshape(samples, -1).mean(1)
    counted: Tensor = (targets[0] != ignored).reshape(samples, -1).sum(1)
    return losses.reshape(samples, -1).sum(1) / counted.clamp(min=1)


def reduction_of(loss_func: object) -> str | None:
    """How a loss reduces, by its attribute or argument `reduction`: "mean", "sum" or "none"; None if it does not say.

    Args:
        loss_func: A loss.
    """
    found = getattr(loss_func, "reduction", None)
    found = default_of("reduction", loss_func) if found is None and callable(loss_func) else found
    return None if found is None else str(found)


def _row(i: int, x: object) -> object:
    """Row `i` of a tensor, as a batch of one; anything else unchanged."""
    return x[i : i + 1] if isinstance(x, Tensor) and x.ndim else x
