"""What metrics do with predictions and targets first: check that they match, and compute in enough precision."""

from __future__ import annotations

from typing import TypeVar, overload

import torch
from torch import Tensor

from layered.foundation import BadValue, find_bs, is_single, plain

T = TypeVar("T")


def flatten_check(pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
    """Both as plain vectors.

    Args:
        pred: The predictions.
        targ: The targets.

    Raises:
        BadValue: They differ in the number of elements.

    Examples:
        >>> flatten_check(torch.zeros(2, 1), torch.ones(2))
        (tensor([0., 0.]), tensor([1., 1.]))
    """
    pred, targ = plain(pred), plain(targ)
    if pred.numel() != targ.numel():
        raise mismatch(pred, targ)
    return pred.flatten(), targ.flatten()


def best_and_target(pred: Tensor, targ: Tensor, axis: int = -1) -> tuple[Tensor, Tensor]:
    """The class with the highest score, and the target in the same shape.

    Args:
        pred: Scores, with the classes on `axis`. A single one for each target speaks for the second of two classes: they are
            probabilities if all are in [0, 1], else logits.
        targ: Class indices; an axis of size 1 may be missing here or in the predictions.
        axis: The class axis.

    Raises:
        BadValue: There is not one target for each position of the predictions without `axis`.
    """
    pred, targ = plain(pred), plain(targ)
    if pred.numel() == targ.numel():
        pred = scores_of_two(pred, axis)
    best = pred.argmax(dim=axis)
    if best.shape == targ.shape:
        return best, targ
    if best.numel() != targ.numel():
        raise mismatch(pred, targ, axis)
    return best.flatten(), targ.flatten()


def scores_of_two(pred: Tensor, axis: int = -1) -> Tensor:
    """A single score for each target as scores of two classes; several scores unchanged.

    Args:
        pred: Scores: probabilities of the second class if all of them are in [0, 1], else its logits.
        axis: The class axis.

    Examples:
        >>> scores_of_two(torch.tensor([[-1.0], [2.0]])).argmax(1)
        tensor([0, 1])
    """
    if not is_single(pred, axis) or not pred.is_floating_point():
        return pred
    if pred.ndim == 1:
        pred, axis = pred[:, None], 1
    are_probabilities = ((pred >= 0) & (pred <= 1)).all()
    first = torch.where(are_probabilities, torch.log1p(-pred), 0.0)
    return torch.cat([first, torch.where(are_probabilities, pred.log(), pred)], axis)


def numbers(pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
    """Both as vectors of floats of at least 32 bits, because sums in half precision round and overflow.

    Args:
        pred: The predictions.
        targ: The targets.
    """
    pred, targ = flatten_check(pred, targ)
    return floats(pred), floats(targ)


def floats(x: Tensor) -> Tensor:
    """`x` as float32; float64 stays.

    Args:
        x: Any tensor.
    """
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


@overload
def wide(x: Tensor) -> Tensor: ...
@overload
def wide(x: T) -> T: ...
def wide(x: object) -> object:
    """A detached tensor, in float64 where its device has it, so that long sums stay exact; other values unchanged.

    Args:
        x: A tensor or a number.
    """
    if not isinstance(x, Tensor):
        return x
    return plain(x).detach().to(torch.float32 if x.device.type == "mps" else torch.float64)


def rows_of(batch: object) -> int:
    """The number of samples of a batch.

    Args:
        batch: A tensor, or several in a tuple.
    """
    first = batch[0] if isinstance(batch, tuple) and batch else batch
    return len(first) if isinstance(first, Tensor) and first.ndim else find_bs(batch)


def describe_batch(batch: object) -> str:
    """The type and shape of what a metric was given: "float32 [64, 10]".

    Args:
        batch: A tensor, another object, or a tuple of these.

    Examples:
        >>> describe_batch((torch.zeros(2, 3), [1]))
        'float32 [2, 3], list'
    """
    if isinstance(batch, tuple):
        return ", ".join(map(describe_batch, batch))
    if isinstance(batch, Tensor):
        return f"{str(batch.dtype).removeprefix('torch.')} {list(batch.shape)}"
    return type(batch).__name__


def mismatch(pred: Tensor, targ: Tensor, axis: int | None = None) -> BadValue:
    """The error for predictions and targets that do not match.

    Args:
        pred: The predictions.
        targ: The targets.
        axis: The class axis, if the predictions have one.
    """
    if axis is None and pred.ndim == 2 and targ.numel() == len(pred):
        fix = "for one of several classes use accuracy, F1Score(average='macro') or similar; otherwise give the model one output"
    elif axis is None:
        fix = "check the number of outputs of the model (n_out)"
    elif pred.shape == targ.shape:
        fix = "targets with a number for each class need a metric for several labels (accuracy_multi, F1ScoreMulti)"
    else:
        fix = f"check that the classes are on axis {axis} of the predictions (`axis=`)"
    return BadValue(
        "predictions and targets do not match",
        got=f"predictions {describe_batch(pred)}, targets {describe_batch(targ)}",
        expected="the same number of elements in both"
        if axis is None
        else f"one target for each position without axis {axis}",
        fix=fix,
    )
