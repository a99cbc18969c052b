"""How images are shown: bodies of the verbs `show_batch`, `show_results` and `plot_top_losses`, each drawing one sample.

`in_grid` makes a body of a verb from a function that draws one sample: it lays out the axes and goes through the samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from layered.data import MultiCategory
from layered.foundation import (
    TensorCategory,
    TensorImage,
    TensorImageBase,
    TensorMultiCategory,
    checked,
    get_grid,
    show_title,
    text_table,
    verb,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Figsize = tuple[float, float] | None
Sample = Sequence[Any]  # the decoded elements of a sample, or the decoded predictions for it

show_batch, show_results, plot_top_losses = verb("show_batch"), verb("show_results"), verb("plot_top_losses")


def in_grid(
    per_sample: int = 1, title: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., list[Axes]]]:
    """Decorator: make a body of a show verb from `draw(x, y, axes, sample, ...)`, which draws one sample.

    The body takes the batch, `x` and `y`, by whose annotated types the verb chooses; then `samples` and what else comes
    with each of them (predictions, raw outputs, losses); then `ctxs` (axes to draw on), `max_n` (by default all samples
    are drawn), `nrows`, `ncols` and `figsize`. It returns the axes.

    Args:
        per_sample: Axes side by side for a sample: 1, 2 or 3. With 3 each sample has its own row, whatever `nrows` and
            `ncols`.
        title: The title of the figure.
    """

    def decorate(draw: Callable[..., None]) -> Callable[..., list[Axes]]:
        def body(
            x: object,
            y: object,
            samples: Sequence[Any],
            *columns: Sequence[Any],
            ctxs: Sequence[Axes] | None = None,
            max_n: int | None = None,
            nrows: int | None = None,
            ncols: int | None = None,
            figsize: Figsize = None,
        ) -> list[Axes]:
            shown = list(zip(samples, *columns, strict=False))[:max_n]
            axes = list(ctxs or _new_axes(len(shown), per_sample, nrows, ncols, figsize, title))
            for i, of_sample in enumerate(shown[: len(axes) // per_sample]):
                draw(x, y, axes[per_sample * i : per_sample * (i + 1)], *of_sample)
            return axes

        body.__name__, body.__qualname__, body.__doc__ = draw.__name__, draw.__qualname__, draw.__doc__
        body.__annotations__.update({name: draw.__annotations__[name] for name in ("x", "y")})
        return checked(body)

    return decorate


def _new_axes(
    count: int, per_sample: int, nrows: int | None, ncols: int | None, figsize: Figsize, title: str | None
) -> list[Axes]:
    if per_sample == 3:
        return get_grid(3 * count, count, 3, figsize, title=title)
    return get_grid(count, nrows, ncols, figsize, double=per_sample == 2, title=title)


def _show(o: object, ax: Axes, **color: str) -> None:
    """Draw one target: by its own `show` (masks and images over what is there), anything else as a line of the title."""
    if hasattr(o, "show") and not isinstance(o, MultiCategory):
        o.show(ctx=ax, **color)
    else:
        show_title(_words(o), ctx=ax, **color)


def _words(o: object) -> str:
    """The text for a title: numbers with four digits, labels joined by semicolons, several targets by commas."""
    if isinstance(o, Tensor):
        return ", ".join(f"{number:.4g}" for number in o.flatten().tolist())
    if isinstance(o, MultiCategory):
        return ";".join(map(str, o)) or "(none)"
    return ", ".join(map(_words, o)) if isinstance(o, tuple) else str(o)


@show_batch.register
@in_grid()
def show_labelled(x: TensorImage, y: object, axes: Sequence[Axes], sample: Sample) -> None:
    """Images, each with its target as the title, or drawn over it.

    Args:
        x: The batch of images.
        y: The batch of targets.
        axes: One for the sample.
        sample: The image and its targets, decoded.
    """
    for element in sample:
        _show(element, axes[0])


@show_batch.register
@in_grid(per_sample=2)
def show_pairs(x: TensorImage, y: TensorImage, axes: Sequence[Axes], sample: Sample) -> None:
    """Images beside the images they become.

    Args:
        x: The batch of images.
        y: The batch of images that they become.
        axes: Two for each sample.
        sample: The image and its target, decoded.
    """
    for element, ax, title in zip(sample, axes, ("Input", "Target"), strict=True):
        element.show(ctx=ax, title=title)


@show_results.register
@in_grid(title="Target / Prediction")
def show_labelled_results(x: TensorImage, y: object, axes: Sequence[Axes], sample: Sample, predictions: Sample) -> None:
    """Images; the title is the target, below it the prediction: green where they are equal, red where they differ.

    Args:
        x: The batch of images.
        y: The batch of targets.
        axes: One for the sample.
        sample: The image and its targets, decoded.
        predictions: The predictions, decoded.
    """
    image, *targets = sample
    image.show(ctx=axes[0])
    color = _color(targets, predictions)
    for o in (tuple(targets), tuple(predictions)):
        _show(o[0] if len(o) == 1 else o, axes[0], color=color)


def _color(targets: Sample, predictions: Sample) -> str:
    if any(isinstance(target, Tensor) for target in targets):
        return "black"  # a number is close to its target or far from it, not right or wrong
    return "green" if list(targets) == list(predictions) else "red"


@show_results.register
@in_grid(per_sample=2)
def show_result_pairs(
    x: TensorImage, y: TensorImageBase, axes: Sequence[Axes], sample: Sample, predictions: Sample
) -> None:
    """Images with their target drawn over them on the left, and with the prediction on the right.

    Args:
        x: The batch of images.
        y: The batch of masks.
        axes: Two for each sample.
        sample: The image and its mask, decoded.
        predictions: The predicted mask.
    """
    image, target, *_ = sample
    for o, ax, title in zip((target, predictions[0]), axes, ("Target", "Prediction"), strict=True):
        image.show(ctx=ax, title=title)
        o.show(ctx=ax)


@show_results.register
@in_grid(per_sample=3)
def show_result_images(
    x: TensorImage, y: TensorImage, axes: Sequence[Axes], sample: Sample, predictions: Sample
) -> None:
    """Rows of input, target and prediction, for images that become images.

    Args:
        x: The batch of images.
        y: The batch of images that they become.
        axes: Three for each sample.
        sample: The image and its target, decoded.
        predictions: The predicted image.
    """
    image, target, *_ = sample
    for o, ax, title in zip((image, target, predictions[0]), axes, ("Input", "Target", "Prediction"), strict=True):
        o.show(ctx=ax, title=title)


@plot_top_losses.register
@in_grid(title="Prediction/Actual/Loss")
def show_top_losses(
    x: TensorImage, y: object, axes: Sequence[Axes], sample: Sample, predictions: Sample, raw: Tensor, loss: float
) -> None:
    """The images with the highest losses, each under its prediction, target and loss.

    Args:
        x: The batch of images.
        y: The batch of targets.
        axes: One for the sample.
        sample: The image and its targets, decoded.
        predictions: The predictions, decoded.
        raw: The output of the model.
        loss: The loss of the sample.
    """
    image, *targets = sample
    image.show(ctx=axes[0], title=f"{_words(tuple(predictions))}/{_words(tuple(targets))}\n{float(loss):.2f}")


@plot_top_losses.register
@in_grid(title="Prediction/Actual/Loss/Probability")
def show_top_losses_of_classes(
    x: TensorImage,
    y: TensorCategory,
    axes: Sequence[Axes],
    sample: Sample,
    predictions: Sample,
    raw: Tensor,
    loss: float,
) -> None:
    """The images with the highest losses, each under its prediction, target, loss and the prediction's probability.

    Args:
        x: The batch of images.
        y: The batch of classes.
        axes: One for the sample.
        sample: The image and its class, decoded.
        predictions: The predicted class.
        raw: Probabilities or scores of the classes, [class].
        loss: The loss of the sample.
    """
    image, target, *_ = sample
    title = f"{predictions[0]}/{target}\n{float(loss):.2f} / {_probability(raw):.2f}"
    image.show(ctx=axes[0], title=title)


def _probability(raw: Tensor) -> float:
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
@checked
def show_top_losses_of_labels(
    x: TensorImage,
    y: TensorMultiCategory,
    samples: Sequence[Sample],
    outs: Sequence[Sample],
    raws: Sequence[Tensor],
    losses: Sequence[float],
    nrows: int | None = None,
    ncols: int | None = None,
    figsize: Figsize = None,
) -> list[Axes]:
    """The images with the highest losses, numbered, and a printed table of their labels with the probability of each.

    Args:
        x: The batch of images.
        y: The batch of labels, one column for each: [batch, label].
        samples: The images and their labels, decoded.
        outs: The predicted labels.
        raws: The probabilities of all labels, [label] each.
        losses: The losses of the samples.
        nrows: Rows of the grid.
        ncols: Columns of the grid.
        figsize: Inches, (width, height).
    """
    axes = get_grid(len(samples), nrows, ncols, figsize, title="Image/Loss")
    rows = []
    for i, ((image, target, *_), (prediction, *_), raw, loss) in enumerate(
        zip(samples, outs, raws, losses, strict=True)
    ):
        image.show(ctx=axes[i], title=f"Image {i}\n{float(loss):.2f}")
        # decoded labels come in the order of their columns, so sorted columns find their probabilities
        actual, predicted = y[i].nonzero().flatten().tolist(), raw.topk(len(prediction)).indices.sort().values.tolist()
        columns = zip([*target, *prediction], [*actual, *predicted], strict=True)
        probabilities = {label: f"{label} {float(raw[column]):.2f}" for label, column in columns}
        shown = ", ".join(probabilities.values())
        rows.append((f"Image {i}", _words(target), _words(prediction), shown, f"{float(loss):.2f}"))
    print("\n".join(text_table(("", "target", "prediction", "probabilities", "loss"), rows)))
    return axes


@plot_top_losses.register
@in_grid(per_sample=3, title="Input | Target | Prediction")
def show_top_losses_in_rows(
    x: TensorImage,
    y: TensorImageBase,
    axes: Sequence[Axes],
    sample: Sample,
    predictions: Sample,
    raw: Tensor,
    loss: float,
) -> None:
    """Rows of input, target and prediction, for the masks and images with the highest losses.

    Args:
        x: The batch of images.
        y: The batch of masks or images.
        axes: Three for each sample.
        sample: The image and its target, decoded.
        predictions: The predicted mask or image.
        raw: The output of the model.
        loss: The loss of the sample.
    """
    image, target, *_ = sample
    for o, ax in zip((image, target, predictions[0]), axes, strict=True):
        if not isinstance(o, TensorImage):
            image.show(ctx=ax)
        o.show(ctx=ax)
    axes[2].set_title(f"loss {float(loss):.2f}")
