"""Giving no class where the model is not sure enough of any."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from layered.foundation import BadArgument, OutOfRange, describe, is_single
from layered.inference.calibrated import calibration_of
from layered.loop import Loop


def confidence_of(shares: Tensor) -> Tensor:
    """The probability of the most probable class of each item: float [item].

    Args:
        shares: Probabilities: [item, class], or one for each item, that of the second of two classes.

    Examples:
        >>> confidence_of(torch.tensor([[0.25, 0.75]])), confidence_of(torch.tensor([0.25]))
        (tensor([0.7500]), tensor([0.7500]))
    """
    if is_single(shares, 1):
        shares = shares.flatten()
        return torch.maximum(shares, 1 - shares)
    return shares.max(1).values


def least_confidence(loop: Loop, abstain: float | None) -> float | None:
    """The confidence below which a learner gives no class: what was asked for, else that of its calibration, else None.

    Args:
        loop: The learner.
        abstain: What was asked for.

    Raises:
        OutOfRange: It is not a number in [0, 1].
    """
    if abstain is not None:
        check_confidence(abstain)
        return float(abstain)
    calibration = calibration_of(loop)
    return None if calibration is None else calibration.abstain


def is_unsure(loop: Loop, decision: Any, shares: Any, abstain: float | None) -> bool:
    """Whether a learner gives no class for one item.

    Args:
        loop: The learner.
        decision: Its decision about the item.
        shares: The probabilities.
        abstain: The confidence that is asked for; by default that of its calibration.

    Raises:
        OutOfRange: It is not a number in [0, 1].
        BadArgument: The decision is not one class.
    """
    least = least_confidence(loop, abstain)
    if least is None:
        return False
    is_a_class = isinstance(decision, Tensor) and decision.dtype == torch.int64 and decision.numel() == 1
    if not is_a_class or not isinstance(shares, Tensor) or shares.ndim > 1:
        raise BadArgument("only a learner of one class for each item can abstain", got=f"decision {describe(decision)}")
    return float(confidence_of(shares[None])[0]) < least


def check_confidence(abstain: object) -> None:
    """Refuse what is not a confidence to abstain below.

    Args:
        abstain: What was given.

    Raises:
        OutOfRange: It is not a number in [0, 1].
    """
    if isinstance(abstain, bool) or not isinstance(abstain, (int, float)) or not 0 <= abstain <= 1:
        raise OutOfRange(
            "abstain is the confidence below which no class is given",
            got=repr(abstain),
            expected="a number from 0 to 1, such as 0.8",
        )
