"""`abstention`: below which confidence a classifier should give no class, so that its answers are wrong as rarely as wished."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from layered.foundation import BadArgument, BadValue, OutOfRange, Report, checked, describe, lazy
from layered.inference import confidence_of, get_preds
from layered.loop import Loop
from layered.training.intervals import wilson

plt = lazy("matplotlib.pyplot")


@dataclass(eq=False, repr=False)
class Abstention(Report):
    """How many items are answered, and how many answers are wrong, at each confidence; and the confidence for a wished error.

    Args:
        threshold: The confidence below which to give no class, for `predict(abstain=)` and `calibrate(abstain=)`.
        coverage: The share of these items that is answered.
        error: The share of the answers that is wrong.
        count: The number of items.
        coverages: The shares that could be answered, the surest item first: float64 [item].
        errors: The share of wrong answers among so many: float64 [item].
    """

    threshold: float
    coverage: float
    error: float
    count: int
    coverages: Tensor
    errors: Tensor

    def records(self) -> list[dict[str, Any]]:
        least, most = wilson(self.error, round(self.coverage * self.count))
        return [
            {
                "abstain": self.threshold,
                "answered": self.coverage,
                "wrong": self.error,
                "at least (95 %)": least,
                "at most (95 %)": most,
                "wrong if all are answered": float(self.errors[-1]),
            }
        ]

    def heading(self) -> str:
        return f"Of {self.count:,} items"

    def plot(self) -> None:
        """Draw the share of wrong answers over the share of items that is answered."""
        _, ax = plt.subplots(figsize=(5, 4), layout="constrained")
        ax.plot(self.coverages.numpy(), self.errors.numpy())
        ax.plot([self.coverage], [self.error], "o", color="black")
        ax.annotate(
            f"abstain={self.threshold:.2f}",
            (self.coverage, self.error),
            (-6, 6),
            textcoords="offset points",
            ha="right",
        )
        ax.set(xlabel="Share answered", ylabel="Share of answers that is wrong", xlim=(0, 1.02), ylim=(0, None))


@checked
def abstention(loop: Loop, error: float = 0.05, *, ds_idx: int = 1, dl: Iterable[Any] | None = None) -> Abstention:
    """Find the confidence below which to give no class, so that at most a share `error` of the answers is wrong.

        learn.calibrate()
        learn.calibration.abstain = learn.abstention(error=0.02).threshold

    It is the lowest one that does so on these items; its interval says how far new items may be from that.

    Args:
        loop: The learner, of one class for each item.
        error: The share of answers that may be wrong, in [0, 1).
        ds_idx: Which of the learner's loaders, with all its items: 1 validation, 0 training.
        dl: A loader of items with targets, in place of `ds_idx`; best one that nothing was chosen by, not even a temperature.

    Raises:
        OutOfRange: `error` is not in [0, 1).
        BadArgument: The learner predicts something else than one class for each item.
        BadValue: Not even the surest answers are right so often.

    Source: Geifman & El-Yaniv 2017, arXiv:1705.08500 (the curve).
    """
    if isinstance(error, bool) or not isinstance(error, (int, float)) or not 0 <= error < 1:
        raise OutOfRange(
            "error is the share of answers that may be wrong", got=repr(error), expected="a number from 0, below 1"
        )
    with loop.no_bar():
        shares, targets, decided = get_preds(loop, ds_idx, dl, with_decoded=True)
    is_a_class = isinstance(decided, Tensor) and decided.dtype == torch.int64 and decided.ndim <= 2
    if not is_a_class or not isinstance(targets, Tensor) or targets.numel() != decided.numel():
        raise BadArgument(
            "only a learner of one class for each item can abstain",
            got=f"decisions {describe(decided)}, targets {describe(targets)}",
        )
    confidence, order = confidence_of(shares).double().sort(descending=True, stable=True)
    is_wrong = (decided.flatten() != targets.flatten())[order].double()
    count = len(confidence)
    answered = torch.arange(1, count + 1, dtype=torch.float64)
    errors = is_wrong.cumsum(0) / answered
    next_lower = torch.cat([confidence[1:], torch.tensor([-confidence[-1]])])
    possible = ((errors <= error) & (next_lower < confidence)).nonzero().flatten()  # equal confidence, equal answer
    if not len(possible):
        raise BadValue(
            f"there is no confidence from which at most {error:g} of the answers are wrong",
            got=f"{float(errors[0]):g} of the surest answer, {float(errors[-1]):.3g} of all",
            fix="a larger error=, more items, or a better model",
        )
    last = int(possible[-1])
    threshold = float(confidence[last] + next_lower[last]) / 2  # 0 where all are answered
    return Abstention(threshold, (last + 1) / count, float(errors[last]), count, answered / count, errors)
