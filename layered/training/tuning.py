"""Transfer learning: which parameter groups are trained, and the two fits that adapt a trained body to new data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Unpack

from layered.callback import OneCycleArgs, fit_one_cycle
from layered.foundation import BadValue, OutOfRange, checked, delegates, whole_number
from layered.loop import Loop, interrupts_held, use_current_opt


def freeze_to(loop: Loop, n: int) -> None:
    """Train only the parameter groups from the `n`-th on, and freeze those before; norm layers keep training.

    Args:
        loop: The learner whose optimizer freezes.
        n: Number of the first group that is trained; a negative one counts from the end.
    """
    use_current_opt(loop)
    loop.opt.freeze_to(n)


@checked
@delegates(fit_one_cycle, but=["lr_max"])
def fine_tune(
    loop: Loop,
    epochs: int,
    base_lr: float = 2e-3,
    freeze_epochs: int = 1,
    lr_mult: float = 100,
    pct_start: float = 0.3,
    div: float = 5.0,
    **fit_args: Unpack[OneCycleArgs],
) -> None:
    """Train the head alone with the body frozen, then all groups, the early ones at smaller rates.

    Args:
        loop: The learner to train.
        epochs: Epochs of the second fit.
        base_lr: Largest rate, per step, of the first fit; the second takes half of it.
        freeze_epochs: Epochs of the first fit; 0 leaves it out.
        lr_mult: The first group learns at `base_lr / lr_mult`.
        pct_start: Fraction of the second fit before its peak, in [0, 1].
        div: The second fit starts at its peak divided by `div`.
        fit_args: For both fits: see `fit_one_cycle`.

    Raises:
        BadValue: If a number of epochs is not a whole number from 0.
        OutOfRange: If a rate or divisor is not positive, or `pct_start` is outside [0, 1].
    """
    for name, count in (("epochs", epochs), ("freeze_epochs", freeze_epochs)):
        if (whole := whole_number(count)) is None or whole < 0:
            raise BadValue(f"{name} must be a number of epochs", got=repr(count), expected="a whole number from 0")
    for name, number in (("base_lr", base_lr), ("lr_mult", lr_mult), ("div", div)):
        if not isinstance(number, Real) or not number > 0:
            raise OutOfRange(f"{name} must be positive", got=number, expected="more than 0")
    if not 0 <= pct_start <= 1:
        raise OutOfRange("pct_start is the fraction of the batches before the peak", got=pct_start, expected="0 to 1")
    with frozen_again(loop):
        if freeze_epochs:
            freeze_to(loop, -1)
            fit_one_cycle(loop, freeze_epochs, slice(base_lr), pct_start=0.99, **fit_args)
        base_lr /= 2
        freeze_to(loop, 0)
        fit_one_cycle(loop, epochs, slice(base_lr / lr_mult, base_lr), pct_start=pct_start, div=div, **fit_args)


@contextmanager
def frozen_again(loop: Loop) -> Iterator[None]:
    """Context manager: if the body fails, the groups are frozen as they were before it."""
    use_current_opt(loop)
    before = loop.opt.frozen_idx
    try:
        yield
    except BaseException:
        with interrupts_held():
            if loop.opt.frozen_idx != before:
                loop.opt.freeze_to(before)  # type: ignore[arg-type]  # what it gave itself
        raise
