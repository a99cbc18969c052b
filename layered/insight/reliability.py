"""A reliability diagram: how often decisions come true, over the confidence that the model has in them."""

from __future__ import annotations

from torch import Tensor

from layered.foundation import BadValue, describe, lazy
from layered.metrics import ExpectedCalibrationError, ExpectedCalibrationErrorMulti

plt = lazy("matplotlib.pyplot")


def plot_reliability(
    shares: object,
    targets: object,
    of_labels: bool = False,
    bins: int = 10,
    figsize: tuple[float, float] | None = None,
) -> None:
    """Draw the share that came true over the confidence, and below it how many items had that confidence.

    Args:
        shares: Probabilities: [item, class], or one for each item, that of the second of two classes.
        targets: Class numbers [item]; of labels as `shares`.
        of_labels: Whether they are of labels, each by itself.
        bins: The number of bins of equal width.
        figsize: Width and height in inches.

    Raises:
        BadValue: They are not probabilities, or there is not one target for each.
    """
    if not isinstance(shares, Tensor) or not isinstance(targets, Tensor) or bool(((shares < 0) | (shares > 1)).any()):
        raise BadValue(
            "a reliability diagram is of probabilities",
            got=f"predictions {describe(shares)}, targets {describe(targets)}",
            expected="the probabilities of classes or labels for each item",
        )
    metric: ExpectedCalibrationError | ExpectedCalibrationErrorMulti
    if of_labels:
        metric = ExpectedCalibrationErrorMulti(bins, sigmoid=False)
        metric.update(shares, targets)
    else:
        metric = ExpectedCalibrationError(bins)
        is_single = shares.numel() == len(shares)
        metric.update(shares.double().logit() if is_single else shares.double().log(), targets)
    counts, confidence, right = (sums.cpu().numpy() for sums in (metric.counts, metric.confidence, metric.right))
    seen = counts > 0
    middles = [(i + 0.5) / metric.bins for i in range(metric.bins)]
    _, (above, below) = plt.subplots(
        2, 1, sharex=True, figsize=figsize or (5, 5.5), height_ratios=[3, 1], layout="constrained"
    )
    above.axline((0, 0), slope=1, color="grey", linewidth=1, linestyle="--", label="as sure as it is right")
    above.plot(confidence[seen] / counts[seen], right[seen] / counts[seen], "o-", label="the model")
    above.set(
        ylabel="Share that came true",
        xlim=(0, 1),
        ylim=(0, 1.02),
        title=f"Expected calibration error {metric.value:.3f}",
    )
    above.legend()
    below.bar(middles, counts, width=0.9 / metric.bins, color="grey")
    below.set(xlabel="Confidence", ylabel="Labels" if of_labels else "Items")
