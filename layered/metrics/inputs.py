"""What metrics do to predictions and targets first: the same number of elements, and enough precision."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from layered.foundation import BadValue, find_bs, plain


def flatten_check(pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
    """Both as plain vectors; raises BadValue if they do not have the same number of elements.

    Examples:
        >>> flatten_check(torch.zeros(2, 1), torch.ones(2))
        (tensor([0., 0.]), tensor([1., 1.]))
    """
    pred, targ = plain(pred), plain(targ)
    if pred.numel() != targ.numel():
        raise mismatch(pred, targ)
    return pred.flatten(), targ.flatten()


def best_and_target(pred: Tensor, targ: Tensor, axis: int = -1) -> tuple[Tensor, Tensor]:
    """The class with the largest score, and the target in the same shape (an axis of size 1 may be missing in either).

    Raises:
        BadValue: If there is not one target for each place in the predictions without `axis`.
    """
    pred, targ = plain(pred), plain(targ)
    best = pred.argmax(dim=axis)
    if best.shape == targ.shape:
        return best, targ
    if best.numel() != targ.numel():
        raise mismatch(pred, targ, axis)
    return best.flatten(), targ.flatten()


def numbers(pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
    """Both as vectors of floats of at least 32 bits; sums in half precision would round, or overflow."""
    pred, targ = flatten_check(pred, targ)
    return floats(pred), floats(targ)


def floats(x: Tensor) -> Tensor:
    """`x` in float32, or float64 if it is that already."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def wide(x: Any) -> Any:
    """A tensor without history, in float64 where its device has it, so that long sums stay exact; numbers as they are."""
    if not isinstance(x, Tensor):
        return x
    return plain(x).detach().to(torch.float32 if x.device.type == "mps" else torch.float64)


def rows_of(batch: Any) -> int:
    """The number of samples of a batch."""
    first = batch[0] if isinstance(batch, tuple) and batch else batch
    return len(first) if isinstance(first, Tensor) and first.ndim else find_bs(batch)


def shown(batch: Any) -> str:
    """The type and shape of what a metric was given: "float32 [64, 10]".

    Examples:
        >>> shown((torch.zeros(2, 3), [1]))
        'float32 [2, 3], list'
    """
    if isinstance(batch, tuple):
        return ", ".join(map(shown, batch))
    if isinstance(batch, Tensor):
        return f"{str(batch.dtype).removeprefix('torch.')} {list(batch.shape)}"
    return type(batch).__name__


def mismatch(pred: Tensor, targ: Tensor, axis: int | None = None) -> BadValue:
    """The error for predictions and targets that do not fit each other; `axis` is that of the classes, if there are any."""
    if axis is None and pred.ndim == 2 and targ.numel() == len(pred):
        fix = "for one class out of several use accuracy, F1Score(average='macro') and their like; else give the model one output"
    elif axis is None:
        fix = "check the number of outputs of the model (n_out)"
    elif pred.shape == targ.shape:
        fix = "targets with a number for each class need a metric for several labels (accuracy_multi, F1ScoreMulti)"
    else:
        fix = f"check that the classes stand on axis {axis} of the predictions (`axis=`)"
    return BadValue(
        "predictions and targets do not fit each other",
        got=f"predictions {shown(pred)}, targets {shown(targ)}",
        expected="as many elements in both" if axis is None else f"a target for each place, without axis {axis}",
        fix=fix,
    )
