"""What the mean of a loss divides by, so that the losses of batches combine to that of the whole set."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from copy import copy
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from layered.foundation import find_bs, innermost, map_tree, seeded
from layered.nn.hooks import undisturbed
from layered.nn.losses import BaseLoss
from layered.nn.multitask import MultiTaskLoss
from layered.nn.reductions import compared, reduction_of

Shares: TypeAlias = Sequence[tuple[Any, Tensor | int | None]]
"""The parts that a loss adds up, each with what its mean divides by; None where it is the number of samples."""


def loss_shares(loss_func: Callable[..., Any], pred: object, targets: Sequence[Any]) -> tuple[Any, Shares]:
    """A loss, and its parts with what the mean of each divides by, so that means of batches combine to that of all.

    What counts is read from the calls of torch's losses, such as `F.cross_entropy`, that the loss makes, in whatever function
    or module they happen. Without gradients, a loss that is not built in is taken apart into those that it adds up, by their
    factors, and a rest; otherwise it is a single part. What is not a loss of torch is taken as a mean over samples.

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
    is_single = is_built_in(loss_func) or torch.is_grad_enabled() or torch.is_inference_mode_enabled()
    if isinstance(loss_func, BaseLoss) and type(loss_func).__call__ is BaseLoss.__call__:
        inputs, loss_func = loss_func.prepared(*inputs), loss_func.compare  # of which only the latter is worth watching
    if not is_single:
        return _taken_apart(loss_func, inputs)
    with _Watch() as watch:
        loss = loss_func(*inputs)
    return loss, [(loss, watch.counts[0] if len(watch.counts) == 1 else None)]


def _taken_apart(loss_func: Callable[..., Any], inputs: Sequence[Any]) -> tuple[Any, Shares]:
    """A loss and its parts: each loss of torch in it, times the derivative of the whole by that loss, and the rest."""
    with _Watch(by_parts=True) as watch, torch.enable_grad():
        loss = loss_func(*inputs)
    if not isinstance(loss, Tensor):
        return loss, ()
    if len(watch.given) == 1 and loss is watch.given[0] and loss._version == 0:  # as it was: no need to differentiate
        return loss.detach(), [(loss.detach(), watch.counts[0])]
    parts: list[tuple[Any, Tensor | int | None]] = []
    rest = loss.detach()
    if loss.ndim == 0 and loss.requires_grad and watch.means:
        factors = torch.autograd.grad(loss, watch.means, allow_unused=True)
        for mean, factor, count in zip(watch.means, factors, watch.counts, strict=True):
            if factor is not None:
                parts.append((factor * mean.detach(), count))
                rest = rest - parts[-1][0]
    return loss.detach(), [*parts, (rest, None)]


def is_built_in(loss_func: object) -> bool:
    """Whether a loss is one of torch's or the library's as it is, so that its mean is known.

    Args:
        loss_func: A loss.
    """
    loss_func = innermost(loss_func)
    if inspect.isfunction(loss_func):
        return loss_func.__module__ in _BUILT_IN
    func = loss_func.func if isinstance(loss_func, BaseLoss) else loss_func
    return {type(loss_func).__module__, type(func).__module__} <= _BUILT_IN


_BUILT_IN = {F.__name__, nn.CrossEntropyLoss.__module__, BaseLoss.__module__}


def counted(shares: Shares, rows: int) -> Shares:
    """The parts of the loss of a batch, with its number of samples where nothing else counts.

    Args:
        shares: The parts.
        rows: The number of samples.
    """
    return [(loss, rows if count is None else count) for loss, count in shares]


def combined(batches: Sequence[Shares]) -> list[tuple[Tensor, Tensor]]:
    """The parts of the loss of all these batches, each with its count; means of nothing are left out.

    Batches of which not all have the same parts are combined by the count of the last part.

    Args:
        batches: The parts of each batch, `counted`.

    Examples:
        >>> combined([[(torch.tensor(1.0), 3)], [(torch.tensor(2.0), 1)]])
        [(tensor(1.2500, dtype=torch.float64), tensor(4., dtype=torch.float64))]
    """
    if len({len(parts) for parts in batches}) > 1:
        batches = [[(sum(loss for loss, _ in parts), parts[-1][1])] for parts in batches]
    return [_combined(part) for part in zip(*batches, strict=True)]


def _combined(shares: Shares) -> tuple[Tensor, Tensor]:
    losses = torch.stack([loss for loss, _ in shares])
    counts = torch.stack([torch.as_tensor(count, device=losses.device) for _, count in shares]).cpu().double()
    total = torch.where(counts > 0, losses.cpu().double() * counts, 0).sum()
    return total / counts.sum(), counts.sum()


