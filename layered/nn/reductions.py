"""How losses reduce to one number: without the mean, for each sample, and what a mean divides by."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from layered.foundation import BadValue, as_torch_expects, innermost, map_tree, output_scores
from layered.nn.losses import BaseLoss
from layered.nn.multitask import MultiTaskLoss

Shares: TypeAlias = Sequence[tuple[Any, Tensor | int | None]]
"""The parts that a loss adds up, each with what its mean divides by; None where it is the number of samples."""


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
    ignored = ignored_target(loss_func)
    if ignored is None or losses.numel() != targets[0].numel():
        return losses.reshape(samples, -1).mean(1)
    counted: Tensor = (targets[0] != ignored).reshape(samples, -1).sum(1)
    return losses.reshape(samples, -1).sum(1) / counted.clamp(min=1)


def ignored_target(loss_func: object) -> Any:
    """The target that a loss leaves out of its mean, its `ignore_index`; None if there is none.

    Args:
        loss_func: A loss.
    """
    loss = loss_func.func if isinstance(loss_func, BaseLoss) else loss_func
    found = getattr(loss, "ignore_index", None)
    return _default_of("ignore_index", loss) if found is None and callable(loss) else found


def reduction_of(loss_func: object) -> str | None:
    """How a loss reduces, by its attribute or argument `reduction`: "mean", "sum" or "none"; None if it does not say.

    Args:
        loss_func: A loss.
    """
    found = getattr(loss_func, "reduction", None)
    found = _default_of("reduction", loss_func) if found is None and callable(loss_func) else found
    return None if found is None else str(found)


def loss_shares(loss_func: Callable[..., Any], pred: object, targets: Sequence[Any]) -> tuple[Any, Shares]:
    """A loss, and its parts with what the mean of each divides by, so that means of batches combine to that of all.

    What counts is read from the one call of a torch loss, such as `F.cross_entropy`, that the loss makes, in whatever
    function or module it happens; a loss that makes several, or none, is taken as a mean over samples.

    Args:
        loss_func: A loss.
        pred: The model's output.
        targets: The targets.

    Examples:
        >>> loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0]), ignore_index=-1)
        >>> loss_shares(loss, torch.zeros(3, 2), [torch.tensor([0, 1, -1])])
        (tensor(0.6931), [(tensor(0.6931), tensor(4.))])
    """
    pred = compared(loss_func, pred)
    if isinstance(loss_func, MultiTaskLoss) and reduction_of(loss_func) == "mean":
        parts: list[tuple[Any, Tensor | int | None]] = []
        for weight, loss, part, target in loss_func.tasks(pred, targets):
            parts += [(weight * mean, count) for mean, count in loss_shares(loss, part, [target])[1]]
        return sum(mean for mean, _ in parts), parts
    inputs: Sequence[Any] = (pred, *targets)
    if isinstance(loss_func, BaseLoss) and type(loss_func).__call__ is BaseLoss.__call__:
        inputs, loss_func = loss_func.prepared(*inputs), loss_func.compare  # of which only the latter is worth watching
    with _Watch() as watch:
        loss = loss_func(*inputs)
    return loss, [(loss, watch.counts[0] if len(watch.counts) == 1 else None)]


class _Watch(TorchFunctionMode):
    """Notes what the means of torch's losses divide by while they are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[Tensor | int] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _COUNTS and kwargs.get("reduction", "mean") == "mean":
            self.counts.append(_COUNTS[func](*args, **kwargs))
        return func(*args, **kwargs)


def _counted_weight(
    input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100, **_: object
) -> Tensor | int:
    """What the mean of a cross entropy divides by: the targets that count, by the weights of their classes."""
    if target.is_floating_point():
        return target.numel() // target.shape[min(1, target.ndim - 1)]
    counted = target != ignore_index
    return counted.sum() if weight is None else (weight[target * counted] * counted).sum()


def _elements(input: Tensor, *_: object, **__: object) -> int:
    return input.numel()


_COUNTS: dict[Any, Callable[..., Tensor | int]] = {
    F.cross_entropy: _counted_weight,
    F.nll_loss: _counted_weight,
    **dict.fromkeys((F.binary_cross_entropy, F.binary_cross_entropy_with_logits), _elements),
    **dict.fromkeys((F.huber_loss, F.l1_loss, F.mse_loss, F.smooth_l1_loss), _elements),
}


def _row(i: int, x: object) -> object:
    """Row `i` of a tensor, as a batch of one; anything else unchanged."""
    return x[i : i + 1] if isinstance(x, Tensor) and x.ndim else x


def _default_of(name: str, function: Callable[..., Any] | None) -> object:
    """The default of an argument; None if there is none."""
    try:
        parameter = None if function is None else _parameters(function).get(name)
    except (TypeError, ValueError):  # not callable, not hashable, or built in and without a signature
        return None
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


@lru_cache(maxsize=32)  # mixing asks at every batch
def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters
