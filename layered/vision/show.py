"""How the images with the highest losses are shown: the bodies of the verb `plot_top_losses`.

Batches and results are shown by `layered.data.show`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from layered.data import Panel, draw_panels, draws, words
from layered.foundation import TensorCategory, TensorImage, TensorMultiCategory, text_table, verb

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Sample = Sequence[Any]  # the decoded elements of a sample, or the decoded predictions for it

plot_top_losses = verb("plot_top_losses")


@plot_top_losses.register
def show_top_losses(
    x: TensorImage,
    y: object,
    samples: Sequence[Sample],
    outs: Sequence[Sample],
    raws: Sequence[Any],
    losses: Sequence[float],
    **drawing: Any,
) -> list[Axes]:
    """The images with the highest losses.

    Each stands under its prediction, target and loss. Where targets are drawn, such as masks, points and boxes, there are rows
    of input, target and prediction.

    Args:
        x: The batch of images.
        y: The batch of targets.
        samples: The images and their targets, decoded.
        outs: The predictions, decoded.
        raws: The predictions of the model.
        losses: The losses of the samples.
        drawing: As for `draw_panels`.
    """
    if any(map(draws, samples[0][1:])):
        rows = [
            [Panel([image]), _drawn(image, targets), _drawn(image, predictions, f"loss {float(loss):.2f}")]
            for (image, *targets), predictions, loss in zip(samples, outs, losses, strict=True)
        ]
        return draw_panels(rows, **{"title": "Input | Target | Prediction", **drawing})
    panels = [
        [Panel([image], f"{words(tuple(out))}/{words(tuple(targets))}\n{float(loss):.2f}")]
        for (image, *targets), out, loss in zip(samples, outs, losses, strict=True)
    ]
    return draw_panels(panels, **{"title": "Prediction/Actual/Loss", **drawing})


def _drawn(image: object, parts: Sample, title: str = "") -> Panel:
    """An image with targets or predictions over it, and the words among them above it. A target image stands for itself."""
    layers = list(filter(draws, parts))
    if not isinstance(layers[0], TensorImage):
        layers = [image, *layers]
    said = words(tuple(o for o in parts if not draws(o)))
    return Panel(layers, "\n".join(filter(None, (said, title))))


@plot_top_losses.register
def show_top_losses_of_classes(
    x: TensorImage,
    y: TensorCategory,
    samples: Sequence[Sample],
    outs: Sequence[Sample],
    raws: Sequence[Tensor],
    losses: Sequence[float],
    **drawing: Any,
) -> list[Axes]:
    """The images with the highest losses, each under its prediction, target, loss and the prediction's probability.

    Args:
        x: The batch of images.
        y: The batch of classes.
        samples: The images and their classes, decoded.
        outs: The predicted classes.
        raws: Probabilities or scores of the classes, [class] each.
        losses: The losses of the samples.
        drawing: As for `draw_panels`.
    """
    panels = [
        [Panel([image], f"{prediction}/{target}\n{float(loss):.2f} / {top_probability(raw):.2f}")]
        for (image, target, *_), (prediction, *_), raw, loss in zip(samples, outs, raws, losses, strict=True)
    ]
    return draw_panels(panels, **{"title": "Prediction/Actual/Loss/Probability", **drawing})


def top_probability(raw: Tensor) -> float:
    """The probability of the predicted class.

    Args:
        raw: One number: the probability of the second of two classes. Several: probabilities of the classes if they
            are non-negative and add up to 1, else scores.
    """
    if raw.numel() == 1:
        return max(float(raw), 1 - float(raw))
    sums_to_one = bool((raw >= 0).all()) and abs(float(raw.sum()) - 1) < 1e-2
    return float((raw if sums_to_one else raw.softmax(-1)).max())


@plot_top_losses.register
def show_top_losses_of_labels(
    x: TensorImage,
    y: TensorMultiCategory,
    samples: Sequence[Sample],
    outs: Sequence[Sample],
    raws: Sequence[Tensor],
    losses: Sequence[float],
    **drawing: Any,
) -> list[Axes]:
    """The images with the highest losses, numbered, and a printed table of their labels with the probability of each.

    Args:
        x: The batch of images.
        y: The batch of labels, one column for each: [batch, label].
        samples: The images and their labels, decoded.
        outs: The predicted labels.
        raws: The probabilities of all labels, [label] each.
        losses: The losses of the samples.
        drawing: As for `draw_panels`.
    """
    panels, table = [], []
    for i, ((image, target, *_), (prediction, *_), raw, loss) in enumerate(
        zip(samples, outs, raws, losses, strict=True)
    ):
        panels.append([Panel([image], f"Image {i}\n{float(loss):.2f}")])
        # decoded labels come in the order of their columns, so sorted columns find their probabilities
        actual, predicted = y[i].nonzero().flatten().tolist(), raw.topk(len(prediction)).indices.sort().values.tolist()
        columns = zip([*target, *prediction], [*actual, *predicted], strict=True)
        probabilities = {label: f"{label} {float(raw[column]):.2f}" for label, column in columns}
        shown = ", ".join(probabilities.values())
        table.append((f"Image {i}", words(target), words(prediction), shown, f"{float(loss):.2f}"))
    axes = draw_panels(panels, **{"title": "Image/Loss", **drawing})
    print("\n".join(text_table(("", "target", "prediction", "probabilities", "loss"), table)))
    return axes
