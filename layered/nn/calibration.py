"""How far confidence can be trusted: a temperature for probabilities, and the scores that sets and intervals are drawn by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from layered.foundation import (
    BadFile,
    BadValue,
    OutOfRange,
    Report,
    Table,
    describe,
    is_single,
    lazy,
    output_scores,
)

optimize = lazy("scipy.optimize")

KINDS = ("classes", "labels", "numbers")
MOST_SCORES = 10_000  # that are kept; more are thinned, which widens sets by less than 1 / MOST_SCORES of coverage
LOG_BOUNDS = (-10.0, 10.0)  # of the logarithm of a temperature
CLOSE = 2e-3  # how far half precision may be from the formula of an activation


@dataclass(eq=False, repr=False)
class Calibration(Report):
    """What `learn.calibrate` has found on held-out items.

    Args:
        of: What the model predicts for each item: one of several "classes", "labels", or "numbers".
        are_logits: The outputs are logits, not probabilities.
        temperature: What logits are divided by; 1 leaves probabilities as they are, larger values make them less sure.
        scores: How surprising the truth of held-out items was, from small to large: float64 [rank, target]. For classes the
            negative logarithm of the probability of the true one, at temperature 1; for numbers the distance from the truth.
        ranks: The rank of each row of `scores` among all items, from 1.
        count: The number of items.
        nll: Negative log-likelihood before and after, nats a decision; None for numbers.
        ece: Expected calibration error before and after; None for numbers.
        abstain: The confidence below which `predict` gives no class; None always gives one.
    """

    of: str
    are_logits: bool
    temperature: float
    scores: Tensor
    ranks: Tensor
    count: int
    nll: tuple[float, float] | None = None
    ece: tuple[float, float] | None = None
    abstain: float | None = None

    def logits(self, activation: Callable[[Any], Any], output: object) -> Tensor:
        """The logits of a batch of outputs at temperature 1: float32 [item, class], or one for each item.

        Args:
            activation: From outputs to probabilities, for outputs that are not logits.
            output: What the model gave.
        """
        return as_logits(output, activation, self.of, self.are_logits)

    def activate(self, activation: Callable[[Any], Any], output: object) -> Tensor:
        """The calibrated probabilities of a batch of outputs: float32.

        Args:
            activation: From outputs to probabilities that are not calibrated.
            output: What the model gave.
        """
        return probabilities(self.logits(activation, output) / self.temperature, self.of)

    def threshold(self, alpha: float) -> Tensor:
        """The score that the truth of a new item exceeds with a probability of at most `alpha`: float64 [target].

        Args:
            alpha: In (0, 1).

        Raises:
            OutOfRange: `alpha` is not in (0, 1).
            BadValue: There are too few items for it.

        Source: Angelopoulos & Bates 2021, arXiv:2107.07511, equation 1.
        """
        rank = conformal_rank(self.count, alpha)
        return self.scores[int(torch.searchsorted(self.ranks, rank))]

    def records(self) -> list[dict[str, Any]]:
        named = {"negative log-likelihood": self.nll, "expected calibration error": self.ece}
        return [{"": name, "before": pair[0], "after": pair[1]} for name, pair in named.items() if pair is not None]

    def tables(self) -> list[Table]:
        return [
            (
                ["", "before", "after"],
                [[name, f"{a:.4f}", f"{b:.4f}"] for name, a, b in map(dict.values, self.records())],
            )
        ]

    def heading(self) -> str:
        by = "" if self.of == "numbers" else f": temperature {self.temperature:.4g}"
        return f"Calibrated on {self.count:,} items{by}"

    def notes(self) -> list[str]:
        sure = [] if self.abstain is None else [f"no class is given below a confidence of {self.abstain:g}"]
        if not len(self.scores):
            return sure
        what = "sets" if self.of == "classes" else "intervals"
        return [*sure, f"prediction {what} for any alpha from {1 / (self.count + 1):.2g}"]

    def described(self) -> dict[str, Any]:
        """As data for an export, without the tensors."""
        fields = ("of", "are_logits", "temperature", "count", "nll", "ece", "abstain")
        return {name: list(o) if isinstance(o := getattr(self, name), tuple) else o for name in fields}

    @classmethod
    def from_described(cls, node: object, scores: Tensor, ranks: Tensor) -> Calibration:
        """From what an export says, which may come from anyone.

        Args:
            node: The result of `described`.
            scores: As above.
            ranks: As above.

        Raises:
            BadFile: It is not the description of a calibration.
        """
        try:
            made = cls(**{"nll": None, "ece": None, **dict(node)}, scores=scores, ranks=ranks)  # type: ignore[call-overload]
            made.nll, made.ece = _pair(made.nll), _pair(made.ece)
            made._check()
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise BadFile("the file has an invalid calibration", got=error) from error
        return made

    def _check(self) -> None:
        numbers = [self.temperature, *([] if self.abstain is None else [self.abstain])]
        if not all(type(o) is float and math.isfinite(o) and o > 0 for o in numbers):
            raise ValueError(f"temperature {self.temperature!r}, abstain {self.abstain!r}")
        if self.of not in KINDS or type(self.are_logits) is not bool or type(self.count) is not int:
            raise ValueError(f"of {self.of!r}, are_logits {self.are_logits!r}, count {self.count!r}")
        is_ranked = self.ranks.dtype == torch.int64 and self.ranks.ndim == 1 and bool((self.ranks.diff() > 0).all())
        is_scored = self.scores.dtype == torch.float64 and self.scores.ndim == 2 and bool(self.scores.isfinite().all())
        if not is_ranked or not is_scored or len(self.ranks) != len(self.scores):
            raise ValueError(f"scores {describe(self.scores)}, ranks {describe(self.ranks)}")
        if self.of != "labels" and (not len(self.ranks) or int(self.ranks[-1]) != self.count or int(self.ranks[0]) < 1):
            raise ValueError(f"ranks that do not end at {self.count}")


def _pair(o: Any) -> tuple[float, float] | None:
    return None if o is None else (float(o[0]), float(o[1]))


def outputs_read_as(output: Tensor, predicted: Tensor, decided: Tensor, targets: Tensor) -> tuple[str, bool]:
    """What outputs are of, "classes", "labels" or "numbers", and whether they are logits.

    Args:
        output: What the model gave: [item, …].
        predicted: The activated outputs.
        decided: The decisions.
        targets: The targets.

    Raises:
        BadValue: They are of something else, or the predictions are not probabilities.
    """
    if decided.is_floating_point():
        if predicted.numel() == targets.numel() and targets.ndim <= 2:
            return "numbers", False
    elif decided.shape == predicted.shape and targets.shape == predicted.shape and decided.dtype == torch.bool:
        return "labels", _are_logits(output, predicted, "labels")
    elif predicted.ndim <= 2 and targets.ndim == 1:
        return "classes", _are_logits(output, predicted, "classes")
    raise BadValue(
        "only one class, labels or numbers for each item can be calibrated",
        got=f"predictions {describe(predicted)}, targets {describe(targets)}",
        expected="not pixels, words, points or boxes; and class numbers rather than a share of each class",
    )


def _are_logits(output: Tensor, predicted: Tensor, of: str) -> bool:
    predicted = predicted.float()
    if output.shape == predicted.shape and bool((probabilities(output.float(), of) - predicted).abs().max() < CLOSE):
        return True
    is_share = bool(((predicted >= 0) & (predicted <= 1)).all())
    is_whole = of == "labels" or is_single(predicted, 1) or bool(((predicted.sum(1) - 1).abs() < 10 * CLOSE).all())
    if not is_share or not is_whole:
        raise BadValue(
            "the predictions are not probabilities",
            got=f"numbers from {predicted.min():.3g} to {predicted.max():.3g}",
            expected="what softmax or sigmoid gives",
            fix="a loss that defines `activation`, such as CrossEntropyLossFlat",
        )
    return False


def as_logits(output: object, activation: Callable[[Any], Any], of: str, are_logits: bool) -> Tensor:
    """The logits of a batch of outputs: float32 [item, class], or one for each item.

    Args:
        output: What the model gave.
        activation: From outputs to probabilities, for outputs that are not logits.
        of: What they are of.
        are_logits: They are logits already.
    """
    if are_logits:
        logits: Tensor = output_scores(output).float()
        return logits
    shares: Tensor = output_scores(activation(output)).float()
    if of == "labels" or is_single(shares, 1):
        return shares.logit(torch.finfo(torch.float32).eps)
    return shares.clamp(torch.finfo(torch.float32).tiny).log()


def probabilities(logits: Tensor, of: str) -> Tensor:
    """Probabilities of labels, or of classes along axis 1; a single logit is that of the second of two classes.

    Args:
        logits: [item, class], or one for each item.
        of: What they are of.
    """
    return logits.sigmoid() if of == "labels" or is_single(logits, 1) else logits.softmax(1)


def class_surprise(logits: Tensor) -> Tensor:
    """The negative logarithm of the probability of each class: float64 [item, class].

    Args:
        logits: [item, class], or one for each item, that of the second of two classes.
    """
    wide = logits.double()
    if is_single(wide, 1):
        wide = torch.stack([torch.zeros_like(wide.flatten()), wide.flatten()], 1)
    return -wide.log_softmax(1)


def surprise(logits: Tensor, targets: Tensor, of: str) -> Tensor:
    """The negative logarithm of the probability of each truth: float64 [item] of classes, [item, label] of labels.

    Args:
        logits: [item, class], or one for each item.
        targets: The truth.
        of: What they are of.
    """
    if of == "labels":
        return F.binary_cross_entropy_with_logits(logits.double(), targets.double(), reduction="none")
    return class_surprise(logits).gather(1, targets[:, None]).flatten()


def best_temperature(logits: Tensor, targets: Tensor, of: str) -> float | None:
    """The temperature with the smallest negative log-likelihood; None where every decision is right, for which none is too small.

    Args:
        logits: [item, class], or one for each item.
        targets: The truth.
        of: What they are of.

    Raises:
        BadValue: The logits say nothing of the truth, so that equal probabilities are best.

    Source: Guo et al. 2017, arXiv:1706.04599.

    Examples:
        >>> logits = torch.tensor([[4.0, 0.0]] * 4)  # sure of the first class, which comes true three times of four
        >>> round(best_temperature(logits, torch.tensor([0, 0, 0, 1]), "classes"), 3)
        3.641
    """
    right = (logits > 0) == targets.bool() if of == "labels" else class_surprise(logits).argmin(1) == targets
    if bool(right.all()):
        return None
    found = optimize.minimize_scalar(
        lambda log: float(surprise(logits / math.exp(log), targets, of).mean()),
        bounds=LOG_BOUNDS,
        method="bounded",
        options={"xatol": 1e-7},
    )
    if found.x > LOG_BOUNDS[1] - 0.1:
        raise BadValue(
            "the model's scores say nothing of the targets: equal probabilities for all would be better",
            got=f"{float(right.double().mean()):.1%} of {right.numel()} decisions are right",
            fix="train it first; or check that items and targets belong together",
        )
    return math.exp(found.x)


def sorted_scores(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Scores from small to large, float64 [rank, target], and their ranks: at most `MOST_SCORES`, evenly spaced.

    Args:
        scores: [item, target].
    """
    count = len(scores)
    ranks = torch.linspace(1, count, min(count, MOST_SCORES), dtype=torch.float64).round().long()
    return scores.double().sort(0).values[ranks - 1], ranks


def conformal_rank(count: int, alpha: float) -> int:
    """Which of the scores of `count` items, from small to large, a new one exceeds with a probability of at most `alpha`.

    Args:
        count: The number of items.
        alpha: In (0, 1).

    Raises:
        OutOfRange: `alpha` is not in (0, 1).
        BadValue: There are too few items for it.

    Examples:
        >>> conformal_rank(19, 0.1), conformal_rank(9, 0.1)
        (18, 9)
    """
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha < 1:
        raise OutOfRange(
            "alpha is the share of items whose set or interval may miss the truth",
            got=repr(alpha),
            expected="a number above 0 and below 1; 0.1 for a coverage of 90 %",
        )
    rank = math.ceil(round((count + 1) * (1 - alpha), 9))
    if rank > count:
        raise BadValue(
            f"too few calibration items for alpha={alpha:g}",
            got=f"{count:,}",
            expected=f"at least {math.ceil(round(1 / alpha, 9)) - 1:,}",
            fix="learn.calibrate(dl=learn.dls.test_dl(items, with_labels=True)) with more items, or a larger alpha",
        )
    return rank