def how_batches_combine(loss_func: Callable[..., Any], pred: object, targets: Sequence[Any]) -> set[str]:
    """How the losses of two pieces of a batch give that of the batch.

    Weighted by what their "parts" divide by, weighted by their "rows", or as a "sum": all of these that do.

    The loss, its buffers and the random generators are left as they are.

    Args:
        loss_func: A loss.
        pred: The model's output for at least 2 samples.
        targets: The targets.

    Examples:
        >>> pred, target = torch.tensor([1.0, 2.0, 5.0]), torch.zeros(3)
        >>> weighted = lambda pred, target: F.mse_loss(pred, target, weight=pred)
        >>> how_batches_combine(weighted, pred, [target])
        {'parts'}
        >>> how_batches_combine(lambda pred, target: weighted(pred, target).sqrt(), pred, [target])
        set()
    """
    loss_func, rows = copy(loss_func), find_bs(targets or pred)
    cut, inputs = rows // 3 or 1, (pred, *targets)

    def piece(start: int, end: int) -> tuple[Any, Shares]:
        pred, *targets = map_tree(lambda x: x[start:end] if isinstance(x, Tensor) and find_bs(x) == rows else x, inputs)
        loss, shares = loss_shares(loss_func, pred, targets)
        return loss, counted(shares, end - start)

    with ExitStack() as stack:
        stack.enter_context(undisturbed(loss_func) if isinstance(loss_func, nn.Module) else seeded(0))
        stack.enter_context(torch.no_grad())
        try:
            (whole, _), first, second = piece(0, rows), piece(0, cut), piece(cut, rows)
        except Exception:  # a loss that cannot take fewer samples than a batch has, whatever it raises then
            return set()
    ways: dict[str, Shares] = {
        "parts": combined([first[1], second[1]]) if len(first[1]) == len(second[1]) else [],
        "rows": combined([[(first[0], cut)], [(second[0], rows - cut)]]),
        "sum": [(first[0].cpu().double(), 1), (second[0].cpu().double(), 1)],
    }
    return {way for way, parts in ways.items() if _agrees(parts, whole)}


def _agrees(parts: Shares, whole: Tensor) -> bool:
    total = torch.as_tensor(sum(loss for loss, count in parts if count), dtype=torch.float64)
    tolerance = 100 * torch.finfo(whole.dtype).eps
    return bool(torch.isclose(total, whole.cpu().double(), rtol=tolerance, atol=1e-6, equal_nan=True))


class _Watch(TorchFunctionMode):
    """Notes what the means of torch's losses divide by while they are computed.

    Args:
        by_parts: Keep the means too, as leaves that a sum of them can be differentiated by; that of nothing is 0.
    """

    def __init__(self, by_parts: bool = False) -> None:
        super().__init__()
        self.by_parts = by_parts
        self.counts: list[Tensor | int] = []
        self.means: list[Tensor] = []
        self.given: list[
            Tensor
        ] = []  # what the loss gets in their place: unlike leaves, these may be added to in place

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        if func not in _COUNTS or found.ndim > 0 or not _is_mean(**kwargs):
            return found
        count = _COUNTS[func](*args, **kwargs)
        self.counts.append(count)
        if not self.by_parts:
            return found
        found = torch.where(count > 0, found, 0) if isinstance(count, Tensor) else found
        self.means.append(found.detach().requires_grad_())
        self.given.append(self.means[-1].clone())
        return self.given[-1]


def _is_mean(
    reduction: str = "mean", size_average: bool | None = None, reduce: bool | None = None, **_: object
) -> bool:
    return reduction == "mean" and size_average is not False and reduce is not False


def _counted_weight(
    input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100, **_: object
) -> Tensor | int:
    """What the mean of a cross entropy divides by: the targets that count, by the weights of their classes."""
    if target.is_floating_point():
        return target.numel() // target.shape[min(1, target.ndim - 1)]
    is_counted = target != ignore_index
    return is_counted.sum() if weight is None else (weight[target * is_counted] * is_counted).sum()


def _elements(input: Tensor, *_: object, **__: object) -> int:
    return input.numel()


def _weighted_elements(input: Tensor, *_: object, weight: Tensor | None = None, **__: object) -> Tensor | int:
    return input.numel() if weight is None else weight.sum()


_COUNTS: dict[Any, Callable[..., Tensor | int]] = {
    F.cross_entropy: _counted_weight,
    F.nll_loss: _counted_weight,
    **dict.fromkeys((F.l1_loss, F.mse_loss), _weighted_elements),
    **dict.fromkeys((F.binary_cross_entropy, F.binary_cross_entropy_with_logits), _elements),
    **dict.fromkeys((F.huber_loss, F.smooth_l1_loss, F.soft_margin_loss, F.hinge_embedding_loss), _elements),
    **dict.fromkeys((F.kl_div, F.poisson_nll_loss, F.gaussian_nll_loss), _elements),
}
